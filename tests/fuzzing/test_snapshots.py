"""A snapshot's file as a peer might send it, changed at random, its checksum right for what was sent: refused by name, or as good."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, note
from hypothesis import strategies as st

from datastore.errors import HoldfastError
from datastore.ledger import BATCH, Entry, genesis, seal
from datastore.rows import Kind
from datastore.snapshot_files import At, check, take
from datastore.store import SqliteStore
from tests.fuzzing.mutations import PIECES, fuzzed

OPERATOR = "AR"
ENTRIES = 12
FAST = 1 << 40


class Snapshot(NamedTuple):
    """A good one: its bytes, where it was taken, and what is in it."""

    data: bytes
    at: At
    rows: dict[str, bytes]


def some_snapshot() -> Snapshot:
    """Return a snapshot of a store whose entries each wrote a row."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / f"{OPERATOR}.sqlite", OPERATOR)
        before = genesis(OPERATOR).hash
        for lsn in range(1, ENTRIES + 1):
            events = [(Kind.SEAT, f"S/{lsn}", b"seat" * lsn)]
            sealed = seal(Entry((1, "m"), lsn, 1_000 * lsn, BATCH, [(f"request-{lsn}", b"digest")], events=events), before)
            before = sealed.hash
            store.append([sealed])
            store.stage(sealed)
        store.flush_staged()
        at = At(ENTRIES, 1, "m", before.hex())
        out = Path(folder) / "taken"
        take(store.path, out, FAST, at)
        rows = dict(store.scan(Kind.SEAT))
        store.close()
        return Snapshot(out.read_bytes(), at, rows)


GOOD = some_snapshot()
# Most of a database's pages are empty: what is changed there changes nothing, so most is done where something stands.
FILLED = [place for place in range(len(GOOD.data)) if GOOD.data[place]]


PLACED = st.one_of(st.sampled_from([one for one in PIECES if one and len(one) < 100]), st.binary(min_size=1, max_size=4))
EDITS = st.lists(st.tuples(st.sampled_from(FILLED), PLACED), max_size=6)


@fuzzed(150)
@given(EDITS, st.one_of(st.none(), st.none(), st.none(), st.integers(0, len(GOOD.data) - 1)))
def test_snapshot_files(edits: list[tuple[int, bytes]], cut_at: int | None) -> None:
    """What is not refused holds the same entry and the same rows, and can be opened as a store."""
    whole = bytearray(GOOD.data)
    for at, piece in edits:
        whole[at : at + len(piece)] = piece
    data = bytes(whole[:cut_at])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "came"
        file.write_bytes(data)
        try:
            reason = check(file, OPERATOR, hashlib.sha256(data).hexdigest(), GOOD.at.lsn, GOOD.at.hash)
        except HoldfastError as error:
            reason = error.detail
        note(reason)
        assert len(reason) < 2_000
        if reason:
            return
        store = SqliteStore(file, OPERATOR)
        try:
            assert (GOOD.rows, GOOD.at.hash) == (dict(store.scan(Kind.SEAT)), store.hash_at(ENTRIES).hex())
        finally:
            store.close()


def test_a_good_one_is_taken() -> None:
    """The file as it was sent is not refused: the check can tell."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "came"
        file.write_bytes(GOOD.data)
        assert "" == check(file, OPERATOR, hashlib.sha256(GOOD.data).hexdigest(), GOOD.at.lsn, GOOD.at.hash)


def test_a_word_about_itself_that_is_no_text_is_refused() -> None:
    """SQLite hands out any bytes as a text: what cannot be read as one is damage of the file, and no fault of the reader."""
    place = GOOD.data.index(b"state_digest")
    data = GOOD.data[:place] + b"\x80" + GOOD.data[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "came"
        file.write_bytes(data)
        assert "utf-8" in check(file, OPERATOR, hashlib.sha256(data).hexdigest(), GOOD.at.lsn, GOOD.at.hash)
