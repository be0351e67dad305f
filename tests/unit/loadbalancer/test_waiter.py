"""A caller's wait for its batch."""

from __future__ import annotations

import threading

from datastore import wire
from loadbalancer.batching import Waiter, now_ms


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
