"""What a store's file keeps beside its entries, compared with what follows from the entries.

The log's columns, the reigns, the voters, the answers by request id: a node finds its way by them, and each follows from the entries
alone. So a full check needs no second copy of them: it reads the entries anyway, and says where a table says something else. What
follows from nothing (who the store is, what it promised and led) has a sum in the file (`store_file.sum_of`).

Used by `checking.FullCheck` on its scratch database, so that a long ledger fits any memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from datastore.ledger import CONFIG, SealedEntry, answer_ends
from datastore.model import EPOCH_NONE, Epoch
from datastore.rows import Kind
from datastore.store_file import META_KEYS, META_SUM, read_meta, sum_of

OPERATOR = "operator"
NUMBERS = ("promised_counter", "led_counter", "applied_lsn", "flushing_lsn", "verified_lsn", "scrub")


class Found(NamedTuple):
    """What is not as it follows from the entries. `lsn`: the entry that says otherwise, 0 where it is none."""

    lsn: int
    what: str


class Beside:
    """Takes the entries in, in order, and then looks at the tables."""

    def __init__(self, scratch: apsw.Connection) -> None:
        self._scratch = scratch
        self._before = EPOCH_NONE
        self._reigns: list[tuple[int, int, str]] = []
        self._configs: list[tuple[int, bytes]] = []
        self._last_lsn = self._stamp_ms = 0
        for table in ("due", "kept"):
            columns = "request_id TEXT, lsn INTEGER, position INTEGER, ends_ms INTEGER"
            scratch.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY (request_id, lsn)) WITHOUT ROWID")

    def take(self, entries: Sequence[SealedEntry], database: apsw.Connection) -> list[Found]:
        """Take in the next entries; return what the log's rows say otherwise. Rows of entries that are sealed may be gone.

        Raises:
            apsw.Error: The file cannot be read.
        """
        if not entries:
            return []
        first, last = entries[0].entry.lsn, entries[-1].entry.lsn
        columns = "lsn, epoch_counter, epoch_manager, stamp_ms, body, hash"
        rows = {row[0]: row for row in database.execute(f"SELECT {columns} FROM log WHERE lsn BETWEEN ? AND ?", (first, last))}
        found = []
        due = []
        for sealed in entries:
            entry = sealed.entry
            epoch = Epoch(*entry.epoch)
            row = rows.get(entry.lsn)
            if row is not None and row != (entry.lsn, *epoch, entry.stamp_ms, sealed.data, sealed.hash):
                found.append(Found(entry.lsn, "what the log keeps beside the entry is not the entry's"))
            if epoch != self._before:
                self._reigns.append((entry.lsn, *epoch))
                self._before = epoch
            if entry.kind == CONFIG:
                self._configs += [(entry.lsn, value) for kind, _, value in entry.events if kind == Kind.CONFIG]
            ends = zip(entry.requests, answer_ends(entry), strict=True)
            due += [(request_id, entry.lsn, at, ends_ms) for at, ((request_id, _), ends_ms) in enumerate(ends) if request_id]
            self._last_lsn, self._stamp_ms = entry.lsn, entry.stamp_ms
        with self._scratch:
            # The same id twice in one entry: the second is the first one's repeat, and its place counts.
            self._scratch.executemany("INSERT OR REPLACE INTO due VALUES (?, ?, ?, ?)", due)
        return found

    def compare(self, database: apsw.Connection) -> list[Found]:
        """Return what the other tables say otherwise, once every entry of the file was taken in; inside a transaction of the reader's.

        Raises:
            apsw.Error: The file cannot be read.
        """
        meta = read_meta(database)
        found = self._of_meta(meta)
        strays = database.execute("SELECT lsn FROM log WHERE lsn < 1 OR lsn > ? LIMIT 1", (self._last_lsn,)).fetchall()
        found += [Found(0, f"the log has a row of lsn {lsn}, which is no entry of the ledger") for (lsn,) in strays]
        at = 1
        for first, last in database.execute("SELECT first_lsn, last_lsn FROM segment ORDER BY first_lsn"):
            if first != at:
                found.append(Found(at, f"its list of segments goes on with entry {first}"))
            at = last + 1
        reigns = database.execute("SELECT first_lsn, counter, manager FROM epoch ORDER BY first_lsn")
        found += self._of_list("the reigns", reigns, self._reigns)
        configs = database.execute("SELECT lsn, value FROM config ORDER BY lsn").fetchall()
        # What a founding gave to the empty store is at lsn 0, and the first reign wrote the same into its first entry.
        founding = [(0, value) for _, value in self._configs[:1] if configs and configs[0][0] == 0]
        found += self._of_list("the voters", configs, [*founding, *self._configs] if self._configs else configs)
        return found or self._of_requests(database, meta)

    def _of_meta(self, meta: Mapping[Any, Any]) -> list[Found]:
        """What the file says of itself: its sum, and numbers that cannot be."""
        if meta.keys() - {META_SUM} != META_KEYS | {OPERATOR}:
            odd = sorted(str(key) for key in meta.keys() ^ (META_KEYS | {OPERATOR}) if key != META_SUM)
            return [Found(0, f"its record of itself has other names than it should: {', '.join(odd)}")]
        wrong = [key for key in NUMBERS if type(meta[key]) is not int or meta[key] < 0]
        if wrong:
            return [Found(0, f"its record of itself says {meta[key]!r} for {key}") for key in wrong]
        found = []
        if META_SUM in meta and meta[META_SUM] != sum_of(meta):
            found.append(Found(0, "what it says of itself is not what was written: its sum differs"))
        applied, flushing = meta["applied_lsn"], meta["flushing_lsn"]
        if not applied <= flushing <= self._last_lsn or meta["verified_lsn"] > self._last_lsn or meta["scrub"] > 1:
            numbers = ", ".join(f"{key} {meta[key]}" for key in NUMBERS[2:])
            found.append(Found(0, f"its record of itself cannot be: {numbers}, and {self._last_lsn} entries"))
        return found

    def _of_list(self, name: str, rows: Any, due: Sequence[tuple[Any, ...]]) -> list[Found]:
        """Compare a short table, row by row."""
        kept = list(rows)
        for there, wanted in zip(kept, due, strict=False):
            if there != wanted:
                return [Found(min(int(wanted[0]), self._last_lsn), f"its list of {name} says otherwise from here on")]
        if len(kept) != len(due):
            return [Found(0, f"its list of {name} has {len(kept)} rows, the ledger {len(due)}")]
        return []

    def _of_requests(self, database: apsw.Connection, meta: Mapping[Any, Any]) -> list[Found]:
        """Compare the answers by request id; those whose time is over may be gone, those of a flush under way may be there."""
        execute = self._scratch.execute
        with self._scratch:
            execute("DELETE FROM kept")
            rows = database.execute("SELECT request_id, lsn, position, ends_ms FROM request")
            self._scratch.executemany("INSERT INTO kept VALUES (?, ?, ?, ?)", rows)
        applied, flushing = meta["applied_lsn"], meta["flushing_lsn"]
        wrong = (
            "SELECT kept.request_id, kept.lsn FROM kept LEFT JOIN due USING (request_id, lsn)"
            " WHERE due.lsn IS NULL OR kept.lsn > ? OR (kept.position, kept.ends_ms) IS NOT (due.position, due.ends_ms) LIMIT 1"
        )
        for request_id, lsn in execute(wrong, (flushing,)):
            return [Found(0, f"the answer to request {request_id} is said to be in entry {lsn}, where it is not")]
        missing = (
            "SELECT request_id, max(lsn), ends_ms FROM due WHERE lsn <= ? GROUP BY request_id"
            " HAVING (ends_ms = 0 OR ends_ms > ?) AND request_id NOT IN (SELECT request_id FROM kept) LIMIT 1"
        )
        for request_id, lsn, _ in execute(missing, (applied, self._stamp_ms)):
            return [Found(lsn, f"the answer to request {request_id} is missing")]
        return []
