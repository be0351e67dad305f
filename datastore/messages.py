"""What travels between a client and a load balancer: one struct a question, one an answer, as MessagePack maps.

The method's name on the edge is the key of `METHODS`. Unknown fields are refused. Limits stand in the types, so that
the border refuses what is out of bounds before anything is done. Times: `_ms` fields named `expires_ms`, `departs_ms`,
`as_of_ms` are UTC milliseconds since 1970; `ttl_ms`, `remaining_ms`, `deadline_ms` are durations.
"""

from __future__ import annotations

from typing import Any

import msgspec

from datastore.errors import InvalidRequest
from datastore.messages_base import (
    Answer,
    Limit,
    Milliseconds,
    OperatorCode,
    Request,
    RequestId,
    SeatWords,
    Secret,
    Text,
    Word,
    Write,
)
from datastore.messages_ledger import (
    CheckAnswer,
    CheckCluster,
    CopyState,
    ErasedAnswer,
    ErasePerson,
    FindPerson,
    LedgerPage,
    LedgerPageAnswer,
    PersonFound,
    PersonsAnswer,
    Removed,
    RemoveOperator,
)
from datastore.messages_looking import (
    ListSeats,
    ListServices,
    OperatorInfo,
    Operators,
    OperatorsAnswer,
    PlaceInfo,
    Places,
    PlacesAnswer,
    QuerySeat,
    SeatAnswer,
    SeatInfo,
    SeatMap,
    SeatMapAnswer,
    SeatsAnswer,
    SeatStatesAnswer,
    ServiceInfo,
    ServicesAnswer,
    WatchSeats,
)
from datastore.messages_operating import (
    About,
    AboutAnswer,
    Administer,
    Administered,
    BlockSeats,
    ChangeService,
    CopyLine,
    Count,
    Counted,
    Created,
    CreateOperator,
    DatasetNumbers,
    DatasetNumbersAnswer,
    Imported,
    ImportTimetable,
    Manifest,
    ManifestAnswer,
    ManifestLine,
    PartitionLine,
    ProcessStatus,
    SeatsChanged,
    ServiceChanged,
    Status,
    StatusAnswer,
    UnblockSeats,
)
from datastore.messages_payments import (
    AccountLine,
    Accounts,
    AccountsAnswer,
    GetTransaction,
    TransactionAnswer,
)
from datastore.messages_searching import (
    Calendar,
    CalendarAnswer,
    CalendarDay,
    Layover,
    OfferId,
    PathInfo,
    Paths,
    PathsAnswer,
    PricePart,
    RouteInfo,
    RoutePlace,
    Routes,
    RoutesAnswer,
    SearchTrips,
    Trip,
    TripLeg,
    TripsAnswer,
)
from datastore.messages_selling import (
    CancelOrder,
    ConfirmHold,
    ExtendHold,
    GetHold,
    GetOrder,
    GetOrders,
    HoldAnswer,
    HoldMany,
    HoldManyAnswer,
    HoldResult,
    HoldsAnswer,
    HoldSeats,
    HoldTrip,
    LegInfo,
    LegWish,
    MyHolds,
    OrderAnswer,
    OrdersAnswer,
    ReleaseHold,
    RenewHold,
)
from datastore.wire import UNREADABLE
from datastore.wording import wording

__all__ = [
    "METHODS",
    "About",
    "AboutAnswer",
    "AccountLine",
    "Accounts",
    "AccountsAnswer",
    "Administer",
    "Administered",
    "Answer",
    "BlockSeats",
    "Calendar",
    "CalendarAnswer",
    "CalendarDay",
    "CancelOrder",
    "ChangeService",
    "CheckAnswer",
    "CheckCluster",
    "ConfirmHold",
    "CopyLine",
    "CopyState",
    "Count",
    "Counted",
    "CreateOperator",
    "Created",
    "DatasetNumbers",
    "DatasetNumbersAnswer",
    "ErasePerson",
    "ErasedAnswer",
    "ExtendHold",
    "FindPerson",
    "GetHold",
    "GetOrder",
    "GetOrders",
    "GetTransaction",
    "HoldAnswer",
    "HoldMany",
    "HoldManyAnswer",
    "HoldResult",
    "HoldSeats",
    "HoldTrip",
    "HoldsAnswer",
    "ImportTimetable",
    "Imported",
    "Layover",
    "LedgerPage",
    "LedgerPageAnswer",
    "LegInfo",
    "LegWish",
    "Limit",
    "ListSeats",
    "ListServices",
    "Manifest",
    "ManifestAnswer",
    "ManifestLine",
    "Milliseconds",
    "MyHolds",
    "OfferId",
    "OperatorCode",
    "OperatorInfo",
    "Operators",
    "OperatorsAnswer",
    "OrderAnswer",
    "OrdersAnswer",
    "PartitionLine",
    "PathInfo",
    "Paths",
    "PathsAnswer",
    "PersonFound",
    "PersonsAnswer",
    "PlaceInfo",
    "Places",
    "PlacesAnswer",
    "PricePart",
    "ProcessStatus",
    "QuerySeat",
    "ReleaseHold",
    "RemoveOperator",
    "Removed",
    "RenewHold",
    "Request",
    "RequestId",
    "RouteInfo",
    "RoutePlace",
    "Routes",
    "RoutesAnswer",
    "SearchTrips",
    "SeatAnswer",
    "SeatInfo",
    "SeatMap",
    "SeatMapAnswer",
    "SeatStatesAnswer",
    "SeatWords",
    "SeatsAnswer",
    "SeatsChanged",
    "Secret",
    "ServiceChanged",
    "ServiceInfo",
    "ServicesAnswer",
    "Status",
    "StatusAnswer",
    "Text",
    "TransactionAnswer",
    "Trip",
    "TripLeg",
    "TripsAnswer",
    "UnblockSeats",
    "WatchSeats",
    "Word",
    "Write",
    "decode_answer",
    "decode_request",
    "encode",
]

METHODS: dict[str, tuple[type[Request], type[Answer]]] = {
    "operators": (Operators, OperatorsAnswer),
    "places": (Places, PlacesAnswer),
    "services": (ListServices, ServicesAnswer),
    "seat_map": (SeatMap, SeatMapAnswer),
    "watch_seats": (WatchSeats, SeatStatesAnswer),
    "list_seats": (ListSeats, SeatsAnswer),
    "query_seat": (QuerySeat, SeatAnswer),
    "search": (SearchTrips, TripsAnswer),
    "calendar": (Calendar, CalendarAnswer),
    "routes": (Routes, RoutesAnswer),
    "paths": (Paths, PathsAnswer),
    "hold": (HoldSeats, HoldAnswer),
    "hold_many": (HoldMany, HoldManyAnswer),
    "hold_trip": (HoldTrip, HoldAnswer),
    "renew": (RenewHold, HoldAnswer),
    "extend": (ExtendHold, HoldAnswer),
    "release": (ReleaseHold, HoldAnswer),
    "get_hold": (GetHold, HoldAnswer),
    "my_holds": (MyHolds, HoldsAnswer),
    "confirm": (ConfirmHold, OrderAnswer),
    "transaction": (GetTransaction, TransactionAnswer),
    "order": (GetOrder, OrderAnswer),
    "orders": (GetOrders, OrdersAnswer),
    "cancel": (CancelOrder, OrderAnswer),
    "block": (BlockSeats, SeatsChanged),
    "unblock": (UnblockSeats, SeatsChanged),
    "change_service": (ChangeService, ServiceChanged),
    "manifest": (Manifest, ManifestAnswer),
    "count": (Count, Counted),
    "administer": (Administer, Administered),
    "create_operator": (CreateOperator, Created),
    "import": (ImportTimetable, Imported),
    "dataset_numbers": (DatasetNumbers, DatasetNumbersAnswer),
    "status": (Status, StatusAnswer),
    "check": (CheckCluster, CheckAnswer),
    "ledger_page": (LedgerPage, LedgerPageAnswer),
    "accounts": (Accounts, AccountsAnswer),
    "find_person": (FindPerson, PersonsAnswer),
    "erase_person": (ErasePerson, ErasedAnswer),
    "remove_operator": (RemoveOperator, Removed),
    "about": (About, AboutAnswer),
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
