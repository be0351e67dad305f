"""Waiting in tests: for a condition, until a deadline, and never just for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from datastore.errors import WorldFailure

POLL_S = 0.01
LEAST_S = 60.0  # What is broken fails a little later for it; what is only slow, on a machine that others use too, does not fail.


def wait_until(condition: Callable[[], object], what: str, deadline_s: float) -> None:
    """Return when `condition()` is true. That a process cannot be reached, or cannot answer, counts as not yet.

    Args:
        deadline_s: How long it should take at most; waited for is no less than `LEAST_S`, as no test judges speed.

    Raises:
        AssertionError: It was not; the message says `what` was waited for.
    """
    allowed_s = max(deadline_s, LEAST_S)
    end = time.monotonic() + allowed_s
    pause = threading.Event()
    while True:
        failure = None
        try:
            if condition():
                return
        except WorldFailure as unanswered:
            failure = unanswered
        if time.monotonic() >= end:
            raise AssertionError(f"still waiting after {allowed_s} s: {what}") from failure
        pause.wait(POLL_S)
