"""What changing an order comes to, and the quote that says so: a text that a caller brings back to have just that done. Pure.

A quote holds everything that decides: what is given up, what is taken, the order's version and the amounts. So accepting needs
no memory anywhere, and a repeat of it asks for the very same. Nobody gains by writing one of his own: the order's operator works the
amounts out again, and refuses what is not so (`datastore.amending`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from datastore import conditions, messages
from datastore.errors import AlreadyCancelled, InvalidRequest, QuoteExpired
from datastore.model import Leg, Money, OrderState, Passenger
from loadbalancer.answers import leg_info


class Quote(msgspec.Struct, array_like=True, frozen=True):
    """A quote as it travels.

    Attributes:
        expects: The order's version. `cuts`, `refund_minor`, `full`, `what`: as in `commands.Amend`.
        legs: (operator, service, seats, prices, percent) of what comes in; () for a cancellation.
        hold_id: Of a change that is held already.
        is_whole: Whether everything is cancelled.
    """

    reference: str
    expects: int
    cuts: tuple[tuple[int, tuple[int, ...]], ...]
    refund_minor: int
    full: bool
    what: str
    legs: tuple[Leg, ...] = ()
    hold_id: str = ""
    is_whole: bool = False

    @property
    def is_change(self) -> bool:
        return bool(self.legs)


_decoder = msgspec.msgpack.Decoder(Quote)


def quote_text(quote: Quote) -> str:
    """Return a quote as its callers carry it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(quote)).decode().rstrip("=")


def quote_of(text: str, reference: str, *, is_change: bool) -> Quote:
    """Return the quote that a text is.

    Raises:
        InvalidRequest: It is none, or of another booking or another kind.
    """
    try:
        quote = _decoder.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("that is not a quote; ask for one first", field="quote") from error
    if quote.reference != reference:
        raise InvalidRequest(f"the quote is of booking {quote.reference}, not of {reference}", field="quote")
    if quote.is_change != is_change:
        kinds = ("a change", "a cancellation") if quote.is_change else ("a cancellation", "a change")
        raise InvalidRequest(f"the quote is of {kinds[0]}, not of {kinds[1]}", field="quote")
    if (is_change and len(quote.cuts) != 1) or any(place < 0 or not cut or min(cut) < 0 for place, cut in quote.cuts):
        raise InvalidRequest("that is not a quote; ask for one first", field="quote")
    return quote


def cut_of_change(quote: Quote, legs: Sequence[Leg]) -> tuple[int, tuple[int, ...]]:
    """Return what a change gives up: (leg, positions).

    Raises:
        QuoteExpired: The booking has no such seats.
    """
    ((place, positions),) = quote.cuts
    if place >= len(legs) or max(positions) >= len(legs[place].seats):
        raise QuoteExpired(f"booking {quote.reference} has changed since; ask for a new quote", reference=quote.reference)
    return place, positions


def cancelling(
    value: Mapping[str, Any], operator: str, places: Sequence[int], positions: Sequence[int], *, full: bool
) -> Quote:
    """Return the quote of giving up legs or passengers (counted from 0), or everything.

    Raises:
        InvalidRequest: There is no such leg or passenger, or the whole price does not go back. AlreadyCancelled: Nothing is left.
    """
    if value["state"] != OrderState.CONFIRMED:
        raise AlreadyCancelled(f"booking {value['reference']} is cancelled", reference=value["reference"])
    legs = conditions.legs_of_order(value, operator)
    cuts = conditions.cuts_of(legs, places, positions)
    if full and not value["action"]:
        raise InvalidRequest("the whole price goes back only where a service was taken away", field="full")
    refund_of = conditions.cut_price_minor if full else conditions.cut_refund_minor
    amounts = [refund_of(legs[place], cut) for place, cut in cuts.items()]
    whole = not places and not positions
    words = _cancelled_words(legs, cuts)
    return Quote(value["reference"], value["version"], tuple(cuts.items()), sum(amounts), full, words, is_whole=whole)


def _cancelled_words(legs: Sequence[Leg], cuts: Mapping[int, Sequence[int]]) -> str:
    party = len(legs[0].seats)
    positions = next(iter(cuts.values()))
    if len(positions) < party:
        numbers = ", ".join(str(position + 1) for position in positions)
        return f"{'passengers' if len(positions) > 1 else 'passenger'} {numbers} cancelled"
    if len(cuts) < len(legs):
        return f"cancelled on {', '.join(legs[place].service_id for place in cuts)}"
    return "cancelled"


def changing(value: Mapping[str, Any], operator: str, place: int, positions: Sequence[int], new: Sequence[Leg], hold_id: str = "") -> Quote:
    """Return the quote of taking `new` for some seats of a leg."""
    leg = conditions.legs_of_order(value, operator)[place]
    back_minor = conditions.back_minor(max(0, -difference_minor(leg, positions, new)), leg.refundable_percent)
    if [one.service_id for one in new] == [leg.service_id]:
        pairs = ", ".join(f"{leg.seats[position]} to {seat}" for position, seat in zip(positions, new[0].seats, strict=True))
        what = f"seats changed on {leg.service_id}: {pairs}"
    else:
        what = f"{leg.service_id} changed to {', '.join(one.service_id for one in new)}"
    cuts = ((place, tuple(positions)),)
    return Quote(value["reference"], value["version"], cuts, back_minor, False, what, tuple(new), hold_id)


def difference_minor(leg: Leg, positions: Sequence[int], new: Sequence[Leg]) -> int:
    """Return what new seats cost more than those they replace, in minor units."""
    return sum(sum(one.prices) for one in new) - conditions.cut_price_minor(leg, positions)


def quote_answer(quote: Quote, value: Mapping[str, Any], operator: str, people: Sequence[Passenger]) -> messages.QuoteAnswer:
    """Return a quote as callers read it, by leg and passenger, each amount to the cent."""
    currency = value["currency"]
    legs = conditions.legs_of_order(value, operator)
    given_minor = sum(conditions.cut_price_minor(legs[place], cut) for place, cut in quote.cuts)
    lines: list[messages.QuoteLine] = []
    for place, cut in quote.cuts:
        leg = legs[place]
        prices = [leg.prices[position] for position in cut]
        # Of a change, one leg's seats share the difference; of a cancellation every leg has its own conditions.
        whole_minor = conditions.cut_refund_minor(leg, cut)
        total_minor = quote.refund_minor if quote.is_change else sum(prices) if quote.full else whole_minor
        for position, price, back in zip(cut, prices, conditions.split_minor(total_minor, prices), strict=True):
            person = people[position] if position < len(people) else None
            name = f"{person.given} {person.surname}".strip() if person is not None else ""
            percent = 100 if quote.full else leg.refundable_percent
            paid, refund = Money(price, currency), Money(back, currency)
            lines.append(messages.QuoteLine(place + 1, position + 1, leg.service_id, leg.seats[position], name, paid, percent, refund))
    retained_minor = given_minor - quote.refund_minor
    difference: Money | None = None
    to_pay: Money | None = None
    if quote.is_change:
        ((place, cut),) = quote.cuts
        more_minor = difference_minor(legs[place], cut, quote.legs)
        difference, to_pay = Money(more_minor, currency), Money(max(0, more_minor), currency)
        retained_minor = max(0, -more_minor) - quote.refund_minor
    return messages.QuoteAnswer(
        reference=quote.reference,
        what=quote.what,
        quote=quote_text(quote),
        lines=lines,
        given_up=Money(given_minor, currency),
        refund=Money(quote.refund_minor, currency),
        retained=Money(retained_minor, currency),
        taken=[leg_info([leg.operator, leg.service_id, leg.seats, leg.prices, leg.refundable_percent], currency) for leg in quote.legs],
        difference=difference,
        to_pay=to_pay,
    )
