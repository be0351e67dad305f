"""Searching a real cluster: offers between balancers, changes as the feed brings them, and silence of the nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from client import exit_codes
from client.api import Holdfast
from datastore import messages
from datastore.errors import PriceChanged, SeatUnavailable
from tests.integration.harness import TOP, ClusterUnderTest
from tests.integration.typed import typed
from tests.waiting import wait_until

DAY = (date.today() + timedelta(days=20)).isoformat()
OPERATORS = [("AR", "Aerolíneas Argentinas"), ("QR", "Qatar Airways"), ("AA", "American Airlines"), ("LA", "LATAM Airlines")]
ROWS = [
    {"code": code, "name": name, "kind": "airline", "primary": f"node-{place % 3 + 1}"} for place, (code, name) in enumerate(OPERATORS)
]
NETWORK = {"datastore": {"operator": ROWS}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("search"), NETWORK, datasets=("brief",)) as running:
        yield running


def run(cluster: ClusterUnderTest, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HOLDFAST_HOME": str(folder / "home"),
        "HOLDFAST_CONFIG": str(cluster.folders.config),
        "HOLDFAST_DATA": str(cluster.folders.data),
        "COLUMNS": "140",
    }
    return typed(*words, environment=environment, folder=folder)


def only_airline(client: Holdfast, code: str) -> messages.Trip:
    return client.search("EZE", "MIA", DAY, passengers=2, airlines=[code], stops_max=0).outbound[0]


def test_a_trip_over_several_airlines(cluster: ClusterUnderTest) -> None:
    """A city stands for its airports; the legs connect, change airline where they say so, and their parts add up to the price."""
    answer = cluster.client().search("buenos aires", "Doha", DAY, passengers=2)
    assert {place.code for place in answer.origins} == {"EZE", "AEP"}
    assert answer.partial == {}
    assert answer.outbound
    for trip in answer.outbound:
        parts = [part for leg in trip.legs for part in leg.parts]
        assert sum(part.count * part.each.minor for part in parts) == trip.total.minor
        assert all(sum(part.count for part in leg.parts) == 2 for leg in trip.legs)
        assert trip.changes_airline == (len({leg.service.operator for leg in trip.legs}) > 1)
        assert all(wait.minutes >= wait.least_min for wait in trip.layovers)
        assert trip.duration_min == (trip.arrives_ms - trip.departs_ms) // 60_000
        assert trip.why


def test_an_offer_of_one_balancer_is_held_at_the_other(cluster: ClusterUnderTest) -> None:
    """The price offered is the price held, whoever made the offer; a repeat gives the same hold."""
    trip = only_airline(cluster.client(balancers=["balancer-1"]), "AR")
    other = cluster.client(balancers=["balancer-2"])
    service_id = trip.legs[0].service.service_id
    held = other.hold_any(service_id, 2, offer=trip.offer, request_id="search-test-0001")
    assert held.total == trip.total
    assert other.hold_any(service_id, 2, offer=trip.offer, request_id="search-test-0001").hold_id == held.hold_id


def test_what_is_sold_is_in_the_next_search(cluster: ClusterUnderTest) -> None:
    """When a cabin's cheap seats run out, the balancers' next searches cost more, and the old offer is refused with a new one."""
    client = cluster.client()
    trip = only_airline(client, "AA")
    service_id = trip.legs[0].service.service_id
    part = trip.legs[0].parts[0]
    cheap = [seat.seat_id for seat in client.seat_map(service_id).seats if (seat.cabin, seat.zone) == (part.cabin, part.zone)]
    for start in range(0, len(cheap) - 1, 9):
        cluster.client(owner_key=f"buyer-of-many-{start:06d}").hold(service_id, cheap[start : min(start + 9, len(cheap) - 1)])

    def shown() -> bool:
        leg = only_airline(client, "AA").legs[0]
        return (leg.service.service_id, leg.parts) != (service_id, trip.legs[0].parts)

    wait_until(shown, "the search to show it", 10)
    with pytest.raises((PriceChanged, SeatUnavailable)) as refused:
        client.hold_any(service_id, 2, offer=trip.offer)
    if isinstance(refused.value, PriceChanged):
        assert client.hold_any(service_id, 2, offer=str(refused.value.fields["offer"])).total.minor == refused.value.fields["now"]["minor"]


def test_the_commands(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Search, then hold a trip by its number; the picture of the network; a slip names the nearest."""
    searched = run(cluster, tmp_path, "search", "EZE", "Miami", DAY, "--pax", "2", "--airlines", "LA,AR,AA", "--max-stops", "0")
    assert searched.returncode == 0 and "holdfast hold --offer 1" in searched.stdout, searched
    held = run(cluster, tmp_path, "hold", "--offer", "1", "--json")
    assert held.returncode == 0, held
    assert len(json.loads(held.stdout)["seats"]) == 2
    assert run(cluster, tmp_path, "routes", "--png", "routes.png").returncode == 0
    assert (tmp_path / "routes.png").read_bytes().startswith(b"\x89PNG")
    wrong = run(cluster, tmp_path, "search", "EZE", "Maimi", DAY)
    assert wrong.returncode == 3 and "MIA (Miami)" in wrong.stderr


def test_a_changed_offer_is_kept_in_its_place(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A timetable moves between search and hold: the command says what changed, and the same number then takes the new offer."""
    assert run(cluster, tmp_path, "search", "AEP", "DOH", DAY, "--max-stops", "1").returncode == 0
    (trip, *_) = cluster.client().search("AEP", "DOH", DAY, stops_max=1).outbound
    first = trip.legs[0].service
    dataset = shutil.copytree(TOP / "data" / "brief", tmp_path / "brief")
    rows = (dataset / "timetable.csv").read_text(encoding="utf-8")
    number = first.service_id.partition("-")[0].removeprefix(first.operator)
    line = next(one for one in rows.splitlines() if one.startswith(f"{first.operator},{number},AEP,"))
    later = line
    for clock in line.split(",")[4:6]:  # departs, arrives: the last digit of each moves on
        later = later.replace(clock, f"{clock[:-1]}{(int(clock[-1]) + 1) % 10}")
    (dataset / "timetable.csv").write_text(rows.replace(line, later), encoding="utf-8")
    shutil.copytree(TOP / "data" / "aircraft", tmp_path / "aircraft")
    done = run(cluster, tmp_path, "import", str(dataset), "--operator", first.operator, "--days", "60")
    assert done.returncode == 0, done
    refusals: list[str] = []

    def refused() -> bool:
        refusals.append(run(cluster, tmp_path, "hold", "--offer", "1").stderr)
        return "the offer has changed" in refusals[-1]

    wait_until(refused, "the offer to be refused", 30)
    assert "holdfast hold --offer 1 takes it" in refusals[-1], refusals

    def held() -> bool:
        # A balancer whose view has not the new timetable yet finds that the new offer has changed, and gives the old one back.
        done = run(cluster, tmp_path, "hold", "--offer", "1", "--json")
        assert done.returncode in (exit_codes.DONE, exit_codes.DECLINED), done
        return done.returncode == exit_codes.DONE

    wait_until(held, "the new offer to be taken", 30)


def test_the_network_and_its_paths(cluster: ClusterUnderTest) -> None:
    """A month's lowest prices are those of the days' searches; routes and paths are of the loaded network."""
    client = cluster.client()
    lowest = {line.date: line.lowest for line in client.calendar("USH", "JFK", DAY[:7]).days}
    assert lowest[DAY] == min((trip.total for trip in client.search("USH", "JFK", DAY).outbound), key=lambda total: total.minor)
    found = client.paths("COR", "JFK", DAY, legs=3)
    assert found.complete and found.count == sum(found.by_legs.values()) == len(found.paths) > 0
    joined = {(route.origin, route.destination) for route in client.routes(DAY).routes}
    assert all(pair in joined for path in found.paths for pair in pairwise(path.places))


def test_operators_without_a_majority_make_a_search_partial(cluster: ClusterUnderTest) -> None:
    """One copy of three is left: it answers, but cannot know what the others may have sold, and says so."""
    client = cluster.client(deadline_ms=5_000)
    cluster.freeze("node-1")
    cluster.freeze("node-2")
    try:
        wait_until(lambda: set(client.search("EZE", "MIA", DAY).partial) == {code for code, _ in OPERATORS}, "all to be called silent", 30)
    finally:
        cluster.thaw("node-1")
        cluster.thaw("node-2")
    wait_until(lambda: client.search("EZE", "MIA", DAY).partial == {}, "all to be heard again", 30)


def test_silent_operators_make_a_search_partial(cluster: ClusterUnderTest) -> None:
    """With every node frozen a search still answers from what is known, and names the operators that it has not heard of."""
    client = cluster.client(deadline_ms=5_000)
    for name in ("node-1", "node-2", "node-3"):
        cluster.freeze(name)
    try:
        wait_until(lambda: set(client.search("EZE", "MIA", DAY).partial) == {code for code, _ in OPERATORS}, "all to be called silent", 30)
        assert client.search("EZE", "MIA", DAY).outbound
    finally:
        for name in ("node-1", "node-2", "node-3"):
            cluster.thaw(name)
    wait_until(lambda: client.search("EZE", "MIA", DAY).partial == {}, "all to be heard again", 30)
