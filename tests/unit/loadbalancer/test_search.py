"""The search finds what a plain search of everything finds, and stays current with what is sold and imported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.model import DAY_MS, MINUTE_MS, Schedule, ServiceState
from loadbalancer.availability import Availability
from loadbalancer.clocks import DAY_MIN, to_ms
from loadbalancer.finding import Finder
from loadbalancer.search import Found, Query, Rules, Search
from loadbalancer.search_index import SearchIndex
from loadbalancer.view import OperatorView
from loadbalancer.waiting import now_ms
from tests.unit.loadbalancer import exhaustive, networks
from tests.unit.loadbalancer.networks import CODES, DAYS, SEATS

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def searched(availability: Availability, query: Query, now_ms: int) -> list[Found]:
    return Search(availability, query, now_ms).run()


def vectors(found: list[Found], query: Query) -> set[exhaustive.Vector]:
    """Return what the plain twin compares by."""
    midnight = query.ordinal * DAY_MIN
    return {
        (to_ms(midnight + merit.arrives), merit.duration * MINUTE_MS, merit.stops, merit.price, currency) for merit, _, currency in found
    }


def wall(day: date, hour: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp() * 1000)


@SLOW
@given(st.integers(0, 1 << 32))
def test_the_search_finds_exactly_what_no_other_trip_beats(seed: int) -> None:
    """Over random networks, days, parties, sales and closings the sets of merits equal those of the plain twin."""
    compare(Random(seed))


def compare(random: Random) -> list[exhaustive.Vector]:
    """Compare the search with its twin on one random network, before and after sales; return all that was found."""
    middle = random.choice(DAYS)
    views = networks.network(random, middle)
    day = middle + timedelta(random.randint(-1, 1))
    now_ms = wall(day, random.randrange(24)) - random.choice([200, 60, 30, 14, 7, 3, 1, 0]) * DAY_MS
    index = SearchIndex()
    index.refresh(views)
    availability = Availability(index)
    running = networks.services_of(views, range(-2, 4), day)
    rules = random.choice([Rules(), Rules(detour_percent=1_000), Rules(layover_domestic_max=240, layover_international_max=600)])
    seen: list[exhaustive.Vector] = []
    for _ in range(3):
        ends = random.sample(CODES, 4)
        query = Query(
            tuple(ends[: random.randint(1, 2)]),
            tuple(ends[2 : random.randint(3, 4)]),
            day.toordinal(),
            passengers=random.randint(1, 3),
            cabin=random.choice(["", "", "Y", "J"]),
            airlines=random.choice([frozenset(), frozenset(), frozenset({"XA", "XB"})]),
            stops_max=random.choice([0, 1, 2, 2, 2]),
            rules=rules,
        )
        best = exhaustive.best(views, query, now_ms)
        assert vectors(searched(availability, query, now_ms), query) == best
        cheap = replace(query, cheapest_only=True)
        lowest = {currency: min(one[3] for one in best if one[4] == currency) for currency in {one[4] for one in best}}
        assert {one.currency: one.merit.price for one in searched(availability, cheap, now_ms)} == lowest
        seen += best
        for view, service_id in random.sample(running, min(len(running), 12)):
            if random.randrange(5):
                networks.sell(view, service_id, tuple(random.sample(SEATS, random.randint(1, 6))))
                networks.give_back(view, service_id, tuple(random.sample(SEATS, random.randint(0, 3))))
            else:
                networks.close(view, service_id, random.choice([ServiceState.CLOSED, ServiceState.CANCELLED, ServiceState.OPEN]))
    return seen


def test_the_comparison_is_of_something() -> None:
    """The random networks have trips of every number of stops, choices between them, and some of either currency."""
    seen = [one for seed in range(40) for one in compare(Random(seed))]
    assert {one[2] for one in seen} == {0, 1, 2}
    assert {one[4] for one in seen} == {"EUR", "USD"}
    assert len(seen) > 200


def test_of_equal_trips_the_one_of_one_airline_is_shown() -> None:
    """Two airlines fly on at the same times and prices: nobody is made to change between them."""
    views = {code: OperatorView(code) for code in ("XA", "XB")}
    first = Schedule("1", "AAA", "FFF", 600, 800, 0, "1234567", "2026-01-01", "2026-12-31", "L", 1000)
    second = Schedule("2", "FFF", "CCC", 900, 1100, 0, "1234567", "2026-01-01", "2026-12-31", "L", 1000)
    networks.fill(views["XA"], [second], ())
    networks.fill(views["XB"], [first, second], ())
    index = SearchIndex()
    index.refresh(views)
    query = Query(("AAA",), ("CCC",), date(2026, 7, 1).toordinal(), stops_max=1)
    (found,) = searched(Availability(index), query, wall(date(2026, 6, 1)))
    assert [flight[3].operator for flight in found.flights] == ["XB", "XB"]


def test_a_hall_is_no_place_to_travel_from() -> None:
    """A cinema in a city is not meant by the city's name; an airport is, with services or without, and one with a cinema in it too."""
    views = {code: OperatorView(code) for code in ("XA", "XB")}
    flight = Schedule("1", "AAA", "FFF", 600, 800, 0, "1234567", "2026-01-01", "2026-12-31", "L", 1000)
    show = ("", 600, 800, 0, "1234567", "2026-01-01", "2026-12-31", "L")
    shows = [Schedule(str(number), place, *show) for number, place in enumerate(("AAA", "CCC"))]
    networks.fill(views["XA"], [flight], ())
    networks.fill(views["XB"], shows, ())
    finder = Finder(SimpleNamespace(operators=views), 60_000)  # type: ignore[arg-type]
    assert set(finder.places(now_ms() + 60_000).places) == {"AAA", "BBB", "DDD", "EEE", "FFF"}
