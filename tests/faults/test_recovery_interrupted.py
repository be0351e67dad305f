"""A snapshot on its way while its receiver or its source is killed: it goes on or begins anew, and no half file is ever used."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from datastore import wire
from datastore.errors import HoldfastError
from datastore.wire_recovery import RecoverAsk, RecoverReport
from tests.integration.datastore.nodes import CALL_MS, NAMES, OPERATOR, Nodes
from tests.integration.datastore.test_ledger_files import NAME, book, found
from tests.integration.datastore.test_recovery import ledger, wait_level
from tests.waiting import wait_until

BACK_S = 120.0
# A file of some megabytes, a megabyte a second: time enough to kill somebody on the way.
SETTINGS = "recovery_bytes_per_s = 1048576\n"
FILE_BYTES = 3 * 1024 * 1024
REFUSALS = 2_000
ON_THE_WAY_BYTES = 512 * 1024


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Three nodes whose copies have some megabytes of refused holds: refusals are entries too (Z2)."""
    made = Nodes(tmp_path, SETTINGS)
    try:
        made.start()
        made.bootstrap()
        made.promote("node-1")
        made.import_timetable("node-1")
        made.submit("node-1", made.hold("1A"))[0].unwrap()
        while made.store("node-2").stat().st_size < FILE_BYTES:
            made.submit("node-1", *(made.hold("1A") for _ in range(REFUSALS)))
        wait_level(made, *NAMES)
        yield made
    finally:
        made.end()
    for name in NAMES:
        text = made.log(name).read_text()
        assert "Traceback" not in text
        assert "Fatal Python error" not in text


def lose_disk(nodes: Nodes, name: str) -> str:
    """Take a node's disk away and start it; return the identity that is gone."""
    gone = nodes.partition(name).store_uuid
    nodes.kill(name)
    shutil.rmtree(nodes.folder / "data" / name)
    nodes.start(name)
    return gone


def part(nodes: Nodes, name: str) -> Path:
    return nodes.folder / "data" / name / "incoming" / f"{OPERATOR}.part"


def note(nodes: Nodes, name: str) -> dict[str, Any]:
    """Return what the receiver wrote down of the snapshot that comes, {} where none does any more."""
    file = part(nodes, name).with_suffix(".json")
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return found


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def report_of(nodes: Nodes, name: str) -> RecoverReport | None:
    try:
        found = nodes.stubs[name].recover(RecoverAsk(name, [OPERATOR], "", "watch"), CALL_MS)
    except HoldfastError:
        return None
    return found[0] if found else None


def wait_whole(nodes: Nodes, name: str, gone: str) -> None:
    """Wait until the copy is back; until then the store in use is the empty one, never a part of the new one."""
    seen: list[tuple[int, int]] = []

    def whole() -> bool:
        try:
            found = nodes.partition(name)
        except (HoldfastError, StopIteration):
            return False
        assert gone != found.store_uuid
        seen.append((found.last_lsn, found.applied_lsn))
        return found.applied_lsn > 0

    wait_until(whole, f"{name} to be whole", BACK_S)
    last_lsn, applied_lsn = seen[-1]
    assert {(0, 0)} >= set(seen[:-1])
    assert ledger(nodes, "node-1")[:applied_lsn] == ledger(nodes, name)[:applied_lsn]
    assert last_lsn >= applied_lsn


def test_kills_on_the_way(nodes: Nodes) -> None:
    """The receiver: started again it asks for the rest of the same snapshot. Then its source: whoever is asked next gives a whole one."""
    gone = lose_disk(nodes, "node-3")
    wait_until(lambda: size_of(part(nodes, "node-3")) >= ON_THE_WAY_BYTES, "a part to have come", BACK_S)
    nodes.kill("node-3")
    came, before = size_of(part(nodes, "node-3")), note(nodes, "node-3")
    assert ON_THE_WAY_BYTES <= came < before["offer"][2]
    assert "node-2" == before["source"], "a replica spares the primary"
    nodes.start("node-3")
    wait_until(lambda: size_of(part(nodes, "node-3")) > came, "more to have come", BACK_S)
    # Not once was it begun anew: what is written down, until it is in use, is the same snapshot, now perhaps ready with its digest.
    now = note(nodes, "node-3")
    assert not now or (before["source"], before["offer"][1]) == (now["source"], now["offer"][1])
    why: list[str] = []

    def told() -> bool:
        report = report_of(nodes, "node-3")
        why[:] = [report.why] if report is not None and report.why else []
        return bool(why)

    wait_until(told, "node-3 to say what it does", BACK_S)
    assert "part of its snapshot is here already" in why[0]

    nodes.kill("node-2")
    nodes.start("node-2")
    nodes.promote("node-1")  # It may have heard nobody for a while.
    nodes.submit("node-1", nodes.hold("5A"))[0].unwrap()
    wait_whole(nodes, "node-3", gone)
    wait_until(lambda: (found := report_of(nodes, "node-3")) is not None and found.state == "done", "the report to say so", BACK_S)
    assert [] == list(part(nodes, "node-3").parent.iterdir())


def test_two_that_are_recovered_at_once_leave_a_majority(nodes: Nodes) -> None:
    """Each alone may give up its identity, and both together may not: the operator could not sell ever again (R14)."""
    before = {name: nodes.partition(name).store_uuid for name in NAMES}

    def begin(name: str) -> None:
        nodes.stubs[name].recover(RecoverAsk(name, [OPERATOR], "node-1", "start"), CALL_MS)

    threads = [threading.Thread(target=begin, args=(name,)) for name in ("node-2", "node-3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended: dict[str, RecoverReport] = {}

    def both_ended() -> bool:
        for name in ("node-2", "node-3"):
            report = report_of(nodes, name)
            if report is not None and report.state in ("done", "refused", "failed"):
                ended[name] = report
        return len(ended) == 2 or (len(ended) == 1 and report_of(nodes, next(n for n in ("node-2", "node-3") if n not in ended)) is None)

    wait_until(both_ended, "both recoveries to have ended", BACK_S)
    kept = [name for name in NAMES if nodes.partition(name).store_uuid == before[name]]
    assert 2 == len(kept), "one was replaced, and the others are a majority"
    assert ["done"] == [report.state for name, report in ended.items() if name not in kept]
    nodes.promote("node-1")  # It may have heard nobody for a while.
    nodes.submit("node-1", nodes.hold("4A"))[0].unwrap()


def test_an_erasure_leaves_nothing_on_its_way(nodes: Nodes) -> None:
    """Z13: a snapshot that was taken, one that comes, files put aside: whatever holds the name goes at once; the recovery begins anew."""
    _, record = book(nodes, "2A", NAME)
    wait_level(nodes, *NAMES)
    wait_until(lambda: found(nodes, "node-2", NAME), "the name to be in a file", BACK_S)
    partitions = nodes.store("node-3").parent
    for aside in ("quarantined-20261121T000000Z-damaged", "retired-20261121T000000Z"):
        (partitions / f"AR.sqlite.{aside}").write_bytes(b"bytes with " + NAME)
    nodes.stubs["node-3"].recover(RecoverAsk("node-3", [OPERATOR], "node-2", "start"), CALL_MS)
    wait_until(lambda: size_of(part(nodes, "node-3")) >= ON_THE_WAY_BYTES, "a part to have come", BACK_S)
    assert [path for path in found(nodes, "node-2", NAME) if "/outgoing/" in path]
    nodes.submit("node-1", wire.Erase("erase-00001", b"d", blake2b(record, digest_size=32).digest()))[0].unwrap()
    erased_lsn = nodes.last_lsn("node-1")
    wait_until(lambda: not any(found(nodes, name, NAME) for name in NAMES), "the name to be nowhere", BACK_S)
    wait_until(lambda: (one := report_of(nodes, "node-3")) is not None and one.state == "done", "node-3 to be recovered", BACK_S)
    # What was installed is not the snapshot that was on its way.
    (lsn,) = re.findall(r" recovered operator=AR store=\w+ lsn=(\d+)", nodes.log("node-3").read_text())
    assert int(lsn) >= erased_lsn
    assert not any(found(nodes, name, NAME) for name in NAMES)
