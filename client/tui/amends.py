"""What can be given up of a booking, what a quote says, and what a payment that was not made means, in words. Pure."""

from __future__ import annotations

from typing import NamedTuple

from client.tui.legs import legs_of
from datastore.errors import HoldfastError
from datastore.messages import Alternative, OrderAnswer, QuoteAnswer

# After these the same booking or change may be tried again, with another card or the same.
PAYABLE_AGAIN = ("payment_declined", "payment_action_required", "payments_unavailable")


class Part(NamedTuple):
    """A part of a booking that can be cancelled; of both lists at most one has entries, numbers count from 1."""

    words: str
    legs: list[int]
    passengers: list[int]


def parts_of(order: OrderAnswer) -> list[Part]:
    """Return what of an order can be cancelled now, the whole first."""
    found = [Part(f"the whole booking {order.reference}", [], [])]
    if "cancel_leg" in order.available_actions:
        legs = enumerate(legs_of(order), 1)
        found += [Part(f"leg {number}: {', '.join(leg.seats)} on {leg.service_id}", [number], []) for number, leg in legs]
    if "cancel_passenger" in order.available_actions:
        people = enumerate(order.passengers, 1)
        found += [Part(f"passenger {number}: {one.given} {one.surname}", [], [number]) for number, one in people if one.surname]
    return found


def quote_words(quote: QuoteAnswer) -> str:
    """Return a quote as lines: what is given up and what of it comes back, what is taken instead, and the sum."""
    lines = []
    for line in quote.lines:
        back = f"back {line.refund} ({line.refundable_percent} %)"
        lines.append(f"- {line.seat} on {line.service_id}  {line.name}  {line.paid}, {back}")
    for leg in quote.taken:
        lines.append(f"+ {', '.join(leg.seats)} on {leg.service_id}  {leg.total}")
    lines.append("")
    if quote.difference is not None:
        lines.append(f"difference {quote.difference}")
    if pays(quote):
        lines.append(f"you pay {quote.to_pay}, and only if all of it is done")
    elif quote.taken and not quote.refund.minor:
        lines.append("nothing to pay, nothing comes back")
    else:
        lines.append(f"you get back {quote.refund} of {quote.given_up}")
    return "\n".join(lines)


def pays(quote: QuoteAnswer) -> bool:
    """Return whether the traveller has to pay something for it."""
    return quote.to_pay is not None and quote.to_pay.minor > 0


def alternative_words(one: Alternative) -> str:
    """Return one way that is held instead of a lost one."""
    services = " + ".join(f"{leg.service_id} ({', '.join(leg.seats)})" for leg in one.legs)
    return f"{one.departs[:16].replace('T', ' ')} → {one.arrives[:16].replace('T', ' ')}  {services}"


def unpaid_words(error: HoldfastError, kept: str) -> str:
    """Return what a payment that was not made means, and what to do.

    Args:
        kept: What stays as it is meanwhile: "the seats stay held for you".
    """
    if error.code == "payment_declined":
        return f"declined: {error.detail}. Nothing was charged, {kept}: choose another card"
    if error.code == "payment_action_required":
        where = error.fields.get("action", "(it named no address)")
        return f"the card's bank wants your consent at {where} - then the same again, with the same card, goes on"
    if error.code == "payments_unavailable":
        return f"payments cannot be taken now: {error.detail}. Nothing is booked, {kept}: the same again goes on"
    return error.detail
