"""Small random timetables for the search: awkward zones, changes of clocks, odd connecting times, seats sold, services closed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from random import Random

from client.seasons import arrival
from datastore.model import ConnectingTime, LayoutSpec, Place, Schedule, SeatState, Section, ServiceState
from datastore.rows import DatasetRow, Kind, OperatorRow, SeatRow, ServiceRow, encode_row
from loadbalancer.view import OperatorView

# Both sides of the date line, a zone without daylight saving, one of half hours, and two countries.
PLACES = (
    Place("AAA", "Alpha Field", "Alpha", "US", "America/New_York", 40.6, -73.8),
    Place("BBB", "Beta International", "Beta", "US", "America/Phoenix", 33.4, -112.0),
    Place("CCC", "Gamma Regional", "Gamma", "US", "Pacific/Honolulu", 21.3, -157.9),
    Place("DDD", "Delta Airport", "Delta", "NZ", "Pacific/Auckland", -37.0, 174.8),
    Place("EEE", "Epsilon Airport", "Épsilon", "AU", "Australia/Adelaide", -34.9, 138.5),
    Place("FFF", "Phi Strip", "Phi", "US", "America/Los_Angeles", 33.9, -118.4),
)
ZONES = {place.code: place.zone for place in PLACES}
CODES = [place.code for place in PLACES]
COLUMNS = ("A", "B")
SECTIONS = (Section("J", "B", ("1",), COLUMNS), Section("Y", "A", ("2",), COLUMNS), Section("Y", "B", ("3",), COLUMNS))
LAYOUT = LayoutSpec("L", "Small", SECTIONS)
FARES = [(), *((("Y", "", minor),) for minor in (1_000, 2_000, 10_000, 20_000)), (("J", "", 15_000), ("Y", "B", 9_000))]
SEATS = ("1A", "1B", "2A", "2B", "3A", "3B")
# Days about the changes of clocks in both halves of the world, and plain ones.
DAYS = [date(2026, 3, 8), date(2026, 4, 5), date(2026, 7, 1), date(2026, 9, 27), date(2026, 10, 4), date(2026, 11, 1)]


def schedule(random: Random, number: int, day: date) -> Schedule:
    """Return a row between two of the places, about the day."""
    origin, destination = random.sample(CODES, 2)
    fares = random.choice(FARES)
    departs = random.randrange(48) * 30
    arrives_min, arrives_day = arrival(day.isoformat(), departs, random.randint(2, 30) * 30, ZONES[origin], ZONES[destination])
    return Schedule(
        str(number),
        origin,
        destination,
        departs,
        arrives_min,
        arrives_day,
        random.choice(["1234567", "1234567", "1-3-5-7", "-2-4-6-", "-----67"]),
        (day - timedelta(random.randint(1, 5))).isoformat(),
        (day + timedelta(random.randint(1, 5))).isoformat(),
        "L",
        random.choice([200, 1000, 3000]),
        "",
        random.choice(["USD", "USD", "USD", "EUR"]),
        fares,
    )


def network(random: Random, day: date) -> dict[str, OperatorView]:
    """Return three operators' views with services about the day."""
    views: dict[str, OperatorView] = {}
    number = 0
    for code in ("XA", "XB", "XC"):
        view = views[code] = OperatorView(code)
        rows = [schedule(random, number := number + 1, day) for _ in range(random.choice([3, 12, 30]))]
        table = [
            ConnectingTime(
                random.choice(["", *CODES]),
                random.choice(["", "XA", "XB"]),
                random.choice(["", "XA", "XC"]),
                random.choice([-1, 0, 30, 60]),
                random.choice([-1, 0, 60, 240]),
            )
            for _ in range(random.randint(0, 2))
        ]
        fill(view, [row for row in rows if _takes_time(row)], tuple(table))
    return views


def _takes_time(row: Schedule) -> bool:
    """Say whether the row arrives after it departs on all of its days: what an import checks."""
    view = OperatorView("XX")
    fill(view, [row], ())
    first = date.fromisoformat(row.valid_from)
    days = [(first + timedelta(ahead)).isoformat() for ahead in range(12)]
    services = [one for day in days for one in view.timetable.services(day)]
    return all(one.arrives_ms > one.departs_ms for one in services)


def fill(view: OperatorView, rows: list[Schedule], table: tuple[ConnectingTime, ...]) -> None:
    """Put a timetable into a view, as a feed does."""
    view.row = OperatorRow(view.code, view.code, "airline")
    view.timetable.put_layout(LAYOUT)
    for place in PLACES:
        view.timetable.put_place(place)
    for row in rows:
        view.timetable.put_schedule(f"{row.number}/{row.origin}", "test", row)
    view.apply([(Kind.DATASET, "test", encode_row(DatasetRow("test", "Test", "", len(rows), 0, b"", table)))])


def sell(view: OperatorView, service_id: str, seats: tuple[str, ...]) -> None:
    """Have seats taken, as a feed tells it."""
    row = encode_row(SeatRow(SeatState.BOOKED, "h", 1, "o", 1, 1, "n"))
    view.apply([(Kind.SEAT, f"{service_id}/{seat}", row) for seat in seats])


def give_back(view: OperatorView, service_id: str, seats: tuple[str, ...]) -> None:
    """Have seats free again, as a feed tells it."""
    row = encode_row(SeatRow(SeatState.FREE, "", 0, "", 1, 1, "n"))
    view.apply([(Kind.SEAT, f"{service_id}/{seat}", row) for seat in seats])


def close(view: OperatorView, service_id: str, state: ServiceState = ServiceState.CLOSED) -> None:
    """Close or cancel a service, as a feed tells it."""
    view.apply([(Kind.SERVICE, service_id, encode_row(ServiceRow(state, "because", 1)))])


def services_of(views: Mapping[str, OperatorView], days: range, around: date) -> list[tuple[OperatorView, str]]:
    """Return (view, service id) of everything that runs on days counted from `around`."""
    return [
        (view, service.service_id)
        for view in views.values()
        for ahead in days
        for service in view.timetable.services((around + timedelta(ahead)).isoformat())
    ]
