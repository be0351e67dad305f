"""What one balancer refuses is refused to every try of the request, also to one that is under way at another (Z3, Z8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from datastore import commands, messages, wire
from datastore.errors import HoldfastError, OperatorUnavailable, SeatUnavailable
from loadbalancer.proposing import is_no_room, may_choose_again
from tests.unit.loadbalancer.scenery import FLIGHT, OPERATOR_KEY, OTHER, Scene
from tests.unit.loadbalancer.test_best_available import ON, SEATS, Pair, pairs

KINDS = ("hold", "trip")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pairs("AR", "QR") as made:
        yield made


def ask(scene: Scene, kind: str, request_id: str, count: int = 1) -> list[list[str]]:
    """Ask for the best of one service, or of one of each operator; return the seats."""
    if kind == "hold":
        return [scene.hold(owner=OTHER, request_id=request_id, count=count, cabin="Y").seats]
    legs = [messages.LegWish(service_id=service, count=count, cabin="Y") for service in (FLIGHT, ON)]
    hold = scene.ask("hold_trip", messages.HoldTrip(request_id=request_id, owner_key=OTHER, legs=legs))
    assert isinstance(hold, messages.HoldAnswer)
    return [leg.seats for leg in hold.legs]


def before_hold(pair: Pair, operator: str, meddle: Callable[[], None]) -> None:
    """Call `meddle` once, when a hold of the first balancer is on its way to an operator."""

    def deliver(item: wire.SubmitItem) -> None:
        found: list[Any] = wire.decode(wire.COMMANDS, item.commands)
        if item.operator == operator and any(isinstance(one, wire.Hold | commands.HoldLegs) for one in found):
            pair.one.managers.deliver = lambda item: None
            meddle()

    pair.one.managers.deliver = deliver


def arrange(pair: Pair, *free: str) -> None:
    """Have exactly these seats free, and both balancers know it."""
    pair.arrange(sorted({*SEATS}.difference(free)))
    pair.catch_up()
    assert pair.one.server.balancer.follower.wait_for("AR", pair.managers.operators["AR"].lsn, 5_000)


def refused(scene: Scene, kind: str, request_id: str, count: int = 1) -> dict[str, Any]:
    with pytest.raises(HoldfastError) as caught:
        ask(scene, kind, request_id, count)
    return caught.value.to_data()


def block(pair: Pair, *seats: str) -> None:
    """Take seats out of sale by the second balancer: the first one's way to the operator is taken."""
    words = {"operator_key": OPERATOR_KEY, "service_id": FLIGHT}
    pair.two.ask("block", messages.BlockSeats(request_id=pair.two.request_id(), seats=list(seats), reason="crew", **words))


def unblock(pair: Pair, *seats: str) -> None:
    words = {"operator_key": OPERATOR_KEY, "service_id": FLIGHT}
    pair.two.ask("unblock", messages.UnblockSeats(request_id=pair.two.request_id(), seats=list(seats), **words))


def held(pair: Pair, operator: str = "AR", service: str = FLIGHT) -> set[str]:
    """Return the seats that are held or booked."""
    return {seat for seat, row in pair.managers.operators[operator].state.seats(service).items() if row.hold_id}


@pytest.mark.parametrize("kind", KINDS)
def test_a_try_that_is_under_way_meets_the_refusal(pair: Pair, kind: str) -> None:
    """Its hold is late; meanwhile another balancer says "sold out", and then the very seat is given back."""
    arrange(pair, "8C")
    told: list[dict[str, Any]] = []

    def meddle() -> None:
        block(pair, "8C")
        told.append(refused(pair.two, kind, "request-of-two-tries"))
        unblock(pair, "8C")

    before_hold(pair, "AR", meddle)
    late = refused(pair.one, kind, "request-of-two-tries")
    assert told[0]["code"] == late["code"] == "seat_unavailable"
    assert late["fields"]["free"] == told[0]["fields"]["free"] == 0
    assert held(pair) == set() and held(pair, "QR", ON) == set()
    for scene in (pair.one, pair.two):
        assert refused(scene, kind, "request-of-two-tries")["detail"] == told[0]["detail"]
    assert ask(pair.two, kind, "request-of-another")[0] == ["8C"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_try_that_was_faster_keeps_what_it_got(pair: Pair, kind: str) -> None:
    """Between the look that shows no room and the refusal another try of the request got the last seat."""
    arrange(pair)
    two, read, got = pair.two.server.balancer, pair.two.server.balancer.read_all, list[list[list[str]]]()

    def read_and_hold(items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        found = read(items, deadline_ms)
        if any(item.query == "seats" for item in items) and not got:
            pair.unblock("8C")
            got.append(ask(pair.one, kind, "request-of-two-tries"))
        return found

    two.read_all = read_and_hold  # type: ignore[method-assign]
    assert ask(pair.two, kind, "request-of-two-tries") == got[0]
    assert got[0][0] == ["8C"]


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_that_were_refused_lead_to_the_one_that_comes_next(pair: Pair, kind: str) -> None:
    """A try whose first choice was taken is under way with its second: that is the one that must not come true."""
    arrange(pair, "3A", "8C")
    told: list[dict[str, Any]] = []

    def second() -> None:
        block(pair, "8C")
        told.append(refused(pair.two, kind, "request-of-two-tries"))
        unblock(pair, "3A", "8C")

    def first() -> None:
        block(pair, "3A")
        before_hold(pair, "AR", second)

    before_hold(pair, "AR", first)
    late = refused(pair.one, kind, "request-of-two-tries")
    # What stood in the way on another leg may be told beside it.
    assert late["code"] == told[0]["code"] and late["detail"].startswith(told[0]["detail"])
    assert held(pair) == set()


def test_a_primary_that_cannot_be_asked_leaves_it_open(pair: Pair) -> None:
    """The refusal was not written down, so it is not told: the request may be asked again."""
    arrange(pair)
    submit = pair.managers.submit

    def cut(items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        pair.managers.cut.add("AR")
        try:
            return submit(items, deadline_ms)
        finally:
            pair.managers.cut.clear()

    pair.managers.submit = cut  # type: ignore[method-assign]
    with pytest.raises(OperatorUnavailable):
        ask(pair.two, "hold", "request-in-the-dark")
    pair.managers.submit = submit  # type: ignore[method-assign]
    pair.unblock("8C")
    assert ask(pair.two, "hold", "request-in-the-dark") == [["8C"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_primary_of_an_older_program(pair: Pair, kind: str) -> None:
    """It cannot read the refusal, which comes by itself: it is told all the same, as before, and nobody else's command is lost."""
    arrange(pair)
    submit = pair.managers.submit

    def older(items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        found = [wire.decode(wire.COMMANDS, item.commands) for item in items]
        if any(isinstance(one, commands.Refuse) for all_of in found for one in all_of):
            assert [len(all_of) for all_of in found] == [1]
            error: dict[str, Any] = {"code": "invalid_request", "detail": "the message cannot be read"}
            return [wire.SubmitResult(item.operator, b"", 0, 0, error) for item in items]
        return submit(items, deadline_ms)

    pair.managers.submit = older  # type: ignore[method-assign]
    with pytest.raises(SeatUnavailable, match="sold out"):
        ask(pair.two, kind, "request-in-an-upgrade")


def test_which_refusals_are_followed_by_another_choice() -> None:
    assert may_choose_again({"code": "seat_unavailable", "fields": {"seats": [], "freed": ["1A"]}})
    assert may_choose_again({"code": "seat_blocked", "fields": {"seats": [{"seat": "1A", "state": "blocked"}]}})
    assert not may_choose_again({"code": "seat_unavailable", "fields": {"seats": [], "free": 1}})
    assert not may_choose_again({"code": "no_adjacent_block", "fields": {"free": 3}})
    assert not may_choose_again({})
    assert is_no_room({"code": "no_adjacent_block", "fields": {"free": 3}})
    assert not is_no_room({"code": "hold_expired", "fields": {"why": "failed"}}) and not is_no_room({})


def trip_or_refusal(scene: Scene, request_id: str) -> list[list[str]] | HoldfastError:
    try:
        return ask(scene, "trip", request_id)
    except HoldfastError as error:
        return error


def test_an_attempt_that_was_given_up_is_no_refusal(pair: Pair) -> None:
    """An operator was down for both tries. What the late one was told of its attempt is not what the request is told from then on."""
    arrange(pair, "3A", "8C")
    told: list[Any] = []
    pair.one.managers.cut = pair.managers.cut = {"QR"}
    before_hold(pair, "AR", lambda: told.append(trip_or_refusal(pair.two, "request-of-two-tries")))
    told.append(trip_or_refusal(pair.one, "request-of-two-tries"))
    assert all(isinstance(one, OperatorUnavailable) for one in told)
    recorded = pair.managers.operators["AR"].answers["request-of-two-tries"][1]
    assert recorded.error["code"] == "hold_expired" and recorded.error["fields"]["why"] == "failed"
    pair.one.managers.cut = pair.managers.cut = set()
    seats = ask(pair.two, "trip", "request-of-two-tries")
    assert ask(pair.one, "trip", "request-of-two-tries") == seats


def test_an_attempt_that_was_given_up_leads_to_the_one_that_comes_next(pair: Pair) -> None:
    """As above, and when the request is asked again the last seat is gone: the late try must not get it afterwards."""
    arrange(pair, "8C")
    told: list[Any] = []

    def sold_out() -> None:
        block(pair, "8C")
        told.append(trip_or_refusal(pair.two, "request-of-two-tries"))
        unblock(pair, "8C")

    def operator_down() -> None:
        pair.managers.cut = {"QR"}
        told.append(trip_or_refusal(pair.two, "request-of-two-tries"))
        pair.managers.cut = set()
        before_hold(pair, "AR", sold_out)

    before_hold(pair, "AR", operator_down)
    late = trip_or_refusal(pair.one, "request-of-two-tries")
    assert isinstance(told[0], OperatorUnavailable)
    assert isinstance(told[1], SeatUnavailable) and isinstance(late, SeatUnavailable)
    assert held(pair) == set() and held(pair, "QR", ON) == set()
