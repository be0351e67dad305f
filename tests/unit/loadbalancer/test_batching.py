"""The pipeline's turns: what is gathered goes as one, answers do not wait for the next batch, no operator waits for a busy one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from datastore import wire
from loadbalancer.basket import Basket
from loadbalancer.batching import Pipeline
from loadbalancer.waiting import Waiter, now_ms
from lockstore.seatlocks import Grant, LockOutcome, LockRequest
from tests.unit.loadbalancer.test_basket import DRAFT
from tests.waiting import wait_until

DEADLINE_MS = 30_000
numbers = itertools.count()


class Grants:
    """Lock servers that grant everything and note how many a round had."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.threads: set[str] = set()
        self.slow_s = 0.0

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        self.rounds.append(len(requests))
        self.threads.add(threading.current_thread().name)
        threading.Event().wait(self.slow_s)
        return [Grant(request.keys, "0" * 32, (1, 1), now_ms() + 5_000, True) for request in requests]

    def release_many(self, grants: Sequence[Grant]) -> None:
        pass


class Decides:
    """Managers that answer each batch when it is let through."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []  # operator, commands
        self.gates: dict[str, threading.Semaphore] = {}

    def submit(self, items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        (item,) = items
        count = len(wire.decode(wire.COMMANDS, item.commands))
        self.asked.append((item.operator, count))
        gate = self.gates.get(item.operator)
        if gate is not None:
            gate.acquire()
        outcomes = wire.encode([wire.Outcome(1, {"number": number}) for number in range(count)])
        return [wire.SubmitResult(item.operator, outcomes, 1, 1, stamp_ms=1)]


def basket(operator: str) -> Basket:
    return Basket(operator, now_ms() + DEADLINE_MS, keys=(f"seat:{operator}/S/{next(numbers)}",), draft=DRAFT, waiter=Waiter(1))


def begin(made: Pipeline, one: Basket) -> None:
    made.gather(one)
    made.go()


@contextmanager
def pipeline(lanes: int) -> Iterator[tuple[Pipeline, Grants, Decides]]:
    locks, managers, broken = Grants(), Decides(), list[str]()
    made = Pipeline(locks, managers, lanes=lanes, batch_max=64, on_broken=lambda: broken.append("broken"))
    made.start()
    try:
        yield made, locks, managers
    finally:
        made.close()
        for gate in managers.gates.values():
            gate.release(1_000)
    assert broken == []


def test_what_is_gathered_goes_in_one_round_of_its_own_thread() -> None:
    """Nothing happens before `go`; then one round on the thread that calls it, and no waiting for the operator there."""
    with pipeline(lanes=2) as (made, locks, managers):
        managers.gates["AR"] = threading.Semaphore(0)
        baskets = [basket("AR") for _ in range(5)]
        for one in baskets:
            made.gather(one)
        assert locks.rounds == []
        made.go()
        assert locks.rounds == [5]
        assert locks.threads == {threading.current_thread().name}
        assert not any(one.waiter.is_done for one in baskets)
        made.go()
        assert locks.rounds == [5]
        wait_until(lambda: managers.asked == [("AR", 5)], "the one batch", 10)
        assert not made.is_idle
        managers.gates["AR"].release()
        for one in baskets:
            assert not one.waiter.wait(one.deadline_ms)[0].error
        wait_until(lambda: made.is_idle, "the lane to be free", 10)


def test_answers_leave_while_the_next_batch_is_under_way() -> None:
    """A lane that goes on at once leaves the last batch's answers to another thread."""
    with pipeline(lanes=1) as (made, _, managers):
        gate = managers.gates["AR"] = threading.Semaphore(0)
        first, second = basket("AR"), basket("AR")
        answering, answered = threading.Event(), threading.Event()
        for one in (first, second):
            begin(made, one)
            wait_until(lambda: len(managers.asked) == 1, "the first batch", 10)

        def answer(outcomes: list[wire.Outcome]) -> None:
            answering.set()
            answered.wait(60)

        first.waiter.then(answer)
        gate.release()
        assert answering.wait(60)
        wait_until(lambda: len(managers.asked) == 2, "the second batch", 10)
        answered.set()
        gate.release()
        assert not second.waiter.wait(second.deadline_ms)[0].error


def test_rounds_that_take_long_are_the_lockers() -> None:
    """Who reads for many callers waits for one slow round, not for the next; a quick one makes it do rounds again."""
    with pipeline(lanes=2) as (made, locks, _):
        for slow_s, by in ((0.1, "MainThread"), (0.1, "locker"), (0.0, "locker"), (0.0, "MainThread")):
            locks.slow_s = slow_s
            locks.threads.clear()
            one = basket("AR")
            begin(made, one)
            assert not one.waiter.wait(one.deadline_ms)[0].error
            assert locks.threads == {by}


def test_what_is_under_way_is_answered_before_the_end() -> None:
    """Closing lets a batch come back, and its answers leave."""
    with pipeline(lanes=1) as (made, _, managers):
        gate = managers.gates["AR"] = threading.Semaphore(0)
        one = basket("AR")
        begin(made, one)
        wait_until(lambda: len(managers.asked) == 1, "the batch", 10)
        made.close()
        gate.release()
        assert not one.waiter.wait(one.deadline_ms)[0].error


def test_a_busy_operator_keeps_no_thread_from_another() -> None:
    """One thread, two operators: it does not stay with the one whose queue is never empty."""
    with pipeline(lanes=1) as (made, _, managers):
        gate = managers.gates["BUSY"] = threading.Semaphore(0)
        for _ in range(3):
            begin(made, basket("BUSY"))
        wait_until(lambda: len(managers.asked) == 1, "the first batch", 10)
        other = basket("QUIET")
        begin(made, other)
        begin(made, basket("BUSY"))
        gate.release()
        assert not other.waiter.wait(other.deadline_ms)[0].error
        assert [operator for operator, _ in managers.asked[:2]] == ["BUSY", "QUIET"]
