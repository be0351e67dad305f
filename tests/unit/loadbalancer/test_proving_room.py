"""Whether there is room where a leg is over by our hint and its anchor has not said so yet (Z5, Z8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from datastore import messages, wire
from datastore.errors import HoldfastError, NoAdjacentBlock, OperatorUnavailable, SeatUnavailable
from datastore.model import Layout
from loadbalancer.proposing import Known, prove_room
from tests.unit.loadbalancer.scenery import CABIN, FLIGHT, OTHER
from tests.unit.loadbalancer.test_best_available import ON, SEATS, Pair, pairs
from tests.waiting import wait_until

LAYOUT = Layout(CABIN)
HELD, BOOKED = 1, 2


class Primary:
    """Says what it is told to say: a state after the other, and what the anchors answer to who asks them."""

    def __init__(self, states: list[dict[str, str]], failing: Mapping[str, HoldfastError] | None = None) -> None:
        """`states`: free seats "" or those in doubt with their basket; all others are booked."""
        self.states = states
        self.failing = failing or {}
        self.asked: list[str] = []
        self.lsn = 0

    def again(self) -> wire.ReadResult:
        state = self.states[min(self.lsn, len(self.states) - 1)]
        self.lsn += 1
        rows = {seat: [HELD, f"{state[seat]}.0", f"owner of {state[seat]}", "", False, state[seat]] for seat in state if state[seat]}
        rows |= {seat: [BOOKED, "AR.x", "somebody", "", False, ""] for seat in SEATS if seat not in state}
        return wire.ReadResult("QR", self.lsn, 0, rows)

    def clear(self, basket_id: str, owner: str) -> HoldfastError | None:
        assert owner == f"owner of {basket_id}"
        self.asked.append(basket_id)
        return self.failing.get(basket_id)

    def prove(self, count: int, *, together: bool = False) -> Known:
        wanted = SimpleNamespace(service_id=ON, count=count, cabin="Y", together=together)
        sale: Any = SimpleNamespace(layout=LAYOUT)
        return prove_room(sale, wanted, self.again(), self.again, self.clear)


def test_nobody_is_asked_where_there_is_room_anyway() -> None:
    primary = Primary([{"3A": "", "3B": "", "4A": "one"}])
    assert primary.prove(2).taken == {*SEATS} - {"3A", "3B"}
    assert not primary.asked


def test_nobody_is_asked_where_it_would_not_help() -> None:
    primary = Primary([{"3A": "one", "4A": "two", "4B": ""}])
    with pytest.raises(SeatUnavailable, match="has 1 seat left, 4 were asked for"):
        primary.prove(4)
    with pytest.raises(SeatUnavailable):
        primary.prove(3, together=True)  # Not side by side even with all three.
    assert not primary.asked


def test_who_is_in_doubt_is_asked_and_what_came_free_is_room() -> None:
    primary = Primary([{"3A": "one", "3B": "two"}, {"3A": "", "3B": ""}])
    assert primary.prove(2, together=True).taken == {*SEATS} - {"3A", "3B"}
    assert primary.asked == ["one", "two"]


def test_a_leg_that_was_sold_is_no_room() -> None:
    primary = Primary([{"3A": "one", "3B": "two"}, {"3A": ""}])
    with pytest.raises(SeatUnavailable, match="has 1 seat left") as caught:
        primary.prove(2)
    assert caught.value.fields["lsn"] == 2


def test_one_that_is_not_over_after_all_is_asked_once() -> None:
    primary = Primary([{"3A": "one", "3B": "one"}])
    with pytest.raises(SeatUnavailable, match="sold out"):
        primary.prove(2)
    assert primary.asked == ["one"]


def test_one_that_comes_due_meanwhile_is_asked_too() -> None:
    primary = Primary([{"3A": "one", "3B": "one"}, {"4A": "two", "4B": ""}, {"4A": "", "4B": ""}])
    assert primary.prove(2).lsn == 3
    assert primary.asked == ["one", "two"]


def test_an_anchor_that_cannot_be_asked_leaves_it_open() -> None:
    """Neither "sold out" nor a hold can be the answer; but the rest may have been enough, or too little whatever it says."""
    down = {"one": OperatorUnavailable("AR does not answer")}
    with pytest.raises(OperatorUnavailable):
        Primary([{"3A": "one", "3B": "two"}, {"3A": "one", "3B": ""}], down).prove(2)
    assert Primary([{"3A": "one", "3B": "two", "4A": "two"}, {"3A": "one", "3B": "", "4A": ""}], down).prove(2).lsn == 2
    with pytest.raises(SeatUnavailable, match="sold out"):
        Primary([{"3A": "one", "3B": "two"}, {"3A": "one"}], down).prove(2)
    apart = {"3A": "one", "4A": "", "4C": ""}
    with pytest.raises(NoAdjacentBlock):
        Primary([{**apart, "5C": "two", "5D": "two"}, apart], down).prove(2, together=True)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pairs("AR", "QR") as made:
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


@pytest.mark.parametrize("kind", ["hold", "trip"])
def test_what_a_leg_kept_is_free_when_its_time_is_over(pair: Pair, kind: str) -> None:
    """Its anchor has said nothing yet: it is asked, before anybody hears that there is no room."""
    clock = pair.managers.clock
    pair.arrange(sorted({*SEATS} - {"3A", "3B"}), ON)
    basket_id = trip(pair, 40, "3A", "3B").hold_id
    due_ms = pair.managers.operators["QR"].state.legs[basket_id].due_ms
    pair.catch_up("QR")
    wait_until(lambda: clock() >= due_ms, "the leg's time to be over", 5)
    pair.managers.cut.add("AR")
    with pytest.raises(OperatorUnavailable):
        wanted(pair, kind, 2)
    with pytest.raises(SeatUnavailable, match="sold out"):
        wanted(pair, kind, 3)
    pair.managers.cut.clear()
    assert wanted(pair, kind, 2) == {"3A", "3B"}
