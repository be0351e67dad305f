"""What a snapshot of a store is, on the fake and on SQLite: one moment, cut at what is committed, another store's own once adopted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datastore.digest import EMPTY, as_bytes
from datastore.ledger import BATCH, Entry, Position, SealedEntry, genesis, position_of, seal, unseal
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.rows import Kind
from datastore.snapshot_files import At, check, take
from datastore.store import SqliteStore
from datastore.store_port import Store

ONE, TWO = Epoch(1, "m"), Epoch(2, "n")
FAST = 1 << 40


class Kept:
    """A store of one kind: `taken` gives a snapshot of it, checked and open, as its receiver has it."""

    def __init__(self, store: Store, taken: Callable[[int], Store]) -> None:
        self.store = store
        self.taken = taken


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "memory":
        memory = MemoryStore("AR", "the-source")
        return Kept(memory, memory.snapshot)
    sqlite = SqliteStore(tmp_path / "AR.sqlite", "AR")
    request.addfinalizer(sqlite.close)

    def taken(lsn: int) -> Store:
        out = tmp_path / f"taken-{lsn}.part"
        last = unseal(sqlite.entries(lsn, 1, FAST)[0])
        offered = take(sqlite.path, out, FAST, At(lsn, *last.entry.epoch, last.hash.hex()))
        assert "" == check(out, "AR", offered.sha256, offered.at.lsn, offered.at.hash)
        copy = SqliteStore(out, "AR", verified=True)
        request.addfinalizer(copy.close)
        return copy

    return Kept(sqlite, taken)


def chain(epoch: Epoch, count: int, before: Position | None = None) -> list[SealedEntry]:
    """Return entries that follow `before`; each answers a request, writes a row of its own and one that all write."""
    before = before or genesis("AR")
    made: list[SealedEntry] = []
    for index in range(count):
        lsn = before.lsn + 1 + index
        events = [(Kind.SEAT, f"S/{lsn}", b"\x01"), (Kind.SEAT, "S/all", b"%d" % lsn)]
        entry = Entry(epoch, lsn, 1000 * lsn, BATCH, requests=[(f"request-{lsn}", b"d")], events=events)
        made.append(seal(entry, made[-1].hash if made else before.hash))
    return made


def applied(store: Store, entries: list[SealedEntry]) -> None:
    for sealed in entries:
        store.stage(sealed)


def test_a_snapshot_is_cut_at_what_is_committed(kept: Kept) -> None:
    """Entries beyond it are somebody's wish; up to it log, hashes and rows are the source's, and the source is as before."""
    entries = chain(ONE, 9)
    kept.store.append(entries)
    applied(kept.store, entries[:6])
    kept.store.flush_staged()
    copy = kept.taken(7)
    assert [sealed.data for sealed in entries[:7]] == copy.entries(1, 100, FAST)
    assert entries[6].hash == copy.hash_at(7)
    assert [] == copy.entries(8, 1, FAST)
    assert (7, 6) == (copy.summary().tail.lsn, copy.applied_lsn)
    assert dict(kept.store.scan(Kind.SEAT)) == dict(copy.scan(Kind.SEAT))
    assert 9 == kept.store.summary().tail.lsn


def test_its_rows_end_where_the_source_s_would(kept: Kept) -> None:
    """What is committed and not yet in the source's tables is applied at the receiver: the same digest at the same lsn."""
    entries = chain(ONE, 8)
    kept.store.append(entries)
    applied(kept.store, entries[:4])
    kept.store.flush_staged()
    copy = kept.taken(8)
    applied(copy, entries[copy.applied_lsn : 8])
    applied(kept.store, entries[4:8])
    for store in (kept.store, copy):
        store.flush_staged()
    assert kept.store.flushed_digest == copy.flushed_digest
    assert as_bytes(EMPTY) != copy.state_digest() == copy.scan_digest()
    assert {"request-8": (8, 0)} == copy.requests(["request-8"])


def test_it_becomes_its_receiver_s_own(kept: Kept) -> None:
    """Another identity; the receiver's promises and not the source's, but never below the last entry's epoch (R13)."""
    entries = chain(ONE, 3)
    entries += chain(TWO, 2, position_of(entries[-1]))
    kept.store.append(entries)
    applied(kept.store, entries)
    kept.store.flush_staged()
    kept.store.save_epochs(Epoch(9, "of the source"), Epoch(9, "of the source"))
    copy = kept.taken(5)
    copy.adopt("the-receiver", Epoch(4, "mine"), Epoch(3, "mine"))
    assert ("the-receiver", Epoch(4, "mine"), Epoch(3, "mine")) == (copy.store_uuid, copy.summary().promised, copy.summary().led)
    lower = kept.taken(5) if isinstance(copy, MemoryStore) else copy
    lower.adopt("the-receiver", Epoch(0, ""), Epoch(0, ""))
    assert TWO == lower.summary().promised
    assert "the-receiver" != kept.store.summary().store_uuid


def test_it_goes_on_as_a_store(kept: Kept) -> None:
    """Entries follow its last one, and it may be cut back to what is applied."""
    entries = chain(ONE, 6)
    kept.store.append(entries)
    applied(kept.store, entries[:5])
    kept.store.flush_staged()
    copy = kept.taken(6)
    further = chain(TWO, 2, position_of(entries[-1]))
    copy.append(further)
    assert further[-1].hash == copy.hash_at(8)
    copy.append(chain(TWO, 1, position_of(entries[4])), truncate_from=6)
    assert 6 == copy.summary().tail.lsn
    assert entries[5].hash != copy.hash_at(6)
