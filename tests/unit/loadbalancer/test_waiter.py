"""A caller's wait for its batch."""

from __future__ import annotations

import threading

from datastore import wire
from loadbalancer.waiting import Deadlines, Waiter, now_ms


def test_all_places_wake_the_caller_once() -> None:
    """However many threads settle places, the caller wakes with every outcome in its place."""
    for _ in range(50):
        waiter = Waiter(40)

        def settle(first: int, waiter: Waiter = waiter) -> None:
            for place in range(first, 40, 4):
                waiter.settle(place, wire.Outcome(place))

        threads = [threading.Thread(target=settle, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        assert [outcome.lsn for outcome in waiter.wait(now_ms() + 5_000)] == list(range(40))
        for thread in threads:
            thread.join(5)


def test_what_is_missing_at_the_deadline_is_not_known() -> None:
    """Outcomes that came are given, the others are outcome_unknown; a late one disturbs nobody."""
    waiter = Waiter(2)
    waiter.settle(1, wire.Outcome(7))
    first, second = waiter.wait(now_ms())
    assert (first.error["code"], first.error["maybe_committed"], second.lsn) == ("outcome_unknown", True, 7)
    waiter.settle(0, wire.Outcome(8))


def test_nothing_to_wait_for() -> None:
    """A batch whose every hold was refused at the border waits for nobody."""
    assert Waiter(0).wait(now_ms()) == []


def test_who_comes_second_carries_on_once() -> None:
    """Outcomes before `then`, after it, or from another thread at the same moment: it is called once, with all of them."""
    for first in ("outcome", "then", "race"):
        for _ in range(50 if first == "race" else 1):
            waiter = Waiter(2)
            heard: list[list[int]] = []
            steps = [lambda w=waiter: [w.settle(place, wire.Outcome(place)) for place in range(2)]]
            steps.append(lambda w=waiter, h=heard: w.then(lambda outcomes: h.append([outcome.lsn for outcome in outcomes])))
            threads = [threading.Thread(target=step) for step in (steps if first == "outcome" else steps[::-1])]
            for thread in threads:
                thread.start()
                if first != "race":
                    thread.join(5)
            for thread in threads:
                thread.join(5)
            waiter.expire()
            assert heard == [[0, 1]]


def test_one_who_does_not_wait_hears_at_the_deadline() -> None:
    """What is missing then is not known; what comes later is heard by nobody, and a waiter that was discarded hears nothing."""
    deadlines = Deadlines()
    thread = threading.Thread(target=deadlines.run, daemon=True)
    thread.start()
    heard: list[list[wire.Outcome]] = []
    came = threading.Event()
    late, done = Waiter(2), Waiter(1)
    for waiter in (late, done):
        waiter.then(lambda outcomes: (heard.append(outcomes), came.set()))  # type: ignore[func-returns-value]
    late.settle(1, wire.Outcome(7))
    deadlines.discard(done, deadlines.add(done, now_ms()))
    deadlines.add(late, now_ms())
    assert came.wait(5)
    deadlines.close()
    thread.join(5)
    late.settle(0, wire.Outcome(8))
    ((first, second),) = heard
    assert (first.error["code"], second.lsn) == ("outcome_unknown", 7)
