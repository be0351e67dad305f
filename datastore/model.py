"""The words of the domain as frozen values, validated when built.

Identity, from the outside in:

    operator     "AR"                          who owns inventory; the partition key
    service_id   "AR1140-EZE-2026-12-01"       operator + number, origin, local date of departure
    seat_id      "14C"                         stable; the designator shown to people may change, the id does not
    seat key     "AR/AR1140-EZE-2026-12-01/14C"   what is locked and what is owned

A service exists by implication: a schedule says on which days it runs, and rows appear only when something happens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import date
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import NamedTuple

import msgspec

from datastore.errors import InvalidRequest, UnknownOperator, shown

OPERATOR_PATTERN = re.compile(r"[A-Z0-9]{2,8}")
NUMBER_PATTERN = re.compile(r"[A-Z0-9.]{1,24}")
PLACE_PATTERN = re.compile(r"[A-Z0-9]{2,8}")
SEAT_PATTERN = re.compile(r"[A-Z0-9]{1,10}")
DATASET_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
ACCOUNTING_PATTERN = re.compile(r"[0-9]{3}", re.ASCII)
REQUEST_PATTERN = re.compile(r"[A-Za-z0-9._:-]{8,64}")
DATE_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}")

BULK_HOLD_PATTERN = re.compile(r"(.+)-([1-9][0-9]{0,5})")

SEATS_PER_HOLD_MAX = 9
MINUTE_MS = 60_000
DAY_MS = 86_400_000
CONNECTING_MINUTES_MAX = 1_440


class OperatorKind(StrEnum):
    AIRLINE = "airline"
    CINEMA = "cinema"
    THEATRE = "theatre"
    CONCERT = "concert"
    RAIL = "rail"


class SeatState(IntEnum):
    """What is stored of a touched seat; a seat without a row is free."""

    FREE = 0
    HELD = 1
    BOOKED = 2
    BLOCKED = 3


class HoldState(IntEnum):
    """The anchor's record of a hold: the words of the glossary beside the protocol's (ARCHITECTURE, "Words")."""

    ACTIVE = 0  # PENDING
    PAYING = 1
    CONVERTED = 2  # COMMITTED
    RELEASED = 3  # ABORTED by its owner
    EXPIRED = 4  # ABORTED by time
    CANCELLED = 5  # sold, and given up since: the order was cancelled, or changed so that none of its seats are left


class BasketState(IntEnum):
    """What the anchor says of a basket (B4): COMMITTED may become CANCELLED, CANCELLED and ABORTED are for good."""

    PENDING = 0
    PAYING = 1
    COMMITTED = 2
    CANCELLED = 3
    ABORTED = 4


class PaymentState(IntEnum):
    """What is still to be done about a payment intent, as the anchor's ledger says (Q2-Q7)."""

    PAYING = 0  # money may move; nothing is decided
    CAPTURE = 1  # the sale is decided: take the money
    VOID = 2  # there is no sale: cancel the intent, or refund it
    REFUND = 3  # the sale was cancelled: `refund_minor` goes back
    SETTLED = 4  # nothing more
    VOIDING = 5  # as VOID, and somebody has begun: the intent can no longer pay for other seats


class OrderState(IntEnum):
    CONFIRMED = 0
    CANCELLED = 1


class ServiceState(IntEnum):
    OPEN = 0
    CLOSED = 1
    CANCELLED = 2


class Epoch(NamedTuple):
    """The generation of a partition's primary: compared counter first, then the manager's uuid (docs/replication.md)."""

    counter: int
    manager: str


EPOCH_NONE = Epoch(0, "")


class ServiceKey(NamedTuple):
    """A service_id taken apart: `AR1140-EZE-2026-12-01` under operator AR is ("AR", "1140", "EZE", "2026-12-01")."""

    operator: str
    number: str
    origin: str
    date: str


def parse_service_id(service_id: str, operators: Sequence[str] | frozenset[str]) -> ServiceKey:
    """Return the parts of `service_id`; the operator is the longest known code that it begins with.

    Raises:
        InvalidRequest: It has not the form CODE+NUMBER-ORIGIN-YYYY-MM-DD. UnknownOperator: No known operator's code begins it.
    """
    head, _, rest = service_id.partition("-")
    origin, _, day = rest.partition("-")
    if len(service_id) > 64 or not PLACE_PATTERN.fullmatch(origin) or not is_date(day):
        if DATE_PATTERN.fullmatch(day):
            raise InvalidRequest(f"{shown(service_id)}: {day} is no day of the calendar", field="service_id")
        raise InvalidRequest(f"{shown(service_id)} is not a service id: expected e.g. AR1140-EZE-2026-12-01", field="service_id")
    for length in range(min(8, len(head) - 1), 1, -1):
        if head[:length] in operators and NUMBER_PATTERN.fullmatch(head[length:]):
            return ServiceKey(head[:length], head[length:], origin, day)
    raise UnknownOperator(f"{shown(head)} begins with no operator's code", operator=shown(head))


def is_date(text: str) -> bool:
    """Return whether `text` is a real calendar day as YYYY-MM-DD."""
    if not DATE_PATTERN.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def seat_key(operator: str, service_id: str, seat_id: str) -> str:
    """Return the name under which the seat is locked and owned."""
    return f"{operator}/{service_id}/{seat_id}"


class Money(msgspec.Struct, frozen=True):
    """Integer minor units (cents) of one ISO 4217 currency; floats never."""

    minor: int
    currency: str

    def __str__(self) -> str:
        sign, units = ("-" if self.minor < 0 else ""), abs(self.minor)
        return f"{sign}{units // 100}.{units % 100:02d} {self.currency}"


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a service begins or ends: an airport, or a venue's hall. Coordinates in degrees; `zone` is an IANA name."""

    code: str
    name: str
    city: str
    country: str
    zone: str
    latitude: float = 0.0
    longitude: float = 0.0


class ConnectingTime(msgspec.Struct, frozen=True, array_like=True):
    """A line of the table of minimum connecting times; the most telling line that fits a connection decides.

    Attributes:
        place: Where the change happens; "" everywhere.
        arriving, departing: Codes of the operators before and after the change; "" any.
        domestic_min, international_min: Minutes needed; -1 says nothing of that kind.
    """

    place: str
    arriving: str = ""
    departing: str = ""
    domestic_min: int = -1
    international_min: int = -1


# What stands in a cabin or hall where no seat is.
FIXTURES = ("door", "galley", "lavatory", "stairs", "screen", "stage")


class Section(msgspec.Struct, frozen=True, array_like=True):
    """A block of a layout: every row crossed with every column but the missing ones.

    Attributes:
        cabin: Cabin class or part of the hall: "F", "J", "W", "Y", "STALLS", "BALCONY".
        zone: Price zone, e.g. "A"; the fare table's second key.
        rows: Row labels, front to back: ("1", "2") or ("A", "B").
        columns: Column labels, left to right; "" is an aisle: ("A", "", "B", "C") or ("1", "2").
        missing: Seat ids that the grid has and the cabin has not.
        exit_rows: Labels of rows at an exit.
        accessible: Seat ids with space for a wheelchair or movable armrests.
        prefix: Put before each seat id where two sections repeat labels ("BAL").
        ahead: Fixtures before its first row, left to right, of `FIXTURES`: ("door", "galley", "door").
    """

    cabin: str
    zone: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    missing: tuple[str, ...] = ()
    exit_rows: tuple[str, ...] = ()
    accessible: tuple[str, ...] = ()
    prefix: str = ""
    ahead: tuple[str, ...] = ()


class Seat(NamedTuple):
    """One seat of a layout. `position` is its place in `Layout.seats` and in every bit set; `y` counts rows, `x` columns."""

    seat_id: str
    designator: str
    position: int
    cabin: str
    zone: str
    row: str
    column: str
    x: int
    y: int
    window: bool
    aisle: bool
    exit: bool
    accessible: bool


class LayoutSpec(msgspec.Struct, frozen=True, array_like=True):
    """A cabin or hall plan as it is stored and sent; `Layout` is the same worked out.

    Attributes:
        labels: seat_id -> designator, where they differ.
        behind: Fixtures behind the last row, left to right.
    """

    layout_id: str
    name: str
    sections: tuple[Section, ...]
    labels: dict[str, str] = {}
    behind: tuple[str, ...] = ()


class Layout:
    """A layout worked out: `seats` in order (front to back, left to right), `by_id`, `by_designator`, `capacity`."""

    def __init__(self, spec: LayoutSpec) -> None:
        """Work out the seats.

        Raises:
            InvalidRequest: A seat id is malformed or stands twice, or the layout is empty or over 20,000 seats.
        """
        self.spec = spec
        self.layout_id = spec.layout_id
        seats: list[Seat] = []
        y = 0
        for section in spec.sections:
            for row in section.rows:
                seats.extend(_row_seats(spec, section, row, y, len(seats)))
                y += 1
        self.seats: tuple[Seat, ...] = tuple(seats)
        self.by_id = {seat.seat_id: seat for seat in seats}
        self.by_designator = {seat.designator: seat for seat in seats}
        self.capacity = len(seats)
        self.cabins = tuple(dict.fromkeys(section.cabin for section in spec.sections))
        if not 0 < len(seats) <= 20_000:
            raise InvalidRequest(f"layout {shown(spec.layout_id)} has {len(seats)} seats; 1 to 20,000 are possible", layout=spec.layout_id)
        if len(self.by_id) != len(seats) or len(self.by_designator) != len(seats):
            raise InvalidRequest(f"layout {shown(spec.layout_id)} has a seat twice", layout=spec.layout_id)

    @cached_property
    def blocks(self) -> tuple[tuple[Seat, ...], ...]:
        """Seats side by side, of one cabin, without an aisle or a gap between them; front to back and left to right."""
        found: list[list[Seat]] = []
        for seat in self.seats:
            before = found[-1][-1] if found else None
            if before is not None and before.y == seat.y and before.x + 1 == seat.x and before.cabin == seat.cabin:
                found[-1].append(seat)
            else:
                found.append([seat])
        return tuple(map(tuple, found))

    @cached_property
    def seats_of(self) -> dict[str, frozenset[str]]:
        """Cabin -> its seats' ids."""
        return {cabin: frozenset(seat.seat_id for seat in self.seats if seat.cabin == cabin) for cabin in self.cabins}

    @cached_property
    def neighbours(self) -> dict[str, tuple[str, ...]]:
        """seat_id -> the one or two seats at its sides in its block, by their ids."""
        ids = [[seat.seat_id for seat in block] for block in self.blocks]
        return {seat_id: (*block[max(0, at - 1) : at], *block[at + 1 : at + 2]) for block in ids for at, seat_id in enumerate(block)}

    def orphans(self, seats: Collection[str], is_free: Callable[[str], bool]) -> int:
        """Return how many single seats are left behind when free `seats` are taken: neighbours of theirs with no free one beside."""
        beside = {seat_id for taken in seats for seat_id in self.neighbours[taken] if seat_id not in seats and is_free(seat_id)}
        return sum(all(other in seats or not is_free(other) for other in self.neighbours[seat_id]) for seat_id in beside)


def _row_seats(spec: LayoutSpec, section: Section, row: str, y: int, first_index: int) -> list[Seat]:
    found: list[Seat] = []
    columns = section.columns
    for x, column in enumerate(columns):
        if not column:
            continue
        # "12A" in an aircraft, "A12" in a hall: the row label first in both.
        seat_id = f"{section.prefix}{row}{column}"
        if seat_id in section.missing:
            continue
        if not SEAT_PATTERN.fullmatch(seat_id):
            raise InvalidRequest(f"layout {shown(spec.layout_id)}: {shown(seat_id)} is not a seat id", layout=spec.layout_id)
        found.append(
            Seat(
                seat_id=seat_id,
                designator=spec.labels.get(seat_id, seat_id),
                position=first_index + len(found),
                cabin=section.cabin,
                zone=section.zone,
                row=row,
                column=column,
                x=x,
                y=y,
                window=x in (0, len(columns) - 1),
                aisle=(x > 0 and not columns[x - 1]) or (x + 1 < len(columns) and not columns[x + 1]),
                exit=row in section.exit_rows,
                accessible=seat_id in section.accessible,
            )
        )
    return found


class Schedule(msgspec.Struct, frozen=True, array_like=True):
    """A timetable row: runs on `days` between `valid_from` and `valid_to` (local dates of departure, both inclusive).

    Attributes:
        number: Flight number, train number or film with showing, without the operator's code; unique with origin and date.
        destination: "" for a showing: nobody travels.
        departs_min: Local minutes after midnight at the origin.
        arrives_min: Local minutes after midnight at the destination, `arrives_day` days later.
        days: Seven characters, Monday first, the digit or "-": "123-567".
        fares: (cabin, zone or "", minor units) where the operator states them; empty means the documented formula.
        refundable_percent: What of the price comes back on cancelling before departure; -1 means the formula's.
        title: Film, play or name of the train; "" for flights.
        child_percent, infant_percent, infant_seat_percent: Of the adult's price, for a child, an infant on a lap, an infant with
            a seat; -1 means the default (`loadbalancer.fares`).
    """

    number: str
    origin: str
    destination: str
    departs_min: int
    arrives_min: int
    arrives_day: int
    days: str
    valid_from: str
    valid_to: str
    layout_id: str
    distance_miles: int = 0
    title: str = ""
    currency: str = ""
    fares: tuple[tuple[str, str, int], ...] = ()
    refundable_percent: int = -1
    child_percent: int = -1
    infant_percent: int = -1
    infant_seat_percent: int = -1


class Leg(msgspec.Struct, frozen=True, array_like=True):
    """A basket's part on one service.

    Attributes:
        prices: Minor units beside `seats`, in the basket's one currency.
        laps: Beside `seats`, what of each price an infant on the lap there pays; () where nobody has one.
    """

    operator: str
    service_id: str
    seats: tuple[str, ...]
    prices: tuple[int, ...]
    refundable_percent: int
    laps: tuple[int, ...] = ()


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Where some of a changed order's seats are booked: in the hold `hold_id`, or in leg `number` of the basket `hold_id`.

    Attributes:
        number: -1 for a hold that is no basket's.
        place: The order's leg that they belong to.
    """

    hold_id: str
    number: int
    place: int
    seats: tuple[str, ...]


BASKET_MARK = ".trip."


def is_basket(hold_id: str) -> bool:
    """Return whether the id is that of a basket over several legs, not of one hold or of one leg."""
    return BASKET_MARK in hold_id and hold_id.count(".") == 2


def leg_hold_id(basket_id: str, number: int) -> str:
    """Return the id of the hold that a basket has on its leg `number`."""
    return f"{basket_id}.{number}"


def bulk_hold_id(bulk_id: str, number: int) -> str:
    """Return the id of hold `number`, from 1, of those that one request made in bulk."""
    return f"{bulk_id}-{number}"


def place_in_bulk(hold_id: str) -> tuple[str, int] | None:
    """Return (id of the bulk, number) of a hold that was made in bulk; None for any other id."""
    found = BULK_HOLD_PATTERN.fullmatch(hold_id)
    return (found[1], int(found[2])) if found else None


def in_order(hold_id: str) -> tuple[str, int]:
    """Return by what to sort hold ids: those of a bulk by their numbers."""
    return place_in_bulk(hold_id) or (hold_id, 0)


def operators_of(legs: Sequence[Leg]) -> tuple[str, ...]:
    """Return the operators of a basket's legs, each once, the anchor (that of the first leg, Z3) first."""
    return tuple(dict.fromkeys(leg.operator for leg in legs))


class Service(NamedTuple):
    """One date of a schedule, worked out: instants are UTC milliseconds."""

    service_id: str
    operator: str
    dataset: str
    date: str
    schedule: Schedule
    departs_ms: int
    arrives_ms: int


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passport or identity card. `country`: who issued it, ISO 3166-1 alpha-3; `expires`: ISO date, "" where nobody said."""

    country: str
    number: str
    expires: str = ""


class Passenger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who travels. Personal data: lives in side records only, never in an entry (Z12). `passengers.py` has the rules.

    Attributes:
        type: "ADT", "CHD", "INF" (on a lap: `seat_id` stays "") or "INS".
        born: ISO date, "" where it is not asked.
        loyalty: Numbers of frequent flyers, each with its airline's code in front.
        requests: SSR codes, each with "/" and a text where one belongs to it: "WCHR", "SPML/no nuts".
        with_adult: Of an infant on a lap: which passenger (from 1) it sits with; 0 leaves that to the booking.
    """

    surname: str
    given: str = ""
    seat_id: str = ""
    type: str = "ADT"
    born: str = ""
    document: Document | None = None
    loyalty: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    with_adult: int = 0
