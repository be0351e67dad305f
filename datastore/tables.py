"""The rows that follow from the log, in SQLite: what is in the file, and over it what is staged (`staging.py`).

Used by `SqliteStore` alone, on its connection and inside its transactions; it maps the disk's errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from datastore.digest import as_bytes, changed
from datastore.ledger import SealedEntry
from datastore.staging import Flush, Staged, merged
from datastore.store_file import put_meta

# A generation is frozen when it has this many rows and requests. A row with a random name costs 8 us with 8,192 written in key
# order, 3 us with 32,768, as they share the pages they touch.
STAGED_ROWS_MAX = 32_768
# How many staged rows ride with an append for each row that it adds: at 2, one generation is in the file when the next is half full.
ROWS_RIDING = 2
ROWS_RIDING_MIN = 16
# How many answers whose time is over go with one generation.
ANSWERS_FORGOTTEN = 20_000
# Up to how many keys are looked up one by one: a list in JSON costs a table of its own for every statement.
KEYS_APART = 4


class RowTables:
    """Reads and writes of the tables `row` and `request`."""

    def __init__(self, db: apsw.Connection, read: Callable[[str, Sequence[Any]], list[Any]], flushed_lsn: int, digest: int) -> None:
        """Begin where the file ends.

        Args:
            read: Runs a SELECT; raises our errors.
            flushed_lsn: Up to where the file's rows are applied.
            digest: The set hash of the rows in the file (`digest.py`).
        """
        self._db = db
        self._read = read
        self.flushed_lsn = flushed_lsn
        self.digest = digest
        self.whole = (flushed_lsn, as_bytes(digest))  # replaced as a whole: any thread may read it
        self._staged = Staged(flushed_lsn)
        self._flush: Flush | None = None
        self._ahead: dict[tuple[int, str], bytes | None] = {}

    @property
    def applied_lsn(self) -> int:
        return self._staged.lsn

    def stage(self, sealed: SealedEntry) -> None:
        """Apply the next entry."""
        self._staged.add(sealed)
        self._ahead.clear()

    # --- writing --------------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Return whether rows should ride with the next append."""
        return self._flush is not None or self._staged.count >= STAGED_ROWS_MAX

    def write(self, rows_max: int) -> Flush | None:
        """Write up to `rows_max` rows of the frozen generation, frozen now if need be; inside a transaction.

        Returns:
            The generation, to be given to `written` once the transaction stands; None where there is nothing to write.
        """
        said: dict[str, int | bytes] = {}
        if self._flush is None:
            if self._staged.lsn == self.flushed_lsn:
                return None
            self._flush, self._staged = Flush(self._staged), Staged(self._staged.lsn)
            # R7, with the rows in several transactions: from the first on the file says how far its rows may be.
            said["flushing_lsn"] = self._flush.staged.lsn
        puts, deletes, requests = self._flush.take(rows_max)
        if self._count(puts, deletes):
            said["state_digest"] = as_bytes(self.digest)
        if puts:
            self._db.executemany("INSERT OR REPLACE INTO row VALUES (?, ?, ?)", puts)
        if deletes:
            self._db.executemany("DELETE FROM row WHERE kind = ? AND key = ?", deletes)
        if requests:
            self._db.executemany("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?)", requests)
        if self._flush.done:
            said["applied_lsn"] = self._flush.staged.lsn
            # Z2: whose time is over on the log's clock has no answer any more, on any replica; here its row goes.
            self._db.execute(
                "DELETE FROM request WHERE request_id IN (SELECT request_id FROM request WHERE ends_ms > 0 AND ends_ms <= ? LIMIT ?)",
                (self._flush.staged.stamp_ms, ANSWERS_FORGOTTEN),
            )
        if said:
            put_meta(self._db, said)
        return self._flush

    def _count(self, puts: Sequence[tuple[int, str, bytes]], deletes: Sequence[tuple[int, str]]) -> bool:
        """Take rows about to be written into the digest, each for the image in the file that it replaces; return whether there are any."""
        new: dict[int, list[tuple[str, bytes]]] = {}
        for kind, key, value in puts:
            new.setdefault(kind, []).append((key, value))
        for kind, key in deletes:
            new.setdefault(kind, []).append((key, b""))
        for kind, rows in new.items():
            old = self._stored(kind, [key for key, _ in rows])
            self.digest = changed(self.digest, kind, old, rows)
        return bool(new)

    def _stored(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Return key -> image of those that the file has."""
        if len(keys) <= KEYS_APART:
            query = "SELECT key, value FROM row WHERE kind = ? AND key = ?"
            return dict([row for key in keys for row in self._read(query, (kind, key))])
        query = "SELECT key, value FROM row WHERE kind = ? AND key IN (SELECT value FROM json_each(?))"
        return dict(self._read(query, (kind, json.dumps(keys))))

    def written(self, flush: Flush | None) -> bool:
        """Note what `write` wrote; return whether a whole generation, or all there was, is now in the file."""
        if flush is not None and flush.done:
            self.flushed_lsn = flush.staged.lsn
            self.whole = (self.flushed_lsn, as_bytes(self.digest))
            self._flush = None
        return self._flush is None

    # --- reading --------------------------------------------------------------------------------------------------

    def read_ahead(self, kind: int, keys: Sequence[str]) -> None:
        found = self.get_many(kind, keys)
        self._ahead.update({(kind, key): found.get(key) for key in keys})

    def get(self, kind: int, key: str) -> bytes | None:
        if (kind, key) in self._ahead:
            return self._ahead[kind, key]
        for generation in self._generations():
            staged = generation.rows(kind).get(key)
            if staged is not None:
                return staged or None
        found = self._read("SELECT value FROM row WHERE kind = ? AND key = ?", (kind, key))
        return found[0][0] if found else None

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        found = self._stored(kind, keys)
        for generation in reversed(self._generations()):
            staged = generation.rows(kind)
            if staged:
                found.update({key: staged[key] for key in keys if key in staged})
        return {key: value for key, value in found.items() if value}

    def scan(self, kind: int, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        staged: dict[str, bytes] = {}
        for generation in reversed(self._generations()):
            staged = {**staged, **generation.rows_under(kind, prefix)} if staged else generation.rows_under(kind, prefix)
        found: list[tuple[str, bytes]] = []
        while True:
            # "\U0010ffff" is above every character of a key, so the range is exactly what begins with the prefix.
            base = self._read(
                "SELECT key, value FROM row WHERE kind = ? AND key >= ? AND key < ? AND (key > ? OR ? = '') ORDER BY key LIMIT ?",
                (kind, max(prefix, after), prefix + "\U0010ffff", after, after, limit or -1),
            )
            bound = base[-1][0] if limit and len(base) == limit else None
            found += merged(base, staged, after, bound)
            if bound is None or len(found) >= limit:
                return found[:limit] if limit else found
            after = bound

    def requests(self, request_ids: Sequence[str], now_ms: int) -> dict[str, tuple[int, int]]:
        columns = "SELECT request_id, lsn, position, ends_ms FROM request WHERE request_id"
        if len(request_ids) <= KEYS_APART:
            rows = [row for request_id in request_ids for row in self._read(f"{columns} = ?", (request_id,))]
        else:
            rows = self._read(f"{columns} IN (SELECT value FROM json_each(?))", (json.dumps(request_ids),))
        found = {request_id: (lsn, position, ends_ms) for request_id, lsn, position, ends_ms in rows}
        for generation in reversed(self._generations()):
            staged = generation.requests()
            if staged:
                found.update({request_id: staged[request_id] for request_id in request_ids if request_id in staged})
        return {request_id: place[:2] for request_id, place in found.items() if not place[2] or place[2] > now_ms}

    def _generations(self) -> tuple[Staged, ...]:
        """Return what is over the file, the newest first."""
        return (self._staged,) if self._flush is None else (self._staged, self._flush.staged)
