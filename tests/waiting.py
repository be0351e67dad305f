"""Waiting in tests: for a condition, until a deadline, and never just for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datastore.errors import WorldFailure

# What is asked costs CPU, most of it in ten processes that others wait for: the longer it takes, the more seldom it is looked at.
POLL_FIRST_S = 0.01
POLL_LAST_S = 0.06
POLL_SHARE = 0.1  # of the time waited so far
LEAST_S = 60.0  # What is broken fails a little later for it; what is only slow, on a machine that others use too, does not fail.


def wait_until(condition: Callable[[], object], what: str, deadline_s: float) -> None:
    """Return when `condition()` is true. That a process cannot be reached, or cannot answer, counts as not yet.

    Args:
        deadline_s: How long it should take at most; waited for is no less than `LEAST_S`, as no test judges speed.

    Raises:
        AssertionError: It was not; the message says `what` was waited for.
    """
    allowed_s = max(deadline_s, LEAST_S)
    began = time.monotonic()
    pause = threading.Event()
    while True:
        failure = None
        try:
            if condition():
                return
        except WorldFailure as unanswered:
            failure = unanswered
        waited_s = time.monotonic() - began
        if waited_s >= allowed_s:
            raise AssertionError(f"still waiting after {allowed_s} s: {what}") from failure
        pause.wait(pause_s(waited_s))


def pause_s(waited_s: float) -> float:
    """Return how long to wait until the next look, after so long."""
    return min(max(POLL_FIRST_S, POLL_SHARE * waited_s), POLL_LAST_S)


def freeze(pid: int) -> None:
    """Stop a process (SIGSTOP); return when all its threads stand still: one that runs on another core goes on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state == "T" for state in _thread_states(pid)), f"process {pid} to stand still", 5)


def _thread_states(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # It ended meanwhile.
            yield (path / "stat").read_text().rpartition(")")[2].split()[0]
