"""Locks and fences while lock servers die, freeze, restart and lose their disks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from lockstore import admission, servers
from lockstore.errors import LockServerRefused, LockSetNotRecoverable
from lockstore.seatlocks import Contended, Grant, LockRequest, SeatLocks, Unavailable
from tests.integration.lockstore.servers_fixture import LockServerSet
from tests.waiting import wait_until

DEADLINE_S = 10.0
REJOIN_TTL_MS = 300


@pytest.fixture
def five(tmp_path: Path) -> Iterator[LockServerSet]:
    """Five servers for one test to ill-treat."""
    with LockServerSet(tmp_path, 5, timeout_ms=500) as running:
        yield running


@pytest.fixture
def locks(five: LockServerSet) -> Iterator[SeatLocks]:
    client = five.client()
    yield client
    client.close()


def granted(locks: SeatLocks, key: str) -> Grant:
    (outcome,) = locks.acquire_many([LockRequest((key,))])
    assert isinstance(outcome, Grant), outcome
    return outcome


def all_vote(locks: SeatLocks) -> bool:
    return not locks.suspects() and all(state.votes for state in locks.probe())


def test_a_frozen_server_costs_its_timeout_once(five: LockServerSet, locks: SeatLocks) -> None:
    """It is asked once, then left alone by callers until it answers again; nobody waits for it meanwhile."""
    granted(locks, "seat:a/0")
    five.freeze("lock-2")
    before = locks.asked()
    for number in range(1, 41):
        granted(locks, f"seat:a/{number}")
    asked = {name: count - before[name] for name, count in locks.asked().items()}
    assert asked == {"lock-1": 40, "lock-2": 1, "lock-3": 40, "lock-4": 40, "lock-5": 40}
    assert "lock-2" in locks.suspects()
    five.thaw("lock-2")
    wait_until(lambda: not locks.suspects(), "lock-2 is used again", DEADLINE_S)
    before = locks.asked()
    granted(locks, "seat:a/41")
    assert locks.asked()["lock-2"] == before["lock-2"] + 1


def test_a_dead_server_is_found_again_by_a_client_that_never_knew_it(five: LockServerSet) -> None:
    """A client that starts during an outage takes the server into use when it comes."""
    five.kill("lock-4")
    client = five.client()
    try:
        granted(client, "seat:b/1")
        assert set(client.suspects()) == {"lock-4"}
        five.start("lock-4")
        wait_until(lambda: not client.suspects(), "lock-4 is used", DEADLINE_S)
        # The restarted process knows no script; the call is sent again in full, with the same nonce.
        grant = granted(client, "seat:b/2")
        assert [five.value(name, "seat:b/2") for name in five.names] == [grant.nonce.encode()] * 5
    finally:
        client.close()


def test_plain_redis_shows_that_late_acquires_are_real(five: LockServerSet) -> None:
    """A paused server carries out a SET whose client timed out and closed: the reason for fresh nonces."""
    client = five.plain("lock-1")
    client.ping()
    five.freeze("lock-1")
    with pytest.raises(redis.exceptions.TimeoutError):
        client.set("seat:c/1", "late", nx=True, px=60_000)
    client.close()
    five.thaw("lock-1")
    wait_until(lambda: five.value("lock-1", "seat:c/1") == b"late", "the late SET", DEADLINE_S)


def test_a_late_acquire_is_cleaned_up_when_its_server_wakes(five: LockServerSet, locks: SeatLocks) -> None:
    """The release that could not be delivered is handed in later, so the key does not block until its ttl."""
    granted(locks, "seat:d/0")
    five.freeze("lock-1")
    (first,) = locks.acquire_many([LockRequest(("seat:d/1",))], ttl_ms=10_000)
    assert isinstance(first, Grant)
    locks.release_many([first])
    second = granted(locks, "seat:d/1")
    assert second.fence > first.fence
    locks.release_many([second])
    five.thaw("lock-1")
    wait_until(lambda: not locks.suspects(), "lock-1 is used again", DEADLINE_S)
    wait_until(lambda: five.value("lock-1", "seat:d/1") is None, "the late key is gone", 5.0)


def test_two_frozen_of_five_do_not_stop_locks_and_three_do(five: LockServerSet, locks: SeatLocks) -> None:
    """Unavailable names the silent ones; a fourth answer is never invented."""
    granted(locks, "seat:e/0")
    for name in ("lock-1", "lock-2"):
        five.freeze(name)
    granted(locks, "seat:e/1")
    five.freeze("lock-3")
    (outcome,) = locks.acquire_many([LockRequest(("seat:e/2",))])
    assert isinstance(outcome, Unavailable)
    assert {"lock-1", "lock-2", "lock-3"} <= set(outcome.reasons)
    assert [five.value(name, "seat:e/2") for name in ("lock-4", "lock-5")] == [None, None]
    for name in ("lock-1", "lock-2", "lock-3"):
        five.thaw(name)
    wait_until(lambda: isinstance(locks.acquire_many([LockRequest(("seat:e/3",))])[0], Grant), "locks again", DEADLINE_S)


def test_a_killed_server_keeps_counter_marker_and_locks(five: LockServerSet, locks: SeatLocks) -> None:
    """Kill -9 and start again on the same disk: nothing was forgotten, it votes at once."""
    for number in range(20):
        held = granted(locks, f"seat:f/{number}")
    before = five.counter("lock-1")
    for name in five.names:
        five.restart(name)
    assert five.counter("lock-1") == before
    wait_until(lambda: all_vote(locks), "all vote", DEADLINE_S)
    (outcome,) = locks.acquire_many([LockRequest(held.keys)])
    assert outcome == Contended(held.keys)
    assert granted(locks, "seat:f/next").fence > held.fence


def test_a_server_that_lost_its_disk_refuses_until_it_rejoined(five: LockServerSet, locks: SeatLocks) -> None:
    """It grants nothing meanwhile, waits for the longest ttl, and comes back far above its peers."""
    last = granted(locks, "seat:g/1")
    five.lose_disk("lock-5")
    wait_until(lambda: not locks.suspects(), "lock-5 answers", DEADLINE_S)
    granted(locks, "seat:g/2")
    assert five.value("lock-5", "seat:g/2") is None
    state = locks.probe()[4]
    assert (state.votes, state.marker, state.counter) == (False, None, None)
    assert "not initialised" in state.reason
    peers, lost = five.addresses[:4], five.addresses[4]
    waits: list[int] = []
    settings = servers.admin_settings(five.config, five.data)
    counter = admission.rejoin(lost, peers, settings, 1, ttl_max_ms=REJOIN_TTL_MS, waiting=waits.append)
    assert waits[0] > REJOIN_TTL_MS
    assert counter > last.fence[1] + 2**20
    assert five.counter("lock-5") == counter
    grant = granted(locks, "seat:g/3")
    assert five.value("lock-5", "seat:g/3") == grant.nonce.encode()
    with pytest.raises(LockServerRefused, match="admitted already"):
        admission.rejoin(lost, peers, settings, 1, ttl_max_ms=REJOIN_TTL_MS)


def test_initialising_again_never_makes_a_lost_server_new(five: LockServerSet, locks: SeatLocks) -> None:
    """Peers with markers exist, so it rejoins instead."""
    last = granted(locks, "seat:h/1")
    five.lose_disk("lock-1")
    done = five.initialise(ttl_max_ms=REJOIN_TTL_MS)
    assert (done.admitted, done.rejoined) == ((), ("lock-1",))
    assert five.counter("lock-1") == last.fence[1] + 2**20
    assert five.initialise() == admission.Admission()


def test_a_majority_that_lost_its_data_needs_a_new_generation(five: LockServerSet) -> None:
    """Nobody can know any more what was certified."""
    for name in five.names[:3]:
        five.lose_disk(name)
    with pytest.raises(LockSetNotRecoverable, match="generation"):
        five.initialise(ttl_max_ms=REJOIN_TTL_MS)


class Held(NamedTuple):
    """One acquisition as its caller saw it, on the monotonic clock."""

    began_ns: int
    done_ns: int
    grant: Grant


class Outages:
    """Hurts at most two of five servers at a time, in an order that the seed decides."""

    def __init__(self, running: LockServerSet, seed: int) -> None:
        self._running = running
        self._dice = random.Random(seed)
        self._hurt: dict[str, str] = {}
        self.counts = {"freeze": 0, "kill": 0}

    def next(self) -> None:
        """Heal one server if two are hurt, else freeze or kill another."""
        if len(self._hurt) == 2:
            self.heal(self._dice.choice(sorted(self._hurt)))
            return
        name = self._dice.choice([name for name in self._running.names if name not in self._hurt])
        how = self._dice.choice(["freeze", "kill"])
        self.counts[how] += 1
        self._hurt[name] = how
        if how == "freeze":
            self._running.freeze(name)
        else:
            self._running.kill(name)

    def heal(self, name: str) -> None:
        """Bring one server back."""
        if self._hurt.pop(name) == "freeze":
            self._running.thaw(name)
        else:
            self._running.start(name)

    def heal_all(self) -> None:
        for name in list(self._hurt):
            self.heal(name)


def acquire_often(locks: SeatLocks, key: str, times: int, history: list[Held], outages: Outages | None = None) -> None:
    """Lock and release one key again and again, and write down what was seen."""
    for number in range(times):
        if outages is not None and number % 200 == 100:
            outages.next()
        began_ns = time.monotonic_ns()
        grant = locks.acquire((key,), deadline_ms=30_000)
        history.append(Held(began_ns, time.monotonic_ns(), grant))
        locks.release_many([grant])


def check_fences(history: list[Held]) -> None:
    """P1: no fence twice. P2: a fence is greater than that of every acquisition that was done before it began."""
    assert len({held.grant.fence for held in history}) == len(history)
    by_end = sorted(history, key=lambda held: held.done_ns)
    finished, highest = 0, (0, 0)
    for held in sorted(history, key=lambda held: held.began_ns):
        while by_end[finished].done_ns < held.began_ns:
            highest = max(highest, by_end[finished].grant.fence)
            finished += 1
        assert held.grant.fence > highest


def test_fences_are_unique_and_rise_over_ten_thousand_acquisitions_with_outages(tmp_path: Path) -> None:
    """One key, three threads, servers freezing, dying and coming back; both paths of the token are taken."""
    history: list[Held] = []
    with LockServerSet(tmp_path, 5, appendfsync="no", timeout_ms=100, suspect_ms=20) as running:
        main, rival, other = running.client(), running.client(), running.client()
        outages, ended = Outages(running, seed=20_261_121), threading.Event()

        def disturb() -> None:
            """Other keys make the counters differ, as other buyers would."""
            number = 0
            while not ended.wait(0.001):
                number += 1
                held = [grant for grant in other.acquire_many([LockRequest((f"seat:n/{number}",))]) if isinstance(grant, Grant)]
                other.release_many(held)

        threads = [threading.Thread(target=acquire_often, args=(rival, "seat:x/1", 1_500, history)), threading.Thread(target=disturb)]
        try:
            for thread in threads:
                thread.start()
            acquire_often(main, "seat:x/1", 8_500, history, outages)
            threads[0].join(120)
        finally:
            ended.set()
            outages.heal_all()
            threads[1].join(DEADLINE_S)
            for client in (main, rival, other):
                client.close()
    assert len(history) == 10_000
    check_fences(history)
    fast = sum(held.grant.fast for held in history)
    assert fast >= 100 and len(history) - fast >= 100
    assert min(outages.counts.values()) >= 5
