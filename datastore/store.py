"""The `Store` port in SQLite: one file a partition, one transaction and one flush an append.

- An append returns only when its entries are on the disk; rows of earlier, committed entries ride in the same transaction,
  some at a time, when enough of them are staged (`tables.py`), and with them the digest of all rows (`digest.py`).
- A file is used only if `quick_check` and the hash chain since the last verified checkpoint pass. One that fails is moved
  aside as NAME.quarantined-WHEN-WHY, never repaired: an empty store with a new identity takes its place (R11, R14).
- `store_file.py` has the file itself, `ledger_file.py` the entries; `tables.py` the applied rows.

One thread at a time uses a store; the partition sees to it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from datastore.digest import DIGESTS_KEPT, as_bytes, digest_of, from_bytes
from datastore.erasing import Scrubbing
from datastore.errors import HoldfastError, InvariantBroken, RequestInProgress
from datastore.ledger import ERASE, LedgerDamaged, Position, SealedEntry, erased_sides, unseal
from datastore.ledger_file import SEGMENTS, VERIFY_BYTES, VERIFY_ENTRIES, LedgerFile, segments_folder
from datastore.model import Epoch
from datastore.replication_steps import Summary
from datastore.rows import ConfigRow, Kind, decode_row, encode_row
from datastore.sealing import SealingLimits
from datastore.segments import Disk
from datastore.store_file import put_meta
from datastore.tables import ROWS_RIDING, ROWS_RIDING_MIN, RowTables

PUT_ASIDE = ".quarantined-"  # and when and why: what follows the name of a file that is damaged, or not to be trusted
RETIRED = ".retired-"  # ... of a store that was whole and takes no part any more (R15)

ALL_ROWS = 2**31

log = logging.getLogger(__name__)


class SqliteStore(LedgerFile):
    """A partition in one SQLite file."""

    def __init__(self, path: Path, operator: str, disk: Disk | None = None, *, verified: bool = False) -> None:
        """Open the file, or make an empty store with a new identity where there is none.

        Args:
            verified: This very file was verified a moment ago and nobody had it since.
        Raises:
            LedgerDamaged: The file must not be used (see `open_store`).
            TooNew: A newer program wrote it; it was left as it is.
            DiskFailed: The disk refuses.
        """
        super().__init__(path, operator, disk)
        # Called after an erasure: copies of this file that are on their way somewhere hold the records too (Z13).
        self.on_erased: Callable[[], object] = lambda: None
        try:
            meta = self._meta
            self.store_uuid = str(meta["store_uuid"])
            self._promised = Epoch(meta["promised_counter"], meta["promised_manager"])
            self._led = Epoch(meta["led_counter"], meta["led_manager"])
            flushing_lsn = int(meta["flushing_lsn"])
            self._tables = RowTables(self._db, self._rows, int(meta["applied_lsn"]), from_bytes(meta["state_digest"]))
            self._digests: deque[tuple[int, bytes]] = deque(maxlen=DIGESTS_KEPT)
            self._digests_wanted: set[int] = set()
            self._scrubbing = Scrubbing(self._db, self.path, wanted=bool(meta["scrub"]))
            if not verified:
                self._quick_check()
                self._verify_tail(int(meta["verified_lsn"]), max(self.applied_lsn, flushing_lsn))
            # Where rows of an interrupted flush may already be: those entries were committed.
            self.apply_up_to(flushing_lsn)
            self.summary()
            self.folder.drop_drafts()
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            # A value of a wrong type or form where SQLite sees nothing wrong.
            self._db.close()
            raise LedgerDamaged(f"{self.path}: {error}", operator=operator) from error
        except HoldfastError:
            self._db.close()
            raise

    def apply_up_to(self, lsn: int) -> None:
        """Apply and write what the log has up to `lsn`, of which the caller knows that it is committed."""
        if lsn <= self.applied_lsn:
            return
        while self.applied_lsn < lsn:
            for data in self.entries(self.applied_lsn + 1, min(VERIFY_ENTRIES, lsn - self.applied_lsn), VERIFY_BYTES):
                self.stage(unseal(data))
        self.flush_staged()

    # --- what must survive ----------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        epochs = [(lsn, Epoch(counter, manager)) for lsn, counter, manager in self._rows("SELECT * FROM epoch ORDER BY first_lsn")]
        configs = [(lsn, decode_row(Kind.CONFIG, value)) for lsn, value in self._rows("SELECT lsn, value FROM config ORDER BY lsn")]
        return Summary(self.store_uuid, self._promised, self._led, self._tail, self.applied_lsn, epochs, configs)

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        values = {
            "store_uuid": self.store_uuid,
            "promised_counter": promised.counter,
            "promised_manager": promised.manager,
            "led_counter": led.counter,
            "led_manager": led.manager,
        }
        with self._disk("write a promise"), self._transaction():
            put_meta(self._db, values)
        self._promised, self._led = promised, led

    def adopt(self, store_uuid: str, promised: Epoch, led: Epoch) -> None:
        # A log with entries of an epoch has promised that epoch (R5).
        self.store_uuid = store_uuid
        self.save_epochs(max(promised, self._tail.epoch), led)

    def close_for_good(self) -> None:
        """Close so that the one file is all there is of this store: it is about to be replaced (R13).

        Raises:
            RequestInProgress: Another process is reading the file; it stays open and in use.
        """
        self.flush_staged()
        with self._disk("write the rest"):
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
        if busy:
            # A WAL that is left behind would be laid over the file that takes this one's place.
            raise RequestInProgress(f"{self.path} is being read by another process", operator=self.operator)
        self.close()
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

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
                self._truncate(truncate_from)
            self._insert_all(entries, sides)
            flush = self._tables.write(riding) if riding else None
        self._tables.written(flush)
        self._unsealed_entries += len(entries)
        self._unsealed_bytes += sum(len(sealed.data) for sealed in entries)
        if truncate_from:
            self._unsealed_entries = end - 1 - self.sealed_lsn + len(entries)  # The bytes may be over: it seals a little early.
        if entries:
            last = entries[-1]
            self._tail = Position(last.entry.lsn, Epoch(*last.entry.epoch), last.hash, last.entry.stamp_ms)
        elif truncate_from:
            self._tail = self._read_tail()

    def seal_range(self, limits: SealingLimits) -> tuple[int, int] | None:
        return self._seal_range(limits, self.flushed_lsn)

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
        if sealed.entry.kind == ERASE:
            self._erase(erased_sides(sealed.entry))
        self._tables.stage(sealed)
        if sealed.entry.lsn in self._digests_wanted:
            self._digests_wanted.discard(sealed.entry.lsn)
            self._digests.append((sealed.entry.lsn, self.state_digest()))

    def _erase(self, digests: Sequence[bytes]) -> None:
        """Delete side records for good, before the entry that says so counts as applied: a crash repeats it (Z12)."""
        with self._disk("erase"):
            self._scrubbing.erase(digests)
        self.on_erased()

    def scrub(self) -> bool:
        """Finish what an erasure began, if anything is left to do; return whether nothing is."""
        with self._disk("erase"):
            return self._scrubbing.finish()

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

    def requests(self, request_ids: Sequence[str], now_ms: int = 0) -> dict[str, tuple[int, int]]:
        return self._tables.requests(request_ids, now_ms)

    @property
    def flushed_digest(self) -> tuple[int, bytes]:
        return self._tables.whole

    def state_digest(self) -> bytes:
        self.flush_staged()
        return as_bytes(self._tables.digest)

    def note_digest_at(self, lsn: int) -> None:
        self._digests_wanted.add(lsn)

    def digests(self) -> list[tuple[int, bytes]]:
        return [*self._digests, (self.applied_lsn, self.state_digest())]

    def scan_digest(self) -> bytes:
        self.flush_staged()
        with self._disk("read"):
            return as_bytes(digest_of(self._db.execute("SELECT kind, key, value FROM row")))

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
        TooNew: A newer program wrote the file; it was left as it is.
    """
    try:
        return SqliteStore(path, operator), ""
    except LedgerDamaged as error:
        reason = str(error)
    aside = put_aside(path, PUT_ASIDE, "damaged")
    log.error("store put aside operator=%s file=%s reason=%s", operator, aside.name, reason)
    return SqliteStore(path, operator), reason


def put_aside(path: Path, mark: str, why: str = "") -> Path:
    """Move a closed store's files out of use, flushed; return the new name, which says when (UTC) and why. R11: never repaired."""
    stem = f"{path.name}{mark}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}" + (f"-{why}" if why else "")
    name, number = stem, 1
    while path.with_name(name).exists():
        number += 1
        name = f"{stem}-{number}"
    moves = {path.with_name(path.name + end): path.with_name(name + end) for end in ("", "-wal", "-shm")}
    moves[segments_folder(path)] = path.with_name(name + SEGMENTS)
    for found, to in moves.items():
        if found.exists():
            os.replace(found, to)
    Disk().flush_names(path.parent)
    return path.with_name(name)
