"""The overlay in which the engine folds a batch: later commands see what earlier ones of the same batch did. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from copy import copy

from datastore import errors
from datastore.model import BasketState, HoldState, PaymentState, SeatState, place_in_bulk
from datastore.rows import (
    BULKS_SPEAK,
    ROWS_FORM,
    BasketRow,
    BulkRow,
    CounterRow,
    ErasedRow,
    Event,
    HoldRow,
    Kind,
    LegRow,
    OrderRow,
    PaymentRow,
    SeatRow,
    ServiceRow,
    encode_row,
)
from datastore.state import AppliedState, ServiceFacts


class Batch:
    """The overlay over the applied state in which a batch is folded."""

    def __init__(self, state: AppliedState, now_ms: int, lsn: int, rows_form: int = ROWS_FORM) -> None:
        self.state = state
        self.now_ms = now_ms
        self.lsn = lsn
        self._rows_form = rows_form  # the newest that every copy reads
        self.events: list[Event] = []
        self._seats: dict[str, dict[str, SeatRow]] = {}
        self._open: dict[str, HoldRow | None] = {}
        self._bulks: dict[str, BulkRow | None] = {}  # made or changed by this batch; None: nothing is left in it
        self._closed: dict[str, HoldRow] = {}
        self._orders: dict[str, OrderRow] = {}
        self._services: dict[str, ServiceRow] = {}
        self._counters: dict[str, int] = {}
        self._baskets: dict[str, BasketRow] = {}
        self._legs: dict[str, LegRow] = {}
        self._payments: dict[str, PaymentRow] = {}
        self._more_holds: dict[str, int] = {}  # owner -> open holds more (or fewer) than in the applied state
        self._erased: set[bytes] = set()
        self.timetable_changed = False  # What comes after an import is decided in the next entry, on the new timetable.

    @property
    def changed(self) -> bool:
        """Whether anything is to be written so far; bulks become events at the end only."""
        return bool(self.events or self._bulks)

    def trial(self) -> Batch:
        """Return a copy, in which several steps are taken that are to stand together or not at all."""
        made = Batch(self.state, self.now_ms, self.lsn, self._rows_form)
        for name, value in vars(self).items():
            if isinstance(value, dict | list | set):  # The rest is shared (the state) or of no change.
                setattr(made, name, copy(value))
        made._seats = {service_id: dict(seats) for service_id, seats in self._seats.items()}
        return made

    def adopt(self, trial: Batch) -> None:
        """Take over what was done in a trial of this batch; nothing was done here since."""
        vars(self).update(vars(trial))

    def facts(self, service_id: str) -> ServiceFacts:
        """Return what is known of a service.

        Raises:
            UnknownService: No schedule implies it.
        """
        found = self.state.facts(service_id)
        if found is None:
            raise errors.UnknownService(
                f"{self.state.operator} has no service {errors.shown(service_id)}", service_id=errors.shown(service_id)
            )
        return found

    def seat(self, service_id: str, seat_id: str) -> SeatRow | None:
        changed = self._seats.get(service_id)
        if changed is not None:
            row = changed.get(seat_id)
            if row is not None:
                return row
        return self.state.seats(service_id).get(seat_id)

    def touched(self, service_id: str) -> dict[str, SeatRow]:
        return {**self.state.seats(service_id), **self._seats.get(service_id, {})}

    def taken(self, service_id: str) -> Set[str]:
        """Return the seats of a service that are not free."""
        changed, taken = self._seats.get(service_id), self.state.taken(service_id)
        if not changed:
            return taken
        return (taken - changed.keys()) | {seat_id for seat_id, row in changed.items() if row.state != SeatState.FREE}

    def is_touched(self, service_id: str, seat_ids: Sequence[str]) -> bool:
        """Return whether any of the seats has a row: somebody has, or once had it."""
        changed, applied = self._seats.get(service_id, ()), self.state.seats(service_id)
        return any(seat_id in applied or seat_id in changed for seat_id in seat_ids)

    def open_hold(self, hold_id: str) -> HoldRow | None:
        if hold_id in self._open:
            return self._open[hold_id]
        return self.state.open_holds.get(hold_id, self._bulks)

    def bulk(self, bulk_id: str) -> BulkRow | None:
        """Return the holds of a bulk that are still as they were made; None where there are none."""
        return self._bulks[bulk_id] if bulk_id in self._bulks else self.state.open_holds.bulks.get(bulk_id)

    def knows_bulk(self, bulk_id: str) -> bool:
        """Return whether a bulk is open, or was until this batch emptied it: one entry writes its row once, and cannot make it anew."""
        return bulk_id in self._bulks or bulk_id in self.state.open_holds.bulks

    def closed_hold(self, hold_id: str) -> HoldRow | None:
        return self._closed.get(hold_id) or self.state.closed_hold(hold_id)

    def knows_any(self, hold_ids: Collection[str]) -> bool:
        """Return whether any of these has a row of its own, among the open holds or the closed."""
        rows = (self._open, self._closed, self.state.open_holds.rows)
        return any(not found.keys().isdisjoint(hold_ids) for found in rows) or bool(
            self.state.store.get_many(Kind.CLOSED_HOLD, list(hold_ids))
        )

    def order(self, reference: str) -> OrderRow | None:
        return self._orders.get(reference) or self.state.order(reference)

    def service_row(self, service_id: str) -> ServiceRow | None:
        return self._services.get(service_id) or self.state.services.get(service_id)

    def basket(self, basket_id: str) -> BasketRow | None:
        return self._baskets.get(basket_id) or self.state.basket(basket_id)

    def leg(self, basket_id: str) -> LegRow | None:
        return self._legs.get(basket_id) or self.state.leg(basket_id)

    def payment(self, intent: str) -> PaymentRow | None:
        return self._payments.get(intent) or self.state.payment(intent)

    def count_holds(self, owner: str) -> int:
        """Return how many open holds the owner has, those whose time is over included."""
        return self.state.open_holds.count_of(owner) + self._more_holds.get(owner, 0)

    def holds_of(self, owner: str) -> list[HoldRow]:
        """Return the owner's open holds; costs what the owner has, so it is for when a limit is near."""
        ids = dict.fromkeys(self.state.open_holds.ids_of(owner))
        ids.update(dict.fromkeys(hold_id for hold_id, hold in self._open.items() if hold is not None and hold.owner == owner))
        for bulk in self._bulks.values():
            if bulk is not None and bulk.owner == owner:
                ids.update(dict.fromkeys(bulk.hold_ids()))
        return [hold for hold_id in ids if (hold := self.open_hold(hold_id)) is not None]

    def put_seat(self, service_id: str, seat_id: str, row: SeatRow) -> None:
        self._seats.setdefault(service_id, {})[seat_id] = row
        self.events.append(Event(Kind.SEAT, f"{service_id}/{seat_id}", encode_row(row)))

    def put_open_hold(self, row: HoldRow) -> None:
        if not self._leave_bulk(row.hold_id) and self.open_hold(row.hold_id) is None:
            self._more_holds[row.owner] = self._more_holds.get(row.owner, 0) + 1
        self._open[row.hold_id] = row
        self.events.append(Event(Kind.OPEN_HOLD, row.hold_id, encode_row(row)))

    def put_bulk(self, row: BulkRow) -> None:
        """Open the holds of a new bulk, which says of their seats all that there is to say; if every copy reads such rows."""
        self._more_holds[row.owner] = self._more_holds.get(row.owner, 0) + len(row.numbers)
        seats = row.seat_rows()
        if self._rows_form >= BULKS_SPEAK:
            self._seats.setdefault(row.service_id, {}).update(seats)
        else:
            row = row.silent()
            for seat_id, seat in seats.items():
                self.put_seat(row.service_id, seat_id, seat)
        self._bulks[row.bulk_id] = row

    def _leave_bulk(self, hold_id: str) -> bool:
        """Take a hold that is about to change out of its bulk, if it is still in one; return whether it was.

        Of its seats the bulk says nothing any more, so they get rows of their own, unless this batch wrote them already.
        """
        place = place_in_bulk(hold_id)
        bulk = self.bulk(place[0]) if place is not None else None
        if place is None or bulk is None or place[1] not in bulk.numbers:
            return False
        for seat_id in bulk.seats[bulk.numbers.index(place[1])]:
            row = self.seat(bulk.service_id, seat_id)
            if row is not None and row.state == SeatState.HELD and row.hold_id == hold_id:
                self.put_seat(bulk.service_id, seat_id, row)
        self._bulks[bulk.bulk_id] = bulk.without(place[1]) if len(bulk.numbers) > 1 else None
        return True

    def finish(self) -> list[Event]:
        """Return all events of the batch; a bulk is written once, however many of its holds changed."""
        for bulk_id, bulk in self._bulks.items():
            self.events.append(Event(Kind.BULK, bulk_id, b"" if bulk is None else encode_row(bulk)))
        self._bulks = {}
        return self.events

    def close_hold(self, row: HoldRow) -> None:
        """Move a hold from the open ones to the closed ones, in the state that `row` has."""
        if self.open_hold(row.hold_id) is not None:
            self._more_holds[row.owner] = self._more_holds.get(row.owner, 0) - 1
        if not self._leave_bulk(row.hold_id):
            self.events.append(Event(Kind.OPEN_HOLD, row.hold_id, b""))
        self._open[row.hold_id] = None
        self._closed[row.hold_id] = row
        self.events.append(Event(Kind.CLOSED_HOLD, row.hold_id, encode_row(row)))

    def put_order(self, row: OrderRow) -> None:
        self._orders[row.reference] = row
        self.events.append(Event(Kind.ORDER, row.reference, encode_row(row)))

    @property
    def erases(self) -> bool:
        """Whether some side record is erased."""
        return bool(self._erased)

    def is_erased(self, digest: bytes) -> bool:
        return digest in self._erased or self.state.store.get(Kind.ERASED, digest.hex()) is not None

    def put_erased(self, digest: bytes, row: ErasedRow) -> None:
        self._erased.add(digest)
        self.events.append(Event(Kind.ERASED, digest.hex(), encode_row(row)))

    def counter(self, name: str) -> int:
        return self._counters[name] if name in self._counters else self.state.counter(name)

    def put_counter(self, name: str, value: int) -> None:
        self._counters[name] = value
        self.events.append(Event(Kind.COUNTER, name, encode_row(CounterRow(value))))

    def put_service(self, service_id: str, row: ServiceRow) -> None:
        self._services[service_id] = row
        self.events.append(Event(Kind.SERVICE, service_id, encode_row(row)))

    def put_basket(self, row: BasketRow) -> None:
        """Keep a basket among the open ones while anything is left to be done about it, else among the closed."""
        is_open = row.state in (BasketState.PENDING, BasketState.PAYING) or bool(row.undone)
        self._baskets[row.basket_id] = row
        self._put_in(Kind.BASKET if is_open else Kind.CLOSED_BASKET, row.basket_id, row)

    def put_leg(self, row: LegRow) -> None:
        """Keep a leg among the open ones while the anchor's word is awaited, or it has to hear of a loss."""
        is_open = row.state == HoldState.ACTIVE or bool(row.lost)
        self._legs[row.basket_id] = row
        self._put_in(Kind.LEG if is_open else Kind.CLOSED_LEG, row.basket_id, row)

    def put_payment(self, row: PaymentRow) -> None:
        """Keep a payment among the open ones until it is settled."""
        self._payments[row.intent] = row
        self._put_in(Kind.CLOSED_PAYMENT if row.state == PaymentState.SETTLED else Kind.PAYMENT, row.intent, row)

    def _put_in(self, kind: Kind, key: str, row: BasketRow | LegRow | PaymentRow) -> None:
        """Write a row into its table, and out of the open one's when it leaves that (a key that is not there is left so)."""
        opened = {Kind.CLOSED_BASKET: Kind.BASKET, Kind.CLOSED_LEG: Kind.LEG, Kind.CLOSED_PAYMENT: Kind.PAYMENT}.get(kind)
        if opened is not None:
            self.events.append(Event(opened, key, b""))
        self.events.append(Event(kind, key, encode_row(row)))
