"""From what a search found to what travellers read: legs, layovers, prices with their parts, offers, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

from datastore import messages
from datastore.errors import HoldfastError
from datastore.model import MINUTE_MS, Money, Schedule
from datastore.passengers import ADULT, TYPES
from loadbalancer.answers import local_time, service_info
from loadbalancer.clocks import DAY_MIN, iso, to_ms
from loadbalancer.connecting import is_international
from loadbalancer.fares import typed_fare
from loadbalancer.offers import FORM, OfferedLeg, Scene, TripOffer, leg_now, offer_id
from loadbalancer.pareto import reasons
from loadbalancer.search import Found, Query

SORTS: dict[str, Callable[[messages.Trip], tuple[object, ...]]] = {
    "price": lambda trip: (trip.total.currency, trip.total.minor, trip.arrives_ms, trip.duration_min),
    "duration": lambda trip: (trip.duration_min, trip.arrives_ms, trip.total.minor),
    "arrival": lambda trip: (trip.arrives_ms, trip.duration_min, trip.total.minor),
    "departure": lambda trip: (trip.departs_ms, trip.arrives_ms, trip.total.minor),
    "stops": lambda trip: (trip.stops, trip.total.currency, trip.total.minor, trip.arrives_ms),
}


class _Leg(NamedTuple):
    info: messages.ServiceInfo
    offered: OfferedLeg
    left: int
    schedule: Schedule


def trips_of(
    scene: Scene, query: Query, found: Sequence[Found], sort: str, pause: Callable[[], None] = lambda: None
) -> list[messages.Trip]:
    """Return the trips as they can be bought now, sorted; one whose timetable has changed since it was found is left out."""
    made: list[messages.Trip] = []
    for currency in sorted({one.currency for one in found}):
        group = [one for one in found if one.currency == currency]
        whys = reasons([one.merit for one in group], _wording(scene, query, currency))
        for one, why in zip(group, whys, strict=True):
            pause()
            try:
                made.append(_trip(scene, query, one, why))
            except HoldfastError:
                continue  # Sold, closed or gone within these milliseconds.
    return sorted(made, key=SORTS[sort])


def _trip(scene: Scene, query: Query, found: Found, why: str) -> messages.Trip:
    legs: list[_Leg] = []
    for flight in found.flights:
        view, service, layout = scene.catalogue.find(flight[3].prefix + iso(query.ordinal + flight[4]))
        offered, left = leg_now(scene, view, service, layout, query.passengers, query.cabin)
        legs.append(_Leg(service_info(view, service, layout, scene.now_ms), offered, left, service.schedule))
    first, last = legs[0].info, legs[-1].info
    offer = TripOffer(FORM, query.passengers, found.currency, scene.now_ms + scene.ttl_ms, tuple(leg.offered for leg in legs))
    airlines = list(dict.fromkeys(leg.info.operator for leg in legs))
    return messages.Trip(
        offer=offer_id(offer),
        expires_ms=offer.expires_ms,
        origin=first.origin,
        destination=last.destination,
        departs=first.departs,
        arrives=last.arrives,
        departs_ms=first.departs_ms,
        arrives_ms=last.arrives_ms,
        days_later=(date.fromisoformat(last.arrives[:10]) - date.fromisoformat(first.departs[:10])).days,
        duration_min=(last.arrives_ms - first.departs_ms) // MINUTE_MS,
        stops=len(legs) - 1,
        legs=[_leg(leg, found.currency) for leg in legs],
        layovers=[_layover(scene, before.info, after.info) for before, after in pairwise(legs)],
        airlines=airlines,
        changes_airline=len(airlines) > 1,
        seats_left=min(leg.left for leg in legs),
        total=Money(offer.total_minor, found.currency),
        refundable_percent=min(leg.offered.refundable_percent for leg in legs),
        why=why,
    )


def _leg(leg: _Leg, currency: str) -> messages.TripLeg:
    parts = []
    for part in leg.offered.parts:
        types = {kind: Money(typed_fare(leg.schedule, part.each_minor, kind), currency) for kind in sorted(TYPES) if kind != ADULT}
        parts.append(messages.PricePart(part.cabin, part.zone, part.seats, Money(part.each_minor, currency), types))
    return messages.TripLeg(leg.info, parts, Money(leg.offered.total_minor, currency), leg.left, leg.offered.refundable_percent)


def _layover(scene: Scene, before: messages.ServiceInfo, after: messages.ServiceInfo) -> messages.Layover:
    places, here = scene.network.places, after.origin
    countries = [places[code].country if code in places else "" for code in (before.origin, here, after.destination)]
    needed = scene.network.connecting.minutes(here, before.operator, after.operator, international=is_international(*countries))
    return messages.Layover(
        place=here,
        place_name=after.origin_name,
        minutes=(after.departs_ms - before.arrives_ms) // MINUTE_MS,
        least_min=needed,
        changes_airline=before.operator != after.operator,
        overnight=before.arrives[:10] < after.departs[:10],
    )


def _wording(scene: Scene, query: Query, currency: str) -> Callable[[int, int], str]:
    """Return how a bound of a merit is said: what "earliest arrival" and the like are meant among."""
    place = scene.network.places.get(query.destinations[0])
    zone = place.zone if place is not None else "UTC"

    def shown(which: int, value: int) -> str:
        if which == 0:
            return f"among those that arrive by {arrival_text(query.ordinal, value, zone)}"
        if which == 1:
            return f"in at most {value // 60} h {value % 60:02d} min"
        if which == 2:
            return f"with {'no stop' if not value else f'at most {value} stop' + 's' * (value > 1)}"
        return f"for {Money(value, currency)} or less"

    return shown


def arrival_text(ordinal: int, minutes: int, zone: str) -> str:
    """Return the local time of minutes counted from the midnight (UTC) of a day: "16:35", "04:50+1"."""
    text = local_time(to_ms(ordinal * DAY_MIN + minutes), zone)
    later = date.fromisoformat(text[:10]).toordinal() - ordinal
    return text[11:16] + (f"{later:+d}" if later else "")

