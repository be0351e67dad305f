"""The timetables of all operators as lines between places: what searches walk over. Pure.

A *line* is all schedules from one place to another in one currency (an order has one currency, so trips never mix them). Its
*trips* of a day are the flights, trains or boats that run then, sorted by departure. Cost follows the rows of the timetable, never
the services that they imply: a season's Mondays share one list of trips, worked out when a search first needs it, in minutes
counted from the day's midnight. Only days on which the clocks of an end change have lists of their own.

The index of an operator is made anew when its timetable's version has moved; what was sold is not in it but looked up in the
views at each search (`flights`), so both are as current as the feed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from datastore.model import Layout, Place, Schedule
from datastore.timetable import miles_between, weekday
from loadbalancer.clocks import DAY_MIN, instant_min, iso, offset_gain, ordinal_of, steady_offset_min
from loadbalancer.connecting import ConnectingTimes
from loadbalancer.fares import CURRENCY, days_of_step, price_table
from loadbalancer.party import PartyFare, party_fare, seats_by_zone
from loadbalancer.view import OperatorView

# Departures kept worked out, over all lines; when there are more, all are forgotten and made again as needed. One takes some
# hundred bytes with its prices.
TRIPS_MAX = 1_000_000

FareKey = tuple[int, str, int]  # passengers, cabin, step by days before departure


class Row:
    """A schedule ready to be searched. `prefix` + date is the service's id."""

    __slots__ = (
        "arrives", "arrives_day", "days", "departs", "fares", "first", "last", "layout", "operator", "prefix", "schedule", "view"
    )  # fmt: skip

    def __init__(self, view: OperatorView, schedule: Schedule, layout: Layout, fares: dict[FareKey, PartyFare | None]) -> None:
        self.view = view
        self.operator = view.code
        self.schedule = schedule
        self.layout = layout
        self.fares = fares  # shared by all rows of equal prices
        self.prefix = f"{view.code}{schedule.number}-{schedule.origin}-"
        self.departs, self.arrives, self.arrives_day = schedule.departs_min, schedule.arrives_min, schedule.arrives_day
        self.first, self.last = ordinal_of(schedule.valid_from), ordinal_of(schedule.valid_to)
        self.days = tuple(letter != "-" for letter in schedule.days)

    def fare(self, passengers: int, cabin: str, step: int) -> PartyFare | None:
        """Return what the party pays while nothing is sold, or None where it never fits."""
        key = (passengers, cabin, step)
        try:
            return self.fares[key]
        except KeyError:
            table = price_table(self.schedule, self.layout, days_of_step(step))
            made = self.fares[key] = party_fare(table.minor, seats_by_zone(self.layout), passengers, cabin)
            return made


# (departs, arrives, price in minor units, schedule, day): minutes from the midnight (UTC) of the first day looked at, and how many
# days after it the service's local date is. A plain tuple: searches make and read very many.
Flight = tuple[int, int, int, Row, int]


class Trips:
    """The departures of a line on a local date, sorted: (departs, arrives, row) in minutes from that date's midnight (UTC).

    Attributes:
        priced: (fare key, day) -> the same as flights at untouched prices; those on which the party never fits are left out.
    """

    __slots__ = ("listed", "priced")

    def __init__(self, listed: list[tuple[int, int, Row]]) -> None:
        self.listed = listed
        self.priced: dict[tuple[FareKey, int], list[Flight]] = {}

    def flights(self, key: FareKey, day: int) -> list[Flight]:
        """Return the flights at untouched prices. Not to be changed by the caller."""
        found = self.priced.get((key, day))
        if found is None:
            shift = day * DAY_MIN
            found = self.priced[key, day] = [
                (departs + shift, arrives + shift, fare.total_minor, row, day)
                for departs, arrives, row in self.listed
                if (fare := row.fare(*key)) is not None
            ]
        return found


NO_TRIPS = Trips([])


class Line:
    """The schedules from one place to another in one currency.

    Attributes:
        miles: Great circle between the places, 0 where unknown.
        fastest_min: The least minutes that any of them takes.
    """

    __slots__ = (
        "_breaks", "_latest_day", "_trips", "_zones", "currency", "destination", "fastest_min", "lows", "miles", "origin", "rows", "views"
    )  # fmt: skip

    def __init__(self, origin: Place, destination: Place, currency: str, rows: list[Row]) -> None:
        self.origin = origin.code
        self.destination = destination.code
        self.currency = currency
        self.rows = rows
        self.views = tuple({row.operator: row.view for row in rows}.values())
        self.miles = miles_between(origin, destination)
        self._zones = (origin.zone, destination.zone)
        self._breaks = sorted({row.first for row in rows} | {row.last + 1 for row in rows})
        self._latest_day = max(row.arrives_day for row in rows)
        self._trips: dict[tuple[int, ...], Trips] = {}
        self.lows: dict[FareKey, int] = {}
        self.fastest_min = min(self._fastest(row) for row in rows)

    def trips(self, ordinal: int, counted: list[int]) -> Trips:
        """Return the trips of a local date, sorted by departure; `counted[0]` is raised by those newly worked out."""
        season = bisect_right(self._breaks, ordinal)
        if not season:
            return NO_TRIPS
        origin, destination = self._zones
        departs_offset = steady_offset_min(origin, ordinal, ordinal)
        arrives_offset = steady_offset_min(destination, ordinal - 1, ordinal + self._latest_day)
        steady = departs_offset is not None and arrives_offset is not None
        offsets = (departs_offset or 0, arrives_offset or 0)
        key = (ordinal % 7, season, *offsets) if steady else (ordinal,)
        found = self._trips.get(key)
        if found is None:
            listed = self._steady(ordinal, *offsets) if steady else self._one_by_one(ordinal)
            found = self._trips[key] = Trips(sorted(listed, key=_in_order))
            counted[0] += len(found.listed)
        return found

    def forget(self) -> None:
        """Forget the trips that were worked out."""
        self._trips = {}

    def low(self, passengers: int, cabin: str, step: int) -> int:
        """Return the least that the party can pay on any trip at that step; a very large number where it never fits."""
        key = (passengers, cabin, step)
        try:
            return self.lows[key]
        except KeyError:
            fares = [fare.total_minor for row in self.rows if (fare := row.fare(*key)) is not None]
            made = self.lows[key] = min(fares, default=1 << 60)
            return made

    def runs(self, ordinal: int) -> list[Row]:
        """Return the schedules that have a service on that local date."""
        day = weekday(iso(ordinal))
        return [row for row in self.rows if row.first <= ordinal <= row.last and row.days[day]]

    def _steady(self, ordinal: int, departs_offset: int, arrives_offset: int) -> list[tuple[int, int, Row]]:
        return [
            (row.departs - departs_offset, row.arrives + DAY_MIN * row.arrives_day - arrives_offset, row) for row in self.runs(ordinal)
        ]

    def _one_by_one(self, ordinal: int) -> list[tuple[int, int, Row]]:
        """Return the departures of a day on which the clocks of an end change."""
        midnight = ordinal * DAY_MIN
        origin, destination = self._zones
        found = []
        for row in self.runs(ordinal):
            departs = instant_min(ordinal, row.departs, 0, origin) - midnight
            arrives = instant_min(ordinal, row.arrives, row.arrives_day, destination) - midnight
            found.append((departs, arrives, row))
        return found

    def _fastest(self, row: Row) -> int:
        """Return the least minutes that a row ever takes."""
        origin, destination = self._zones
        wall = row.arrives + DAY_MIN * row.arrives_day - row.departs
        gain, odd = offset_gain(origin, destination, row.first, row.last, row.arrives_day)
        least = [wall - gain] if gain is not None else []
        for ordinal in odd:
            if row.days[(ordinal - 1) % 7]:  # Ordinal 1 is a Monday.
                ends = instant_min(ordinal, row.arrives, row.arrives_day, destination)
                least.append(ends - instant_min(ordinal, row.departs, 0, origin))
        return max(0, min(least, default=wall))


def _in_order(trip: tuple[int, int, Row]) -> tuple[int, int, str]:
    return trip[0], trip[1], trip[2].prefix


class Network(NamedTuple):
    """All lines at one moment. Never changed: a newer one takes its place.

    Attributes:
        lines: From -> to -> currency -> the line between them.
        into: To -> the places with a line there.
        halls: Places where something is shown and from which nobody travels: no word of a traveller's means them.
    """

    lines: dict[str, dict[str, dict[str, Line]]]
    into: Mapping[str, Sequence[str]]
    places: Mapping[str, Place]
    connecting: ConnectingTimes
    halls: frozenset[str]


EMPTY = Network({}, {}, {}, ConnectingTimes(), frozenset())


class SearchIndex:
    """Keeps the network up to date with the views. One thread at a time refreshes; `network` may be read by any."""

    def __init__(self) -> None:
        self.network = EMPTY
        self._seen: dict[str, tuple[OperatorView, int]] = {}
        self._rows: dict[tuple[str, str, str], dict[str, list[Row]]] = {}  # (from, to, currency) -> operator -> rows
        self._halls: dict[str, set[str]] = {}  # operator -> where its services begin that lead nowhere
        self._counted = [0]

    @property
    def worked_out(self) -> int:
        """How many departures are kept worked out."""
        return self._counted[0]

    def refresh(self, views: Mapping[str, OperatorView]) -> bool:
        """Take in what changed of the timetables; return whether anything did."""
        changed = [view for code, view in views.items() if self._seen.get(code) != (view, view.version)]
        gone = self._seen.keys() - views.keys()
        if not changed and not gone:
            return False
        stale: set[tuple[str, str, str]] = set()
        for code in (*gone, *(view.code for view in changed)):
            stale |= self._drop(code)
        for view in changed:
            stale |= self._take(view)
        for code in gone:
            del self._seen[code], self._halls[code]
        self._renew(views, stale)
        return True

    def trips(self, line: Line, ordinal: int) -> Trips:
        """Return a line's trips of a local date, sorted by departure."""
        if self._counted[0] > TRIPS_MAX:
            self._counted[0] = 0
            for known in self.all_lines():
                known.forget()
        return line.trips(ordinal, self._counted)

    def all_lines(self) -> Iterator[Line]:
        """Yield every line."""
        for onward in self.network.lines.values():
            for lines in onward.values():
                yield from lines.values()

    def _drop(self, code: str) -> set[tuple[str, str, str]]:
        stale = {key for key, rows in self._rows.items() if code in rows}
        for key in stale:
            del self._rows[key][code]
        return stale

    def _take(self, view: OperatorView) -> set[tuple[str, str, str]]:
        with view.guard:
            version = view.version
            known = [schedule for _, schedule in view.timetable.schedules.values()]
            layouts = dict(view.timetable.layouts)
            places = set(view.timetable.places)
        schedules = [schedule for schedule in known if schedule.destination]
        self._halls[view.code] = {schedule.origin for schedule in known if not schedule.destination}
        shared: dict[tuple[object, ...], dict[FareKey, PartyFare | None]] = {}
        touched: set[tuple[str, str, str]] = set()
        for one in schedules:
            layout = layouts.get(one.layout_id)
            if layout is None or one.origin not in places or one.destination not in places:
                continue  # An import whose rows are not all here yet.
            row = Row(view, one, layout, shared.setdefault((one.layout_id, one.distance_miles, one.fares), {}))
            key = (one.origin, one.destination, one.currency or CURRENCY)
            self._rows.setdefault(key, {}).setdefault(view.code, []).append(row)
            touched.add(key)
        self._seen[view.code] = (view, version)
        return touched

    def _renew(self, views: Mapping[str, OperatorView], stale: Iterable[tuple[str, str, str]]) -> None:
        places: dict[str, Place] = {}
        for code in sorted(views):
            with views[code].guard:
                for name, place in views[code].timetable.places.items():
                    places.setdefault(name, place)
        moved = {name for name, place in places.items() if self.network.places.get(name) != place}
        stale = {*stale, *(key for key in self._rows if key[0] in moved or key[1] in moved)}
        lines: dict[str, dict[str, dict[str, Line]]] = {origin: dict(onward) for origin, onward in self.network.lines.items()}
        for origin, destination in {(key[0], key[1]) for key in stale}:
            lines.get(origin, {}).pop(destination, None)
        ends: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for key in sorted(self._rows):
            if self._rows[key]:
                ends.setdefault((key[0], key[1]), []).append(key)
        for origin, destination in {(key[0], key[1]) for key in stale} & ends.keys():
            made: dict[str, Line] = {}
            for key in ends[origin, destination]:
                rows = [row for code in sorted(self._rows[key]) for row in self._rows[key][code]]
                made[key[2]] = Line(places[origin], places[destination], key[2], rows)
            lines.setdefault(origin, {})[destination] = made
        stated = [line for code in sorted(views) for row in list(views[code].datasets.values()) for line in row.connecting]
        into: dict[str, list[str]] = {}
        for origin in sorted(lines):
            for destination in lines[origin]:
                into.setdefault(destination, []).append(origin)
        lines = {origin: onward for origin, onward in lines.items() if onward}
        halls = frozenset().union(*self._halls.values()) - lines.keys() - into.keys()
        self.network = Network(lines, into, places, ConnectingTimes(stated), halls)
