"""Nodes come and go, primaries move, managers are paused, and nobody who buys hears an error of it."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client import administering, api, cluster, keys, processes, profiles
from client.plan import plan_of
from datastore import administration as wishes
from datastore import wire_ledger
from datastore.errors import SeatUnavailable
from datastore.ledger import unseal
from tests.checkers import History
from tests.faults.buyers import (
    OVERLAY,
    Buyer,
    assert_one_owner_at_a_time,
    assert_sound,
    node_stubs,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
    statuses,
    together,
)
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

MOVE_S = 90
BUYERS = 3


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path, OVERLAY, datasets=("venues",)) as made:
        yield made


class Crowd:
    """Buyers who hold, confirm and give back until told to stop; what they hear is in the history."""

    def __init__(self, cluster: ClusterUnderTest, days_ahead: int = 3) -> None:
        self.cluster = cluster
        self.history = History()
        self.service = services_of(cluster, "GRAND", days_ahead)[0].service_id
        self.seats = seats_of(cluster, self.service)
        self.buyers = [Buyer(cluster, self.history, f"crowd-{number}", deadline_ms=15_000) for number in range(BUYERS)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=together, args=(self._buy, BUYERS, 200), daemon=True)

    def _buy(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            pair = [self.seats[(number + BUYERS * turn) % 60], self.seats[(number + BUYERS * turn + 1) % 60]]
            with contextlib.suppress(SeatUnavailable):
                hold = self.buyers[number].hold(self.service, pair)
                if turn % 7 == 0:
                    self.buyers[number].confirm(hold)
                else:
                    self.buyers[number].release(hold)

    def __enter__(self) -> Crowd:
        self._thread.start()
        self.wait_for_sales(5)
        return self

    def wait_for_sales(self, count: int = 10) -> None:
        seen = len(self.history.of(self.service))
        wait_until(lambda: len(self.history.of(self.service)) >= seen + count, "sales to go on", 40)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def check(self) -> None:
        """Nobody heard an error, and what was acknowledged is what is there."""
        codes = self.history.codes(self.service)
        assert set(codes) <= {"", "seat_unavailable"}, codes
        assert_sound(self.cluster, self.history, self.service, self.buyers)
        assert_one_owner_at_a_time(seat_rows(self.cluster, "GRAND", self.service))


def ask(cluster: ClusterUnderTest, wish: wishes.AnyWish, deadline_ms: int = 20_000) -> Any:
    return administering.ask(cluster.client(), keys.ensure_admin(cluster.folders), wish, deadline_ms)


def wait_done(cluster: ClusterUnderTest, node: str, state: str) -> None:
    last: list[wishes.NodeReport] = []

    def done() -> bool:
        last[:] = [ask(cluster, wishes.LookAtNode(name=node))]
        return last[0].done and last[0].state == state

    try:
        wait_until(done, f"{node} to be a {state}", MOVE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}\n{cluster.evidence()}") from error


def start_node(cluster: ClusterUnderTest, name: str) -> None:
    """Write a node into the cluster's configuration and start it, as `node add` and the supervisor do."""
    (port,) = processes.free_ports(1)
    nodes = [*cluster.mapping["datastore"]["node"], {"name": name, "host": "127.0.0.1", "port": port}]
    cluster.mapping = profiles.merge(cluster.mapping, {"datastore": {"node": nodes}})
    cluster.plan = plan_of(cluster.mapping)
    write_config(cluster)
    cluster.start(name)
    stub = node_stubs(cluster)[name]
    wait_until(lambda: answers(stub), f"{name} to serve", 30)
    report = ask(cluster, wishes.ChangeNode(action="add", name=name, host="127.0.0.1", port=port, by="a test"))
    assert report.state == "member"


def write_config(under_test: ClusterUnderTest) -> None:
    cluster.write_config(under_test.folders, under_test.mapping, Path("harness"), profiles.DEFAULT)


def answers(stub: Any) -> bool:
    from datastore.errors import HoldfastError

    try:
        stub.status(500)
    except HoldfastError:
        return False
    return True


def voters(cluster: ClusterUnderTest, operator: str) -> list[str]:
    """Return the nodes of the operator's voters as its primary has them."""
    found = statuses(node_stubs(cluster), operator)
    return sorted(next((one.voters.values() for one in found.values() if one.serving), ()))


def assert_voters_equal(cluster: ClusterUnderTest, operator: str) -> None:
    """Wait until all voters have the same log, and compare their hashes."""
    stubs = node_stubs(cluster)

    def level() -> bool:
        nodes = voters(cluster, operator)
        found = statuses(stubs, operator)
        return bool(nodes) and len({(found[node].last_lsn, found[node].applied_lsn) for node in nodes if node in found}) == 1

    wait_until(level, f"the voters of {operator} to be level", 30)
    nodes = voters(cluster, operator)
    lsn = statuses(stubs, operator)[nodes[0]].applied_lsn
    hashes = {node: unseal(stubs[node].entries(wire_ledger.EntriesRequest(operator, lsn, 1), 5_000)[0]).hash for node in nodes}
    assert len(set(hashes.values())) == 1, hashes


def test_switchovers_under_load(running: ClusterUnderTest) -> None:
    """Ten planned moves of the primary while people buy: each is where it was wanted, callers wait and hear no error."""
    with Crowd(running) as crowd:
        pauses = []
        for _ in range(10):
            before = primary_of(running, "GRAND")
            (moved,) = ask(running, wishes.MovePrimaries(moves=[wishes.Move("GRAND")], why="a test", by="me"))
            assert not moved.error, (moved, running.evidence())
            assert moved.before == before and moved.after != before
            pauses.append(moved.pause_ms)
            crowd.wait_for_sales(5)
    crowd.check()
    # How long is for benchmarks/failover.py to say; here it is only that each move was seen as one.
    assert all(pause > 0 for pause in pauses), pauses
    history = ask(running, wishes.AskHistory(operator="GRAND"))["GRAND"]
    assert [row.why for row in history][-10:] == ["a test"] * 10
    assert all(row.by.startswith("me at manager-") for row in history[-10:])
    assert [row.before for row in history][1:] == [row.node for row in history][:-1]
    assert [row.epoch[0] for row in history] == sorted({row.epoch[0] for row in history})


def test_three_become_five_and_three_again_under_load(running: ClusterUnderTest) -> None:
    """Two nodes join, one operator is kept on five, then both leave again: nothing is lost, and nobody hears of it."""
    with Crowd(running) as crowd:
        start_node(running, "node-4")
        start_node(running, "node-5")
        ask(running, wishes.PlaceCopies(operator="GRAND", nodes=[f"node-{number}" for number in range(1, 6)]))
        wait_done(running, "node-4", "member")
        wait_done(running, "node-5", "member")
        assert voters(running, "GRAND") == [f"node-{number}" for number in range(1, 6)]
        (moved,) = ask(running, wishes.MovePrimaries(moves=[wishes.Move("GRAND", "node-5")], by="me"))
        assert not moved.error and moved.after == "node-5"
        crowd.wait_for_sales()
        ask(running, wishes.PlaceCopies(operator="GRAND", nodes=["node-2", "node-4", "node-5"]))
        wait_until(lambda: len(voters(running, "GRAND")) == 3, "three voters to be left", MOVE_S)
        for name in ("node-4", "node-5"):
            ask(running, wishes.ChangeNode(action="remove", name=name, by="me"))
            wait_done(running, name, "removed")
            # It hears of it and ends; what it says then is the reason, and it is final.
            wait_until(lambda name=name: running.running[name].poll() == 78, f"{name} to end", 20)  # type: ignore[misc]
        crowd.wait_for_sales()
    crowd.check()
    assert {place for op in ("GRAND", "AR", "FO", "LUM") for place in voters(running, op)} == {"node-1", "node-2", "node-3"}
    for operator in ("GRAND", "AR", "FO", "LUM"):
        assert_voters_equal(running, operator)
    running.running.pop("node-5")
    running.start("node-5")
    wait_until(lambda: running.running["node-5"].poll() == 78, "the removed node to be refused", 20)
    assert "was removed from the cluster" in (running.folders.logs / "node-5.log").read_text()


def test_a_lost_disk_is_replaced_by_itself(running: ClusterUnderTest) -> None:
    """A node comes back without its files: a new identity learns, votes, and the old one is taken out; sales go on."""
    with Crowd(running) as crowd:
        lost = "node-2" if primary_of(running, "GRAND") != "node-2" else "node-3"
        before = statuses(node_stubs(running), "GRAND")[lost].store_uuid
        running.kill(lost)
        shutil.rmtree(running.folders.data / lost)
        crowd.wait_for_sales()
        running.start(lost)

        def replaced() -> bool:
            found = statuses(node_stubs(running), "GRAND")
            leader = next((one for one in found.values() if one.serving), None)
            return leader is not None and lost in leader.voters.values() and before in leader.retired

        wait_until(replaced, "the lost store to be replaced", MOVE_S)
        crowd.wait_for_sales()
    crowd.check()
    assert voters(running, "GRAND") == ["node-1", "node-2", "node-3"]
    assert_voters_equal(running, "GRAND")


def test_paused_failover_stays_paused_whoever_restarts(running: ClusterUnderTest) -> None:
    """Durable: managers and nodes may all be killed. Nobody is promoted until a person says so; then at once."""
    ask(running, wishes.PauseFailover(paused=True, why="maintenance", by="me"))
    dead = primary_of(running, "GRAND")
    running.kill("manager-1", "manager-2", dead)
    running.restart("manager-1", "manager-2")

    def waits() -> bool:
        status = ask(running, wishes.LookAtCluster())
        return status.waiting.get("GRAND", "") == "automatic failover is paused"

    wait_until(waits, "the managers to say that they are paused", 30)
    (moved,) = ask(running, wishes.MovePrimaries(moves=[wishes.Move("GRAND", force=True)], why="by hand", by="me"))
    assert not moved.error and moved.after != dead, moved
    service = services_of(running, "GRAND", 3)[0].service_id
    running.client("a-buyer-after-the-pause").hold(service, seats_of(running, service)[:1])
    ask(running, wishes.PauseFailover(paused=False, by="me"))
    wait_until(lambda: not ask(running, wishes.LookAtCluster()).waiting, "all operators to be served again", 30)
    running.restart(dead)
    running.wait_ready()


def test_failover_needs_no_lock_server(running: ClusterUnderTest) -> None:
    """All lock servers dead: managers cannot keep apart by a lease, and the primary is replaced all the same (R9)."""
    service = services_of(running, "GRAND", 3)[0].service_id
    buyer = running.client("a-buyer-without-locks", deadline_ms=20_000)
    hold = buyer.hold(service, seats_of(running, service)[:2])
    dead = primary_of(running, "GRAND")
    running.kill("lock-1", "lock-2", "lock-3", dead)
    order = buyer.confirm(hold.hold_id, [api.Passenger("Lock", "Less"), api.Passenger("Lock", "Free")])
    assert order.state == "confirmed" and primary_of(running, "GRAND") != dead
    running.restart("lock-1", "lock-2", "lock-3", dead)
    running.wait_ready()
