"""Ticket numbers and what has become of each coupon, from an order's row. Pure.

A number has 13 digits: the operator's accounting code (3) and a serial of 10 that its ledger counts, so that no two of an operator's
tickets share one (numbering as in IATA Resolution 722; the check digit is the remainder of the number by 7, unweighted). A ticket is
one passenger's, for the whole order; it has a coupon for each segment. The operator that decides on an order issues its tickets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple

from datastore import conditions
from datastore.model import Leg, OrderState

TICKET_COUNTER = ".tickets"  # No caller's counter can have that name.
SERIAL_DIGITS = 10
CHECK_MODULUS = 7
UNLISTED_FIRST, UNLISTED_COUNT = 900, 100


class CouponStatus(IntEnum):
    """`EXCHANGED`: another coupon has taken its place; `VOID`: given up without anything back."""

    OPEN = 0
    REFUNDED = 1
    VOID = 2
    EXCHANGED = 3


COUPON_WORDS = {status: status.name.lower() for status in CouponStatus}


class Coupon(NamedTuple):
    """One passenger on one segment. `place`: which of the order's tickets; of an infant on a lap the seat is its adult's."""

    place: int
    operator: str
    service_id: str
    seat_id: str
    status: int


class Ticket(NamedTuple):
    """One passenger's ticket. `on_lap`: of an infant without a seat; `traveller`: place among those who still travel, -1 for none."""

    number: str
    on_lap: bool
    traveller: int
    coupons: list[Coupon]


def accounting_code(operator: str, stated: str) -> str:
    """Return an operator's three digits: those stated, else one of 900 to 999 that follows from its code.

    Two operators that state none may get the same: their numbers are then told apart by the operator alone.
    """
    if stated:
        return stated
    digest = blake2b(operator.encode(), digest_size=8, person=b"holdfast-ticket").digest()
    return str(UNLISTED_FIRST + int.from_bytes(digest, "big") % UNLISTED_COUNT)


def number_of(code: str, serial: int) -> str:
    """Return a ticket's 13 digits."""
    return f"{code}{serial % 10**SERIAL_DIGITS:0{SERIAL_DIGITS}d}"


def check_digit(number: str) -> int:
    return int(number) % CHECK_MODULUS


def given_up(party: Sequence[int], legs: Sequence[Leg], cuts: Mapping[int, Sequence[int]], status: CouponStatus) -> tuple[Coupon, ...]:
    """Return the coupons of seats that an order gives up (`datastore.amending`).

    Args:
        party: Who has the seats of each leg, in their order.
    """
    return tuple(
        Coupon(party[position], legs[place].operator, legs[place].service_id, legs[place].seats[position], int(status))
        for place, positions in cuts.items()
        for position in positions
    )


def tickets_of(value: Mapping[str, Any], operator: str) -> list[Ticket]:
    """Return an order's tickets in the order of its record: those with seats, then infants on laps; [] of one made before there were any.

    Args:
        value: As `outcomes.order_value` gives it. operator: Whose order it is.
    """
    ticketed = value["ticketed"]
    if not ticketed:
        return []
    code, first, party, laps, gone = ticketed
    legs = conditions.legs_of_order(value, operator)
    travellers = list(value["travellers"] or range(len(legs[0].seats)))
    standing = value["state"] == OrderState.CONFIRMED
    status = CouponStatus.OPEN if standing else CouponStatus.REFUNDED if value["refund_minor"] else CouponStatus.VOID
    found: list[Ticket] = []
    seat_of = {place: position for position, place in enumerate(travellers)}
    with_seats = sum(place in seat_of for place in range(party))
    laps_before = 0
    for place in range(party + len(laps)):
        holder = place if place < party else laps[place - party]
        coupons = [Coupon(place, one[1], one[2], one[3], one[4]) for one in gone if one[0] == holder]
        position = seat_of.get(holder)
        if position is not None:
            coupons += [Coupon(place, leg.operator, leg.service_id, leg.seats[position], int(status)) for leg in legs]
        traveller = -1
        if standing and position is not None:
            traveller = position if place < party else with_seats + laps_before
            laps_before += place >= party
        found.append(Ticket(number_of(code, first + place), place >= party, traveller, coupons))
    return found
