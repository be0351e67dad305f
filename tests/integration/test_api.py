"""The Python client against a real cluster: the brief's four calls, bulk holds, repeats by request id, a balancer's death."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest

from client import api
from datastore.errors import HoldfastError, IdempotencyKeyReused, InvalidRequest, SeatUnavailable
from datastore.model import Passenger
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

DAY = (date.today() + timedelta(days=5)).isoformat()
SERVICE = f"AR1140-EZE-{DAY}"
SHOW = f"LUMKITE1400-LUMEN1-{DAY}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def test_the_four_calls_of_the_brief(cluster: ClusterUnderTest) -> None:
    """Free seats, reserve, confirm, cancel: what is cancelled is free again, and what is confirmed is not."""
    client = cluster.client()
    free = client.free_seats(SERVICE)
    hold = client.reserve(SERVICE, free[:2])
    assert free[2:] == [seat.seat_id for seat in client.seat_map(SERVICE, min_lsn=hold.lsn).seats if seat.state == "available"]
    order = client.confirm_reserve(hold.hold_id, [api.Passenger("Byron", "Ada"), api.Passenger("Babbage", "Charles")])
    assert free[:2] == order.seats
    client.cancel_reserve(order.reference, order.manage_token)
    second = client.reserve(SERVICE, free[:1])
    assert "released" == getattr(client.cancel_reserve(second.hold_id), "state", "")
    with pytest.raises(InvalidRequest, match="manage token"):
        client.cancel_reserve(order.reference)


def test_a_repeat_with_the_same_request_id_gives_the_first_answer(cluster: ClusterUnderTest) -> None:
    """At another balancer too; another question under the same id is refused."""
    one, other = (cluster.client(balancers=[name]) for name in ("balancer-1", "balancer-2"))
    seats = one.free_seats(SERVICE)[:3]
    request_id = api.new_request_id()
    first = one.hold(SERVICE, seats[:2], request_id=request_id)
    again = other.hold(SERVICE, seats[:2], request_id=request_id)
    assert (first.hold_id, first.seats, first.lsn) == (again.hold_id, again.seats, again.lsn)
    with pytest.raises(IdempotencyKeyReused):
        other.hold(SERVICE, seats[2:], request_id=request_id)
    one.release(first.hold_id)


def test_a_client_sees_its_own_writes(cluster: ClusterUnderTest) -> None:
    """Whichever balancer answers next: what was held is not free, what was released is, without a word about lsns."""
    client = cluster.client()
    for seat in client.free_seats(SERVICE)[:12]:
        hold = client.hold(SERVICE, [seat])
        assert seat not in client.free_seats(SERVICE)
        assert ("held", True) == ((found := client.query_seat(SERVICE, seat).seat).state, found.mine)
        client.release(hold.hold_id)
        assert "available" == client.query_seat(SERVICE, seat).seat.state


def test_bulk_holds_stand_or_fall_alone(cluster: ClusterUnderTest) -> None:
    """64 holds in one message: the one that asks for a taken seat is refused, the others are not."""
    clients = [cluster.client(owner_key=f"bulk-owner-number-{number}") for number in range(8)]
    seats = clients[0].free_seats(SHOW)[:48]
    asked = [clients[number % 8].hold_request(SHOW, [seat]) for number, seat in enumerate(seats)]
    results = clients[0].hold_many([*asked, clients[0].hold_request(SHOW, [seats[0]])])
    assert [[seat] for seat in seats] == [result.hold.seats for result in results[:-1] if result.hold is not None]
    assert "seat_unavailable" == results[-1].error["code"]
    for number, result in enumerate(results[:-1]):
        assert result.hold is not None
        clients[number % 8].release(result.hold.hold_id)


def test_threads_that_share_a_client_hold_at_the_same_time(cluster: ClusterUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their holds travel together; each owner gets its own seats, and of all who want one and the same, one."""
    shared = cluster.client()
    one, *seats = shared.free_seats(SHOW)[:61]
    sent: list[int] = []
    ask = shared._stub._ask

    def counted(client: Any, method: str, request: Any, try_ms: int) -> Any:
        sent.append(len(request.holds) if method == "hold_many" else 1 if method == "hold" else 0)
        return ask(client, method, request, try_ms)

    monkeypatch.setattr(shared._stub, "_ask", counted)
    owners = [api.Holdfast(shared._stub, f"one-of-many-owners-{number}") for number in range(12)]
    start = threading.Barrier(len(owners))

    def buy(number: int) -> tuple[list[str], str]:
        start.wait(60)
        mine = [owners[number].hold(SHOW, [seat], request_id=f"share-of-{seat}").hold_id for seat in seats[number::12]]
        try:
            return mine, owners[number].hold(SHOW, [one], request_id=f"fight-of-{number}").hold_id
        except SeatUnavailable as error:
            assert error.request_id == f"fight-of-{number}"
            return mine, ""

    with ThreadPoolExecutor(len(owners)) as pool:
        bought = list(pool.map(buy, range(len(owners))))
    assert sum(won != "" for _, won in bought) == 1
    for owner, (mine, won) in zip(owners, bought, strict=True):
        found = {hold.hold_id for hold in owner.my_holds().holds}
        assert found == {*mine, won} - {""}
        for hold_id in found:
            owner.release(hold_id)
    assert sum(sent) >= 60 + 12
    assert max(sent) > 1


def test_a_hold_of_each_seat_in_one_request(cluster: ClusterUnderTest) -> None:
    """As many as an owner may have; the rest is refused one by one. A repeat gives the first answer; the map shows them as mine."""
    client = cluster.client(owner_key="owner-of-many-holds")
    seats = client.free_seats(SHOW)[:12]
    results = client.hold_each(SHOW, [*seats[:2], seats[2:4], *seats[4:]], request_id="request-each")
    held = [result.hold for result in results if result.hold is not None]
    assert [[seats[0]], [seats[1]], seats[2:4], *([seat] for seat in seats[4:11])] == [hold.seats for hold in held]
    assert ["hold_limit_reached"] == [result.error["code"] for result in results if result.error]
    assert client.query_seat(SHOW, seats[0]).seat.mine
    assert results == client.hold_each(SHOW, [*seats[:2], seats[2:4], *seats[4:]], request_id="request-each")
    order = client.confirm(held[2].hold_id, [Passenger("Byron", "Ada"), Passenger("King", "William")])
    assert seats[2:4] == order.seats
    longer = client.extend(held[0].hold_id, 1_200_000)
    assert longer.expires_ms > held[0].expires_ms
    assert {hold.hold_id for hold in held} - {held[2].hold_id} == {hold.hold_id for hold in client.my_holds().holds}
    for hold in held:
        if hold.hold_id != held[2].hold_id:
            client.release(hold.hold_id)
    assert set(client.free_seats(SHOW)) >= set(seats) - set(seats[2:4])


def test_an_error_of_a_write_carries_its_request_id(cluster: ClusterUnderTest) -> None:
    """What the caller needs to ask again, and the seat in its way."""
    ada, bob = cluster.client(owner_key="ada-ada-ada-ada-ada"), cluster.client(owner_key="bob-bob-bob-bob-bob")
    seat = ada.free_seats(SERVICE)[0]
    hold = ada.hold(SERVICE, [seat])
    with pytest.raises(SeatUnavailable) as caught:
        bob.hold(SERVICE, [seat], request_id="request-of-bob")
    assert "request-of-bob" == caught.value.request_id
    assert [seat] == [row["seat"] for row in caught.value.fields["seats"]]
    ada.release(hold.hold_id)


def hold_one(client: api.Holdfast, request_id: str) -> str:
    """Hold one seat, asked again once under the same request id where that is said to help.

    A balancer that is killed between its answer and the release of its locks leaves them for the rest of their ttl of 5 s;
    its twin, whose view may be older, can choose that very seat and then waits for the lock.
    """
    try:
        return client.hold_any(SERVICE, 1, request_id=request_id).hold_id
    except HoldfastError as error:
        assert error.retryable, error.to_data()
        return client.hold_any(SERVICE, 1, request_id=request_id).hold_id


def test_a_dead_or_frozen_balancer_costs_no_more_than_a_retry(cluster: ClusterUnderTest) -> None:
    """Its twin answers within the deadline, and nothing is held twice."""
    client = cluster.client(deadline_ms=8_000)
    cluster.freeze("balancer-1")
    try:
        held = [client.hold_any(SERVICE, 1).hold_id for _ in range(3)]
    finally:
        cluster.thaw("balancer-1")
    cluster.kill("balancer-2")
    try:
        held.append(hold_one(client, api.new_request_id()))
    finally:
        cluster.restart("balancer-2")
    cluster.wait_ready()
    assert 4 == len(set(held))
    assert sorted(held) == sorted(hold.hold_id for hold in client.my_holds().holds if hold.service_id == SERVICE)
    for hold_id in held:
        client.release(hold_id)
    # A release answers with the lsn of its hold, so a view can be asked for the release only by looking until it is there.
    capacity = client.seat_map(SERVICE).service.capacity
    wait_until(lambda: capacity == len(client.free_seats(SERVICE)), "all seats to be free again", 5)


def test_the_dead_cluster_is_said_to_be_dead_soon() -> None:
    """Nobody listens: an error that is safe to repeat, long before the deadline."""
    with api.connect(["127.0.0.1:9"], deadline_ms=10_000) as client, pytest.raises(HoldfastError) as caught:
        client.free_seats(SERVICE)
    assert (True, False) == (caught.value.retryable, caught.value.maybe_committed)
