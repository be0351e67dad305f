"""Changes of a sold trip (B11): whatever is late, lost or repeated, the order has its old seats or its new ones, never both or neither."""

from __future__ import annotations

import msgspec
import pytest

from datastore import commands, wire
from datastore.model import Leg, SeatState
from datastore.rows import Kind, decode_row
from loadbalancer.itinerary import Plan
from tests.simulation.basket_checks import Checks
from tests.simulation.basket_exploration import explore, walk
from tests.simulation.basket_model import Driver, Sent, State, Violation, World
from tests.simulation.basket_partitions import TTL_MS, leg, plan

TWO = ("PP", "QQ")
TRIP = plan("one", "ann", leg("PP", "1A"), leg("QQ", "1A"))


def change(name: str, place: int, *legs: Leg) -> Driver:
    """Return a change of the trip's only passenger on one leg."""
    held = Plan(f"request-{name}", name.encode(), f"PP.trip.{name}", "ann", legs, "USD", TTL_MS, 9, 9, "PP", "REF0", 100)
    return Driver(held, cuts=((place, (0,)),))


FAR = change("far", 1, leg("QQ", "1B"))  # at the operator that is not the anchor
NEAR = change("near", 0, leg("PP", "1B"))
AWAY = change("away", 0, leg("QQ", "1B"))  # the anchor's own leg goes to another operator
RIVAL = Driver(plan("two", "bob", leg("QQ", "1B"), leg("PP", "1B")))  # wants the very seats that a change wants
LEAVE = commands.Amend("leave", b"l", "REF0", b"t", 3, ((1, (0,)),), 50, False, "left")
CANCEL = wire.Cancel("cancel", b"x", "REF0", b"t")
NEW = leg("PP", "1B")
MOVE = commands.Move(  # The anchor's own leg, in one entry.
    "move",
    b"m",
    commands.HoldLegs("move", b"m", "PP.trip.move", "ann", "PP", (NEW,), (0,), "USD", TTL_MS, 1, 9, "nonce-9", 9, 9, "REF0", 100),
    commands.Amend("move", b"m", "REF0", b"t", 3, ((0, (0,)),), 0, False, "moved", "PP.trip.move", "ann", (), (b"",)),
)


class Sold(World):
    """The trip is sold, and its other operator has not heard of that yet. `late`: commands that may come at any time."""

    def __init__(self, drivers: tuple[Driver, ...], *late: object, variant: str = "", ticks: int = 0, prompt: bool = True) -> None:
        super().__init__(drivers, TWO, variant, ticks, prompt)
        self.late = late

    def first(self) -> State:
        state = super().first()
        fence = (1, 1, "nonce")
        for operator in TWO:
            legs = TRIP.legs if operator == "PP" else TRIP.legs[1:]
            numbers = (0, 1) if operator == "PP" else (1,)
            words = (TRIP.request_id, TRIP.digest, TRIP.basket_id, "ann", "PP", legs, numbers, "USD", TTL_MS)
            held = commands.HoldLegs(*words, *fence, 9, 9)
            state = self.with_part(state, self.apply(self.part(state, operator), held)[0])
        sale = commands.Decide("confirm", b"c", TRIP.basket_id, "ann", (("QQ", 2),), ("REF0",), b"t", b"", (b"",))
        state = self.with_part(state, self.apply(self.part(state, "PP"), sale)[0])
        return msgspec.structs.replace(state, counter=1, sent=frozenset(Sent(-1, "PP", one) for one in self.late))


@pytest.mark.parametrize("driver", [FAR, NEAR], ids=["other operator's leg", "anchor's leg"])
def test_one_change_in_every_order_of_events(driver: Driver) -> None:
    """Complete: every state of one change that loss, repetition and delay can lead to."""
    checks = Checks(world := Sold((driver,)))
    states, is_all = explore(world, checks, 100_000)
    assert is_all and states > 50
    assert {"held", "confirmed", "outcome_unknown"} <= checks.seen_ends


def test_a_leg_is_given_up_in_every_order_of_events() -> None:
    """Complete: before and after the leg's operator has heard of the sale, and cancelled whole before or after."""
    world = Sold((), LEAVE, CANCEL)
    states, is_all = explore(world, Checks(world), 100_000)
    assert is_all and states > 30


@pytest.mark.parametrize("late", [(MOVE,), (MOVE, CANCEL), (MOVE, LEAVE, CANCEL)], ids=["alone", "and a cancellation", "and all else"])
def test_a_move_in_one_entry_in_every_order_of_events(late: tuple[object, ...]) -> None:
    """Complete: MOVE of the anchor's leg, once or again and again, before and after whatever else is done to the order."""
    checks = Checks(world := Sold((), *late))
    states, is_all = explore(world, checks, 100_000)
    assert is_all and states > 5 * len(late)
    if late == (MOVE,):
        moved = world.apply(world.part(world.first(), "PP"), MOVE)[0]
        seats = {key.partition("/")[2]: decode_row(kind, value).state for kind, key, value in moved.rows if kind == Kind.SEAT}
        assert seats == {"1A": SeatState.FREE, "1B": SeatState.BOOKED}


def test_done_is_said_of_an_entry() -> None:
    """Without the lsn in LEGS_DONE, a late word about the sale clears the duty to follow the change."""
    world = Sold((), LEAVE, variant="done without lsn")
    with pytest.raises(Violation, match="no order that stands has it"):
        explore(world, Checks(world), 100_000)


@pytest.mark.parametrize(
    ("drivers", "late", "ends"),
    [
        ((FAR, RIVAL), (), {"held", "confirmed"}),
        ((NEAR, FAR), (), {"held", "confirmed", "quote_expired"}),
        ((AWAY, RIVAL), (CANCEL,), {"held", "confirmed"}),
        ((FAR, NEAR), (LEAVE, CANCEL), {"held", "already_cancelled"}),
    ],
    ids=["a rival for the seats", "two changes at once", "a rival and a cancellation", "all at once"],
)
def test_changes_that_meet(drivers: tuple[Driver, ...], late: tuple[object, ...], ends: set[str]) -> None:
    """Long walks, seeded, with clocks that pass deadlines: buyers of the same seats, other changes, cancellations."""
    checks = Checks(world := Sold(drivers, *late, ticks=2, prompt=False))
    steps = sum(walk(world, checks, seed, 100) for seed in range(40))
    assert steps > 500
    assert ends <= checks.seen_ends
