"""One operator's timetable in memory: from a service id to the schedule behind it, and from a day to its services.

Pure. The partition's primary uses it to know what exists, the load balancers to list and price it. Cost follows the
rows (a year of a weekly flight is one row), never the services that they imply.

Rules: within one operator a (number, origin, date) means one schedule, whichever dataset it came from. An import that
would break that gives the newcomer's number the suffix ".TAG" of its dataset (see `assign_numbers` of the import).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import asin, cos, radians, sin, sqrt
from zoneinfo import ZoneInfo

from datastore.model import Layout, LayoutSpec, Place, Schedule, Service, ServiceKey

EARTH_RADIUS_MILES = 3958.8  # the mean radius, IUGG


class Timetable:
    """Schedules, layouts and places of one operator, kept up by row images as they commit."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.schedules: dict[str, tuple[str, Schedule]] = {}  # row key -> (dataset, schedule)
        self.layouts: dict[str, Layout] = {}
        self.places: dict[str, Place] = {}
        self._by_number: dict[tuple[str, str], list[str]] = {}
        self._by_route: dict[tuple[str, str], list[str]] = {}

    def put_schedule(self, key: str, dataset: str, schedule: Schedule) -> None:
        """Store a row image; an older one of the same key is replaced."""
        self.drop_schedule(key)
        self.schedules[key] = (dataset, schedule)
        self._by_number.setdefault((schedule.number, schedule.origin), []).append(key)
        self._by_route.setdefault((schedule.origin, schedule.destination), []).append(key)

    def drop_schedule(self, key: str) -> None:
        """Forget a row; nothing happens where there is none."""
        found = self.schedules.pop(key, None)
        if found is None:
            return
        schedule = found[1]
        for index, word in (
            (self._by_number, (schedule.number, schedule.origin)),
            (self._by_route, (schedule.origin, schedule.destination)),
        ):
            keys = index[word]
            keys.remove(key)
            if not keys:
                del index[word]

    def put_layout(self, spec: LayoutSpec) -> None:
        self.layouts[spec.layout_id] = Layout(spec)

    def put_place(self, place: Place) -> None:
        self.places[place.code] = place

    def service(self, key: ServiceKey) -> Service | None:
        """Return the service of that number, origin and date, or None where no schedule implies it."""
        for row in self._by_number.get((key.number, key.origin), ()):
            dataset, schedule = self.schedules[row]
            if runs_on(schedule, key.date):
                return self._worked_out(dataset, schedule, key.date)
        return None

    def layout_of(self, key: ServiceKey) -> Layout | None:
        """Return the layout of a service without working out its instants (the hot path of a hold)."""
        for row in self._by_number.get((key.number, key.origin), ()):
            schedule = self.schedules[row][1]
            if runs_on(schedule, key.date):
                return self.layouts.get(schedule.layout_id)
        return None

    def services(self, day: str, origin: str = "", destination: str = "") -> Iterator[Service]:
        """Yield that day's services (local date at the origin), unordered; "" means any origin or destination."""
        for row in self._rows(origin, destination):
            dataset, schedule = self.schedules[row]
            if runs_on(schedule, day):
                yield self._worked_out(dataset, schedule, day)

    def numbers(self) -> Iterable[tuple[str, str]]:
        """Return every (number, origin) that some row has."""
        return self._by_number.keys()

    def nearest_valid(self, number: str, origin: str, day: str) -> str:
        """Return the date nearest to `day` for which a row with that number and origin is valid, on whatever weekdays; "" without a row."""
        rows = [self.schedules[row][1] for row in self._by_number.get((number, origin), ())]
        return min(max(day, min(row.valid_from for row in rows)), max(row.valid_to for row in rows)) if rows else ""

    def routes(self) -> Iterable[tuple[str, str]]:
        """Return every (origin, destination) that some row has."""
        return self._by_route.keys()

    def _rows(self, origin: str, destination: str) -> Iterable[str]:
        if origin and destination:
            return self._by_route.get((origin, destination), ())
        if not origin and not destination:
            return self.schedules.keys()
        return [
            row
            for (start, end), rows in self._by_route.items()
            if (not origin or start == origin) and (not destination or end == destination)
            for row in rows
        ]

    def _worked_out(self, dataset: str, schedule: Schedule, day: str) -> Service:
        origin = self.places.get(schedule.origin)
        destination = self.places.get(schedule.destination) if schedule.destination else origin
        departs = instant_ms(day, schedule.departs_min, 0, origin.zone if origin else "UTC")
        arrives = instant_ms(day, schedule.arrives_min, schedule.arrives_day, destination.zone if destination else "UTC")
        service_id = f"{self.operator}{schedule.number}-{schedule.origin}-{day}"
        return Service(service_id, self.operator, dataset, day, schedule, departs, arrives)


@lru_cache(maxsize=65_536)
def miles_between(one: Place, two: Place) -> int:
    """Return the great-circle distance in miles; 0 where a place has no coordinates."""
    if not (one.latitude or one.longitude) or not (two.latitude or two.longitude):
        return 0
    first, second = radians(one.latitude), radians(two.latitude)
    half = sin((second - first) / 2) ** 2 + cos(first) * cos(second) * sin(radians(two.longitude - one.longitude) / 2) ** 2
    return round(2 * EARTH_RADIUS_MILES * asin(sqrt(half)))


def runs_on(schedule: Schedule, day: str) -> bool:
    """Return whether the schedule has a service on that local date (ISO dates compare as text)."""
    return schedule.valid_from <= day <= schedule.valid_to and schedule.days[weekday(day)] != "-"


@lru_cache(maxsize=4096)
def weekday(day: str) -> int:
    """Return 0 for a Monday."""
    return date.fromisoformat(day).weekday()


@lru_cache(maxsize=65_536)
def instant_ms(day: str, minutes: int, days_later: int, zone: str) -> int:
    """Return the UTC milliseconds of a local wall-clock time.

    A time that the clocks skip in spring is read with the offset before the change, and one that comes twice in autumn
    is the first (PEP 495, fold=0): what a departures board means by it.
    """
    local_day = date.fromisoformat(day) + timedelta(days=days_later)
    local = datetime(local_day.year, local_day.month, local_day.day, tzinfo=ZoneInfo(zone)) + timedelta(minutes=minutes)
    return round(local.astimezone(UTC).timestamp() * 1000)
