"""Erasing side records from a partition's disk so that no byte of them is left in any of its files (Z12).

Deleting a row is not enough: SQLite keeps old bytes in freed pages, in the slack of pages that it has rebuilt, and in its
write-ahead log. So an erasure is

1. one transaction, with deleted content overwritten (`secure_delete`), which also notes that the rest is still to be done;
2. a checkpoint that empties the write-ahead log; it waits for whoever reads the file, and is tried again until it is done;
3. a search of the file for the erased bytes. Where a rebuilt page still shows some, the file is written anew (VACUUM).

Files that were put aside, damaged or retired, hold the records too, and nothing can be erased in them: they go as a whole
(their segments stay, those never held any). A majority has what they had, or the erasure could not have been committed.
So do snapshots on their way from or to this node; the recovery that needs them begins anew (`Node.erased`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import apsw

from datastore.store_file import put_meta

# A record longer than this may be cut by a page's end, so it is searched in pieces: of twice as many bytes that are left in
# one place, one whole piece is among them.
PIECE_BYTES = 48
CHUNK_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Scrubbing:
    """What is left to do for the erasures of one store; one thread at a time."""

    def __init__(self, database: apsw.Connection, path: Path, *, wanted: bool) -> None:
        """Prepare.

        Args:
            wanted: An earlier process erased and did not finish: nobody knows the bytes any more, so the file is written anew.
        """
        self._database = database
        self._path = path
        self._wanted = wanted
        self._rewrite = wanted
        self._pieces: list[bytes] = []

    def erase(self, digests: Sequence[bytes]) -> None:
        """Delete the records, durable when this returns, then finish as far as readers allow.

        Raises:
            apsw.Error, OSError: The disk refuses.
        """
        execute = self._database.execute
        for digest in digests:
            for (record,) in execute("SELECT value FROM side WHERE digest = ?", (digest,)):
                self._pieces += [record[start : start + PIECE_BYTES] for start in range(0, len(record), PIECE_BYTES)]
        execute("PRAGMA secure_delete = ON").fetchall()
        try:
            execute("BEGIN IMMEDIATE")
            self._database.executemany("DELETE FROM side WHERE digest = ?", [(digest,) for digest in digests])
            put_meta(self._database, {"scrub": 1})
            execute("COMMIT")
        finally:
            execute("PRAGMA secure_delete = FAST").fetchall()
        self._wanted = True
        self._drop_put_aside()
        self.finish()

    def finish(self) -> bool:
        """Do what is left; return whether nothing is. A reader of the file may make it wait for the next call.

        Raises:
            apsw.Error, OSError: The disk refuses.
        """
        if not self._wanted:
            return True
        if not self._empty_log():
            return False
        if self._rewrite or self._shows():
            self._rewrite = True
            self._database.execute("PRAGMA temp_store = FILE").fetchall()  # The whole file passes through it.
            try:
                self._database.execute("VACUUM").fetchall()
            except (apsw.BusyError, apsw.LockedError):
                return False
            finally:
                self._database.execute("PRAGMA temp_store = MEMORY").fetchall()
            log.info("file written anew after an erasure file=%s", self._path.name)
        with self._database:
            put_meta(self._database, {"scrub": 0})
        if not self._empty_log():
            return False
        self._wanted = self._rewrite = False
        self._pieces = []
        return True

    def _empty_log(self) -> bool:
        """Copy the write-ahead log into the file and cut it to nothing; return whether no reader was in the way."""
        try:
            busy, _, _ = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        except (apsw.BusyError, apsw.LockedError):
            return False
        return not busy

    def _shows(self) -> bool:
        """Return whether the file holds any piece of what was erased. Short last pieces may stand in other records too."""
        pieces = [piece for piece in self._pieces if len(piece) == PIECE_BYTES] or self._pieces
        # Through SQLite's own handle: when a process closes any other handle of the file, the system drops the locks that
        # SQLite holds on it, and the next reader from another process would take the write-ahead log for one nobody uses.
        size_bytes = self._path.stat().st_size
        before = b""
        for offset in range(0, size_bytes, CHUNK_BYTES):
            _, chunk = self._database.read("main", 0, offset, min(CHUNK_BYTES, size_bytes - offset))
            content = before + chunk
            if any(piece in content for piece in pieces):
                return True
            before = content[-PIECE_BYTES:]  # A piece may lie across two chunks.
        return False

    def _drop_put_aside(self) -> None:
        drop_put_aside(self._path)


def drop_put_aside(path: Path) -> list[str]:
    """Delete the files of a store that are used no more; return their names."""
    gone = []
    for found in sorted([*path.parent.glob(f"{path.name}.quarantined-*"), *path.parent.glob(f"{path.name}.retired-*")]):
        if found.is_file():
            log.warning("file that was put aside deleted for an erasure file=%s", found.name)
            found.unlink()
            gone.append(found.name)
    return gone
