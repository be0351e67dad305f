"""Minimum connecting times: the most telling line decides, and what is said of bounds is true of every pair."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datastore.model import ConnectingTime
from loadbalancer.connecting import DOMESTIC_MIN, INTERNATIONAL_MIN, ConnectingTimes, is_international

PLACES, OPERATORS = ["AAA", "BBB"], ["XA", "XB", "XC"]


def test_the_most_telling_line_decides() -> None:
    """Place and both operators before place and one, before place, before both operators, before the default."""
    lines = [
        ConnectingTime("", "", "", 50, -1),
        ConnectingTime("", "XA", "XB", 51, -1),
        ConnectingTime("AAA", "", "", 52, -1),
        ConnectingTime("AAA", "", "XB", 53, -1),
        ConnectingTime("AAA", "XA", "", 54, -1),
        ConnectingTime("AAA", "XA", "XB", 55, -1),
    ]
    found = []
    while lines:
        found.append(ConnectingTimes(lines).minutes("AAA", "XA", "XB", international=False))
        lines.pop()
    assert found == [55, 54, 53, 52, 51, 50]
    assert ConnectingTimes([ConnectingTime("AAA", "", "", 10, -1)]).minutes("BBB", "XA", "XB", international=False) == DOMESTIC_MIN
    assert ConnectingTimes([ConnectingTime("AAA", "", "", 10, -1)]).minutes("AAA", "XA", "XB", international=True) == INTERNATIONAL_MIN


def test_the_longest_of_contradictory_lines_counts() -> None:
    """Two operators that state one line differently: nobody is sold a connection that one of them calls too short."""
    times = ConnectingTimes([ConnectingTime("AAA", "XA", "XB", 30, 60), ConnectingTime("AAA", "XA", "XB", 45, -1)])
    assert times.minutes("AAA", "XA", "XB", international=False) == 45
    assert times.minutes("AAA", "XA", "XB", international=True) == 60


def test_a_border_makes_it_international() -> None:
    """One country throughout is domestic; a stop abroad on the way home is not."""
    assert not is_international("AR", "AR", "AR")
    assert is_international("AR", "CL", "AR") and is_international("AR", "AR", "BR") and is_international("US", "AR", "AR")


@given(
    st.lists(
        st.builds(
            ConnectingTime,
            st.sampled_from(["", *PLACES]),
            st.sampled_from(["", *OPERATORS]),
            st.sampled_from(["", *OPERATORS]),
            st.integers(-1, 300),
            st.integers(-1, 300),
        ),
        max_size=6,
    )
)
def test_bounds_hold_for_every_pair(lines: list[ConnectingTime]) -> None:
    """No pair needs less than `least`; where a place is plain all pairs need the same."""
    times = ConnectingTimes(lines)
    for place in PLACES:
        for international in (False, True):
            needed = {times.minutes(place, one, two, international=international) for one in OPERATORS for two in OPERATORS}
            assert times.least(place, international=international) <= min(needed)
            assert len(needed) == 1 or not times.is_plain(place)
