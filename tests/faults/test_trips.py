"""Trips over several operators while processes die: all legs or none, in the end and in every ledger."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import pytest

from client import api
from datastore import messages
from datastore.errors import HoldfastError, LockTimeout, SeatUnavailable
from datastore.model import OrderState, SeatState
from datastore.rows import Kind
from tests.faults.buyers import gathered, primary_of, running, seats_of, services_of, together
from tests.faults.ledgers import faults_of, read_ledgers, wait_nothing_open, windows_at
from tests.integration.harness import ClusterUnderTest

TRAVELLERS = 6
TTL_MS = 4_000
BOUND_S = 5.0  # From a hold's deadline to its seats' return, while majorities are up.
OPERATORS = ("LUM", "GRAND")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("trips")) as made:
        yield made


Given = TypeVar("Given")


def again(call: Callable[[], Given]) -> Given:
    """Return what `call` gives, asked again while nobody knows or the cluster cannot answer."""
    end = time.monotonic() + 30
    while True:
        try:
            return call()
        except HoldfastError as error:
            if not (error.retryable or error.maybe_committed) or time.monotonic() > end:
                raise


def buy(client: api.Holdfast, legs: Sequence[tuple[str, Sequence[str] | int]], name: str, ttl_ms: int = 0) -> messages.OrderAnswer:
    """Hold a trip and buy it, asking again while the outcome is unknown."""
    held = again(lambda: client.hold_trip(legs, ttl_ms=ttl_ms, request_id=f"hold-{name}"))
    people = [api.Passenger(f"Traveller-{name}") for _ in held.legs[0].seats]
    return again(lambda: client.confirm(held.hold_id, people, request_id=f"confirm-{name}"))


@pytest.mark.parametrize("seed", [1, 2])
def test_every_process_dies_and_no_trip_is_sold_in_part(cluster: ClusterUnderTest, seed: int) -> None:
    """A balancer, a manager, the anchor's primary and another's die at seeded moments under trips in every step of B1 to B5.

    Afterwards every order has all its legs and every booked leg its order, each follower names an entry of the anchor's
    ledger, whoever was told "confirmed" is, whoever was refused is not, and nothing is held beyond its time and the bound.
    """
    chance = random.Random(seed)
    first, second = services_of(cluster, "LUM", 24 + seed)[0].service_id, services_of(cluster, "GRAND", 24 + seed)[0].service_id
    seats = {service: seats_of(cluster, service) for service in (first, second)}
    told: dict[str, str] = {}
    given_back: dict[str, str] = {}
    refused: list[str] = []
    over = threading.Event()

    def travel(number: int) -> None:
        client = cluster.client(f"owner-key-of-traveller-{number}", deadline_ms=6_000)
        turn = 0
        while not over.is_set():
            turn += 1
            name = f"{seed}-{number}-{turn:04}"
            mine = [(service, [seats[service][number + TRAVELLERS * (turn % 9)]]) for service in (first, second)]
            if number % 2:
                mine.reverse()  # Half of the trips are anchored at the other operator.
            try:
                order = buy(client, mine, name, TTL_MS)
                # Few are kept, so that seats are left and trips go on until the last death.
                if turn % 19 == 1:
                    told[name] = order.reference
                else:
                    again(partial(client.cancel, order.reference, order.manage_token, request_id=f"cancel-{name}"))
                    given_back[name] = order.reference
            except HoldfastError as error:
                refused.append(f"{name}: {error.code}")

    crowd = threading.Thread(target=together, args=(travel, TRAVELLERS, 120), daemon=True)
    crowd.start()
    deaths: list[int] = []
    try:
        for victim in ("balancer-1", "manager-1", primary_of(cluster, "LUM"), primary_of(cluster, "GRAND")):
            over.wait(0.6 + chance.random())
            deaths.append(time.time_ns() // 1_000_000)
            cluster.kill(victim)
            over.wait(0.5 + chance.random())
            cluster.restart(victim)
            over.wait(0.5)
    finally:
        over.set()
        crowd.join(90)
    assert not crowd.is_alive()
    ended = time.monotonic()
    ledgers = wait_nothing_open(cluster, OPERATORS, 40)
    assert time.monotonic() - ended < TTL_MS / 1000 + BOUND_S + 25  # The bound, and what a loaded machine's failover takes.
    assert faults_of(ledgers) == []
    states = {row.reference: row.state for ledger in ledgers.values() for row in ledger.of(Kind.ORDER).values() if row.legs}
    assert [name for name, reference in told.items() if states.get(reference) != OrderState.CONFIRMED] == []
    assert [name for name, reference in given_back.items() if states.get(reference) != OrderState.CANCELLED] == []
    # Not vacuous: trips were sold, and the deaths fell between the steps.
    hit: set[str] = set().union(*(windows_at(ledgers, stamp) for stamp in deaths))
    assert len(told) > 5 and hit, (hit, len(told), refused[-50:])


def left_free(cluster: ClusterUnderTest, service: str, count: int) -> list[str]:
    """Block all seats of a service but `count`; return those."""
    seats = seats_of(cluster, service)
    key = cluster.operator_key(cluster.client().seat_map(service).service.operator)
    client = cluster.client()
    for first in range(count, len(seats), 100):
        client.block(key, service, seats[first : first + 100], "not for sale in this test")
    return seats[:count]


def taken_by_trips(cluster: ClusterUnderTest, service: str) -> int:
    rows = read_ledgers(cluster, [cluster.client().seat_map(service).service.operator]).popitem()[1].seats()
    return sum(key.startswith(service + "/") and row.state == SeatState.BOOKED for key, row in rows.items())


def test_forty_travellers_and_five_seats(cluster: ClusterUnderTest) -> None:
    """Five of them travel, thirty-five are told that their seats are gone; nobody is left with one leg."""
    first, second = services_of(cluster, "LUM", 28)[0].service_id, services_of(cluster, "GRAND", 28)[0].service_id
    left_free(cluster, first, 5)

    def travel(number: int) -> str:
        client = cluster.client(f"owner-key-of-forty-{number}", deadline_ms=20_000)
        try:
            return buy(client, [(first, 1), (second, 1)] if number % 2 else [(second, 1), (first, 1)], f"forty-{number}").reference
        except SeatUnavailable as error:
            assert first in error.detail
            return ""

    sold = [reference for reference in gathered(travel, 40) if reference]
    assert (len(sold), len(set(sold))) == (5, 5)
    assert faults_of(wait_nothing_open(cluster, OPERATORS, 20)) == []
    assert (taken_by_trips(cluster, first), taken_by_trips(cluster, second)) == (5, 5)


def test_a_small_network_is_sold_out_to_the_last_seat(cluster: ClusterUnderTest) -> None:
    """Random trips until none is left, then single seats: exactly the capacity is sold."""
    services = [
        services_of(cluster, "LUM", 30)[0].service_id,
        services_of(cluster, "GRAND", 30)[0].service_id,
        services_of(cluster, "LUM", 31)[0].service_id,
    ]
    for service in services:
        left_free(cluster, service, 10)

    def travel(number: int) -> int:
        client = cluster.client(f"owner-key-of-network-{number}", deadline_ms=20_000)
        chance = random.Random(number)
        sold, refusals = 0, 0
        while refusals < 6:
            legs = [(service, 1) for service in chance.sample(services, chance.choice((2, 3)))]
            try:
                buy(client, legs, f"network-{number}-{sold}-{refusals}")
                sold += len(legs)
            except SeatUnavailable:
                refusals += 1
        for service in services:
            try:
                while True:
                    held = client.hold_any(service, 1)
                    client.confirm(held.hold_id, [api.Passenger("Last")])
                    sold += 1
            except SeatUnavailable:
                pass
        return sold

    assert sum(gathered(travel, 4)) == 30
    assert faults_of(wait_nothing_open(cluster, OPERATORS, 20)) == []
    assert [taken_by_trips(cluster, service) for service in services] == [10, 10, 10]


def test_trips_that_cross_make_progress(cluster: ClusterUnderTest) -> None:
    """A and B against B and A, over the same two seats: trips go on being held, no round ends in a deadlock, and everybody wins some."""
    first, second = services_of(cluster, "LUM", 33)[0].service_id, services_of(cluster, "GRAND", 33)[0].service_id
    one, other = seats_of(cluster, first)[0], seats_of(cluster, second)[0]
    won: dict[int, int] = {}
    end = time.monotonic() + 8

    def fight(number: int) -> None:
        client = cluster.client(f"owner-key-of-fighter-{number}", deadline_ms=8_000)
        legs = [(first, [one]), (second, [other])]
        if number % 2:
            legs.reverse()
        won[number] = 0
        while time.monotonic() < end:
            try:
                held = client.hold_trip(legs)
            except (SeatUnavailable, LockTimeout):  # Somebody is always served; nobody is promised a turn within his time (Z9).
                continue
            won[number] += 1
            client.release(held.hold_id)

    together(fight, 4, 60)
    assert sum(won.values()) > 10 and all(won.values()), won
    assert faults_of(wait_nothing_open(cluster, OPERATORS, 20)) == []
