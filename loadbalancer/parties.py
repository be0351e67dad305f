"""A party for a hold: who sits where, what it costs, and who may not sit there. Pure.

Everything is judged before anything is sent: a refusal changes nothing, and names who, what and where the fitting seat is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from datastore.errors import InvalidRequest, shown
from datastore.model import Layout, OperatorKind, Passenger, Seat
from datastore.passengers import ADULT, check_ages, check_party, check_passenger, copy_passenger, on_laps, seated
from datastore.special_requests import SEATED_AWAY_FROM_EXITS
from datastore.wording import counted
from loadbalancer.fares import lap_fares, typed_fares
from loadbalancer.view import Sale

TRAVELLING = (OperatorKind.AIRLINE, OperatorKind.RAIL)


class LegSeats(NamedTuple):
    """One leg of a hold: where it is, and its seats with the adults' prices. `taken`: seats that somebody has."""

    sale: Sale | None
    kind: str
    service_id: str
    seats: Sequence[str]
    prices: Sequence[int]
    taken: Collection[str]


class Arranged(NamedTuple):
    """A party that may sit as it does.

    Attributes:
        passengers: With seats first, in the order of the seats of the first leg, then infants on laps.
        fares: For each leg beside its seats; () where they are the hold's prices.
        laps: Of each infant on a lap: which seat's passenger (from 0) has it.
        lap_fares: For each leg beside its seats, what of the fares they pay; () where there are none.
    """

    passengers: list[Passenger]
    fares: tuple[tuple[int, ...], ...]
    laps: tuple[int, ...] = ()
    lap_fares: tuple[tuple[int, ...], ...] = ()


def check_people(passengers: Sequence[Passenger]) -> None:
    """Check each passenger alone, before the hold is looked at.

    Raises:
        InvalidRequest: What is wrong with whom.
    """
    for number, passenger in enumerate(passengers, 1):
        check_passenger(passenger, number)


def arrange(passengers: Sequence[Passenger], legs: Sequence[LegSeats]) -> Arranged:
    """Return the party in its seats.

    Raises:
        InvalidRequest: There is not one passenger for each seat; an infant has no adult; somebody is of another age; somebody may
            not sit at an exit, and where the nearest fitting seat is.
    """
    check_seats(passengers, legs[0].seats)
    in_the_air = any(leg.kind == OperatorKind.AIRLINE for leg in legs)
    party = check_party(passengers, minors_alone=not in_the_air)
    if any(leg.kind in TRAVELLING for leg in legs):
        check_ages(party, [leg.sale.service.date for leg in legs if leg.sale is not None])
    for leg in legs:
        if leg.kind == OperatorKind.AIRLINE and leg.sale is not None:
            _check_exits(party, leg, leg.sale.layout)
    people = [copy_passenger(one, seat_id=seat) for one, seat in zip(seated(party), legs[0].seats, strict=True)]
    party = [*people, *on_laps(party)]
    fares = tuple(_fares(leg, party) for leg in legs)
    same = all(list(made) == list(leg.prices) for made, leg in zip(fares, legs, strict=True))
    laps = tuple(one.with_adult - 1 for one in on_laps(party))
    return Arranged(party, () if same else fares, laps, tuple(_lap_fares(leg, party) for leg in legs) if laps else ())


def _lap_fares(leg: LegSeats, party: Sequence[Passenger]) -> tuple[int, ...]:
    assert leg.sale is not None  # `_fares` has refused where nobody knows.
    return lap_fares(leg.sale.service.schedule, leg.prices, party)


def _fares(leg: LegSeats, party: Sequence[Passenger]) -> tuple[int, ...]:
    if all(one.type == ADULT for one in party):
        return tuple(leg.prices)
    if leg.sale is None:
        raise InvalidRequest(f"{leg.service_id} is not in the timetable any more: nobody knows what a child pays there", field="passengers")
    return typed_fares(leg.sale.service.schedule, leg.prices, party)


def check_seats(passengers: Sequence[Passenger], seats: Sequence[str]) -> None:
    """Check that there is one passenger with a seat for each seat.

    Raises:
        InvalidRequest: There is not.
    """
    people = seated(passengers)
    if len(seats) == len(people):
        return
    laps = len(passengers) - len(people)
    but = f" ({counted(laps, 'infant')} on laps need{'s' if laps == 1 else ''} none)" if laps else ""
    raise InvalidRequest(
        f"the hold has {counted(len(seats), 'seat')} and {counted(len(people), 'passenger was', 'passengers were')} named{but}:"
        " one for each seat, in order",
        field="passengers",
        seats=list(seats),
    )


def _check_exits(party: Sequence[Passenger], leg: LegSeats, layout: Layout) -> None:
    """Whoever sits at an exit must be able and willing to open it (EASA CAT.OP.MPA.165, 14 CFR 121.585)."""
    laps = {one.with_adult for one in on_laps(party)}
    for place, (one, seat_id) in enumerate(zip(seated(party), leg.seats, strict=True), 1):
        seat = layout.by_id.get(seat_id)
        if seat is None or not seat.exit:
            continue
        why = _why_not_at_exit(one, with_infant=place in laps)
        if not why:
            continue
        other = nearest_off_exit(layout, seat, {*leg.taken, *leg.seats})
        fields: dict[str, Any] = {"field": "passengers", "passenger": place, "seat": seat_id, "service_id": leg.service_id}
        hint = f"; the nearest free seat that fits is {other.designator}" if other is not None else "; no other seat is free in that cabin"
        raise InvalidRequest(
            f"passenger {place}: {shown(one.given)} {shown(one.surname)} may not sit in the exit row at {seat.designator} of"
            f" {leg.service_id}: {why}{hint}",
            nearest=[other.designator] if other is not None else [],
            **fields,
        )


def _why_not_at_exit(passenger: Passenger, *, with_infant: bool) -> str:
    if passenger.type != ADULT:
        return "no child or infant sits at an exit"
    if with_infant:
        return "nobody sits there with an infant on the lap"
    words = [word.partition("/")[0] for word in passenger.requests]
    return next((f"not with the request {word}" for word in words if word in SEATED_AWAY_FROM_EXITS), "")


def nearest_off_exit(layout: Layout, seat: Seat, taken: Collection[str]) -> Seat | None:
    """Return the nearest free seat of the same cabin that is in no exit row: by rows, then along the row, or None."""
    free = [one for one in layout.seats if one.cabin == seat.cabin and not one.exit and one.seat_id not in taken]
    return min(free, key=lambda one: (abs(one.y - seat.y), abs(one.x - seat.x), one.position), default=None)
