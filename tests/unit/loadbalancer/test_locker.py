"""What the locker tells a basket whose turn comes too late."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from loadbalancer.basket import Basket
from loadbalancer.locker import Locker
from loadbalancer.waiting import Waiter, now_ms
from lockstore.seatlocks import Grant, LockOutcome, LockRequest, Unavailable
from tests.unit.loadbalancer.test_basket import DRAFT, KEYS
from tests.waiting import wait_until


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


class OneAtATime:
    """Lock servers that grant everything and find out whether two rounds ever overlap."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.overlapped = False
        self.granted = 0

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        if not self.busy.acquire(blocking=False):
            self.overlapped = True
            return [Unavailable({}) for _ in requests]
        threading.Event().wait(0.0005)
        self.granted += len(requests)
        self.busy.release()
        return [Grant(request.keys, "0" * 32, (1, 1), now_ms() + 5_000, True) for request in requests]

    def release_many(self, grants: Sequence[Grant]) -> None:
        pass


def test_a_basket_put_in_at_any_moment_gets_its_round() -> None:
    """Threads that do a round themselves and the locker's own take turns; nothing put in between is left lying."""
    locks = OneAtATime()
    granted: list[Basket] = []
    locker = Locker(locks, granted.extend, 64)
    thread = threading.Thread(target=locker.run, daemon=True)
    thread.start()

    def put(number: int) -> None:
        for place in range(20):
            key = (f"seat:AR/S/{number}x{place}",)
            basket = Basket("AR", now_ms() + 20_000, keys=key, draft=DRAFT, waiter=Waiter(1))
            granted.extend(locker.put([basket], at_once=place % 2 == 0))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    wait_until(lambda: len(granted) == 80, "all baskets to get their locks", 20)
    locker.close()
    thread.join(5)
    assert (80, False) == (locks.granted, locks.overlapped)
