"""Messages on the RPyC port of every tier, nearly right and changed at random: an answer or a named error, and everybody lives on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from client import api, processes
from datastore import administration, messages, wire, wire_ledger
from datastore.edge import Address, EdgeClient
from datastore.errors import HoldfastError, NodeUnreachable, OutcomeUnknown
from tests.faults.buyers import OVERLAY, services_of
from tests.fuzzing.mutations import changed, fuzzed
from tests.fuzzing.shapes import encoded, nearly
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

CALL_MS = 60_000
MEMORY_KB_MAX = 300 * 1024
# What a manager's certificate may do to a node, and an administrator's to managers, can change who leads or leave a node out: as it should.
NODE_TYPES: dict[str, Any] = {
    "read": list[wire.ReadItem],
    "feed": wire.FeedRequest,
    "snapshot": wire.SnapshotRequest,
    "entries": wire_ledger.EntriesRequest,
    "check": wire_ledger.CheckCopies,
}
MANAGER_TYPES: dict[str, Any] = {
    "read": tuple[int, list[wire.ReadItem]],
    "feed": wire.FeedRequest,
    "snapshot": wire.SnapshotRequest,
    "ledger": wire_ledger.LedgerRequest,
    "check": wire_ledger.CheckCopies,
    "administer": tuple[int, administration.AskHistory],
}
WAITS = ("watch_seats",)  # Waits for news, as long as it is told to.
ENGINE = "LUM"
heard: dict[str, Counter[str]] = defaultdict(Counter)  # method -> what was answered: also how far the shots came


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    overlay = {**OVERLAY, "datastore": {"feed_wait_ms_max": 20}}
    with ClusterUnderTest(tmp_path_factory.mktemp("ports"), overlay, datasets=("venues",)) as made:
        yield made


@pytest.fixture(scope="module")
def ports(cluster: ClusterUnderTest) -> Iterator[dict[str, EdgeClient]]:
    """A connection to one process of each tier; the node is where the engine under fire is led."""
    names = {"node": "node-3", "manager": "manager-1", "balancer": "balancer-1"}
    made = {tier: EdgeClient(_address(cluster, name), plane="control") for tier, name in names.items()}
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="module", autouse=True)
def everybody_lives(cluster: ClusterUnderTest) -> Iterator[None]:
    """In the end every process is the one that it was, none has grown beyond the bound, and seats are sold. The cluster reads its logs."""
    pids = {name: processes.identity(process.pid) for name, process in cluster.running.items()}
    before = {name: _memory_kb(one.pid) for name, one in pids.items()}
    yield
    for name, one in pids.items():
        assert one.is_alive(), f"{name} ended:\n{cluster.evidence()}"
        assert _memory_kb(one.pid) - before[name] < MEMORY_KB_MAX, name
    service = services_of(cluster, "GRAND", 3)[0].service_id
    client = cluster.client("owner-after-the-fire")

    def sells() -> bool:
        try:
            client.confirm(client.hold_any(service, 1).hold_id, [api.Passenger("Byron")])
        except (NodeUnreachable, OutcomeUnknown):
            return False
        return True

    wait_until(sells, "a sale", 60)


def _address(cluster: ClusterUnderTest, name: str) -> Address:
    process = cluster.plan.process(name)
    return Address(process.host, process.port)


def _memory_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def fire(client: EdgeClient, method: str, payload: bytes) -> bytes:
    """Send it; return the answer, or b"" where it is refused by name."""
    note(f"{method}: {payload[:200]!r}")
    try:
        answer = client.call(method, payload, CALL_MS)
        heard[method]["answered"] += 1
        return answer
    except HoldfastError as error:
        heard[method][error.code] += 1
        assert error.code != "internal" and not isinstance(error, NodeUnreachable | OutcomeUnknown), error
        assert error.detail and len(error.detail) < 2_000, error.detail
        return b""


def of_types(types: dict[str, Any]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Draw a method and a payload: nearly right, and changed further now and then."""

    def payloads(method: str) -> st.SearchStrategy[tuple[str, bytes]]:
        right = nearly(types[method]).map(encoded)
        return st.tuples(st.just(method), st.one_of(right, right, right.flatmap(changed)))

    return st.sampled_from(sorted(types)).flatmap(payloads)


@pytest.mark.timeout(600)
def test_every_port(ports: dict[str, EdgeClient]) -> None:
    """What travellers, clerks and administrators ask of balancers, balancers of managers, managers of nodes, and commands to the engine.

    Many are refused for what they say and not for their form, and some are answered: the fire goes deeper than the first check.
    """

    @fuzzed(120)
    @given(of_types({method: pair[0] for method, pair in messages.METHODS.items() if method not in WAITS}))
    def at_the_balancer(shot: tuple[str, bytes]) -> None:
        fire(ports["balancer"], *shot)

    @fuzzed(60)
    @given(of_types(MANAGER_TYPES))
    def at_the_manager(shot: tuple[str, bytes]) -> None:
        fire(ports["manager"], *shot)

    @fuzzed(60)
    @given(of_types(NODE_TYPES))
    def at_the_node(shot: tuple[str, bytes]) -> None:
        fire(ports["node"], *shot)

    @fuzzed(100)
    @given(st.lists(nearly(wire.AnyCommand), min_size=1, max_size=3))
    def at_the_engine(commands: list[Any]) -> None:
        command_it(ports["manager"], commands)

    at_the_balancer()
    at_the_manager()
    at_the_node()
    at_the_engine()
    codes = {code for answers in heard.values() for code in answers}
    assert {"answered", "invalid_request"} < codes, dict(heard)
    assert len(heard["commands"]) >= 3, heard["commands"]


def command_it(manager: EdgeClient, commands: list[Any]) -> None:
    """Send commands that no balancer sends to the engine of one operator: each is refused or done, alone."""
    item = wire.SubmitItem(ENGINE, encoded(commands))
    answer = fire(manager, "submit", wire.encode((8_000, [item])))
    if answer:
        (result,) = wire.decode(list[wire.SubmitResult], answer)
        assert result.error.get("code", "") not in ("internal", "outcome_unknown", "operator_unavailable"), result.error
        outcomes = wire.decode(wire.OUTCOMES, result.outcomes) if result.outcomes else []
        assert all(one.error.get("code", "") != "internal" for one in outcomes), outcomes
        heard["commands"].update(str(one.error.get("code", "done")) for one in outcomes)
