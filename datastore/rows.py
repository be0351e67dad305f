"""Row images: what a partition keeps, and what an event of the log carries.

An event is (kind, key, value): store `value` under (kind, key), or delete the row where value is empty. Replicas do that
and nothing else, so no version of the code can make replicas differ. Values are MessagePack of the structs below.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from datastore.model import ConnectingTime, HoldState, LayoutSpec, OrderState, Place, Schedule, SeatState, ServiceState


class Kind(IntEnum):
    """The tables. Keys are text; the seat's is "service_id/seat_id", so a service's seats are one range."""

    SEAT = 1
    OPEN_HOLD = 2  # active or paying: the ones that expire
    CLOSED_HOLD = 3  # converted, released, expired
    ORDER = 4  # key: booking reference
    SERVICE = 5  # changed services only
    SCHEDULE = 6  # key: dataset/number/origin/sequence
    LAYOUT = 7
    PLACE = 8
    OPERATOR = 9  # one row, key: the operator's code
    DATASET = 10
    CONFIG = 11  # one row, key "": the voters
    ERASED = 12  # key: digest (hexadecimal) of a side record that was erased; it never comes back
    COUNTER = 20  # key: its name; the smallest thing that is replicated (examples/counter.py)


class Event(NamedTuple):
    kind: int
    key: str
    value: bytes  # b"" deletes


class SeatRow(msgspec.Struct, array_like=True):
    """A touched seat. It is never deleted: its fence stays (Z7).

    Attributes:
        hold_id: Who holds or booked it, "" when free or blocked.
        hold_lsn: The lsn that made the hold: what EXTEND, CONFIRM and RELEASE must name (I9).
        owner: Digest of the owner's key.
        fence, nonce: (generation, counter) and nonce of the last lock that took the seat.
        reason: Why it is blocked.
    """

    state: SeatState
    hold_id: str
    hold_lsn: int
    owner: str
    generation: int
    counter: int
    nonce: str
    reason: str = ""


class HoldRow(msgspec.Struct, array_like=True):
    """A hold, at its anchor or at another leg. `legs` and `anchor` serve baskets; one operator alone is its own anchor."""

    hold_id: str
    owner: str
    service_id: str
    seats: tuple[str, ...]
    state: HoldState
    lsn: int
    created_ms: int
    expires_ms: int
    currency: str
    prices: tuple[int, ...]  # minor units, beside `seats`
    refundable_percent: int
    anchor: str = ""  # "" : this operator
    legs: tuple[str, ...] = ()  # operators of the other legs, at the anchor
    reference: str = ""  # of the order it became


class OrderRow(msgspec.Struct, array_like=True):
    """A booking at its anchor. Names stand in the side record `passengers` (digest), nowhere else."""

    reference: str
    hold_id: str
    owner: str
    state: OrderState
    token_digest: bytes
    service_id: str
    seats: tuple[str, ...]
    currency: str
    prices: tuple[int, ...]
    refundable_percent: int
    passengers: bytes
    created_ms: int
    departs_ms: int
    lsn: int
    history: tuple[tuple[int, str], ...] = ()  # (stamp_ms, what)
    cancelled_ms: int = 0
    refund_minor: int = 0


class ServiceRow(msgspec.Struct, array_like=True):
    state: ServiceState
    reason: str
    lsn: int


class ScheduleRow(msgspec.Struct, array_like=True):
    dataset: str
    schedule: Schedule


class OperatorRow(msgspec.Struct, array_like=True):
    """Who the operator is. `key_digest`: BLAKE2b of the operator's key; limits of 0 mean the cluster's default."""

    code: str
    name: str
    kind: str
    key_digest: bytes = b""


class DatasetRow(msgspec.Struct, array_like=True):
    dataset: str
    title: str
    licence: str
    rows: int
    imported_ms: int
    digest: bytes
    connecting: tuple[ConnectingTime, ...] = ()  # minimum connecting times, replaced with the dataset


class ConfigRow(msgspec.Struct, array_like=True):
    """The voters and learners of the partition: store uuid -> node name (R15)."""

    voters: dict[str, str]
    learners: dict[str, str] = {}


class ErasedRow(msgspec.Struct, array_like=True):
    """A side record that is gone from every copy, and which order lost it (Z12)."""

    reference: str
    lsn: int
    stamp_ms: int


class CounterRow(msgspec.Struct, array_like=True):
    value: int


ROW_TYPES: dict[int, Any] = {
    Kind.SEAT: SeatRow,
    Kind.OPEN_HOLD: HoldRow,
    Kind.CLOSED_HOLD: HoldRow,
    Kind.ORDER: OrderRow,
    Kind.SERVICE: ServiceRow,
    Kind.SCHEDULE: ScheduleRow,
    Kind.LAYOUT: LayoutSpec,
    Kind.PLACE: Place,
    Kind.OPERATOR: OperatorRow,
    Kind.DATASET: DatasetRow,
    Kind.CONFIG: ConfigRow,
    Kind.ERASED: ErasedRow,
    Kind.COUNTER: CounterRow,
}
_decoders = {kind: msgspec.msgpack.Decoder(row_type) for kind, row_type in ROW_TYPES.items()}
_encoder = msgspec.msgpack.Encoder()


def encode_row(row: Any) -> bytes:
    return _encoder.encode(row)


def decode_row(kind: int, value: bytes) -> Any:
    """Return the struct of a row image.

    Raises:
        msgspec.DecodeError: The bytes are not such a row: the store is damaged.
    """
    return _decoders[kind].decode(value)
