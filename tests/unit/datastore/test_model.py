"""Identity and layouts: what a service id means, what seats a plan has, and what is refused when it is built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import InvalidRequest, UnknownOperator
from datastore.model import Layout, LayoutSpec, Money, Section, ServiceKey, is_date, parse_service_id, seat_key

OPERATORS = frozenset({"AR", "9E", "LU", "LUM", "GRAND"})


@pytest.mark.parametrize(
    ("service_id", "key"),
    [
        ("AR1140-EZE-2026-12-01", ("AR", "1140", "EZE", "2026-12-01")),
        ("9E3318R.2-BUF-2026-12-01", ("9E", "3318R.2", "BUF", "2026-12-01")),
        ("LUMHARB1930-LUMEN1-2026-12-01", ("LUM", "HARB1930", "LUMEN1", "2026-12-01")),
        ("LU5-EZE-2028-02-29", ("LU", "5", "EZE", "2028-02-29")),
    ],
)
def test_a_service_id_is_taken_apart_by_the_longest_known_operator(service_id: str, key: tuple[str, str, str, str]) -> None:
    assert parse_service_id(service_id, OPERATORS) == ServiceKey(*key)


@pytest.mark.parametrize(
    "service_id",
    ["", "AR", "AR1140", "AR1140-EZE", "AR1140-EZE-2026-13-01", "AR1140-EZE-2027-02-29", "AR1140-eze-2026-12-01", "ar1140-EZE-2026-12-01",
     "ZZ1140-EZE-2026-12-01", "AR-EZE-2026-12-01", "AR1140-EZE-2026-12-01\n", "AR1140-EZE-2026-12-01-X",
     "AR" + "1" * 60 + "-EZE-2026-12-01",
     "AR11 40-EZE-2026-12-01", "AR1140-EZE-２０２６-12-01", "1140-EZE-2026-12-01"],
)  # fmt: skip
def test_what_is_no_service_id_is_refused(service_id: str) -> None:
    with pytest.raises((InvalidRequest, UnknownOperator)):
        parse_service_id(service_id, OPERATORS)


@given(st.text(max_size=80))
def test_any_text_is_an_id_or_a_refusal(text: str) -> None:
    """Never another exception: the text comes from strangers."""
    try:
        key = parse_service_id(text, OPERATORS)
    except (InvalidRequest, UnknownOperator):
        return
    assert f"{key.operator}{key.number}-{key.origin}-{key.date}" == text


def test_names_of_seats_and_amounts() -> None:
    assert seat_key("AR", "AR1140-EZE-2026-12-01", "14C") == "AR/AR1140-EZE-2026-12-01/14C"
    assert [str(Money(minor, "USD")) for minor in (12_905, -5, 0)] == ["129.05 USD", "-0.05 USD", "0.00 USD"]
    assert (is_date("2028-02-29"), is_date("2027-02-29"), is_date("2027-2-1")) == (True, False, False)


def test_a_layout_knows_windows_aisles_exits_and_what_is_missing() -> None:
    """Six seats of two rows: one is missing, positions go on without a gap."""
    layout = Layout(LayoutSpec("L", "L", (Section("Y", "A", ("1", "2"), ("A", "", "C", "D"), ("1D",), ("2",), ("1A",)),), {"1A": "1A*"}))
    assert [seat.seat_id for seat in layout.seats] == ["1A", "1C", "2A", "2C", "2D"]
    assert [seat.position for seat in layout.seats] == [0, 1, 2, 3, 4]
    assert [seat.seat_id for seat in layout.seats if seat.window] == ["1A", "2A", "2D"]
    assert [seat.seat_id for seat in layout.seats if seat.aisle] == ["1A", "1C", "2A", "2C"]
    assert [seat.seat_id for seat in layout.seats if seat.exit] == ["2A", "2C", "2D"]
    assert layout.by_designator["1A*"] is layout.by_id["1A"]
    assert layout.by_id["1A"].accessible and not layout.by_id["1C"].accessible


@pytest.mark.parametrize(
    "sections",
    [
        (),
        (Section("Y", "A", ("1",), ("",)),),
        (Section("Y", "A", ("1",), ("A", "A")),),
        (Section("Y", "A", ("1",), ("A",)), Section("J", "A", ("1",), ("A",))),
        (Section("Y", "A", ("1",), ("a",)),),
        (Section("Y", "A", ("1",), ("A",), prefix="MUCHTOOLONG"),),
        (Section("Y", "A", tuple(map(str, range(201))), tuple(map(str, range(100)))),),
    ],
)
def test_a_layout_without_seats_or_with_one_twice_is_refused(sections: tuple[Section, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Layout(LayoutSpec("L", "L", sections))


def test_a_prefix_tells_two_parts_of_a_hall_apart() -> None:
    layout = Layout(LayoutSpec("L", "L", (Section("STALLS", "A", ("A",), ("1",)), Section("BALCONY", "D", ("A",), ("1",), prefix="BAL"))))
    assert list(layout.by_id) == ["A1", "BALA1"]
