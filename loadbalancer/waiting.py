"""Waiting for the outcomes of a batch: on one's own thread, or not at all, the answer being sent by whoever brings the last.

A thread that waits has to be woken, and a woken thread has to get Python's lock before it can send: with 32 callers that was
half of a balancer's time. So the hot answers are made and sent by the thread that settles them, and a caller's thread is
back at its connection meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from datastore import wire
from datastore.errors import OutcomeUnknown

# Past its deadline a caller waits this much longer for the exact word (a refusal) instead of hearing that it is not known.
GRACE_MS = 40
# Deadlines of those who do not wait themselves are looked at this often.
GRAIN_MS = 20

Then = Callable[[list[wire.Outcome]], None]


class Waiter:
    """One caller's batch: an outcome for each place, and one end when all are there."""

    __slots__ = ("_claim", "_done", "_meeting", "_open", "_then", "outcomes")

    def __init__(self, count: int) -> None:
        self.outcomes: list[wire.Outcome | None] = [None] * count
        # One token a place; the first of the list is the last to be popped, by one thread alone: popping is atomic.
        self._open = [False] * count
        # A bare lock: an Event costs several times as much to make, to wait for and to set, and every hold needs one.
        self._done = threading.Lock()
        # Who ends the batch and who says what follows meet here; the second one to come carries on.
        self._meeting = [True, False]
        self._claim = [True]
        self._then: Then | None = None
        if count:
            self._open[0] = True
            self._done.acquire()
        else:
            self._meeting.pop()

    @property
    def is_done(self) -> bool:
        """Whether all outcomes are there."""
        return not self._done.locked()

    def settle(self, place: int, outcome: wire.Outcome) -> None:
        """Give the outcome of one place; each place is settled once, from any thread."""
        self.outcomes[place] = outcome
        if self._open.pop():
            self._done.release()
            if self._meeting.pop():
                self._carry_on()

    def wait(self, deadline_ms: int) -> list[wire.Outcome]:
        """Return the outcomes, at the latest a moment after `deadline_ms` (monotonic); what is missing is not known."""
        if not self._done.acquire(timeout=max(0.0, (deadline_ms + GRACE_MS - now_ms()) / 1000)):
            return self._known()
        self._done.release()
        return self._known()

    def then(self, carry_on: Then) -> None:
        """Have `carry_on` called once with the outcomes, by the thread that settles the last or that finds it overdue."""
        self._then = carry_on
        if self._meeting.pop():
            self._carry_on()

    def expire(self) -> None:
        """Carry on with what is there; the rest is not known. Only after `then`."""
        self._carry_on()

    def _carry_on(self) -> None:
        try:
            self._claim.pop()
        except IndexError:
            return  # The deadline came first, or the last outcome did.
        then, self._then = self._then, None  # What follows knows this waiter: kept, the two would be garbage in a circle.
        assert then is not None
        then(self._known())

    def _known(self) -> list[wire.Outcome]:
        if self.is_done:
            return [outcome for outcome in self.outcomes if outcome is not None]
        unknown = wire.failure(OutcomeUnknown("no answer in time; it may have happened: ask again with the same request id"))
        return [unknown if outcome is None else outcome for outcome in self.outcomes]


class Deadlines:
    """Ends the batches whose callers do not wait themselves: one thread for all, a look every GRAIN_MS while there are any."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._buckets: dict[int, set[Waiter]] = {}  # (deadline + grace) in grains, rounded up -> who is due then
        self._some = threading.Event()
        self._closed = threading.Event()

    def add(self, waiter: Waiter, deadline_ms: int) -> int:
        """Have `waiter` expire a moment after `deadline_ms`; return what `discard` needs."""
        bucket = (deadline_ms + GRACE_MS) // GRAIN_MS + 1
        with self._mutex:
            self._buckets.setdefault(bucket, set()).add(waiter)
        if not self._some.is_set():
            self._some.set()
        return bucket

    def discard(self, waiter: Waiter, bucket: int) -> None:
        """Forget a waiter whose outcomes came."""
        with self._mutex:
            waiting = self._buckets.get(bucket)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._buckets[bucket]

    def close(self) -> None:
        """End the thread; nobody expires any more."""
        self._closed.set()
        self._some.set()

    def run(self) -> None:
        """Look until closed."""
        while not self._closed.is_set():
            self._some.wait()
            if self._closed.wait(GRAIN_MS / 1000):
                return
            for waiter in self._take_due():
                waiter.expire()

    def _take_due(self) -> list[Waiter]:
        now = now_ms() // GRAIN_MS
        with self._mutex:
            due = [bucket for bucket in self._buckets if bucket <= now]
            waiters = [waiter for bucket in due for waiter in self._buckets.pop(bucket)]
            if not self._buckets:
                self._some.clear()
        return waiters


def now_ms() -> int:
    """Return the monotonic clock in whole milliseconds."""
    return time.monotonic_ns() // 1_000_000
