"""A partition's open holds in memory: by id, by owner and by when they are due. Pure.

Holds that were made in bulk stay in their bulk's row here too, and become rows of their own only where one is asked for: a
bulk of hundreds costs as much to take in as one hold.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from datastore.model import in_order, place_in_bulk
from datastore.rows import BulkRow, HoldRow, Kind, decode_row

NONE_CHANGED: Final[Mapping[str, BulkRow | None]] = {}


@dataclass
class OpenHolds:
    """Follows the events of the kinds OPEN_HOLD and BULK. Two are equal that tell the same, however they came to it."""

    bulks: dict[str, BulkRow] = field(default_factory=dict)
    rows: dict[str, HoldRow] = field(default_factory=dict)
    _of_owner: dict[str, set[str]] = field(default_factory=dict)  # ids of rows and of bulks
    _counts: dict[str, int] = field(default_factory=dict)  # owner -> holds, those in bulks included
    _on_service: dict[str, set[str]] = field(default_factory=dict)  # service -> ids of bulks
    _due: list[tuple[int, str]] = field(default_factory=list, compare=False)  # (expires_ms, id of a row or of a bulk), and some that were

    def __len__(self) -> int:
        return sum(self._counts.values())

    def get(self, hold_id: str, changed: Mapping[str, BulkRow | None] = NONE_CHANGED) -> HoldRow | None:
        """Return an open hold, wherever it is kept.

        Args:
            changed: Bulks as a batch leaves them; None: nothing is left in it.
        """
        # One that left its bulk in an earlier entry has a row, whatever a batch does to its neighbours.
        row = self.rows.get(hold_id)
        if row is not None or not (self.bulks or changed):
            return row
        place = place_in_bulk(hold_id)
        if place is None:
            return None
        bulk = changed[place[0]] if place[0] in changed else self.bulks.get(place[0])
        return bulk.hold(place[1]) if bulk is not None else None

    def count_of(self, owner: str) -> int:
        """Return how many open holds the owner has, those whose time is over included."""
        return self._counts.get(owner, 0)

    def ids_of(self, owner: str) -> list[str]:
        """Return the ids of the owner's open holds, in order."""
        found: list[str] = []
        for one in self._of_owner.get(owner, ()):
            bulk = self.bulks.get(one)
            found += [one] if bulk is None else bulk.hold_ids()
        return sorted(found, key=in_order)

    def bulks_on(self, service_id: str) -> list[BulkRow]:
        """Return the bulks of a service; no two of them name one seat."""
        return [self.bulks[bulk_id] for bulk_id in self._on_service.get(service_id, ())]

    def due(self, now_ms: int, limit: int) -> list[HoldRow]:
        """Return up to `limit` open holds whose time is over and that are decided here, oldest first."""
        found: list[HoldRow] = []
        seen: list[tuple[int, str]] = []
        while self._due and len(found) < limit and self._due[0][0] <= now_ms:
            due_ms, one = heapq.heappop(self._due)
            row, bulk = self.rows.get(one), self.bulks.get(one)
            if bulk is not None:
                found += bulk.holds()[: limit - len(found)]
            elif row is not None and row.expires_ms == due_ms:
                found.append(row)
            else:
                continue  # Closed or extended since: an extension pushed its own entry.
            seen.append((due_ms, one))
        for item in seen:  # Deciding is not doing: they stay due until an entry says otherwise.
            heapq.heappush(self._due, item)
        return found

    def next_due_ms(self) -> int | None:
        """Return when the next is due, or None; may be early, never late."""
        return self._due[0][0] if self._due else None

    def apply(self, kind: int, key: str, value: bytes) -> None:
        """Take in a committed event of a hold or of a bulk."""
        if kind == Kind.BULK:
            self._apply_bulk(key, decode_row(kind, value) if value else None)
        else:
            self._apply_row(key, decode_row(kind, value) if value else None)

    def _apply_row(self, hold_id: str, row: HoldRow | None) -> None:
        old = self.rows.pop(hold_id, None)
        if row is not None:
            self.rows[hold_id] = row
            # What another operator decides is never freed by this clock (B6).
            if not row.anchor and (old is None or old.expires_ms != row.expires_ms):
                heapq.heappush(self._due, (row.expires_ms, hold_id))
        if (old is None) != (row is None):
            one = row or old
            assert one is not None
            self._count(one.owner, hold_id, 1 if row is not None else -1, gone=row is None)

    def _apply_bulk(self, bulk_id: str, row: BulkRow | None) -> None:
        old = self.bulks.pop(bulk_id, None)
        if row is not None:
            self.bulks[bulk_id] = row
            if old is None:
                heapq.heappush(self._due, (row.expires_ms, bulk_id))
                self._on_service.setdefault(row.service_id, set()).add(bulk_id)
        elif old is not None:
            here = self._on_service[old.service_id]
            here.discard(bulk_id)
            if not here:
                del self._on_service[old.service_id]
        one = row or old
        if one is not None:
            more = (len(row.numbers) if row is not None else 0) - (len(old.numbers) if old is not None else 0)
            self._count(one.owner, bulk_id, more, gone=row is None)

    def _count(self, owner: str, one: str, more: int, *, gone: bool) -> None:
        self._counts[owner] = self._counts.get(owner, 0) + more
        ids = self._of_owner.setdefault(owner, set())
        if gone:
            ids.discard(one)
        else:
            ids.add(one)
        if not ids:
            del self._of_owner[owner], self._counts[owner]
