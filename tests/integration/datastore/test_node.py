"""Real data nodes: what is acknowledged is on a majority of disks, whatever is killed, and every copy is the same."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore import wire, wire_ledger
from datastore.commands import HoldEach
from datastore.errors import HoldfastError, InvalidRequest, NotPrimary, OutcomeUnknown, QuorumLost, SeatUnavailable
from datastore.ledger import unseal
from datastore.rows import Kind
from tests.integration.datastore.nodes import CALL_MS, CALM, HASTY, NAMES, OPERATOR, Nodes
from tests.unit.datastore.inventory import SERVICE
from tests.waiting import wait_until

CATCH_UP_S = 20.0


@pytest.fixture
def nodes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """Three nodes with one operator, node-1 leading, a timetable loaded; no node's log may show a fault."""
    made = Nodes(tmp_path, patience=request.param if hasattr(request, "param") else CALM)
    try:
        made.start()
        made.bootstrap()
        made.promote("node-1")
        made.import_timetable("node-1")
        yield made
    finally:
        made.end()
    for name in NAMES:
        assert "Traceback" not in made.log(name).read_text()


def wait_level(nodes: Nodes, *names: str) -> int:
    """Wait until the nodes have applied the same; return the lsn."""
    wait_until(lambda: len({nodes.partition(name).applied_lsn for name in names}) == 1, f"{names} to be level", CATCH_UP_S)
    return nodes.partition(names[0]).applied_lsn


def ledger(nodes: Nodes, name: str) -> list[bytes]:
    """Return all committed entries of a node."""
    found: list[bytes] = []
    while page := nodes.stubs[name].entries(wire_ledger.EntriesRequest(OPERATOR, len(found) + 1), CALL_MS):
        found += page
    return found


def test_a_repeated_request_gets_the_first_answer_also_from_the_next_primary(nodes: Nodes) -> None:
    """Refusals too: who asks twice never learns two things (Z2)."""
    taken, refused = nodes.hold("1A", "1B"), nodes.hold("1B", "1C")
    first = nodes.submit("node-1", taken, refused)
    first[0].unwrap()
    with pytest.raises(SeatUnavailable):
        first[1].unwrap()
    assert first == nodes.submit("node-1", taken, refused)
    nodes.promote("node-2")
    assert first == nodes.submit("node-2", taken, refused)


def hold_each(nodes: Nodes, bulk_id: str, *seats: str) -> list[int]:
    """Hold each seat at node-1, in bulk; return the kinds of the rows that were written."""
    nodes.request += 1
    fence = (1, nodes.request, f"nonce-{nodes.request}")
    prices, percents = tuple((100,) for _ in seats), tuple(0 for _ in seats)
    groups = tuple((seat,) for seat in seats)
    command = HoldEach(bulk_id, b"d", bulk_id, "owner", SERVICE, groups, 900_000, *fence, "USD", prices, percents, 1000, 1000)
    value = nodes.submit("node-1", command)[0].unwrap()
    assert value["refused"] == []
    return [kind for kind, _, _ in unseal(ledger(nodes, "node-1")[value["lsn"] - 1]).entry.events]


def wait_heard(nodes: Nodes) -> None:
    """Wait until node-1 has heard of both others that they have everything."""

    def is_heard() -> bool:
        status = nodes.partition("node-1")
        return [lsn for lsn, _, _ in status.followers.values()] == [status.last_lsn] * 2

    wait_until(is_heard, "both followers to be heard", CATCH_UP_S)


def test_holds_in_bulk_are_written_as_every_copy_reads_them(nodes: Nodes) -> None:
    """A copy that is down may come back with an older program and lead; once all have told theirs one row is enough for all seats."""
    wait_heard(nodes)
    assert hold_each(nodes, "AR.first", "1A") == [Kind.BULK]
    nodes.kill("node-3")
    nodes.promote("node-1")
    assert sorted(hold_each(nodes, "AR.down", "1B", "1C")) == [Kind.SEAT, Kind.SEAT, Kind.BULK]
    nodes.start("node-3")
    wait_heard(nodes)
    assert hold_each(nodes, "AR.up", "2A", "2B") == [Kind.BULK]
    nodes.promote("node-2")
    for seat in ("1A", "1B", "1C", "2A", "2B"):
        with pytest.raises(SeatUnavailable):
            nodes.submit("node-2", nodes.hold(seat))[0].unwrap()


def test_a_node_that_is_not_primary_says_who_is(nodes: Nodes) -> None:
    """The caller goes on to the right node without asking around."""
    with pytest.raises(NotPrimary) as caught:
        nodes.submit("node-2", nodes.hold("1A"))
    assert "node-1" == caught.value.fields["primary"]
    assert "not_primary" == nodes.read("node-3", "seats", service_id=SERVICE).error["code"]


def test_what_was_acknowledged_survives_kill_9_of_all(nodes: Nodes) -> None:
    """Nobody resumes a role (Z16); after a promotion everything acknowledged is there, on every node alike."""
    holds = [nodes.hold(f"{row}{letter}") for row in "12" for letter in "ABCD"]
    for hold in holds:
        nodes.submit("node-1", hold)[0].unwrap()
    nodes.kill()
    nodes.start()
    assert {"replica"} == {nodes.partition(name).role for name in NAMES}
    leader = nodes.promote()
    for hold in holds:
        assert hold.seats == tuple(nodes.read(leader, "hold", hold_id=hold.hold_id).value["seats"])
    wait_level(nodes, *NAMES)
    assert ledger(nodes, "node-1") == ledger(nodes, "node-2") == ledger(nodes, "node-3")


def test_a_replica_that_was_down_catches_up_by_log(nodes: Nodes) -> None:
    """Two of three go on without it; when it returns it gets what it missed, in more than one message."""
    nodes.kill("node-3")
    for _ in range(600):
        nodes.submit("node-1", nodes.hold("3A"))
    nodes.start("node-3")
    lsn = wait_level(nodes, *NAMES)
    assert lsn > 600
    assert ledger(nodes, "node-1") == ledger(nodes, "node-3")


@pytest.mark.parametrize("nodes", [HASTY], indirect=True)
def test_without_a_majority_the_outcome_is_unknown_and_known_later(nodes: Nodes) -> None:
    """A write that two dead replicas never acknowledged is not refused; the same request id has one outcome in the end."""
    nodes.kill("node-2", "node-3")
    hold = nodes.hold("4A")
    with pytest.raises((OutcomeUnknown, NotPrimary)):
        nodes.submit("node-1", hold)
    wait_until(lambda: nodes.partition("node-1").role == "replica", "the primary to step down (R10)", CATCH_UP_S)
    with pytest.raises(NotPrimary):
        nodes.submit("node-1", nodes.hold("4B"))
    nodes.start("node-2", "node-3")
    nodes.promote("node-1")
    nodes.submit("node-1", hold)[0].unwrap()
    assert "hold-00000001" == nodes.read("node-1", "seats", service_id=SERVICE).value["4A"][1]


def test_a_read_is_not_answered_by_a_primary_that_was_replaced(nodes: Nodes) -> None:
    """A reign that a majority has left cannot confirm a read."""
    nodes.promote("node-2")
    nodes.submit("node-2", nodes.hold("5A"))[0].unwrap()
    answer = nodes.read("node-1", "seats", service_id=SERVICE)
    assert answer.error["code"] in ("not_primary", QuorumLost.code)
    assert ["5A"] == list(nodes.read("node-2", "seats", service_id=SERVICE).value)


def test_side_records_are_on_every_disk_and_their_refused_ones_on_none(nodes: Nodes) -> None:
    """Names lie beside the entry of the order that they belong to, never in it (Z12)."""
    hold = nodes.hold("1D")
    nodes.submit("node-1", hold)[0].unwrap()
    kept, refused = b"salt Ada Lovelace", b"salt Grace Hopper"
    digests = [hashlib.blake2b(record, digest_size=32).digest() for record in (kept, refused)]
    confirm = wire.Confirm("confirm-1", b"d", hold.hold_id, "owner", ("ABCDEF",), b"token", digests[0])
    stranger = wire.Confirm("confirm-2", b"d", "hold-unknown", "owner", ("GHJKMN",), b"token", digests[1])
    outcomes = nodes.submit("node-1", confirm, stranger, sides=dict(zip(digests, (kept, refused), strict=True)))
    assert (False, True) == (bool(outcomes[0].error), bool(outcomes[1].error))
    assert kept == nodes.read("node-1", "order", reference="ABCDEF").value["record"]
    wait_level(nodes, *NAMES)
    for name in NAMES:
        assert 0 == nodes.stop(name)
        content = nodes.store(name).read_bytes()
        assert (True, False) == (kept in content, refused in content)


def test_followers_of_the_feed_see_snapshot_and_changes_from_any_node(nodes: Nodes) -> None:
    """A snapshot in small pages and then the feed: the view has the taken seats; holds and orders never leave (Z14)."""
    nodes.submit("node-1", nodes.hold("1A"))[0].unwrap()
    wait_level(nodes, *NAMES)
    rows: list[tuple[int, str, bytes]] = []
    after: tuple[int, str] | None = (0, "")
    start: tuple[int, bytes] | None = None
    while after is not None:
        page = nodes.stubs["node-3"].snapshot(wire.SnapshotRequest("node-3", OPERATOR, after, 2), CALL_MS)
        start = start or (page.lsn, page.hash)
        rows += page.rows
        after = page.next
    assert f"{SERVICE}/1A" == rows[-1][1]
    assert start is not None
    assert [] == nodes.stubs["node-3"].feed(wire.FeedRequest("node-3", {OPERATOR: start}, 0))
    nodes.submit("node-1", nodes.hold("1B"))[0].unwrap()
    parts = nodes.stubs["node-3"].feed(wire.FeedRequest("node-3", {OPERATOR: start}, 5000))
    assert [("ok", start[0] + 1, [f"{SERVICE}/1B"])] == [(part.status, part.lsn, [event[1] for event in part.events]) for part in parts]
    wrong = nodes.stubs["node-3"].feed(wire.FeedRequest("node-3", {OPERATOR: (start[0], b"x" * 32)}, 0))
    assert ["snapshot_needed"] == [part.status for part in wrong]
    ahead = nodes.stubs["node-3"].feed(wire.FeedRequest("node-3", {OPERATOR: (start[0] + 99, b"x" * 32)}, 0))
    assert ["behind"] == [part.status for part in ahead]


def test_due_holds_are_swept_without_a_buyer(nodes: Nodes) -> None:
    """A seat comes back to the map within the bound of 5 s after its hold's end."""
    nodes.submit("node-1", nodes.hold("2A", ttl_ms=300))[0].unwrap()
    wait_until(lambda: not nodes.read("node-1", "seats", service_id=SERVICE).value, "the sweeper", 5.3)


def test_malformed_input_is_refused_and_the_node_lives(nodes: Nodes) -> None:
    """Bytes that are no message, and messages that make no sense, change nothing."""
    stub = nodes.stubs["node-1"]
    for method in ("submit", "read", "feed", "snapshot", "promise", "become", "bootstrap", "append", "entries"):
        with pytest.raises(InvalidRequest):
            stub._call(method, b"\xc1 nonsense", CALL_MS)
    bad = stub.submit([wire.SubmitItem(OPERATOR, b"\xc1"), wire.SubmitItem("NOBODY", wire.encode([]))], CALL_MS)
    assert ["invalid_request", "not_primary"] == [result.error["code"] for result in bad]
    assert "invalid_request" == nodes.read("node-1", "sets").error["code"]
    entry = wire.AppendItem(OPERATOR, (99, "x"), 0, (0, ""), [b"\x01" * 200], 0)
    assert "refused" == stub.append([entry], CALL_MS)[0].status
    with pytest.raises(HoldfastError):
        stub.bootstrap([wire.BootstrapItem("../../etc", {})], CALL_MS)
    nodes.submit("node-1", nodes.hold("1A"))[0].unwrap()


def test_a_node_whose_disk_refuses_a_write_ends_and_acknowledges_nothing(nodes: Nodes) -> None:
    """R11: it exits at once, the other two go on, and with room again it catches up."""
    nodes.kill("node-3")
    nodes.start("node-3", file_bytes_max=nodes.store("node-3").stat().st_size + 200_000)
    full = nodes.running["node-3"]
    for _ in range(400):
        nodes.submit("node-1", nodes.hold("3A"))
    wait_until(lambda: full.poll() is not None, "node-3 to end", CATCH_UP_S)
    assert 74 == nodes.running.pop("node-3").returncode
    fault = nodes.log("node-3").read_text()
    assert "CRITICAL node-3 stops reason=" in fault
    nodes.log("node-3").write_text("")  # The fault was asked for; the fixture looks for others.
    nodes.start("node-3")
    wait_level(nodes, *NAMES)
    assert ledger(nodes, "node-1") == ledger(nodes, "node-3")


def test_a_second_process_on_one_folder_is_refused(nodes: Nodes) -> None:
    """Two processes on one store could both acknowledge."""
    command = [sys.executable, "-m", "datastore", "serve", "--node", "node-1", "--config", str(nodes.config)]
    second = subprocess.run(
        [*command, "--data", str(nodes.folder / "data")], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=20
    )
    assert (78, True) == (second.returncode, "used by another process" in second.stderr)


def test_the_ledger_of_a_running_node_is_verified(nodes: Nodes) -> None:
    """The proof needs nothing but the file; a changed byte in it is found."""
    nodes.submit("node-1", nodes.hold("1A"), nodes.hold("1B"))
    command = [sys.executable, "-m", "datastore", "verify", "--store", str(nodes.store("node-1"))]
    proof = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=20)
    assert (0, True) == (proof.returncode, "no seat ever had two owners" in proof.stdout), proof.stderr
