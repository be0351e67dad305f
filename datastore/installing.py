"""A checked snapshot takes the place of a store, in an order that may stop anywhere (R13); and what is missing from it.

1. The new file gets this node's identity and promises, and what R13 keeps of the log; it is closed and flushed.
2. The record beside the store names the identity that may come next (`identities.py`).
3. The old store is closed so that its one file is all of it.
4. A second name for the old file, then one rename of the new over the first: there is a whole store at every moment.
5. The folder is flushed; the new store is opened.

Stopped before 4 the old store is in use as before, and the new file waits under `incoming/`. Stopped after it, the new one
is in use. The old file is kept until the new one serves; where entries in it are missing from the others' log it stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from datastore.errors import DiskFailed, HoldfastError, InvalidRequest
from datastore.identities import Identities
from datastore.ledger import LedgerDamaged, request_ids, unseal
from datastore.model import Epoch
from datastore.recovery import REQUESTS_SHOWN, agreed_lsn, keeps_suffix
from datastore.remembered import Remembered
from datastore.replication_steps import Summary
from datastore.rows import Kind, decode_row
from datastore.segments import Disk
from datastore.snapshot_files import flush_file
from datastore.store import PUT_ASIDE, SqliteStore
from datastore.wire_recovery import LostWrites, SnapshotOffer

SUFFIX_BYTES = 1024 * 1024


def install(old: SqliteStore, incoming: Path, offer: SnapshotOffer, fresh_uuid: str, identities: Identities) -> tuple[SqliteStore, str]:
    """Put a checked snapshot in the place of `old`; return the store to use and the old file's new name.

    Args:
        old: In use by nobody else meanwhile; closed when this returns.
        fresh_uuid: The new identity, "" to keep that of `old` (R13).
    Raises:
        InvalidRequest, RequestInProgress: Never, or not now; `old` is open and in use as before.
        DiskFailed: End the process; whatever was reached is a whole store.
    """
    path = old.path
    before = old.summary()
    if not fresh_uuid and offer.lsn < before.applied_lsn:
        raise InvalidRequest(f"{old.operator}: the snapshot of lsn {offer.lsn} is behind lsn {before.applied_lsn} here")
    try:
        _make_own(old, before, incoming, offer, fresh_uuid)
        identities.write(
            old.operator, Remembered(before.store_uuid, fresh_uuid or before.store_uuid, before.promised, before.led, before.applied_lsn)
        )
        old.close_for_good()
        aside = ""
        if before.tail.lsn:
            aside = f"{path.name}{PUT_ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-replaced"
            path.with_name(aside).unlink(missing_ok=True)
            os.link(path, path.with_name(aside))
        os.replace(incoming, path)
        Disk().flush_names(path.parent)
        return SqliteStore(path, old.operator, verified=True), aside
    except (OSError, LedgerDamaged) as error:
        raise DiskFailed(f"{path}: cannot be replaced: {error}", operator=old.operator) from error


def erased_after(store: SqliteStore, lsn: int) -> bool:
    """Return whether anybody was erased after an entry: files older than that may hold the names (Z12)."""
    return any(decode_row(Kind.ERASED, value).lsn > lsn for _, value in store.scan(Kind.ERASED))


def _make_own(old: SqliteStore, before: Summary, incoming: Path, offer: SnapshotOffer, fresh_uuid: str) -> None:
    new = SqliteStore(incoming, old.operator, verified=True)
    try:
        # What a snapshot carries is committed, also what its source had not yet written into its tables. Who is no voter any more
        # is told of no commit, and would stand there with a whole log and no rows.
        new.apply_up_to(offer.lsn)
        if not fresh_uuid and _keeps(before, offer):
            lsn = offer.lsn
            while data := old.entries(lsn + 1, 500, SUFFIX_BYTES):
                entries = [unseal(one) for one in data]
                digests = [digest for sealed in entries for digest in sealed.entry.sides]
                new.append(entries, 0, old.sides(digests))
                lsn = entries[-1].entry.lsn
        new.adopt(fresh_uuid or before.store_uuid, before.promised, before.led)
    finally:
        new.close_for_good()
    flush_file(incoming)


def _keeps(before: Summary, offer: SnapshotOffer) -> bool:
    own = [epoch for first_lsn, epoch in before.epochs if first_lsn <= offer.lsn]
    return bool(own) and keeps_suffix(own[-1], before.tail.lsn, offer.lsn, Epoch(*offer.epoch))


def lost_writes(old: Path, theirs: Callable[[list[int]], list[bytes]]) -> LostWrites:
    """Return what a closed store's log has beyond the point where the others' log parts from it.

    Args:
        theirs: The hashes of committed entries at another copy, b"" where it has none.
    """
    try:
        database = apsw.Connection(str(old), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return _compared(database, theirs)
        finally:
            database.close()
    except (apsw.Error, LedgerDamaged, ValueError, TypeError) as error:
        return LostWrites(unreadable=str(error))
    except HoldfastError as error:
        return LostWrites(unreadable=f"no other copy could be asked: {error.detail}")


def _compared(database: apsw.Connection, theirs: Callable[[list[int]], list[bytes]]) -> LostWrites:
    def ours(lsn: int) -> bytes:
        found: list[Any] = database.execute("SELECT hash FROM log WHERE lsn = ?", (lsn,)).fetchall()
        return bytes(found[0][0]) if found else b""

    ends: list[Any] = database.execute("SELECT min(lsn), max(lsn) FROM log").fetchall()
    first, last = ends[0]
    if last is None:
        return LostWrites()
    agreed = agreed_lsn(int(first), int(last), ours, theirs)
    if agreed >= last:
        return LostWrites()
    bodies: Iterable[Any] = database.execute("SELECT body FROM log WHERE lsn > ? ORDER BY lsn", (agreed,))
    return LostWrites(agreed + 1, int(last), requests_of(bytes(body) for (body,) in bodies))


def requests_of(bodies: Iterable[bytes]) -> list[str]:
    """Return the request ids of sealed entries, as many as are shown; a damaged entry names none."""
    found: list[str] = []
    for body in bodies:
        if len(found) >= REQUESTS_SHOWN:
            break
        try:
            found += request_ids(unseal(body))
        except LedgerDamaged:
            continue
    return found[:REQUESTS_SHOWN]
