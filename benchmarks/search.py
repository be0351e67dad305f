"""How fast searches are, what the index costs, and what searches do to holds.

    python benchmarks/search.py FOLDER [--days 365] [--queries 1000] [--seed 1]

FOLDER is a dataset (see docs/timetable-format.md). Index and searches are measured in this process, in processor time, on random pairs
of places and random days of the timetable: each first use of a line on a kind of day is in the figures. `--holds` then measures a
balancer over local tiers: one caller's holds, alone and with searches running without a pause.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datastore import messages
from datastore.process import freeze_what_stays, prepare_server_process
from loadbalancer.availability import Availability
from loadbalancer.search import Query, Search
from loadbalancer.search_index import SearchIndex
from loadbalancer.view import OperatorView
from tests.unit.loadbalancer.scenery import DAY, scene
from tests.unit.loadbalancer.timetables import views_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--holds", action="store_true", help="also measure holds with searches running")
    chosen = parser.parse_args()
    prepare_server_process()
    today = date.today()
    views = views_of(chosen.folder, today, chosen.days)
    index = measure_index(views, chosen.days)
    freeze_what_stays()
    measure_searches(index, today, chosen.days, chosen.queries, random.Random(chosen.seed))
    if chosen.holds:
        measure_holds(views)


def measure_index(views: Mapping[str, OperatorView], days: int) -> SearchIndex:
    """Print what building costs in time and memory."""
    rows = [schedule for view in views.values() for _, schedule in view.timetable.schedules.values()]
    services = sum(running_days(row.valid_from, row.valid_to, row.days) for row in rows)
    started = time.process_time()
    SearchIndex().refresh(views)
    seconds = time.process_time() - started
    tracemalloc.start()
    index = SearchIndex()
    index.refresh(views)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    lines = sum(1 for _ in index.all_lines())
    print(f"index     {len(rows)} rows, {lines} lines, {services} services in {days} days: built in {seconds:.2f} s of processor time")
    print(f"memory    {size / 1e6:.1f} MB, {size / services:.2f} MB per million services")
    return index


def running_days(valid_from: str, valid_to: str, days: str) -> int:
    """Return on how many dates a row runs."""
    first, last = date.fromisoformat(valid_from).toordinal(), date.fromisoformat(valid_to).toordinal()
    return sum(days[(ordinal - 1) % 7] != "-" for ordinal in range(first, last + 1))


def measure_searches(index: SearchIndex, today: date, days: int, queries: int, draw: random.Random) -> None:
    """Print percentiles of processor time, for all places and for the twenty busiest, the first time and again."""
    now_ms = int(datetime(today.year, today.month, today.day, 12, tzinfo=UTC).timestamp() * 1000)
    weights: dict[str, int] = {}
    for line in index.all_lines():
        weights[line.origin] = weights.get(line.origin, 0) + len(line.rows)
    busiest = sorted(weights, key=lambda code: -weights[code])
    availability = Availability(index)
    for name, places in (("all places", sorted(weights)), ("20 busiest", busiest[:20])):
        asked = [(*draw.sample(places, 2), today.toordinal() + draw.randrange(1, days - 5)) for _ in range(queries)]
        for again in ("first", "again"):
            times, found, looked_at = [], 0, 0
            for origin, destination, ordinal in asked:
                search = Search(availability, Query((origin,), (destination,), ordinal), now_ms)
                started = time.process_time()
                found += len(search.run())
                times.append(1000 * (time.process_time() - started))
                looked_at += search.looked_at
            work = f"{found / queries:.1f} trips, {looked_at / queries:.0f} lines looked at"
            print(f"search    {name}, two stops, {again}: {percentiles(times)} of processor time; {work}")
    worked_out = index.worked_out
    print(f"kept      {worked_out} departures worked out by then (bound in search_index.TRIPS_MAX)")


def measure_holds(views: Mapping[str, OperatorView]) -> None:
    """Print how long one caller's holds take, alone and while searches run without a pause."""
    with scene() as here:
        catalogue = here.server.balancer.catalogue
        for code, view in views.items():
            if code != "AR":
                catalogue.operators[code] = view
        places = sorted({place for view in views.values() for place, _ in view.timetable.routes()})
        stop = threading.Event()
        searches = [0]

        def search_on() -> None:
            draw = random.Random(2)
            while not stop.is_set():
                origin, destination = draw.sample(places, 2)
                here.ask("search", messages.SearchTrips(origin=origin, destination=destination, date=DAY, deadline_ms=60_000))
                searches[0] += 1

        for name, threads in (("alone", 0), ("one searcher", 1), ("four searchers", 4)):
            stop.clear()
            searches[0] = 0
            running = [threading.Thread(target=search_on) for _ in range(threads)]
            for thread in running:
                thread.start()
            began = time.monotonic()
            times = []
            while time.monotonic() - began < 6:
                started = time.perf_counter()
                held = here.hold("3A")
                times.append(1000 * (time.perf_counter() - started))
                release = messages.ReleaseHold(request_id=here.request_id(), owner_key="owner-key-of-ana-0001", hold_id=held.hold_id)
                here.ask("release", release)
            stop.set()
            for thread in running:
                thread.join()
            rate = searches[0] / (time.monotonic() - began)
            print(f"holds     {name}: {percentiles(times)} of wall time, {len(times)} holds; {rate:.0f} searches/s beside them")


def percentiles(times: list[float]) -> str:
    """Return p50, p99 and the worst of milliseconds."""
    ordered = sorted(times)
    return f"p50 {ordered[len(ordered) // 2]:.2f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.2f} ms, worst {ordered[-1]:.1f} ms"


if __name__ == "__main__":
    main()
