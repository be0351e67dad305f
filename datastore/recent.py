"""The last entries of a partition's log, opened: what is shipped, applied, fed and asked for again is mostly these. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from datastore.engine import FirstAnswer
from datastore.ledger import SealedEntry, entries_within, outcome_at, unseal
from datastore.store_port import Store
from datastore.wire import Outcome

ENTRIES_KEPT = 256
BYTES_KEPT = 8 * 1024 * 1024
ENTRIES_READ = 500


class RecentEntries:
    """Entries by lsn, from memory where they are recent, else from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[int, SealedEntry] = OrderedDict()  # consecutive, ascending
        self._size_bytes = 0

    def add(self, sealed: SealedEntry) -> None:
        """Keep the log's new last entry, written or about to be."""
        self._kept[sealed.entry.lsn] = sealed
        self._size_bytes += len(sealed.data)
        while len(self._kept) > 1 and (len(self._kept) > ENTRIES_KEPT or self._size_bytes > BYTES_KEPT):
            _, oldest = self._kept.popitem(last=False)
            self._size_bytes -= len(oldest.data)

    def follow(self, truncate_from: int, entries: Sequence[SealedEntry]) -> None:
        """Drop what is truncated (0: nothing) and keep what is written."""
        if truncate_from:
            self.forget_from(truncate_from)
        for sealed in entries:
            self.add(sealed)

    def forget_from(self, lsn: int) -> None:
        """Drop what is truncated."""
        while self._kept and next(reversed(self._kept)) >= lsn:
            _, sealed = self._kept.popitem()
            self._size_bytes -= len(sealed.data)

    def entry(self, lsn: int) -> SealedEntry:
        """Return one entry of the log."""
        return self._kept.get(lsn) or unseal(self._store.entries(lsn, 1, 0)[0])

    def first_answer(self, places: Mapping[str, tuple[int, int]]) -> FirstAnswer:
        """Return what finds the recorded answer of a request.

        Args:
            places: request_id -> (lsn, index) of those that were answered.
        """

        def found(request_id: str) -> tuple[bytes, Outcome] | None:
            place = places.get(request_id)
            return None if place is None else outcome_at(self.entry(place[0]).entry, place[1])

        return found

    def between(self, first_lsn: int, last_lsn: int, size_bytes_max: int) -> list[SealedEntry]:
        """Return entries from `first_lsn` on, at most to `last_lsn`: fewer where they are many or large, one at least."""
        if first_lsn > last_lsn:
            return []
        if first_lsn in self._kept:
            last_lsn = min(last_lsn, first_lsn + ENTRIES_READ - 1)
            return entries_within([self._kept[lsn] for lsn in range(first_lsn, last_lsn + 1)], size_bytes_max)
        limit = min(ENTRIES_READ, last_lsn - first_lsn + 1)
        if self._kept:
            # The newest one kept may not be in the store yet, so what is kept is never read from there.
            limit = min(limit, next(iter(self._kept)) - first_lsn)
        return [unseal(data) for data in self._store.entries(first_lsn, limit, size_bytes_max)]
