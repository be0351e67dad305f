"""The order of requests for the same seats, and the rounds to the lock servers.

One thread at a time drives it: who has the turn. A caller's thread that finds the turn free drives one round itself, as
handing the work to another thread costs a lone caller more than the round; what came meanwhile the locker's own thread
takes, as one batch. So no caller's thread serves others for longer than one round.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from datastore.errors import InvalidRequest, InvariantBroken
from loadbalancer.basket import PAUSE_LAST_MS, Basket, Step
from loadbalancer.contention import Contention
from loadbalancer.ordering import Ordering, Tenancy
from loadbalancer.waiting import now_ms
from lockstore.seatlocks import KEYS_PER_REQUEST_MAX, Contended, Grant, LockOutcome, LockRequest, Unavailable

# A lock whose hold stands protects nothing any more, but giving it back costs a round to every lock server. The next
# acquisition takes it along for nothing; if none comes within this time the release goes alone.
RELEASE_LINGER_MS = 2
# Requests in bulk have many seats: a lock server that is busy with one call for longer than a caller waits looks dead, and an entry
# has to travel. A batch is full from so many on.
KEYS_PER_BATCH = 2_048
# A round that took longer met a lock server that is slow or away; the next one may take as long.
QUICK_MS = 25
# How long keys are left alone that this balancer has had for long: a rival, who asks again after PAUSE_LAST_MS at the latest,
# finds them free within it.
YIELD_MS = PAUSE_LAST_MS + 5


class Locks(Protocol):
    """What the locker needs of lockstore.SeatLocks."""

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        """Try to lock every request and give back earlier grants, in one round."""
        ...

    def release_many(self, grants: Sequence[Grant]) -> None:
        """Give back grants."""
        ...


class Locker:
    """Orders requests locally and talks to the lock servers."""

    def __init__(self, locks: Locks, dispatch: Callable[[Sequence[Basket]], None], batch_max: int) -> None:
        """Prepare; one thread should `run` it.

        Args:
            dispatch: Called by that thread with baskets whose next step is SUBMIT.
        """
        self._locks = locks
        self._dispatch = dispatch
        self._batch_max = batch_max
        self._inbox: deque[Basket] = deque()  # appended to by any thread, emptied by who has the turn
        self._finished: deque[Basket] = deque()
        self._changed = threading.Condition()  # guards the three that follow
        self._woken = False
        self._closing = False
        self._alarm_ms: int | None = None  # when the locker's thread looks by itself; None while it is at work or waits for a wake
        self._turn = threading.Lock()
        # What follows belongs to who has the turn.
        self.ordering: Ordering[Basket] = Ordering()
        self._tenancy = Tenancy()
        self.contention = Contention()
        self._turns: deque[Basket] = deque()  # whose turn it is: the next round's
        self._pauses: list[tuple[int, int, Basket]] = []  # (due, tie-break, basket): contended, to be tried again
        self._lines: list[tuple[int, int, Basket]] = []  # (deadline, tie-break, basket): behind others, so that none is forgotten
        self._numbers = itertools.count()
        self._releases: list[Grant] = []
        self._release_due_ms = 0
        self._due_ms: int | None = None  # when the next of these falls due; read by any thread
        self.is_quick = True  # whether the last round was: who has more to do than to wait for one asks; read by any thread
        self._no_quorum: dict[str, str] = {}  # why the last round found no quorum of lock servers; empty when it did

    def put(self, baskets: Sequence[Basket], *, at_once: bool = False) -> list[Basket]:
        """Take in baskets that need a lock; return those, also of others, that this thread has got locks for.

        Args:
            at_once: Let this thread do a round if nobody else is at it. For a lone caller, and for who brings many callers' baskets: rounds
                of one basket each would cost more than the threads that they save.
        """
        for basket in baskets:
            if len(basket.keys) <= KEYS_PER_REQUEST_MAX:
                self._inbox.append(basket)
            else:
                reason = f"{len(basket.keys)} seats are too many for one request; {KEYS_PER_REQUEST_MAX} are possible"
                basket.failed(InvalidRequest(reason, field="seats", most=KEYS_PER_REQUEST_MAX))
                settle(basket)
        granted: list[Basket] = []
        if at_once and self._turn.acquire(blocking=False):
            try:
                granted = self._serve()
            finally:
                self._turn.release()
        self._look_again()
        return granted

    def finish(self, baskets: Sequence[Basket]) -> None:
        """Take back baskets that are answered, or whose lock was out of date."""
        if not baskets:
            return
        self._finished.extend(baskets)
        if self._turn.acquire(blocking=False):
            try:
                self._line_up()
                self._due_ms = self._next_due_ms()
            finally:
                self._turn.release()
        self._look_again()

    def close(self) -> None:
        """Stop after the round under way; locks that are held end with their ttl."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def run(self) -> None:
        """Serve rounds until closed."""
        while self._wait_for_work():
            with self._turn:
                granted = self._serve()
            if granted:
                self._dispatch(granted)
        with self._turn:
            self._give_back()

    def _look_again(self) -> None:
        """Wake the locker's thread for what it does not know of; after the turn was given back, or was found taken.

        Whoever found the turn taken had put in its baskets before; who had the turn looks after giving it back. So one of
        them sees what is there.
        """
        due_ms = self._due_ms
        if not self._has_work() and (due_ms is None or ((alarm_ms := self._alarm_ms) is not None and alarm_ms <= due_ms)):
            return
        if self._turn.locked() and self._has_work():
            return  # Who has the turn comes by here.
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _has_work(self) -> bool:
        return bool(self._inbox or self._finished or self._turns)

    def _wait_for_work(self) -> bool:
        """Return when there is something to do; False when closed."""
        with self._changed:
            while not self._closing:
                if self._woken or self._has_work():
                    break
                due_ms = self._due_ms
                left_ms = None if due_ms is None else due_ms - now_ms()
                if left_ms is not None and left_ms <= 0:
                    break
                self._alarm_ms = due_ms
                self._changed.wait(None if left_ms is None else left_ms / 1000)
            self._alarm_ms = None
            self._woken = False
            return not self._closing

    def _serve(self) -> list[Basket]:
        """Line up what came and do one round; return the baskets that got their locks."""
        self._line_up()
        granted = self._round()
        self._due_ms = self._next_due_ms()
        return granted

    def _next_due_ms(self) -> int | None:
        """Return when the next thing falls due, or None where nothing does."""
        dues = [self._release_due_ms] if self._releases else []
        if self._pauses:
            dues.append(self._pauses[0][0])
        if self._lines:
            dues.append(self._lines[0][0])
        return min(dues) if dues else None

    def _line_up(self) -> None:
        """Move finished baskets out of the lines and new ones in; collect whose turn it is."""
        now = now_ms()
        while self._finished:
            basket = self._finished.popleft()
            if isinstance(basket.spent, Grant):
                if not self._releases:
                    self._release_due_ms = now + RELEASE_LINGER_MS
                self._releases.append(basket.spent)
                basket.spent = None
            if basket.outcome is None:  # A stale fence: the same place, another lock.
                self._turns.append(basket)
            else:
                self._turns.extend(self.ordering.done(basket, basket.keys))
        while self._inbox:
            basket = self._inbox.popleft()
            if self.ordering.offer(basket, basket.keys):
                self._turns.append(basket)
            else:
                self.contention.note_waited(basket.keys)
                heapq.heappush(self._lines, (basket.deadline_ms, next(self._numbers), basket))
        while self._pauses and self._pauses[0][0] <= now:
            self._turns.append(heapq.heappop(self._pauses)[2])
        while self._lines and self._lines[0][0] <= now:
            basket = heapq.heappop(self._lines)[2]
            if self.ordering.is_waiting(basket):
                self._overdue(basket, now)
                settle(basket)
                self._turns.extend(self.ordering.withdraw(basket, basket.keys))

    def _round(self) -> list[Basket]:
        """Ask the lock servers once for everything whose turn it is, or give back what has lingered; return what was granted."""
        now = now_ms()
        batch: list[Basket] = []
        released = {key for grant in self._releases for key in grant.keys}
        yields = False
        keys = 0
        while self._turns and len(batch) < self._batch_max and keys < KEYS_PER_BATCH:
            basket = self._turns.popleft()
            if basket.deadline_ms <= now:
                self._end(basket, self._overdue(basket, now))
            elif self._tenancy.may_take(basket.keys, released, now):
                batch.append(basket)
                keys += len(basket.keys)
            else:
                yields = True
                heapq.heappush(self._pauses, (min(basket.deadline_ms, now + YIELD_MS), next(self._numbers), basket))
        if not batch:
            if self._releases and (yields or self._release_due_ms <= now):
                self._give_back()
            return []
        releases, self._releases = self._releases, []
        outcomes = self._locks.acquire_many([LockRequest(basket.keys, basket.hint) for basket in batch], releases)
        began, now = now, now_ms()
        granted: list[Basket] = []
        last = outcomes[-1]
        self._no_quorum = last.reasons if isinstance(last, Unavailable) else {}
        self.is_quick = now - began <= QUICK_MS and not self._no_quorum
        for basket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Grant):
                if basket.granted(outcome) is Step.SUBMIT:
                    granted.append(basket)
                else:
                    settle(basket)  # A lock alone: its holder gives it back.
            elif isinstance(outcome, Contended):
                self.contention.note_contended(outcome.keys)
                self._end(basket, basket.contended(outcome.keys, now))
            else:
                assert isinstance(outcome, Unavailable)
                self._end(basket, basket.unavailable(outcome.reasons, now))
        return granted

    def _overdue(self, basket: Basket, now: int) -> Step:
        """End a basket whose deadline came before its turn, or in the very moment of it."""
        # Whoever it stood behind could get no lock either: then that is the reason, not the other buyers.
        if self._no_quorum:
            return basket.unavailable(self._no_quorum, max(now, basket.deadline_ms))
        return basket.overdue()

    def _end(self, basket: Basket, step: Step) -> None:
        if step is Step.PAUSE:
            due = min(basket.deadline_ms, now_ms() + random.randint(1, basket.pause_ms))
            heapq.heappush(self._pauses, (due, next(self._numbers), basket))
            return
        settle(basket)
        self._turns.extend(self.ordering.done(basket, basket.keys))

    def _give_back(self) -> None:
        releases, self._releases = self._releases, []
        if releases:
            self._locks.release_many(releases)


def settle(basket: Basket) -> None:
    """Give a basket's outcome to who waits for it."""
    if basket.outcome is None:
        raise InvariantBroken("a basket is answered without an outcome")
    basket.waiter.settle(basket.place, basket.outcome)
