"""What every `Store` keeps to when old entries move to segments, answers are forgotten and records erased: fake and SQLite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore import store_file
from datastore.checking import FullCheck
from datastore.digest import digest_of, from_bytes
from datastore.errors import SnapshotNeeded, TooNew
from datastore.ledger import (
    BATCH,
    ERASE,
    KEEP_LONG_MS,
    KEEP_SHORT_MS,
    KEPT_LONG,
    KEPT_SHORT,
    KEPT_WITH_ORDER,
    Entry,
    LedgerDamaged,
    Position,
    SealedEntry,
    genesis,
    position_of,
    seal,
    unseal,
)
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.rows import ErasedRow, Kind, encode_row
from datastore.sealing import SealingLimits, SegmentInfo, opened, pack, segment_end
from datastore.segments import Disk, SegmentFolder
from datastore.store import SqliteStore, open_store
from datastore.store_port import Store

ONE = Epoch(1, "m")
SMALL = SealingLimits(entries=10, size_bytes=1 << 20, tail_entries=5)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore("AR", "uuid")
        return
    opened_store = SqliteStore(tmp_path / "AR.sqlite", "AR")
    yield opened_store
    opened_store.close()


def chain(count: int, before: Position | None = None, kind: str = BATCH, **fields: object) -> list[SealedEntry]:
    """Return entries that follow `before`, each with a row of its own and one row that all of them write."""
    before = before or genesis("AR")
    made: list[SealedEntry] = []
    for index in range(count):
        lsn = before.lsn + 1 + index
        events = [(Kind.SEAT, f"S/{lsn}", b"\x01"), (Kind.SEAT, "S/0", b"%d" % lsn)]
        entry = Entry(ONE, lsn, 1000 * lsn, kind, **{"events": events, **fields})  # type: ignore[arg-type]
        made.append(seal(entry, made[-1].hash if made else before.hash))
    return made


def fill(store: Store, entries: list[SealedEntry]) -> None:
    store.append(entries)
    for sealed in entries:
        store.stage(sealed)
    store.flush_staged()


def seal_all(store: Store, limits: SealingLimits = SMALL) -> list[SegmentInfo]:
    """Seal as long as a segment is full, in the four steps in which a node does it."""
    made = []
    while (found := store.seal_range(limits)) is not None:
        segment = store.pack_range(*found)
        store.sealed(segment)
        made.append(segment)
        while store.trim(4):
            pass
    return made


def read_all(store: Store) -> list[bytes]:
    found: list[bytes] = []
    while part := store.entries(len(found) + 1, 7, 1 << 20):
        found += part
    return found


def test_sealed_entries_are_read_as_before(store: Store) -> None:
    """Whoever asks for an entry or a hash gets the same before, in between and after sealing."""
    made = chain(47)
    fill(store, made)
    segments = seal_all(store)
    assert [(1, 10), (11, 20), (21, 30), (31, 40)] == [segment[:2] for segment in segments]
    assert [sealed.data for sealed in made] == read_all(store)
    assert [genesis("AR").hash, *(sealed.hash for sealed in made)] == [store.hash_at(lsn) for lsn in range(48)]
    assert (47, made[-1].hash, 40) == (store.summary().tail.lsn, store.summary().tail.hash, store.sealed_lsn)
    assert segments == store.segments() and [] == store.missing_segments()
    more = chain(3, position_of(made[-1]))
    fill(store, more)
    assert [sealed.data for sealed in [*made, *more]] == read_all(store)


def test_only_applied_entries_below_the_tail_are_sealed(store: Store) -> None:
    """A row that is not in the tables yet needs its entry after a crash, and followers ask for the newest ones."""
    made = chain(30)
    store.append(made)
    assert None is store.seal_range(SMALL)
    for sealed in made[:12]:
        store.stage(sealed)
    store.flush_staged()
    assert [(1, 10)] == [segment[:2] for segment in seal_all(store)]
    for sealed in made[12:]:
        store.stage(sealed)
    store.flush_staged()
    assert [(11, 20)] == [segment[:2] for segment in seal_all(store)]


def test_answers_are_forgotten_by_the_log_clock(store: Store) -> None:
    """Z2: a refusal after an hour, the rest after seven days, an order's answer never; entries of before keep all."""
    requests = [("refused", b"d"), ("held", b"d"), ("ordered", b"d"), ("", b"")]
    keeps = bytes((KEPT_SHORT, KEPT_LONG, KEPT_WITH_ORDER, KEPT_LONG))
    outcomes = [msgspec.Raw(msgspec.msgpack.encode([[1, {}, {}]] * 4))]
    names = ["refused", "held", "ordered", "old"]
    fill(store, chain(1, requests=requests, outcomes=outcomes, keeps=keeps))
    fill(store, chain(1, store.summary().tail, requests=[("old", b"d")], outcomes=outcomes))
    for past_ms, expected in ((0, names), (KEEP_SHORT_MS, names[1:]), (KEEP_LONG_MS, names[2:]), (100 * KEEP_LONG_MS, names[2:])):
        assert sorted(expected) == sorted(store.requests(names, 1000 + past_ms))
    tail = store.summary().tail
    late = seal(Entry(ONE, tail.lsn + 1, 1000 + KEEP_SHORT_MS, BATCH), tail.hash)
    fill(store, [late])
    assert ["held", "old", "ordered"] == sorted(store.requests(names))


def test_digests_are_noted_at_the_lsns_asked_for_however_rows_were_written(store: Store) -> None:
    """I4: two stores that flushed at different moments have lsns in common at which they can be compared."""
    made = chain(300)
    store.append(made)
    store.note_digest_at(123)
    for index, sealed in enumerate(made):
        store.stage(sealed)
        if index % 100 == 7:
            store.flush_staged()
    other = MemoryStore("AR", "other")
    other.note_digest_at(123)
    fill(other, made)
    mine, theirs = dict(store.digests()), dict(other.digests())
    common = mine.keys() & theirs.keys()
    assert {123, len(made)} == common
    assert {lsn: mine[lsn] for lsn in common} == {lsn: theirs[lsn] for lsn in common}
    assert store.state_digest() == store.scan_digest() == other.scan_digest()


def test_an_erased_record_is_gone_and_a_truncated_entry_takes_its_records(store: Store) -> None:
    """Z12: neither an erasure nor a replaced tail leaves a record behind that nobody would find again."""
    first = chain(1, sides=[b"a", b"b"])
    store.append(first, sides={b"a": b"Ada", b"b": b"Bob"})
    store.stage(first[0])
    second = chain(1, position_of(first[0]), sides=[b"c"])
    store.append(second, sides={b"c": b"Cleo"})
    events = [(int(Kind.ERASED), b"a".hex(), encode_row(ErasedRow(b"", 2, 2000)))]
    third = chain(1, position_of(first[0]), ERASE, events=events)
    store.append(third, truncate_from=2)
    assert {b"a": b"Ada", b"b": b"Bob"} == store.sides([b"a", b"b", b"c"])
    store.stage(third[0])
    assert {b"b": b"Bob"} == store.sides([b"a", b"b", b"c"])
    assert store.scrub()


class Stopped(BaseException):
    """The process ends here."""


class StoppingDisk(Disk):
    """Ends the process before its n-th step; counts the steps."""

    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at
        self.steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            raise Stopped

    def write(self, path: Path, data: bytes) -> None:
        self._step()
        path.write_bytes(data[: len(data) // 2])  # What a crash in the middle of the write leaves.
        self._step()
        super().write(path, data)

    def flush(self, path: Path) -> None:
        self._step()
        super().flush(path)

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)

    def flush_names(self, folder: Path) -> None:
        self._step()
        super().flush_names(folder)


def test_a_crash_between_any_two_writes_of_sealing_leaves_a_store_that_starts(tmp_path: Path) -> None:
    """Whatever was done of a sealing, the store opens as itself, has every entry, and seals to the same files."""
    made = chain(26)
    (tmp_path / "calm").mkdir()
    calm = SqliteStore(tmp_path / "calm" / "AR.sqlite", "AR")
    fill(calm, made)
    expected = seal_all(calm)
    calm.close()
    for point in range(1, 40):
        folder = tmp_path / str(point)
        folder.mkdir()
        path = folder / "AR.sqlite"
        first = SqliteStore(path, "AR")
        fill(first, made)
        identity = first.store_uuid
        first.close()
        disk = StoppingDisk(point)
        crashed = SqliteStore(path, "AR", disk)
        stopped = False
        try:
            while (found := crashed.seal_range(SMALL)) is not None:
                segment = crashed.pack_range(*found)
                disk._step()
                crashed.sealed(segment)
                disk._step()
                while crashed.trim(3):
                    disk._step()
        except Stopped:
            stopped = True
        second, reason = open_store(path, "AR")
        assert ("", identity) == (reason, second.store_uuid)
        assert [sealed.data for sealed in made] == read_all(second)
        assert expected == [*second.segments(), *seal_all(second)]
        assert [] == second.missing_segments()
        assert [] == list(folder.rglob("*.new"))
        assert [sealed.data for sealed in made] == read_all(second)
        second.close()
        crashed._db.close()
        if not stopped:
            assert point > 15, "the sealing has more steps than that"
            return
    raise AssertionError("the sealing never ended by itself")


def test_a_damaged_or_missing_segment_is_located_and_the_store_goes_on(tmp_path: Path) -> None:
    """Old entries are no reason to stop selling: the newest are verified, the damage is named by file and entry."""
    path = tmp_path / "AR.sqlite"
    store = SqliteStore(path, "AR")
    made = chain(26)
    fill(store, made)
    one, two = seal_all(store)
    store.close()
    file = store.folder.path / one.name
    content = file.read_bytes()
    file.write_bytes(content[:-20] + bytes(20))
    (store.folder.path / two.name).unlink()
    again, reason = open_store(path, "AR")
    assert ("", 26, [two]) == (reason, again.summary().tail.lsn, again.missing_segments())
    with pytest.raises(LedgerDamaged) as damage:
        again.folder.verify(one)
    assert (one.name, 1) == (damage.value.fields["file"], damage.value.fields["lsn"])
    with pytest.raises(SnapshotNeeded):
        again.entries(11, 5, 1 << 20)
    with pytest.raises(LedgerDamaged):
        again.folder.install(one, content[:-20] + bytes(20))
    again.folder.install(one, content)
    assert [sealed.data for sealed in made[:10]] == again.entries(1, 10, 1 << 20)
    again.close()


def test_a_full_check_reads_on_while_entries_are_sealed_under_it(tmp_path: Path) -> None:
    """Its next entry may by then be in the middle of a segment: no damage is seen where there is none, and real damage is."""
    store = SqliteStore(tmp_path / "AR.sqlite", "AR")
    made = chain(700)
    fill(store, made)
    check = FullCheck(store.path, "AR", store.digests()[-1])
    steps = check.steps()
    next(steps)
    assert len(seal_all(store, SealingLimits(16, 1 << 20, 20))) > 30
    assert [] == [None for _ in steps if check.damage is not None]
    assert (None, 700) == (check.damage, check.position.lsn)
    wrong = FullCheck(store.path, "AR", (700, b"x" * 32))
    assert [None] * 2 == [wrong.damage for _ in wrong.steps()][:2]
    assert wrong.damage is not None and "another state" in wrong.damage.what
    store._db.execute("UPDATE log SET body = zeroblob(100) WHERE lsn = 695")
    broken = FullCheck(store.path, "AR", store.digests()[-1])
    assert all(True for _ in broken.steps())
    assert broken.damage is not None and broken.damage.lsn == 695
    store.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It is not damaged: putting it aside would cost the node a copy that the newer program can use."""
    path = tmp_path / "AR.sqlite"
    store = SqliteStore(path, "AR")
    fill(store, chain(26))
    (segment, *_) = seal_all(store)
    store._db.execute(f"PRAGMA user_version = {store_file.FORMAT + 1}")
    store._db.close()
    before = path.read_bytes()
    with pytest.raises(TooNew, match=r"version 3\.4; this program knows 3\.3"):
        open_store(path, "AR")
    assert before == path.read_bytes()
    data = bytearray((store.folder.path / segment.name).read_bytes())
    data[8:10] = (200).to_bytes(2, "big")
    with pytest.raises(TooNew, match=r"version 2\.0; this program knows 1\.0"):
        opened(bytes(data), segment, "AR")


@pytest.mark.parametrize("older", [301, 302])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_of_an_older_minor_version_is_marked_and_its_sum_still_tells_of_damage(tmp_path: Path, damaged: bool, older: int) -> None:
    path = tmp_path / "AR.sqlite"
    store = SqliteStore(path, "AR")
    fill(store, chain(3))
    store._db.execute(f"PRAGMA user_version = {older}")
    if damaged:
        store._db.execute("UPDATE meta SET value = value + 1 WHERE key = 'promised_counter'")
    store._db.close()
    again, reason = open_store(path, "AR")
    assert damaged == bool(reason) and ("its sum differs" in reason) == damaged
    assert (0 if damaged else 3) == len(read_all(again))
    assert store_file.FORMAT == again._pragma("user_version")
    again.close()


def test_a_file_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its rows and requests are what they were, the digest is that of its rows, and nothing tells it from a new file."""
    path = tmp_path / "AR.sqlite"
    store = SqliteStore(path, "AR")
    made = chain(3, requests=[("", b"")])
    fill(store, made)
    identity = store.store_uuid
    for statement in (
        "DROP TABLE segment",
        "DROP INDEX request_end",
        "ALTER TABLE request DROP COLUMN ends_ms",
        "DELETE FROM meta WHERE key IN ('state_digest', 'scrub')",
        "INSERT INTO meta VALUES ('format', 2)",
        "PRAGMA user_version = 0",
    ):
        store._db.execute(statement).fetchall()
    store._db.close()
    again, reason = open_store(path, "AR")
    assert ("", identity) == (reason, again.store_uuid)
    assert again.scan_digest() == again.state_digest()
    fill(again, chain(2, position_of(made[-1])))
    assert again.scan_digest() == again.state_digest()
    assert 5 == len(read_all(again))
    again.close()


def test_a_file_of_an_older_minor_version_is_used_and_marked(tmp_path: Path) -> None:
    """What a rolling restart onto the next version meets on every disk: nothing is put aside, and the older program leaves it then."""
    path = tmp_path / "AR.sqlite"
    store = SqliteStore(path, "AR")
    fill(store, chain(3))
    identity = store.store_uuid
    store._db.close()
    command, top = [sys.executable, "-c", OPENS_AS_NEWER, str(path)], Path(__file__).parents[2]
    newer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=top)
    assert (0, f"'' {identity} 3 {store_file.FORMAT + 1}") == (newer.returncode, newer.stdout.strip()), newer.stderr
    with pytest.raises(TooNew, match="this program knows"):
        open_store(path, "AR")


# The next version of this program, as far as the file is concerned.
OPENS_AS_NEWER = """
import sys
from pathlib import Path
from datastore import store_file
store_file.FORMAT += 1
from datastore.store import open_store
store, reason = open_store(Path(sys.argv[1]), "AR")
print(repr(reason), store.store_uuid, store.summary().tail.lsn, store._pragma("user_version"))
"""


rows = st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from("abcdef"), st.sampled_from([b"", b"x", b"y", b"zz"])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=12), st.sets(st.integers(0, 11)))
def test_the_incremental_digest_is_that_of_the_rows(batches: list[list[tuple[int, str, bytes]]], flushed: set[int]) -> None:
    """However rows come, go and are folded before they are written, the kept sum is the sum over what is left."""
    store = MemoryStore("AR", "uuid")
    plain: dict[tuple[int, str], bytes] = {}
    for index, events in enumerate(batches):
        entry = chain(1, store.summary().tail, events=events)[0]
        store.append([entry])
        store.stage(entry)
        if index in flushed:
            store.flush_staged()
        plain.update({(kind, key): value for kind, key, value in events})
    expected = digest_of((kind, key, value) for (kind, key), value in plain.items())
    assert expected == from_bytes(store.state_digest()) == from_bytes(store.scan_digest())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 12), st.integers(50, 2000))
def test_a_segment_ends_where_the_ledger_says(sizes: list[int], entries: int, size_bytes: int) -> None:
    """The end depends on the entries before it alone: replicas that look at different moments write equal files."""
    limits = SealingLimits(entries, size_bytes, 1)
    numbered = list(enumerate(sizes, 1))
    end = segment_end(numbered, limits)
    assert all(segment_end(numbered[:cut], limits) in (0, end) for cut in range(len(sizes) + 1))
    if end:
        taken = sizes[:end]
        assert len(taken) == entries or sum(taken) >= size_bytes > sum(taken[:-1])
        made = chain(end)
        one, two = (pack("AR", [sealed.data for sealed in made], genesis("AR")) for _ in range(2))
        assert one == two and [sealed.data for sealed in made] == opened(one[1], one[0], "AR")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_segment_goes_unseen(data: st.DataObject) -> None:
    """Every byte of the file is covered: by the magic, the version, the comparison of the header, or the SHA-256."""
    segment, content = pack("AR", [sealed.data for sealed in chain(5)], genesis("AR"))
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((LedgerDamaged, TooNew)):
        found = opened(bytes(changed), segment, "AR")
        assert [unseal(entry).entry.lsn for entry in found] == [1, 2, 3, 4, 5]
        raise AssertionError(f"a change at byte {place} was not seen")


def test_a_crash_between_any_two_writes_of_a_back_fill_leaves_it_to_be_fetched(tmp_path: Path) -> None:
    """A segment from a peer is there whole or it is still missing, also where its file was torn; changed bytes are never written."""
    made = chain(26)
    source = SqliteStore(tmp_path / "source.sqlite", "AR")
    fill(source, made)
    (segment, *_) = seal_all(source)
    data = (source.folder.path / segment.name).read_bytes()
    source.close()
    for point in range(1, 20):
        folder = tmp_path / str(point)
        try:
            SegmentFolder(folder, "AR", StoppingDisk(point)).install(segment, data)
        except Stopped:
            found = SegmentFolder(folder, "AR")
            found.drop_drafts()
            if missing := found.missing([segment]):
                assert [segment] == missing
                with pytest.raises(LedgerDamaged):
                    found.install(segment, data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
                assert [segment] == found.missing([segment])
                found.install(segment, data)
            assert data == (folder / segment.name).read_bytes()
            assert [segment.name] == [path.name for path in folder.iterdir()]
        else:
            assert point > 4, "a back-fill has more steps than that"
            return
    raise AssertionError("the back-fill never ended by itself")
