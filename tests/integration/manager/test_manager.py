"""Managers over nodes that speak the wire: founding, promoting, relaying, and their stub."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from datastore import wire
from datastore.administration import AskHistory
from datastore.edge import Address
from datastore.errors import InvalidRequest, NodeUnreachable, OperatorUnavailable
from datastore.settings import ProcessAddress
from manager.config import ManagerConfig
from manager.goals import Goals
from manager.server import ManagerServer
from manager.stub import ManagerStub
from tests.integration.manager.wire_node import WireNode, error_code
from tests.waiting import wait_until

NODES = ["node-1", "node-2", "node-3"]
OPERATORS = {f"A{number}": NODES[number % 3] for number in range(21)}
SUSPICION_MS = 300


@contextmanager
def cluster(
    managers: int = 1, operators: dict[str, str] | None = None
) -> Iterator[tuple[list[WireNode], list[ManagerServer], ManagerStub]]:
    nodes = [WireNode(name) for name in NODES]
    names = [ProcessAddress(f"manager-{number}", "127.0.0.1", 0) for number in range(1, managers + 1)]
    config = ManagerConfig(tuple(names), heartbeat_ms=50, suspicion_ms=SUSPICION_MS, node_timeout_ms=500)
    addresses = {node.name: node.address for node in nodes}
    goals = Goals(addresses, OPERATORS if operators is None else operators, 3)
    servers = [ManagerServer(one.name, config, goals, None) for one in names]
    for server in servers:
        server.start()
    stub = ManagerStub([server.address for server in servers])
    try:
        yield nodes, servers, stub
    finally:
        stub.close()
        for server in servers:
            server.close()
        for node in nodes:
            node.stop()


def serving(stub: ManagerStub) -> dict[str, str]:
    return {place.operator: place.primary for place in stub.topology().operators if place.primary}


def settle(stub: ManagerStub, count: int = len(OPERATORS)) -> None:
    wait_until(lambda: len(serving(stub)) == count, f"{count} operators to be served", 10)


def submit(stub: ManagerStub, operator: str, commands: bytes = b"x", deadline_ms: int = 5_000) -> wire.SubmitResult:
    (result,) = stub.submit([wire.SubmitItem(operator, commands)], deadline_ms)
    return result


def test_all_operators_serve_after_a_first_start() -> None:
    """21 operators are founded and promoted with few messages, each on its configured primary."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        assert serving(stub) == OPERATORS
        calls = [call for node in nodes for call in node.calls]
        # On a busy machine the managers do it in more than one round, each of as few messages.
        rounds = max(sum(method == "promise" for method, *_ in node.calls) for node in nodes)
        assert len(calls) <= 4 * len(nodes) * rounds + 6 and rounds < len(OPERATORS), calls
        history = stub.wish(AskHistory(), 5_000)
        assert sorted(history) == sorted(OPERATORS)
        assert {(row.why, row.by, row.before) for rows in history.values() for row in rows} == {("first start", "manager-1", "")}


def test_two_managers_settle_on_one_primary_each() -> None:
    """Both start at once without lock servers: the duel ends, and both see the same primaries."""
    with cluster(managers=2) as (nodes, servers, _):
        stubs = [ManagerStub([server.address]) for server in servers]
        wait_until(lambda: all(len(serving(one)) == len(OPERATORS) for one in stubs), "both to see all served", 15)
        wait_until(lambda: serving(stubs[0]) == serving(stubs[1]), "both to see the same", 5)
        # One that was deposed in the duel may never hear of it here, where nothing is replicated: a majority has promised beyond it.
        for operator in OPERATORS:
            copies = [node.partitions[operator] for node in nodes]
            in_force = [one for one in copies if one.leads and sum(other.promised <= one.promised for other in copies) >= 2]
            assert len(in_force) == 1, copies


def test_a_manager_that_starts_changes_nothing() -> None:
    """A second manager finds serving primaries and promotes nobody."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        epochs = {place.operator: place.epoch for place in stub.topology().operators}
        config = ManagerConfig((ProcessAddress("late", "127.0.0.1", 0),), heartbeat_ms=50, suspicion_ms=SUSPICION_MS)
        late = ManagerServer("late", config, Goals({node.name: node.address for node in nodes}, OPERATORS, 3), None)
        late.start()
        own = ManagerStub([late.address])
        try:
            settle(own)
            looks = len(own.status().nodes)
            assert looks == 3
            assert {place.operator: place.epoch for place in own.topology().operators} == epochs
        finally:
            own.close()
            late.close()


def test_another_copy_is_promoted_when_a_node_dies_and_callers_wait() -> None:
    """A submit that meets the death waits and is answered by the next primary; the history says who and why."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        operator = "A1"
        dead = next(node for node in nodes if node.name == serving(stub)[operator])
        dead.stop()
        result = submit(stub, operator)
        assert error_code(result) == "" and result.outcomes != b"by " + dead.name.encode()
        settle(stub)
        record = stub.wish(AskHistory(operator=operator), 5_000)[operator][-1]
        assert dead.name not in serving(stub).values()
        assert "was primary" in record.why and record.before == dead.name
        dead.start()
        before = serving(stub)
        wait_until(lambda: dead.name in stub.status().nodes, "the node to be back", 5)
        assert serving(stub) == before


def test_operators_of_one_message_go_to_their_nodes_and_come_back_in_order() -> None:
    """One message for several nodes is answered item by item; a refusal is one item's, not the message's."""
    with cluster() as (_, _, stub):
        settle(stub)
        results = stub.submit([wire.SubmitItem("A0", b"x"), wire.SubmitItem("A1", b"refuse"), wire.SubmitItem("A2", b"x")], 3_000)
        assert [result.operator for result in results] == ["A0", "A1", "A2"]
        assert [error_code(result) for result in results] == ["", "unknown_hold", ""]
        assert [result.value for result in stub.read([wire.ReadItem("A4", "hold", {}), wire.ReadItem("A5", "seats", {})], 3_000)] == [
            ["node-2", "hold"],
            ["node-3", "seats"],
        ]


def test_a_node_that_hangs_delays_only_its_own_operators() -> None:
    """A frozen primary's operator is in doubt at the deadline; others go on meanwhile."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        nodes[0].hang.set()
        doubt: list[wire.SubmitResult] = []
        waiting = threading.Thread(target=lambda: doubt.append(submit(stub, "A0", deadline_ms=3_000)))
        waiting.start()
        for _ in range(20):
            assert error_code(submit(stub, "A1")) == ""
        assert waiting.is_alive()
        waiting.join(20)
        # It may have been carried out: never "not done".
        assert error_code(doubt[0]) == "outcome_unknown" and doubt[0].error["maybe_committed"]


def test_a_lost_reply_is_asked_again_with_the_same_bytes() -> None:
    """The node carried it out and the answer came too late: the same bytes go again, and the caller sees one answer (B10)."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        nodes[0].lose_replies = 1
        assert error_code(submit(stub, "A0", b"once", 6_000)) == ""
        assert [item.commands for item in nodes[0].submitted] == [b"once", b"once"]


def test_a_hint_is_followed() -> None:
    """A node that says who is primary saves the wait for the next look."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        nodes[0].hints["A0"] = "node-2"
        nodes[0].partitions["A0"].leads = False
        nodes[1].partitions["A0"].leads = True
        assert submit(stub, "A0", deadline_ms=2_000).outcomes == b"by node-2"


def test_no_majority_is_not_done() -> None:
    """With two of three nodes gone nothing can be decided, and it is said so at the deadline."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        for node in nodes[:2]:
            node.stop()
        wait_until(lambda: len(stub.status().unreachable) == 2, "the manager to notice", 5)
        wait_until(lambda: "A0" in stub.status().waiting, "A0 to have no primary", 5)
        asked: list[tuple[float, wire.SubmitResult]] = []

        def answered() -> bool:
            asked.append((time.monotonic(), submit(stub, "A0", deadline_ms=1_500)))
            return error_code(asked[-1][1]) != "outcome_unknown"  # On a slow machine the first may still reach a node that is going.

        wait_until(answered, "an answer that no node is behind", 30)
        began, result = asked[-1]
        assert error_code(result) == "operator_unavailable", result
        assert not result.error["maybe_committed"]
        assert 1 < time.monotonic() - began
        assert "1 of 3 copies answer" in stub.status().waiting["A0"]


def test_unknown_operator_is_refused_with_the_nearest() -> None:
    """An operator that no node knows is a refusal, not something to wait for."""
    with cluster() as (_, _, stub):
        settle(stub)
        result = submit(stub, "A111", deadline_ms=5_000)
        assert error_code(result) == "unknown_operator" and "A11" in result.error["fields"]["nearest"]


def test_operators_are_created_once() -> None:
    """A new operator serves when the call returns; asking again, at the twin too, changes nothing."""
    with cluster(managers=2, operators={}) as (_, servers, stub):
        wait_until(lambda: len(stub.topology().reachable) == 3, "all nodes to answer", 5)
        topology = stub.create_operators(["NEW1", "NEW2"], 10_000)
        assert {place.operator for place in topology.operators} == {"NEW1", "NEW2"}
        assert all(place.primary and len(place.nodes) == 3 for place in topology.operators)
        twin = ManagerStub([servers[1].address])
        again = twin.create_operators(["NEW1"], 10_000)
        assert {place.operator: place.epoch for place in again.operators}["NEW1"][0] >= 1
        assert error_code(submit(twin, "NEW2")) == ""
        with pytest.raises(InvalidRequest):
            stub.create_operators(["../etc"], 1_000)


def test_nothing_is_founded_while_a_node_is_missing() -> None:
    """The missing node may have the data: an operator is founded only when all its nodes answer."""
    with cluster(operators={}) as (nodes, _, stub):
        nodes[2].stop()
        wait_until(lambda: "node-3" in stub.status().unreachable, "the manager to notice", 5)
        with pytest.raises(OperatorUnavailable, match="node-3"):
            stub.create_operators(["NEW"], 800)
        assert all("NEW" not in node.partitions for node in nodes)


def test_the_twin_answers_when_a_manager_is_gone() -> None:
    """Callers of a dead manager are answered by the other, within the same call."""
    with cluster(managers=2) as (_, servers, stub):
        wait_until(lambda: all(len(serving(ManagerStub([server.address]))) == len(OPERATORS) for server in servers), "both settled", 15)
        servers[0].close()
        assert error_code(submit(stub, "A0")) == ""
        assert len(serving(stub)) == len(OPERATORS)


def test_feed_and_snapshot_are_relayed_to_the_named_node() -> None:
    """Questions of the views reach the node they name; an unknown or dead one is said at once."""
    with cluster() as (nodes, _, stub):
        settle(stub)
        assert [part.lsn for part in stub.feed(wire.FeedRequest("node-2", {"A0": (0, b"")}, 10))] == [7]
        assert stub.snapshot(wire.SnapshotRequest("node-2", "A0")).lsn == 7
        with pytest.raises(InvalidRequest):
            stub.feed(wire.FeedRequest("node-9", {}, 10))
        nodes[1].stop()
        with pytest.raises(NodeUnreachable):
            stub.feed(wire.FeedRequest("node-2", {}, 10))


def test_an_address_that_is_another_nodes_is_not_believed() -> None:
    """Two names for one process would count its copies twice."""
    node = WireNode("node-1")
    config = ManagerConfig((ProcessAddress("m", "127.0.0.1", 0),), heartbeat_ms=50, suspicion_ms=SUSPICION_MS)
    addresses: dict[str, Address] = {"node-1": node.address, "node-2": node.address}
    server = ManagerServer("m", config, Goals(addresses, {"AA": "node-1"}, 1), None)
    server.start()
    stub = ManagerStub([server.address])
    try:
        wait_until(lambda: "answers as node-1" in stub.status().unreachable.get("node-2", ""), "the mismatch to be seen", 5)
    finally:
        stub.close()
        server.close()
        node.stop()
