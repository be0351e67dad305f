"""The change feed and the pages of a snapshot: what a load balancer's view follows. Pure over the store's port.

A view takes a snapshot and then follows. Pages are read at different times, so together they are no single state; but
rows are absolute images, and the first page's position is where following begins: every change since then comes again
through the feed, and the view converges to the state at the feed's end (Z14). Only committed entries leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from datastore.events import makes_bulk
from datastore.ledger import Position, SealedEntry
from datastore.model import SeatState
from datastore.recent import RecentEntries
from datastore.rows import Kind
from datastore.state import StoreReader
from datastore.store_port import Store
from datastore.wire import FeedPart, FeedRequest, SnapshotPage

# What no view follows: holds and orders are asked for by name, and the configuration is the managers' matter.
# Open baskets, legs and payments are followed: they are what every balancer's reconciler has to finish. And bulks, as far as they
# say which seats are taken: when they are made.
HIDDEN = (
    Kind.OPEN_HOLD,
    Kind.CLOSED_HOLD,
    Kind.ORDER,
    Kind.CONFIG,
    Kind.ERASED,
    Kind.REIGN,
    Kind.COUNTER,
    Kind.CLOSED_BASKET,
    Kind.CLOSED_LEG,
    Kind.CLOSED_PAYMENT,
)
KINDS_HIDDEN = frozenset(map(int, HIDDEN))

# In this order, so that whoever reads a seat already knows its service's layout.
SNAPSHOT_KINDS = tuple(
    map(
        int,
        (
            Kind.OPERATOR,
            Kind.DATASET,
            Kind.PLACE,
            Kind.LAYOUT,
            Kind.SCHEDULE,
            Kind.SERVICE,
            Kind.SEAT,
            Kind.BULK,
            Kind.BASKET,
            Kind.LEG,
            Kind.PAYMENT,
        ),
    )
)

ENTRIES_MAX = 500
PART_BYTES_MAX = 1024 * 1024
PAGE_BYTES_MAX = 1024 * 1024
PAGE_ROWS_MAX = 10_000
BULKS_READ = 32  # at once: one may have as many seats as some thousand rows of other kinds


def part_of(operator: str, entries: Iterable[SealedEntry]) -> FeedPart | None:
    """Return what `entries` (committed, in order) say to a view, up to a message's size; None where there are none.

    The part ends with the last entry taken in, so the next request goes on after it.
    """
    part: FeedPart | None = None
    size_bytes = 0
    for sealed in entries:
        events = [event for event in sealed.entry.events if _is_followed(event, sealed.entry.lsn)]
        size_bytes += sum(len(event[1]) + len(event[2]) for event in events)
        if part is not None and size_bytes > PART_BYTES_MAX:
            break
        if part is None:
            part = FeedPart(operator, "ok", 0, b"", 0, [])
        part.events += events
        part.lsn, part.hash, part.stamp_ms = sealed.entry.lsn, sealed.hash, sealed.entry.stamp_ms
    return part


def _is_followed(event: tuple[int, str, bytes], lsn: int) -> bool:
    kind = event[0]
    return kind not in KINDS_HIDDEN and (kind != Kind.BULK or makes_bulk(event[2], lsn))


def news_after(store: Store, recent: RecentEntries, committed: Position, lsn: int, digest: bytes) -> FeedPart | None:
    """Return what is committed after (lsn, hash), or why the follower cannot go on from there."""
    operator = store.operator
    if lsn > committed.lsn:
        return FeedPart(operator, "behind", committed.lsn, committed.hash, committed.stamp_ms)
    if lsn < 0 or (lsn and store.hash_at(lsn) != digest):
        return FeedPart(operator, "snapshot_needed", committed.lsn, committed.hash, committed.stamp_ms)
    last = min(committed.lsn, lsn + ENTRIES_MAX)
    return part_of(operator, recent.between(lsn + 1, last, 2 * PART_BYTES_MAX))


class Copy(Protocol):
    """What is asked of a partition here."""

    def alone(self) -> FeedPart | None:
        """Return what a view must hear where there is no news, None for a copy that keeps up."""
        ...


def of_the_silent(request: FeedRequest, parts: Sequence[FeedPart], find: Callable[[str], Copy | None]) -> list[FeedPart]:
    """Return the parts of the operators that `parts` says nothing of, and whose silence here says nothing either."""
    silent = sorted(request.after.keys() - {part.operator for part in parts})
    copies = [found for operator in silent if (found := find(operator)) is not None]
    return [part for one in copies if (part := one.alone()) is not None]


def page_of(store: StoreReader, position: Position, after: tuple[int, str], limit: int) -> SnapshotPage:
    """Return the rows after `after`; `next` None on the last page.

    Args:
        position: Of the last applied entry, which the rows show.
    """
    limit = max(1, min(limit, PAGE_ROWS_MAX))
    page = SnapshotPage(position.lsn, position.hash, position.stamp_ms, [])
    start, key = after
    kinds = SNAPSHOT_KINDS[SNAPSHOT_KINDS.index(start) :] if start in SNAPSHOT_KINDS else SNAPSHOT_KINDS
    size_bytes = 0
    for kind in kinds:
        while True:
            asked = min(limit - len(page.rows), BULKS_READ if kind == Kind.BULK else limit)
            found = store.scan(kind, "", key, asked)
            for key, value in found:
                if kind != Kind.SEAT or not _is_free(value):
                    page.rows.append((kind, key, value))
                    size_bytes += len(key) + len(value)
                if len(page.rows) >= limit or size_bytes > PAGE_BYTES_MAX:
                    page.next = (kind, key)
                    return page
            if len(found) < asked:
                break
        key = ""
    return page


def _is_free(seat_row: bytes) -> bool:
    """Look at the state without opening the row: the byte after the array's header, as 0 to 3 encode as themselves."""
    return seat_row[1] == SeatState.FREE
