"""Being told to end is no failure, wherever a command was when it heard it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
SCRIPT = """
import signal
from client.interrupts import interrupt_on
interrupt_on(signal.SIGINT, signal.SIGTERM)
try:
    exec("import signal; signal.raise_signal(signal.{name}); x = 1")
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_command_that_was_told_to_end_ends_with_its_own_code(name: str) -> None:
    """Also from within an `exec`, of which Python remembers a plain KeyboardInterrupt for good."""
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(name=name)], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (0, "heard\n") == (done.returncode, done.stdout), done.stderr


def test_what_is_ignored_stays_ignored() -> None:
    script = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN){SCRIPT}"
    script = script.replace("interrupt_on(signal.SIGINT", "interrupt_on(signal.SIGHUP").format(name="SIGHUP")
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stdout), done.stderr
