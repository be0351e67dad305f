"""Real nodes whose disks are lost, put back, damaged or cut short: they come back from a peer while seats are sold."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datastore import wire, wire_ledger
from datastore.errors import HoldfastError
from datastore.store_file import put_sum
from datastore.wire_recovery import RecoverAsk, RecoverReport
from tests.integration.datastore.nodes import CALL_MS, NAMES, OPERATOR, Nodes
from tests.waiting import wait_until

BACK_S = 30.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Three nodes with one operator, node-1 leading, some seats held; no node's log may show a fault."""
    made = Nodes(tmp_path)
    try:
        made.start()
        made.bootstrap()
        made.promote("node-1")
        made.import_timetable("node-1")
        made.submit("node-1", made.hold("1A", "1B"))[0].unwrap()
        yield made
    finally:
        made.end()
    for name in NAMES:
        assert "Traceback" not in made.log(name).read_text()


def wait_level(nodes: Nodes, *names: str) -> int:
    """Wait until the nodes have applied the same; return the lsn."""
    wait_until(lambda: len({nodes.partition(name).applied_lsn for name in names}) == 1, f"{names} to be level", BACK_S)
    return nodes.partition(names[0]).applied_lsn


def ledger(nodes: Nodes, name: str) -> list[bytes]:
    """Return all committed entries of a node."""
    found: list[bytes] = []
    while page := nodes.stubs[name].entries(wire_ledger.EntriesRequest(OPERATOR, len(found) + 1), CALL_MS):
        found += page
    return found


def has_most(nodes: Nodes, name: str, identity: str) -> Callable[[], bool]:
    """Return whether a node has a store of another identity with a log."""

    def there() -> bool:
        found = [status for status in nodes.stubs[name].status(CALL_MS).partitions if status.operator == OPERATOR]
        return bool(found) and found[0].store_uuid != identity and found[0].applied_lsn > 0 and found[0].recovery.startswith("done")

    return there


def settle(path: Path) -> None:
    """Bring all of a store that is not in use into its one file: a reader may have kept the node from doing so at its end."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()


def recover(nodes: Nodes, name: str, action: str, source: str = "") -> RecoverReport:
    return nodes.stubs[name].recover(RecoverAsk(name, [OPERATOR], source, action), CALL_MS)[0]


def test_a_lost_disk_comes_back_by_itself_under_a_new_identity(nodes: Nodes) -> None:
    """An empty folder: the node takes everything from a replica, and is nobody's voter (R14)."""
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    nodes.kill("node-3")
    shutil.rmtree(nodes.folder / "data" / "node-3")
    nodes.start("node-3")
    wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    status = nodes.partition("node-3")
    assert "outside" == status.role
    assert before in status.voters
    assert ledger(nodes, "node-1")[: status.applied_lsn] == ledger(nodes, "node-3")
    report = nodes.stubs["node-3"].recover(RecoverAsk("node-3", [], "", "watch"), CALL_MS)[0]
    assert ("done", "empty", "node-2", 0) == (report.state, report.cause, report.source, report.lost.last_lsn)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "entry"])
def test_a_damaged_file_is_put_aside_and_the_copy_comes_back(nodes: Nodes, damage: str) -> None:
    """Bits, half the file, or an entry that SQLite finds well: the status names the file, and a new identity takes its place."""
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    assert 0 == nodes.stop("node-3")
    path = nodes.store("node-3")
    settle(path)
    if damage == "entry":
        with sqlite3.connect(path) as database:
            body = bytearray(database.execute("SELECT body FROM log WHERE lsn = 2").fetchone()[0])
            body[90] ^= 1
            database.execute("UPDATE log SET body = ?, lsn = lsn WHERE lsn = 2", (bytes(body),))
            database.execute("UPDATE meta SET value = 0 WHERE key = 'verified_lsn'")
            put_sum(database)  # type: ignore[arg-type]  # Both ways to SQLite know `execute`.
        database.close()
    else:
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            for place in range(4096, len(content), 512):
                content[place] ^= 0x10
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    nodes.start("node-3")
    wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    status = nodes.partition("node-3")
    aside = [one.name for one in path.parent.glob("*.quarantined-*") if not one.name.endswith(("-wal", "-shm"))]
    assert [status.aside] == aside
    assert aside[0].endswith("-damaged")
    assert ledger(nodes, "node-1")[: status.applied_lsn] == ledger(nodes, "node-3")


def test_an_old_file_under_the_same_identity_is_noticed_by_the_record_beside_it(nodes: Nodes) -> None:
    """A backup of the file alone is put back: it promised less than the node remembers, so it votes no more (R11)."""
    wait_level(nodes, *NAMES)
    assert 0 == nodes.stop("node-3")
    settle(nodes.store("node-3"))
    backup = nodes.folder / "backup.sqlite"
    shutil.copy(nodes.store("node-3"), backup)
    nodes.start("node-3")
    nodes.promote("node-1")
    for seat in ("2A", "2B", "2C"):
        nodes.submit("node-1", nodes.hold(seat))[0].unwrap()
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    assert 0 == nodes.stop("node-3")
    settle(nodes.store("node-3"))
    shutil.copy(backup, nodes.store("node-3"))
    nodes.start("node-3")
    wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    assert nodes.partition("node-3").aside.endswith("-went-back")


def test_a_whole_disk_that_went_back_is_noticed_by_its_primary(nodes: Nodes) -> None:
    """The record went back as well; the primary still knows what was acknowledged to it in this reign."""
    wait_level(nodes, *NAMES)
    assert 0 == nodes.stop("node-3")
    folder, backup = nodes.folder / "data" / "node-3", nodes.folder / "backup"
    shutil.copytree(folder, backup)
    nodes.start("node-3")
    for seat in ("2A", "2B", "2C"):
        nodes.submit("node-1", nodes.hold(seat))[0].unwrap()
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    nodes.kill("node-3")
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    nodes.start("node-3")
    wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    assert "went back behind what it acknowledged" in nodes.log("node-3").read_text()


def test_a_person_has_a_copy_replaced(nodes: Nodes) -> None:
    """Refused on the primary and for a peer that is none; else it says from whom and why, and leaves no old file behind."""
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    assert "is its primary" in recover(nodes, "node-1", "plan").why
    with pytest.raises(HoldfastError, match="did you mean node-2"):
        recover(nodes, "node-3", "plan", "node-22")
    planned = recover(nodes, "node-3", "plan")
    assert ("planned", "node-2", True, 0) == (planned.state, planned.source, planned.fresh, planned.lost.last_lsn)
    assert "replica" in planned.why
    assert before == nodes.partition("node-3").store_uuid
    recover(nodes, "node-3", "start", "node-1")
    wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    done = recover(nodes, "node-3", "watch")
    assert ("done", "node-1", "") == (done.state, done.source, done.kept)
    assert [] == list(nodes.store("node-3").parent.glob("*.quarantined-*"))
    assert ledger(nodes, "node-1")[: nodes.partition("node-3").applied_lsn] == ledger(nodes, "node-3")


def test_a_tail_that_nobody_confirmed_is_reported_as_lost(nodes: Nodes) -> None:
    """What a cut-off primary wrote alone: the report names the entry and the request in it, and the old file is kept."""
    wait_level(nodes, *NAMES)
    nodes.kill("node-2", "node-3")
    acknowledged = nodes.last_lsn("node-1")
    with pytest.raises(HoldfastError):
        nodes.submit("node-1", nodes.hold("3A", request_id="request-of-nobody"), call_ms=1_000)
    wait_until(lambda: nodes.last_lsn("node-1") > acknowledged, "the entry to be written", BACK_S)
    tail, before = nodes.last_lsn("node-1"), nodes.partition("node-1").store_uuid
    nodes.kill("node-1")
    # With its file damaged it cannot follow by log, which would replace the tail before anybody looked.
    with sqlite3.connect(nodes.store("node-1")) as database:
        database.execute("UPDATE meta SET value = 'no number' WHERE key = 'applied_lsn'")
    database.close()
    nodes.start("node-2", "node-3")
    nodes.promote("node-2")
    nodes.submit("node-2", nodes.hold("3A"), nodes.hold("3B"))[0].unwrap()
    nodes.start("node-1")
    wait_until(has_most(nodes, "node-1", before), "node-1 to have recovered", BACK_S)
    lost = recover(nodes, "node-1", "watch").lost
    assert (tail, tail, ["request-of-nobody"], "") == (lost.first_lsn, lost.last_lsn, lost.request_ids, lost.unreadable)


def test_a_damaged_store_is_never_founded_anew_and_waits_for_a_person_where_told_so(tmp_path: Path) -> None:
    """Half a file: it stays as evidence, no manager can found over the empty store, and `recover` brings it back."""
    nodes = Nodes(tmp_path, "auto_recover = false")
    try:
        nodes.start()
        nodes.bootstrap()
        nodes.promote("node-1")
        nodes.import_timetable("node-1")
        wait_level(nodes, *NAMES)
        assert 0 == nodes.stop("node-3")
        damaged = nodes.store("node-3")
        settle(damaged)
        data = damaged.read_bytes()[: damaged.stat().st_size // 2]
        damaged.write_bytes(data)
        nodes.start("node-3")
        status = nodes.partition("node-3")
        assert ("empty", 0, "") == (status.role, status.last_lsn, status.recovery)
        assert damaged.with_name(status.aside).read_bytes() == data
        alone = [wire.BootstrapItem(OPERATOR, {status.store_uuid: "node-3"})]
        assert {} == nodes.stubs["node-3"].bootstrap(alone, CALL_MS)[0].voters
        assert "waiting" == recover(nodes, "node-3", "start").state
        wait_until(lambda: nodes.partition("node-3").applied_lsn > 0, "node-3 to have recovered", BACK_S)
    finally:
        nodes.end()


def test_seats_are_sold_while_a_copy_comes_back(nodes: Nodes) -> None:
    """No sale fails for it, and the copies are the same in the end."""
    wait_level(nodes, *NAMES)
    before = nodes.partition("node-3").store_uuid
    nodes.kill("node-3")
    shutil.rmtree(nodes.folder / "data" / "node-3")
    stop, failures, sold = threading.Event(), [], 0

    def sell() -> None:
        nonlocal sold
        while not stop.is_set():
            try:
                nodes.submit("node-1", nodes.hold("9A"))
                sold += 1
            except HoldfastError as error:
                failures.append(error)

    seller = threading.Thread(target=sell)
    seller.start()
    try:
        nodes.start("node-3")
        wait_until(has_most(nodes, "node-3", before), "node-3 to have recovered", BACK_S)
    finally:
        stop.set()
        seller.join()
    assert [] == failures
    assert sold > 10
    status = nodes.partition("node-3")
    assert ledger(nodes, "node-1")[: status.applied_lsn] == ledger(nodes, "node-3")
