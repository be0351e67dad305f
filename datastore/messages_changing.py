"""Changing and cancelling an order: what it comes to first, then doing exactly that. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.messages_base import Answer, Request, SeatWords, Secret, Word, Write
from datastore.messages_selling import LegInfo
from datastore.model import Money

QuoteText = Annotated[str, Meta(max_length=2000)]
Numbers = Annotated[list[Annotated[int, Meta(ge=1, le=400)]], Meta(max_length=400)]  # counted from 1, as people do


class QuoteCancel(Request, frozen=True, kw_only=True):
    """What would cancelling give back: the whole order, some `legs` of it, or some `passengers` on all legs.

    `full`: the whole price, where a service of the order was taken away.
    """

    reference: Word
    token: Secret
    legs: Numbers = msgspec.field(default_factory=list)
    passengers: Numbers = msgspec.field(default_factory=list)
    full: bool = False


class CancelOrder(Write, frozen=True, kw_only=True):
    """Cancel an order whole, or with a `quote` just what was quoted, if that is still true."""

    reference: Word
    token: Secret
    quote: QuoteText = ""


class SeatSwap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seat that is given up and the one taken for it."""

    old: Word
    new: Word


class QuoteChange(Request, frozen=True, kw_only=True):
    """What would a change cost: other seats on a leg (`swaps`), or another service of the same operator for it (`service_id`).

    `seats`: of that service, one for each passenger; the best that are left where none is named.
    """

    reference: Word
    token: Secret
    leg: Annotated[int, Meta(ge=0, le=400)] = 0  # counted from 1; 0: the only one, or the one that has the seats
    swaps: Annotated[list[SeatSwap], Meta(max_length=400)] = msgspec.field(default_factory=list)
    service_id: Word = ""
    seats: SeatWords = msgspec.field(default_factory=list)


class ChangeOrder(Write, frozen=True, kw_only=True):
    """Make a change as it was quoted. `payment_method`: the card that pays the difference, where there is one to pay."""

    reference: Word
    token: Secret
    quote: QuoteText
    payment_method: Word = ""


class QuoteLine(msgspec.Struct):
    """One passenger's seat on one leg that is given up: what it cost and what of it goes back. Numbers count from 1."""

    leg: int
    passenger: int
    service_id: str
    seat: str
    name: str
    paid: Money
    refundable_percent: int
    refund: Money


class QuoteAnswer(Answer, kw_only=True):
    """What giving up seats, and taking others, comes to.

    Attributes:
        quote: What `cancel` or `change` takes to do just this.
        lines: What is given up; of a change, its refunds are shares of the difference.
        given_up, refund, retained: What those seats cost, what goes back and what the operators keep.
        taken: What is taken instead; `difference` is its price less what is given up, `to_pay` what of it is to be paid.
    """

    reference: str
    what: str
    quote: str
    lines: list[QuoteLine]
    given_up: Money
    refund: Money
    retained: Money
    taken: list[LegInfo] = msgspec.field(default_factory=list)
    difference: Money | None = None
    to_pay: Money | None = None


class FindAlternatives(Write, frozen=True, kw_only=True):
    """For a leg whose service was taken away: other ways there, held for the traveller at no charge until they expire."""

    reference: Word
    token: Secret
    leg: Annotated[int, Meta(ge=0, le=400)] = 0
    most: Annotated[int, Meta(ge=1, le=5)] = 3


class Alternative(msgspec.Struct):
    """One way instead, held as `hold_id`. `quote` is what `change` takes."""

    number: int
    quote: str
    hold_id: str
    legs: list[LegInfo]
    departs: str
    arrives: str
    expires_ms: int


class AlternativesAnswer(Answer, kw_only=True):
    """`leg`: counted from 1, of service `lost`, with what became of it. `alternatives`: none where nothing else goes there."""

    reference: str
    leg: int
    lost: str
    why: str
    alternatives: list[Alternative]


class KeepOrder(Write, frozen=True, kw_only=True):
    """The traveller keeps an order of which a service was moved."""

    reference: Word
    token: Secret


class Affected(Request, frozen=True, kw_only=True):
    """The operator asks which orders a service that it cancelled or moved concerns."""

    operator_key: Secret
    service_id: Word


class AffectedLine(msgspec.Struct):
    """One booking. `asked`: its traveller is asked what now; of one that another operator decides, was asked.

    `decided_by`: the operator that has the order. `why`: as the traveller reads it, "" where it is kept elsewhere.
    """

    reference: str
    seats: list[str]
    decided_by: str
    asked: bool
    why: str


class AffectedAnswer(Answer, kw_only=True):
    service_id: str
    lines: list[AffectedLine]


__all__ = [
    "Affected",
    "AffectedAnswer",
    "AffectedLine",
    "Alternative",
    "AlternativesAnswer",
    "CancelOrder",
    "ChangeOrder",
    "FindAlternatives",
    "KeepOrder",
    "QuoteAnswer",
    "QuoteCancel",
    "QuoteChange",
    "QuoteLine",
    "SeatSwap",
]
