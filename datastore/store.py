"""The `Store` port in SQLite: one file a partition, one transaction and one flush an append.

- WAL, synchronous FULL. An append returns only when its entries are on the disk; rows of earlier, committed entries ride in
  the same transaction, some at a time, when enough of them are staged (`tables.py`).
- A file is used only if `quick_check` and the hash chain since the last verified checkpoint pass. One that fails is moved
  aside as NAME.quarantined-N, never repaired: an empty store with a new identity takes its place (R11, R14).
- Any error of the disk is `DiskFailed`. After a failed flush nobody knows what is on the disk, so the process ends and
  never tries again (R11).

One thread at a time uses a store; the partition sees to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from datastore.errors import DiskFailed, HoldfastError, InvariantBroken
from datastore.ledger import CONFIG, LedgerDamaged, Position, SealedEntry, genesis, unseal, verify_chain
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication_steps import Summary
from datastore.rows import ConfigRow, Kind, decode_row, encode_row
from datastore.tables import ROWS_RIDING, ROWS_RIDING_MIN, RowTables

FORMAT = 2
SUFFIX = ".sqlite"
PUT_ASIDE = ".quarantined-"  # and a number: what follows the name of a damaged file

# After a checkpoint SQLite writes its log over the old one. A flush that need not grow the file costs 100 us, one that must
# 230 us, so checkpoints come early; each copies the pages that changed since the last.
CHECKPOINT_PAGES = 1000
CACHE_KIB = 16_384
ALL_ROWS = 2**31
VERIFY_ENTRIES = 500
VERIFY_BYTES = 16 * 1024 * 1024
BUSY_MS = 2000

META_KEYS = {
    "store_uuid", "promised_counter", "promised_manager", "led_counter", "led_manager", "applied_lsn", "flushing_lsn", "verified_lsn"
}  # fmt: skip

SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE log (lsn INTEGER PRIMARY KEY, epoch_counter INTEGER NOT NULL, epoch_manager TEXT NOT NULL,"
    " stamp_ms INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL)",
    "CREATE TABLE epoch (first_lsn INTEGER PRIMARY KEY, counter INTEGER NOT NULL, manager TEXT NOT NULL)",
    "CREATE TABLE config (lsn INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE row (kind INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "CREATE TABLE request (request_id TEXT PRIMARY KEY, lsn INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE side (digest BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)

log = logging.getLogger(__name__)


class SqliteStore:
    """A partition in one SQLite file."""

    def __init__(self, path: Path, operator: str) -> None:
        """Open the file, or make an empty store with a new identity where there is none.

        Raises:
            LedgerDamaged: The file must not be used (see `open_store`).
            DiskFailed: The disk refuses.
        """
        self.operator = operator
        self.path = path
        with self._disk("open"):
            self._db = apsw.Connection(str(path))
        try:
            with self._disk("open"):
                self._db.set_busy_timeout(BUSY_MS)
                self._configure()
                if not self._has_schema():
                    self._create()
                meta = self._meta()
            if meta.get("operator") != operator or meta.get("format") != FORMAT or not meta.keys() >= META_KEYS:
                raise LedgerDamaged(f"{path} is not a store of {operator} in format {FORMAT}")
            self.store_uuid = str(meta["store_uuid"])
            self._promised = Epoch(meta["promised_counter"], meta["promised_manager"])
            self._led = Epoch(meta["led_counter"], meta["led_manager"])
            self._tables = RowTables(self._db, self._rows, int(meta["applied_lsn"]))
            self._tail = self._read_tail()
            self._verify(int(meta["verified_lsn"]), int(meta["flushing_lsn"]))
            self._finish_flush(int(meta["flushing_lsn"]))
            self.summary()
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            # A value of a wrong type or form where SQLite sees nothing wrong.
            self._db.close()
            raise LedgerDamaged(f"{path}: {error}", operator=operator) from error
        except HoldfastError:
            self._db.close()
            raise

    # --- opening --------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"PRAGMA cache_size = -{CACHE_KIB}",
            "PRAGMA temp_store = MEMORY",
        ):
            self._db.execute(statement).fetchall()

    def _has_schema(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchall())

    def _create(self) -> None:
        meta = {
            "format": FORMAT,
            "operator": self.operator,
            "store_uuid": uuid.uuid4().hex,
            "promised_counter": EPOCH_NONE.counter,
            "promised_manager": EPOCH_NONE.manager,
            "led_counter": EPOCH_NONE.counter,
            "led_manager": EPOCH_NONE.manager,
            "applied_lsn": 0,
            "flushing_lsn": 0,
            "verified_lsn": 0,
        }
        self._db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            self._db.execute(statement)
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        self._db.execute("COMMIT")
        # The file's name must outlive a power failure as well: an identity that comes back empty could vote twice.
        sync_directory(self.path.parent)

    def _meta(self) -> dict[str, Any]:
        return {str(key): value for key, value in self._db.execute("SELECT key, value FROM meta")}

    def _read_tail(self) -> Position:
        last = self._rows("SELECT lsn, epoch_counter, epoch_manager, hash, stamp_ms FROM log ORDER BY lsn DESC LIMIT 1")
        if not last:
            return genesis(self.operator)
        lsn, counter, manager, digest, stamp_ms = last[0]
        return Position(lsn, Epoch(counter, manager), digest, stamp_ms)

    def _verify(self, verified_lsn: int, flushing_lsn: int) -> None:
        """Check the file and the chain since the checkpoint, then move the checkpoint to the end.

        Raises:
            LedgerDamaged: Do not use this file.
        """
        found = self._rows("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise LedgerDamaged(f"{self.path}: {found[0][0] if found else 'no answer'}")
        position = genesis(self.operator)
        if verified_lsn:
            position = verify_chain(self.entries(verified_lsn, 1, 1), self._position_before(verified_lsn))
        while chunk := self.entries(position.lsn + 1, VERIFY_ENTRIES, VERIFY_BYTES):
            position = verify_chain(chunk, position)
        least = max(self.applied_lsn, flushing_lsn)
        if position != self._tail or position.lsn < least:
            raise LedgerDamaged(f"{self.path}: the log ends at {position.lsn}, expected {max(self._tail.lsn, least)}")
        self._set_verified(position.lsn)

    def _finish_flush(self, flushing_lsn: int) -> None:
        """Apply up to where the rows of an interrupted flush may already be: those entries were committed."""
        if flushing_lsn <= self.applied_lsn:
            return
        while self.applied_lsn < flushing_lsn:
            for data in self.entries(self.applied_lsn + 1, min(VERIFY_ENTRIES, flushing_lsn - self.applied_lsn), VERIFY_BYTES):
                self._tables.stage(unseal(data))
        self.flush_staged()

    def _set_verified(self, lsn: int) -> None:
        with self._disk("write the checkpoint"), self._transaction():
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'verified_lsn'", (lsn,))

    def _position_before(self, lsn: int) -> Position:
        if lsn == 1:
            return genesis(self.operator)
        found = self._rows("SELECT lsn, epoch_counter, epoch_manager, hash, stamp_ms FROM log WHERE lsn = ?", (lsn - 1,))
        if not found:
            raise LedgerDamaged(f"{self.path}: entry {lsn - 1} is missing")
        return Position(found[0][0], Epoch(found[0][1], found[0][2]), found[0][3], found[0][4])

    @contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise self._failure(what, error) from error

    def _failure(self, what: str, error: Exception) -> HoldfastError:
        """Return our error for the disk's."""
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            return LedgerDamaged(f"{self.path}: cannot {what}: {error}", operator=self.operator)
        if isinstance(error, apsw.ConstraintError):
            return InvariantBroken(f"{self.path}: {what}: {error}", operator=self.operator)
        return DiskFailed(f"{self.path}: cannot {what}: {error}", operator=self.operator)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("COMMIT")

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except (apsw.Error, OSError) as error:
            raise self._failure("read", error) from error

    # --- what must survive ----------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        epochs = [(lsn, Epoch(counter, manager)) for lsn, counter, manager in self._rows("SELECT * FROM epoch ORDER BY first_lsn")]
        configs = [(lsn, decode_row(Kind.CONFIG, value)) for lsn, value in self._rows("SELECT lsn, value FROM config ORDER BY lsn")]
        return Summary(self.store_uuid, self._promised, self._led, self._tail, self.applied_lsn, epochs, configs)

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        values = [
            (promised.counter, "promised_counter"),
            (promised.manager, "promised_manager"),
            (led.counter, "led_counter"),
            (led.manager, "led_manager"),
        ]
        with self._disk("write a promise"), self._transaction():
            self._db.executemany("UPDATE meta SET value = ? WHERE key = ?", values)
        self._promised, self._led = promised, led

    def save_config(self, config: ConfigRow) -> None:
        if self._tail.lsn or self._rows("SELECT 1 FROM config"):
            raise InvariantBroken("a configuration is given once, to an empty log", operator=self.operator)
        with self._disk("write the configuration"), self._transaction():
            self._db.execute("INSERT INTO config VALUES (0, ?)", (encode_row(config),))

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        if truncate_from and truncate_from <= self.applied_lsn:
            raise InvariantBroken("an applied entry would be truncated", lsn=truncate_from)
        end = truncate_from or self._tail.lsn + 1
        if any(sealed.entry.lsn != end + index for index, sealed in enumerate(entries)):
            raise InvariantBroken("an entry would leave a gap in the log", lsn=entries[0].entry.lsn, expected=end)
        riding = 0
        if self._tables.is_due():
            added = sum(len(sealed.entry.events) + len(sealed.entry.requests) for sealed in entries)
            riding = max(ROWS_RIDING_MIN, ROWS_RIDING * added)
        with self._disk("write entries"), self._transaction():
            if truncate_from:
                for table, column in (("log", "lsn"), ("epoch", "first_lsn"), ("config", "lsn")):
                    self._db.execute(f"DELETE FROM {table} WHERE {column} >= ?", (truncate_from,))
                self._db.execute("UPDATE meta SET value = min(value, ?) WHERE key = 'verified_lsn'", (truncate_from - 1,))
            before = self._epoch_before(end)
            for sealed in entries:
                before = self._insert(sealed, before)
            if sides:
                self._db.executemany("INSERT OR REPLACE INTO side VALUES (?, ?)", list(sides.items()))
            flush = self._tables.write(riding) if riding else None
        self._tables.written(flush)
        if entries:
            last = entries[-1]
            self._tail = Position(last.entry.lsn, Epoch(*last.entry.epoch), last.hash, last.entry.stamp_ms)
        elif truncate_from:
            self._tail = self._read_tail()

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

    # --- the log --------------------------------------------------------------------------------------------------

    def hash_at(self, lsn: int) -> bytes:
        if lsn == self._tail.lsn:
            return self._tail.hash
        if lsn == 0:
            return genesis(self.operator).hash
        found = self._rows("SELECT hash FROM log WHERE lsn = ?", (lsn,))
        if not found:
            raise InvariantBroken("an entry is asked for that the log does not have", lsn=lsn)
        return bytes(found[0][0])

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        found: list[bytes] = []
        size_bytes = 0
        with self._disk("read entries"):
            for (data,) in self._db.execute("SELECT body FROM log WHERE lsn >= ? ORDER BY lsn LIMIT ?", (from_lsn, limit)):
                size_bytes += len(data)
                if found and size_bytes > size_bytes_max:
                    break
                found.append(data)
        return found

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for digest in digests:
            found.update(self._rows("SELECT digest, value FROM side WHERE digest = ?", (digest,)))
        return found

    # --- applied rows ---------------------------------------------------------------------------------------------

    @property
    def applied_lsn(self) -> int:
        return self._tables.applied_lsn

    @property
    def flushed_lsn(self) -> int:
        return self._tables.flushed_lsn

    def stage(self, sealed: SealedEntry) -> None:
        if sealed.entry.lsn != self.applied_lsn + 1:
            raise InvariantBroken("entries are applied in order", lsn=sealed.entry.lsn, applied_lsn=self.applied_lsn)
        self._tables.stage(sealed)

    def flush_staged(self, rows_max: int = 0) -> None:
        if self.flushed_lsn == self.applied_lsn:
            return
        with self._disk("write rows"):
            self._db.execute("PRAGMA synchronous = NORMAL").fetchall()
            try:
                while self.flushed_lsn < self.applied_lsn:
                    with self._transaction():
                        flush = self._tables.write(rows_max or ALL_ROWS)
                    self._tables.written(flush)
                    if rows_max:
                        break
            finally:
                self._db.execute("PRAGMA synchronous = FULL").fetchall()

    def read_ahead(self, kind: int, keys: Sequence[str]) -> None:
        self._tables.read_ahead(kind, keys)

    def get(self, kind: int, key: str) -> bytes | None:
        return self._tables.get(kind, key)

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        return self._tables.get_many(kind, keys)

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        return self._tables.scan(kind, prefix, after, limit)

    def requests(self, request_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        return self._tables.requests(request_ids)

    def state_digest(self) -> bytes:
        self.flush_staged()
        digest = hashlib.blake2b(digest_size=32)
        with self._disk("read"):
            for row in self._db.execute("SELECT kind, key, value FROM row ORDER BY kind, key"):
                digest.update(msgspec.msgpack.encode(row))
        return digest.digest()

    def close(self) -> None:
        """Flush and close; the chain written by this process counts as verified, it was hashed as it was written."""
        self.flush_staged()
        self._set_verified(self._tail.lsn)
        with self._disk("close"):
            self._db.close()


def open_store(path: Path, operator: str) -> tuple[SqliteStore, str]:
    """Return the store at `path` and "", or an empty one with a new identity and why the file found there was put aside.

    Raises:
        DiskFailed: Not even an empty store can be made.
    """
    try:
        return SqliteStore(path, operator), ""
    except LedgerDamaged as error:
        reason = str(error)
    number = 1
    while path.with_name(f"{path.name}{PUT_ASIDE}{number}").exists():
        number += 1
    for end in ("", "-wal", "-shm"):
        found = path.with_name(path.name + end)
        if found.exists():
            os.replace(found, path.with_name(f"{path.name}{PUT_ASIDE}{number}{end}"))
    sync_directory(path.parent)
    log.error("store put aside operator=%s file=%s reason=%s", operator, f"{path.name}{PUT_ASIDE}{number}", reason)
    return SqliteStore(path, operator), reason


def sync_directory(path: Path) -> None:
    """Flush a directory, so that names made in it survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
