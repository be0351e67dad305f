"""Trips between two places: all that no other beats in arrival, duration, stops and price at once. Pure.

The algorithm is RAPTOR in its multi-criteria range form (D. Delling, T. Pajor, R. Werneck, "Round-Based Public Transit Routing",
ALENEX 2012; Transportation Science 49(3), 2015: McRAPTOR, rRAPTOR, target pruning), for journeys of few legs over lines of one hop:

- round by round of legs: direct, one stop, two stops; each round looks at each line that can matter once;
- range: a first leg may depart at any time of the day asked for, so labels keep their departure, and a later one is better;
- target pruning: a line is passed over when the trips already found cover the best that it could give: the earliest arrival, the
  least minutes and the lowest price on the legs before, on it and after it;
- the last two rounds meet in the middle. Given the middle leg, what may come before it and after it are independent of each other,
  so each of its departures takes the best of both sides: latest departure against price before, earliest arrival against price
  after. This, and not a label at the stop, is exact here: connections have a longest time as well as a shortest, so that to be at a
  stop earlier is not always better, and minimum connecting times may differ by pairs of operators.

What counts as a trip (`Rules`): each connection takes at least its minimum connecting time and at most the longest that travellers
would call one; no place is visited twice; and no absurd detours: all legs together fly at most 1.6 times the great circle between
the ends and 400 miles more. Fares in different currencies are never added up, so each currency has trips of its own.

tests/unit/loadbalancer/test_search.py compares it with a plain search of everything.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from datastore.model import DAY_MS
from datastore.timetable import miles_between
from loadbalancer.availability import Availability
from loadbalancer.clocks import DAY_MIN, to_ms
from loadbalancer.connecting import is_international
from loadbalancer.fares import fare_step
from loadbalancer.pareto import Frontier, Merit
from loadbalancer.search_index import Flight, Line

# Local dates at which a later leg may depart, counted from the first: west over the date line it is the day before.
DAYS_LOOKED_AT = range(-1, 5)
SLICE_WORK = 25  # Lines and pairs of lines between two pauses: about a millisecond.
ROUNDING_MILES = 3  # Distances are whole miles: three legs may be so much shorter than their sum says.


@dataclass(frozen=True)
class Rules:
    """What may be called a trip. Minutes, miles, percent."""

    layover_domestic_max: int = 12 * 60
    layover_international_max: int = 24 * 60
    detour_percent: int = 160
    detour_extra_miles: int = 400

    def miles_max(self, direct: int) -> int:
        """Return how far the legs may go together; `direct` 0 is unknown, and then anything goes."""
        return direct * self.detour_percent // 100 + self.detour_extra_miles if direct else 1 << 40


@dataclass(frozen=True)
class Query:
    """What is looked for. `ordinal`: the local date of departure; `airlines`: only these, empty means all."""

    origins: tuple[str, ...]
    destinations: tuple[str, ...]
    ordinal: int
    passengers: int = 1
    cabin: str = ""
    airlines: frozenset[str] = frozenset()
    stops_max: int = 2
    cheapest_only: bool = False
    rules: Rules = field(default_factory=Rules)


class Found(NamedTuple):
    """A trip of the answer: its merit in minutes from the query's midnight (UTC), its flights in order, and their currency."""

    merit: Merit
    flights: tuple[Flight, ...]
    currency: str


class _Change(NamedTuple):
    """What holds for changing at one place between two lines."""

    least: int  # minimum connecting time, a lower bound where `plain` is false
    longest: int
    plain: bool
    international: bool


class _Side(NamedTuple):
    """The flights of one line at the end of a trip: before the middle sorted by arrival, after it by departure."""

    line: Line
    flights: list[Flight]
    times: list[int]  # arrivals, or departures: what the change at the middle is timed by
    low: int  # the least price of them
    edge: int  # the first arrival, or the last departure


class Search:
    """One search over the index as it is now. One thread drives it; `pause` is called between slices of its work."""

    def __init__(self, availability: Availability, query: Query, now_ms: int, pause: Callable[[], None] = lambda: None) -> None:
        self._availability = availability
        self._network = availability.index.network
        self._query = query
        self._now_ms = now_ms
        self._pause = pause
        self._work = 0
        self._flights: dict[tuple[Line, int], list[Flight]] = {}
        self._changes: dict[tuple[str, bool], _Change] = {}
        self.looked_at = 0  # lines and pairs of lines

    def run(self) -> list[Found]:
        """Return the trips, unordered."""
        query, lines = self._query, self._network.lines
        found: list[Found] = []
        onward = [line for origin in query.origins for lines_to in lines.get(origin, {}).values() for line in lines_to.values()]
        for currency in sorted({line.currency for line in onward}):
            frontier: Frontier[tuple[Flight, ...]] = Frontier(cheapest_only=query.cheapest_only, nicer=_changes_less)
            for origin in query.origins:
                for destination in query.destinations:
                    if origin != destination and origin in lines and destination in self._network.into:
                        _Pair(self, frontier, origin, destination, currency).search()
            found += [Found(merit, flights, currency) for merit, flights in frontier.members]
        return found

    # --- what the pairs of ends share ------------------------------------------------------------------------------

    def line(self, origin: str, destination: str, currency: str) -> Line | None:
        """Return the line between two places."""
        return self._network.lines.get(origin, {}).get(destination, {}).get(currency)

    def lines_from(self, origin: str, currency: str) -> Iterator[Line]:
        """Yield the lines that begin at a place."""
        for lines in self._network.lines.get(origin, {}).values():
            if currency in lines:
                yield lines[currency]

    def lines_into(self, destination: str, currency: str) -> Iterator[Line]:
        """Yield the lines that end at a place."""
        for origin in self._network.into.get(destination, ()):
            line = self.line(origin, destination, currency)
            if line is not None:
                yield line

    def miles(self, one: str, two: str) -> int:
        """Return the great circle between two places, 0 where unknown."""
        places = self._network.places
        return miles_between(places[one], places[two])

    def low(self, line: Line) -> int:
        """Return a lower bound of what the party pays on the line on any day looked at."""
        query = self._query
        # The last day looked at is the farthest from now, so its step is the cheapest.
        ahead_ms = to_ms((query.ordinal + DAYS_LOOKED_AT[-1] + 1) * DAY_MIN) - self._now_ms
        return line.low(query.passengers, query.cabin, fare_step(ahead_ms // DAY_MS))

    def change(self, before: str, here: str, after: str) -> _Change:
        """Return what holds for changing at `here` on the way from `before` to `after`."""
        places = self._network.places
        abroad = is_international(places[before].country, places[here].country, places[after].country)
        known = self._changes.get((here, abroad))
        if known is None:
            connecting, rules = self._network.connecting, self._query.rules
            longest = rules.layover_international_max if abroad else rules.layover_domestic_max
            least = connecting.least(here, international=abroad)
            known = self._changes[here, abroad] = _Change(least, longest, connecting.is_plain(here), abroad)
        return known

    def fits(self, change: _Change, here: str, before: Flight, after: Flight) -> bool:
        """Return whether the pair of operators can be connected in the time between."""
        needed = self._network.connecting.minutes(here, before[3].operator, after[3].operator, international=change.international)
        return needed <= after[0] - before[1]

    def of_day(self, line: Line, day: int) -> list[Flight]:
        """Return the line's flights of a day that the party can buy, sorted by departure."""
        found = self._flights.get((line, day))
        if found is None:
            query = self._query
            found = self._availability.flights(line, query.ordinal + day, day, query.passengers, query.cabin, self._now_ms)
            if query.airlines:
                found = [flight for flight in found if flight[3].operator in query.airlines]
            self._flights[line, day] = found
        return found

    def between(self, line: Line, earliest: int, latest: int) -> list[Flight]:
        """Return the line's flights that depart from `earliest` to `latest`, sorted by departure."""
        found: list[Flight] = []
        # A local date begins at most 14 hours before and 12 hours after the same date in UTC.
        for day in range(max(DAYS_LOOKED_AT[0], (earliest - 720) // DAY_MIN - 1), min(DAYS_LOOKED_AT[-1], (latest + 840) // DAY_MIN) + 1):
            flights = self.of_day(line, day)
            if flights and flights[-1][0] >= earliest and flights[0][0] <= latest:
                found += [flight for flight in flights if earliest <= flight[0] <= latest]
        return found

    def count_work(self) -> None:
        """Count one line or pair of lines, and let others run when a slice is done."""
        self.looked_at += 1
        self._work += 1
        if self._work >= SLICE_WORK:
            self._work = 0
            self._pause()


class _Pair:
    """The rounds from one place to another in one currency."""

    def __init__(self, search: Search, frontier: Frontier[tuple[Flight, ...]], origin: str, destination: str, currency: str) -> None:
        self._search = search
        self._frontier = frontier
        self._origin, self._destination, self._currency = origin, destination, currency
        self._stops_max = search._query.stops_max
        self._miles_max = search._query.rules.miles_max(search.miles(origin, destination))

    def search(self) -> None:
        """Offer the frontier every trip worth keeping."""
        direct = self._search.line(self._origin, self._destination, self._currency)
        if direct is not None:
            for flight in self._search.of_day(direct, 0):
                self._frontier.offer(flight[1], flight[1] - flight[0], 0, flight[2], (flight,))
        if self._stops_max < 1:
            return
        before = self._before()
        if not before:
            return
        after = self._after(before)
        for place in before.keys() & after.keys():
            self._one_stop(place, before[place], after[place])
        if self._stops_max >= 2:
            self._two_stops(before, after)

    def _before(self) -> dict[str, _Side]:
        """Return the first legs by the place where they end."""
        found: dict[str, _Side] = {}
        for line in self._search.lines_from(self._origin, self._currency):
            here = line.destination
            if here == self._destination or line.miles + self._search.miles(here, self._destination) > self._miles_max + ROUNDING_MILES:
                continue
            self._search.count_work()
            flights = sorted(self._search.of_day(line, 0), key=_arrival)
            if flights:
                times = [flight[1] for flight in flights]
                found[here] = _Side(line, flights, times, min(flight[2] for flight in flights), times[0])
        return found

    def _after(self, before: dict[str, _Side]) -> dict[str, _Side]:
        """Return the last legs by the place where they begin."""
        earliest = min(side.edge for side in before.values())
        rules, places = self._search._query.rules, self._search._network.places
        last_arrival = max(side.times[-1] for side in before.values())
        countries = {places[place].country for place in (self._origin, self._destination, *before)}
        found: dict[str, _Side] = {}
        for line in self._search.lines_into(self._destination, self._currency):
            here = line.origin
            if here == self._origin or line.miles + self._search.miles(self._origin, here) > self._miles_max + ROUNDING_MILES:
                continue
            self._search.count_work()
            at_home = {*countries, places[here].country} == countries and len(countries) == 1
            longest = rules.layover_domestic_max if at_home else max(rules.layover_domestic_max, rules.layover_international_max)
            latest = last_arrival + longest + (longest + DAY_MIN if self._stops_max >= 2 else 0)
            flights = self._search.between(line, earliest, latest)
            if flights:
                times = [flight[0] for flight in flights]
                found[here] = _Side(line, flights, times, min(flight[2] for flight in flights), times[-1])
        return found

    def _one_stop(self, here: str, before: _Side, after: _Side) -> None:
        if before.line.miles + after.line.miles > self._miles_max:
            return
        self._search.count_work()
        change = self._search.change(self._origin, here, self._destination)
        offer = self._frontier.offer
        for first in before.flights:
            for last in self._onward(after, change, here, first):
                offer(last[1], last[1] - first[0], 1, first[2] + last[2], (first, last))

    def _two_stops(self, before: dict[str, _Side], after: dict[str, _Side]) -> None:
        search, currency, covers = self._search, self._currency, self._frontier.covers
        lows: dict[Line, int] = {}
        pairs: list[tuple[int, str, str, Line]] = []
        for here, side in before.items():
            miles_left = self._miles_max - side.line.miles
            onward = search._network.lines.get(here, {})
            for there in onward.keys() & after.keys() if len(after) < len(onward) else [place for place in onward if place in after]:
                line = onward[there].get(currency)
                last = after[there]
                if line is None or line.miles + last.line.miles > miles_left:
                    continue
                first_change = search.change(self._origin, here, there)
                next_change = search.change(here, there, self._destination)
                changes = first_change.least + next_change.least
                minutes = line.fastest_min + last.line.fastest_min + changes
                low = lows.get(line)
                if low is None:
                    low = lows[line] = search.low(line)
                price = side.low + low + last.low
                if not covers(side.edge + minutes, side.line.fastest_min + minutes, 2, price):
                    pairs.append((price, here, there, line))
            search.count_work()
        # The cheapest first: what they give lets others be passed over.
        pairs.sort(key=_price_and_names)
        for _, here, there, line in pairs:
            self._middle(before[here], line, after[there], lows[line])

    def _middle(self, before: _Side, line: Line, after: _Side, low: int) -> None:
        """Join every departure of the middle line with the best before and after it."""
        search, frontier = self._search, self._frontier
        here, there = line.origin, line.destination
        change, onward = search.change(self._origin, here, there), search.change(here, there, self._destination)
        to_end = onward.least + after.line.fastest_min
        minutes = change.least + line.fastest_min + to_end
        if frontier.covers(before.edge + minutes, before.line.fastest_min + minutes, 2, before.low + low + after.low):
            return
        search.count_work()
        latest = min(before.times[-1] + change.longest, after.edge - onward.least - line.fastest_min)
        for middle in search.between(line, before.edge + change.least, latest):
            price = middle[2] + after.low
            arrives = middle[1] + to_end
            for first in self._boarding(before, change, here, middle):
                if frontier.covers(arrives, arrives - first[0], 2, first[2] + price):
                    continue
                for last in self._onward(after, onward, there, middle):
                    frontier.offer(last[1], last[1] - first[0], 2, first[2] + middle[2] + last[2], (first, middle, last))

    def _boarding(self, before: _Side, change: _Change, here: str, flight: Flight) -> list[Flight]:
        """Return the flights from which `flight` is caught: those that no other beats in departing later and being cheaper."""
        earliest, place = flight[0] - change.longest, bisect_right(before.times, flight[0] - change.least)
        best: list[Flight] = []
        fastest, low = before.line.fastest_min, before.low
        latest_departure = cheapest_departure = -(1 << 40)
        while place:
            place -= 1
            first = before.flights[place]
            if first[1] < earliest or first[1] - fastest <= cheapest_departure:
                break  # Too long before; or the cheapest of all departs as late as any from here on could.
            if not change.plain and not self._search.fits(change, here, first, flight):
                continue
            if first[0] > latest_departure or not any(first[0] <= other[0] and first[2] >= other[2] for other in best):
                best = [other for other in best if not (first[0] >= other[0] and first[2] <= other[2])]
                best.append(first)
                latest_departure = max(latest_departure, first[0])
            if first[2] <= low:
                cheapest_departure = max(cheapest_departure, first[0])
        return best

    def _onward(self, after: _Side, change: _Change, here: str, flight: Flight) -> list[Flight]:
        """Return the flights caught from `flight`: those that no other beats in arriving earlier and being cheaper."""
        latest, place = flight[1] + change.longest, bisect_left(after.times, flight[1] + change.least)
        best: list[Flight] = []
        fastest, low, count = after.line.fastest_min, after.low, len(after.flights)
        cheapest_arrival = 1 << 40
        while place < count:
            last = after.flights[place]
            place += 1
            if last[0] > latest or last[0] + fastest >= cheapest_arrival:
                break  # Too long after; or the cheapest of all arrives as early as any from here on could.
            if not change.plain and not self._search.fits(change, here, flight, last):
                continue
            for index, other in enumerate(best):
                if last[1] >= other[1] and last[2] >= other[2]:
                    # Of two that are equal, the one that does not change the operator.
                    if last[1:3] == other[1:3] and last[3].operator == flight[3].operator != other[3].operator:
                        best[index] = last
                    break
            else:
                best = [other for other in best if not (last[1] <= other[1] and last[2] <= other[2])]
                best.append(last)
            if last[2] <= low:
                cheapest_arrival = min(cheapest_arrival, last[1])
        return best


def _changes_less(one: tuple[Flight, ...], other: tuple[Flight, ...]) -> bool:
    """Return whether the first trip changes the operator less often."""
    return _changes(one) < _changes(other)


def _changes(flights: tuple[Flight, ...]) -> int:
    return sum(before[3].operator != after[3].operator for before, after in pairwise(flights))


def _arrival(flight: Flight) -> int:
    return flight[1]


def _price_and_names(pair: tuple[int, str, str, Line]) -> tuple[int, str, str]:
    return pair[:3]
