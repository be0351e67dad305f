"""The slow, plain twin of the search: every chain of services, checked by the rules one after the other, then all against all.

It shares nothing with the search but the vocabulary, the fare table and the table of connecting times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from datastore.model import MINUTE_MS, Place, Service, ServiceState
from datastore.timetable import miles_between
from loadbalancer.connecting import ConnectingTimes
from loadbalancer.fares import days_ahead, price_table
from loadbalancer.search import Query
from loadbalancer.view import OperatorView


class Leg(NamedTuple):
    """A service that the party can buy; times are UTC milliseconds."""

    service: Service
    currency: str
    price: int


Vector = tuple[int, int, int, int, str]  # arrival ms, duration ms, stops, price, currency


def trips(views: Mapping[str, OperatorView], query: Query, now_ms: int) -> Iterator[tuple[Leg, ...]]:
    """Yield every trip that the rules allow."""
    places: dict[str, Place] = {}
    for code in sorted(views):
        for name, place in views[code].timetable.places.items():
            places.setdefault(name, place)
    lines = [line for view in views.values() for row in view.datasets.values() for line in row.connecting]
    connecting = ConnectingTimes(lines)
    first = date.fromordinal(query.ordinal)
    legs = [
        leg
        for view in views.values()
        for days in range(-2, 8)
        for service in view.timetable.services((first + timedelta(days)).isoformat())
        if (leg := bought(view, service, query, now_ms)) is not None
    ]
    for origin in query.origins:
        for destination in query.destinations:
            if origin in places and destination in places:
                for leg in legs:
                    if leg.service.schedule.origin == origin and leg.service.date == first.isoformat():
                        yield from _continued((leg,), destination, legs, places, connecting, query)


def bought(view: OperatorView, service: Service, query: Query, now_ms: int) -> Leg | None:
    """Return the service with its price for the party, or None where it is not to be had."""
    layout = view.timetable.layouts[service.schedule.layout_id]
    row = view.services.get(service.service_id)
    closed = row is not None and row.state != ServiceState.OPEN
    if closed or service.departs_ms <= now_ms or not service.schedule.destination:
        return None
    if query.airlines and service.operator not in query.airlines:
        return None
    table = price_table(service.schedule, layout, days_ahead(service.departs_ms, now_ms))
    taken = view.taken.get(service.service_id, {})
    prices = []
    for cabin in layout.cabins:
        free = sorted(table.minor[seat.cabin, seat.zone] for seat in layout.seats if seat.cabin == cabin and seat.seat_id not in taken)
        if len(free) >= query.passengers and query.cabin in ("", cabin):
            prices.append(sum(free[: query.passengers]))
    return Leg(service, table.currency, min(prices)) if prices else None


def _continued(
    chain: tuple[Leg, ...],
    destination: str,
    legs: list[Leg],
    places: Mapping[str, Place],
    connecting: ConnectingTimes,
    query: Query,
) -> Iterator[tuple[Leg, ...]]:
    here = chain[-1].service.schedule.destination
    if here == destination:
        if _is_no_detour(chain, places, query):
            yield chain
        return
    visited = {leg.service.schedule.origin for leg in chain}
    if len(chain) > query.stops_max or here in visited:
        return
    for leg in legs:
        onward = leg.service.schedule
        if onward.origin != here or onward.destination in visited or leg.currency != chain[0].currency:
            continue
        if _connects(chain[-1], leg, places, connecting, query):
            yield from _continued((*chain, leg), destination, legs, places, connecting, query)


def _connects(before: Leg, after: Leg, places: Mapping[str, Place], connecting: ConnectingTimes, query: Query) -> bool:
    schedule, onward = before.service.schedule, after.service.schedule
    countries = {places[code].country for code in (schedule.origin, onward.origin, onward.destination)}
    abroad = len(countries) > 1
    minutes = (after.service.departs_ms - before.service.arrives_ms) / MINUTE_MS
    least = connecting.minutes(onward.origin, before.service.operator, after.service.operator, international=abroad)
    longest = query.rules.layover_international_max if abroad else query.rules.layover_domestic_max
    return least <= minutes <= longest


def _is_no_detour(chain: tuple[Leg, ...], places: Mapping[str, Place], query: Query) -> bool:
    first, last = chain[0].service.schedule.origin, chain[-1].service.schedule.destination
    flown = sum(miles_between(places[leg.service.schedule.origin], places[leg.service.schedule.destination]) for leg in chain)
    return flown <= query.rules.miles_max(miles_between(places[first], places[last]))


def vector(chain: tuple[Leg, ...]) -> Vector:
    """Return what a trip is compared by."""
    departs, arrives = chain[0].service.departs_ms, chain[-1].service.arrives_ms
    return arrives, arrives - departs, len(chain) - 1, sum(leg.price for leg in chain), chain[0].currency


def best(views: Mapping[str, OperatorView], query: Query, now_ms: int) -> set[Vector]:
    """Return the vectors that no other trip of the same currency beats."""
    found = {vector(chain) for chain in trips(views, query, now_ms)}
    return {one for one in found if not any(_beats(other, one) for other in found)}


def _beats(one: Vector, other: Vector) -> bool:
    return one != other and one[4] == other[4] and all(a <= b for a, b in zip(one[:4], other[:4], strict=True))


