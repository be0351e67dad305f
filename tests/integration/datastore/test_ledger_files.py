"""Sealed segments, full checks, back-filling and erasures on real node processes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import pytest

from datastore import wire, wire_ledger
from datastore.ledger import genesis, verify_chain
from tests.integration.datastore.nodes import BASE_MS, NAMES, OPERATOR, READY_S, Nodes
from tests.waiting import wait_until

SETTINGS = "segment_entries = 16\ntail_entries = 16"
SEATS = [f"{row}{letter}" for row in "12345" for letter in "ABCD"]
NAME = b"Wilhelmina Featherstonehaugh of Gloucestershire"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path, SETTINGS)
    try:
        made.start()
        made.bootstrap()
        made.promote("node-1")
        made.import_timetable("node-1")
        yield made
    finally:
        made.end()


def trade(nodes: Nodes, entries: int, leader: str = "node-1") -> None:
    """Write that many entries: a hold and its release, again and again."""
    for number in range(entries // 2):
        hold = nodes.hold(SEATS[2 + number % 18])
        nodes.submit(leader, hold)[0].unwrap()
        release = wire.Release(f"release-{hold.hold_id}", b"d", hold.hold_id, hold.owner)
        nodes.submit(leader, release)[0].unwrap()


def check(nodes: Nodes, name: str, at_lsn: int = 0, deep: bool = False) -> wire_ledger.CheckReply:
    return nodes.stubs[name].check([wire_ledger.CheckItem(OPERATOR, at_lsn, deep)], 5000)[0]


def segment_files(nodes: Nodes, name: str) -> dict[str, bytes]:
    folder = nodes.store(name).with_suffix(".segments")
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.segment"))} if folder.is_dir() else {}


def whole_ledger(nodes: Nodes, name: str) -> list[bytes]:
    """Return all committed entries of a node, proved to be one chain."""
    found: list[bytes] = []
    while page := nodes.stubs[name].entries(wire_ledger.EntriesRequest(OPERATOR, len(found) + 1), 5000):
        found += page
    verify_chain(found, genesis(OPERATOR))
    return found


def wait_sealed(nodes: Nodes, lsn: int, *names: str) -> None:
    def sealed() -> bool:
        return all(check(nodes, name).ledger.sealed_lsn >= lsn for name in names or NAMES)

    wait_until(sealed, f"entries up to {lsn} to be sealed", READY_S)


def wait_level(nodes: Nodes, *names: str) -> int:
    """Wait until the named nodes have applied the same entries; return how many."""

    def level() -> bool:
        found = [nodes.partition(name) for name in names]
        return len({status.applied_lsn for status in found}) == 1 and found[0].applied_lsn == found[0].last_lsn

    wait_until(level, "the nodes to be level", READY_S)
    return nodes.partition(names[0]).applied_lsn


def test_old_entries_are_sealed_alike_everywhere_and_read_as_before(nodes: Nodes) -> None:
    """Z13: equal segment files on all nodes, one chain through them, equal digests, and a ledger that a stranger can verify."""
    trade(nodes, 80)
    lsn = wait_level(nodes, *NAMES)
    wait_sealed(nodes, 48)
    wait_until(lambda: len({tuple(segment_files(nodes, name).items()) for name in NAMES}) == 1, "equal segments", READY_S)
    assert len(segment_files(nodes, "node-1")) >= 3
    ledgers = [whole_ledger(nodes, name) for name in NAMES]
    assert ledgers[0] == ledgers[1] == ledgers[2] and len(ledgers[0]) == lsn
    digests = {check(nodes, name).digests[-1] for name in NAMES}
    assert 1 == len(digests) and lsn == next(iter(digests))[0]
    command = [sys.executable, "-m", "datastore", "verify", "--store", str(nodes.store("node-2"))]
    proof = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=30)
    assert (0, True) == (proof.returncode, f"{lsn} entries" in proof.stdout), proof.stderr


def test_busy_replicas_are_compared_at_one_lsn(nodes: Nodes) -> None:
    """I4: a digest asked for at an lsn to come is that of the same moment on every node, whatever was written since."""
    trade(nodes, 4)
    lsn = wait_level(nodes, *NAMES)
    for name in NAMES:
        check(nodes, name, at_lsn=lsn + 5)
    trade(nodes, 12)
    wait_level(nodes, *NAMES)
    noted = [dict(check(nodes, name).digests)[lsn + 5] for name in NAMES]
    assert noted[0] == noted[1] == noted[2]


def test_a_node_killed_while_it_seals_has_every_entry_when_it_returns(nodes: Nodes) -> None:
    """Wherever the kill falls between two writes, the store starts as itself and seals to the same files."""
    draw = random.Random(7)
    identity = nodes.partition("node-3").store_uuid
    for _ in range(4):
        trade(nodes, 20 + 2 * draw.randrange(12))
        nodes.kill("node-3")
        nodes.start("node-3")
        assert identity == nodes.partition("node-3").store_uuid
    lsn = wait_level(nodes, *NAMES)
    wait_sealed(nodes, (lsn - 16) // 16 * 16)
    assert whole_ledger(nodes, "node-1") == whole_ledger(nodes, "node-3")
    wait_until(lambda: segment_files(nodes, "node-1") == segment_files(nodes, "node-3"), "equal segments", READY_S)


def test_damage_is_located_and_healed_from_a_peer(nodes: Nodes) -> None:
    """The full check names file and entry; a segment comes back from a peer; a row that nothing wrote is found by its digest."""
    trade(nodes, 70)
    wait_level(nodes, *NAMES)
    wait_sealed(nodes, 48)
    whole = segment_files(nodes, "node-3")
    first, second, *_ = whole
    nodes.stop("node-3")
    folder = nodes.store("node-3").with_suffix(".segments")
    (folder / first).write_bytes(whole[first][:-30] + bytes(30))
    (folder / second).unlink()
    nodes.start("node-3")
    wait_until(lambda: segment_files(nodes, "node-3") == whole, "both segments to be back", READY_S)
    log = nodes.log("node-3").read_text()
    assert f"ledger damaged operator=AR lsn=1 file={first}" in log
    asked = check(nodes, "node-3", deep=True)
    wait_until(lambda: check(nodes, "node-3").ledger.checks_done >= asked.check, "the full check", READY_S)
    report = check(nodes, "node-3").ledger
    assert ("", []) == (report.damage, report.missing) and report.verified_lsn >= 48
    nodes.stop("node-3")
    # A row that no entry ever wrote: SQLite and the chain see nothing wrong.
    script = "import apsw,sys; d=apsw.Connection(sys.argv[1]); d.execute(\"INSERT INTO row VALUES (1, 'X/1', x'00')\").fetchall()"
    subprocess.run([sys.executable, "-c", script, str(nodes.store("node-3"))], check=True, timeout=20)
    nodes.start("node-3")
    wait_until(lambda: "another digest" in check(nodes, "node-3").ledger.damage, "the changed row to be found", READY_S)


def test_an_erased_name_is_in_no_file_of_any_node(nodes: Nodes) -> None:
    """Z12: rows, free pages, write-ahead logs, segments, files put aside: nowhere, also at a node that was down meanwhile."""
    reference, record = book(nodes, "1A", NAME)
    book(nodes, "1B", b"somebody else")
    for number in range(30):  # Records around it, so that pages split and are rebuilt.
        book(nodes, SEATS[2 + number % 18], b"passenger %d " % number * 20, cancel=True)
    wait_level(nodes, *NAMES)
    wait_sealed(nodes, 64)
    assert all(found(nodes, name, NAME) for name in NAMES)
    nodes.stop("node-3")
    aside = nodes.store("node-3").with_name("AR.sqlite.quarantined-20261121T000000Z-damaged")
    aside.write_bytes(nodes.store("node-3").read_bytes())
    digest = blake2b(record, digest_size=32).digest()
    outcome = nodes.submit("node-1", wire.Erase("erase-00001", b"d", digest))[0]
    assert outcome.unwrap()["erased"]
    wait_level(nodes, "node-1", "node-2")
    wait_until(lambda: not any(found(nodes, name, NAME) for name in ("node-1", "node-2")), "the name to be gone", READY_S)
    nodes.start("node-3")
    wait_level(nodes, *NAMES)
    wait_until(lambda: not found(nodes, "node-3", NAME), "the name to be gone at the node that was down", READY_S)
    order = nodes.read("node-1", "order", reference=reference).value
    assert b"" == order["record"]
    assert all(found(nodes, name, b"somebody else") for name in NAMES)
    assert whole_ledger(nodes, "node-1") == whole_ledger(nodes, "node-3")
    assert not nodes.submit("node-1", wire.Erase("erase-00002", b"d", digest))[0].unwrap()["erased"], "gone is gone"


def test_a_replica_that_lags_takes_entries_whose_record_is_erased(nodes: Nodes) -> None:
    """The record is nowhere any more, so the entry travels without it, and the ERASE entry that follows says why."""
    nodes.stop("node-3")
    reference, record = book(nodes, "1A", NAME)
    digest = blake2b(record, digest_size=32).digest()
    replacement = b"salt-nobody"
    command = wire.Erase("erase-00001", b"d", digest, blake2b(replacement, digest_size=32).digest())
    nodes.submit("node-1", command, sides={command.replacement: replacement})[0].unwrap()
    assert replacement == nodes.read("node-1", "order", reference=reference).value["record"]
    nodes.start("node-3")
    lsn = wait_level(nodes, *NAMES)
    assert not found(nodes, "node-3", NAME)
    assert 1 == len({check(nodes, name).digests[-1] for name in NAMES}) and lsn > 3


def test_a_late_duplicate_is_not_decided_anew(nodes: Nodes) -> None:
    """Z2: an hour after its caller last heard the log clock a command is refused, and told the time for its next try."""
    commands = wire.encode([nodes.hold("1A")])
    stub = nodes.stubs["node-1"]
    old = stub.submit([wire.SubmitItem(OPERATOR, commands, {}, BASE_MS - 3_700_000)], 5000)[0]
    assert ("caller_behind", True) == (old.error["code"], old.error["fields"]["stamp_ms"] >= BASE_MS)
    again = stub.submit([wire.SubmitItem(OPERATOR, commands, {}, old.error["fields"]["stamp_ms"])], 5000)[0]
    assert {} == again.error and again.stamp_ms >= BASE_MS


def book(nodes: Nodes, seat: str, name: bytes, cancel: bool = False) -> tuple[str, bytes]:
    """Hold and confirm a seat with a side record around `name`; return the booking reference and the record."""
    hold = nodes.hold(seat)
    nodes.submit("node-1", hold)[0].unwrap()
    record = b"salt-" + name + b"-%d" % nodes.request
    digest = blake2b(record, digest_size=32).digest()
    reference = f"R{nodes.request:05}"
    command = wire.Confirm(f"confirm-{hold.hold_id}", b"d", hold.hold_id, hold.owner, (reference,), b"token", digest)
    nodes.submit("node-1", command, sides={digest: record})[0].unwrap()
    if cancel:
        nodes.submit("node-1", wire.Cancel(f"cancel-{hold.hold_id}", b"d", reference, b"token"))[0].unwrap()
    return reference, record


def found(nodes: Nodes, name: str, text: bytes) -> list[str]:
    """Return the files of a node, and its log, that hold the text."""
    files = [path for path in (nodes.folder / "data" / name).rglob("*") if path.is_file()]
    holding = []
    for path in [*files, nodes.log(name)]:
        with suppress(FileNotFoundError):  # It has gone meanwhile, as it should.
            if text in path.read_bytes():
                holding.append(str(path))
    return holding
