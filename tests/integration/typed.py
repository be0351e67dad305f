"""A command as a person types it, in a process of its own, without waiting each time until Python has loaded the program.

What is forked (`tests/nursery.py`) runs `client.cli.main` on the words, environment and folder that it is told. So exit code, output,
wallet and what the command does to the cluster are real; only the start is not. Tests of the start itself (what is loaded, signals, a
terminal, text typed in, another version) run `python -m client`. A command costs 0.05 s of CPU in place of 0.3 s.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.nursery import Nursery

LIMIT_S = 170  # A process that imports a PDF library, on a machine that does other things.

_commands = Nursery("tests.integration.loaded_client")


def typed(*words: str, environment: Mapping[str, str], folder: Path, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run `holdfast` with these words; return its exit code and what it wrote.

    Args:
        environment: All of it: nothing of the caller's is added.
        folder: Where it is typed.

    Raises:
        subprocess.TimeoutExpired: It did not end; it was killed.
    """
    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept) / "out", Path(kept) / "err"
        process = _commands.start("client.cli", ["holdfast", *words], environment, folder, out, err)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired as late:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(list(words), limit_s, out.read_text(), err.read_text()) from late
        return subprocess.CompletedProcess(list(words), code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))
