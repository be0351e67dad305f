"""Baskets over two and three operators: nothing is sold in part, kept for ever or given away twice, whatever is late or lost."""

from __future__ import annotations

import pytest

from tests.simulation.basket_checks import Checks
from tests.simulation.basket_exploration import explore, walk
from tests.simulation.basket_model import Driver, Violation, World
from tests.simulation.basket_partitions import leg, plan

TWO = ("PP", "QQ")
THREE = ("PP", "QQ", "RR")
ONE_TRIP = Driver(plan("one", "ann", leg("PP", "1A"), leg("QQ", "1A")))
WAY_BACK = Driver(plan("two", "bob", leg("QQ", "1A"), leg("PP", "1A")))  # the same seats, the opposite anchor
ROUND_TRIP = Driver(plan("one", "ann", leg("PP", "1A"), leg("QQ", "1A"), leg("RR", "1A")))
OTHER_WAY = Driver(plan("two", "bob", leg("RR", "1A"), leg("QQ", "1B", "1A")))
RETRY = Driver(ONE_TRIP.plan)  # the same request at another balancer
CANCELLED = Driver(ONE_TRIP.plan, cancels=True)


def test_one_trip_in_every_order_of_events() -> None:
    """Complete: every state of one trip over two operators that loss, repetition, delay and two clocks can lead to."""
    checks = Checks(world := World((ONE_TRIP,), TWO, prompt=True))
    states, is_all = explore(world, checks, 200_000)
    assert is_all and states > 1_000
    # Not vacuous: it was held, sold, refused for want of time and given up in some of them.
    assert {"held", "confirmed", "hold_expired", "outcome_unknown"} <= checks.seen_ends


@pytest.mark.parametrize(
    ("variant", "driver", "said"),
    [
        ("local expiry", ONE_TRIP, "gave its seats away"),
        ("decide before all hold", ONE_TRIP, "has not its seats"),
        ("no tombstone", ONE_TRIP, "gave its seats away"),
        ("finalise without lsn", CANCELLED, "no order that stands has it"),
    ],
)
def test_a_rule_that_is_switched_off_is_missed(variant: str, driver: Driver, said: str) -> None:
    """Each rule is needed: without it the same search finds a story that breaks a promise."""
    # Clocks that stand still leave fewer states, where expiry is not what the rule is about.
    world = World((driver,), TWO, variant, ticks=0 if driver is CANCELLED else 1, prompt=True)
    with pytest.raises(Violation, match=said):
        explore(world, Checks(world), 200_000)


def test_the_lsn_alone_keeps_a_cancelled_leg_from_coming_back() -> None:
    """What FINALISE names is enough, even where nothing remembers that the leg ever was (without end, so not complete)."""
    world = World((CANCELLED,), TWO, "no leg tombstones", ticks=0, prompt=True)
    assert explore(world, Checks(world), 8_000) == (8_000, False)


@pytest.mark.parametrize(
    ("drivers", "operators"),
    [((ONE_TRIP, WAY_BACK), TWO), ((ROUND_TRIP, OTHER_WAY), THREE), ((ONE_TRIP, RETRY), TWO), ((CANCELLED, WAY_BACK), TWO)],
    ids=["opposite anchors", "three operators", "two balancers, one request", "cancelled and bought again"],
)
def test_trips_that_meet(drivers: tuple[Driver, ...], operators: tuple[str, ...]) -> None:
    """Long walks, seeded: two buyers with the same seats and opposite anchors, or one request at two balancers."""
    checks = Checks(world := World(drivers, operators, ticks=2))
    steps = sum(walk(world, checks, seed, 120) for seed in range(60))
    assert steps > 1_000
    assert {"held", "confirmed"} <= checks.seen_ends
