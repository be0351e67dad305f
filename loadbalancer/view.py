"""The committed log of every operator as maps: timetable, taken seats, prices. Pure.

Browsing and proposals are answered from here, each with the lsn and time that they are of; a write never trusts it.
Cost follows sales: a service that nobody touched has no entry, and a touched seat one small row image, opened when read.

Feeds write from their threads while callers read from theirs. Single look-ups and whole-dict copies are atomic; whatever
walks over a timetable holds the operator's `guard`, which the shell provides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta
from typing import Any, NamedTuple

import msgspec

from datastore.errors import OperatorUnavailable, UnknownOperator, UnknownService, nearest, shown
from datastore.model import DAY_MS, Layout, SeatState, Service, parse_service_id, seat_key
from datastore.rows import (
    BasketRow,
    BulkRow,
    DatasetRow,
    Kind,
    LegRow,
    OperatorRow,
    PaymentRow,
    SeatRow,
    ServiceRow,
    decode_row,
    encode_row,
)
from datastore.timetable import Timetable
from loadbalancer.fares import PriceTable, days_ahead, price_table
from loadbalancer.nearby import hint

SALES_MAX = 20_000
SEEN_MAX = (1 << 62) - 1
LOCK_PREFIX = "seat:"
DATE_AT = -len("2026-12-01")  # A service's id ends with its date.


class _StateOnly(msgspec.Struct, array_like=True):
    """The first field of a SeatRow: whether the seat is taken, without opening the rest."""

    state: SeatState


_decode_state = msgspec.msgpack.Decoder(_StateOnly).decode


class Offer(NamedTuple):
    """One seat as it can be bought now."""

    seat_id: str
    key: str
    price_minor: int
    refundable_percent: int


class Sale:
    """A service worked out for selling, until its prices change or its timetable does.

    Attributes:
        offers: Seat id, designator, and both in lower case -> Offer.
        valid_until_ms: UTC milliseconds at which another price step begins.
    """

    __slots__ = ("layout", "offers", "operator", "prices", "service", "valid_until_ms", "version")

    def __init__(self, service: Service, layout: Layout, prices: PriceTable, version: int) -> None:
        self.operator = service.operator
        self.service = service
        self.layout = layout
        self.prices = prices
        self.version = version
        self.valid_until_ms = service.departs_ms - prices.days * DAY_MS
        self.offers: dict[str, Offer] = {}
        prefix = LOCK_PREFIX + seat_key(service.operator, service.service_id, "")
        for seat in layout.seats:
            price, percent = prices.minor[seat.cabin, seat.zone], prices.refundable_percent[seat.cabin]
            self.offers[seat.seat_id] = Offer(seat.seat_id, prefix + seat.seat_id, price, percent)
        for seat in layout.seats:  # Second, so that an id always means its own seat, whatever others are labelled.
            for word in (seat.designator, seat.designator.lower(), seat.seat_id.lower()):
                self.offers.setdefault(word, self.offers[seat.seat_id])


class OperatorView:
    """One operator's rows as followed up to (`lsn`, `hash`).

    Attributes:
        taken: service_id -> seat_id -> row image of every seat that is not free.
        seat_changes: service_id -> how often seats of it changed: what was worked out of `taken` is good until it moves.
        touched: Local date -> services of it with seats taken or a state of their own; all others are as the timetable says.
        version: Rises with every change of the timetable.
        heard_ms: Monotonic time at which a feed last confirmed the position.
    """

    def __init__(self, code: str, guard: AbstractContextManager[object] | None = None) -> None:
        self.code = code
        self.guard = guard or nullcontext()
        self.timetable = Timetable(code)
        self.row: OperatorRow | None = None
        self.datasets: dict[str, DatasetRow] = {}
        self.services: dict[str, ServiceRow] = {}
        self.taken: dict[str, dict[str, bytes]] = {}
        self.seat_changes: dict[str, int] = {}
        self.touched: dict[str, set[str]] = {}
        self.undone: dict[str, BasketRow] = {}  # baskets decided here that other operators do not follow yet
        self.legs: dict[str, LegRow] = {}  # of baskets decided elsewhere, whose word is awaited
        self.payments: dict[str, PaymentRow] = {}
        self.lsn = 0
        self.hash = b""
        self.stamp_ms = 0
        self.version = 0
        self.heard_ms = 0

    def apply(self, events: Iterable[tuple[int, str, bytes]]) -> None:
        """Store row images in log order. The caller holds `guard` and moves `lsn` afterwards."""
        taken, changes = self.taken, self.seat_changes
        for kind, key, value in events:
            if kind == Kind.SEAT:
                service_id, _, seat_id = key.rpartition("/")
                changes[service_id] = changes.get(service_id, 0) + 1
                if value and _decode_state(value).state != SeatState.FREE:
                    seats = taken.get(service_id)
                    if seats is None:
                        seats = self._first_taken(service_id)
                    seats[seat_id] = value
                elif (seats := taken.get(service_id)) is not None:
                    seats.pop(seat_id, None)
                    if not seats:
                        del taken[service_id]
                        if service_id not in self.services:
                            self.touched[service_id[DATE_AT:]].discard(service_id)
            elif kind == Kind.BULK and value:
                self._apply_bulk(decode_row(kind, value))
            else:
                self._apply_rare(kind, key, value)

    def _first_taken(self, service_id: str) -> dict[str, bytes]:
        """Return where to note the seats of a service of which none was taken."""
        self.touched.setdefault(service_id[DATE_AT:], set()).add(service_id)
        seats = self.taken[service_id] = {}
        return seats

    def _apply_bulk(self, bulk: BulkRow) -> None:
        """Take in holds that were made in bulk: what it says of their seats, as if each had a row that says it."""
        rows = bulk.seat_rows()
        if rows:
            service_id = bulk.service_id
            self.seat_changes[service_id] = self.seat_changes.get(service_id, 0) + 1
            seats = self.taken.get(service_id)
            if seats is None:
                seats = self._first_taken(service_id)
            seats.update({seat_id: encode_row(row) for seat_id, row in rows.items()})

    def _apply_rare(self, kind: int, key: str, value: bytes) -> None:
        row = decode_row(kind, value) if value else None
        if kind == Kind.SERVICE:
            _put(self.services, key, row)
            self.touched.setdefault(key[DATE_AT:], set()).add(key)
        elif kind == Kind.BASKET:
            _put(self.undone, key, row if row is not None and row.undone else None)
        elif kind == Kind.LEG:
            _put(self.legs, key, row)
        elif kind == Kind.PAYMENT:
            _put(self.payments, key, row)
        elif kind == Kind.DATASET:
            _put(self.datasets, key, row)
            self.version += 1
        elif kind == Kind.OPERATOR:
            self.row = row
        elif kind == Kind.SCHEDULE:
            self.version += 1
            if row is None:
                self.timetable.drop_schedule(key)
            else:
                self.timetable.put_schedule(key, row.dataset, row.schedule)
        elif kind == Kind.LAYOUT and row is not None:
            self.version += 1
            self.timetable.put_layout(row)
        elif kind == Kind.PLACE and row is not None:
            self.version += 1
            self.timetable.put_place(row)

    def seats_taken(self, service_id: str) -> dict[str, SeatRow]:
        """Return the rows of a service's seats that are not free."""
        return {seat_id: decode_row(Kind.SEAT, value) for seat_id, value in self.taken.get(service_id, {}).copy().items()}

    def seats_now(self, service_id: str) -> tuple[int, dict[str, SeatRow]]:
        """Return (lsn, rows of a service's seats that are not free), both of one entry: never from amid news that are being taken in."""
        with self.guard:
            return self.lsn, self.seats_taken(service_id)

    def seats_seen(self, service_id: str) -> int:
        """Return a number that tells one state of a service's seats from another, within this process; never 0.

        Callers keep it to ask whether anything has changed. Bytes keep their hash once it is worked out, so that this costs a
        look at each taken seat.
        """
        return hash(frozenset(self.taken.get(service_id, {}).copy().items())) & SEEN_MAX or 1


class Catalogue:
    """Every operator's view, and the services that are being sold."""

    def __init__(self, make_guard: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        """Begin empty; `make_guard` gives each operator its own guard."""
        self._make_guard = make_guard
        self.operators: dict[str, OperatorView] = {}
        # Operators that the managers have told of; None while they have not. A balancer that has just started must not say
        # "no such operator" or "no such booking" of one whose rows are only not here yet.
        self.expected: frozenset[str] | None = frozenset()
        self._sales: dict[str, Sale] = {}

    def new_view(self, code: str) -> OperatorView:
        """Return an empty view to be filled and then `put`."""
        return OperatorView(code, self._make_guard())

    def put(self, view: OperatorView) -> None:
        """Make `view` the operator's, in place of the one before."""
        before = self.operators.get(view.code)
        # Sales of the view before must not pass for current ones.
        view.version += 1 + (before.version if before is not None else 0)
        self.operators[view.code] = view

    def codes(self) -> list[str]:
        """Return the codes of all operators, those whose views are not loaded yet included.

        Raises:
            OperatorUnavailable: The managers have not told yet which there are; another balancer may know.
        """
        if self.expected is None:
            raise OperatorUnavailable("this balancer has just started and does not know the operators yet")
        return sorted(self.operators.keys() | self.expected)

    def require_loaded(self, word: str) -> None:
        """Check that no operator whose code `word` is, or begins with, is still to be loaded.

        Raises:
            OperatorUnavailable: There may be one.
        """
        for code in self.codes():
            if code not in self.operators and word.startswith(code):
                raise OperatorUnavailable(f"the data of operator {code} are not loaded here yet", operator=code)

    def operator(self, code: str) -> OperatorView:
        """Return an operator's view.

        Raises:
            UnknownOperator: There is none; the nearest codes and names are in the message.
            OperatorUnavailable: It is not loaded yet.
        """
        view = self.operators.get(code)
        if view is None:
            raise self._unknown_operator(code)
        return view

    def sale(self, service_id: str, now_ms: int) -> Sale:
        """Return the service with its current prices (`now_ms`: UTC).

        Raises:
            UnknownOperator, UnknownService, InvalidRequest: There is no such service; the nearest are in the message.
        """
        sale = self.sale_at_hand(service_id, now_ms)
        if sale is not None:
            return sale
        view, service, layout = self.find(service_id)
        sale = Sale(service, layout, price_table(service.schedule, layout, days_ahead(service.departs_ms, now_ms)), view.version)
        if len(self._sales) >= SALES_MAX:
            self._sales.clear()  # Built again when asked for; anything finer would cost every look-up.
        self._sales[service_id] = sale
        return sale

    def sale_at_hand(self, service_id: str, now_ms: int) -> Sale | None:
        """Return what `sale` would, where it is known already: without waiting for a view that is being changed."""
        sale = self._sales.get(service_id)
        known = sale is not None and sale.version == self.operators[sale.operator].version and now_ms <= sale.valid_until_ms
        return sale if known else None

    def find(self, service_id: str) -> tuple[OperatorView, Service, Layout]:
        """Return a service and its layout from the timetable.

        Raises:
            UnknownOperator, UnknownService, InvalidRequest: As `sale`.
        """
        try:
            key = parse_service_id(service_id, frozenset(self.operators))
        except UnknownOperator as error:
            raise self._operator_of_no_service(service_id.partition("-")[0]) from error
        view = self.operators[key.operator]
        with view.guard:
            service = view.timetable.service(key)
            layout = view.timetable.layouts.get(service.schedule.layout_id) if service is not None else None
        if service is None or layout is None:
            self.require_loaded(service_id)  # One operator's code may begin with another's.
            near = self._near(view, key.number, key.origin, key.date)
            raise UnknownService(f"no service {shown(service_id)}{hint(near)}", service_id=shown(service_id), nearest=near)
        return view, service, layout

    def services(self, view: OperatorView, day: str, origin: str, destination: str) -> Iterator[Service]:
        """Yield an operator's services of a local date whose layout is known, unordered."""
        with view.guard:
            found = [one for one in view.timetable.services(day, origin, destination) if one.schedule.layout_id in view.timetable.layouts]
        yield from found

    def _unknown_operator(self, code: str) -> UnknownOperator:
        self.require_loaded(code)
        words = {view.row.name: view.code for view in list(self.operators.values()) if view.row is not None}
        words |= {known: known for known in list(self.operators)}
        near = list(dict.fromkeys(words[word] for word in nearest(code, words)))
        return UnknownOperator(f"no operator {shown(code)}{hint(near)}", operator=shown(code), nearest=near)

    def _operator_of_no_service(self, head: str) -> UnknownOperator:
        """Return the refusal of "XX1140", of which no part is an operator's code."""
        self.require_loaded(head)
        near = nearest(head[:2], list(self.operators))
        return UnknownOperator(f"{shown(head)} begins with no operator's code{hint(near)}", operator=shown(head), nearest=near)

    def _near(self, view: OperatorView, number: str, origin: str, day: str) -> list[str]:
        """Return up to three service ids that the caller may have meant: another day first, then another number."""
        found: list[str] = []
        with view.guard:
            numbers = list(view.timetable.numbers())
        candidates = [(number, origin)] if (number, origin) in numbers else []
        candidates += [(known, place) for known, place in numbers if known == number and place != origin]
        if not candidates:
            words = nearest(number, {known for known, _ in numbers}) or _next_to(number, [known for known, _ in numbers])
            candidates = [(known, place) for word in words for known, place in numbers if known == word]
        for known, place in candidates[:6]:
            with view.guard:
                valid = view.timetable.nearest_valid(known, place, day)
            first = date.fromisoformat(valid or day)
            for days in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, 6, 7):
                try:
                    other = (first + timedelta(days)).isoformat()
                except OverflowError:
                    continue
                service_id = f"{view.code}{known}-{place}-{other}"
                key = parse_service_id(service_id, frozenset((view.code,)))
                if view.timetable.service(key) is not None:
                    found.append(service_id)
                    break
            if len(found) == 3:
                break
        return found


def _next_to(number: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known numbers that are next to one which is like none of them."""
    if not number.isdecimal():
        return []
    return sorted({word for word in known if word.isdecimal()}, key=lambda word: (abs(int(word) - int(number)), word))[:3]


def _put(rows: dict[str, Any], key: str, row: Any) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row
