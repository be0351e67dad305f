"""Queues to batches: one thread for the locks, one lane for each operator.

Whoever owns a queue takes all that waits in it as one message; a batch is what arrived while the last one was under way,
so nothing waits for a timer. A caller's thread puts baskets in and sleeps on one event; the locker and the lanes drive
the machines (one thread at a time each: a basket is in one queue or in one batch) and wake the caller when all are done.

    caller → inbox → locker: one acquire_many a round, with the releases that are due → lane of the operator → submit
                        ↑                                                                      |
                        └── finished: locks to give back, stale fences to lift ────────────────┘ answers leave first

Only the locker's thread touches the local order and the lock servers. Lanes share a small pool of threads: an operator
has at most one batch under way, hundreds of idle operators cost nothing.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

from datastore import wire
from datastore.errors import (
    CallerBehind,
    HoldfastError,
    InvalidRequest,
    InvariantBroken,
    OperatorUnavailable,
    OutcomeUnknown,
    error_from_data,
)
from loadbalancer.basket import Basket, Step
from loadbalancer.ordering import Ordering
from lockstore.seatlocks import Contended, Grant, LockOutcome, LockRequest, Unavailable

# A lock whose hold stands protects nothing any more, but giving it back costs a round to every lock server. The next
# acquisition takes it along for nothing; if none comes within this time the release goes alone.
RELEASE_LINGER_MS = 2
# One submission lasts at most this long: a caller behind it in the lane may have less time than the one within it.
SUBMIT_MS_MAX = 5_000
# Past its deadline a caller waits this much longer for the exact word (a refusal) instead of saying that it does not know.
GRACE_MS = 40

RESOLVER_MISSING = OperatorUnavailable("another operator has to decide first, and nobody here asks it").to_data()

log = logging.getLogger(__name__)


class Locks(Protocol):
    """What the locker needs of lockstore.SeatLocks."""

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        """Try to lock every request and give back earlier grants, in one round."""
        ...

    def release_many(self, grants: Sequence[Grant]) -> None:
        """Give back grants."""
        ...


class Submitter(Protocol):
    """What a lane needs of the managers."""

    def submit(self, items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        """Have each operator's primary decide; `deadline_ms` is how long it may take."""
        ...


class Waiter:
    """One caller's batch: an outcome for each place, and one wake-up when all are there."""

    __slots__ = ("_done", "_open", "outcomes")

    def __init__(self, count: int) -> None:
        self.outcomes: list[wire.Outcome | None] = [None] * count
        # One token a place; the first of the list is the last to be popped, by one thread alone: popping is atomic.
        self._open = [False] * count
        # A bare lock: an Event costs several times as much to make, to wait for and to set, and every hold needs one.
        self._done = threading.Lock()
        if count:
            self._open[0] = True
            self._done.acquire()

    def settle(self, place: int, outcome: wire.Outcome) -> None:
        """Give the outcome of one place; each place is settled once, from any thread."""
        self.outcomes[place] = outcome
        if self._open.pop():
            self._done.release()

    def wait(self, deadline_ms: int) -> list[wire.Outcome]:
        """Return the outcomes, at the latest a moment after `deadline_ms` (monotonic); what is missing is not known."""
        if not self._done.acquire(timeout=max(0.0, (deadline_ms + GRACE_MS - now_ms()) / 1000)):
            unknown = wire.failure(OutcomeUnknown("no answer in time; it may have happened: ask again with the same request id"))
            return [unknown if outcome is None else outcome for outcome in self.outcomes]
        return [outcome for outcome in self.outcomes if outcome is not None]


class Lane:
    """One operator's queue; `busy` while a thread carries a batch of it or is about to."""

    __slots__ = ("busy", "operator", "queue")

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.queue: deque[Basket] = deque()
        self.busy = False

    def take(self, most: int) -> list[Basket]:
        """Return the next batch. An import goes alone: it is checked against what no neighbour may be changing."""
        queue = self.queue
        batch = [queue.popleft()]
        if type(batch[0].command) is wire.Import:
            return batch
        while queue and len(batch) < most and type(queue[0].command) is not wire.Import:
            batch.append(queue.popleft())
        return batch


class Pipeline:
    """The way of every write from the callers' threads to the operators and back."""

    def __init__(self, locks: Locks, submitter: Submitter, *, lanes: int, batch_max: int, on_broken: Callable[[], None]) -> None:
        """Prepare; `start` starts the threads.

        Args:
            lanes: Threads that carry batches to the managers.
            batch_max: Baskets in one batch.
            on_broken: Called when a thread finds a fault of our own; it should end the process.
        """
        self._submitter = submitter
        self._batch_max = batch_max
        self._on_broken = on_broken
        self._mutex = threading.Lock()  # guards all lanes' queues and flags; held for moments only
        self._lanes: dict[str, Lane] = {}
        self._seen_ms: dict[str, int] = {}  # operator -> its log clock as last heard (Z2)
        self._ready: SimpleQueue[Lane | None] = SimpleQueue()
        self.locker = Locker(locks, self._dispatch, batch_max)
        self._threads = [threading.Thread(target=self._guarded, args=(self.locker.run,), name="locker", daemon=True)]
        self._threads += [
            threading.Thread(target=self._guarded, args=(self._carry_all,), name=f"lane-{number}", daemon=True) for number in range(lanes)
        ]
        # Whoever finds out how another operator's basket stands, and then calls `resume`; set by the reconciler.
        self.resolve: Callable[[Basket], None] = lambda basket: self.resume(basket, error_from_data(dict(RESOLVER_MISSING)))
        self.batches = 0
        self.carried = 0

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let what is under way end, then stop; baskets still waiting are not answered."""
        self.locker.close()
        for _ in self._threads[1:]:
            self._ready.put(None)

    def put(self, baskets: Sequence[Basket]) -> None:
        """Start a caller's baskets, from any thread."""
        locked = [basket for basket in baskets if basket.started() is Step.LOCK]
        if locked:
            self.locker.put(locked)
        if len(locked) < len(baskets):
            self._dispatch([basket for basket in baskets if not basket.keys])

    def resume(self, basket: Basket, error: HoldfastError | None) -> None:
        """Go on with a basket that had to wait for another operator's word (Z5); with `error` it ends."""
        if error is None:
            self._dispatch([basket])
            return
        basket.failed(error)
        _settle(basket)
        self.locker.finish([basket])

    def _dispatch(self, baskets: Sequence[Basket]) -> None:
        """Queue baskets whose next step is SUBMIT at their operators' lanes."""
        with self._mutex:
            for basket in baskets:
                lane = self._lanes.get(basket.operator)
                if lane is None:
                    lane = self._lanes[basket.operator] = Lane(basket.operator)
                lane.queue.append(basket)
                if not lane.busy:
                    lane.busy = True
                    self._ready.put(lane)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's work; a fault in it would leave callers waiting and locks standing, so the process ends."""
        try:
            work()
        except Exception:
            log.critical("a fault in the pipeline; the process ends", exc_info=True)
            self._on_broken()

    def _carry_all(self) -> None:
        while (lane := self._ready.get()) is not None:
            with self._mutex:
                batch = lane.take(self._batch_max)
            self._carry(lane.operator, batch)
            with self._mutex:
                if lane.queue:
                    self._ready.put(lane)
                else:
                    lane.busy = False

    def _carry(self, operator: str, batch: list[Basket]) -> None:
        """Submit one batch of one operator and give every basket its answer."""
        now = now_ms()
        late = [basket for basket in batch if basket.deadline_ms <= now]
        if late:
            for basket in late:
                basket.overdue()
                _settle(basket)
            batch = [basket for basket in batch if basket.deadline_ms > now]
        finished = late
        if batch:
            finished = finished + self._submitted(operator, batch, now)
        self.locker.finish([basket for basket in finished if basket.keys])

    def _submitted(self, operator: str, batch: list[Basket], now: int) -> list[Basket]:
        """Return the baskets of `batch` that are answered, or that need another lock."""
        sides: dict[bytes, bytes] = {}
        for basket in batch:
            if basket.sides:
                sides |= basket.sides
        item = wire.SubmitItem(operator, wire.encode([basket.command for basket in batch]), sides, self._seen_ms.get(operator, 0))
        deadline_ms = min(max(basket.deadline_ms for basket in batch) - now, SUBMIT_MS_MAX)
        self.batches += 1
        self.carried += len(batch)
        try:
            results = self._submitter.submit([item], deadline_ms)
            outcomes = _outcomes(results, len(batch))
            self._seen_ms[operator] = results[0].stamp_ms
        except CallerBehind as error:
            # Z2: nothing was sold here for long. These requests are within their deadlines, so they are no late duplicates.
            self._seen_ms[operator] = int(error.fields.get("stamp_ms", 0))
            self._dispatch(batch)
            return []
        except HoldfastError as error:
            for basket in batch:
                basket.failed(error)
                _settle(basket)
            return batch
        now = now_ms()
        finished: list[Basket] = []
        again: list[Basket] = []
        for basket, outcome in zip(batch, outcomes, strict=True):
            if not basket.keys:
                basket.position = (results[0].epoch, results[0].lsn, results[0].hash)
            step = basket.decided(outcome, now)
            if step is Step.ANSWER:
                _settle(basket)
                finished.append(basket)
            elif step is Step.LOCK:
                finished.append(basket)
            elif step is Step.RESOLVE:
                self.resolve(basket)
            else:
                again.append(basket)
        if again:
            self._dispatch(again)
        return finished


class Locker:
    """The one thread that orders requests locally and talks to the lock servers."""

    def __init__(self, locks: Locks, dispatch: Callable[[Sequence[Basket]], None], batch_max: int) -> None:
        self._locks = locks
        self._dispatch = dispatch
        self._batch_max = batch_max
        self._changed = threading.Condition()
        self._inbox: list[Basket] = []
        self._finished: list[Basket] = []
        self._closing = False
        # What follows belongs to the locker's thread alone.
        self.ordering: Ordering[Basket] = Ordering()
        self._turns: deque[Basket] = deque()  # whose turn it is: the next round's
        self._pauses: list[tuple[int, int, Basket]] = []  # (due, tie-break, basket): contended, to be tried again
        self._lines: list[tuple[int, int, Basket]] = []  # (deadline, tie-break, basket): behind others, so that none is forgotten
        self._numbers = itertools.count()
        self._releases: list[Grant] = []
        self._release_due_ms = 0
        self._no_quorum: dict[str, str] = {}  # why the last round found no quorum of lock servers; empty when it did

    def put(self, baskets: Sequence[Basket]) -> None:
        """Take in baskets that need a lock."""
        with self._changed:
            self._inbox.extend(baskets)
            self._changed.notify()

    def finish(self, baskets: Sequence[Basket]) -> None:
        """Take back baskets that are answered, or whose lock was out of date."""
        if baskets:
            with self._changed:
                self._finished.extend(baskets)
                self._changed.notify()

    def close(self) -> None:
        """Stop after the round under way; locks that are held end with their ttl."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def run(self) -> None:
        """Serve rounds until closed."""
        while True:
            with self._changed:
                while not (self._inbox or self._finished or self._closing or self._turns):
                    left_ms = self._next_due_ms()
                    if left_ms is not None and left_ms <= 0:
                        break
                    self._changed.wait(None if left_ms is None else left_ms / 1000)
                inbox, self._inbox = self._inbox, []
                finished, self._finished = self._finished, []
                if self._closing:
                    break
            self._line_up(inbox, finished)
            self._round()
        self._give_back()

    def _next_due_ms(self) -> int | None:
        """Return in how many milliseconds something falls due, or None where nothing does."""
        dues = [self._release_due_ms] if self._releases else []
        if self._pauses:
            dues.append(self._pauses[0][0])
        if self._lines:
            dues.append(self._lines[0][0])
        return min(dues) - now_ms() if dues else None

    def _line_up(self, inbox: Sequence[Basket], finished: Sequence[Basket]) -> None:
        """Move finished baskets out of the lines and new ones in; collect whose turn it is."""
        now = now_ms()
        for basket in finished:
            if isinstance(basket.spent, Grant):
                if not self._releases:
                    self._release_due_ms = now + RELEASE_LINGER_MS
                self._releases.append(basket.spent)
                basket.spent = None
            if basket.outcome is None:  # A stale fence: the same place, another lock.
                self._turns.append(basket)
            else:
                self._turns.extend(self.ordering.done(basket, basket.keys))
        for basket in inbox:
            if self.ordering.offer(basket, basket.keys):
                self._turns.append(basket)
            else:
                heapq.heappush(self._lines, (basket.deadline_ms, next(self._numbers), basket))
        while self._pauses and self._pauses[0][0] <= now:
            self._turns.append(heapq.heappop(self._pauses)[2])
        while self._lines and self._lines[0][0] <= now:
            basket = heapq.heappop(self._lines)[2]
            if self.ordering.is_waiting(basket):
                self._overdue(basket, now)
                _settle(basket)
                self._turns.extend(self.ordering.withdraw(basket, basket.keys))

    def _round(self) -> None:
        """Ask the lock servers once for everything whose turn it is, or give back what has lingered."""
        now = now_ms()
        batch: list[Basket] = []
        while self._turns and len(batch) < self._batch_max:
            basket = self._turns.popleft()
            if basket.deadline_ms > now:
                batch.append(basket)
            else:
                self._end(basket, self._overdue(basket, now))
        if not batch:
            if self._releases and self._release_due_ms <= now:
                self._give_back()
            return
        releases, self._releases = self._releases, []
        outcomes = self._locks.acquire_many([LockRequest(basket.keys, basket.hint) for basket in batch], releases)
        now = now_ms()
        granted: list[Basket] = []
        last = outcomes[-1]
        self._no_quorum = last.reasons if isinstance(last, Unavailable) else {}
        for basket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Grant):
                if basket.granted(outcome) is Step.SUBMIT:
                    granted.append(basket)
                else:
                    _settle(basket)  # A lock alone: its holder gives it back.
            elif isinstance(outcome, Contended):
                self._end(basket, basket.contended(outcome.keys, now))
            else:
                assert isinstance(outcome, Unavailable)
                self._end(basket, basket.unavailable(outcome.reasons, now))
        if granted:
            self._dispatch(granted)

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
        _settle(basket)
        self._turns.extend(self.ordering.done(basket, basket.keys))

    def _give_back(self) -> None:
        releases, self._releases = self._releases, []
        if releases:
            self._locks.release_many(releases)


def _outcomes(results: Sequence[wire.SubmitResult], count: int) -> list[wire.Outcome]:
    """Return the outcomes of a submission of one item.

    Raises:
        HoldfastError: The operator could not decide; of the class that the manager sent.
        OutcomeUnknown: The answer does not fit the question.
    """
    if len(results) == 1 and results[0].error:
        raise error_from_data(results[0].error)
    try:
        outcomes: list[wire.Outcome] = wire.decode(wire.OUTCOMES, results[0].outcomes) if len(results) == 1 else []
    except InvalidRequest as error:
        raise OutcomeUnknown(f"the operator's answer cannot be read: {error}") from error
    if len(outcomes) != count:
        raise OutcomeUnknown(f"{len(outcomes)} answers came to {count} commands")
    return outcomes


def _settle(basket: Basket) -> None:
    if basket.outcome is None:
        raise InvariantBroken("a basket is answered without an outcome")
    basket.waiter.settle(basket.place, basket.outcome)


def now_ms() -> int:
    """Return the monotonic clock in whole milliseconds."""
    return time.monotonic_ns() // 1_000_000
