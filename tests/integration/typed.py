"""A command as a person types it, in a process of its own, without waiting each time until Python has loaded the program.

A process that has loaded all of `client` (multiprocessing's fork server: one thread, nothing open) forks for every command;
what is forked runs `client.cli.main` on the words, environment, folder and files it is told. So exit code, output, wallet and
what the command does to the cluster are real; only the start is not. Tests of the start itself (what is loaded, signals, a
terminal, text typed in, another version) run `python -m client`. A command costs 0.05 s of CPU in place of 0.3 s.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

LIMIT_S = 170  # A process that imports a PDF library, on a machine that does other things.

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.loaded_client"])


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
        process = _FORKS.Process(target=_run, args=(words, dict(environment), str(folder), str(out), str(err)))
        process.start()
        process.join(limit_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), limit_s, out.read_text(), err.read_text())
        said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in (out, err)]
        return subprocess.CompletedProcess(list(words), process.exitcode, *said)


def _run(words: tuple[str, ...], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    """Be the command; in the process that was forked."""
    from client.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    for number, mode in ((1, "w"), (2, "w")):
        stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as the process.
        setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
    sys.argv = ["holdfast", *words]
    main()
