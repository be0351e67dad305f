"""Real processes: managers, nodes and lock servers together, killed and frozen."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore import wire
from datastore.administration import AskHistory
from datastore.errors import NodeUnreachable, OutcomeUnknown
from manager.stub import ManagerStub
from tests.integration.manager.processes import MANAGERS, NODES, Processes
from tests.waiting import freeze, wait_until

OPERATORS = {f"A{number:02}": NODES[number % 3] for number in range(21)}
START_S = 20


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Yield a cluster that is not started yet; its parameter, where there is one, is the suspicion in milliseconds."""
    cluster = Processes(tmp_path, OPERATORS, getattr(request, "param", 1_000))
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def stub(processes: Processes) -> Iterator[ManagerStub]:
    one = ManagerStub([processes.addresses[name] for name in MANAGERS])
    try:
        yield one
    finally:
        one.close()


def primaries(stub: ManagerStub) -> dict[str, str]:
    try:
        return {place.operator: place.primary for place in stub.topology().operators if place.primary}
    except (NodeUnreachable, OutcomeUnknown):
        return {}


def epochs_of(stub: ManagerStub) -> dict[str, tuple[int, str]]:
    try:
        return {place.operator: place.epoch for place in stub.topology().operators}
    except (NodeUnreachable, OutcomeUnknown):
        return {}


def settle(stub: ManagerStub, processes: Processes, what: str) -> None:
    try:
        wait_until(lambda: primaries(stub).keys() == OPERATORS.keys(), what, START_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{processes.logs()}") from error


def commit(stub: ManagerStub, operator: str, request_id: str, deadline_ms: int = 10_000) -> wire.Outcome:
    command = wire.SetOperator(request_id, b"d", operator, "A name", "airline", b"")
    (result,) = stub.submit([wire.SubmitItem(operator, wire.encode([command]))], deadline_ms)
    assert not result.error, result.error
    (outcome,) = wire.decode(wire.OUTCOMES, result.outcomes)
    assert not outcome.error, outcome.error
    assert isinstance(outcome, wire.Outcome)
    return outcome


def test_start_kill_everything_and_start_again(processes: Processes, stub: ManagerStub) -> None:
    """All serve, and after kill -9 of everything all serve again, and what was acknowledged is there."""
    for name in (*NODES, *MANAGERS):
        processes.start(name)
    settle(stub, processes, "all operators to serve")
    first = {operator: commit(stub, operator, f"first-{operator}") for operator in OPERATORS}
    for name in (*NODES, *MANAGERS):
        processes.kill(name)
    for name in (*NODES, *MANAGERS):
        processes.start(name)
    settle(stub, processes, "all operators to serve again")
    for operator, outcome in first.items():
        assert commit(stub, operator, f"first-{operator}") == outcome


def test_managers_that_take_turns_begin_with_the_preferred_nodes(processes: Processes, stub: ManagerStub) -> None:
    """With lock servers one manager at a time looks after an operator. Without, two may cross, and any copy may come to lead."""
    processes.start_locks()
    try:
        for name in (*NODES, *MANAGERS):
            processes.start(name)
        settle(stub, processes, "all operators to serve")
        assert primaries(stub) == OPERATORS, processes.logs()
    finally:
        processes.stop_locks()


def test_the_primary_is_killed_while_its_caller_waits(processes: Processes, stub: ManagerStub) -> None:
    """With lock servers: a write sent to a primary killed a moment ago is answered by the next one, once and for all."""
    processes.start_locks()
    try:
        for name in (*NODES, *MANAGERS):
            processes.start(name)
        settle(stub, processes, "all operators to serve")
        before = commit(stub, "A01", "before-1")
        dead = primaries(stub)["A01"]
        processes.kill(dead)
        after = commit(stub, "A01", "after-01")
        assert after.lsn > before.lsn
        assert commit(stub, "A01", "before-1") == before
        wait_until(lambda: dead not in primaries(stub).values() and len(primaries(stub)) == len(OPERATORS), "all moved", 10)
        moved = stub.wish(AskHistory(operator="A01"), 5_000)["A01"][-1]
        assert f"{dead} was primary" in moved.why and (moved.before, moved.node) == (dead, primaries(stub)["A01"])
    finally:
        processes.stop_locks()


def test_a_frozen_primary_is_replaced_and_does_not_sell_on(processes: Processes, stub: ManagerStub) -> None:
    """Frozen past the suspicion, then continued: it follows the new primary, and nothing that was acknowledged is lost."""
    for name in (*NODES, *MANAGERS):
        processes.start(name)
    settle(stub, processes, "all operators to serve")
    frozen = primaries(stub)["A02"]
    freeze(processes.pid(frozen))
    try:
        outcome = commit(stub, "A02", "frozen-1", 15_000)
    finally:
        os.kill(processes.pid(frozen), signal.SIGCONT)
    assert primaries(stub)["A02"] != frozen
    wait_until(lambda: frozen in stub.status().nodes, "the frozen node to be back", 10)
    assert commit(stub, "A02", "frozen-1") == outcome

    def follows() -> bool:
        rows = {node: row for node, seen in stub.status().nodes.items() for row in seen.partitions if row.operator == "A02"}
        return rows[frozen].role == "replica" and rows[frozen].applied_lsn >= outcome.lsn

    wait_until(follows, "the frozen node to follow", 10)


# A node that a busy machine holds up for a second shall not be replaced here.
@pytest.mark.parametrize("processes", [30_000], indirect=True)
def test_a_manager_dies_and_nobody_notices(processes: Processes, stub: ManagerStub) -> None:
    """The twin answers; the manager that comes back changes no epoch."""
    for name in (*NODES, *MANAGERS):
        processes.start(name)
    settle(stub, processes, "all operators to serve")
    # Two managers that start at one moment may both name a primary: it is over when both see the same, and every one of them sells.
    seen = [ManagerStub([processes.addresses[name]]) for name in MANAGERS]

    def agreed() -> bool:
        said = [epochs_of(one) for one in seen]
        for operator in OPERATORS:
            commit(stub, operator, f"settled-{operator}", 30_000)
        return len(said[0]) == len(OPERATORS) and all(epochs == said[0] == epochs_of(one) for epochs, one in zip(said, seen, strict=True))

    try:
        wait_until(agreed, "both managers to see the same", START_S)
        epochs = epochs_of(stub)
    finally:
        for one in seen:
            one.close()
    processes.kill(MANAGERS[0])
    commit(stub, "A00", "twin-001")
    processes.start(MANAGERS[0])
    back = ManagerStub([processes.addresses[MANAGERS[0]]])
    try:
        settle(back, processes, "the restarted manager to see all")
        assert epochs == epochs_of(back)
    finally:
        back.close()
