"""What the locker tells a basket whose turn comes too late."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from loadbalancer.basket import Basket
from loadbalancer.batching import Locker, Waiter, now_ms
from lockstore.seatlocks import Grant, LockOutcome, LockRequest, Unavailable
from tests.unit.loadbalancer.test_basket import DRAFT, KEYS


class SlowAndDown:
    """Lock servers that are all down, and say so only when `until` has passed."""

    def __init__(self, until_ms: int) -> None:
        self.until_ms = until_ms
        self.rounds = 0

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        self.rounds += 1
        threading.Event().wait(max(0, self.until_ms - now_ms()) / 1000)
        return [Unavailable({"lock-1": "down"}) for _ in requests]

    def release_many(self, grants: Sequence[Grant]) -> None:
        raise AssertionError("nothing was granted")


def test_behind_one_that_found_no_quorum_the_reason_is_the_same() -> None:
    """Two baskets for the same seats, one round without a quorum that lasts past both deadlines: neither met another buyer's lock."""
    deadline_ms = now_ms() + 60
    locks = SlowAndDown(deadline_ms + 5)
    locker = Locker(locks, lambda baskets: None, 64)
    waiter = Waiter(2)
    locker.put([Basket("AR", deadline_ms, keys=KEYS, draft=DRAFT, waiter=waiter, place=place) for place in range(2)])
    thread = threading.Thread(target=locker.run, daemon=True)
    thread.start()
    codes = [outcome.error.get("code") for outcome in waiter.wait(deadline_ms + 5_000)]
    locker.close()
    thread.join(5)
    assert ["locks_unavailable", "locks_unavailable"] == codes
    assert locks.rounds == 1
    assert KEYS[0] not in locker.ordering
