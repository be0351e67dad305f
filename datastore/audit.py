"""The proof from the ledger that no seat ever had two owners. Pure.

It looks at row images only, not at how the engine came to them:

- a seat may pass from one hold to another, or become free, only when the hold it leaves is released or expired, was converted
  to an order that is cancelled, or no longer claims the seat (its order was changed), at the end of the same entry at the latest;
- no seat is claimed by two holds that stand (open, or converted to an order that is not cancelled);
- what a standing hold claims is what the seat's row says;
- a hold of a bulk leaves its row in the very entry that gives it, and each of its seats, a row of its own, and not otherwise;
- a bulk's row is written by the entry that it says made it, and from then on only loses holds; while it names a seat, no other row of
  that seat is written;
- no seat takes an older fence than it had (Z7);
- a leg of a basket that another operator decides ends, in either way, or gives seats up, only in an entry that carries that
  decision's evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

import msgspec

from datastore.events import seats_in
from datastore.ledger import BATCH, ERASE, Position, SealedEntry, check_follows
from datastore.model import HoldState, OrderState, SeatState, place_in_bulk
from datastore.rows import BulkRow, HoldRow, Kind, LegRow, OrderRow, SeatRow, decode_row


class Report(NamedTuple):
    """What an audit found. `violations`: sentences, empty when all is well."""

    entries: int
    events: int
    seats: int
    orders: int
    end: Position
    violations: list[str]


class Audit:
    """Follows one operator's ledger from its first entry."""

    def __init__(self, operator: str, start: Position) -> None:
        self._operator = operator
        self._end = start
        self._entries = 0
        self._events = 0
        self._owner: dict[str, tuple[SeatState, str]] = {}  # seat key -> (state, hold id)
        self._fences: dict[str, tuple[int, int]] = {}
        self._holds: dict[str, HoldRow] = {}
        self._bulks: dict[str, BulkRow] = {}
        self._orders: dict[str, OrderRow] = {}
        self._standing: dict[str, str] = {}  # seat key -> hold that claims it
        self._violations: list[str] = []

    def take(self, entries: Iterable[SealedEntry]) -> None:
        """Take in the next entries, in order.

        Raises:
            InvariantBroken: The chain is broken.
        """
        for sealed in entries:
            self._end = check_follows(self._end, sealed)
            self._entries += 1
            if sealed.entry.kind in (BATCH, ERASE):
                self._take_events(sealed)

    def report(self) -> Report:
        return Report(self._entries, self._events, len(self._owner), len(self._orders), self._end, self._violations)

    @property
    def orders(self) -> Mapping[str, OrderRow]:
        """All orders as they stand, by reference."""
        return self._orders

    def seat_counts(self) -> dict[SeatState, int]:
        """Return how many touched seats are in each state."""
        found = dict.fromkeys(SeatState, 0)
        for state, _ in self._owner.values():
            found[SeatState(state)] += 1
        return found

    def strays(self) -> list[str]:
        """Return seats that are out of sale for nobody: held or booked for a hold that does not stand."""
        return [
            f"seat {key} is {state.name.lower()} by {hold_id or 'nobody'}, which does not stand"
            for key, (state, hold_id) in self._owner.items()
            if state in (SeatState.HELD, SeatState.BOOKED) and self._standing.get(key) != hold_id
        ]

    def _take_events(self, sealed: SealedEntry) -> None:
        lsn = sealed.entry.lsn
        left: list[tuple[str, str]] = []  # (seat key, hold it left)
        holds: dict[str, HoldRow] = {}
        bulks: dict[str, BulkRow | None] = {}
        written: set[str] = set()  # seats whose row this entry writes
        named: list[tuple[str, str]] = []  # (seat key, hold in whose bulk it was named when its row was written)
        smaller: list[HoldRow] = []  # sold holds that gave seats up
        followed: set[str] = set()  # baskets anchored elsewhere whose decision this entry carries
        for kind, key, value in sealed.entry.events:
            self._events += 1
            for seat_key, row in seats_in(kind, key, value, lsn).items():
                had = self._take_seat(lsn, seat_key, row)
                if had and had != row.hold_id:
                    left.append((seat_key, had))
                if kind == Kind.SEAT:
                    written.add(key)
                    if self._is_in_bulk(had):
                        named.append((key, had))
            if kind == Kind.SEAT:
                if not value:
                    self._violations.append(f"entry {lsn}: the row of seat {key} is deleted, and its fence with it")
            elif kind in (Kind.OPEN_HOLD, Kind.CLOSED_HOLD) and value:
                hold: HoldRow = decode_row(kind, value)
                if self._forget_given_up(hold):
                    smaller.append(hold)
                holds[hold.hold_id] = self._holds[hold.hold_id] = hold
            elif kind == Kind.BULK:
                bulk: BulkRow | None = decode_row(kind, value) if value else None
                if key in bulks:
                    self._violations.append(f"entry {lsn}: bulk {key} is written twice")
                bulks[key] = bulk
                if bulk is not None and (bulk.bulk_id != key or (key in self._bulks) == (bulk.lsn == lsn)):
                    self._violations.append(f"entry {lsn}: bulk {key} says that it is {bulk.bulk_id} and that entry {bulk.lsn} made it")
            elif kind == Kind.CLOSED_LEG or (kind == Kind.LEG and value):
                leg: LegRow = decode_row(kind, value)
                if all(leg.evidence):
                    followed.add(leg.basket_id)
            elif kind == Kind.ORDER and value:
                order: OrderRow = decode_row(kind, value)
                self._orders[order.reference] = order
                if order.hold_id in self._holds:
                    holds[order.hold_id] = self._holds[order.hold_id]
        own = list(holds)
        for bulk_id, bulk in bulks.items():
            before = self._bulks.pop(bulk_id, None)
            if before is not None:
                self._compare_bulk(lsn, before, bulk, holds, written)
            if bulk is not None:
                self._bulks[bulk_id] = bulk
            members = {hold.hold_id: hold for hold in bulk.holds()} if bulk is not None else {}
            holds.update(members)
            self._holds.update(members)
        for hold_id in own:
            if self._is_in_bulk(hold_id):
                self._violations.append(f"entry {lsn}: {hold_id} has a row of its own and is still in its bulk")
        for key, hold_id in named:
            if self._is_in_bulk(hold_id):
                self._violations.append(f"entry {lsn}: the row of seat {key} is written while {hold_id} is in its bulk")
        for key, hold_id in left:
            if self._stands(hold_id) and self._claims(hold_id, key):
                self._violations.append(f"entry {lsn}: seat {key} left {hold_id}, which stands")
        for hold in holds.values():
            if hold.anchor and hold.state not in (HoldState.ACTIVE, HoldState.PAYING) and hold.basket not in followed:
                self._violations.append(f"entry {lsn}: leg {hold.hold_id} ended without a decision of {hold.anchor}")
        for hold in smaller:
            changed = self._orders.get(hold.reference)
            if not hold.anchor and (changed is None or changed.changed_lsn != lsn):
                self._violations.append(f"entry {lsn}: {hold.hold_id} gave seats up, and its order {hold.reference} was not changed")
        self._compare_claims(lsn, holds)

    def _is_in_bulk(self, hold_id: str) -> bool:
        """Return whether a hold stands in the row of a bulk."""
        place = place_in_bulk(hold_id) if self._bulks else None
        bulk = self._bulks.get(place[0]) if place is not None else None
        return place is not None and bulk is not None and place[1] in bulk.numbers

    def _take_seat(self, lsn: int, key: str, row: SeatRow) -> str:
        """Take in who has a seat, and under which fence; return the hold that had it before, "" for none."""
        fence = (row.generation, row.counter)
        if fence < self._fences.get(key, (0, 0)):
            self._violations.append(f"entry {lsn}: seat {key} takes an older fence than it had")
        self._fences[key] = fence
        _, had = self._owner.get(key, (SeatState.FREE, ""))
        self._owner[key] = (row.state, row.hold_id)
        return had

    def _compare_bulk(
        self, lsn: int, before: BulkRow, after: BulkRow | None, holds: Mapping[str, HoldRow], written: Set[str]
    ) -> None:
        """Look at what left a bulk: rows of their own have to speak for it from now on."""
        still = set(after.numbers) if after is not None else set()
        if after is not None and not _only_lost_holds(before, after):
            self._violations.append(f"entry {lsn}: bulk {before.bulk_id} changed otherwise than by losing holds")
        for hold, number in zip(before.holds(), before.numbers, strict=True):
            if number in still:
                continue
            if hold.hold_id not in holds:
                self._violations.append(f"entry {lsn}: {hold.hold_id} left its bulk without a row of its own")
            if before.generation < 0:
                continue  # The seats had rows of their own all the time.
            for key in (f"{hold.service_id}/{seat_id}" for seat_id in hold.seats):
                if key not in written:
                    self._violations.append(f"entry {lsn}: {hold.hold_id} left its bulk and seat {key} has no row")

    def _forget_given_up(self, hold: HoldRow) -> bool:
        """Drop the claims that a sold hold has no longer; return whether there were any."""
        before = self._holds.get(hold.hold_id)
        gone = set(before.seats) - set(hold.seats) if before is not None and hold.state == HoldState.CONVERTED else set()
        for seat_id in gone:
            if self._standing.get(f"{hold.service_id}/{seat_id}") == hold.hold_id:
                del self._standing[f"{hold.service_id}/{seat_id}"]
        return bool(gone)

    def _claims(self, hold_id: str, key: str) -> bool:
        """Return whether a hold still claims a seat; one that the ledger never made may not lose it either."""
        hold = self._holds.get(hold_id)
        return hold is None or key in {f"{hold.service_id}/{seat_id}" for seat_id in hold.seats}

    def _compare_claims(self, lsn: int, holds: dict[str, HoldRow]) -> None:
        """Give up the claims of holds that fell in this entry before those that rose make theirs."""
        standing = {hold_id: self._stands(hold_id) for hold_id in holds}
        for hold_id, hold in holds.items():
            for seat_id in hold.seats:
                if not standing[hold_id] and self._standing.get(f"{hold.service_id}/{seat_id}") == hold_id:
                    del self._standing[f"{hold.service_id}/{seat_id}"]
        for hold_id, hold in holds.items():
            if not standing[hold_id]:
                continue
            for seat_id in hold.seats:
                key = f"{hold.service_id}/{seat_id}"
                other = self._standing.setdefault(key, hold_id)
                if other != hold_id:
                    self._violations.append(f"entry {lsn}: seat {key} belongs to {other} and to {hold_id}")
                if self._owner.get(key, (SeatState.FREE, ""))[1] != hold_id:
                    self._violations.append(f"entry {lsn}: {hold_id} claims {key}, whose row says {self._owner.get(key)}")

    def _stands(self, hold_id: str) -> bool:
        hold = self._holds.get(hold_id)
        if hold is None:
            return True  # A seat owned by a hold that the ledger never made: nothing may take it.
        if hold.state in (HoldState.ACTIVE, HoldState.PAYING):
            return True
        if hold.state != HoldState.CONVERTED:
            return False
        order = self._orders.get(hold.reference)
        return order is None or order.state != OrderState.CANCELLED


def _only_lost_holds(before: BulkRow, after: BulkRow) -> bool:
    """Return whether a bulk's row is that of before but for holds that it has no longer."""
    rest = msgspec.structs.replace(before, numbers=(), seats=(), prices=(), refundable_percents=())
    return rest == msgspec.structs.replace(after, numbers=(), seats=(), prices=(), refundable_percents=()) and set(_members(after)) <= set(
        _members(before)
    )


def _members(bulk: BulkRow) -> list[tuple[int, tuple[str, ...], tuple[int, ...], int]]:
    return list(zip(bulk.numbers, bulk.seats, bulk.prices, bulk.refundable_percents, strict=True))
