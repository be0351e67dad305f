"""The coverage-guided fuzzing of decoders runs, and finds nothing in a few thousand inputs; its long runs are a command."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
RUNS = 2_000
NAMES = ("messages", "entries", "segments", "exports", "histories", "cluster.toml")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install -e '.[fuzz]'")
@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_bears_guided_changes(name: str, tmp_path: Path) -> None:
    """Each input is decoded or refused by name, within its time and memory."""
    runs = RUNS // 20 if name == "cluster.toml" else RUNS
    command = [sys.executable, "-m", "tests.fuzzing.guided", name, f"-runs={runs}", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    told = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stderr[-4_000:]
    assert f"Done {runs} runs" in told.stderr, told.stderr[-2_000:]
