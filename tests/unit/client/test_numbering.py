"""Repeated numbers are told apart by what the rows say, never by where they stand."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from client.numbering import NATURAL_LENGTH_MAX, apart_from, numbered, share_a_day, tag_of
from datastore.model import NUMBER_PATTERN, Schedule


def row(number: str = "1140", departs_min: int = 600, days: str = "1234567", destination: str = "COR", **changes: object) -> Schedule:
    schedule = Schedule(number, "EZE", destination, departs_min, departs_min + 60, 0, days, "2026-12-01", "2027-10-01", "738")
    return replace(schedule, **changes)


def test_the_first_by_departure_keeps_its_number() -> None:
    """Three rows of one number on one day become three numbers, in the order of departure."""
    rows = [row(departs_min=900), row(departs_min=300), row(departs_min=600)]
    assert [one.number for one in numbered(rows)] == ["1140.3", "1140", "1140.2"]


def test_the_destination_decides_between_equal_departures() -> None:
    rows = [row(destination="MDZ"), row(destination="COR")]
    assert [one.number for one in numbered(rows)] == ["1140.2", "1140"]


def test_rows_that_share_no_day_stay_one_flight() -> None:
    """Different times on different weekdays, or in different seasons, are one number."""
    rows = [
        row(days="1------"),
        row(departs_min=610, days="-2-----"),
        row(departs_min=620, days="1------", valid_from="2027-10-02", valid_to="2028-01-01"),
    ]
    assert [one.number for one in numbered(rows)] == ["1140"] * 3


def test_a_row_takes_the_first_number_that_is_free_on_its_days() -> None:
    rows = [row(departs_min=300, days="1------"), row(departs_min=400, days="12-----"), row(departs_min=500, days="-2-----")]
    assert [one.number for one in numbered(rows)] == ["1140", "1140.2", "1140"]


def test_another_origin_is_another_service() -> None:
    """Through flights repeat their number at the next place."""
    assert [one.number for one in numbered([row(), row(origin="COR", destination="MDZ")])] == ["1140", "1140"]


def test_a_number_that_has_the_suffix_by_its_own_right_keeps_it() -> None:
    assert [one.number for one in numbered([row(), row(departs_min=700), row(number="1140.2", departs_min=800)])] == [
        "1140",
        "1140.3",
        "1140.2",
    ]


ROWS = st.lists(
    st.builds(
        row,
        number=st.sampled_from(("1", "1.2", "2")),
        departs_min=st.integers(0, 3),
        days=st.sampled_from(("1234567", "1------", "-2-----", "12-----", "-----67")),
        destination=st.sampled_from(("COR", "MDZ")),
        valid_from=st.sampled_from(("2026-12-01", "2027-03-01")),
    ),
    max_size=9,
)


@given(ROWS, st.randoms())
def test_no_two_rows_of_one_number_share_a_day_whatever_the_order(rows: list[Schedule], shuffler: random.Random) -> None:
    """After numbering every (number, origin, date) is one row, and shuffling the file changes nothing."""
    found = numbered(rows)
    for one, two in combinations(found, 2):
        assert (one.number, one.origin) != (two.number, two.origin) or not share_a_day(one, two)
    assert [one.number.split(".")[0] for one in rows] == [one.number.split(".")[0] for one in found]
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert sorted(map(repr, found)) == sorted(map(repr, numbered(shuffled)))


def test_a_number_of_another_dataset_gets_the_newcomers_tag() -> None:
    """All rows of the pair are renamed, other pairs are not."""
    rows = [row(days="1------"), row(days="-2-----", departs_min=700), row(number="1141"), row(origin="COR")]
    found = apart_from(rows, {("1140", "EZE")}, "us-2008")
    assert [one.number for one in found] == ["1140.US2008", "1140.US2008", "1141", "1140"]


def test_importing_again_gives_the_same_numbers() -> None:
    """The first dataset keeps its numbers although the second has come; the second keeps its tagged ones."""
    first = apart_from([row()], set(), "brief")
    second = apart_from([row()], {("1140", "EZE")}, "nyc-2013")
    assert [one.number for one in apart_from([row()], {(one.number, one.origin) for one in second}, "brief")] == ["1140"]
    assert second == apart_from([row()], {(one.number, one.origin) for one in first}, "nyc-2013")


def test_two_datasets_of_one_tag_are_told_apart() -> None:
    found = apart_from([row()], {("1140", "EZE"), ("1140.US2008", "EZE")}, "us2008")
    assert [one.number for one in found] == ["1140.US20082"]


def test_the_longest_number_fits_with_both_suffixes() -> None:
    rows = [row(number="9" * NATURAL_LENGTH_MAX, departs_min=minute) for minute in range(999)]
    found = apart_from(numbered(rows), {(one.number, one.origin) for one in numbered(rows)}, "a-very-long-name")
    assert all(NUMBER_PATTERN.fullmatch(one.number) for one in found)
    assert len(rows) == len({one.number for one in found})


def test_the_tag_is_the_name_in_capitals_without_hyphens() -> None:
    assert tag_of("nyc-2013") == "NYC2013"
    assert tag_of("a-long-name-indeed") == "ALONGNAM"
