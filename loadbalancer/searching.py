"""The handlers of searches: trips, calendars, places, the network and its paths; all from the views."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from datetime import date, timedelta

from datastore import messages
from datastore.errors import InvalidRequest, UnknownOperator, nearest, shown
from datastore.model import Money, is_date
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.clocks import iso, ordinal_of
from loadbalancer.exploring import Route, paths, routes
from loadbalancer.nearby import hint
from loadbalancer.search import Found, Query
from loadbalancer.trips import SORTS, trips_of
from loadbalancer.waiting import now_ms

DAYS_PER_TURN = 4  # Of a calendar: others get their turn between.
PLACES_MAX = 1_000
CODES_SHOWN = 24


class Searching:
    """The handlers of questions about the network of all operators."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._finder = balancer.finder

    def search(self, request: messages.SearchTrips) -> messages.TripsAnswer:
        """Find trips, there and back."""
        deadline_ms, wall = now_ms() + request.deadline_ms, wall_ms()
        if request.sort not in SORTS:
            raise InvalidRequest(f"{shown(request.sort)} is none of {', '.join(SORTS)}", field="sort", nearest=nearest(request.sort, SORTS))
        self._check_party(request.passengers)
        out = self._query(request, request.date, "date", deadline_ms)
        queries = [out]
        if request.return_date:
            if is_date(request.return_date) and request.return_date < request.date:
                raise InvalidRequest(f"{request.return_date} is before {request.date}", field="return_date")
            back = self._query(request, request.return_date, "return_date", deadline_ms)
            queries.append(Query(out.destinations, out.origins, back.ordinal, *_rest(back)))
        pause = self._finder.pause
        ways = self._finder.search(
            queries, wall, deadline_ms, lambda scene, query, found: trips_of(scene, query, found, request.sort, pause)
        )
        codes = self._balancer.catalogue.codes()
        return messages.TripsAnswer(
            origins=self._named(out.origins, deadline_ms),
            destinations=self._named(out.destinations, deadline_ms),
            passengers=request.passengers,
            outbound=ways[0][: request.limit],
            inbound=ways[1][: request.limit] if len(ways) > 1 else [],
            more=sum(max(0, len(way) - request.limit) for way in ways),
            as_of_ms=self._balancer.as_of_ms(codes),
            partial=self._balancer.staleness(codes),
        )

    def calendar(self, request: messages.Calendar) -> messages.CalendarAnswer:
        """Find the lowest price of each day of a month."""
        deadline_ms, wall = now_ms() + request.deadline_ms, wall_ms()
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", request.month, re.ASCII) or request.month < "0001":
            raise InvalidRequest(f"{shown(request.month)} is not a month: expected e.g. 2026-12", field="month")
        self._check_party(request.passengers)
        first = date.fromisoformat(f"{request.month}-01")
        days = [first + timedelta(ahead) for ahead in range(calendar.monthrange(first.year, first.month)[1])]
        begin = self._query(request, days[0].isoformat(), "month", deadline_ms)
        queries = [Query(begin.origins, begin.destinations, day.toordinal(), *_rest(begin)[:4], cheapest_only=True) for day in days]
        lines: list[messages.CalendarDay] = []
        for place in range(0, len(queries), DAYS_PER_TURN):
            some = queries[place : place + DAYS_PER_TURN]
            for found in self._finder.search(some, wall, deadline_ms, lambda _, query, one: _days(query, one)):
                lines += found
        codes = self._balancer.catalogue.codes()
        return messages.CalendarAnswer(
            origins=self._named(begin.origins, deadline_ms),
            destinations=self._named(begin.destinations, deadline_ms),
            passengers=request.passengers,
            days=lines,
            as_of_ms=self._balancer.as_of_ms(codes),
            partial=self._balancer.staleness(codes),
        )

    def places(self, request: messages.Places) -> messages.PlacesAnswer:
        """List places like a word, the most likely first; all by code for an empty one."""
        deadline_ms = now_ms() + request.deadline_ms
        found = self._finder.places(deadline_ms).complete(request.like, PLACES_MAX)
        infos = [messages.PlaceInfo(place.code, place.name, place.city, place.country, place.zone) for place in found]
        return messages.PlacesAnswer(places=infos, partial=self._balancer.staleness(self._balancer.catalogue.codes()))

    def routes(self, request: messages.Routes) -> messages.RoutesAnswer:
        """Show the network of a week."""
        deadline_ms = now_ms() + request.deadline_ms
        network = self._finder.network(deadline_ms)
        found = self._routes(request.date, request.airlines, deadline_ms)
        served = sorted({place for route in found for place in (route.origin, route.destination)})
        places = [network.places[code] for code in served if code in network.places]
        return messages.RoutesAnswer(
            places=[messages.RoutePlace(one.code, one.name, one.city, one.country, one.latitude, one.longitude) for one in places],
            routes=[messages.RouteInfo(one.origin, one.destination, list(one.operators), one.weekly, one.miles) for one in found],
            partial=self._balancer.staleness(self._balancer.catalogue.codes()),
        )

    def paths(self, request: messages.Paths) -> messages.PathsAnswer:
        """Count and list the paths between two places, whatever the times."""
        deadline_ms = now_ms() + request.deadline_ms
        book = self._finder.places(deadline_ms)
        origins, destinations = book.resolve(request.origin, "origin"), book.resolve(request.destination, "destination")
        _check_apart(origins, destinations)
        found = self._routes(request.date, request.airlines, deadline_ms)
        walked = paths(found, origins, destinations, request.legs, request.limit, self._finder.pause)
        return messages.PathsAnswer(
            count=walked.total,
            combinations=walked.combinations,
            by_legs=walked.by_legs,
            complete=walked.complete,
            paths=[
                messages.PathInfo(
                    list(path.places), [list(one.operators) for one in path.routes], [one.weekly for one in path.routes],
                    path.combinations, path.miles,
                )
                for path in walked.best
            ],
            partial=self._balancer.staleness(self._balancer.catalogue.codes()),
        )  # fmt: skip

    # --- what the questions share ---------------------------------------------------------------------------------

    def _routes(self, day: str, airlines: Sequence[str], deadline_ms: int) -> list[Route]:
        if not is_date(day):
            raise InvalidRequest(f"{shown(day)} is not a date: expected e.g. 2026-12-01", field="date")
        return routes(self._finder.network(deadline_ms), ordinal_of(day), self._airlines(airlines), self._finder.pause)

    def _query(self, request: messages.SearchTrips | messages.Calendar, day: str, field: str, deadline_ms: int) -> Query:
        """Return the query of a day, its words made sure of.

        Raises:
            InvalidRequest, UnknownOperator: A word means nothing; the nearest are in the message.
        """
        if not is_date(day):
            raise InvalidRequest(f"{shown(day)} is not a date: expected e.g. 2026-12-01", field=field)
        book = self._finder.places(deadline_ms)
        origins, destinations = book.resolve(request.origin, "origin"), book.resolve(request.destination, "destination")
        _check_apart(origins, destinations)
        cabin = request.cabin.upper()
        if cabin:
            self._check_cabin(cabin)
        return Query(origins, destinations, ordinal_of(day), request.passengers, cabin, self._airlines(request.airlines), request.stops_max)

    def _airlines(self, words: Sequence[str]) -> frozenset[str]:
        known = set(self._balancer.catalogue.codes())
        for word in words:
            if word.upper() not in known:
                near = nearest(word, known)
                # Codes of two letters are rarely like another: then those that there are help more than none.
                words_for = hint(near) or f"; there are {', '.join(sorted(known)[:CODES_SHOWN])}{', …' if len(known) > CODES_SHOWN else ''}"
                raise UnknownOperator(f"no operator {shown(word)}{words_for}", operator=shown(word), nearest=near)
        return frozenset(word.upper() for word in words)

    def _check_cabin(self, cabin: str) -> None:
        known: set[str] = set()
        for view in list(self._balancer.catalogue.operators.values()):
            with view.guard:
                known.update(word for layout in view.timetable.layouts.values() for word in layout.cabins)
        if known and cabin not in known:
            near = nearest(cabin, known)
            raise InvalidRequest(f"nobody has a cabin {shown(cabin)}; there are {', '.join(sorted(known))}", field="cabin", nearest=near)

    def _check_party(self, passengers: int) -> None:
        most = self._balancer.config.seats_per_hold_max
        if passengers > most:
            raise InvalidRequest(f"{passengers} passengers are too many for one hold; {most} are allowed", field="passengers", most=most)

    def _named(self, codes: Sequence[str], deadline_ms: int) -> list[messages.PlaceInfo]:
        places = self._finder.places(deadline_ms).places
        found = [places[code] for code in codes if code in places]
        return [messages.PlaceInfo(one.code, one.name, one.city, one.country, one.zone) for one in found]


def _rest(query: Query) -> tuple[int, str, frozenset[str], int]:
    return query.passengers, query.cabin, query.airlines, query.stops_max


def _check_apart(origins: Sequence[str], destinations: Sequence[str]) -> None:
    if set(origins) & set(destinations):
        raise InvalidRequest(f"{', '.join(origins)} is where the trip begins and ends", field="destination")


def _days(query: Query, found: Sequence[Found]) -> list[messages.CalendarDay]:
    """Return the lines of a day: one a currency, and one without a price where nothing is on sale."""
    day = iso(query.ordinal)
    if not found:
        return [messages.CalendarDay(day, None)]
    return [
        messages.CalendarDay(
            day,
            Money(one.merit.price, one.currency),
            one.merit.stops,
            one.merit.duration,
            [flight[3].prefix + iso(query.ordinal + flight[4]) for flight in one.flights],
        )
        for one in found
    ]
