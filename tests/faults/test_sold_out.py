"""Many paying buyers for few seats, and a network sold to its last seat: nothing is sold twice, left over, or paid for in vain."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest

from client import api
from datastore.errors import HoldfastError, NoAdjacentBlock, SeatUnavailable
from datastore.model import OrderState, SeatState
from datastore.rows import Kind
from tests.faults.buyers import gathered, seats_of, services_of
from tests.faults.ledgers import Ledger, faults_of, wait_nothing_open
from tests.faults.paid import CLOSED_S, OPERATORS, again, book, books_closed, intents_of, provider_of, selling
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

BUYERS = 8
NETWORK_SEATS = 400
SHOWS = 5
PARTY_MAX = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with selling(tmp_path_factory.mktemp("soldout")) as made:
        yield made


def left_free(cluster: ClusterUnderTest, service: str, count: int) -> list[str]:
    """Have an operator keep all seats of a service but `count`; return those."""
    seats = seats_of(cluster, service)
    assert len(seats) >= count, service
    client = cluster.client(deadline_ms=20_000)
    key = cluster.operator_key(client.seat_map(service).service.operator)
    for first in range(count, len(seats), 100):
        again(partial(client.block, key, service, seats[first : first + 100], "kept", request_id=f"{service}-{first}"))
    return seats[:count]


def booked_seats(ledgers: dict[str, Ledger], services: list[str]) -> set[str]:
    rows = [item for ledger in ledgers.values() for item in ledger.seats().items()]
    return {key for key, row in rows if row.state == SeatState.BOOKED and key.rpartition("/")[0] in services}


def ordered_seats(ledgers: dict[str, Ledger], services: list[str]) -> list[str]:
    """Return every seat of every order that stands, as often as it is sold."""
    orders = [row for ledger in ledgers.values() for row in ledger.of(Kind.ORDER).values() if row.state == OrderState.CONFIRMED]
    legs = [(leg.service_id, leg.seats) for row in orders for leg in row.legs] + [
        (row.service_id, row.seats) for row in orders if not row.legs
    ]
    return [f"{service}/{seat}" for service, seats in legs if service in services for seat in seats]


@pytest.mark.timeout(300)
def test_forty_buyers_for_five_seats(cluster: ClusterUnderTest) -> None:
    """Over two operators' shows, in either order: five travel and pay, thirty-five are told which seats are gone and pay nothing."""
    services = [services_of(cluster, code, 28)[0].service_id for code in OPERATORS]
    for service in services:
        left_free(cluster, service, 5)
    before = intents_of(provider_of(cluster))

    def want(number: int) -> tuple[str, str]:
        mine = cluster.client(f"owner-key-of-forty-{number:04}", deadline_ms=30_000)
        legs = [(service, 1) for service in (services if number % 2 else reversed(services))]
        try:
            return book(mine, legs, f"forty-{number:04}").reference, ""
        except SeatUnavailable as error:
            return "", error.detail

    found = gathered(want, 40, timeout_s=200)
    sold = [reference for reference, _ in found if reference]
    assert (len(sold), len(set(sold))) == (5, 5), found
    assert all(any(service in why for service in services) for reference, why in found if not reference), found
    ledgers = wait_nothing_open(cluster, OPERATORS, CLOSED_S)
    assert faults_of(ledgers) == []
    assert len(booked_seats(ledgers, services)) == 10
    assert (books := books_closed(cluster)).findings + books.cases == []
    # The provider's own word: five were charged, nobody else, and nothing of anybody is still set aside.
    since = [intent for hold, intent in intents_of(provider_of(cluster)).items() if hold not in before]
    assert sum(one.received_minor > one.refunded_minor for one in since) == 5
    assert {one.status for one in since} <= {"succeeded", "canceled"}


@pytest.mark.timeout(240)
def test_eight_buyers_of_eight_services(cluster: ClusterUnderTest) -> None:
    """Whoever wants what nobody else wants gets it: all eight at once, each paid."""
    shows = [one.service_id for code in OPERATORS for day in (29, 30, 31, 32) for one in services_of(cluster, code, day)[:1]]
    assert len(set(shows)) == 8

    def alone(number: int) -> str:
        mine = cluster.client(f"owner-key-of-single-{number:04}", deadline_ms=30_000)
        return book(mine, [(shows[number], 2)], f"eight-{number:04}").state

    assert gathered(alone, 8, timeout_s=200) == ["confirmed"] * 8
    assert (books := books_closed(cluster)).findings + books.cases == []


def shop_until_nothing_is_left(cluster: ClusterUnderTest, number: int, services: list[str]) -> int:
    """Buy random trips, smaller and smaller, then single seats, until every service says that it is sold out; return the seats."""
    client = cluster.client(f"owner-key-of-network-{number:04}", deadline_ms=30_000)
    chance = random.Random(number)
    sold, turn, most = 0, 0, PARTY_MAX
    open_services = list(services)
    while open_services:
        turn += 1
        party = chance.randint(1, most)
        legs = chance.sample(open_services, min(len(open_services), chance.randint(1, 3)))
        try:
            book(client, [(service, party) for service in legs], f"network-{number:02}-{turn:04}")
            sold += party * len(legs)
        except (SeatUnavailable, NoAdjacentBlock) as error:
            if most > 1:
                most -= 1
            elif len(legs) == 1 and error.fields.get("free", 1) == 0:
                open_services.remove(legs[0])
    return sold


@pytest.mark.timeout(420)
def test_a_network_is_sold_out_to_the_last_seat_and_stays_so(cluster: ClusterUnderTest) -> None:
    """Random paid trips over five shows of two operators sell exactly 400 seats; after a kill -9 of everything they are still sold."""
    services = [one.service_id for day in (34, 35, 36) for code in OPERATORS for one in services_of(cluster, code, day)[:1]][:SHOWS]
    for service in services:
        left_free(cluster, service, NETWORK_SEATS // SHOWS)
    sold = gathered(lambda number: shop_until_nothing_is_left(cluster, number, services), BUYERS, timeout_s=300)
    assert sum(sold) == NETWORK_SEATS and sum(map(bool, sold)) > 1, sold
    assert_sold_out(cluster, services)
    names = list(cluster.running)
    cluster.kill(*names)
    cluster.restart(*names)
    for service in services:
        cluster.wait_serving(service)
    assert_sold_out(cluster, services)
    client = cluster.client(deadline_ms=20_000)
    for service in services:
        assert refusal_of(client, service) == "seat_unavailable"


def assert_sold_out(cluster: ClusterUnderTest, services: list[str]) -> None:
    """Fail unless the ledgers have each of the network's seats in exactly one order, and the books balance."""
    ledgers = wait_nothing_open(cluster, OPERATORS, CLOSED_S)
    assert faults_of(ledgers) == []
    ordered = ordered_seats(ledgers, services)
    assert (len(ordered), len(set(ordered))) == (NETWORK_SEATS, NETWORK_SEATS)
    assert booked_seats(ledgers, services) == set(ordered)
    assert (books := books_closed(cluster)).findings + books.cases == []


def refusal_of(client: api.Holdfast, service: str) -> str:
    """Return why no seat of a service can be held, as soon as somebody knows."""
    found: list[str] = []

    def known() -> bool:
        try:
            client.release(client.hold_any(service, 1).hold_id)
            found.append("held")
        except HoldfastError as error:
            if error.retryable or error.maybe_committed:
                return False
            found.append(error.code)
        return True

    wait_until(known, f"somebody to know whether {service} has seats", 30)
    return found[0]
