"""A traveller's writes and what is the traveller's own: holds and orders. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from datastore.messages_base import (
    Answer,
    Request,
    SeatWords,
    Secret,
    Text,
    Word,
    Write,
)
from datastore.messages_looking import (
    ServiceInfo,
)
from datastore.messages_searching import OfferId
from datastore.model import (
    Money,
    Passenger,
)


class HoldSeats(Write, frozen=True, kw_only=True):
    """Hold the named seats, or `count` of the best (`cabin`, `together` narrow it). All or none.

    With an `offer` of a search, whose only leg is the service, nothing is held unless price and conditions are still as offered;
    `count` seats are then taken at the price offered, and named ones cost what they cost.
    """

    owner_key: Secret
    service_id: Word
    seats: SeatWords = msgspec.field(default_factory=list)
    count: Annotated[int, Meta(ge=0, le=400)] = 0
    cabin: Word = ""
    together: bool = False
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0  # 0: the cluster's default
    offer: OfferId = ""


class LegWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service of a trip: the named seats, one for each of the party, or the best `count` (of `cabin` alone)."""

    service_id: Word
    seats: SeatWords = msgspec.field(default_factory=list)
    count: Annotated[int, Meta(ge=0, le=400)] = 0
    cabin: Word = ""


class HoldTrip(Write, frozen=True, kw_only=True):
    """Hold seats on every leg or on none: one hold, one deadline. `together`: side by side wherever the best are asked for.

    With an `offer` of a search, whose services are the legs', nothing is held unless every price and condition is still as offered.
    """

    owner_key: Secret
    legs: Annotated[list[LegWish], Meta(min_length=1, max_length=12)]
    together: bool = False
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0  # 0: the cluster's default
    offer: OfferId = ""


class RenewHold(Write, frozen=True, kw_only=True):
    """Take the seats of a hold that has expired again, if they are free: a new hold of the same seats."""

    owner_key: Secret
    hold_id: Word
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0


class LegInfo(msgspec.Struct):
    """One leg of a trip that is held or booked. `prices` stand beside `seats`."""

    operator: str
    service_id: str
    seats: list[str]
    prices: list[Money]
    total: Money
    refundable_percent: int
    service: ServiceInfo | None = None


class FarePart(msgspec.Struct):
    """What one passenger pays on one leg. Of an infant on a lap the seat is its adult's, whose own part is without it.

    Attributes:
        leg, passenger: Counted from 1, passengers as the answer lists them; 0 of one of whom nothing is known any more.
        type: "ADT", "CHD", "INS", "INF" (docs/passengers.md); "" where it was erased.
    """

    leg: int
    passenger: int
    type: str
    service_id: str
    seat_id: str
    amount: Money


class HoldAnswer(Answer, kw_only=True):
    """`state`: "active", "paying", "converted", "released", "expired". `remaining_ms` is counted on the log's clock.

    Of a trip, `legs` has all legs; service, seats and prices are the first leg's, the total is of all, and the percentage is
    the least.
    """

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
    legs: list[LegInfo] = msgspec.field(default_factory=list)


class HoldMany(Request, frozen=True, kw_only=True):
    """A bulk caller's holds; each stands or falls alone."""

    holds: Annotated[list[HoldSeats], Meta(min_length=1, max_length=256)]


class HoldResult(msgspec.Struct):
    hold: HoldAnswer | None = None
    error: dict[str, Any] = {}


class HoldManyAnswer(Answer, kw_only=True):
    results: list[HoldResult]


class HoldEach(Write, frozen=True, kw_only=True):
    """Many holds of one service for one owner, in one request: `seats` has those of each. Each stands or falls alone.

    What `HoldMany` does for callers that gather others' requests, for one who wants many holds: an agency that takes forty
    seats and will sell them one by one. One request id names them all, and a repeat of it gives the first answer to all.
    """

    owner_key: Secret
    service_id: Word
    seats: Annotated[list[SeatWords], Meta(min_length=1, max_length=256)]
    ttl_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0  # 0: the cluster's default


class HoldEachAnswer(Answer, kw_only=True):
    """The holds beside what was asked for: `hold_ids`, `seats`, `prices` (minor units), `refundable_percents` have one for each.

    `refused`: (place, from 0; the error) of those that could not be made; their hold id is "". Times are as in `HoldAnswer`.
    """

    operator: str
    service_id: str
    created_ms: int
    expires_ms: int
    remaining_ms: int
    currency: str
    lsn: int
    hold_ids: list[str]
    seats: list[list[str]]
    prices: list[list[int]]
    refundable_percents: list[int]
    refused: list[tuple[int, dict[str, Any]]] = msgspec.field(default_factory=list)

    def results(self) -> list[HoldResult]:
        """Return the holds and the refusals, each as `hold` would have answered."""
        errors = dict(self.refused)
        columns = zip(self.hold_ids, self.seats, self.prices, self.refundable_percents, strict=True)
        return [
            HoldResult(error=errors[place]) if place in errors else HoldResult(hold=self._hold(*one)) for place, one in enumerate(columns)
        ]

    def _hold(self, hold_id: str, seats: list[str], prices: list[int], percent: int) -> HoldAnswer:
        return HoldAnswer(
            hold_id=hold_id,
            operator=self.operator,
            service_id=self.service_id,
            seats=seats,
            state="active",
            created_ms=self.created_ms,
            expires_ms=self.expires_ms,
            remaining_ms=self.remaining_ms,
            prices=[Money(minor, self.currency) for minor in prices],
            total=Money(sum(prices), self.currency),
            refundable_percent=percent,
            lsn=self.lsn,
        )


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
    """Turn the hold into an order; one passenger a seat, in the order of the hold's seats.

    `payment_method`: the card that pays, as the provider knows it, where the cluster takes payments.
    """

    owner_key: Secret
    hold_id: Word
    passengers: Annotated[list[Passenger], Meta(min_length=1, max_length=400)]
    payment_method: Word = ""


class PriceParty(Request, frozen=True, kw_only=True):
    """What these passengers pay for the seats of a hold; nothing is booked. Refused where they may not sit so."""

    owner_key: Secret
    hold_id: Word
    passengers: Annotated[list[Passenger], Meta(min_length=1, max_length=400)]


class PartyPriced(Answer, kw_only=True):
    """`legs`: as in the hold, each seat's price being what its passenger pays, an infant on the lap included.

    `price_parts`: the same by passenger, infants on laps apart; they add up to `total`.
    """

    hold_id: str
    passengers: list[Passenger]
    legs: list[LegInfo]
    total: Money
    price_parts: list[FarePart] = msgspec.field(default_factory=list)


class CouponInfo(msgspec.Struct):
    """One segment of a ticket. `status`: "open", "refunded", "void", "exchanged". Of an infant on a lap the seat is its adult's."""

    operator: str
    service_id: str
    seat_id: str
    status: str


class TicketInfo(msgspec.Struct):
    """One passenger's ticket. `number`: 13 digits; `name` is "" of one who travels no longer, or was erased."""

    number: str
    check_digit: int
    name: str
    type: str
    coupons: list[CouponInfo]


class OrderAnswer(Answer, kw_only=True):
    """`manage_token` only in the answer to confirm. `reduced`: found by surname, so names are initials and no token acts.

    Of a trip, `legs` has all legs, the passengers beside the seats of each; else as in `HoldAnswer`.

    Attributes:
        refund: What went back or is going back in all; None where nothing was given up.
        retained: Of a booking that stands, what was kept of the price of what was given up; `total` is of what is left.
        available_actions: What can be done with it now: "cancel", "cancel_leg", "cancel_passenger", "change_seat",
            "change_service"; with `action_required`, also "accept_alternative" and "refund".
        action_required: What the traveller has to decide on, "" for nothing. `affected`: the services that were taken away.
        price_parts: What each passenger pays on each leg; they add up to `total`.
    """

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
    receipt: str  # `datastore.receipts`: the ledger entry that made it; "" in lists
    manage_token: str = ""
    reduced: bool = False
    tickets: list[TicketInfo] = msgspec.field(default_factory=list)  # not in a reduced record
    legs: list[LegInfo] = msgspec.field(default_factory=list)
    retained: Money | None = None
    available_actions: list[str] = msgspec.field(default_factory=list)
    action_required: str = ""
    affected: list[str] = msgspec.field(default_factory=list)
    price_parts: list[FarePart] = msgspec.field(default_factory=list)


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
