"""Other ways for a traveller whose service was taken away: searched for, held at no charge, taken as any change is. The handlers.

An alternative is a change basket (B11): the new seats are held at the order's anchor, priced so that they cost together just what the
lost leg cost. What the operators of the new legs get is a share of that; the traveller pays nothing and gets nothing back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from datastore import commands, conditions, messages
from datastore.errors import HoldfastError, InvalidRequest, ServiceClosed
from datastore.model import Leg, Service
from loadbalancer import quotes
from loadbalancer.answers import leg_info, local_time
from loadbalancer.balancer import Balancer
from loadbalancer.changing import Changing
from loadbalancer.charging import again_request_id
from loadbalancer.identity import ask_digest, token_digest
from loadbalancer.itineraries import Itineraries
from loadbalancer.rebooking import Rebooking, leg_of, place_of
from loadbalancer.searching import Searching
from loadbalancer.seatchoice import choose
from loadbalancer.tries import earlier_change
from loadbalancer.waiting import now_ms

DAYS_AHEAD = 3  # Of the day lost: nobody wants to travel a week later without having asked for it.
SHOWS_AHEAD = 30
TRIPS_LOOKED_AT = 12
LEAST_MS = 500


class Alternatives:
    """The handlers of orders whose travellers are asked."""

    def __init__(
        self, balancer: Balancer, changing: Changing, rebooking: Rebooking, itineraries: Itineraries, searching: Searching
    ) -> None:
        self._balancer = balancer
        self._changing = changing
        self._rebooking = rebooking
        self._itineraries = itineraries
        self._searching = searching

    def alternatives(self, request: messages.FindAlternatives) -> messages.AlternativesAnswer:
        """Search for other ways and hold the first ones that can be had.

        Raises:
            InvalidRequest: Nothing was taken away from this booking.
        """
        deadline_ms = now_ms() + request.deadline_ms
        operator, value = self._changing.standing(request.reference, request.token, deadline_ms)
        legs = conditions.legs_of_order(value, operator)
        why = dict(tuple(one) for one in value["action"])
        if not why:
            raise InvalidRequest(f"no service of booking {value['reference']} was taken away; change it instead", field="reference")
        lost = [place for place, leg in enumerate(legs) if leg.service_id in why]
        place = place_of(legs, request.leg) if request.leg else lost[0]
        if place not in lost:
            raise InvalidRequest(f"leg {place + 1} stands; those in question: {', '.join(str(one + 1) for one in lost)}", field="leg")
        found: list[messages.Alternative] = []
        for number, services in enumerate(self._ways(legs, place, deadline_ms)):
            if len(found) == request.most or now_ms() + LEAST_MS > deadline_ms:
                break
            held = self._held(operator, value, legs, place, services, request, number, deadline_ms)
            if held is not None:
                found.append(held)
        leg = legs[place]
        return messages.AlternativesAnswer(
            reference=value["reference"], leg=place + 1, lost=leg.service_id, why=why[leg.service_id], alternatives=_numbered(found)
        )

    # --- searching --------------------------------------------------------------------------------------------------

    def _ways(self, legs: Sequence[Leg], place: int, deadline_ms: int) -> Iterator[list[Service]]:
        """Yield services that go instead of a leg and fit between its neighbours, the nearest in time first."""
        _, lost, _ = self._balancer.catalogue.find(legs[place].service_id)
        others = {leg.service_id for leg in legs}
        ways = self._trips(lost, len(legs[place].seats), deadline_ms) if lost.schedule.destination else self._shows(lost)
        for services in ways:
            if others & {service.service_id for service in services}:
                continue
            with contextlib.suppress(HoldfastError):
                self._rebooking.check_order(legs, place, services, deadline_ms)
                yield services

    def _trips(self, lost: Service, party: int, deadline_ms: int) -> Iterator[list[Service]]:
        first = date.fromisoformat(lost.date)
        for ahead in range(DAYS_AHEAD):
            asked = messages.SearchTrips(
                origin=lost.schedule.origin,
                destination=lost.schedule.destination,
                date=(first + timedelta(ahead)).isoformat(),
                passengers=party,
                sort="arrival",
                limit=TRIPS_LOOKED_AT,
                deadline_ms=max(10, deadline_ms - now_ms()),
            )
            with contextlib.suppress(InvalidRequest):  # No such day any more.
                for trip in self._searching.search(asked).outbound:
                    yield [self._balancer.catalogue.find(leg.service.service_id)[1] for leg in trip.legs]

    def _shows(self, lost: Service) -> Iterator[list[Service]]:
        """Yield other showings of the same: nobody travels, so there is nothing to search for."""
        view = self._balancer.catalogue.operators[lost.operator]
        first = date.fromisoformat(lost.date)
        for ahead in range(SHOWS_AHEAD):
            services = self._balancer.catalogue.services(view, (first + timedelta(ahead)).isoformat(), lost.schedule.origin, "")
            same = [one for one in services if one.schedule.title == lost.schedule.title and one.service_id != lost.service_id]
            yield from ([one] for one in sorted(same, key=lambda one: one.departs_ms))

    # --- holding ----------------------------------------------------------------------------------------------------

    def _held(
        self,
        operator: str,
        value: dict[str, Any],
        legs: Sequence[Leg],
        place: int,
        services: Sequence[Service],
        request: messages.FindAlternatives,
        number: int,
        deadline_ms: int,
    ) -> messages.Alternative | None:
        """Hold one way; None where it cannot be had."""
        reference, party = value["reference"], len(legs[place].seats)
        named = [service.service_id for service in services]
        request_id = again_request_id(f"{request.request_id}-{number}", "hold")
        asked = ask_digest("alternative", reference, named, request.request_id)
        everybody = tuple(range(party))
        try:
            new = at_no_charge(legs[place], [self._best(service_id, party, deadline_ms) for service_id in named])
            earlier = earlier_change(self._balancer, operator, value["owner"], request_id, deadline_ms)
            credit_minor = conditions.cut_price_minor(legs[place], everybody)
            basket_id = earlier or self._rebooking.hold(operator, value, new, credit_minor, request_id, asked, deadline_ms)
            basket = self._itineraries.basket(basket_id, value["owner"], deadline_ms)
        except HoldfastError as error:
            if error.maybe_committed:
                raise
            return None
        new = [conditions.leg_from(leg) for leg in basket["legs"]]
        quote = quotes.changing(value, operator, place, everybody, new, basket_id)
        infos = [leg_info([leg.operator, leg.service_id, leg.seats, leg.prices, leg.refundable_percent], value["currency"]) for leg in new]
        return messages.Alternative(
            number=0,
            quote=quotes.quote_text(quote),
            hold_id=basket_id,
            legs=infos,
            departs=self._clock(services[0], is_end=False),
            arrives=self._clock(services[-1], is_end=True),
            expires_ms=basket["expires_ms"],
        )

    def _best(self, service_id: str, party: int, deadline_ms: int) -> Leg:
        sale = self._balancer.sale(service_id, deadline_ms)
        row = self._balancer.catalogue.operators[sale.operator].services.get(service_id)
        if row is not None and row.state:
            raise ServiceClosed(f"{service_id} is not for sale", service_id=service_id)
        taken = set(self._balancer.catalogue.operators[sale.operator].taken.get(service_id) or ())
        seats = choose(sale.layout, taken, party, cabin="", together=False).seats
        if not seats:
            raise ServiceClosed(f"{service_id} has no {party} seats left", service_id=service_id)
        return leg_of(sale, seats)

    def _clock(self, service: Service, *, is_end: bool) -> str:
        places = self._balancer.catalogue.operators[service.operator].timetable.places
        code = service.schedule.destination if is_end and service.schedule.destination else service.schedule.origin
        place = places.get(code)
        return local_time(service.arrives_ms if is_end else service.departs_ms, place.zone if place is not None else "UTC")

    # --- keeping ----------------------------------------------------------------------------------------------------

    def keep(self, request: messages.KeepOrder) -> messages.OrderAnswer:
        """Keep a booking as it is, though a service of it was moved."""
        deadline_ms = now_ms() + request.deadline_ms
        operator, value = self._changing.own(request.reference, request.token, deadline_ms)
        digest = token_digest(request.token)
        asked = ask_digest("keep", value["reference"], digest)
        command = commands.Amend(request.request_id, asked, value["reference"], digest, value["version"], (), 0, False, "kept as it is")
        return self._changing.followed(operator, value, self._balancer.decide(operator, command, deadline_ms))


def _numbered(found: Sequence[messages.Alternative]) -> list[messages.Alternative]:
    for number, one in enumerate(found, 1):
        one.number = number
    return list(found)


def at_no_charge(lost: Leg, new: Sequence[Leg]) -> list[Leg]:
    """Return the new legs at prices that come to what the lost one cost each passenger, and its conditions."""
    prices: list[list[int]] = []  # of each passenger, the shares of the new legs
    laps: list[list[int]] = []
    for position, (price, lap) in enumerate(zip(lost.prices, conditions.laps_of(lost), strict=True)):
        prices.append(conditions.split_minor(price, [leg.prices[position] for leg in new]))
        laps.append(conditions.split_minor(lap, prices[-1]))
    found = []
    for number, leg in enumerate(new):
        own = tuple(shares[number] for shares in laps)
        fares = tuple(shares[number] for shares in prices)
        found.append(Leg(leg.operator, leg.service_id, leg.seats, fares, lost.refundable_percent, own if any(own) else ()))
    return found
