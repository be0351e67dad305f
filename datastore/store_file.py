"""A partition's SQLite file: how it is opened, which versions of it are read, how an error of the disk becomes one of ours.

- WAL, synchronous FULL. Deleted cells are zeroed at once (secure_delete FAST); what an erasure deletes is zeroed wholly.
- The file says what it is: `application_id`, and `user_version` as major * 100 + minor. A newer one is refused and left as
  it is, by a program that says which version it knows; an older one is brought up to date in one transaction.
- Any error of the disk is `DiskFailed`. After a failed flush nobody knows what is on the disk, so the process ends and
  never tries again (R11).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw
import msgspec

from datastore.digest import EMPTY, as_bytes, digest_of
from datastore.errors import DiskFailed, HoldfastError, InvariantBroken, TooNew
from datastore.ledger import LedgerDamaged
from datastore.model import EPOCH_NONE
from datastore.segments import Disk

APPLICATION_ID = 0x484F4C44  # "HOLD"
# major * 100 + minor; 301 added the sum over `meta`, 302 holds in bulk, and 303 lets their row speak for their seats: what an older
# program would overlook, so that it leaves such a file alone.
FORMAT = 303
FORMATS_WITH_SUM = (301, 302, 303)
FORMAT_WITHOUT_SUM = 300
FORMATS_BEFORE = (1, 2)  # what the key "format" said before the file's header did

# After a checkpoint SQLite writes its log over the old one. A flush that need not grow the file costs 100 us, one that must
# 230 us, so checkpoints come early; each copies the pages that changed since the last.
CHECKPOINT_PAGES = 1000
CACHE_KIB = 16_384
BUSY_MS = 2000
# SQLite's own check reads the whole file. Of a larger one it runs beside the first work (`checking.py`): a start is bounded.
QUICK_CHECK_BYTES = 64 * 1024 * 1024

META_KEYS = {
    "store_uuid",
    "promised_counter",
    "promised_manager",
    "led_counter",
    "led_manager",
    "applied_lsn",
    "flushing_lsn",
    "verified_lsn",
    "state_digest",
    "scrub",
}

# The key of the sum over all that `meta` says.
META_SUM = "sum"

# What reading raises. SQLite does not look at the bytes of a text: one that is none shows itself when it is taken for one.
UNREADABLE = (apsw.Error, OSError, UnicodeDecodeError)
# ... and what values of a wrong type or form raise where they are used: a damaged file may have any of them anywhere.
UNREADABLE_VALUES = (ValueError, TypeError, LookupError, AttributeError, OverflowError, msgspec.DecodeError)

# Added by format 3: sealed segments, the end of an answer's life.
SCHEMA_3 = (
    "CREATE TABLE segment (first_lsn INTEGER PRIMARY KEY, last_lsn INTEGER NOT NULL, hash_before BLOB NOT NULL,"
    " hash_after BLOB NOT NULL, epoch_counter INTEGER NOT NULL, epoch_manager TEXT NOT NULL, stamp_ms INTEGER NOT NULL,"
    " size_bytes INTEGER NOT NULL, sha256 BLOB NOT NULL)",
    "CREATE INDEX request_end ON request (ends_ms) WHERE ends_ms > 0",
)
SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE log (lsn INTEGER PRIMARY KEY, epoch_counter INTEGER NOT NULL, epoch_manager TEXT NOT NULL,"
    " stamp_ms INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL)",
    "CREATE TABLE epoch (first_lsn INTEGER PRIMARY KEY, counter INTEGER NOT NULL, manager TEXT NOT NULL)",
    "CREATE TABLE config (lsn INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE row (kind INTEGER, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "CREATE TABLE request (request_id TEXT PRIMARY KEY, lsn INTEGER NOT NULL, position INTEGER NOT NULL,"
    " ends_ms INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE side (digest BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    *SCHEMA_3,
)


def read_meta(database: apsw.Connection) -> dict[str, Any]:
    """Return all that a file says of itself."""
    return {str(key): value for key, value in database.execute("SELECT key, value FROM meta").fetchall()}


def sum_of(meta: Mapping[Any, Any]) -> bytes:
    """Return the sum over what a file says of itself: who it is, what it promised and led, how far its rows are."""
    return blake2b(repr(sorted((key, value) for key, value in meta.items() if key != META_SUM)).encode(), digest_size=16).digest()


def put_sum(database: apsw.Connection) -> None:
    """Write the sum anew; inside the transaction that changes what is in `meta` by other means than `put_meta`."""
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (META_SUM, sum_of(read_meta(database))))


def put_meta(database: apsw.Connection, values: Mapping[str, Any]) -> None:
    """Change some of what a file says of itself, and the sum over all of it; inside a transaction."""
    database.executemany("UPDATE meta SET value = ? WHERE key = ?", [(value, key) for key, value in values.items()])
    put_sum(database)


class _Transaction:
    """What is done within is written and flushed at its end. One that fails is left to the process's end (R11).

    A class and no generator, like `_Mapped`: every entry passes through both, at every store.
    """

    __slots__ = ("_db",)

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._db.execute("COMMIT")


class _Mapped:
    """Turns errors of the disk into ours."""

    __slots__ = ("_file", "_what")

    def __init__(self, file: StoreFile, what: str) -> None:
        self._file = file
        self._what = what

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, UNREADABLE):
            raise self._file._failure(self._what, error) from error


class StoreFile:
    """The open file. Subclasses say what is in it."""

    def __init__(self, path: Path, operator: str, disk: Disk | None = None) -> None:
        """Open the file, or make one with a new identity where there is none.

        Raises:
            LedgerDamaged: The file must not be used.
            TooNew: A newer program wrote it; it was left as it is.
            DiskFailed: The disk refuses.
        """
        self.operator = operator
        self.path = path
        self._files = disk or Disk()
        with self._disk("open"):
            self._db = apsw.Connection(str(path))
        try:
            with self._disk("open"):
                self._db.set_busy_timeout(BUSY_MS)
                self._check_version()
                self._configure()
                if not self._has_schema():
                    self._create()
                elif self._pragma("user_version") < FORMAT:
                    self._bring_up_to_date()
                self._meta = read_meta(self._db)
            if self._meta.get("operator") != operator or not self._meta.keys() >= META_KEYS:
                raise LedgerDamaged(f"{path} is not a store of {operator}")
            if self._meta.get(META_SUM) != sum_of(self._meta):
                raise LedgerDamaged(f"{path}: what it says of itself is not what was written: its sum differs")
        except HoldfastError:
            self._db.close()
            raise

    def _pragma(self, name: str) -> int:
        value: Any = self._db.execute(f"PRAGMA {name}").fetchall()[0][0]
        return int(value)

    def _check_version(self) -> None:
        version = self._pragma("user_version")
        if version > FORMAT:
            raise TooNew.of(str(self.path), version, FORMAT)

    def _configure(self) -> None:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"PRAGMA cache_size = -{CACHE_KIB}",
            "PRAGMA temp_store = MEMORY",
            "PRAGMA secure_delete = FAST",
        ):
            self._db.execute(statement).fetchall()

    def _has_schema(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchall())

    def _create(self) -> None:
        meta = {
            "operator": self.operator,
            "store_uuid": uuid.uuid4().hex,
            "promised_counter": EPOCH_NONE.counter,
            "promised_manager": EPOCH_NONE.manager,
            "led_counter": EPOCH_NONE.counter,
            "led_manager": EPOCH_NONE.manager,
            "applied_lsn": 0,
            "flushing_lsn": 0,
            "verified_lsn": 0,
            "state_digest": as_bytes(EMPTY),
            "scrub": 0,
        }
        self._db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            self._db.execute(statement)
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        put_sum(self._db)
        self._mark()
        self._db.execute("COMMIT")
        # The file's name must outlive a power failure as well: an identity that comes back empty could vote twice.
        self._files.flush_names(self.path.parent)

    def _bring_up_to_date(self) -> None:
        """Take a file of an older format to this one: new tables and columns, the digest of the rows that it has.

        A minor version is one that this program reads as it is: the file is only marked, so that an older one leaves it alone.
        """
        version = self._pragma("user_version")
        if version // 100 == FORMAT // 100:
            with self._transaction():
                if version not in FORMATS_WITH_SUM:  # One that is there and wrong tells of damage: it is left for who checks it.
                    put_sum(self._db)
                self._mark()
            return
        found = self._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchall()
        if not found or found[0][0] not in FORMATS_BEFORE:
            raise LedgerDamaged(f"{self.path} says no format that ever was")
        self._db.execute("BEGIN IMMEDIATE")
        # Requests of then have no end: which of them stand for orders is not known without opening their entries.
        self._db.execute("ALTER TABLE request ADD COLUMN ends_ms INTEGER NOT NULL DEFAULT 0")
        for statement in SCHEMA_3:
            self._db.execute(statement)
        if found[0][0] == 1:
            self._db.execute("INSERT INTO meta VALUES ('flushing_lsn', 0)")
        total = digest_of(self._db.execute("SELECT kind, key, value FROM row"))
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", [("state_digest", as_bytes(total)), ("scrub", 0)])
        self._db.execute("DELETE FROM meta WHERE key = 'format'")
        put_sum(self._db)
        self._mark()
        self._db.execute("COMMIT")

    def _mark(self) -> None:
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def _quick_check(self) -> None:
        """Let SQLite check the file, unless it is so large that this is for later.

        Raises:
            LedgerDamaged: Do not use this file.
        """
        if self.path.stat().st_size > QUICK_CHECK_BYTES:
            return
        found = self._rows("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise LedgerDamaged(f"{self.path}: {found[0][0] if found else 'no answer'}")

    # --- the disk -------------------------------------------------------------------------------------------------

    def _disk(self, what: str) -> _Mapped:
        return _Mapped(self, what)

    def _failure(self, what: str, error: Exception) -> HoldfastError:
        """Return our error for the disk's."""
        if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError):
            return LedgerDamaged(f"{self.path}: cannot {what}: {error}", operator=self.operator)
        if isinstance(error, apsw.ConstraintError):
            return InvariantBroken(f"{self.path}: {what}: {error}", operator=self.operator)
        return DiskFailed(f"{self.path}: cannot {what}: {error}", operator=self.operator)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except UNREADABLE as error:
            raise self._failure("read", error) from error
