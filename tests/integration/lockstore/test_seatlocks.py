"""SeatLocks against real servers: batches, extension, and redlock-py's interface side by side with redlock-py itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redlock as redlock_py

from lockstore.errors import LockConfigInvalid, LockRequestInvalid, LocksUnavailable, LockTimeout
from lockstore.seatlocks import Contended, Grant, LockRequest, SeatLocks, ServerAddress, Unavailable
from lockstore.servers import ensure_secrets
from tests.integration.lockstore.servers_fixture import LockServerSet
from tests.waiting import wait_until

SEAT = "seat:AR/AR1140-EZE-2026-12-01/14C"
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockServerSet]:
    """Five servers that stay up; tests use keys of their own."""
    with LockServerSet(tmp_path_factory.mktemp("locks"), 5, timeout_ms=1_000) as servers:
        yield servers


@pytest.fixture
def locks(healthy: LockServerSet) -> Iterator[SeatLocks]:
    client = healthy.client()
    yield client
    client.close()


@pytest.fixture
def five(tmp_path: Path) -> Iterator[LockServerSet]:
    """Five servers for one test to ill-treat."""
    with LockServerSet(tmp_path, 5, timeout_ms=500) as servers:
        yield servers


def plain_redlock(servers: LockServerSet) -> redlock_py.Redlock:
    """A redlock-py client as its documentation has it, but for short time-outs."""
    return redlock_py.Redlock([servers.plain(name) for name in servers.names], retry_count=1, retry_delay=0.001)


def only(locks: SeatLocks, *keys: str, hint: int = 0) -> Grant | Contended | Unavailable:
    (outcome,) = locks.acquire_many([LockRequest(keys, hint)])
    return outcome


def granted(locks: SeatLocks, *keys: str, hint: int = 0) -> Grant:
    outcome = only(locks, *keys, hint=hint)
    assert isinstance(outcome, Grant)
    return outcome


def test_a_request_takes_all_its_keys_or_none(healthy: LockServerSet, locks: SeatLocks) -> None:
    """A basket that meets one taken seat leaves nothing behind."""
    first = granted(locks, "seat:a/1", "seat:a/2")
    assert only(locks, "seat:a/3", "seat:a/2") == Contended(("seat:a/2",))
    assert [healthy.value(name, "seat:a/3") for name in healthy.names] == [None] * 5
    locks.release_many([first])
    assert isinstance(only(locks, "seat:a/3", "seat:a/2"), Grant)


def test_within_a_batch_the_first_of_two_wins(locks: SeatLocks) -> None:
    """Requests of one batch that are both granted have no key in common."""
    outcomes = locks.acquire_many([LockRequest(("seat:b/1",)), LockRequest(("seat:b/2", "seat:b/1")), LockRequest(("seat:b/3",))])
    assert [type(outcome) for outcome in outcomes] == [Grant, Contended, Grant]


def test_releases_ride_with_the_next_batch(locks: SeatLocks) -> None:
    """One round frees and takes the same key, with a higher fence."""
    first = granted(locks, "seat:c/1")
    (second,) = locks.acquire_many([LockRequest(("seat:c/1",))], releases=[first])
    assert isinstance(second, Grant)
    assert second.fence > first.fence
    assert second.nonce != first.nonce


def test_a_batch_costs_one_round(locks: SeatLocks) -> None:
    """64 requests, one call to each server."""
    granted(locks, "seat:d/warm-up")
    before = locks.asked()
    outcomes = locks.acquire_many([LockRequest((f"seat:d/{number}",)) for number in range(64)])
    assert all(isinstance(outcome, Grant) and outcome.fast for outcome in outcomes)
    assert {name: count - before[name] for name, count in locks.asked().items()} == dict.fromkeys(before, 1)


def test_keys_may_be_any_text(locks: SeatLocks) -> None:
    """Lengths on the wire count bytes."""
    first = granted(locks, "seat:ópera/fila-ñ/1", "seat:e/1")
    assert only(locks, "seat:ópera/fila-ñ/1") == Contended(("seat:ópera/fila-ñ/1",))
    locks.release_many([first])
    assert isinstance(only(locks, "seat:ópera/fila-ñ/1"), Grant)


def test_a_hint_lifts_the_fence(locks: SeatLocks) -> None:
    """A data node that has seen a higher fence is obeyed; a wild hint is refused, and harms only its own request."""
    base = granted(locks, "seat:f/1").fence[1]
    assert granted(locks, "seat:f/2", hint=base + 1_000).fence[1] == base + 1_001
    wild, tame = locks.acquire_many([LockRequest(("seat:f/3",), hint=2**60), LockRequest(("seat:f/4",))])
    assert isinstance(wild, Unavailable)
    assert "hint" in next(iter(wild.reasons.values()))
    assert isinstance(tame, Grant)


def test_an_extension_keeps_nonce_and_fence(locks: SeatLocks) -> None:
    """Only what is still held is extended."""
    held, gone = granted(locks, "seat:g/1", "seat:g/2"), granted(locks, "seat:g/3")
    locks.release_many([gone])
    extended, refused = locks.extend_many([held, gone], ttl_ms=9_000)
    assert extended is not None
    assert (extended.keys, extended.nonce, extended.fence, extended.extensions) == (held.keys, held.nonce, held.fence, 1)
    assert extended.valid_until_ms > held.valid_until_ms
    assert refused is None


def test_a_lock_that_expired_is_neither_extended_nor_in_the_way(locks: SeatLocks) -> None:
    """Its holder learns that it lost it; the next one gets a higher fence."""
    (old,) = locks.acquire_many([LockRequest(("seat:h/1",))], ttl_ms=50)
    assert isinstance(old, Grant)
    new = locks.acquire(("seat:h/1",), deadline_ms=5_000)
    assert new.fence > old.fence
    assert locks.extend_many([old]) == [None]
    locks.release_many([old])
    assert isinstance(only(locks, "seat:h/1"), Contended)


def test_acquire_waits_for_the_holder_and_then_gives_up(locks: SeatLocks) -> None:
    """Contended to the end is a timeout of its own kind, and retryable."""
    held = granted(locks, "seat:i/1")
    with pytest.raises(LockTimeout) as caught:
        locks.acquire(("seat:i/1",), deadline_ms=30)
    assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)
    assert caught.value.fields["reasons"] == {"seat:i/1": "taken"}
    waiter: list[Grant] = []
    thread = threading.Thread(target=lambda: waiter.append(locks.acquire(("seat:i/1",), deadline_ms=8_000)))
    thread.start()
    locks.release_many([held])
    thread.join(DEADLINE_S)
    assert waiter[0].fence > held.fence


def test_threads_share_one_client(locks: SeatLocks) -> None:
    """Many threads on one seat: one holder at a time, fences unique and rising in the order of holding."""
    fences: list[tuple[int, int]] = []
    holders = 0

    def work() -> None:
        nonlocal holders
        for _ in range(25):
            grant = locks.acquire(("seat:j/1",), deadline_ms=60_000)
            holders += 1
            assert holders == 1
            fences.append(grant.fence)
            holders -= 1
            locks.release_many([grant])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(fences) == 150
    assert fences == sorted(set(fences))


@pytest.mark.parametrize("keys", [(), tuple(f"seat:{n}" for n in range(5_000))], ids=["none", "too many"])
def test_requests_without_sense_are_refused(locks: SeatLocks, keys: tuple[str, ...]) -> None:
    """Before anything is sent."""
    with pytest.raises(LockRequestInvalid):
        locks.acquire_many([LockRequest(keys)])


def test_a_ttl_beyond_the_rejoin_wait_is_refused(locks: SeatLocks) -> None:
    """A server that lost its data stays out for the longest ttl that anybody may use."""
    with pytest.raises(LockRequestInvalid):
        locks.acquire_many([LockRequest(("seat:k/1",))], ttl_ms=10_001)


def test_a_server_of_another_generation_does_not_grant(healthy: LockServerSet) -> None:
    """Clients with a different list of servers must never mix their quorums."""
    passwords = ensure_secrets(healthy.data)
    stranger = SeatLocks(
        healthy.addresses, timeout_ms=1_000, generation=2, username=healthy.config.user, password=passwords.locks
    )
    try:
        outcome = only(stranger, "seat:m/1")
        assert isinstance(outcome, Unavailable)
        assert set(outcome.reasons) == set(healthy.names)
        assert all("generation 1" in reason for reason in outcome.reasons.values())
        assert all("generation 1" in state.reason for state in stranger.probe())
    finally:
        stranger.close()


def test_a_probe_tells_what_each_server_is(healthy: LockServerSet, locks: SeatLocks) -> None:
    """Version, counter, marker, and a clock that moves."""
    states = locks.probe()
    assert [state.address.name for state in states] == healthy.names
    assert all(state.votes and state.clock_advances and state.version and state.marker == 1 for state in states)


# -- redlock-py: the same interface, and what it gets wrong ----------------------------------------------------------


def test_plain_redlock_and_ours_exclude_each_other(healthy: LockServerSet, locks: SeatLocks) -> None:
    """Both ways, lock and release."""
    plain = plain_redlock(healthy)
    theirs = plain.lock("seat:n/1", 5_000)
    assert theirs
    assert only(locks, "seat:n/1") == Contended(("seat:n/1",))
    plain.unlock(theirs)
    ours = granted(locks, "seat:n/1")
    assert plain.lock("seat:n/1", 5_000) is False
    locks.release_many([ours])
    theirs = plain.lock("seat:n/1", 5_000)
    assert theirs
    locks.unlock(theirs)
    assert isinstance(only(locks, "seat:n/1"), Grant)


def test_ours_is_a_drop_in(healthy: LockServerSet, locks: SeatLocks) -> None:
    """The tuple, the bytes and the False of redlock-py; and plain redlock-py can release our lock."""
    lock = locks.lock("seat:o/1", 5_000)
    assert isinstance(lock, redlock_py.Lock)
    assert lock.resource == "seat:o/1" and isinstance(lock.key, bytes) and 0 < lock.validity < 5_000
    assert isinstance(locks, redlock_py.Redlock)
    assert locks.lock("seat:o/1", 1_000) is False
    plain_redlock(healthy).unlock(lock)
    both = locks.lock(("seat:o/1", "seat:o/2"), 5_000)
    assert isinstance(both, redlock_py.Lock) and both.resource == ("seat:o/1", "seat:o/2")
    locks.unlock(both)
    assert locks.get_unique_id() != locks.get_unique_id()


def test_a_dict_is_no_list_of_servers() -> None:
    """redlock-py connects to default ports instead (its issue 19)."""
    with pytest.raises(LockConfigInvalid):
        SeatLocks({"host": "127.0.0.1"})  # type: ignore[arg-type]
    with pytest.raises(LockConfigInvalid):
        SeatLocks([ServerAddress("a", "127.0.0.1", 1), ServerAddress("b", "127.0.0.1", 1)])


def test_a_dead_minority_makes_plain_redlock_raise_and_leak(five: LockServerSet) -> None:
    """The defect, and that ours goes on: granted by the rest, and everything released afterwards."""
    five.kill("lock-5")
    with pytest.raises(redlock_py.MultipleRedlockException):
        plain_redlock(five).lock("seat:p/1", 10_000)
    assert all(five.value(name, "seat:p/1") for name in five.names[:4])
    five.kill("lock-4")
    locks = five.client()
    try:
        grant = granted(locks, "seat:p/2")
        lock = locks.lock("seat:p/3", 5_000)
        locks.unlock(lock)
        locks.release_many([grant])
        assert [five.value(name, key) for name in five.names[:3] for key in ("seat:p/2", "seat:p/3")] == [None] * 6
    finally:
        locks.close()


def test_without_a_majority_nothing_is_granted_and_nothing_stays(five: LockServerSet) -> None:
    """Three of five dead: the error names them, in time, and the survivors are clean."""
    locks = five.client()
    for name in five.names[2:]:
        five.kill(name)
    try:
        outcome = only(locks, "seat:q/1")
        assert isinstance(outcome, Unavailable)
        assert set(five.names[2:]) <= set(outcome.reasons)
        assert [five.value(name, "seat:q/1") for name in five.names[:2]] == [None, None]
        with pytest.raises(LocksUnavailable) as caught:
            locks.acquire(("seat:q/1",), deadline_ms=200)
        assert caught.value.code == "locks_unavailable"
        with pytest.raises(redlock_py.CannotObtainLock):
            locks.lock("seat:q/1", 5_000)
        assert [five.value(name, "seat:q/1") for name in five.names[:2]] == [None, None]
        five.start("lock-3")
        wait_until(lambda: isinstance(only(locks, "seat:q/2"), Grant), "locks after a quorum came back", DEADLINE_S)
    finally:
        locks.close()
