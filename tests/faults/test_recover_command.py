"""`holdfast recover`, `cluster status` and `cluster fix` against disks that are healthy, empty, old and damaged, with sales going on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client import exit_codes, keys, recovering
from datastore import wire
from datastore.errors import HoldfastError
from datastore.wire_recovery import RecoverAsk
from tests.checkers import History
from tests.faults.buyers import (
    OVERLAY,
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    node_stubs,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
    statuses,
    store_of,
)
from tests.faults.sellers import Sales
from tests.faults.test_deposed import WiredCluster
from tests.faults.test_frozen import direct_hold, sent_to
from tests.integration.datastore.test_recovery import settle
from tests.integration.harness import ClusterUnderTest
from tests.integration.test_cli import Terminal
from tests.waiting import wait_until

BACK_S = 90.0
# Nothing comes back before somebody asks for it.
WAITS_FOR_A_PERSON = {**OVERLAY, "datastore": {"auto_recover": False}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("recover"), WAITS_FOR_A_PERSON, datasets=("venues",)) as made:
        yield made
        assert_replicas_equal(made, "GRAND", BACK_S)


@pytest.fixture
def person(cluster: ClusterUnderTest, tmp_path: Path) -> Terminal:
    return Terminal(cluster, tmp_path / "person")


def replica_of(cluster: ClusterUnderTest, operator: str = "GRAND") -> str:
    """Return a node that does not lead the operator."""
    primary = primary_of(cluster, operator)
    return next(name for name in ("node-3", "node-2", "node-1") if name != primary)


def copy_at(cluster: ClusterUnderTest, node: str, operator: str = "GRAND") -> wire.PartitionStatus:
    stubs = node_stubs(cluster)
    try:
        return statuses(stubs, operator)[node]
    finally:
        for stub in stubs.values():
            stub.close()


def wait_node(cluster: ClusterUnderTest, node: str) -> None:
    stubs = node_stubs(cluster)
    try:
        wait_until(lambda: node in statuses(stubs, "GRAND"), f"{node} to answer", BACK_S)
    finally:
        for stub in stubs.values():
            stub.close()


def recovered(person: Terminal, node: str, *more: str, operator: str = "GRAND") -> dict[str, Any]:
    """Have the operator's copy at a node recovered; return the final report. While a primary is being chosen it is refused: again."""
    found: list[dict[str, Any]] = []

    def done() -> bool:
        ended = person.run("recover", node, "--operator", operator, "--json", *more)
        if ended.returncode in (exit_codes.NO_ANSWER, exit_codes.DECLINED) and not ended.stdout.startswith('{\n  "node"'):
            return False
        (report,) = json.loads(ended.stdout)["copies"]
        found[:] = [report]
        return bool(report["state"] == "done")

    wait_until(done, f"{node} to be recovered", BACK_S)
    return found[0]


def wait_votes(cluster: ClusterUnderTest, node: str, besides: str) -> None:
    """Wait until the node's copy votes under another identity than `besides`."""

    def votes() -> bool:
        try:
            found = copy_at(cluster, node)
        except KeyError:
            return False
        return found.role == "replica" and found.store_uuid != besides

    wait_until(votes, f"{node} to vote again", BACK_S)


def test_a_healthy_copy_is_replaced_while_seats_are_sold(cluster: ClusterUnderTest, person: Terminal) -> None:
    """First only said, then done: from a named peer, under a new identity that votes in the end; no caller hears an error."""
    node, primary = replica_of(cluster), primary_of(cluster, "GRAND")
    before, history = copy_at(cluster, node).store_uuid, History()
    with Sales(cluster, history) as sales:
        (planned,) = person.json("recover", node, "--operator", "grand", "--dry-run")["copies"]
        assert ("planned", 0) == (planned["state"], planned["lost"]["last_lsn"])
        assert planned["source"] not in ("", node)
        assert before == copy_at(cluster, node).store_uuid
        told = person.run("recover", node, "--operator", "GRAND", "--from", primary)
        assert exit_codes.DONE == told.returncode, told.stderr
        assert f"GRAND: from {primary}" in told.stderr
        assert "nothing is lost" in told.stderr
        assert f"after: GRAND: recovered from {primary}" in told.stdout
        sales.go_on()
        now = copy_at(cluster, node)
        assert "replica" == now.role
        assert before != now.store_uuid
    assert [] == sales.errors
    assert "" == now.aside, "a replaced file that had nothing of its own stays nowhere"
    assert_sound(cluster, history, sales.service, [sales.buyer])


def test_what_must_not_be_replaced_is_refused(cluster: ClusterUnderTest, person: Terminal) -> None:
    """The primary, a node that is none, a source that is none: each said, with the nearest right one, and nothing is changed."""
    primary, replica = primary_of(cluster, "GRAND"), replica_of(cluster)
    before = copy_at(cluster, primary).store_uuid
    refused = person.run("recover", primary, "--operator", "GRAND")
    assert exit_codes.DECLINED == refused.returncode
    assert "holdfast switchover GRAND" in refused.stderr
    for words, hint in (
        (("recover", "node-33"), "did you mean node-3"),
        (("recover", replica, "--from", "node-11"), "did you mean node-1"),
        (("recover", replica, "--operator", "GRAN"), "did you mean GRAND"),
        (("recover", "lock-server", "lock-11"), "did you mean lock-1"),
    ):
        done = person.run(*words)
        assert exit_codes.INVALID == done.returncode, done.stderr
        assert hint in done.stderr
    assert before == copy_at(cluster, primary).store_uuid


@pytest.mark.parametrize("fault", ["empty", "old", "damaged"])
def test_a_lost_old_or_damaged_disk_comes_back_by_the_command(
    cluster: ClusterUnderTest, person: Terminal, tmp_path: Path, fault: str
) -> None:
    """The command brings the copy back under a new identity while seats are sold; a damaged file is kept, and told of."""
    node, history = replica_of(cluster), History()
    folder = cluster.folders.data / node
    if fault == "old":
        cluster.kill(node)
        shutil.copytree(folder, tmp_path / "old")
        cluster.start(node)
        wait_node(cluster, node)
    with Sales(cluster, history, days_ahead=20, name=f"buyer-{fault}") as sales:
        sales.go_on(5)
        before = copy_at(cluster, node).store_uuid
        cluster.kill(node)
        if fault == "damaged":
            settle(store_of(cluster, node, "GRAND"))  # Else the write-ahead log has the pages that are damaged here.
            data = bytearray(store_of(cluster, node, "GRAND").read_bytes())
            data[4096:] = bytes(byte ^ 0x55 for byte in data[4096:])
            store_of(cluster, node, "GRAND").write_bytes(bytes(data))
        else:
            shutil.rmtree(folder)
        if fault == "old":
            shutil.copytree(tmp_path / "old", folder)
        cluster.start(node)
        wait_node(cluster, node)
        report = recovered(person, node)
        sales.go_on()
    assert 0 == report["lost"]["last_lsn"]
    wait_votes(cluster, node, before)
    assert_replicas_equal(cluster, "GRAND", BACK_S)
    aside = [path.name for path in store_of(cluster, node, "GRAND").parent.glob("GRAND.sqlite.quarantined-*-damaged")]
    assert (fault == "damaged") == bool(aside)
    if aside:
        lines = {line["operator"]: line for line in person.json("cluster", "status")["partitions"]}
        assert [aside[0]] == [copy["aside"] for copy in lines["GRAND"]["copies"] if copy["node"] == node]
    assert_sound(cluster, history, sales.service, [sales.buyer])
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", sales.service))


def test_the_status_is_told_by_whoever_is_left(cluster: ClusterUnderTest, person: Terminal) -> None:
    """Without balancers a manager tells it, without managers the nodes do; what is down is said, and the exit code is 7."""
    balancers, managers = ("balancer-1", "balancer-2"), ("manager-1", "manager-2")
    cluster.kill(*balancers)
    try:
        for silent in (balancers, (*balancers, *managers)):
            if managers[0] in silent:
                cluster.kill(*managers)
            said = person.json("cluster", "status", code=exit_codes.NO_ANSWER)
            states = {line["name"]: line["verdict"] for line in said["processes"]}
            assert {name: "down" for name in silent} == {name: states[name] for name in (*balancers, *managers) if states[name] != "ok"}
            assert ["ok"] * 3 == [states[f"node-{number}"] for number in (1, 2, 3)]
            assert "GRAND" in [line["operator"] for line in said["partitions"]]
        assert "no balancer answers" in person.run("cluster", "status").stdout
    finally:
        cluster.restart(*(name for name in (*managers, *balancers) if name not in cluster.running))
        cluster.wait_ready()


def test_what_a_cut_off_primary_wrote_alone_is_reported_as_lost(tmp_path: Path) -> None:
    """The others cannot reach it, it can reach them: the command names the request, keeps the old file, and nobody was told of it."""
    made = WiredCluster(tmp_path)
    try:
        with made:
            service = services_of(made, "GRAND", 3)[0].service_id
            seats, history = seats_of(made, service), History()
            buyer = Buyer(made, history, "the-other-side", deadline_ms=30_000)
            buyer.hold(service, seats[:1])
            lonely = primary_of(made, "GRAND")
            before = copy_at(made, lonely).store_uuid
            made.isolate(lonely)
            stub = node_stubs(made)[lonely]
            with pytest.raises(HoldfastError):
                sent_to(stub, direct_hold(service, seats[5], "written-alone", 2**30, "3" * 32))
            stub.close()
            buyer.confirm(buyer.hold(service, [seats[5]]))
            # It may ask the others now, and they still cannot tell it what is committed.
            for pair, line in made.wires.items():
                if pair[0] == lonely:
                    line.mend()
            ask = recovering.asker(made.client(), keys.read_secret(made.folders.secrets / "admin.key"))
            planned = ask(RecoverAsk(lonely, ["GRAND"], "", "plan"))
            assert "written-alone" in recovering.plan_words(planned[0])
            steps = list(recovering.progress(ask, lonely, recovering.started(ask, lonely, planned), wait_s=BACK_S))
            (report,) = steps[-1]
            assert "done" == report.state
            assert 0 < report.lost.first_lsn <= report.lost.last_lsn
            assert "written-alone" in report.lost.request_ids
            assert store_of(made, lonely, "GRAND").with_name(report.kept).exists()
            made.mend()
            wait_votes(made, lonely, before)
            assert_replicas_equal(made, "GRAND", BACK_S)
            assert_sound(made, history, service, [buyer])
    finally:
        for line in made.wires.values():
            line.close()
