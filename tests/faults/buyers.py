"""Buyers that write down what they were told, and what the cluster says when all is quiet."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

from client import api
from datastore import messages, wire, wire_ledger
from datastore.edge import Address
from datastore.errors import HoldfastError, NodeUnreachable, OutcomeUnknown
from datastore.events import seats_in
from datastore.ledger import unseal
from datastore.model import SeatState
from datastore.rows import SeatRow
from datastore.stub import NodeStub
from datastore.verification import verify_store
from tests.checkers import Answer, Final, History, Operation, check
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

# Limits of holds do not matter here, and locks end soon enough to be slept through.
OVERLAY = {
    "lockstore": {"ttl_ms": 2_000},
    "loadbalancer": {"owner_holds_max": 10_000, "service_holds_max": 10_000},
}
QUIET_S = 60
VIEW_S = 30
Given = TypeVar("Given")
BOTH = ("balancer-1", "balancer-2")


class Buyer:
    """One owner at one or both balancers; every call is noted in the history, its error is raised."""

    def __init__(
        self,
        cluster: ClusterUnderTest,
        history: History,
        name: str,
        balancers: Sequence[str] = BOTH,
        deadline_ms: int = 10_000,
        card: str = "",
    ) -> None:
        self.name = name
        self.card = card  # Of a cluster that takes payments.
        self.history = history
        self.owner_key = f"owner-key-of-{name}"
        self.client = cluster.client(self.owner_key, balancers, deadline_ms)

    def hold(self, service_id: str, seats: Sequence[str], *, request_id: str = "", ttl_ms: int = 0) -> messages.HoldAnswer:
        request_id = request_id or api.new_request_id()
        lasts_s = ttl_ms / 1000 if ttl_ms else float("inf")
        with self._noted(Operation(self.name, "hold", request_id, service_id, tuple(seats), lasts_s=lasts_s)) as operation:
            answer = self.client.hold(service_id, seats, request_id=request_id, ttl_ms=ttl_ms)
            self.history.done(operation, hold_id=answer.hold_id, seats=answer.seats)
            return answer

    def hold_any(self, service_id: str, count: int, *, request_id: str = "") -> messages.HoldAnswer:
        request_id = request_id or api.new_request_id()
        with self._noted(Operation(self.name, "hold", request_id, service_id, count=count)) as operation:
            answer = self.client.hold_any(service_id, count, request_id=request_id)
            self.history.done(operation, hold_id=answer.hold_id, seats=answer.seats)
            return answer

    def confirm(self, hold: messages.HoldAnswer, *, request_id: str = "") -> messages.OrderAnswer:
        request_id = request_id or api.new_request_id()
        operation = Operation(self.name, "confirm", request_id, hold.service_id, tuple(hold.seats), hold.hold_id)
        with self._noted(operation):
            passengers = [api.Passenger(f"Passenger-{self.name}", seat) for seat in hold.seats]
            answer = self.client.confirm(hold.hold_id, passengers, request_id=request_id, payment_method=self.card)
            self.history.done(operation, reference=answer.reference)
            return answer

    def release(self, hold: messages.HoldAnswer) -> messages.HoldAnswer:
        request_id = api.new_request_id()
        operation = Operation(self.name, "release", request_id, hold.service_id, tuple(hold.seats), hold.hold_id)
        with self._noted(operation):
            answer = self.client.release(hold.hold_id, request_id=request_id)
            self.history.done(operation)
            return answer

    def cancel(self, hold: messages.HoldAnswer, order: messages.OrderAnswer) -> messages.OrderAnswer:
        request_id = api.new_request_id()
        operation = Operation(self.name, "cancel", request_id, hold.service_id, tuple(hold.seats), hold.hold_id)
        with self._noted(operation):
            answer = self.client.cancel(order.reference, order.manage_token, request_id=request_id)
            self.history.done(operation)
            return answer

    @contextmanager
    def _noted(self, operation: Operation) -> Iterator[Operation]:
        self.history.ask(operation)
        try:
            yield operation
        except HoldfastError as error:
            self.history.failed(operation, error.code, maybe=error.maybe_committed)
            raise


def together(work: Callable[[int], None], count: int, timeout_s: float = 60) -> None:
    """Run `work(0)` to `work(count - 1)` at once, each in a thread; raise what the first of them raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            gate.wait(timeout_s)
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
        assert not thread.is_alive(), f"not done after {timeout_s} s"
    if raised:
        raise raised[0]


def gathered(work: Callable[[int], Given], count: int, timeout_s: float = 60) -> list[Given]:
    """Run `work(0)` to `work(count - 1)` at once and return what they gave, in the order in which they ended."""
    given: list[Given] = []
    together(lambda number: given.append(work(number)), count, timeout_s)
    return given


def services_of(cluster: ClusterUnderTest, operator: str, days_ahead: int) -> list[messages.ServiceInfo]:
    """Return an operator's services of the first day from `days_ahead` on that has any."""
    client = cluster.client()
    for days in range(days_ahead, days_ahead + 14):
        found = client.services((date.today() + timedelta(days=days)).isoformat(), operator=operator).services
        if found:
            return found
    raise AssertionError(f"{operator} has no services")


def seats_of(cluster: ClusterUnderTest, service_id: str) -> list[str]:
    return [seat.seat_id for seat in cluster.client().seat_map(service_id).seats]


# --- what is there in the end -------------------------------------------------------------------------------------


def final_of(cluster: ClusterUnderTest, service_id: str, buyers: Sequence[Buyer] = ()) -> Final:
    """Return what the seat map, the manifest and the owners' lists of holds say; they must agree."""
    client = cluster.client()
    operator = client.seat_map(service_id).service.operator
    manifest = client.manifest(cluster.operator_key(operator), service_id)
    maps: list[messages.SeatMapAnswer] = []

    def is_seen() -> bool:
        # A balancer that has just woken up says `partial` until its view has caught up: honest, but not the end yet.
        maps.append(client.seat_map(service_id, min_lsn=manifest.lsn))
        return not maps[-1].partial

    wait_until(is_seen, f"a view of {service_id} at lsn {manifest.lsn}", VIEW_S)
    seen = maps[-1]
    held = {
        seat: hold.hold_id
        for buyer in buyers
        for hold in buyer.client.my_holds().holds
        if hold.service_id == service_id and hold.state == "active"
        for seat in hold.seats
    }
    final = Final({seat.seat_id: seat.state for seat in seen.seats}, {line.seat_id: line.reference for line in manifest.lines}, held)
    assert sorted(final.manifest) == sorted(seat for seat, state in final.states.items() if state == "occupied")
    if buyers:
        assert sorted(held) == sorted(seat for seat, state in final.states.items() if state == "held")
    return final


def assert_sound(cluster: ClusterUnderTest, history: History, service_id: str, buyers: Sequence[Buyer] = ()) -> Final:
    """Fail where the history of a service and what is there in the end contradict each other."""
    final = final_of(cluster, service_id, buyers)
    faults = check(history, service_id, final)
    assert not faults, "\n".join(faults[:20])
    return final


def node_stubs(cluster: ClusterUnderTest) -> dict[str, NodeStub]:
    nodes = [process for process in cluster.plan.processes if process.name.startswith("node-")]
    return {node.name: NodeStub(Address(node.host, node.port), name=node.name) for node in nodes}


def statuses(stubs: dict[str, NodeStub], operator: str) -> dict[str, wire.PartitionStatus]:
    """Return the operator's partition on each node that answers."""
    found: dict[str, wire.PartitionStatus] = {}
    for name, stub in stubs.items():
        try:
            status = stub.status(2_000)
        except (NodeUnreachable, OutcomeUnknown):
            continue
        for one in status.partitions:
            if one.operator == operator:
                found[name] = one
    return found


def primary_of(cluster: ClusterUnderTest, operator: str) -> str:
    """Return the node that serves the operator now; wait for one."""
    stubs = node_stubs(cluster)
    found: list[str] = []

    def one_serves() -> bool:
        found[:] = [name for name, status in statuses(stubs, operator).items() if status.serving]
        return len(found) == 1

    try:
        wait_until(one_serves, f"one node to serve {operator}", QUIET_S)
    finally:
        for stub in stubs.values():
            stub.close()
    return found[0]


def assert_replicas_equal(cluster: ClusterUnderTest, operator: str, deadline_s: float = QUIET_S) -> int:
    """Wait until every node has the operator's whole ledger, then compare it: one hash chain. Return its length."""
    stubs = node_stubs(cluster)
    last = [0]

    def caught_up() -> bool:
        found = statuses(stubs, operator)
        ends = {(one.last_lsn, one.commit_lsn, one.applied_lsn) for one in found.values()}
        last[0] = max((one.last_lsn for one in found.values()), default=0)
        return len(found) == len(stubs) and ends == {(last[0],) * 3} and any(one.serving for one in found.values())

    try:
        wait_until(caught_up, f"all copies of {operator} to be equally long", deadline_s)
        ends = {}
        for name, stub in stubs.items():
            data = stub.entries(wire_ledger.EntriesRequest(operator, last[0], 1), 5_000)
            ends[name] = unseal(data[0]).hash
    except AssertionError as error:
        raise AssertionError(f"{error}: {statuses(stubs, operator)}\n{cluster.evidence()}") from error
    finally:
        for stub in stubs.values():
            stub.close()
    assert len(set(ends.values())) == 1, f"{operator} at lsn {last[0]}: {ends}"
    return last[0]


def verified_ends(cluster: ClusterUnderTest, operator: str) -> dict[str, str]:
    """Verify the operator's ledger in each node's store file as `python -m datastore verify` does; return node -> its hash."""
    found: dict[str, str] = {}
    for process in cluster.plan.processes:
        if process.name.startswith("node-"):
            owner, report = verify_store(store_of(cluster, process.name, operator))
            assert (operator, []) == (owner, report.violations)
            found[process.name] = f"{report.end.lsn}:{report.end.hash.hex()}"
    return found


def seat_rows(cluster: ClusterUnderTest, operator: str, service_id: str) -> dict[str, list[SeatRow]]:
    """Return what the ledger says of a service's seats: seat -> its rows in order."""
    stubs = node_stubs(cluster)
    stub = stubs[primary_of(cluster, operator)]
    found: dict[str, list[SeatRow]] = {}
    lsn = 1
    try:
        while page := stub.entries(wire_ledger.EntriesRequest(operator, lsn), 10_000):
            for sealed in map(unseal, page):
                lsn = sealed.entry.lsn + 1
                said = [seats_in(kind, key, value, sealed.entry.lsn) for kind, key, value in sealed.entry.events]
                for key, row in itertools.chain.from_iterable(rows.items() for rows in said):
                    service, _, seat = key.rpartition("/")
                    if service == service_id:
                        found.setdefault(seat, []).append(row)
    finally:
        for one in stubs.values():
            one.close()
    return found


def assert_one_owner_at_a_time(rows: dict[str, list[SeatRow]]) -> int:
    """Fail unless every seat passes from hold to hold through being free only, under rising fences; return how often it did."""
    taken = 0
    for seat, story in rows.items():
        newest = (0, -1)
        for before, after in itertools.pairwise([None, *story]):
            assert after is not None
            if after.state == SeatState.HELD and (before is None or before.hold_id != after.hold_id):
                assert before is None or before.state == SeatState.FREE, f"{seat}: {before} then {after}"
                assert (after.generation, after.counter) > newest, f"{seat}: {before} then {after}"
                newest = (after.generation, after.counter)
                taken += 1
            elif before is not None and before.hold_id and after.hold_id:
                assert before.hold_id == after.hold_id, f"{seat}: {before} then {after}"
    return taken


def store_of(cluster: ClusterUnderTest, node: str, operator: str) -> Path:
    return cluster.folders.data / node / "partitions" / f"{operator}.sqlite"


def done_of(history: History, service_id: str, kind: str = "hold") -> list[Operation]:
    return history.of(service_id, kind, Answer.DONE)


@contextmanager
def running(folder: Path, datasets: Sequence[str] = ("venues",)) -> Iterator[ClusterUnderTest]:
    """Run a cluster for a module; at its end every ledger on every disk is verified and all copies are equal."""
    with ClusterUnderTest(folder, OVERLAY, datasets=datasets) as cluster:
        yield cluster
        operators = [operator.code for operator in cluster.plan.operators]
        for operator in operators:
            assert_replicas_equal(cluster, operator)
        cluster.stop_all()
        for operator in operators:
            ends = verified_ends(cluster, operator)
            assert len(set(ends.values())) == 1, ends
