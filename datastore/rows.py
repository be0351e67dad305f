"""Row images: what a partition keeps, and what an event of the log carries.

An event is (kind, key, value): store `value` under (kind, key), or delete the row where value is empty. Replicas do that
and nothing else, so no version of the code can make replicas differ. Values are MessagePack of the structs below.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from datastore.model import (
    BasketState,
    ConnectingTime,
    HoldState,
    LayoutSpec,
    Leg,
    OrderState,
    Part,
    PaymentState,
    Place,
    Schedule,
    SeatState,
    ServiceState,
    bulk_hold_id,
)


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
    BASKET = 13  # at the anchor, while something is left to be done: pending, paying, or legs that do not follow yet
    CLOSED_BASKET = 14
    LEG = 15  # key: the basket's id; at an operator that is not its anchor, while the anchor's word is awaited
    CLOSED_LEG = 16
    PAYMENT = 17  # key: the provider's id of the intent; while money may move or has to
    CLOSED_PAYMENT = 18
    REIGN = 19  # key: the lsn that began it, 16 digits: one row a promotion, kept for good
    COUNTER = 20  # key: its name; the smallest thing that is replicated (examples/counter.py)
    BULK = 21  # key: the bulk's id; open holds of one request that are still as it made them, and who has their seats


# The forms of rows. Followers tell their primary which they read: nothing is written in a form that a copy might have to lead with
# and does not know. 1: a bulk's row speaks for its seats.
BULKS_SPEAK = 1
ROWS_FORM = BULKS_SPEAK


class Event(NamedTuple):
    kind: int
    key: str
    value: bytes  # b"" deletes


class SeatRow(msgspec.Struct, array_like=True):
    """A touched seat. It is never deleted: its fence stays (Z7). Over it stands what a `BulkRow` says, while that names the seat.

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
    """A hold: of one service, decided here; or a leg of a basket, decided at the basket's anchor.

    Attributes:
        anchor: Where it is decided when that is not here; "" is this operator.
        reference: Of the order it became.
        basket: The basket whose leg it is, "" for a hold of its own.
        passengers: A booked leg's side record (digest); a single hold's stands in its order.
        intent: The payment intent of a hold that is being paid (Q2).
        fares: What is being paid for its seats, where the passengers' types make that other than `prices`.
    """

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
    anchor: str = ""
    reference: str = ""
    basket: str = ""
    passengers: bytes = b""
    intent: str = ""
    fares: tuple[int, ...] = ()


class BulkRow(msgspec.Struct, array_like=True, frozen=True):
    """Holds of one HOLD_EACH that are still as they were made, in one row: each is a hold of its own, with its own id.

    One that changes in any way leaves in the same entry, for a row of its own among the open holds or the closed ones, and its
    seats get rows of their own. So a hold is in one place, and what was sold by the hundred costs a row each only when something
    happens to it. While a seat is named here, it is held by that hold, whatever a row of its own, from before, may say.

    Attributes:
        numbers: Of those that are left, ascending; what stands beside them are their seats, prices and refundable percentages.
        generation, counter, nonce: The fence of all their seats; a generation of -1 (files of format 3.2, copies that read no other form)
            leaves all that is to be said of the seats to rows of their own.
    """

    bulk_id: str
    owner: str
    service_id: str
    lsn: int
    created_ms: int
    expires_ms: int
    currency: str
    numbers: tuple[int, ...]
    seats: tuple[tuple[str, ...], ...]
    prices: tuple[tuple[int, ...], ...]
    refundable_percents: tuple[int, ...]
    generation: int = -1
    counter: int = -1
    nonce: str = ""

    def seat_rows(self) -> dict[str, SeatRow]:
        """Return what this row says of its service's seats: seat id -> the row that the seat would have."""
        if self.generation < 0:
            return {}
        held, lsn, owner, generation, counter, nonce = SeatState.HELD, self.lsn, self.owner, self.generation, self.counter, self.nonce
        found: dict[str, SeatRow] = {}
        for number, seats in zip(self.numbers, self.seats, strict=True):
            hold_id = bulk_hold_id(self.bulk_id, number)
            for seat_id in seats:
                found[seat_id] = SeatRow(held, hold_id, lsn, owner, generation, counter, nonce)
        return found

    def silent(self) -> BulkRow:
        """Return the row that leaves its seats to rows of their own."""
        return msgspec.structs.replace(self, generation=-1, counter=-1, nonce="")

    def hold(self, number: int) -> HoldRow | None:
        """Return one of the holds as a row of its own, or None if it is not here (any more)."""
        place = bisect_left(self.numbers, number)
        return self._at(place) if place < len(self.numbers) and self.numbers[place] == number else None

    def _at(self, place: int) -> HoldRow:
        return HoldRow(
            bulk_hold_id(self.bulk_id, self.numbers[place]),
            self.owner,
            self.service_id,
            self.seats[place],
            HoldState.ACTIVE,
            self.lsn,
            self.created_ms,
            self.expires_ms,
            self.currency,
            self.prices[place],
            self.refundable_percents[place],
        )

    def holds(self) -> list[HoldRow]:
        """Return all that are left, each as a row of its own."""
        return [self._at(place) for place in range(len(self.numbers))]

    def hold_ids(self) -> list[str]:
        """Return the ids of all that are left."""
        return [bulk_hold_id(self.bulk_id, number) for number in self.numbers]

    def without(self, number: int) -> BulkRow:
        """Return the row that stays when one of the holds leaves."""
        place = self.numbers.index(number)

        def rest(column: tuple[Any, ...]) -> tuple[Any, ...]:
            return column[:place] + column[place + 1 :]

        return msgspec.structs.replace(
            self,
            numbers=rest(self.numbers),
            seats=rest(self.seats),
            prices=rest(self.prices),
            refundable_percents=rest(self.refundable_percents),
        )


class Ticketed(msgspec.Struct, array_like=True, frozen=True):
    """An order's tickets (`tickets.py`): one for each of `party` seats, then one for each infant on a lap, numbered on from `first`.

    Attributes:
        code: The operator's accounting code when they were issued.
        laps: Beside the infants, which of the party (from 0) has each on the lap.
        gone: (place, operator, service, seat, status) of coupons that are open no longer while the order stands.
    """

    code: str
    first: int
    party: int
    laps: tuple[int, ...] = ()
    gone: tuple[tuple[int, str, str, str, int], ...] = ()


class OrderRow(msgspec.Struct, array_like=True):
    """A booking at its anchor. Names stand in the side record `passengers` (digest), nowhere else.

    With `legs`, `hold_id` is the basket's, and service, seats, prices and percentage are those of the first leg.

    Attributes:
        refund_minor: What was given back in all.
        changed_lsn: The entry that last changed it, 0 for none: a change names what it was quoted for.
        parts: Where the seats are booked, once that is not the hold or basket alone that was sold.
        travellers: Who of the record's passengers still travels, beside the seats of each leg; () is all.
        retained: (operator, minor units) of what was given up and not given back.
        intents: Of payments for changes, in order; `intent` is that of the sale.
        action: (service, why) of services that were taken away: the traveller has to say what now.
        ticketed: Its tickets' numbers; None of an order made before there were tickets.
        laps: As in a leg, of the first one.
    """

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
    legs: tuple[Leg, ...] = ()
    intent: str = ""
    changed_lsn: int = 0
    parts: tuple[Part, ...] = ()
    travellers: tuple[int, ...] = ()
    retained: tuple[tuple[str, int], ...] = ()
    intents: tuple[str, ...] = ()
    action: tuple[tuple[str, str], ...] = ()
    ticketed: Ticketed | None = None
    laps: tuple[int, ...] = ()


SEVERAL = ""  # Drivers of a basket: no nonce is that.


class BasketRow(msgspec.Struct, array_like=True):
    """The record that decides on a basket, at its anchor (B2-B8).

    Attributes:
        digest: Of what the caller asked.
        driver: Nonce of the lock of its only driver, who alone may give it up as failed; SEVERAL once a second has driven it, as each
            of them may have told its caller "held".
        legs: All of them, in the order of travel; empty in a tombstone (Z3).
        lsn: The entry that made it. `decided_lsn`: the one that made its present state final, 0 before.
        why: Of an aborted one: "refused", "failed", "released", "expired", "no record", "service cancelled".
        undone: Operators that do not follow the decision yet (B5, B8).
        holds: (operator, lsn) of the other operators' holds as proven before PAYING or DECIDE (Z4).
        passengers: Side record of the order (digest); every leg's own follows from it.
        replaces: Of a change (B11), the order that it changes; "" otherwise. Then the anchor need not have a leg.
        credit_minor: Of a change, what the seats that it replaces cost: only the rest is to be paid.
        seated: Beside the legs, who of the order's passengers has each seat; () is everybody, in order.
        heard: (operator, why) of losses that the order knows of.
        fares: As in a hold, for each leg.
    """

    basket_id: str
    owner: str
    state: BasketState
    digest: bytes
    driver: str
    legs: tuple[Leg, ...]
    currency: str
    created_ms: int
    expires_ms: int
    lsn: int
    decided_lsn: int = 0
    why: str = ""
    undone: tuple[str, ...] = ()
    holds: tuple[tuple[str, int], ...] = ()
    reference: str = ""
    intent: str = ""
    passengers: bytes = b""
    replaces: str = ""
    credit_minor: int = 0
    seated: tuple[tuple[int, ...], ...] = ()
    heard: tuple[tuple[str, str], ...] = ()
    fares: tuple[tuple[int, ...], ...] = ()


class LegRow(msgspec.Struct, array_like=True):
    """What an operator knows of a basket that is decided elsewhere; its holds stand under `numbers`.

    Attributes:
        state: ACTIVE until the anchor's word is here, then CONVERTED, RELEASED or CANCELLED.
        lsn: The entry that made the holds; FINALISE must name it.
        due_ms: When to ask the anchor, on this log's clock: a hint, never a reason to free a seat (B6).
        numbers: Places of these legs in the basket; empty in a tombstone.
        evidence: (epoch, lsn, hash) of the anchor's log at which the decision stood.
        lost: Why the operator took the service away, "" otherwise: the anchor has to hear of it.
        asks: The services, if the traveller is asked what now and nothing is cancelled; it stays when the anchor has heard.
    """

    basket_id: str
    owner: str
    anchor: str
    state: HoldState
    digest: bytes
    lsn: int
    due_ms: int
    numbers: tuple[int, ...] = ()
    evidence: tuple[int, int, bytes] = (0, 0, b"")
    lost: str = ""
    asks: str = ""


class PaymentRow(msgspec.Struct, array_like=True):
    """A payment intent at the anchor of what it pays (Q2). `hold_id`: the hold's or the basket's.

    Attributes:
        captured_minor, refunded_minor: What the provider has said that it moved.
        refund_minor: What goes back in all. `step_minor`: in REFUND, how much of it the step under way reaches: the next step
            begins when this one is settled, so that two balancers never refund one amount under two names.
        case: Why the provider will not do what is to be done; a person has to look at it (Z15).
        closings: (stamp_ms, who, why, minor units) of cases that a person closed: what was taken (positive) or given back
            (negative) without the provider.
    """

    intent: str
    hold_id: str
    owner: str
    state: PaymentState
    amount_minor: int
    currency: str
    since_ms: int
    reference: str = ""
    refund_minor: int = 0
    note: str = ""
    captured_minor: int = 0
    refunded_minor: int = 0
    case: str = ""
    step_minor: int = 0
    closings: tuple[tuple[int, str, str, int], ...] = ()


def by_hand(closings: Sequence[tuple[int, str, str, int]]) -> tuple[int, int]:
    """Return (taken, given back) without the provider, in minor units."""
    amounts = [minor for *_, minor in closings]
    return sum(minor for minor in amounts if minor > 0), -sum(minor for minor in amounts if minor < 0)


class ServiceRow(msgspec.Struct, array_like=True):
    state: ServiceState
    reason: str
    lsn: int


class ScheduleRow(msgspec.Struct, array_like=True):
    dataset: str
    schedule: Schedule


class OperatorRow(msgspec.Struct, array_like=True):
    """Who the operator is.

    Attributes:
        key_digest: BLAKE2b of the operator's key.
        retired_ms: Since when it sells nothing any more, on the log clock; 0 for one that does.
        accounting: Three digits that begin its tickets' numbers, "" for the default (`tickets.accounting_code`).
    """

    code: str
    name: str
    kind: str
    key_digest: bytes = b""
    retired_ms: int = 0
    accounting: str = ""


class DatasetRow(msgspec.Struct, array_like=True):
    dataset: str
    title: str
    licence: str
    rows: int
    imported_ms: int
    digest: bytes
    connecting: tuple[ConnectingTime, ...] = ()  # minimum connecting times, replaced with the dataset


class ConfigRow(msgspec.Struct, array_like=True):
    """The voters and learners of the partition: store uuid -> node name (R15); `retired`: uuids that never vote again."""

    voters: dict[str, str]
    learners: dict[str, str] = {}
    retired: list[str] = []


class ReignRow(msgspec.Struct, array_like=True):
    """Who became primary, written by the very entry that opens the reign: a promotion and its record are one.

    Attributes:
        node, store_uuid: Of the new primary.
        before: The node that led last as far as the manager knew, "" at the founding.
        why, by: The reason, and the manager or person that wanted it: for people to read.
        stamp_ms: The log clock at that moment.
    """

    epoch: tuple[int, str]
    lsn: int
    stamp_ms: int
    node: str
    store_uuid: str
    before: str
    why: str
    by: str


class ErasedRow(msgspec.Struct, array_like=True):
    """A side record that is gone from every copy, and the digest of one with fewer names in its place, or b"" (Z12)."""

    replacement: bytes
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
    Kind.BASKET: BasketRow,
    Kind.CLOSED_BASKET: BasketRow,
    Kind.LEG: LegRow,
    Kind.CLOSED_LEG: LegRow,
    Kind.PAYMENT: PaymentRow,
    Kind.CLOSED_PAYMENT: PaymentRow,
    Kind.REIGN: ReignRow,
    Kind.COUNTER: CounterRow,
    Kind.BULK: BulkRow,
}
_decoders = {kind: msgspec.msgpack.Decoder(row_type) for kind, row_type in ROW_TYPES.items()}
_encoder = msgspec.msgpack.Encoder()
decode_seat = _decoders[Kind.SEAT].decode  # Of all rows these are the many: without a look at the kind and a call in between.
encode_row = _encoder.encode


def decode_row(kind: int, value: bytes) -> Any:
    """Return the struct of a row image.

    Raises:
        msgspec.DecodeError: The bytes are not such a row: the store is damaged.
    """
    return _decoders[kind].decode(value)
