"""What travels between a client and a load balancer: one struct a question, one an answer, as MessagePack maps.

The method's name on the edge is the key of `METHODS`. Unknown fields are refused. Limits stand in the types, so that
the border refuses what is out of bounds before anything is done. Times: `_ms` fields named `expires_ms`, `departs_ms`,
`as_of_ms` are UTC milliseconds since 1970; `ttl_ms`, `remaining_ms`, `deadline_ms` are durations.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from datastore.errors import InvalidRequest
from datastore.model import Money, Passenger
from datastore.wire import UNREADABLE
from datastore.wording import wording

RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{8,64}\Z")]  # Not "$", which a line feed at the end passes.
Secret = Annotated[str, Meta(min_length=16, max_length=128)]
OperatorCode = Annotated[str, Meta(max_length=8)]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=200)]
SeatWords = Annotated[list[Annotated[str, Meta(min_length=1, max_length=16)]], Meta(max_length=400)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
Limit = Annotated[int, Meta(ge=1, le=1000)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all questions. `deadline_ms`: how long the caller waits; the answer comes before that or is an error."""

    deadline_ms: Annotated[int, Meta(ge=10, le=120_000)] = 10_000


class Write(Request, frozen=True, kw_only=True):
    request_id: RequestId


class Answer(msgspec.Struct, kw_only=True, omit_defaults=False):
    """Base of all answers. `partial`: operators whose part is missing or old, with the reason."""

    partial: dict[str, str] = {}


# --- looking ------------------------------------------------------------------------------------------------------


class Operators(Request, frozen=True, kw_only=True):
    """All operators, or those whose code or name contains `like`."""

    like: Word = ""


class OperatorInfo(msgspec.Struct):
    code: str
    name: str
    kind: str
    schedules: int
    datasets: list[str]


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


# --- holding ------------------------------------------------------------------------------------------------------


class HoldSeats(Write, frozen=True, kw_only=True):
    """Hold the named seats, or `count` of the best (`cabin`, `together` narrow it). All or none."""

    owner_key: Secret
    service_id: Word
    seats: SeatWords = []
    count: Annotated[int, Meta(ge=0, le=400)] = 0
    cabin: Word = ""
    together: bool = False
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0  # 0: the cluster's default


class HoldAnswer(Answer, kw_only=True):
    """`state`: "active", "converted", "released", "expired". `remaining_ms` is counted on the log's clock."""

    hold_id: str
    operator: str
    service_id: str
    seats: list[str]
    state: str
    created_ms: int
    expires_ms: int
    remaining_ms: int
    prices: list[Money]
    total: Money
    refundable_percent: int
    lsn: int
    reference: str = ""


class HoldMany(Request, frozen=True, kw_only=True):
    """A bulk caller's holds; each stands or falls alone."""

    holds: Annotated[list[HoldSeats], Meta(min_length=1, max_length=256)]


class HoldResult(msgspec.Struct):
    hold: HoldAnswer | None = None
    error: dict[str, Any] = {}


class HoldManyAnswer(Answer, kw_only=True):
    results: list[HoldResult]


class ExtendHold(Write, frozen=True, kw_only=True):
    owner_key: Secret
    hold_id: Word
    ttl_ms: Annotated[int, Meta(ge=1, le=86_400_000)]


class ReleaseHold(Write, frozen=True, kw_only=True):
    owner_key: Secret
    hold_id: Word


class GetHold(Request, frozen=True, kw_only=True):
    owner_key: Secret
    hold_id: Word


class MyHolds(Request, frozen=True, kw_only=True):
    owner_key: Secret


class HoldsAnswer(Answer, kw_only=True):
    holds: list[HoldAnswer]


# --- orders -------------------------------------------------------------------------------------------------------


class ConfirmHold(Write, frozen=True, kw_only=True):
    """Turn the hold into an order; one passenger a seat, in the order of the hold's seats."""

    owner_key: Secret
    hold_id: Word
    passengers: Annotated[list[Passenger], Meta(min_length=1, max_length=400)]


class OrderAnswer(Answer, kw_only=True):
    """`manage_token` only in the answer to confirm. `reduced`: found by surname, so names are initials and no token acts."""

    reference: str
    operator: str
    state: str  # "confirmed", "cancelled"
    service: ServiceInfo | None
    service_id: str
    seats: list[str]
    passengers: list[Passenger]
    prices: list[Money]
    total: Money
    refundable_percent: int
    refund: Money | None
    created_ms: int
    history: list[tuple[int, str]]
    lsn: int
    receipt: str  # "OPERATOR:lsn": the ledger entry that made it
    manage_token: str = ""
    reduced: bool = False


class GetOrder(Request, frozen=True, kw_only=True):
    """By `token` (whole record) or by `surname` (reduced record, rate limited)."""

    reference: Word
    surname: Text = ""
    token: str = ""


class GetOrders(Request, frozen=True, kw_only=True):
    """Mine: the orders whose tokens the caller keeps, (reference, token) each."""

    tokens: Annotated[list[tuple[Word, Secret]], Meta(max_length=200)]


class OrdersAnswer(Answer, kw_only=True):
    orders: list[OrderAnswer]


class CancelOrder(Write, frozen=True, kw_only=True):
    reference: Word
    token: Secret


# --- operators and administrators ---------------------------------------------------------------------------------


class BlockSeats(Write, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word
    seats: SeatWords
    reason: Text


class UnblockSeats(Write, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word
    seats: SeatWords


class SeatsChanged(Answer, kw_only=True):
    service_id: str
    seats: list[str]
    lsn: int


class ChangeService(Write, frozen=True, kw_only=True):
    """`state`: "open", "closed", "cancelled"."""

    operator_key: Secret
    service_id: Word
    state: Word
    reason: Text = ""


class ServiceChanged(Answer, kw_only=True):
    service_id: str
    state: str
    orders_cancelled: list[str]
    holds_released: int
    lsn: int


class Manifest(Request, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word


class ManifestLine(msgspec.Struct):
    seat_id: str
    surname: str
    given: str
    reference: str


class ManifestAnswer(Answer, kw_only=True):
    service: ServiceInfo
    lines: list[ManifestLine]
    blocked: list[tuple[str, str]]  # (seat, reason)
    held: int
    free: int
    lsn: int


class CreateOperator(Write, frozen=True, kw_only=True):
    """Make an operator known (and its partition, where there is none) and set who acts for it. Needs the admin's key."""

    admin_key: Secret
    code: OperatorCode
    name: Text
    kind: Word
    operator_key_digest: bytes = b""


class Created(Answer, kw_only=True):
    code: str
    lsn: int


class ImportTimetable(Write, frozen=True, kw_only=True):
    """Replace one (operator, dataset). `key`: the operator's or the admin's. `body`: zlib of `wire.ImportBody`."""

    key: Secret
    operator: OperatorCode
    dataset: Word
    body: bytes
    dry_run: bool = False


class Imported(Answer, kw_only=True):
    operator: str
    dataset: str
    added: int
    changed: int
    removed: int
    unchanged: int
    lsn: int


class DatasetNumbers(Request, frozen=True, kw_only=True):
    """(number, origin) pairs of an operator that datasets other than `dataset` use: what an import must tell itself apart from."""

    operator: OperatorCode
    dataset: Word


class DatasetNumbersAnswer(Answer, kw_only=True):
    known: bool
    taken: list[tuple[str, str]]


class Status(Request, frozen=True, kw_only=True):
    """The cluster as this balancer sees it."""


class ProcessStatus(msgspec.Struct):
    """One line of the status table. `verdict`: "ok", "degraded", "down"."""

    name: str
    kind: str  # "lock server", "node", "manager", "balancer"
    address: str
    state: str
    verdict: str
    detail: str = ""
    uptime_ms: int = 0


class PartitionLine(msgspec.Struct):
    operator: str
    primary: str
    epoch: int
    lsn: int
    replicas: dict[str, int]  # node -> lag in entries
    verdict: str


class StatusAnswer(Answer, kw_only=True):
    processes: list[ProcessStatus]
    partitions: list[PartitionLine]
    verdict: str
    as_of_ms: int


METHODS: dict[str, tuple[type[Request], type[Answer]]] = {
    "operators": (Operators, OperatorsAnswer),
    "places": (Places, PlacesAnswer),
    "services": (ListServices, ServicesAnswer),
    "seat_map": (SeatMap, SeatMapAnswer),
    "watch_seats": (WatchSeats, SeatStatesAnswer),
    "list_seats": (ListSeats, SeatsAnswer),
    "query_seat": (QuerySeat, SeatAnswer),
    "hold": (HoldSeats, HoldAnswer),
    "hold_many": (HoldMany, HoldManyAnswer),
    "extend": (ExtendHold, HoldAnswer),
    "release": (ReleaseHold, HoldAnswer),
    "get_hold": (GetHold, HoldAnswer),
    "my_holds": (MyHolds, HoldsAnswer),
    "confirm": (ConfirmHold, OrderAnswer),
    "order": (GetOrder, OrderAnswer),
    "orders": (GetOrders, OrdersAnswer),
    "cancel": (CancelOrder, OrderAnswer),
    "block": (BlockSeats, SeatsChanged),
    "unblock": (UnblockSeats, SeatsChanged),
    "change_service": (ChangeService, ServiceChanged),
    "manifest": (Manifest, ManifestAnswer),
    "create_operator": (CreateOperator, Created),
    "import": (ImportTimetable, Imported),
    "dataset_numbers": (DatasetNumbers, DatasetNumbersAnswer),
    "status": (Status, StatusAnswer),
}

_encoder = msgspec.msgpack.Encoder()
_request_decoders = {name: msgspec.msgpack.Decoder(pair[0]) for name, pair in METHODS.items()}
_answer_decoders = {name: msgspec.msgpack.Decoder(pair[1]) for name, pair in METHODS.items()}


def encode(message: Request | Answer) -> bytes:
    return _encoder.encode(message)


def decode_request(method: str, payload: bytes) -> Any:
    """Return the question of `method`.

    Raises:
        InvalidRequest: Not such a question; the message names the field and what it expected.
    """
    try:
        return _request_decoders[method].decode(payload)
    except UNREADABLE as error:
        said = wording(str(error))
        raise InvalidRequest(f"{method}: {said.sentence}", field=said.field) from error


def decode_answer(method: str, payload: bytes) -> Any:
    """Return the answer to `method`.

    Raises:
        msgspec.DecodeError: The balancer speaks another version.
    """
    return _answer_decoders[method].decode(payload)
