"""Whether there is room where a leg is over by our hint and its anchor has not said so yet (Z5, Z8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from datastore import commands, messages, wire
from datastore.errors import HoldfastError, OperatorUnavailable, OutcomeUnknown, SeatUnavailable
from datastore.model import Layout
from loadbalancer.proposing import Known, NoRoom, prove_room
from tests.unit.loadbalancer.scenery import CABIN, FLIGHT, OTHER
from tests.unit.loadbalancer.test_best_available import ON, SEATS, Pair, pairs
from tests.waiting import wait_until

LAYOUT = Layout(CABIN)
HELD, BOOKED = 1, 2


class Primary:
    """Says what it is told to say: a state after the other, and what the anchors answer to who asks them."""

    def __init__(self, states: list[dict[str, str]], silent: Sequence[str] = ()) -> None:
        """`states`: free seats "" or those in doubt with their basket; all others are booked. `silent`: anchors."""
        self.states = states
        self.silent = silent
        self.asked: list[str] = []
        self.lsn = 0
        self.ends_after = 1_000

    def again(self) -> wire.ReadResult:
        if self.lsn >= self.ends_after:
            raise OperatorUnavailable("no time left to ask")
        state = self.states[min(self.lsn, len(self.states) - 1)]
        self.lsn += 1
        rows = {seat: [HELD, f"{state[seat]}.0", f"owner of {state[seat]}", "", False, state[seat]] for seat in state if state[seat]}
        rows |= {seat: [BOOKED, "AR.x", "somebody", "", False, ""] for seat in SEATS if seat not in state}
        return wire.ReadResult("QR", self.lsn, 0, rows)

    def clear(self, basket_id: str, owner: str) -> HoldfastError | None:
        assert owner == f"owner of {basket_id}"
        self.asked.append(basket_id)
        anchor = basket_id.partition(".")[0]
        return OperatorUnavailable(f"{anchor} does not answer") if anchor in self.silent else None

    def prove(self, count: int, *, together: bool = False) -> Known:
        wanted = SimpleNamespace(service_id=ON, count=count, cabin="Y", together=together)
        sale: Any = SimpleNamespace(layout=LAYOUT)
        return prove_room(sale, wanted, self.again(), self.again, self.clear)


def test_nobody_is_asked_where_there_is_room_anyway() -> None:
    primary = Primary([{"3A": "", "3B": "", "4A": "AR.trip.one"}])
    assert primary.prove(2).taken == {*SEATS} - {"3A", "3B"}
    assert not primary.asked


def test_nobody_is_asked_where_it_would_not_help() -> None:
    primary = Primary([{"3A": "AR.trip.one", "4A": "AR.trip.two", "4B": ""}])
    with pytest.raises(NoRoom, match="has 1 seat left, 4 were asked for"):
        primary.prove(4)
    with pytest.raises(NoRoom):
        primary.prove(3, together=True)  # Not side by side even with all three.
    assert not primary.asked


def test_who_is_in_doubt_is_asked_and_what_came_free_is_room() -> None:
    primary = Primary([{"3A": "AR.trip.one", "3B": "AR.trip.two"}, {"3A": "", "3B": "AR.trip.two"}, {"3A": "", "3B": ""}])
    assert primary.prove(2, together=True).taken == {*SEATS} - {"3A", "3B"}
    assert primary.asked == ["AR.trip.one", "AR.trip.two"]


def test_no_more_are_asked_than_room_needs() -> None:
    primary = Primary([{"3A": "AR.trip.one", "3B": "AR.trip.two"}, {"3A": "", "3B": "AR.trip.two"}])
    assert primary.prove(1).lsn == 2
    assert primary.asked == ["AR.trip.one"]


def test_a_leg_that_was_sold_or_goes_on_is_no_room() -> None:
    primary = Primary([{"3A": "AR.trip.one", "3B": "AR.trip.two"}, {"3B": "AR.trip.two"}])
    with pytest.raises(NoRoom, match="sold out") as caught:
        primary.prove(2)
    assert caught.value.refusal.fields["lsn"] == 2


def test_one_whose_word_does_not_arrive_leaves_it_open() -> None:
    """Its anchor has spoken, and the operator still has it as due: the word was lost. It is asked for once more, and then said."""
    primary = Primary([{"3A": "AR.trip.one", "3B": "AR.trip.one"}])
    with pytest.raises(OperatorUnavailable, match="word did not arrive") as caught:
        primary.prove(2)
    assert primary.asked == ["AR.trip.one", "AR.trip.one"] and caught.value.fields["operator"] == "AR"
    late = Primary([{"3A": "AR.trip.one", "3B": ""}, {"3A": "AR.trip.one", "3B": ""}, {"3A": "", "3B": ""}])
    assert late.prove(2).lsn == 3


def test_one_that_comes_due_meanwhile_is_asked_too() -> None:
    primary = Primary([{"3A": "AR.trip.one", "3B": "AR.trip.one"}, {"4A": "AR.trip.two", "4B": ""}, {"4A": "", "4B": ""}])
    assert primary.prove(2).lsn == 3
    assert primary.asked == ["AR.trip.one", "AR.trip.two"]


def test_an_anchor_that_cannot_be_asked_leaves_it_open() -> None:
    """Neither "sold out" nor a hold can be the answer; but the rest may have been enough, or too little whatever it says."""
    both = {"3A": "AR.trip.one", "3B": "LA.trip.two"}
    with pytest.raises(OperatorUnavailable, match="AR does not answer"):
        Primary([both, both, {"3A": "AR.trip.one", "3B": ""}], silent=["AR"]).prove(2)
    freed = {"3A": "AR.trip.one", "3B": "", "4A": ""}
    assert Primary([{**both, "4A": "LA.trip.two"}, {**both, "4A": ""}, freed], silent=["AR"]).prove(2).lsn == 3
    with pytest.raises(NoRoom, match="sold out"):
        Primary([both, both, {"3A": "AR.trip.one"}], silent=["AR"]).prove(2)
    apart = {"3A": "AR.trip.one", "4A": "", "4C": ""}
    with pytest.raises(NoRoom, match="side by side"):
        Primary([{**apart, "5C": "LA.trip.two", "5D": "LA.trip.two"}, apart], silent=["AR"]).prove(2, together=True)


def test_an_anchor_that_says_nothing_is_not_asked_for_each_of_its_legs() -> None:
    primary = Primary([{seat: f"AR.trip.{seat}" for seat in ("3A", "3B", "4A", "4B")}], silent=["AR"])
    with pytest.raises(OperatorUnavailable, match="AR does not answer"):
        primary.prove(2)
    assert len(primary.asked) == 1


def test_who_took_the_time_is_named() -> None:
    primary = Primary([{"3A": "AR.trip.one", "3B": "LA.trip.two"}], silent=["AR"])
    primary.ends_after = 1
    with pytest.raises(OperatorUnavailable, match="AR does not answer"):
        primary.prove(2)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pairs("AR", "QR", reconciles=False) as made:  # What is due stays so until somebody asks.
        yield made


def trip(pair: Pair, ttl_ms: int, *seats: str) -> messages.HoldAnswer:
    """Hold seats of both operators for so long; AR decides."""
    legs = [messages.LegWish(service_id=service, seats=list(seats)) for service in (FLIGHT, ON)]
    hold = pair.one.ask("hold_trip", messages.HoldTrip(request_id=pair.one.request_id(), owner_key=OTHER, legs=legs, ttl_ms=ttl_ms))
    assert isinstance(hold, messages.HoldAnswer)
    return hold


def wanted(pair: Pair, kind: str, count: int) -> set[str]:
    """Ask for the best of the second operator's seats."""
    if kind == "hold":
        return {*pair.two.hold(owner=OTHER, count=count, cabin="Y", service=ON).seats}
    legs = [messages.LegWish(service_id=ON, count=count, cabin="Y")]
    hold = pair.two.ask("hold_trip", messages.HoldTrip(request_id=pair.two.request_id(), owner_key=OTHER, legs=legs))
    assert isinstance(hold, messages.HoldAnswer)
    return {*hold.legs[0].seats}


def due_leg(pair: Pair) -> None:
    """Have the last two seats of the second operator be a leg of a trip whose time is over, of which AR has not said so."""
    clock = pair.managers.clock
    pair.arrange(sorted({*SEATS} - {"3A", "3B"}), ON)
    basket_id = trip(pair, 40, "3A", "3B").hold_id
    due_ms = pair.managers.operators["QR"].state.legs[basket_id].due_ms
    pair.catch_up("QR")
    wait_until(lambda: clock() >= due_ms, "the leg's time to be over", 5)


@pytest.mark.parametrize("kind", ["hold", "trip"])
def test_what_a_leg_kept_is_free_when_its_time_is_over(pair: Pair, kind: str) -> None:
    """Its anchor has said nothing yet: it is asked, before anybody hears that there is no room."""
    due_leg(pair)
    pair.managers.cut.add("AR")
    with pytest.raises(OperatorUnavailable):
        wanted(pair, kind, 2)
    pair.managers.cut.clear()
    with pytest.raises(SeatUnavailable, match="sold out"):
        wanted(pair, kind, 3)
    assert wanted(pair, kind, 2) == {"3A", "3B"}


@pytest.mark.parametrize("kind", ["hold", "trip"])
def test_a_word_that_is_lost_on_its_way_is_said_again(pair: Pair, kind: str) -> None:
    due_leg(pair)
    lost: list[wire.SubmitItem] = []

    def lose(item: wire.SubmitItem) -> None:
        found = wire.decode(wire.COMMANDS, item.commands)
        if item.operator == "QR" and not lost and any(isinstance(one, commands.ReleaseLegs) for one in found):
            lost.append(item)
            raise OutcomeUnknown("the word was lost")

    pair.managers.deliver = lose
    assert wanted(pair, kind, 2) == {"3A", "3B"}
    assert lost
