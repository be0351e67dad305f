"""Nodes that die at once after an answer, alone or all together: what was acknowledged is there, and copies become equal again."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from client import api
from datastore.errors import HoldfastError
from tests.checkers import Answer, History
from tests.faults.buyers import (
    BOTH,
    Buyer,
    assert_replicas_equal,
    assert_sound,
    done_of,
    node_stubs,
    primary_of,
    running,
    seats_of,
    services_of,
    statuses,
    store_of,
    verified_ends,
)
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

WRITES_MISSED = 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("crash")) as made:
        yield made


class Crowd:
    """Buyers who buy single seats of one service, one after another, each its own part of the hall, until told to stop."""

    def __init__(self, cluster: ClusterUnderTest, history: History, service_id: str, count: int, deadline_ms: int = 10_000) -> None:
        self.service_id = service_id
        self.buyers = [Buyer(cluster, history, f"crowd-{number}-of-{service_id}", BOTH, deadline_ms) for number in range(count)]
        self.history = history
        self._seats = seats_of(cluster, service_id)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._buy, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def orders(self) -> int:
        return len(done_of(self.history, self.service_id, "confirm"))

    def _buy(self, number: int) -> None:
        buyer = self.buyers[number]
        for seat in self._seats[number :: len(self.buyers)]:
            if self._over.is_set():
                return
            try:
                buyer.confirm(buyer.hold(self.service_id, [seat]))
            except HoldfastError:
                continue  # It is in the history, with whether it may have happened.


def answered(ask: Callable[[], api.HoldfastError | object], deadline_s: float = 30) -> object:
    """Return what `ask` gives as soon as it gives anything but a failure of the world."""
    found: list[object] = []

    def gives() -> bool:
        try:
            found.append(ask())
        except HoldfastError as error:
            if not error.retryable:
                raise
        return bool(found)

    wait_until(gives, "an answer", deadline_s)
    return found[0]


def test_the_primary_is_killed_at_once_after_the_answer(cluster: ClusterUnderTest) -> None:
    """The order is shown by the others before the node comes back, a repeat gives the first answer, and the copies become equal."""
    history = History()
    for turn in range(3):
        service = services_of(cluster, "GRAND", 3)[0].service_id
        seats = seats_of(cluster, service)[4 * turn : 4 * turn + 4]
        buyer = Buyer(cluster, history, f"killed-primary-{turn}")
        held = buyer.hold(service, seats[2:])
        request_id = f"confirmed-before-the-kill-{turn}"
        victim = primary_of(cluster, "GRAND")
        order = buyer.confirm(buyer.hold(service, seats[:2]), request_id=request_id)
        cluster.kill(victim)
        again = answered(lambda order=order: cluster.client().order(order.reference, token=order.manage_token))  # type: ignore[misc]
        assert isinstance(again, type(order))
        assert (order.reference, "confirmed", order.seats, order.receipt) == (again.reference, again.state, again.seats, again.receipt)
        names = [api.Passenger(f"Passenger-{buyer.name}", seat) for seat in order.seats]
        repeated = buyer.client.confirm(order_hold(history, service, order.reference), names, request_id=request_id)
        assert (order.reference, order.manage_token) == (repeated.reference, repeated.manage_token)
        assert primary_of(cluster, "GRAND") != victim
        assert held.hold_id in [one.hold_id for one in buyer.client.my_holds().holds]
        assert_sound(cluster, history, service)
        cluster.restart(victim)
        assert_replicas_equal(cluster, "GRAND")


def order_hold(history: History, service_id: str, reference: str) -> str:
    """Return the hold that became an order."""
    (found,) = [one.hold_id for one in history.of(service_id, "confirm", Answer.DONE) if one.reference == reference]
    return found


def test_the_primary_is_killed_while_a_crowd_buys(cluster: ClusterUnderTest) -> None:
    """Nobody's acknowledged order is lost, no seat is sold twice, and the crowd goes on with the next primary."""
    history = History()
    service = services_of(cluster, "GRAND", 10)[0].service_id
    with Crowd(cluster, history, service, 6) as crowd:
        for turn in range(2):
            seen = crowd.orders()
            wait_until(lambda seen=seen: crowd.orders() > seen + 20, "the crowd to buy", 30)  # type: ignore[misc]
            victim = primary_of(cluster, "GRAND")
            cluster.kill(victim)
            seen = crowd.orders()
            wait_until(lambda seen=seen: crowd.orders() > seen + 20, f"the crowd to go on without {victim} ({turn})", 30)  # type: ignore[misc]
            cluster.restart(victim)
            assert_replicas_at_work(cluster, victim)
    assert set(history.codes(service)) <= {"", "outcome_unknown", "operator_unavailable"}
    assert_replicas_equal(cluster, "GRAND")
    assert_sound(cluster, history, service, crowd.buyers)


def assert_replicas_at_work(cluster: ClusterUnderTest, node: str) -> None:
    """Wait until a node that came back follows again, so that another may die."""
    stubs = node_stubs(cluster)

    def follows() -> bool:
        found = statuses(stubs, "GRAND")
        ends = [one.last_lsn for one in found.values()]
        return len(found) == 3 and any(one.serving for one in found.values()) and max(ends) - found[node].last_lsn < 50

    wait_until(follows, f"{node} to follow again", 30)
    for stub in stubs.values():
        stub.close()


def test_everything_is_killed_while_a_crowd_buys(cluster: ClusterUnderTest) -> None:
    """After kill -9 of all ten processes each ledger verifies, all agree on what they share, and no acknowledged order is lost."""
    history = History()
    service = services_of(cluster, "GRAND", 17)[0].service_id
    with Crowd(cluster, history, service, 6, deadline_ms=1_500) as crowd:
        wait_until(lambda: crowd.orders() > 30, "the crowd to buy", 30)
        cluster.kill(*cluster.running)
    verified_ends(cluster, "GRAND")
    assert_command_verifies(cluster)
    cluster.restart(*cluster.names)
    cluster.wait_ready()
    assert_replicas_equal(cluster, "GRAND")
    assert_sound(cluster, history, service, crowd.buyers)
    later = Buyer(cluster, history, "after-everything")
    later.confirm(later.hold(service, seats_of(cluster, service)[-2:]))
    assert_sound(cluster, history, service, [*crowd.buyers, later])


def assert_command_verifies(cluster: ClusterUnderTest) -> None:
    """A person sees the same on the command line."""
    command = [sys.executable, "-m", "datastore", "verify", "--store", str(store_of(cluster, "node-1", "GRAND"))]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "no seat ever had two owners" in done.stdout, done.stdout + done.stderr


def test_a_replica_that_missed_writes_catches_up(cluster: ClusterUnderTest) -> None:
    """A replica that was dead while 200 writes went on has them all soon after it is back, with the same hash."""
    history = History()
    service = services_of(cluster, "GRAND", 24)[0].service_id
    (victim, *_others) = sorted({"node-1", "node-2", "node-3"} - {primary_of(cluster, "GRAND")})
    cluster.kill(victim)
    buyer = Buyer(cluster, history, "missed")
    for seat in seats_of(cluster, service)[: WRITES_MISSED // 2]:
        buyer.confirm(buyer.hold(service, [seat]))
    before = assert_lsn(cluster, "GRAND")
    cluster.restart(victim)
    assert assert_replicas_equal(cluster, "GRAND", deadline_s=10) >= before >= WRITES_MISSED
    assert_sound(cluster, history, service, [buyer])


def assert_lsn(cluster: ClusterUnderTest, operator: str) -> int:
    stubs = node_stubs(cluster)
    try:
        return max(one.commit_lsn for one in statuses(stubs, operator).values())
    finally:
        for stub in stubs.values():
            stub.close()


def test_the_one_that_missed_writes_does_not_lead(cluster: ClusterUnderTest) -> None:
    """The only other copy with the writes leads when the primary dies just as the stale one comes back."""
    history = History()
    service = services_of(cluster, "LUM", 24)[0].service_id
    leader = primary_of(cluster, "LUM")
    (stale, holder) = sorted({"node-1", "node-2", "node-3"} - {leader})
    buyer = Buyer(cluster, history, "stale")
    seats = seats_of(cluster, service)
    cluster.kill(stale)
    orders = [buyer.confirm(buyer.hold(service, [seat])) for seat in seats[:10]]
    log = cluster.folders.log(holder)
    told = len(log.read_text(encoding="utf-8"))
    cluster.kill(leader)
    cluster.restart(stale)
    # Both managers may act at once: then the stale one may lead after the holder, which has filled it by then.
    assert holder == primary_of(cluster, "LUM") or "leads operator=LUM" in log.read_text(encoding="utf-8")[told:]
    for order in orders:
        again = cluster.client().order(order.reference, token=order.manage_token)
        assert ("confirmed", order.receipt) == (again.state, again.receipt)
    buyer.confirm(buyer.hold(service, [seats[10]]))
    cluster.restart(leader)
    assert_replicas_equal(cluster, "LUM")
    assert_sound(cluster, history, service, [buyer])
