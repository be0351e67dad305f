"""The locks that stand on real servers, as a person sees them: whose, for how long yet, on how many, and which server said nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstore import servers
from lockstore.seatlocks import Grant, LockRequest, SeatLocks
from tests.integration.lockstore.servers_fixture import LockServerSet
from tests.waiting import wait_until

NAMES = ("balancer-1", "balancer-2", "manager-1")
SEAT = "seat:AR/AR1-EZE-2026-12-01/{}A"


@pytest.fixture
def three(tmp_path: Path) -> LockServerSet:
    return LockServerSet(tmp_path, 3, timeout_ms=500)


def taken(client: SeatLocks, *keys: str) -> Grant:
    (outcome,) = client.acquire_many([LockRequest(keys)], ttl_ms=9_000)
    assert isinstance(outcome, Grant), outcome
    return outcome


def test_what_stands_is_told_and_what_was_given_back_is_not(three: LockServerSet) -> None:
    """Two holders by name; a killed server is named with its reason, and the locks are on the two that are left."""
    with three:
        first, second = (servers.lock_client(three.config, three.data, name) for name in NAMES[:2])
        try:
            assert () == first.standing(NAMES, 100).locks
            grant = taken(first, SEAT.format(1), SEAT.format(2))
            taken(second, SEAT.format(3))
            seen = first.standing(NAMES, 100)
            assert {SEAT.format(1): NAMES[0], SEAT.format(2): NAMES[0], SEAT.format(3): NAMES[1]} == {
                lock.key: lock.holder for lock in seen.locks
            }
            assert {tuple(three.names)} == {lock.servers for lock in seen.locks}
            assert all(0 < lock.left_ms <= 9_000 for lock in seen.locks)
            assert (3, {}, False) == (seen.asked, seen.unread, seen.more)
            assert not [lock for lock in seen.locks if grant.nonce in lock.holder], "who knows a nonce could release the lock"
            assert (2, True) == (len((cut := first.standing(NAMES, 2)).locks), cut.more)
            three.kill("lock-3")
            seen = second.standing(NAMES, 100)
            assert (["lock-3"], {("lock-1", "lock-2")}) == ([*seen.unread], {lock.servers for lock in seen.locks})
            first.release_many([grant])
            wait_until(lambda: [SEAT.format(3)] == [lock.key for lock in second.standing(NAMES, 100).locks], "the release", 20)
            assert ["a-stranger"] != [lock.holder for lock in second.standing((), 100).locks]
        finally:
            first.close()
            second.close()


def test_nonces_differ_whatever_their_mark(three: LockServerSet) -> None:
    """A client with a name draws fresh nonces of full length, and takes and gives back many at once."""
    with three:
        client = servers.lock_client(three.config, three.data, NAMES[0])
        try:
            outcomes = client.acquire_many([LockRequest((SEAT.format(number),)) for number in range(200)])
            grants = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
            assert (200, 200) == (len(grants), len({grant.nonce for grant in grants}))
            assert {32} == {len(grant.nonce) for grant in grants}
            client.release_many(grants)
            assert () == client.standing(NAMES, 1_000).locks
        finally:
            client.close()
