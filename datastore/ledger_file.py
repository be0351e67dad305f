"""The ledger of one partition on one disk: the newest entries in the SQLite file, the older ones in sealed segments.

Whoever asks for an entry is not told where it was. Sealing takes four calls, so that the long ones need no turn of the
partition: `seal_range` (what), `pack_range` (any thread: read, compress, write the file), `sealed` (one transaction: from
now on the segment is the place), `trim` (rows that the segment has go, a few at a time). The order is `sealing.py`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw

from datastore.errors import InvariantBroken
from datastore.ledger import CONFIG, LedgerDamaged, Position, SealedEntry, genesis, unseal, verify_chain
from datastore.model import EPOCH_NONE, Epoch
from datastore.rows import Kind
from datastore.sealing import SealingLimits, SegmentInfo, chain_of, pack, segment_end
from datastore.segments import Disk, SegmentFolder
from datastore.store_file import BUSY_MS, StoreFile, put_meta, read_meta

VERIFY_ENTRIES = 500
VERIFY_BYTES = 16 * 1024 * 1024
TRIM_ENTRIES = 256
SUFFIX = ".sqlite"
SEGMENTS = ".segments"  # the folder beside the file


def segments_folder(path: Path) -> Path:
    """Return the folder of the segments that belong to a store's file."""
    return path.with_name(path.name.removesuffix(SUFFIX) + SEGMENTS)


class LedgerFile(StoreFile):
    """Entries by lsn, wherever they are."""

    def __init__(self, path: Path, operator: str, disk: Disk | None = None) -> None:
        super().__init__(path, operator, disk)
        self.folder = SegmentFolder(segments_folder(path), operator, self._files)
        self._segments = self._read_segments()
        self._tail = self._read_tail()
        found = self._rows("SELECT count(*), coalesce(sum(length(body)), 0) FROM log WHERE lsn > ?", (self.sealed_lsn,))
        self._unsealed_entries, self._unsealed_bytes = found[0]

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def sealed_lsn(self) -> int:
        """The last entry that is in a segment; 0 where there is none."""
        return self._segments[-1].last_lsn if self._segments else 0

    def segments(self) -> list[SegmentInfo]:
        """Return the sealed segments, in order."""
        return list(self._segments)

    def missing_segments(self) -> list[SegmentInfo]:
        """Return those whose file is not here: a store that came from a snapshot is complete when they are (Z13)."""
        return self.folder.missing(self._segments)

    def hash_at(self, lsn: int) -> bytes:
        if lsn == self._tail.lsn:
            return self._tail.hash
        if lsn == 0:
            return genesis(self.operator).hash
        if lsn <= self.sealed_lsn:
            segment = self._segment_of(lsn)
            return segment.end.hash if lsn == segment.last_lsn else unseal(self.folder.entries(segment, lsn, 1, 0)[0]).hash
        found = self._rows("SELECT hash FROM log WHERE lsn = ?", (lsn,))
        if not found:
            raise InvariantBroken("an entry is asked for that the log does not have", lsn=lsn)
        return bytes(found[0][0])

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        if from_lsn <= self.sealed_lsn:
            return self.folder.entries(self._segment_of(from_lsn), from_lsn, limit, size_bytes_max)
        found: list[bytes] = []
        size_bytes = 0
        with self._disk("read entries"):
            for (data,) in self._db.execute("SELECT body FROM log WHERE lsn >= ? ORDER BY lsn LIMIT ?", (from_lsn, limit)):
                size_bytes += len(data)
                if found and size_bytes > size_bytes_max:
                    break
                found.append(data)
        return found

    def _segment_of(self, lsn: int) -> SegmentInfo:
        return self._segments[bisect_right(self._segments, lsn, key=_first_lsn) - 1]

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for digest in digests:
            found.update(self._rows("SELECT digest, value FROM side WHERE digest = ?", (digest,)))
        return found

    # --- verification ---------------------------------------------------------------------------------------------

    def _verify_tail(self, verified_lsn: int, applied_lsn: int) -> None:
        """Check the chain since the last checkpoint, or the last sealed entry, and move the checkpoint to the end.

        Raises:
            LedgerDamaged: Do not use this file.
        """
        position = chain_of(self._segments, self.operator)
        if verified_lsn > position.lsn:
            position = verify_chain(self.entries(verified_lsn, 1, 1), self._position_before(verified_lsn))
        while chunk := self.entries(position.lsn + 1, VERIFY_ENTRIES, VERIFY_BYTES):
            position = self._verify_rows(chunk, position)
        if position != self._tail or position.lsn < applied_lsn:
            raise LedgerDamaged(f"{self.path}: the log ends at {position.lsn}, expected {max(self._tail.lsn, applied_lsn)}")
        self._set_verified(position.lsn)

    def _verify_rows(self, chunk: Sequence[bytes], position: Position) -> Position:
        """Return the position after the entries, each checked to follow and to have its own epoch, stamp and hash beside it."""
        select = "SELECT lsn, epoch_counter, epoch_manager, hash, stamp_ms FROM log WHERE lsn > ? ORDER BY lsn LIMIT ?"
        for data, row in zip(chunk, self._rows(select, (position.lsn, len(chunk))), strict=True):
            position = verify_chain([data], position)
            if row != (position.lsn, position.epoch.counter, position.epoch.manager, position.hash, position.stamp_ms):
                raise LedgerDamaged(f"{self.path}: what is kept beside entry {position.lsn} is not the entry's", lsn=position.lsn)
        return position

    def _set_verified(self, lsn: int) -> None:
        with self._disk("write the checkpoint"), self._transaction():
            put_meta(self._db, {"verified_lsn": lsn})

    def _read_segments(self) -> list[SegmentInfo]:
        with self._disk("read"):
            return stored_segments(self._db)

    def _read_tail(self) -> Position:
        last = self._rows("SELECT lsn, epoch_counter, epoch_manager, hash, stamp_ms FROM log ORDER BY lsn DESC LIMIT 1")
        if not last:
            return self._segments[-1].end if self._segments else genesis(self.operator)
        lsn, counter, manager, digest, stamp_ms = last[0]
        return Position(lsn, Epoch(counter, manager), digest, stamp_ms)

    def _position_before(self, lsn: int) -> Position:
        if lsn == self.sealed_lsn + 1:
            return chain_of(self._segments, self.operator)
        found = self._rows("SELECT lsn, epoch_counter, epoch_manager, hash, stamp_ms FROM log WHERE lsn = ?", (lsn - 1,))
        if not found:
            raise LedgerDamaged(f"{self.path}: entry {lsn - 1} is missing")
        return Position(found[0][0], Epoch(found[0][1], found[0][2]), found[0][3], found[0][4])

    # --- writing (inside a transaction) ---------------------------------------------------------------------------

    def _truncate(self, lsn: int) -> None:
        """Drop the entries from `lsn` on, and the side records that only they named: no erasure would find those (Z12)."""
        gone = [unseal(data).entry.sides for (data,) in self._db.execute("SELECT body FROM log WHERE lsn >= ?", (lsn,))]
        self._db.executemany("DELETE FROM side WHERE digest = ?", [(digest,) for sides in gone for digest in sides])
        for table, column in (("log", "lsn"), ("epoch", "first_lsn"), ("config", "lsn")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} >= ?", (lsn,))
        put_meta(self._db, {"verified_lsn": min(read_meta(self._db)["verified_lsn"], lsn - 1)})

    def _insert_all(self, entries: Sequence[SealedEntry], sides: Mapping[bytes, bytes] | None) -> None:
        before = self._epoch_before(entries[0].entry.lsn) if entries else EPOCH_NONE
        for sealed in entries:
            before = self._insert(sealed, before)
        if sides:
            self._db.executemany("INSERT OR REPLACE INTO side VALUES (?, ?)", list(sides.items()))

    def _epoch_before(self, lsn: int) -> Epoch:
        if lsn == self._tail.lsn + 1:
            return self._tail.epoch
        found = self._rows("SELECT counter, manager FROM epoch WHERE first_lsn < ? ORDER BY first_lsn DESC LIMIT 1", (lsn,))
        return Epoch(found[0][0], found[0][1]) if found else EPOCH_NONE

    def _insert(self, sealed: SealedEntry, before: Epoch) -> Epoch:
        """Insert one entry and, where it opens a reign or names voters, the row that finds it again."""
        entry = sealed.entry
        epoch = Epoch(*entry.epoch)
        self._db.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
            (entry.lsn, epoch.counter, epoch.manager, entry.stamp_ms, sealed.data, sealed.hash),
        )
        if epoch != before:
            self._db.execute("INSERT INTO epoch VALUES (?, ?, ?)", (entry.lsn, epoch.counter, epoch.manager))
        if entry.kind == CONFIG:
            configs = [(entry.lsn, value) for kind, _, value in entry.events if kind == Kind.CONFIG]
            self._db.executemany("INSERT INTO config VALUES (?, ?)", configs)
        return epoch

    # --- sealing --------------------------------------------------------------------------------------------------

    def _seal_range(self, limits: SealingLimits, applied_lsn: int) -> tuple[int, int] | None:
        """Return (first, last) of the next segment, or None while there is none to seal.

        Args:
            applied_lsn: Whose rows are in the file: above it a crash would need the entries to apply them again.
        """
        waits = self._unsealed_entries - limits.tail_entries
        if waits <= 0 or (waits < limits.entries and self._unsealed_bytes < limits.size_bytes):
            return None
        sizes = self._rows(
            "SELECT lsn, length(body) FROM log WHERE lsn > ? ORDER BY lsn LIMIT ?", (self.sealed_lsn, limits.entries)
        )
        last = segment_end(sizes, limits)
        if not last or last > min(applied_lsn, self._tail.lsn - limits.tail_entries):
            return None
        return sizes[0][0], last

    def pack_range(self, first: int, last: int) -> SegmentInfo:
        """Write the segment of these entries, flushed under its name when this returns; may be called on any thread.

        Nothing else changes: until `sealed` says so, the log is the place of these entries.

        Raises:
            LedgerDamaged: An entry is not the one that was sealed; nothing was written.
            DiskFailed: The disk refuses.
        """
        before = self._segments[-1].end if self._segments else genesis(self.operator)
        with self._disk("read entries"):
            reader = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                reader.set_busy_timeout(BUSY_MS)
                entries = [data for (data,) in reader.execute("SELECT body FROM log WHERE lsn BETWEEN ? AND ? ORDER BY lsn", (first, last))]
            finally:
                reader.close()
        segment, data = pack(self.operator, entries, before)
        if (segment.first_lsn, segment.last_lsn) != (first, last):
            raise LedgerDamaged(f"{self.path}: entries {first} to {last} are not all there", lsn=first)
        with self._disk("write a segment"):
            self.folder.write(segment, data)
        return segment

    def sealed(self, segment: SegmentInfo) -> None:
        """Make the segment the place of its entries: flushed when this returns."""
        if segment.first_lsn != self.sealed_lsn + 1:
            raise InvariantBroken("a segment would leave a gap", lsn=segment.first_lsn, sealed_lsn=self.sealed_lsn)
        size = self._rows("SELECT coalesce(sum(length(body)), 0) FROM log WHERE lsn BETWEEN ? AND ?", segment[:2])[0][0]
        end = segment.end
        with self._disk("note a segment"), self._transaction():
            self._db.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*segment[:3], end.hash, end.epoch.counter, end.epoch.manager, end.stamp_ms, segment.size_bytes, segment.sha256),
            )
            # Packing verified this piece of the chain, so a start need not.
            put_meta(self._db, {"verified_lsn": max(read_meta(self._db)["verified_lsn"], segment.last_lsn)})
        self._segments.append(segment)
        self._unsealed_entries -= segment.last_lsn - segment.first_lsn + 1
        self._unsealed_bytes -= size

    def trim(self, entries_max: int = TRIM_ENTRIES) -> bool:
        """Drop up to `entries_max` entries from the log that a segment has; return whether there are more.

        Not flushed: those that come back after a power failure are dropped again.
        """
        first: int | None = self._rows("SELECT min(lsn) FROM log")[0][0]
        if first is None or first > self.sealed_lsn:
            return False
        with self._disk("trim the log"):
            self._db.execute("PRAGMA synchronous = NORMAL").fetchall()
            try:
                with self._transaction():
                    self._db.execute("DELETE FROM log WHERE lsn < ? AND lsn <= ?", (first + entries_max, self.sealed_lsn))
            finally:
                self._db.execute("PRAGMA synchronous = FULL").fetchall()
        return first + entries_max <= self.sealed_lsn


def stored_segments(database: apsw.Connection) -> list[SegmentInfo]:
    """Return the segments that a store's file names, in order.

    Raises:
        apsw.Error: The disk refuses.
    """
    columns = "first_lsn, last_lsn, hash_before, hash_after, epoch_counter, epoch_manager, stamp_ms, size_bytes, sha256"
    return [
        SegmentInfo(first, last, before, Position(last, Epoch(counter, manager), after, stamp_ms), size, sha256)
        for first, last, before, after, counter, manager, stamp_ms, size, sha256 in database.execute(
            f"SELECT {columns} FROM segment ORDER BY first_lsn"
        )
    ]


def _first_lsn(segment: SegmentInfo) -> int:
    return segment.first_lsn
