"""Something that happens once: all who wait come through, and nobody before."""

from __future__ import annotations

import threading

from datastore.once import Once
from tests.waiting import wait_until


def test_nobody_comes_through_before_it_is_done() -> None:
    """A wait that ends before says so, however often it is tried."""
    once = Once()
    assert not once.wait(0)
    assert not once.wait(0.001)
    assert not once.wait(-0.5), "a deadline that has passed is no wait without limit"
    assert not once.is_set()


def test_who_waits_and_who_comes_later_all_come_through() -> None:
    """One thread's word is enough for several that wait, and it may be said twice, in the midst of them."""
    once = Once()
    through: list[bool] = []
    waiting = [threading.Thread(target=lambda: through.append(once.wait(60))) for _ in range(8)]
    for thread in waiting:
        thread.start()
    once.set()
    once.set()
    wait_until(lambda: len(through) == 8, "all came through", 60)
    for thread in waiting:
        thread.join()
    assert all(through)
    assert once.is_set()
    assert once.wait(0)
    assert once.wait()
