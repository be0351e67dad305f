"""Committed entries whose rows are applied but not yet in the file: visible to reads at once, written a slice at a time.

Applying an entry row by row into a file dirties a page for almost every row: holds and requests have random names, so each
lands elsewhere. Staged, the rows of ten thousand entries are folded first (a seat that was held and released is one row)
and written in key order, which costs a third. Written in one go they would stop the partition for a tenth of a second, so a
generation that is full is frozen and its rows ride with later appends, a few for each row that these add; meanwhile the
next generation fills.

Nothing can be lost by waiting: the entries are in the log. The applied lsn moves with the last slice of a generation; a store
that stopped between two slices finds in `flushing_lsn` how far its rows may already be, and applies that far again (row
images may be written any number of times) before anything reads them. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from datastore.ledger import SealedEntry, answer_ends


class Staged:
    """One generation: the rows, requests and last lsn of the entries since the generation before.

    Attributes:
        lsn: Of the last staged entry.
        stamp_ms: Of the last staged entry; 0 before the first.
        count: Rows and requests staged, before folding: what writing them will cost at most.
    """

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn
        self.stamp_ms = 0
        self.count = 0
        self._rows: dict[int, dict[str, bytes]] = {}
        self._requests: dict[str, tuple[int, int, int]] = {}
        # kind -> up to the first "/" -> rows; only of kinds that were asked for by such a prefix.
        self._groups: dict[int, dict[str, dict[str, bytes]]] = {}

    def add(self, sealed: SealedEntry) -> None:
        """Take in the next entry."""
        entry = sealed.entry
        self.lsn = lsn = entry.lsn
        self.stamp_ms = entry.stamp_ms
        self.count += len(entry.events) + len(entry.requests)
        rows, groups = self._rows, self._groups
        for kind, key, value in entry.events:
            try:
                rows[kind][key] = value
            except KeyError:
                rows[kind] = {key: value}
            if kind in groups:
                groups[kind].setdefault(_group_of(key), {})[key] = value
        requests = self._requests
        for index, ((request_id, _), ends_ms) in enumerate(zip(entry.requests, answer_ends(entry), strict=True)):
            if request_id:
                requests[request_id] = (lsn, index, ends_ms)

    def rows(self, kind: int) -> dict[str, bytes]:
        """Return key -> image of one kind; b"" is a deleted row. Not to be changed by the caller."""
        return self._rows.get(kind) or {}

    def rows_under(self, kind: int, prefix: str) -> dict[str, bytes]:
        """Return those of `rows` whose keys begin with `prefix`; a whole first part, "X/", costs no look at the others."""
        rows = self.rows(kind)
        if not prefix or not rows:
            return rows
        if prefix.find("/") != len(prefix) - 1:
            return {key: value for key, value in rows.items() if key.startswith(prefix)}
        groups = self._groups.get(kind)
        if groups is None:
            groups = self._groups[kind] = {}
            for key, value in rows.items():
                groups.setdefault(_group_of(key), {})[key] = value
        return groups.get(prefix) or {}

    def kinds(self) -> list[int]:
        return sorted(self._rows)

    def requests(self) -> dict[str, tuple[int, int, int]]:
        """Return request_id -> (lsn, index, end of its life on the log clock or 0)."""
        return self._requests


def _group_of(key: str) -> str:
    """Return the key's part up to and with its first "/", "" where it has none."""
    return key[: key.find("/") + 1]


class Slice(NamedTuple):
    """Some rows of a generation, each list in the order of its table's key."""

    puts: list[tuple[int, str, bytes]]
    deletes: list[tuple[int, str]]
    requests: list[tuple[str, int, int, int]]


class Flush:
    """A frozen generation on its way into the file."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self._kinds: deque[int] = deque(staged.kinds())
        self._kind = 0
        self._values: dict[str, bytes] = {}
        self._keys: list[str] = []  # of `_values`, then of the requests: sorted alone, texts compare four times as fast as pairs
        self._at_requests = False
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether everything was taken."""
        return self._at_requests and self._at >= len(self._keys)

    def take(self, rows_max: int) -> Slice:
        """Return the next rows and requests, `rows_max` at most."""
        puts: list[tuple[int, str, bytes]] = []
        deletes: list[tuple[int, str]] = []
        requests: list[tuple[str, int, int, int]] = []
        while rows_max > 0 and not self.done:
            if self._at >= len(self._keys):
                self._next_table()
                continue
            chunk = self._keys[self._at : self._at + rows_max]
            self._at += len(chunk)
            rows_max -= len(chunk)
            if self._at_requests:
                places = self.staged.requests()
                requests = [(key, *places[key]) for key in chunk]
            else:
                kind, values = self._kind, self._values
                puts += [(kind, key, value) for key in chunk if (value := values[key])]
                deletes += [(kind, key) for key in chunk if not values[key]]
        return Slice(puts, deletes, requests)

    def _next_table(self) -> None:
        """Sort the next table's keys: one at a time, so that no slice pays for all."""
        self._at = 0
        if self._kinds:
            self._kind = self._kinds.popleft()
            self._values = self.staged.rows(self._kind)
            self._keys = sorted(self._values)
        else:
            self._at_requests = True
            self._keys = sorted(self.staged.requests())


def merged(base: Sequence[tuple[str, bytes]], staged: dict[str, bytes], after: str, bound: str | None) -> list[tuple[str, bytes]]:
    """Return the rows of `base` with staged ones over them, in key order, within (after, bound]."""
    within = {key: value for key, value in staged.items() if (not after or key > after) and (bound is None or key <= bound)}
    if not within:
        return list(base)
    return sorted((key, value) for key, value in {**dict(base), **within}.items() if value)
