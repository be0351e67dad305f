"""What goes back for seats that are given up: to the cent, whatever the order in which they go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore import conditions
from datastore.errors import InvalidRequest
from datastore.model import Leg

PRICES = st.lists(st.integers(0, 10_000_000), min_size=1, max_size=9)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**7), min_size=1, max_size=12))
def test_shares_add_up_and_are_fair(total: int, weights: list[int]) -> None:
    """Nothing is lost in rounding, and no share is a whole unit from its exact part."""
    shares = conditions.split_minor(total, weights)
    assert sum(shares) == total and min(shares) >= 0
    whole = sum(weights)
    if whole:
        assert all(abs(share * whole - total * weight) < whole for share, weight in zip(shares, weights, strict=True))


@given(PRICES, st.integers(0, 100), st.randoms(use_true_random=False))
def test_parts_come_to_the_whole(prices: list[int], percent: int, chance: object) -> None:
    """Seats given up one after the other, in any order, give back just what the leg gives back at once."""
    leg = Leg("AR", "AR1-EZE-2026-12-01", tuple(f"{n}A" for n in range(len(prices))), tuple(prices), percent)
    whole = conditions.cut_refund_minor(leg, range(len(prices)))
    assert whole == sum(prices) * percent // 100
    back = 0
    while leg.seats:
        place = chance.randrange(len(leg.seats))  # type: ignore[attr-defined]
        refund = conditions.cut_refund_minor(leg, [place])
        assert 0 <= refund <= conditions.cut_price_minor(leg, [place]) + 1
        back, leg = back + refund, conditions.without(leg, [place])
    assert back == whole


def test_what_is_not_there_cannot_be_given_up() -> None:
    """Legs or passengers, by numbers that the booking has."""
    legs = (Leg("AR", "one", ("1A", "1B"), (5, 5), 80), Leg("QR", "two", ("2A", "2B"), (5, 5), 80))
    assert conditions.cuts_of(legs, (), ()) == {0: (0, 1), 1: (0, 1)}
    assert conditions.cuts_of(legs, (1,), ()) == {1: (0, 1)}
    assert conditions.cuts_of(legs, (), (1, 1)) == {0: (1,), 1: (1,)}
    for places, positions in (((2,), ()), ((), (2,)), ((-1,), ()), ((0,), (0,))):
        with pytest.raises(InvalidRequest):
            conditions.cuts_of(legs, places, positions)
