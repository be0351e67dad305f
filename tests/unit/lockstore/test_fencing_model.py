"""The fencing theorem, checked: the protocol is safe in every order of events within the bounds, and each way to break
it is caught. Exhaustive runs prove their bounds only; random walks go further and prove nothing, but have found much."""

from __future__ import annotations

import pytest

from tests.unit.lockstore.fencing_model import Rejoin, Rules, Violation, explore, walk

TWO = {"nonces": (0, 1), "hints": (0, 0)}
FIVE = {"servers": 5, "needed": 3, "counters": (0, 1, 0, 2, 0)}
WALK_LENGTH = 60


@pytest.mark.parametrize(
    ("rules", "states_least"),
    [
        (Rules(**TWO), 50_000),
        (Rules(**TWO, counters=(0, 0, 1)), 240_000),
        (Rules(nonces=(0, 1), hints=(0, 5)), 16_000),
        (Rules(nonces=(0, 1), hints=(0, 5), counters=(0, 0, 1)), 37_000),
    ],
    ids=["equal counters", "one counter ahead", "hint", "hint and one ahead"],
)
def test_tokens_are_unique_and_ordered_in_every_order_of_events(rules: Rules, states_least: int) -> None:
    """Two attempts on three servers, complete; the number of states guards against exploring nothing."""
    assert explore(rules) >= states_least


def test_a_rejoin_that_waits_is_safe_in_every_order_of_events() -> None:
    """A server loses its disk at any moment and comes back by the rule."""
    assert explore(Rules(**TWO, rejoin=Rejoin.WAITING)) >= 800_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(counters=(0, 1, 2), hints=(0, 0, 4)),
        Rules(rejoin=Rejoin.WAITING),
        Rules(**FIVE),
        Rules(**FIVE, rejoin=Rejoin.WAITING),
    ],
    ids=["three", "hints", "rejoin", "five", "five with rejoin"],
)
def test_longer_stories_stay_safe(rules: Rules) -> None:
    """Three attempts, on three and five servers, at random; enough of them settle a token to mean something."""
    settled = sum(walk(rules, seed, WALK_LENGTH) for seed in range(800))
    assert settled >= 100


@pytest.mark.parametrize(
    "rules",
    [Rules(write_back=False), Rules(check_held=False), Rules(count_only_granted=False)],
    ids=["no write-back", "write-back without still held", "counting servers whose grant never arrived"],
)
def test_each_part_of_the_write_back_is_needed(rules: Rules) -> None:
    """Leaving it out lets two attempts settle one token."""
    with pytest.raises(Violation):
        explore(rules)


@pytest.mark.parametrize(
    "rules",
    [
        Rules(nonces=(0, 0, 1)),
        Rules(nonces=(0, 1, 0)),
        Rules(servers=4, needed=2, counters=(0, 0, 0, 0)),
        Rules(**TWO, rejoin=Rejoin.EMPTY),
        Rules(**TWO, rejoin=Rejoin.ONE_PEER),
        Rules(**TWO, rejoin=Rejoin.AT_ONCE),
    ],
    ids=["nonce reused at once", "nonce reused later", "half as quorum", "rejoin empty", "rejoin by one peer", "rejoin without waiting"],
)
def test_each_assumption_is_needed(rules: Rules) -> None:
    """Giving it up breaks a property soon; a seed that shows it is found among a few hundred walks."""
    with pytest.raises(Violation):
        for seed in range(5_000):
            walk(rules, seed, WALK_LENGTH)
