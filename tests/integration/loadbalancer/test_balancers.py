"""Load balancers over real lock servers, nodes and managers: repeats, races, deaths, lost locks, malformed bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from datastore import messages, wire
from datastore.edge import Address
from datastore.errors import HoldfastError, LocksUnavailable, SeatUnavailable
from loadbalancer.basket import HoldDraft
from loadbalancer.stub import BalancerStub
from lockstore import config as locks_config
from lockstore.seatlocks import Grant, LockRequest
from lockstore.servers import lock_client
from manager.stub import ManagerStub
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

OVERLAY = {
    "lockstore": {"ttl_ms": 2_000},
    "loadbalancer": {"owner_holds_max": 10_000, "service_holds_max": 10_000},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """One cluster for the module; each test sells services of its own day."""
    folder: Path = tmp_path_factory.mktemp("balancers")
    with ClusterUnderTest(folder, OVERLAY, datasets=("venues",)) as running:
        yield running




def stub(cluster: ClusterUnderTest, *names: str) -> BalancerStub:
    processes = [cluster.plan.process(name) for name in names or ("balancer-1", "balancer-2")]
    return BalancerStub([Address(process.host, process.port) for process in processes])


def services(ask: BalancerStub, operator: str, first_day: int) -> list[messages.ServiceInfo]:
    """Return an operator's services of the first day from `first_day` days ahead that has any."""
    for days in range(first_day, first_day + 14):
        day = (date.today() + timedelta(days)).isoformat()
        answer = ask.call("services", messages.ListServices(date=day, operator=operator))
        assert isinstance(answer, messages.ServicesAnswer)
        if answer.services:
            return answer.services
    raise AssertionError(f"{operator} has no services")


def seats_of(ask: BalancerStub, service_id: str) -> list[str]:
    answer = ask.call("seat_map", messages.SeatMap(service_id=service_id))
    assert isinstance(answer, messages.SeatMapAnswer)
    return [seat.seat_id for seat in answer.seats]


def hold(ask: BalancerStub, request_id: str, service_id: str, seats: list[str], owner: str = "owner-of-the-tests-1") -> messages.HoldAnswer:
    request = messages.HoldSeats(request_id=request_id, owner_key=owner, service_id=service_id, seats=seats)
    answer = ask.call("hold", request)
    assert isinstance(answer, messages.HoldAnswer)
    return answer


def test_a_repeat_at_the_twin_is_the_same_hold(cluster: ClusterUnderTest) -> None:
    """A hold made at one balancer is given again by the other for the same request id, and refused to anybody else there."""
    one, two = stub(cluster, "balancer-1"), stub(cluster, "balancer-2")
    service = services(one, "GRAND", 3)[0].service_id
    first_seats = seats_of(one, service)[:2]
    first = hold(one, "repeat-at-the-twin", service, first_seats)
    assert hold(two, "repeat-at-the-twin", service, first_seats).hold_id == first.hold_id
    with pytest.raises(SeatUnavailable):
        hold(two, "somebody-else-0001", service, first_seats[:1], owner="owner-of-the-tests-2")
    seen = two.call("seat_map", messages.SeatMap(service_id=service, owner_key="owner-of-the-tests-1", min_lsn=first.lsn))
    assert isinstance(seen, messages.SeatMapAnswer) and seen.partial == {}
    assert [seat.seat_id for seat in seen.seats if seat.mine] == first_seats


def test_a_rush_for_the_same_seats_at_both_balancers(cluster: ClusterUnderTest) -> None:
    """Sixteen buyers at two balancers want the same overlapping seats: each seat is sold once, and each buyer hears the truth."""
    one = stub(cluster, "balancer-1")
    service = services(one, "LUM", 4)[0].service_id
    wanted = seats_of(one, service)[:6]
    won: list[str] = []
    lost: list[HoldfastError] = []

    def buy(number: int) -> None:
        ask = stub(cluster, f"balancer-{1 + number % 2}")
        pair = [wanted[number % 5], wanted[number % 5 + 1]]
        try:
            won.extend(hold(ask, f"rush-request-{number:04d}", service, pair, owner=f"owner-of-the-rush-{number}").seats)
        except SeatUnavailable as error:
            lost.append(error)
        finally:
            ask.close()

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) == len(set(won)) and len(won) // 2 + len(lost) == 16
    assert 2 <= len(won) // 2 <= 3


def test_any_seats_sell_out_exactly_over_both_balancers(cluster: ClusterUnderTest) -> None:
    """Buyers of "any" at both balancers get exactly the seats that there are, and "sold out" is the truth at the end."""
    one = stub(cluster)
    service = services(one, "LUM", 6)[-1]
    sold: list[str] = []
    refused: list[HoldfastError] = []

    def buy(number: int) -> None:
        ask = stub(cluster, f"balancer-{1 + number % 2}")
        for turn in range(1_000):
            request = messages.HoldSeats(
                request_id=f"sell-out-{number}-{turn}", owner_key=f"owner-of-sell-out-{number}", service_id=service.service_id, count=3
            )
            try:
                answer = ask.call("hold", request)
            except SeatUnavailable as error:
                refused.append(error)
                break
            assert isinstance(answer, messages.HoldAnswer)
            sold.extend(answer.seats)
        ask.close()

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 4 and all(error.fields["free"] == service.capacity % 3 for error in refused)
    assert len(sold) == len(set(sold)) == service.capacity - service.capacity % 3


def test_a_holder_that_slept_through_its_lock_is_refused(cluster: ClusterUnderTest) -> None:
    """A lock that ran out while another bought and gave back the seat carries an old fence: the data node refuses it (Z7)."""
    ask = stub(cluster)
    service = services(ask, "GRAND", 8)[0].service_id
    seat = seats_of(ask, service)[0]
    locks = lock_client(locks_config.from_toml(cluster.mapping), cluster.folders.data)
    managers = ManagerStub([Address(one.host, one.port) for one in cluster.plan.processes if one.name.startswith("manager-")])
    try:
        key = f"seat:GRAND/{service}/{seat}"
        (slept,) = locks.acquire_many([LockRequest((key,))], ttl_ms=500)
        assert isinstance(slept, Grant)
        bought = hold(ask, "after-the-sleeper-01", service, [seat], owner="owner-of-the-tests-2")
        released = ask.call(
            "release",
            messages.ReleaseHold(request_id="given-back-again-1", owner_key="owner-of-the-tests-2", hold_id=bought.hold_id),
        )
        assert isinstance(released, messages.HoldAnswer) and released.state == "released"
        draft = HoldDraft("sleeper-request-1", b"digest", "GRAND.sleeper", "sleeper", service, (seat,), 60_000, "USD", (1,), 0, 9, 9)
        command = draft.fenced(*slept.fence, slept.nonce)
        (result,) = managers.submit([wire.SubmitItem("GRAND", wire.encode([command]))], 5_000)
        (outcome,) = wire.decode(wire.OUTCOMES, result.outcomes)
        assert outcome.error["code"] == "stale_fence"
        assert tuple(outcome.error["fields"]["fence"]) > slept.fence
    finally:
        locks.close()
        managers.close()


def test_malformed_bytes_leave_the_balancer_serving(cluster: ClusterUnderTest) -> None:
    """Noise on the port ends that connection and nothing else."""
    process = cluster.plan.process("balancer-1")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\xff" * 64, b"\x00\x00\x00\x05\x01abcde\n"):
        with socket.create_connection((process.host, process.port), timeout=5) as sock:
            sock.sendall(noise)
            sock.settimeout(10)
            assert sock.recv(1024)[:1] in (b"", b"\x00")
    ask = stub(cluster, "balancer-1")
    answer = ask.call("operators", messages.Operators())
    assert isinstance(answer, messages.OperatorsAnswer) and len(answer.operators) == 4


def test_lock_servers_without_a_quorum(cluster: ClusterUnderTest) -> None:
    """With two of three lock servers dead a hold is refused within its deadline as locks_unavailable; then it goes on."""
    ask = stub(cluster)
    service = services(ask, "GRAND", 10)[0].service_id
    seat = seats_of(ask, service)[0]
    cluster.kill("lock-1", "lock-2")
    try:
        request = messages.HoldSeats(
            request_id="without-quorum-01", owner_key="owner-of-the-tests-1", service_id=service, seats=[seat], deadline_ms=2_000
        )
        with pytest.raises(LocksUnavailable) as refused:
            ask.call("hold", request)
        assert set(refused.value.fields["reasons"]) >= {"lock-1", "lock-2"}
    finally:
        cluster.restart("lock-1", "lock-2")

    def sells() -> bool:
        try:
            return bool(hold(ask, "with-quorum-again", service, [seat]).seats)
        except LocksUnavailable:
            return False

    wait_until(sells, "the lock servers to be used again", 30)


def test_a_balancer_that_is_killed_is_replaced_by_its_twin(cluster: ClusterUnderTest) -> None:
    """Callers go on through the death of a balancer with the same request ids: every answer is a hold, and no seat comes twice."""
    ask = stub(cluster)
    service = services(ask, "GRAND", 12)[0].service_id
    seats = seats_of(ask, service)[:240]
    answers: list[messages.HoldAnswer] = []
    failures: list[HoldfastError] = []
    half_way = threading.Event()

    def buy(number: int) -> None:
        mine = stub(cluster)
        for seat in seats[number::4]:
            try:
                answers.append(hold(mine, f"killed-balancer-{seat}", service, [seat], owner=f"owner-of-the-kill-{number}"))
            except HoldfastError as error:
                failures.append(error)
            if len(answers) > 60:
                half_way.set()
        mine.close()

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert half_way.wait(30)
    cluster.kill("balancer-1")
    try:
        for thread in threads:
            thread.join(60)
    finally:
        cluster.restart("balancer-1")
    assert failures == []
    assert sorted(seat for answer in answers for seat in answer.seats) == sorted(seats)


def test_views_follow_another_node_when_theirs_dies(cluster: ClusterUnderTest) -> None:
    """With an operator's primary dead its views go on at another node, and sales go on when another primary serves."""
    ask = stub(cluster)
    service = services(ask, "LUM", 10)[0].service_id
    first, second = seats_of(ask, service)[:2]
    hold(ask, "before-the-node-dies", service, [first])
    status = ask.call("status", messages.Status())
    assert isinstance(status, messages.StatusAnswer)
    (primary,) = [line.primary for line in status.partitions if line.operator == "LUM"]
    cluster.kill(primary)
    try:
        after: list[messages.HoldAnswer] = []

        def sells() -> bool:
            try:
                after.append(hold(ask, "after-the-node-died", service, [second]))
            except HoldfastError as error:
                assert error.retryable, error
            return bool(after)

        wait_until(sells, "the operator to sell again", 30)

        def seen() -> bool:
            shown = ask.call("seat_map", messages.SeatMap(service_id=service, owner_key="owner-of-the-tests-1", min_lsn=after[0].lsn))
            assert isinstance(shown, messages.SeatMapAnswer)
            return not shown.partial and {first, second} <= {seat.seat_id for seat in shown.seats if seat.mine}

        wait_until(seen, "the view to show it", 15)
    finally:
        cluster.restart(primary)
