"""Waiting in tests: for a condition, until a deadline, and never just for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_S = 0.01


def wait_until(condition: Callable[[], object], what: str, deadline_s: float) -> None:
    """Return when `condition()` is true.

    Raises:
        AssertionError: It was not within `deadline_s`; the message says `what` was waited for.
    """
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() >= end:
            raise AssertionError(f"still waiting after {deadline_s} s: {what}")
        pause.wait(POLL_S)
