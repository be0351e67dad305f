"""A process that is asked to end hears it, whatever its main thread is doing and whichever thread the signal is given to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 60.0
# The main thread takes no signals, so the system gives them to the other one: nothing interrupts the main thread's wait.
PROGRAM = """
import signal, sys, threading
from datastore.process import End

end = End()
quiet = threading.Event()
threading.Thread(target=quiet.wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
if sys.argv[1] == "thread":
    threading.Thread(target=end.ask).start()
print("waits", flush=True)
sys.exit(end.wait())
"""


@pytest.mark.parametrize(("how", "number"), [("signal", signal.SIGTERM), ("signal", signal.SIGINT), ("thread", 0)])
def test_a_process_ends_when_it_is_asked(how: str, number: int) -> None:
    """By a signal that another thread is given, and by a thread of its own."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    try:
        assert process.stdout is not None
        assert b"waits\n" == process.stdout.readline()
        if number:
            process.send_signal(number)
        assert number == process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
