"""Committed entries whose rows are applied but not yet in the file: visible to reads at once, written in one go later.

Applying an entry row by row into a file dirties a page for almost every row. Staged, the rows of some thousand entries are
folded first (a seat that was held and released is one row) and written in key order. Nothing can be lost by waiting: the
entries are in the log, and a store that stopped applies again from its applied lsn, which moves in the same transaction
as the rows. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from datastore.ledger import SealedEntry, recorded_requests


class Staged:
    """The rows, requests and applied lsn of entries since the last flush.

    Attributes:
        lsn: Of the last staged entry.
        count: Rows and requests staged, before folding: what a flush will cost at most.
    """

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        self.count = 0
        self._pending: list[SealedEntry] = []
        self._rows: dict[int, dict[str, bytes]] = {}
        self._requests: dict[str, tuple[int, int]] = {}

    def add(self, sealed: SealedEntry) -> None:
        """Take in the next entry. A replica is not read, so folding waits for the first read or flush."""
        self._pending.append(sealed)
        self.lsn = sealed.entry.lsn
        self.count += len(sealed.entry.events) + len(sealed.entry.requests)

    def rows(self, kind: int) -> dict[str, bytes]:
        """Return key -> image of one kind; b"" is a deleted row. Not to be changed by the caller."""
        self._fold()
        return self._rows.get(kind) or {}

    def kinds(self) -> list[int]:
        self._fold()
        return sorted(self._rows)

    def requests(self) -> dict[str, tuple[int, int]]:
        """Return request_id -> (lsn, index)."""
        self._fold()
        return self._requests

    def clear(self) -> None:
        """Forget everything but the lsn: it has been written."""
        self.count = 0
        self._pending = []
        self._rows = {}
        self._requests = {}

    def _fold(self) -> None:
        if not self._pending:
            return
        rows = self._rows
        for sealed in self._pending:
            for kind, key, value in sealed.entry.events:
                try:
                    rows[kind][key] = value
                except KeyError:
                    rows[kind] = {key: value}
            for request_id, lsn, index in recorded_requests(sealed.entry):
                self._requests[request_id] = (lsn, index)
        self._pending = []


def in_range(rows: dict[str, bytes], prefix: str, after: str) -> dict[str, bytes]:
    """Return the staged rows whose keys begin with `prefix` and come after `after`; "" means all."""
    if not rows or not (prefix or after):
        return rows
    return {key: value for key, value in rows.items() if key.startswith(prefix) and (not after or key > after)}


def merged(base: Sequence[tuple[str, bytes]], staged: dict[str, bytes], after: str, bound: str | None) -> list[tuple[str, bytes]]:
    """Return the rows of `base` with staged ones over them, in key order, within (after, bound]."""
    within = {key: value for key, value in staged.items() if (not after or key > after) and (bound is None or key <= bound)}
    if not within:
        return list(base)
    return sorted((key, value) for key, value in {**dict(base), **within}.items() if value)
