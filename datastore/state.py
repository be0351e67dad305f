"""A partition's applied state as the engine sees it: rows of the store behind caches that are right by construction.

Pure over the `StoreReader` port. Only a primary builds one; a replica stores rows and never opens them. What is kept in
memory is bounded by what is open or was touched lately: all open holds, the timetable, changed services, and the seat
rows of the last `SERVICES_CACHED` services; everything else is read when asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from datastore.model import BasketState, Layout, LayoutSpec, SeatState, Service, ServiceKey, is_date
from datastore.open_holds import OpenHolds
from datastore.rows import (
    BasketRow,
    DatasetRow,
    Event,
    HoldRow,
    Kind,
    LegRow,
    OperatorRow,
    OrderRow,
    PaymentRow,
    ScheduleRow,
    SeatRow,
    ServiceRow,
    decode_row,
    decode_seat,
)
from datastore.timetable import Timetable

SERVICES_CACHED = 4096
DUE_MAX = 5_000  # Holds looked through for those of one service; a primary aborts what is due every second.
CLOSED_OF_OPEN = (Kind.CLOSED_BASKET, Kind.CLOSED_LEG, Kind.CLOSED_PAYMENT)
HOLD_KINDS = (Kind.OPEN_HOLD, Kind.BULK)
OPEN_KINDS = (Kind.BASKET, Kind.LEG, Kind.PAYMENT)
CLOSED_KINDS = frozenset({Kind.CLOSED_HOLD, Kind.ORDER, Kind.CONFIG, Kind.ERASED, Kind.REIGN, Kind.COUNTER, *CLOSED_OF_OPEN})
FACTS_CACHED = 16_384


class StoreReader(Protocol):
    """What the state needs of a store; rows staged but not yet flushed are visible."""

    def get(self, kind: int, key: str) -> bytes | None: ...

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]: ...

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]: ...


class ServiceFacts(NamedTuple):
    """What the timetable says of one service: enough to decide without working anything out again."""

    key: ServiceKey
    service: Service
    layout: Layout


class AppliedState:
    """The rows of one partition at its applied lsn."""

    def __init__(self, operator: str, store: StoreReader) -> None:
        self.operator = operator
        self.store = store
        self.timetable = Timetable(operator)
        self.operator_row: OperatorRow | None = None
        self.datasets: dict[str, DatasetRow] = {}
        self.services: dict[str, ServiceRow] = {}
        self.open_holds = OpenHolds()
        self.baskets: dict[str, BasketRow] = {}  # what is open: see `Kind`
        self.legs: dict[str, LegRow] = {}
        self.payments: dict[str, PaymentRow] = {}
        self._far_due: dict[str, int] = {}  # baskets that are to be decided here and have no leg here
        self._seats: OrderedDict[str, dict[str, SeatRow]] = OrderedDict()
        self._taken: dict[str, set[str]] = {}  # of services in `_seats`, where somebody has asked
        self._facts: dict[str, ServiceFacts | None] = {}
        inventory = (Kind.OPERATOR, Kind.DATASET, Kind.LAYOUT, Kind.PLACE, Kind.SCHEDULE, Kind.SERVICE)
        for kind in (*inventory, *HOLD_KINDS, *OPEN_KINDS):
            self.apply(Event(kind, key, value) for key, value in store.scan(kind))

    # --- reading --------------------------------------------------------------------------------------------------

    def facts(self, service_id: str) -> ServiceFacts | None:
        """Return what the timetable says of a service, or None where no schedule implies it."""
        try:
            return self._facts[service_id]
        except KeyError:
            pass
        found = self._work_out(service_id)
        if len(self._facts) >= FACTS_CACHED:
            self._facts.clear()
        self._facts[service_id] = found
        return found

    def _work_out(self, service_id: str) -> ServiceFacts | None:
        head, _, rest = service_id.partition("-")
        origin, _, day = rest.partition("-")
        if not head.startswith(self.operator) or len(service_id) > 64 or not is_date(day):
            return None
        key = ServiceKey(self.operator, head[len(self.operator) :], origin, day)
        service = self.timetable.service(key)
        layout = self.timetable.layout_of(key)
        return None if service is None or layout is None else ServiceFacts(key, service, layout)

    def seats(self, service_id: str) -> dict[str, SeatRow]:
        """Return the touched seats of a service, seat id -> row. Not to be changed by the caller."""
        rows = self._seats.get(service_id)
        if rows is not None:
            self._seats.move_to_end(service_id)
            return rows
        cut = len(service_id) + 1
        rows = {key[cut:]: decode_row(Kind.SEAT, value) for key, value in self.store.scan(Kind.SEAT, service_id + "/")}
        for bulk in self.open_holds.bulks_on(service_id):
            rows.update(bulk.seat_rows())
        self._seats[service_id] = rows
        if len(self._seats) > SERVICES_CACHED:
            self._taken.pop(self._seats.popitem(last=False)[0], None)
        return rows

    def taken(self, service_id: str) -> set[str]:
        """Return the seats of a service that are not free. Not to be changed by the caller."""
        rows = self.seats(service_id)
        found = self._taken.get(service_id)
        if found is None:
            found = self._taken[service_id] = {seat_id for seat_id, row in rows.items() if row.state != SeatState.FREE}
        return found

    def due_holds(self, service_id: str, now_ms: int) -> list[HoldRow]:
        """Return the holds of a service whose time is over and that are decided here: whoever wants their seats may take them (B6)."""
        due_ms = self.open_holds.next_due_ms()
        if due_ms is None or due_ms > now_ms:
            return []
        return [hold for hold in self.open_holds.due(now_ms, DUE_MAX) if hold.service_id == service_id]

    def closed_hold(self, hold_id: str) -> HoldRow | None:
        row: HoldRow | None = self._row(Kind.CLOSED_HOLD, hold_id)
        return row

    def order(self, reference: str) -> OrderRow | None:
        row: OrderRow | None = self._row(Kind.ORDER, reference)
        return row

    def counter(self, name: str) -> int:
        """Return a counter's value; 0 for one that nobody has added to."""
        row = self._row(Kind.COUNTER, name)
        return row.value if row is not None else 0

    def basket(self, basket_id: str) -> BasketRow | None:
        row: BasketRow | None = self.baskets.get(basket_id) or self._row(Kind.CLOSED_BASKET, basket_id)
        return row

    def leg(self, basket_id: str) -> LegRow | None:
        row: LegRow | None = self.legs.get(basket_id) or self._row(Kind.CLOSED_LEG, basket_id)
        return row

    def payment(self, intent: str) -> PaymentRow | None:
        row: PaymentRow | None = self.payments.get(intent) or self._row(Kind.CLOSED_PAYMENT, intent)
        return row

    def _row(self, kind: Kind, key: str) -> Any:
        value = self.store.get(kind, key)
        return None if value is None else decode_row(kind, value)

    def due_baskets(self, now_ms: int, limit: int) -> list[BasketRow]:
        """Return up to `limit` baskets decided here that are due and have no leg here: those of changes (B11)."""
        return [self.baskets[basket_id] for basket_id, due_ms in self._far_due.items() if due_ms <= now_ms][:limit]

    def next_due_ms(self) -> int | None:
        """Return when the next open hold or basket is due, or None; may be early, never late."""
        due_ms = self.open_holds.next_due_ms()
        return min([*self._far_due.values(), *(() if due_ms is None else (due_ms,))], default=None)

    def services_with_taken_seats(self) -> dict[str, set[str]]:
        """Return service id -> seats that are not free. Reads every touched seat: for imports, not for sales."""
        taken: dict[str, set[str]] = {}
        after = ""
        while page := self.store.scan(Kind.SEAT, "", after, 5000):
            after = page[-1][0]
            for key, value in page:
                if decode_row(Kind.SEAT, value).state != SeatState.FREE:
                    service_id, _, seat_id = key.rpartition("/")
                    taken.setdefault(service_id, set()).add(seat_id)
        for bulk in self.open_holds.bulks.values():
            taken.setdefault(bulk.service_id, set()).update(seat_id for seats in bulk.seats for seat_id in seats)
        return taken

    # --- following the log ----------------------------------------------------------------------------------------

    def prefetch(self, commands: Sequence[Any]) -> None:
        """Load what a batch will touch in one go; a matter of speed alone."""
        for service_id in {command.service_id for command in commands if hasattr(command, "service_id")}:
            if service_id not in self._seats and self.facts(service_id) is not None:
                self.seats(service_id)

    def apply(self, events: Iterable[Event | tuple[int, str, bytes]]) -> None:
        """Take in committed events, in order."""
        for kind, key, value in events:
            if kind == Kind.SEAT:
                service_id, _, seat_id = key.rpartition("/")
                rows = self._seats.get(service_id)
                if rows is not None:
                    row = rows[seat_id] = decode_seat(value)
                    taken = self._taken.get(service_id)
                    if taken is not None:
                        (taken.discard if row.state == SeatState.FREE else taken.add)(seat_id)
            elif kind == Kind.BULK:
                self._apply_bulk(key, value)
            elif kind == Kind.OPEN_HOLD:
                self.open_holds.apply(kind, key, value)
            elif kind in OPEN_KINDS:
                rows_by_id: dict[str, Any] = (self.baskets, self.legs, self.payments)[OPEN_KINDS.index(kind)]
                if value:
                    rows_by_id[key] = decode_row(kind, value)
                else:
                    rows_by_id.pop(key, None)
                if kind == Kind.BASKET:
                    self._apply_basket(key)
            elif kind not in CLOSED_KINDS:
                self._apply_inventory(kind, key, value)

    def _apply_bulk(self, bulk_id: str, value: bytes) -> None:
        is_new = bulk_id not in self.open_holds.bulks
        self.open_holds.apply(Kind.BULK, bulk_id, value)
        # What leaves a bulk later has rows of its own from then on, which came before this in the same entry.
        if is_new and value:
            bulk = self.open_holds.bulks[bulk_id]
            rows = self._seats.get(bulk.service_id)
            if rows is not None:
                held = bulk.seat_rows()
                rows.update(held)
                self._taken.get(bulk.service_id, set()).update(held)

    def _apply_basket(self, basket_id: str) -> None:
        row = self.baskets.get(basket_id)
        is_open = row is not None and row.state in (BasketState.PENDING, BasketState.PAYING)
        if row is not None and is_open and all(leg.operator != self.operator for leg in row.legs):
            self._far_due[basket_id] = row.expires_ms
        else:
            self._far_due.pop(basket_id, None)

    def _apply_inventory(self, kind: int, key: str, value: bytes) -> None:
        self._facts.clear()
        row: Any = decode_row(kind, value) if value else None
        if kind == Kind.SERVICE:
            self.services[key] = row
        elif kind == Kind.SCHEDULE:
            if isinstance(row, ScheduleRow):
                self.timetable.put_schedule(key, row.dataset, row.schedule)
            else:
                self.timetable.drop_schedule(key)
        elif kind == Kind.LAYOUT and isinstance(row, LayoutSpec):
            self.timetable.put_layout(row)
        elif kind == Kind.PLACE and row is not None:
            self.timetable.put_place(row)
        elif kind == Kind.OPERATOR:
            self.operator_row = row
        elif kind == Kind.DATASET:
            if row is None:
                self.datasets.pop(key, None)
            else:
                self.datasets[key] = row
