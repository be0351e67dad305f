"""Queues to batches: one turn for the locks, one lane for each operator.

Whoever owns a queue takes all that waits in it as one message; a batch is what arrived while the last one was under way,
so nothing waits for a timer. The machines (one thread at a time each: a basket is in one queue or in one batch) are driven
by who brings the work, where nobody else is at it, else by the locker's thread and the lanes'.

    caller → inbox → locker: one acquire_many a round, with the releases that are due → lane of the operator → submit
                        ↑                                                                      |
                        └── finished: locks to give back, stale fences to lift ────────────────┘ answers leave first

A lone caller's thread goes the whole way: a round, the submission, the answer. With many, each finds somebody at work and
leaves, and what they left is the next batch; then one thread reads for all of them (`datastore.edge_reader`), begins what has
come and does the round for it. An operator has at most one batch under way; lanes share a small pool of threads, so hundreds of
idle operators cost nothing. A lane's thread sends the next batch first, if no other lane waits for a thread; the last one's answers
leave meanwhile, from a thread of their own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from datastore import wire
from datastore.errors import (
    CallerBehind,
    HoldfastError,
    InvalidRequest,
    OperatorUnavailable,
    OutcomeUnknown,
    SeatUnavailable,
    error_from_data,
)
from loadbalancer.basket import Basket, Step
from loadbalancer.locker import KEYS_PER_BATCH, Locker, Locks, settle
from loadbalancer.waiting import Deadlines, Then, Waiter, now_ms

# One submission lasts at most this long: a caller behind it in the lane may have less time than the one within it.
SUBMIT_MS_MAX = 5_000

RESOLVER_MISSING = OperatorUnavailable("another operator has to decide first, and nobody here asks it").to_data()

log = logging.getLogger(__name__)


class Submitter(Protocol):
    """What a lane needs of the managers."""

    def submit(self, items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        """Have each operator's primary decide; `deadline_ms` is how long it may take."""
        ...


class Carried(NamedTuple):
    """A batch that came back: those that were too late to be sent, those that were sent, and what came of them."""

    late: list[Basket]
    batch: list[Basket]
    result: wire.SubmitResult | HoldfastError | None


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
        keys = len(batch[0].keys)
        while queue and len(batch) < most and keys < KEYS_PER_BATCH and type(queue[0].command) is not wire.Import:
            batch.append(queue.popleft())
            keys += len(batch[-1].keys)
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
        self._busy = 0  # lanes under way
        self._seen_ms: dict[str, int] = {}  # operator -> its log clock as last heard (Z2)
        self._ready: SimpleQueue[Lane | None] = SimpleQueue()
        self._unanswered: SimpleQueue[Carried | None] = SimpleQueue()
        self._carriers = lanes  # threads that have not ended
        self._gathered: list[Basket] = []  # of the one thread that calls `gather` and `go`
        self.locker = Locker(locks, self._dispatch, batch_max)
        self._deadlines = Deadlines()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("locker", self.locker.run), ("deadlines", self._deadlines.run), ("answers", self._answer_all))
        ]
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
        self._deadlines.close()
        for _ in self._threads:
            self._ready.put(None)

    def put(self, baskets: Sequence[Basket]) -> None:
        """Start a caller's baskets, from any thread; it may carry them, and others' with them, before this returns."""
        self._guarded(lambda: self._start(baskets))

    @property
    def is_idle(self) -> bool:
        """Whether no batch is under way to any operator."""
        return not self._busy

    def gather(self, basket: Basket) -> None:
        """Keep a basket with keys for `go`. One thread calls the two, and never waits for an operator."""
        self._gathered.append(basket)

    def go(self) -> None:
        """Start what was gathered with one round, unless somebody else is at it or rounds are slow; their operators are others' to ask."""
        if self._gathered:
            self._guarded(self._start_gathered)

    def leave(self, baskets: Sequence[Basket]) -> None:
        """Start baskets without keys whose answers nobody waits for; returns at once."""
        self._dispatch(baskets)

    def resume(self, basket: Basket, error: HoldfastError | None) -> None:
        """Go on with a basket that had to wait for another operator's word (Z5); with `error` it ends."""
        if error is None:
            self._dispatch([basket])
            return
        basket.failed(error)
        settle(basket)
        self.locker.finish([basket])

    def answer_later(self, waiter: Waiter, deadline_ms: int, then: Then) -> None:
        """Have `then` called with the outcomes of a batch that was put, by `deadline_ms` (monotonic) and a moment."""
        bucket = self._deadlines.add(waiter, deadline_ms)

        def carry_on(outcomes: list[wire.Outcome]) -> None:
            self._deadlines.discard(waiter, bucket)
            then(outcomes)

        waiter.then(carry_on)

    def _start(self, baskets: Sequence[Basket]) -> None:
        locked = [basket for basket in baskets if basket.started() is Step.LOCK]
        ready = self.locker.put(locked, at_once=not self._busy) if locked else []
        if len(locked) < len(baskets):
            ready += [basket for basket in baskets if not basket.keys]
        if not ready:
            return
        own: Lane | None = None
        # Told by what was put in, not by looking into the queues: others put theirs in meanwhile.
        mine = {basket.operator for basket in ready if basket.waiter is baskets[0].waiter}
        for lane in self._enqueue(ready):
            # Only a batch with this caller's own basket in it: nobody waits for another's operator.
            if own is None and lane.operator in mine:
                own = lane
            else:
                self._ready.put(lane)
        if own is not None:
            self._carry(own, on=False)

    def _start_gathered(self) -> None:
        baskets, self._gathered = self._gathered, []
        for basket in baskets:
            basket.started()
        self._dispatch(self.locker.put(baskets, at_once=self.locker.is_quick))

    def _dispatch(self, baskets: Sequence[Basket]) -> None:
        """Give baskets whose next step is SUBMIT to the lanes' threads."""
        for lane in self._enqueue(baskets):
            self._ready.put(lane)

    def _enqueue(self, baskets: Sequence[Basket]) -> list[Lane]:
        """Queue baskets at their operators' lanes; return the lanes that nobody carries: the caller must see to it."""
        idle: list[Lane] = []
        with self._mutex:
            for basket in baskets:
                lane = self._lanes.get(basket.operator)
                if lane is None:
                    lane = self._lanes[basket.operator] = Lane(basket.operator)
                lane.queue.append(basket)
                if not lane.busy:
                    lane.busy = True
                    self._busy += 1
                    idle.append(lane)
        return idle

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do the pipeline's work; a fault in it would leave callers waiting and locks standing, so the process ends."""
        try:
            work()
        except Exception:
            log.critical("a fault in the pipeline; the process ends", exc_info=True)
            self._on_broken()

    def _carry_all(self) -> None:
        while (lane := self._ready.get()) is not None:
            self._carry(lane, on=True)
        with self._mutex:
            self._carriers -= 1
            if not self._carriers:  # What they brought back lies before it.
                self._unanswered.put(None)

    def _carry(self, lane: Lane, *, on: bool) -> None:
        """Carry a batch of a lane that is busy on this thread's account, and answer it.

        The lane is free for the next batch as soon as this one's results are here: answering, which is most of a balancer's
        work, goes on beside the next submission.

        Args:
            on: Go on with what waits in the lane, if no other lane waits for a thread; who answers is another thread then.
        """
        while True:
            carried = self._carry_one(lane)
            with self._mutex:
                more = bool(lane.queue)
                if not more:
                    lane.busy = False
                    self._busy -= 1
            if not more or not on or not self._ready.empty():
                break
            self._unanswered.put(carried)
        if more:
            self._ready.put(lane)
        self._finish(carried)

    def _carry_one(self, lane: Lane) -> Carried:
        with self._mutex:
            batch = lane.take(self._batch_max)
        now = now_ms()
        late = [basket for basket in batch if basket.deadline_ms <= now]
        if late:
            for basket in late:
                basket.overdue()
                settle(basket)
            batch = [basket for basket in batch if basket.deadline_ms > now]
        return Carried(late, batch, self._submit(lane.operator, batch, now) if batch else None)

    def _answer_all(self) -> None:
        while (carried := self._unanswered.get()) is not None:
            self._finish(carried)

    def _finish(self, carried: Carried) -> None:
        """Answer a batch, then give its baskets back to the locker."""
        answered = self._answer(carried.batch, carried.result) if carried.result is not None else []
        self.locker.finish([basket for basket in carried.late + answered if basket.keys])

    def _submit(self, operator: str, batch: list[Basket], now: int) -> wire.SubmitResult | HoldfastError:
        """Return what the operator's primary says to one batch, or why it said nothing; its log clock is noted (Z2)."""
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
            if len(results) != 1:
                raise OutcomeUnknown(f"{len(results)} results came to one batch")
            if results[0].error:
                raise error_from_data(results[0].error)
        except HoldfastError as why:
            if isinstance(why, CallerBehind):
                self._seen_ms[operator] = int(why.fields.get("stamp_ms", 0))
            return why
        self._seen_ms[operator] = results[0].stamp_ms
        return results[0]

    def _answer(self, batch: list[Basket], result: wire.SubmitResult | HoldfastError) -> list[Basket]:
        """Give every basket of a batch its answer; return those that are answered, or that need another lock."""
        try:
            if isinstance(result, HoldfastError):
                raise result
            outcomes = outcomes_in(result, len(batch))
        except CallerBehind:
            # Z2: nothing was sold here for long. These requests are within their deadlines, so they are no late duplicates.
            self._dispatch(batch)
            return []
        except HoldfastError as error:
            for basket in batch:
                basket.failed(error)
                settle(basket)
            return batch
        now = now_ms()
        finished: list[Basket] = []
        again: list[Basket] = []
        for basket, outcome in zip(batch, outcomes, strict=True):
            if not basket.keys:
                basket.position = (result.epoch, result.lsn, result.hash)
            step = basket.decided(outcome, now)
            if step is Step.ANSWER:
                refused = refused_keys(outcome, basket.keys)
                if refused:
                    self.locker.contention.note_refused(refused)
                settle(basket)
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


def refused_keys(outcome: wire.Outcome, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a basket whose seats others had: all, or those of the holds that a bulk could not make."""
    if outcome.error:
        return keys if outcome.error.get("code") == SeatUnavailable.code else ()
    refused = outcome.value.get("refused")
    if not refused:
        return ()
    numbers = [number for number, error in refused if error.get("code") == SeatUnavailable.code]
    gone = {seat_id for number in numbers for seat_id in outcome.value["seats"][number - 1]}
    return tuple([key for key in keys if key.rpartition("/")[2] in gone])


def outcomes_in(result: wire.SubmitResult, count: int) -> list[wire.Outcome]:
    """Return the outcomes of a batch.

    Raises:
        OutcomeUnknown: The answer does not fit the question.
    """
    try:
        outcomes: list[wire.Outcome] = wire.decode(wire.OUTCOMES, result.outcomes)
    except InvalidRequest as error:
        raise OutcomeUnknown(f"the operator's answer cannot be read: {error}") from error
    if len(outcomes) != count:
        raise OutcomeUnknown(f"{len(outcomes)} answers came to {count} commands")
    return outcomes
