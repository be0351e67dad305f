"""A snapshot as a file: taken from a store while it sells, checked before anything is replaced, then made a store's own.

Both halves may take long and burn a processor, so for all but small files a node runs them as processes of their own
(`snapshots.Children`): neither sales nor promises wait for them.

- `take` copies page by page within one read transaction: the copy is of one moment however long it takes, and the writer
  goes on. The writer's WAL grows by what is sold meanwhile, so the copy is paced by the disk and not by the network. How large
  it will be and where its log ends is known at the beginning; who waits for it reads what there is of it meanwhile.
- `check` believes nothing: bytes, SQLite's structure, every entry from the file's first on, every applied row.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from datastore.errors import DiskFailed, HoldfastError, TooNew
from datastore.ledger import LedgerDamaged
from datastore.store import SqliteStore
from datastore.store_file import META_SUM, UNREADABLE_VALUES, put_meta, read_meta, sum_of

STEP_PAGES = 256
BLOCK_BYTES = 1024 * 1024
BLOCKS_MAX = 4096
BUSY_MS = 5000


class At(NamedTuple):
    """A position with its hash in hexadecimal."""

    lsn: int
    epoch_counter: int
    epoch_manager: str
    hash: str


class Begun(NamedTuple):
    """What is known of a copy when it begins. `at`: the last entry in it that is known to be committed."""

    size_bytes: int
    at: At


class Taken(NamedTuple):
    """What `take` made. `sha256` in hexadecimal; `block_sums`: the CRC-32 of each block of `block_bytes`, the last one shorter."""

    size_bytes: int
    sha256: str
    at: At
    block_bytes: int
    block_sums: list[int]


def take(store: Path, out: Path, bytes_per_s: int, committed: At, begun: Callable[[Begun], object] = lambda _: None) -> Taken:
    """Copy a store that may be in use to `out`, no faster than `bytes_per_s`.

    Args:
        committed: What was committed before the copy began. What is applied in the file may be further: it is committed too.
        begun: Told before the first page is copied. What is in the file from then on may still change.
    Raises:
        DiskFailed: The copy cannot be made.
        LedgerDamaged: The store cannot be read.
    """
    try:
        source = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
        copy = apsw.Connection(str(out))
        try:
            source.set_busy_timeout(BUSY_MS)
            source.execute("BEGIN")
            # The first read fixes the moment. An open transaction also keeps the copy from starting over at every write.
            page_bytes = _first(source, "PRAGMA page_size")[0]
            at = _position(source, committed)
            begun(Begun(_first(source, "PRAGMA page_count")[0] * page_bytes, at))
            # A copy that is interrupted is thrown away: it needs no journal and no flush.
            copy.execute("PRAGMA journal_mode = OFF").fetchall()
            copy.execute("PRAGMA synchronous = OFF").fetchall()
            _copy_pages(copy, source, page_bytes, bytes_per_s)
        finally:
            copy.close()
            source.close()
        return _summed(out, at)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise LedgerDamaged(f"{store}: {error}") from error
    except (apsw.Error, OSError) as error:
        raise DiskFailed(f"{out}: {error}") from error


def _summed(out: Path, at: At) -> Taken:
    """Return what a finished copy is, read once."""
    size_bytes = out.stat().st_size
    block_bytes = BLOCK_BYTES * max(1, -(-size_bytes // (BLOCK_BYTES * BLOCKS_MAX)))
    whole, sums = hashlib.sha256(), []
    with out.open("rb") as file:
        # A large block is read in pieces: memory does not grow with the file.
        for start in range(0, size_bytes, block_bytes):
            total = 0
            for _ in range(start, min(start + block_bytes, size_bytes), BLOCK_BYTES):
                piece = file.read(BLOCK_BYTES)
                whole.update(piece)
                total = zlib.crc32(piece, total)
            sums.append(total)
    return Taken(size_bytes, whole.hexdigest(), at, block_bytes, sums)


def _position(database: apsw.Connection, committed: At) -> At:
    # A flush may be under way: some rows are further than the applied lsn says.
    applied = int(_first(database, "SELECT max(value) FROM meta WHERE key IN ('applied_lsn', 'flushing_lsn')")[0])
    if applied <= committed.lsn:
        return committed
    lsn, counter, manager, digest = _first(database, "SELECT lsn, epoch_counter, epoch_manager, hash FROM log WHERE lsn = ?", applied)
    return At(lsn, counter, manager, bytes(digest).hex())


def _first(database: apsw.Connection, statement: str, *values: Any) -> Any:
    """Return the first row of what must have one."""
    found: list[Any] = database.execute(statement, values).fetchall()
    if not found:
        raise LedgerDamaged(f"nothing found where the store must have something: {statement}")
    return found[0]


def _copy_pages(copy: apsw.Connection, source: apsw.Connection, page_bytes: int, bytes_per_s: int) -> None:
    began = time.monotonic()
    done_bytes = 0
    pause = threading.Event()  # Not time.sleep: it fails where a process's wall clock is shifted by libfaketime, as tests do.
    with copy.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(STEP_PAGES)
            done_bytes += STEP_PAGES * page_bytes
            pause.wait(max(0.0, began + done_bytes / bytes_per_s - time.monotonic()))


def check(path: Path, operator: str, sha256: str, lsn: int, entry_hash: str) -> str:
    """Verify a snapshot's file and cut its log at `lsn`; return why it must not be used, or "".

    Args:
        sha256, entry_hash: Hexadecimal: of the bytes, of the entry at `lsn`.
    Raises:
        DiskFailed: The file cannot be read or written here.
    """
    try:
        # A check that was interrupted may have cut the log already; then the bytes were as offered before.
        if not cut_mark(path).exists():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    return "the bytes that came are not those that were offered"
            _mark_cut(path)
        return _check_store(path, operator, lsn, entry_hash)
    except (LedgerDamaged, TooNew) as error:
        return error.detail
    except OSError as error:
        raise DiskFailed(f"{path}: {error}") from error


def cut_mark(path: Path) -> Path:
    """Return the file beside a snapshot's that says: its bytes were verified, and the check may have changed it since."""
    return path.with_name(path.name + ".cut")


def _mark_cut(path: Path) -> None:
    cut_mark(path).touch()
    flush_file(cut_mark(path))


def _check_store(path: Path, operator: str, lsn: int, entry_hash: str) -> str:
    database = apsw.Connection(str(path))
    try:
        found: list[Any] = database.execute("PRAGMA quick_check(1)").fetchall()
        meta = read_meta(database)
        if meta.get(META_SUM, sum_of(meta)) != sum_of(meta):  # A source of before has none.
            return "what it says of itself has another sum"
        # The source verified its own file; what is here is verified from the first entry that it has.
        with database:
            put_meta(database, {"verified_lsn": 0})
    except (apsw.Error, *UNREADABLE_VALUES) as error:
        raise LedgerDamaged(f"{path}: {error}") from error
    finally:
        database.close()
    if found != [("ok",)]:
        return f"SQLite finds it damaged: {found[0][0]}"
    store = SqliteStore(path, operator)
    try:
        summary = store.summary()
        if summary.tail.lsn < lsn or summary.applied_lsn > lsn:
            return f"its log ends at {summary.tail.lsn} and its rows at {summary.applied_lsn}; it was offered as of {lsn}"
        if store.hash_at(lsn).hex() != entry_hash:
            return f"entry {lsn} is not the one that was offered"
        if store.scan_digest() != store.state_digest():
            return "the applied rows are not those that its digest is of"
        if summary.tail.lsn > lsn:
            # What came after was not known to be committed where it was taken.
            store.append([], truncate_from=lsn + 1)
        return ""
    finally:
        store.close()


def flush_file(path: Path) -> None:
    """Return when a file's content is on the disk. Never of a database in use: closing the descriptor drops SQLite's locks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run_command(action: str, arguments: list[str], begun: Callable[[Begun], object] = lambda _: None) -> dict[str, object]:
    """Run one half as `snapshot_child` does; return what it says at the end."""
    try:
        if action == "take":
            store, out, bytes_per_s, lsn, counter, manager, entry_hash = arguments
            at = At(int(lsn), int(counter), manager, entry_hash)
            return dict(take(Path(store), Path(out), int(bytes_per_s), at, begun)._asdict())
        path, operator, sha256, lsn, entry_hash = arguments
        return {"reason": check(Path(path), operator, sha256, int(lsn), entry_hash)}
    except HoldfastError as error:
        return {"error": error.detail}
