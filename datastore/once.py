"""Something that happens once, for one thread to wait on: what an Event is, at a fraction of its cost.

Every entry of a log is waited for at several places, nearly always by a thread that finds it done already. An Event makes
a condition and a lock for that, and takes both to set it; here it is one bare lock, and none to see that it is done.
"""

from __future__ import annotations

import contextlib
import threading


class Once:
    """Not done, then done for good."""

    __slots__ = ("_gate", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def set(self) -> None:
        """Let everybody through who waits or will; said again, it changes nothing."""
        self._is_set = True
        self._open()

    def is_set(self) -> bool:
        """Return whether it is done."""
        return self._is_set

    def wait(self, timeout_s: float = -1) -> bool:
        """Return whether it is done, at the latest after `timeout_s` (-1: without limit)."""
        if self._is_set:
            return True
        if not self._gate.acquire(timeout=timeout_s if timeout_s == -1 else max(0.0, timeout_s)):
            return self._is_set
        self._open()  # For the next one who waits.
        return True

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # Open already.
            self._gate.release()
