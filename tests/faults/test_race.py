"""Many buyers at once over both balancers: every seat is sold once, nobody hears a falsehood, repeats have one effect."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from client import api
from datastore import messages
from datastore.errors import HoldfastError, IdempotencyKeyReused, NoAdjacentBlock, SeatUnavailable
from tests.checkers import Answer, Final, History, Operation, check
from tests.faults.buyers import BOTH, Buyer, assert_sound, done_of, gathered, running, seats_of, services_of, together
from tests.integration.harness import ClusterUnderTest
from tests.unit.loadbalancer.cabins import assert_best, groups_of
from tests.waiting import wait_until

BUYERS = 30
ROUNDS = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("race")) as made:
        yield made


def test_thirty_buyers_for_the_same_ten_seats(cluster: ClusterUnderTest) -> None:
    """In each round every seat is sold exactly once, each loser hears seat_unavailable, and map and manifest agree with it."""
    history = History()
    buyers = [Buyer(cluster, history, f"race-{number}", [BOTH[number % 2]]) for number in range(BUYERS)]
    for service in services_of(cluster, "LUM", 3)[:ROUNDS]:
        wanted = seats_of(cluster, service.service_id)[20:30]

        def buy(number: int, service_id: str = service.service_id, wanted: list[str] = wanted) -> None:
            buyer = buyers[number]
            # Everybody wants them all, beginning elsewhere; every third buys two at a time, so that baskets overlap.
            size = 2 if number % 3 == 0 else 1
            for place in range(0, len(wanted), size):
                seats = [wanted[(number + place + more) % len(wanted)] for more in range(size)]
                try:
                    hold = buyer.hold(service_id, seats)
                except SeatUnavailable:
                    continue
                buyer.confirm(hold)

        together(buy, BUYERS)
        assert set(history.codes(service.service_id)) == {"", "seat_unavailable"}
        sold = [seat for one in done_of(history, service.service_id, "confirm") for seat in one.seats]
        assert sorted(sold) == sorted(wanted)
        assert_sound(cluster, history, service.service_id, buyers)


def test_seats_change_hands_and_never_have_two_owners(cluster: ClusterUnderTest) -> None:
    """Holds, releases, orders and cancellations of the same six seats: one owner at a time, and nobody is refused a free seat."""
    history = History()
    service = services_of(cluster, "GRAND", 3)[0].service_id
    wanted = seats_of(cluster, service)[100:106]
    buyers = [Buyer(cluster, history, f"hands-{number}", [BOTH[number % 2]]) for number in range(12)]

    def buy(number: int) -> None:
        buyer = buyers[number]
        for turn in range(8):
            seats = [wanted[(number + turn) % 6], wanted[(number + turn + 1 + turn % 2) % 6]]
            try:
                hold = buyer.hold(service, seats)
            except SeatUnavailable:
                continue
            if turn % 2:
                buyer.cancel(hold, buyer.confirm(hold))
            else:
                buyer.release(hold)

    together(buy, len(buyers))
    assert set(history.codes(service)) <= {"", "seat_unavailable"}
    final = assert_sound(cluster, history, service, buyers)
    assert not final.manifest and not final.held


def test_any_seats_sell_out_exactly(cluster: ClusterUnderTest) -> None:
    """Buyers of "any" at both balancers get every seat of a hall, none is refused while seats are free; then it is sold out."""
    history = History()
    service = min(services_of(cluster, "LUM", 9), key=lambda one: one.capacity)
    buyers = [Buyer(cluster, history, f"sell-out-{number}", [BOTH[number % 2]]) for number in range(8)]
    ends: list[HoldfastError] = []

    def buy(number: int) -> None:
        while True:
            try:
                hold = buyers[number].hold_any(service.service_id, 1 + number % 2)
            except SeatUnavailable as error:
                ends.append(error)
                # Who wants two may be told that one is left; who wants one hears the end of it.
                assert error.fields["free"] < 1 + number % 2
                return
            buyers[number].confirm(hold)

    together(buy, len(buyers))
    sold = [seat for one in done_of(history, service.service_id, "confirm") for seat in one.seats]
    assert len(sold) == len(set(sold)) == service.capacity
    assert len(ends) == len(buyers)
    with pytest.raises(SeatUnavailable, match="sold out"):
        buyers[0].hold_any(service.service_id, 1)
    final = assert_sound(cluster, history, service.service_id, buyers)
    assert set(final.states.values()) == {"occupied"}


def test_any_is_the_best_at_that_very_moment(cluster: ClusterUnderTest) -> None:
    """Seats go and come back at one balancer; asked at once, the other leaves a single seat only where it must be."""
    service = services_of(cluster, "LUM", 11)[0]
    first, second = (cluster.client("owner-of-the-best", [name]) for name in BOTH)
    seats, key, dice = first.seat_map(service.service_id).seats, cluster.operator_key("LUM"), random.Random(7)
    blocked: set[str] = set()
    refused = 0
    for turn in range(40):
        share = dice.choice([0.3, 0.6, 0.8])
        wanted = {seat.seat_id for seat in seats if dice.random() < share}
        gone, new = sorted(blocked - wanted), sorted(wanted - blocked)
        for at in range(0, max(len(gone), len(new)), 100):
            if gone[at:]:
                first.unblock(key, service.service_id, gone[at : at + 100])
            if new[at:]:
                first.block(key, service.service_id, new[at : at + 100], "crew")
        blocked = wanted
        count, cabin = 1 + turn % 4, dice.choice(["", seats[-1].cabin])
        try:
            hold = second.hold_any(service.service_id, count, cabin=cabin, together=True)
        except NoAdjacentBlock:
            refused += 1
            assert not groups_of(seats, blocked, count, cabin)
        else:
            assert_best(seats, blocked, hold.seats, count, cabin)
            second.release(hold.hold_id)
    assert refused < 20


def test_any_gets_what_a_hold_kept_whose_time_is_over(cluster: ClusterUnderTest) -> None:
    """The moment a hold of the last seats is over, the best available are these, at the balancer that has heard of nothing too."""
    service = services_of(cluster, "LUM", 12)[0].service_id
    first, second = (cluster.client(f"owner-of-the-last-seats-{name}", [name]) for name in BOTH)
    seats, key = seats_of(cluster, service), cluster.operator_key("LUM")
    last = seats[:4]
    for at in range(4, len(seats), 100):
        first.block(key, service, seats[at : at + 100], "crew")
    for buyer in (second, first, second):
        kept = first.hold(service, last, ttl_ms=1_000)
        wait_until(lambda hold_id=kept.hold_id: first.get_hold(hold_id).state == "expired", "the hold to be over", 10)  # type: ignore[misc]
        taken = buyer.hold_any(service, 4)
        assert sorted(taken.seats) == sorted(last)
        buyer.release(taken.hold_id)


def _hold(clients: list[api.Holdfast], service: str, seats: list[str], request_id: str, number: int) -> messages.HoldAnswer:
    return clients[number].hold(service, seats, request_id=request_id)


def _hold_any(clients: list[api.Holdfast], service: str, request_id: str, number: int) -> messages.HoldAnswer:
    return clients[number].hold_any(service, 2, request_id=request_id)


def _confirm(
    clients: list[api.Holdfast], hold_id: str, names: list[api.Passenger], request_id: str, number: int
) -> messages.OrderAnswer:
    return clients[number].confirm(hold_id, names, request_id=request_id)


def _release(clients: list[api.Holdfast], hold_id: str, request_id: str, number: int) -> messages.HoldAnswer:
    return clients[number].release(hold_id, request_id=request_id)


def test_one_request_id_has_one_effect(cluster: ClusterUnderTest) -> None:
    """The same request sent to both balancers at once, many times, is one hold, one order, one release: one answer."""
    service = services_of(cluster, "GRAND", 5)[0].service_id
    seats = seats_of(cluster, service)[:40]
    clients = [cluster.client("owner-of-the-repeats", [BOTH[number % 2]]) for number in range(6)]
    names = [api.Passenger("Byron", "Ada"), api.Passenger("Babbage", "Charles")]
    for turn in range(8):
        mine = seats[2 * turn : 2 * turn + 2]
        holds = gathered(partial(_hold, clients, service, mine, f"repeat-hold-{turn}"), 6)
        assert len({(one.hold_id, one.lsn, one.expires_ms, tuple(one.seats)) for one in holds}) == 1
        hold_id = holds[0].hold_id
        if turn % 2:
            orders = gathered(partial(_confirm, clients, hold_id, names, f"repeat-confirm-{turn}"), 6)
            assert len({(one.reference, one.manage_token, one.lsn, one.receipt) for one in orders}) == 1
        else:
            ends = gathered(partial(_release, clients, hold_id, f"repeat-release-{turn}"), 6)
            assert {one.state for one in ends} == {"released"}
    manifest = clients[0].manifest(cluster.operator_key("GRAND"), service)
    assert len({line.reference for line in manifest.lines}) == 4
    assert manifest.held == 0


def test_a_repeat_of_any_seats_is_the_same_hold(cluster: ClusterUnderTest) -> None:
    """Best available under one request id, at both balancers at once: the same seats, held once."""
    service = services_of(cluster, "GRAND", 7)[0].service_id
    clients = [cluster.client("owner-of-the-repeats", [BOTH[number % 2]]) for number in range(6)]
    made: set[str] = set()
    for turn in range(6):
        holds = gathered(partial(_hold_any, clients, service, f"repeat-any-{turn}"), 6)
        assert len({(one.hold_id, tuple(one.seats)) for one in holds}) == 1
        made.add(holds[0].hold_id)
    assert {one.hold_id for one in clients[0].my_holds().holds if one.service_id == service} == made


def test_a_request_id_with_another_body_is_refused(cluster: ClusterUnderTest) -> None:
    """The second body has no effect, at either balancer, also when both come at once."""
    service = services_of(cluster, "GRAND", 9)[0].service_id
    seats = seats_of(cluster, service)
    one, two = (cluster.client("owner-of-the-reuse", [name]) for name in BOTH)
    first = one.hold(service, seats[:1], request_id="used-for-two-bodies")
    for client in (one, two):
        with pytest.raises(IdempotencyKeyReused):
            client.hold(service, seats[1:2], request_id="used-for-two-bodies")
    won: list[messages.HoldAnswer] = []
    refused: list[str] = []
    mutex = threading.Lock()

    def ask(number: int) -> None:
        try:
            answer = (one, two)[number % 2].hold(service, [seats[2 + number]], request_id="used-at-the-same-time")
        except HoldfastError as error:
            with mutex:
                refused.append(error.code)
        else:
            with mutex:
                won.append(answer)

    together(ask, 6)
    assert (1, ["idempotency_key_reused"] * 5) == (len(won), refused)
    assert {first.hold_id, won[0].hold_id} == {hold.hold_id for hold in one.my_holds().holds}
    held = [seat.seat_id for seat in two.seat_map(service, min_lsn=won[0].lsn).seats if seat.state == "held"]
    assert sorted(held) == sorted([seats[0], *won[0].seats])


def test_the_checker_itself() -> None:
    """A history with a double sale, a lost order, a lie and a ghost is caught in each."""
    history = History()
    first, second = (history.ask(Operation(name, "hold", f"request-{name}", "S", ("1A",))) for name in ("a", "b"))
    history.done(first, hold_id="H1")
    assert check(history, "S", Final({"1A": "held"}, {})) == []
    history.done(second, hold_id="H2")
    assert "sold twice" in check(history, "S")[0]
    history.failed(second, "seat_unavailable", maybe=False)
    assert check(history, "S", Final({"1A": "held"}, {})) == []
    assert "acknowledged" in check(history, "S", Final({"1A": "available"}, {}))[0]
    lied = history.ask(Operation("c", "hold", "request-c", "S", ("2A",)))
    history.failed(lied, "seat_unavailable", maybe=False)
    assert "nobody else can have had" in check(history, "S")[0]
    ghost = Final({"1A": "held", "3A": "occupied"}, {"3A": "GHOST1"})
    assert any("nobody was told" in fault for fault in check(history, "S", ghost))
    assert history.of("S", "hold", Answer.DONE) == [first]
