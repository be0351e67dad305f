"""The search over published timetables: known counts, and trips found exactly where there are some."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from datastore.model import DAY_MS
from loadbalancer.availability import Availability
from loadbalancer.clocks import iso
from loadbalancer.search import Query, Rules, Search
from loadbalancer.search_index import SearchIndex
from tests.unit.loadbalancer.timetables import CHECKOUT, US_2008, views_of

Pair = tuple[str, str]
# What the counts were made with: connections of 45 to 240 minutes, wherever they lead.
COUNTED = Rules(layover_domestic_max=240, layover_international_max=240, detour_percent=100_000)


class Counts(NamedTuple):
    """Pairs of places joined on one day: directly, with one stop, and with one stop of one airline."""

    direct: set[Pair]
    one_stop: set[Pair]
    same_airline: set[Pair]


def counted(index: SearchIndex, ordinal: int, least: int = 45, longest: int = 240) -> Counts:
    """Count the plain way: each arrival against each departure of the same place and local date."""
    departures: dict[str, list[tuple[int, str, str]]] = {}
    arrivals: list[tuple[int, str, str, str]] = []
    for line in index.all_lines():
        for departs, arrives, row in index.trips(line, ordinal).listed:
            departures.setdefault(line.origin, []).append((departs, line.destination, row.operator))
            arrivals.append((arrives, line.origin, line.destination, row.operator))
    counts = Counts({(origin, here) for _, origin, here, _ in arrivals}, set(), set())
    for onward in departures.values():
        onward.sort()
    for arrives, origin, here, operator in arrivals:
        onward = departures.get(here, [])
        for departs, destination, other in onward[bisect_left(onward, (arrives + least,)) :]:
            if departs > arrives + longest:
                break
            if destination != origin:
                counts.one_stop.add((origin, destination))
                if other == operator:
                    counts.same_airline.add((origin, destination))
    return counts


def index_of(path: Path, valid_from: date, days: int) -> SearchIndex:
    index = SearchIndex()
    index.refresh(views_of(path, valid_from, days))
    return index


def wall(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) - DAY_MS


def check_found(index: SearchIndex, counts: Counts, day: date, pairs: list[Pair]) -> int:
    """Check that a search of up to one stop finds trips for exactly the pairs that were counted; return how many had some."""
    availability, found, joined = Availability(index), 0, counts.direct | counts.one_stop
    for origin, destination in pairs:
        query = Query((origin,), (destination,), day.toordinal(), stops_max=1, rules=COUNTED)
        trips = Search(availability, query, wall(day)).run()
        of_the_day = [trip for trip in trips if all(flight[4] == 0 for flight in trip.flights)]
        known = (origin, destination) in joined
        # What the count leaves out is a connection over midnight: its second leg is of the next date.
        assert bool(of_the_day) == known or (not known and not of_the_day), (origin, destination)
        found += known
    return found


@pytest.mark.skipif(not US_2008.exists(), reason=f"{US_2008} is not here: it is not shipped")
@pytest.mark.timeout(300)
def test_the_united_states_of_2008() -> None:
    """On 9 January 2008: 4,296 pairs direct, 46,336 with one stop, 12,530 of them only by changing airline; the search agrees."""
    day = date(2008, 1, 9)
    index = index_of(US_2008, date(2008, 1, 8), 5)
    counts = counted(index, day.toordinal())
    assert len(counts.direct) == 4_296
    assert len(counts.one_stop) == 46_336
    assert len(counts.one_stop - counts.same_airline - counts.direct) == 12_530
    random = Random(2008)
    only_by_changing = sorted(counts.one_stop - counts.same_airline - counts.direct)
    chosen = random.sample(only_by_changing, 200)
    assert check_found(index, counts, day, chosen) == 200
    places = sorted({place for pair in counts.direct for place in pair})
    known = counts.direct | counts.one_stop
    unjoined = [(one, two) for one in places for two in places if one != two and (one, two) not in known]
    assert check_found(index, counts, day, random.sample(unjoined, 200)) == 0
    # Each of those trips changes airline: the reason why one basket over several operators is worth having.
    for origin, destination in chosen[:50]:
        query = Query((origin,), (destination,), day.toordinal(), stops_max=1, rules=COUNTED)
        for trip in Search(Availability(index), query, wall(day)).run():
            assert all(flight[4] > 0 for flight in trip.flights[1:]) or len({flight[3].operator for flight in trip.flights}) == 2


def test_new_york_of_2013() -> None:
    """The shipped week: on its Wednesday 3,445 pairs are joined with one stop, 1,743 of them only by two airlines; the search agrees."""
    day = date(2027, 7, 14)
    index = index_of(CHECKOUT / "data" / "nyc-2013", date(2027, 7, 12), 6)
    counts = counted(index, day.toordinal())
    assert len(counts.one_stop) == 3_445
    assert len(counts.one_stop - counts.same_airline) == 1_743
    random = Random(2013)
    joined = random.sample(sorted(counts.one_stop), 150)
    assert check_found(index, counts, day, joined) == 150
    places = sorted({place for pair in counts.direct for place in pair})
    known = counts.direct | counts.one_stop
    unjoined = [(one, two) for one in places for two in places if one != two and (one, two) not in known]
    assert check_found(index, counts, day, random.sample(unjoined, min(150, len(unjoined)))) == 0


def test_south_america_to_doha() -> None:
    """The small network: through Brazil by one airline at the minimum connecting time, arriving on the next local date."""
    index = index_of(CHECKOUT / "data" / "brief", date(2026, 11, 30), 20)
    day = date(2026, 12, 2)
    query = Query(("EZE",), ("DOH",), day.toordinal())
    found = Search(Availability(index), query, wall(day)).run()
    services = [[flight[3].prefix + iso(query.ordinal + flight[4]) for flight in trip.flights] for trip in found]
    assert ["QR776-EZE-2026-12-02", "QR774-GRU-2026-12-03"] in services
    for trip in found:
        for before, after in pairwise(trip.flights):
            assert 90 <= after[0] - before[1] <= 24 * 60
