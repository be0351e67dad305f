"""Best available where the balancer's view is behind: what it chose from is proved under the lock, at the primary (Z8)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from datastore import messages, wire
from datastore.errors import InvalidRequest, NoAdjacentBlock, SeatUnavailable
from datastore.model import Layout
from loadbalancer.proposing import CHOICES_PROVED
from tests.unit.loadbalancer.cabins import assert_best, groups_of
from tests.unit.loadbalancer.local_tiers import LocalManagers
from tests.unit.loadbalancer.scenery import CABIN, DAY, FLIGHT, OPERATOR_KEY, OTHER, Scene, scene
from tests.waiting import wait_until

LAYOUT = Layout(CABIN)
SEATS = [seat.seat_id for seat in LAYOUT.seats]
ON = f"QR1140-EZE-{DAY}"


class Lagging(LocalManagers):
    """Managers whose feed brings nothing while `deaf`."""

    def __init__(self, others: LocalManagers) -> None:
        super().__init__(())
        self.operators = others.operators
        self.deaf = False

    def feed(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        parts = super().feed(request)
        return [] if self.deaf else parts


class Pair(NamedTuple):
    """Two balancers; the second's views stand still while `managers.deaf`."""

    one: Scene
    two: Scene
    managers: Lagging

    def arrange(self, taken: Sequence[str], service: str = FLIGHT) -> None:
        """Have exactly these seats blocked, so that the second balancer does not hear of it."""
        operator = service[:2]
        words = {"operator_key": OPERATOR_KEY, "service_id": service}
        state = self.managers.operators[operator].state
        wait_until(lambda: not state.legs and not state.baskets, "the trip before is released on all legs", 10)
        view = self.two.server.balancer.catalogue.operators[operator]
        self.catch_up(operator)
        before = {*(view.taken.get(service) or ())}
        if gone := sorted(before - {*taken}):
            self.one.ask("unblock", messages.UnblockSeats(request_id=self.one.request_id(), seats=gone, **words))
        if new := sorted({*taken} - before):
            self.one.ask("block", messages.BlockSeats(request_id=self.one.request_id(), seats=new, reason="crew", **words))
        assert before == {*(view.taken.get(service) or ())}

    def catch_up(self, operator: str = "AR") -> None:
        """Have the second balancer hear of everything up to now, and of nothing after."""
        self.managers.deaf = False
        assert self.two.server.balancer.follower.wait_for(operator, self.managers.operators[operator].lsn, 5_000)
        self.managers.deaf = True

    def block(self, *seats: str) -> None:
        words = {"operator_key": OPERATOR_KEY, "service_id": FLIGHT}
        self.one.ask("block", messages.BlockSeats(request_id=self.one.request_id(), seats=list(seats), reason="crew", **words))

    def unblock(self, *seats: str) -> None:
        words = {"operator_key": OPERATOR_KEY, "service_id": FLIGHT}
        self.one.ask("unblock", messages.UnblockSeats(request_id=self.one.request_id(), seats=list(seats), **words))

    def release(self, hold: messages.HoldAnswer) -> None:
        self.one.ask("release", messages.ReleaseHold(request_id=self.one.request_id(), owner_key=OTHER, hold_id=hold.hold_id))


@contextmanager
def pairs(*operators: str, reconciles: bool = True) -> Iterator[Pair]:
    with scene(operators, reconciles=reconciles) as one:
        managers = Lagging(one.managers)
        with scene(operators, managers=managers, reconciles=reconciles) as two:
            yield Pair(one, two, managers)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pairs("AR") as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_what_the_view_does_not_show_yet(pair: Pair, seed: int) -> None:
    """Seats are taken and given back, and at once the other balancer is asked: it answers as if it had seen it all."""
    dice = random.Random(seed)
    for _ in range(25):
        taken = frozenset(seat for seat in SEATS if dice.random() < dice.choice([0.3, 0.6, 0.9]))
        pair.arrange(sorted(taken))
        count, cabin, together = dice.randint(1, 4), dice.choice(["", "J", "Y"]), dice.random() < 0.5
        free = sum(seat.seat_id not in taken and cabin in ("", seat.cabin) for seat in LAYOUT.seats)
        try:
            hold = pair.two.hold(owner=OTHER, count=count, cabin=cabin, together=together)
        except NoAdjacentBlock:
            assert together and not groups_of(LAYOUT.seats, taken, count, cabin)
        except SeatUnavailable as error:
            assert free < count and error.fields["free"] == free
        else:
            assert_best(LAYOUT.seats, taken, hold.seats, count, cabin)
            pair.release(hold)


def test_a_trip_too() -> None:
    """Of a trip's legs each gets the best that its operator has, whatever the views show."""
    with pairs("AR", "QR") as made:
        for seed in range(12):
            dice = random.Random(seed)
            taken = {service: frozenset(seat for seat in SEATS if dice.random() < 0.5) for service in (FLIGHT, ON)}
            for service in taken:
                made.arrange(sorted(taken[service]), service)
            legs = [messages.LegWish(service_id=service, count=2, cabin="Y") for service in taken]
            hold = made.two.ask("hold_trip", messages.HoldTrip(request_id=made.two.request_id(), owner_key=OTHER, legs=legs))
            assert isinstance(hold, messages.HoldAnswer)
            for leg in hold.legs:
                assert_best(LAYOUT.seats, taken[leg.service_id], leg.seats, 2, "Y")
            made.release(hold)


def test_what_came_up_meanwhile_is_asked_for_a_few_times_only(pair: Pair) -> None:
    """With others buying between every choice and its hold, the party is seated in the end, and a repeat meets its hold."""
    pairs_free = [(f"{row}{left}", f"{row}{right}") for row in range(3, 8) for left, right in ("AB", "CD")]
    pair.arrange(sorted({*SEATS} - {seat for seats in pairs_free for seat in seats}))
    seen: list[wire.Hold] = []

    def meddle(item: wire.SubmitItem) -> None:
        """Before each hold, take the last pair: whoever is alone leaves an orphan, so that this may matter."""
        for command in wire.decode(wire.COMMANDS, item.commands):
            if isinstance(command, wire.Hold):
                seen.append(command)
                pair.block(*pairs_free.pop())

    pair.managers.deliver = meddle
    hold = pair.two.hold(owner=OTHER, count=1, cabin="Y", request_id="request-of-the-hurried")
    assert len(seen) == CHOICES_PROVED + 1 and list(seen[-1].seats) == hold.seats
    assert [command.chosen is None for command in seen] == [False] * CHOICES_PROVED + [True]
    assert pair.one.hold(owner=OTHER, count=1, cabin="Y", request_id="request-of-the-hurried").hold_id == hold.hold_id


def trip(scene: Scene, request_id: str) -> list[list[str]]:
    """Hold any one seat as a trip of one leg; return the seats."""
    legs = [messages.LegWish(service_id=FLIGHT, count=1, cabin="Y")]
    hold = scene.ask("hold_trip", messages.HoldTrip(request_id=request_id, owner_key=OTHER, legs=legs))
    assert isinstance(hold, messages.HoldAnswer)
    return [leg.seats for leg in hold.legs]


def test_what_was_sold_here_may_be_given_back(pair: Pair) -> None:
    """A seat alone is taken, given back, and taken again: what this balancer sold a moment ago is not held to be taken for good."""
    pair.arrange(sorted({*SEATS} - {"3A", "3B", "8C"}))
    pair.catch_up()
    for _ in range(3):
        hold = pair.two.hold(owner=OTHER, count=1, cabin="Y")
        assert hold.seats == ["8C"]
        pair.release(hold)


@pytest.mark.parametrize("refused", ["something better", "it is taken"])
@pytest.mark.parametrize("left", [True, False])
def test_a_trip_asked_again_meets_the_hold_of_its_second_choice(pair: Pair, refused: str, left: bool) -> None:
    """The first choice was refused and left no record of a basket; a repeat anywhere finds what the second one holds."""
    better = refused == "something better"
    pair.arrange(sorted({*SEATS} - {"3A", "3B", "4A", "4B"} - (set() if better else {"8C"})))
    pair.catch_up()
    (pair.unblock if better else pair.block)("8C")
    seats = trip(pair.two, "request-of-a-second-choice")
    assert seats == [["8C"]] if better else seats[0][0] in ("3A", "3B", "4A", "4B")
    if not left:
        pair.block(*sorted({"3A", "3B", "4A", "4B"} - {*seats[0]}))
    pair.catch_up()
    for scene_asked in (pair.one, pair.two, pair.one):
        assert trip(scene_asked, "request-of-a-second-choice") == seats


@pytest.mark.parametrize("kind", ["hold", "trip"])
def test_sold_out_between_the_proof_and_the_choice(pair: Pair, kind: str) -> None:
    """The primary had a seat, and before it is chosen it is gone and the view knows: that is "sold out", whatever was asked."""
    pair.arrange(SEATS)
    pair.catch_up()
    pair.unblock("8C")
    balancer = pair.two.server.balancer
    read, done = balancer.read_all, []

    def read_and_take(items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        found = read(items, deadline_ms)
        if any(item.query == "seats" for item in items) and not done:
            done.append(True)
            pair.block("8C")
            pair.catch_up()
        return found

    balancer.read_all = read_and_take  # type: ignore[method-assign]
    with pytest.raises(SeatUnavailable, match="sold out"):
        if kind == "hold":
            pair.two.hold(owner=OTHER, count=1, cabin="Y")
        else:
            trip(pair.two, "request-of-the-unlucky")
    assert done


def test_a_primary_that_does_not_say_of_when_its_word_is(pair: Pair) -> None:
    """A primary of an older program names the taken seats of a trip's leg without an lsn: they count, for they are news."""
    pair.arrange(sorted({*SEATS} - {"3A", "8C"}))
    pair.catch_up()
    pair.block("3A")
    submit = pair.managers.submit

    def without_lsn(items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        results = submit(items, deadline_ms)
        for result in results:
            outcomes = wire.decode(wire.OUTCOMES, result.outcomes)
            for outcome in outcomes:
                for service in outcome.error.get("fields", {}).get("services", ()):
                    del service["lsn"]
            result.outcomes = wire.encode(outcomes)
        return results

    pair.managers.submit = without_lsn  # type: ignore[method-assign]
    assert trip(pair.two, "request-in-an-upgrade") == [["8C"]]


def test_what_was_proposed_for_a_request_that_fails_is_proposed_again(pair: Pair) -> None:
    """A hold that would last too long, a trip of which the second leg is sold out: the seats are the next buyer's best."""
    with pytest.raises(InvalidRequest, match="at most"):
        pair.two.hold(owner=OTHER, count=2, cabin="Y", ttl_ms=86_400_000)
    with pairs("AR", "QR") as made:
        made.arrange(SEATS, ON)
        made.catch_up("QR")
        legs = [messages.LegWish(service_id=service, count=2, cabin="Y") for service in (FLIGHT, ON)]
        with pytest.raises(SeatUnavailable, match="sold out"):
            made.two.ask("hold_trip", messages.HoldTrip(request_id=made.two.request_id(), owner_key=OTHER, legs=legs))
        for two in (pair.two, made.two):
            assert two.hold(owner=OTHER, count=2, cabin="Y").seats == ["3A", "3B"]


@pytest.mark.parametrize(
    ("count", "kept", "others"),
    [(4, {"3A", "3B", "4A", "4B"}, set()), (2, {"3A", "3B"}, {"6A", "7A"}), (1, {"3A"}, {"6A", "6B"})],
    ids=["nothing else is free", "two single seats are", "a pair is, which would be broken"],
)
def test_what_a_hold_kept_is_free_when_its_time_is_over(pair: Pair, count: int, kept: set[str], others: set[str]) -> None:
    """Nobody has come by to end it, and every view shows its seats as held: they are had, and where they are the best they are chosen."""
    clock = pair.managers.operators["AR"].clock
    pair.arrange(sorted({*SEATS} - kept - others))
    ends_ms = pair.one.hold(*sorted(kept), ttl_ms=40).expires_ms
    pair.catch_up()
    wait_until(lambda: clock() >= ends_ms, "the hold's end", 5)
    assert {*pair.two.hold(owner=OTHER, count=count, cabin="Y").seats} == kept
