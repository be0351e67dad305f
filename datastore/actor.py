"""Events of one partition, one at a time, without a thread of its own; and the node's bell.

Flat combining: whoever posts an event while nobody is at work does the work, its own event and all that arrive meanwhile.
Hundreds of partitions cost no thread and no queue hand-over, and a lone caller waits for nobody else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from datastore.errors import HoldfastError, OutcomeUnknown
from datastore.once import Once

T = TypeVar("T")


class Actor:
    """Runs posted events in order; `settle` runs when none is left, and whenever it returns True, again."""

    def __init__(self, settle: Callable[[], bool], on_fatal: Callable[[BaseException], None]) -> None:
        """Prepare.

        Args:
            on_fatal: Called with what an event raised: it must stop the process. Should it return, the actor stays dead.
        """
        self._settle = settle
        self._on_fatal = on_fatal
        self._inbox: deque[Callable[[], None]] = deque()
        self._turn = threading.Lock()
        self._dead = False

    def post(self, event: Callable[[], None]) -> None:
        """Hand over an event and return when it is done, or when another thread has taken it on."""
        self._inbox.append(event)
        # After giving the turn back it must look again: an event posted just before found the turn taken and left.
        while self._inbox and not self._dead and self._turn.acquire(blocking=False):
            try:
                self._run()
            except BaseException as error:
                self._dead = True
                self._on_fatal(error)
                raise
            finally:
                self._turn.release()

    def call(self, work: Callable[[], T], timeout_s: float) -> T:
        """Run `work` as an event and return its result, or raise the refusal that it raised.

        Raises:
            OutcomeUnknown: It has not run by then; it may yet.
        """
        if self._dead:
            raise OutcomeUnknown("the partition has stopped")
        job = _Job(work)
        self.post(job.run)
        if not job.done.wait(timeout_s):
            raise OutcomeUnknown("the partition is busy")
        return job.result()

    def finish(self, last: Callable[[], None], timeout_s: float) -> bool:
        """Run `last` as the last event of all and return whether it has run; whatever else is posted is dropped.

        Nothing comes between: an event behind it, or `settle`, would work on with what `last` has closed.
        """

        def end() -> None:
            self._dead = True
            last()

        was_dead = self._dead
        job = _Job(end)
        self.post(job.run)
        return job.done.wait(0 if was_dead else timeout_s)

    def _run(self) -> None:
        inbox = self._inbox
        while not self._dead:
            while inbox and not self._dead:
                inbox.popleft()()
            if self._dead or not self._settle():
                return


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self._error: HoldfastError | None = None
        self.done = Once()

    def run(self) -> None:
        try:
            self._value.append(self._work())
        except HoldfastError as error:
            if error.code in FATAL_CODES:
                raise
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        if not self._value:
            raise OutcomeUnknown("the partition has stopped")
        return self._value[0]


# Errors after which nothing may go on: what is on the disk, or what is believed of it, is not what it must be.
FATAL_CODES = frozenset({"invariant_broken", "disk_failed", "ledger_damaged"})


class Bell:
    """One per node: rung at every commit of any partition, so that one waiting thread serves a follower of all of them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = 0

    @property
    def rung(self) -> int:
        return self._rung

    def ring(self) -> None:
        with self._condition:
            self._rung += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Return when it has rung since it had rung `seen` times, or after `timeout_s`."""
        with self._condition:
            self._condition.wait_for(lambda: self._rung != seen, timeout_s)
