"""The full check of one partition on this disk: every segment, every entry, and the state that follows from them.

A start verifies the newest entries only, so that it is bounded; this is the rest (Z13). It runs beside the partition's work, on
connections of its own, a page at a time: whoever drives it decides how fast. It shows

- that every segment is the file that was sealed, and that the chain has no gap from the first entry to the last;
- that replaying the row images of the ledger gives the state digest that was kept as the rows changed;
- that the rows in the file give that digest too (`scan`): a table can be damaged where neither SQLite nor the ledger sees it;
- that everything else in the file is what follows from the entries, or has its own sum (`beside.py`).

Damage is located by file and lsn. The replay keeps a weight for each row in a temporary file, so it fits any memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from datastore.beside import Beside, Found
from datastore.digest import as_bytes, digest_of, weight
from datastore.errors import DiskFailed, InvariantBroken, SnapshotNeeded
from datastore.ledger import LedgerDamaged, Position, SealedEntry, check_follows, genesis, hash_in, unseal
from datastore.ledger_file import segments_folder, stored_segments
from datastore.sealing import SegmentInfo
from datastore.segments import SegmentFolder
from datastore.store_file import BUSY_MS, UNREADABLE_VALUES

PAGE_ENTRIES = 500
DIGEST_BYTES = 32


class Damage(NamedTuple):
    """Where the ledger or the state is not what was written."""

    lsn: int
    file: str
    what: str


class LedgerReader:
    """Reads a partition's whole ledger from its files, while another connection writes."""

    def __init__(self, path: Path, operator: str) -> None:
        """Open the file for reading.

        Raises:
            DiskFailed: It is not there, or is no database.
        """
        self.path = path
        self.operator = operator
        self.folder = SegmentFolder(segments_folder(path), operator)
        try:
            self.database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self.database.set_busy_timeout(BUSY_MS)
            self._segments = stored_segments(self.database)
        except apsw.Error as error:
            raise DiskFailed(f"{path}: {error}", file=str(path)) from error

    def close(self) -> None:
        self.database.close()

    def entry(self, lsn: int) -> SealedEntry:
        """Return one entry.

        Raises: as `pages`; LedgerDamaged also where there is no such entry.
        """
        segment = self._segment_of(lsn)
        page = self._sealed_page(segment, lsn) if segment is not None else self._log_page(lsn)
        if not page:
            raise LedgerDamaged(f"{self.path.name}: entry {lsn} is missing", lsn=lsn, file=self.path.name)
        return unseal(page[0])

    def pages(self, last_lsn: int = 0, first_lsn: int = 1) -> Iterator[list[bytes]]:
        """Yield all sealed entries in pages, from `first_lsn` up to `last_lsn` (0: to the end); segments are verified whole.

        Raises:
            LedgerDamaged: A segment is not the one that was sealed. SnapshotNeeded: Its file is missing.
            DiskFailed: The disk refuses.
        """
        lsn = first_lsn
        while not last_lsn or lsn <= last_lsn:
            segment = self._segment_of(lsn)
            page = self._sealed_page(segment, lsn) if segment is not None else self._log_page(lsn)
            if not page:
                return
            lsn += len(page)
            excess = lsn - 1 - last_lsn if last_lsn else 0
            yield page[: len(page) - excess] if excess > 0 else page

    def _segment_of(self, lsn: int) -> SegmentInfo | None:
        return next((segment for segment in self._segments if segment.first_lsn <= lsn <= segment.last_lsn), None)

    def _sealed_page(self, segment: SegmentInfo, lsn: int) -> list[bytes]:
        """Return the segment's entries from `lsn` on: not from its first where that was read before it was sealed."""
        return self.folder.verify(segment)[lsn - segment.first_lsn :]

    def _log_page(self, lsn: int) -> list[bytes]:
        try:
            select = "SELECT lsn, body, hash FROM log WHERE lsn >= ? ORDER BY lsn LIMIT ?"
            found: list[Any] = self.database.execute(select, (lsn, PAGE_ENTRIES)).fetchall()
            if not found or found[0][0] != lsn:
                # Sealed and trimmed since the list was read.
                self._segments = stored_segments(self.database)
                segment = self._segment_of(lsn)
                if segment is not None:
                    return self._sealed_page(segment, lsn)
        except apsw.Error as error:
            raise DiskFailed(f"{self.path}: {error}", file=str(self.path)) from error
        if found and found[0][0] != lsn:
            raise LedgerDamaged(f"{self.path.name}: entry {lsn} is missing", lsn=lsn, file=self.path.name)
        for entry_lsn, body, digest in found:
            if hash_in(body) != digest:
                raise LedgerDamaged(f"the hash kept beside entry {entry_lsn} is not the entry's", lsn=entry_lsn, file=self.path.name)
        return [body for _, body, _ in found]


class FullCheck:
    """One check from the first entry to a position whose state digest is known."""

    def __init__(self, path: Path, operator: str, target: tuple[int, bytes], flushing_lsn: int = 0) -> None:
        """Prepare.

        Args:
            target: (lsn, state digest) as the store keeps it.
            flushing_lsn: Up to here rows may be in the file already, each on its own, where that is beyond the target: a flush was
                cut short. The digest is then that of the rows as they are.
        """
        self.position: Position = genesis(operator)
        self.damage: Damage | None = None
        self._path = path
        self._operator = operator
        self._target = target
        self._flushing_lsn = flushing_lsn

    def steps(self) -> Iterator[None]:
        """Work; yields after each page. Afterwards `damage` says what was found, None for nothing, up to `position`."""
        reader = LedgerReader(self._path, self._operator)
        replay = apsw.Connection("")  # A temporary file of SQLite's, gone when it is closed.
        try:
            for table in ("r", "later"):
                replay.execute(f"CREATE TABLE {table} (kind INTEGER, key TEXT, weight BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID")
            # Before the first flush the rows are those of no entry at all; for `pages` 0 would be all of them.
            beside = Beside(replay)
            for page in reader.pages(self._target[0]) if self._target[0] else ():
                entries = self._entries(page)
                _replay(replay, entries)
                self._note(beside.take(entries, reader.database))
                yield
            if self.position.lsn < self._target[0]:
                self._found(self.position.lsn + 1, self._path.name, f"the ledger ends before entry {self._target[0]}")
                return
            if self._flushing_lsn <= self._target[0] and _digest(replay) != self._target[1]:
                self._found(self._target[0], self._path.name, f"the ledger up to entry {self._target[0]} gives another state than the rows")
                return
            yield
            self._scan(reader.database)
            if self.damage is None:
                self._compare(reader, replay, beside)
        except (LedgerDamaged, SnapshotNeeded, InvariantBroken) as error:
            lsn = int(error.fields.get("lsn") or self.position.lsn + 1)
            self._found(lsn, str(error.fields.get("file") or self._path.name), error.detail)
        except UNREADABLE_VALUES as error:
            self._found(self.position.lsn + 1, self._path.name, f"cannot be read: {error}")
        finally:
            replay.close()
            reader.close()

    def _entries(self, page: list[bytes]) -> list[SealedEntry]:
        """Return a page's entries, each checked to follow; one by one: the position then says which is damaged."""
        entries: list[SealedEntry] = []
        for data in page:
            entries.append(unseal(data))
            self.position = check_follows(self.position, entries[-1])
        return entries

    def _compare(self, reader: LedgerReader, replay: apsw.Connection, beside: Beside) -> None:
        """Compare what is beside the entries, at one moment, up to the entry that is the last one then."""
        reader.database.execute("BEGIN")
        try:
            for page in reader.pages(first_lsn=self._target[0] + 1):
                entries = self._entries(page)
                if self._flushing_lsn > self._target[0]:
                    _replay(replay, [sealed for sealed in entries if sealed.entry.lsn <= self._flushing_lsn], "later")
                self._note(beside.take(entries, reader.database))
            self._note(beside.compare(reader.database))
            if self._flushing_lsn > self._target[0] and self.damage is None:
                self._compare_half_written(reader.database, replay)
        finally:
            reader.database.execute("COMMIT")

    def _compare_half_written(self, database: apsw.Connection, replay: apsw.Connection) -> None:
        """Of a flush that was cut short each row is in the file as it was before, or as it is after: none is anything else."""
        replay.execute("CREATE TABLE there (kind INTEGER, key TEXT, weight BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID")
        with replay:
            for kind, key, value in database.execute("SELECT kind, key, value FROM row"):
                replay.execute("INSERT INTO there VALUES (?, ?, ?)", (kind, key, weight(kind, key, value).to_bytes(DIGEST_BYTES, "big")))
        wrong = (
            "SELECT kind, key FROM (SELECT kind, key FROM r UNION SELECT kind, key FROM later UNION SELECT kind, key FROM there)"
            " LEFT JOIN r USING (kind, key) LEFT JOIN later USING (kind, key) LEFT JOIN there USING (kind, key)"
            " WHERE there.weight IS NOT r.weight AND (later.kind IS NULL OR there.weight IS NOT later.weight) LIMIT 1"
        )
        for kind, key in replay.execute(wrong):
            self._found(0, self._path.name, f"row {key} of kind {kind} is neither as it was before the last flush nor as it is after")

    def _note(self, found: Sequence[Found]) -> None:
        """Keep the first thing that was found."""
        if found and self.damage is None:
            self._found(found[0].lsn, self._path.name, found[0].what)

    def _scan(self, database: apsw.Connection) -> None:
        """Compare the digest that is kept with that of the rows, as they are at one moment."""
        database.execute("BEGIN")
        try:
            kept = database.execute("SELECT value FROM meta WHERE key = 'state_digest'").fetchall()[0][0]
            counted = as_bytes(digest_of(database.execute("SELECT kind, key, value FROM row")))
        finally:
            database.execute("COMMIT")
        if kept != counted:
            self._found(self.position.lsn, self._path.name, "the rows in the file give another digest than was kept as they changed")

    def _found(self, lsn: int, file: str, what: str) -> None:
        self.damage = Damage(lsn, file, what)


def _digest(replay: apsw.Connection) -> bytes:
    total = 0
    for (of_row,) in replay.execute("SELECT weight FROM r"):
        total += int.from_bytes(of_row, "big")
    return as_bytes(total % (1 << 8 * DIGEST_BYTES))


def _replay(replay: apsw.Connection, entries: list[SealedEntry], table: str = "r") -> None:
    """Fold a page's row images: of each row its last one counts. In "later" a row that went is one without a weight."""
    last: dict[tuple[int, str], bytes] = {}
    for sealed in entries:
        for kind, key, value in sealed.entry.events:
            last[kind, key] = value
    puts = [(kind, key, weight(kind, key, value).to_bytes(DIGEST_BYTES, "big")) for (kind, key), value in last.items() if value]
    gone = [place for place, value in last.items() if not value]
    with replay:
        replay.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", puts)
        if table == "r":
            replay.executemany("DELETE FROM r WHERE kind = ? AND key = ?", gone)
        else:
            replay.executemany("INSERT OR REPLACE INTO later VALUES (?, ?, NULL)", gone)
