"""What every `Store` keeps to: the suite runs on the fake and on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from datastore.checking import FullCheck
from datastore.digest import EMPTY, as_bytes, digest_of
from datastore.errors import InvariantBroken
from datastore.ledger import BATCH, CONFIG, NOOP, Entry, Position, SealedEntry, genesis, position_of, seal, unseal
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.rows import ConfigRow, Kind, encode_row
from datastore.store import SqliteStore, open_store
from datastore.store_file import put_sum
from datastore.store_port import Store
from datastore.tables import STAGED_ROWS_MAX

ONE, TWO = Epoch(1, "m"), Epoch(2, "m")
CONFIG_ROW = ConfigRow({"uuid": "node-1"})


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore("AR", "uuid")
        return
    opened = SqliteStore(tmp_path / "AR.sqlite", "AR")
    yield opened
    opened.close()


def chain(
    count: int, before: Position | None = None, epoch: Epoch = ONE, events: list[tuple[int, str, bytes]] | None = None
) -> list[SealedEntry]:
    """Return entries that follow `before`; each answers one request named after its lsn and carries `events`."""
    before = before or genesis("AR")
    made: list[SealedEntry] = []
    for index in range(count):
        lsn = before.lsn + 1 + index
        requests = [(f"request-{lsn}", b"d")]
        outcomes = [msgspec.Raw(msgspec.msgpack.encode([[lsn, {}, {}]]))]
        entry = Entry(epoch, lsn, before.stamp_ms + lsn, BATCH, requests, outcomes, events or [(Kind.SEAT, f"S/{lsn}", b"\x01")])
        made.append(seal(entry, made[-1].hash if made else before.hash))
    return made


def test_an_empty_store_is_empty(store: Store) -> None:
    """A new store has promised nothing, led nothing and holds nothing."""
    summary = store.summary()
    assert (Epoch(0, ""), Epoch(0, ""), genesis("AR"), 0) == (summary.promised, summary.led, summary.tail, summary.applied_lsn)
    assert ([], []) == (summary.epochs, summary.configs)
    assert [] == store.entries(1, 10, 1 << 20)


def test_entries_come_back_as_they_were_sealed(store: Store) -> None:
    """The bytes that come out are those that went in, and the tail is the last of them."""
    made = chain(5)
    store.append(made[:3])
    store.append(made[3:])
    assert [sealed.data for sealed in made] == store.entries(1, 10, 1 << 20)
    assert (5, ONE, made[4].hash) == store.summary().tail[:3]
    assert [genesis("AR").hash, made[2].hash] == [store.hash_at(0), store.hash_at(3)]


def test_entries_are_limited_in_number_and_bytes_but_one_always_comes(store: Store) -> None:
    """A single entry over the limit still travels, or a follower could never pass it."""
    made = chain(4)
    store.append(made)
    assert [made[1].data, made[2].data] == store.entries(2, 2, 1 << 20)
    assert [made[1].data] == store.entries(2, 10, 1)


def test_a_tail_is_replaced_from_the_first_entry_that_differs(store: Store) -> None:
    """Truncation takes the runs of epochs and the configurations of the lost entries with it."""
    old = chain(4)
    store.append(old)
    middle = Position(2, ONE, old[1].hash, old[1].entry.stamp_ms)
    config = Entry(TWO, 3, 1000, CONFIG, events=[(Kind.CONFIG, "", encode_row(CONFIG_ROW))])
    fresh = seal(config, middle.hash)
    store.append([fresh], truncate_from=3)
    summary = store.summary()
    assert [old[0].data, old[1].data, fresh.data] == store.entries(1, 10, 1 << 20)
    assert ([(1, ONE), (3, TWO)], [(3, CONFIG_ROW)]) == (summary.epochs, summary.configs)
    store.append([seal(Entry(TWO, 3, 1000, NOOP), middle.hash)], truncate_from=3)
    assert [] == store.summary().configs


def test_a_gap_or_a_truncated_applied_entry_is_refused(store: Store) -> None:
    """Both would make the log a lie, so both stop the node."""
    made = chain(3)
    with pytest.raises(InvariantBroken):
        store.append(made[1:])
    store.append(made)
    store.stage(made[0])
    with pytest.raises(InvariantBroken):
        store.append([made[0]], truncate_from=1)
    with pytest.raises(InvariantBroken):
        store.stage(made[2])


def test_staged_rows_are_seen_at_once_and_after_the_flush(store: Store) -> None:
    """Readers cannot tell staged rows from flushed ones; a deletion hides what lies below."""
    made = chain(2, events=[(Kind.SEAT, "S/1", b"a"), (Kind.SEAT, "S/2", b"b"), (Kind.SEAT, "T/1", b"c")])
    store.append(made)
    store.stage(made[0])
    store.flush_staged()
    gone = chain(1, store.summary().tail, events=[(Kind.SEAT, "S/1", b""), (Kind.SEAT, "S/3", b"d"), (Kind.ORDER, "R", b"o")])
    store.append(gone)
    store.stage(made[1])
    store.stage(gone[0])
    for _ in range(2):
        assert (None, b"b", b"o", 3) == (
            store.get(Kind.SEAT, "S/1"),
            store.get(Kind.SEAT, "S/2"),
            store.get(Kind.ORDER, "R"),
            store.applied_lsn,
        )
        assert {"S/2": b"b", "S/3": b"d"} == store.get_many(Kind.SEAT, ["S/1", "S/2", "S/3", "S/9"])
        assert [("S/2", b"b"), ("S/3", b"d")] == store.scan(Kind.SEAT, "S/")
        assert [("S/3", b"d")] == store.scan(Kind.SEAT, "S/", "S/2")
        assert [("S/2", b"b"), ("S/3", b"d")] == store.scan(Kind.SEAT, limit=2)
        assert [("T/1", b"c")] == store.scan(Kind.SEAT, "", "S/3", 5)
        assert {"request-1": (1, 0), "request-3": (3, 0)} == store.requests(["request-1", "request-3", "request-9"])
        store.flush_staged()


@pytest.mark.parametrize("asked", [1, 2, 4, 5, 12])
def test_few_keys_and_many_find_the_same(store: Store, asked: int) -> None:
    """However many are looked up together, each gives what is there, in the file or staged over it, and nothing else."""
    store.append(chain(8))
    for data in store.entries(1, 8, 1 << 20)[:4]:
        store.stage(unseal(data))
    store.flush_staged()
    for data in store.entries(5, 4, 1 << 20):
        store.stage(unseal(data))
    numbers = [*range(9, 9 - asked, -1)]  # The first is not there.
    there = [number for number in numbers if 1 <= number <= 8]
    assert {f"S/{number}": b"\x01" for number in there} == store.get_many(Kind.SEAT, [f"S/{number}" for number in numbers])
    assert {f"request-{number}": (number, 0) for number in there} == store.requests([f"request-{number}" for number in numbers])


def test_what_is_read_ahead_is_forgotten_when_an_entry_is_staged(store: Store) -> None:
    """A look into the future of a batch never hides what the batch changed."""
    made = chain(1)
    store.append(made)
    store.read_ahead(Kind.SEAT, ["S/1"])
    assert None is store.get(Kind.SEAT, "S/1")
    store.stage(made[0])
    assert b"\x01" == store.get(Kind.SEAT, "S/1")


def test_the_digest_depends_on_rows_alone(store: Store, tmp_path: Path) -> None:
    """Two stores with the same applied rows agree, however the rows came: staged, flushed, in one entry or many."""
    made = chain(4)
    store.append(made)
    for sealed in made:
        store.stage(sealed)
    other = MemoryStore("AR", "other")
    everything = [event for sealed in made for event in sealed.entry.events]
    single = chain(1, events=everything)
    other.append(single)
    other.stage(single[0])
    assert store.state_digest() == other.state_digest()


def test_promises_a_configuration_and_sides_are_kept(store: Store) -> None:
    """A configuration is given once, to an empty log."""
    store.save_epochs(TWO, ONE)
    store.save_config(CONFIG_ROW)
    with pytest.raises(InvariantBroken):
        store.save_config(CONFIG_ROW)
    store.append(chain(1), sides={b"digest": b"record"})
    summary = store.summary()
    assert (TWO, ONE, [(0, CONFIG_ROW)]) == (summary.promised, summary.led, summary.configs)
    assert {b"digest": b"record"} == store.sides([b"digest", b"unknown"])


def test_sqlite_keeps_everything_over_a_restart(tmp_path: Path) -> None:
    """Identity, promises, log and applied rows are those of before; what was only staged is applied again from the log."""
    path = tmp_path / "AR.sqlite"
    first = SqliteStore(path, "AR")
    made = chain(3)
    first.save_epochs(TWO, ONE)
    first.append(made)
    first.stage(made[0])
    first.flush_staged()
    first.stage(made[1])
    identity = first.store_uuid
    # Not closed: as after kill -9, only what was written is there.
    second, reason = open_store(path, "AR")
    assert ("", identity, 1) == (reason, second.store_uuid, second.applied_lsn)
    assert (TWO, ONE, made[2].hash) == (second.summary().promised, second.summary().led, second.summary().tail.hash)
    assert (b"\x01", None) == (second.get(Kind.SEAT, "S/1"), second.get(Kind.SEAT, "S/2"))
    second.close()


def test_a_flush_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    """Between two slices some rows are newer than the applied lsn says; nobody ever reads such a mixture."""
    path = tmp_path / "AR.sqlite"
    first = SqliteStore(path, "AR")
    events = [[(Kind.SEAT, f"S/{number}", b"old")] for number in range(4)]
    made = [chain(1, events=events[0])[0]]
    for number in (1, 2, 3):
        made += chain(1, position_of(made[-1]), events=events[number])
    last = chain(1, position_of(made[-1]), events=[(Kind.SEAT, f"S/{number}", b"new") for number in range(4)])
    first.append([*made, *last])
    for sealed in made:
        first.stage(sealed)
    first.flush_staged()
    first.stage(last[0])
    for taken in (1, 2):
        first.flush_staged(taken)
        assert [(f"S/{number}", b"new") for number in range(4)] == first.scan(Kind.SEAT, "S/")
        assert (5, 4) == (first.applied_lsn, first.flushed_lsn)
    # Not closed: as after kill -9.
    in_file = dict(first._db.execute("SELECT key, value FROM row"))
    assert {b"old", b"new"} == set(in_file.values())
    second, reason = open_store(path, "AR")
    assert ("", 5, 5) == (reason, second.applied_lsn, second.flushed_lsn)
    assert [(f"S/{number}", b"new") for number in range(4)] == second.scan(Kind.SEAT, "S/")
    assert {"request-5": (5, 0)} == second.requests(["request-5"])
    second.close()


def test_a_check_before_the_first_flush_finds_nothing_wrong(tmp_path: Path) -> None:
    """Entries are in the log and no row is in the file yet: that is how a store is for its first moments."""
    store = SqliteStore(tmp_path / "AR.sqlite", "AR")
    made = chain(2)
    store.append(made)
    store.stage(made[0])
    check = FullCheck(tmp_path / "AR.sqlite", "AR", (0, as_bytes(EMPTY)))
    for _ in check.steps():
        pass
    assert check.damage is None
    store.close()


def test_a_flush_that_was_cut_short_is_no_damage_and_hides_none(tmp_path: Path) -> None:
    """Some rows are those of the last flush, some of the one under way: whole, unless a row is neither, or one is missing."""
    store = SqliteStore(tmp_path / "AR.sqlite", "AR")
    made = chain(1, events=[(Kind.SEAT, f"S/{number:02}", b"before") for number in range(40)])
    # Every second seat changes, every third of the others goes.
    events = [(Kind.SEAT, f"S/{number:02}", b"after" if number % 2 else b"") for number in range(40) if number % 2 or not number % 3]
    made += chain(2, position_of(made[-1]), events=events)
    store.append(made)
    store.stage(made[0])
    store.flush_staged()
    digest = store.state_digest()
    for sealed in made[1:]:
        store.stage(sealed)
    store.flush_staged(10)
    database = apsw.Connection(str(store.path))
    assert [(1,), (3,)] == database.execute("SELECT value FROM meta WHERE key IN ('applied_lsn', 'flushing_lsn') ORDER BY key").fetchall()
    values = {key: value for key, value in database.execute("SELECT key, value FROM row")}
    assert {b"before", b"after"} == set(values.values())

    def damage() -> str:
        check = FullCheck(store.path, "AR", (1, digest), 3)
        for _ in check.steps():
            pass
        return check.damage.what if check.damage is not None else ""

    assert "" == damage()
    unchanged = next(key for key in values if not int(key[2:]) % 2 and int(key[2:]) % 3)
    for statement in ("UPDATE row SET value = x'00' WHERE key = ?", "DELETE FROM row WHERE key = ?"):
        database.execute("SAVEPOINT whole")
        database.execute(statement, (unchanged,)).fetchall()
        total = digest_of(database.execute("SELECT kind, key, value FROM row"))
        database.execute("UPDATE meta SET value = ? WHERE key = 'state_digest'", (as_bytes(total),)).fetchall()
        put_sum(database)
        database.execute("RELEASE whole")
        assert "neither as it was" in damage(), statement
        database.execute("INSERT OR REPLACE INTO row VALUES (?, ?, ?)", (int(Kind.SEAT), unchanged, values[unchanged])).fetchall()
    database.close()
    store._db.close()


def test_rows_ride_with_appends_when_many_are_staged(tmp_path: Path) -> None:
    """A full generation goes into the file with later appends, some rows each, and what is read never changes meanwhile."""
    store = SqliteStore(tmp_path / "AR.sqlite", "AR")
    events = [(Kind.SEAT, f"S/{number:06}", b"x") for number in range(STAGED_ROWS_MAX)]
    made = chain(1, events=events)
    store.append(made)
    store.stage(made[0])
    appends = 0
    while store.flushed_lsn == 0:
        more = chain(1, store.summary().tail, events=[(Kind.SEAT, f"T/{appends:06}-{number}", b"y") for number in range(999)])
        store.append(more)
        store.stage(more[0])
        appends += 1
        assert b"x" == store.get(Kind.SEAT, f"S/{STAGED_ROWS_MAX - 1:06}")
    assert 1 < appends < STAGED_ROWS_MAX // 1000
    assert 1 == store.flushed_lsn
    assert 999 * appends == len(store.scan(Kind.SEAT, "T/"))
    store.close()


# What is kept beside an entry that is whole, and a text that is none.
BESIDE = {
    "hash": "UPDATE log SET hash = zeroblob(32) WHERE lsn = 2",
    "epoch": "UPDATE log SET epoch_counter = epoch_counter + 1 WHERE lsn = 2",
    "stamp": "UPDATE log SET stamp_ms = stamp_ms + 1 WHERE lsn = 2",
    "text": "UPDATE meta SET key = CAST(x'80' AS TEXT) WHERE key = 'verified_lsn'",
}


@pytest.mark.parametrize("damage", ["entry", "type", "file", *BESIDE])
def test_a_damaged_file_is_put_aside_and_never_used(tmp_path: Path, damage: str) -> None:
    """The store that takes its place is empty and somebody else: it may not vote in the old one's name (R11)."""
    path = tmp_path / "AR.sqlite"
    first = SqliteStore(path, "AR")
    first.append(chain(3))
    identity = first.store_uuid
    if damage == "entry":
        # A changed byte in an entry: SQLite sees nothing wrong with it, the chain does.
        body = bytearray(first.entries(2, 1, 1)[0])
        body[80] ^= 1
        first._db.execute("UPDATE log SET body = ? WHERE lsn = 2", (bytes(body),))
        first._db.close()
    elif damage == "type":
        first._db.execute("UPDATE log SET body = 'text' WHERE lsn = 2")
        first._db.close()
    elif damage in BESIDE:
        first._db.execute(BESIDE[damage])
        first._db.close()
    else:
        first.close()
        content = bytearray(path.read_bytes())
        content[5000:9000] = bytes(4000)
        path.write_bytes(content)
    second, reason = open_store(path, "AR")
    assert reason
    assert second.store_uuid != identity
    assert 0 == second.summary().tail.lsn
    assert [True] == [one.name.endswith("Z-damaged") for one in tmp_path.glob("AR.sqlite.quarantined-*")]
    second.close()
