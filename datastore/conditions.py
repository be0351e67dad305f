"""What giving up seats of an order gives back by its fares' conditions, to the cent, and what is left of it. Pure.

A leg gives back its percentage of its price, rounded down once. Giving up some of its seats gives back what the leg was worth
on that day less what the rest is worth: so parts that are given up one after the other never come to more or less than the whole.
Amounts of single seats are shares of such a sum, split by the largest remainder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datastore.errors import InvalidRequest
from datastore.model import Leg

Cuts = Mapping[int, Sequence[int]]  # leg -> positions of the seats that are given up


def back_minor(price_minor: int, percent: int) -> int:
    """Return what a price gives back, in minor units."""
    return price_minor * percent // 100


def split_minor(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Return the total in shares beside `weights`, which add up to it: the largest remainders get what rounding leaves.

    Source: the largest remainder method (Hamilton); equal remainders go by their place.
    """
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total_minor * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -(total_minor * weights[place] % whole))
    for place in by_remainder[: total_minor - sum(shares)]:
        shares[place] += 1
    return shares


def cut_refund_minor(leg: Leg, positions: Sequence[int]) -> int:
    """Return what giving up the seats at these positions of a leg gives back, in minor units."""
    left = sum(price for place, price in enumerate(leg.prices) if place not in positions)
    return back_minor(sum(leg.prices), leg.refundable_percent) - back_minor(left, leg.refundable_percent)


def cut_price_minor(leg: Leg, positions: Sequence[int]) -> int:
    """Return what the seats at these positions of a leg cost, in minor units."""
    return sum(leg.prices[place] for place in positions)


def without(leg: Leg, positions: Sequence[int]) -> Leg:
    """Return the leg without the seats at these positions."""
    left = [place for place in range(len(leg.seats)) if place not in positions]
    seats, prices = tuple(leg.seats[place] for place in left), tuple(leg.prices[place] for place in left)
    laps = tuple(leg.laps[place] for place in left) if leg.laps else ()
    return Leg(leg.operator, leg.service_id, seats, prices, leg.refundable_percent, laps)


def exchanged(leg: Leg, positions: Sequence[int], new: Leg) -> Leg:
    """Return the leg with the seats of `new` at these positions; its conditions are the stricter of the two."""
    seats, prices, laps = list(leg.seats), list(leg.prices), list(laps_of(leg))
    for place, seat, price, lap in zip(positions, new.seats, new.prices, laps_of(new), strict=True):
        seats[place], prices[place], laps[place] = seat, price, lap
    percent = min(leg.refundable_percent, new.refundable_percent)
    return Leg(leg.operator, leg.service_id, tuple(seats), tuple(prices), percent, tuple(laps) if any(laps) else ())


def laps_of(leg: Leg) -> tuple[int, ...]:
    """Return what infants on laps pay, beside the leg's seats."""
    return leg.laps or (0,) * len(leg.seats)


def leg_from(row: Sequence[Any]) -> Leg:
    """Return a leg as `outcomes.legs_value` gives it."""
    return Leg(row[0], row[1], tuple(row[2]), tuple(row[3]), row[4], tuple(row[5]) if len(row) > 5 else ())


def legs_of_order(value: Mapping[str, Any], operator: str) -> tuple[Leg, ...]:
    """Return the legs of an order (as `outcomes.order_value` gives it), of one service or of a trip."""
    found = tuple(map(leg_from, value["legs"]))
    laps = tuple(value.get("laps", ()))
    plain = Leg(operator, value["service_id"], tuple(value["seats"]), tuple(value["prices"]), value["refundable_percent"], laps)
    return found or (plain,)


def cuts_of(legs: Sequence[Leg], places: Sequence[int], positions: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return what is given up: whole legs, or the same positions of all legs, or everything where neither is named.

    Raises:
        InvalidRequest: There is no such leg or passenger; both were named.
    """
    if places and positions:
        raise InvalidRequest("give up legs or passengers, one after the other, not both at once", field="passengers")
    party = len(legs[0].seats)
    for words, most, what in ((places, len(legs), "leg"), (positions, party, "passenger")):
        wrong = [word for word in words if not 0 <= word < most]
        if wrong:
            laps = "; an infant on a lap goes with its adult" if what == "passenger" and wrong[0] >= most else ""
            raise InvalidRequest(f"there is no {what} {wrong[0] + 1}: the booking has 1 to {most}{laps}", field=f"{what}s", most=most)
    everybody = tuple(range(party))
    if places:
        return {place: everybody for place in sorted(set(places))}
    return {place: tuple(sorted(set(positions))) or everybody for place in range(len(legs))}
