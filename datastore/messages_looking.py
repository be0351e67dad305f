"""Questions that only look, and their answers: operators, places, services, seats. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.messages_base import (
    Answer,
    Limit,
    OperatorCode,
    Request,
    Word,
)
from datastore.model import (
    Money,
)


class Operators(Request, frozen=True, kw_only=True):
    """All operators, or those whose code or name contains `like`."""

    like: Word = ""


class OperatorInfo(msgspec.Struct):
    """`retired`: removed from sale; its ledger is kept."""

    code: str
    name: str
    kind: str
    schedules: int
    datasets: list[str]
    retired: bool = False


class OperatorsAnswer(Answer, kw_only=True):
    operators: list[OperatorInfo]


class Places(Request, frozen=True, kw_only=True):
    like: Word = ""


class PlaceInfo(msgspec.Struct):
    code: str
    name: str
    city: str
    country: str
    zone: str


class PlacesAnswer(Answer, kw_only=True):
    places: list[PlaceInfo]


class ListServices(Request, frozen=True, kw_only=True):
    """Services of one local date, by local time of departure. `after`: the last service_id of the page before."""

    date: Word
    operator: OperatorCode = ""
    origin: Word = ""
    destination: Word = ""
    limit: Limit = 100
    after: Word = ""
    min_lsn: int = 0  # of `operator`: what the caller wrote must be seen


class ServiceInfo(msgspec.Struct):
    """One service. `departs`/`arrives`: local ISO times with offset; `free`, `capacity`: seats; `from_price`: cheapest free."""

    service_id: str
    operator: str
    operator_name: str
    kind: str
    origin: str
    origin_name: str
    destination: str
    destination_name: str
    date: str
    departs: str
    arrives: str
    departs_ms: int
    arrives_ms: int
    duration_min: int
    title: str
    layout_id: str
    layout_name: str
    state: str  # "open", "closed", "cancelled", "departed"
    free: int
    capacity: int
    from_price: Money | None
    dataset: str
    price_label: str  # "stated by the operator" or "formula"


class ServicesAnswer(Answer, kw_only=True):
    services: list[ServiceInfo]
    next: str | None
    as_of_ms: int


class SeatMap(Request, frozen=True, kw_only=True):
    """One service's seats, from the view. `owner_key` marks the caller's own; `min_lsn` waits for it up to 500 ms."""

    service_id: Word
    owner_key: str = ""
    min_lsn: int = 0


class SeatInfo(msgspec.Struct):
    """`state`: "available", "held", "occupied", "blocked"; `mine` where it is the caller's."""

    seat_id: str
    designator: str
    state: str
    mine: bool
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
    price: Money
    reason: str = ""


class SeatMapAnswer(Answer, kw_only=True):
    service: ServiceInfo
    seats: list[SeatInfo]
    aisles: list[tuple[int, int, list[int]]]  # (first y, last y, x of the aisles) a section
    lsn: int
    as_of_ms: int
    # (y of the row behind them, what stands there from left to right): doors, galleys, a stage; behind the last row y is one more.
    fixtures: list[tuple[int, list[str]]] = msgspec.field(default_factory=list)


class WatchSeats(Request, frozen=True, kw_only=True):
    """Wait up to `wait_ms` until a service's seats are no longer as `seen` says (an earlier answer's; 0 asks for them at once)."""

    service_id: Word
    owner_key: str = ""
    seen: int = 0
    wait_ms: Annotated[int, Meta(ge=0, le=30_000)] = 0


class SeatStatesAnswer(Answer, kw_only=True):
    """`taken`: (seat, state, mine, reason) of every seat that is not available; None where nothing changed in time."""

    service_id: str
    state: str  # of the service: "open", "closed", "cancelled", "departed"
    seen: int
    taken: list[tuple[str, str, bool, str]] | None
    lsn: int
    as_of_ms: int


class ListSeats(Request, frozen=True, kw_only=True):
    service_id: Word
    owner_key: str = ""
    cabin: Word = ""
    state: Word = ""
    limit: Limit = 100
    after: Word = ""
    min_lsn: int = 0


class SeatsAnswer(Answer, kw_only=True):
    seats: list[SeatInfo]
    next: str | None
    free: int
    lsn: int
    as_of_ms: int


class QuerySeat(Request, frozen=True, kw_only=True):
    service_id: Word
    seat: Word
    owner_key: str = ""
    min_lsn: int = 0


class SeatAnswer(Answer, kw_only=True):
    service: ServiceInfo
    seat: SeatInfo
    lsn: int
    as_of_ms: int
