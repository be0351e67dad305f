"""Layouts as people write them, and aircraft cabins as they are derived."""

from __future__ import annotations

import pytest

from client.dataset_files import read_aircraft
from client.importing import shipped_data
from client.layouts import columns_of, labels_of, layout_from, nearest_sized, seats_of
from datastore.errors import InvalidRequest
from datastore.model import Layout


def test_rows_columns_and_seats_have_a_short_notation() -> None:
    assert labels_of("1-3") == ("1", "2", "3")
    assert labels_of("A-C,E") == ("A", "B", "C", "E")
    assert columns_of("AC-DF") == ("A", "C", "", "D", "F")
    assert columns_of("A-B") == ("A", "", "B")
    assert columns_of("1-2,,3-4") == ("1", "2", "", "3", "4")
    assert seats_of(["A9-A11", "14C"]) == ("A9", "A10", "A11", "14C")


@pytest.mark.parametrize("text", ["3-1", "T-A", "A-9", "a-c", "1-100000", "1-600", "-", "A--C", "1-2-3"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        labels_of(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wings": 2}, "unknown key wings"),
        ({"section": []}, "did you mean sections"),
        ({"id": "a b"}, "is not a layout's id"),
        ({"sections": "A"}, "a list of objects"),
        ({"sections": [{"cabin": "HALL", "rows": "1-2", "columns": "AB", "missing": ["3A"]}]}, "3A is named but not in the grid"),
        ({"sections": [{"cabin": "HALL", "rows": "1-2", "columns": "AB", "exit_rows": "9"}]}, "9 is named but not in the grid"),
        ({"sections": [{"cabin": "HALL", "rows": "1-2", "columns": "AB", "colums": "AB"}]}, "did you mean columns"),
        ({"labels": {"9A": "x"}}, "9A is named"),
        ({"behind": ["gallery"]}, "behind: gallery is none of .*; did you mean galley"),
        ({"behind": ["door"] * 9}, "over 8 side by side"),
        ({"behind": 3}, "behind: a list of texts"),
        ({"sections": [{"cabin": "HALL", "rows": "1-2", "columns": "AB", "ahead": ["pit"]}]}, "ahead: pit is none of"),
    ],
)
def test_a_wrong_layout_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        layout_from({"id": "X", "sections": [{"cabin": "HALL", "rows": "1-2", "columns": "AB"}], **change})


# --- aircraft -----------------------------------------------------------------------------------------------------


def test_every_aircraft_type_has_the_seats_that_its_line_says() -> None:
    """Two files written apart agree: 76 types."""
    lines = (shipped_data("aircraft") / "aircraft_types.csv").read_text("utf-8").splitlines()[1:]
    layouts = {code: Layout(spec) for code, spec in read_aircraft(shipped_data("aircraft")).items()}
    stated = {line.split(",")[0]: int(line.split(",")[2]) for line in lines}
    exits = {line.split(",")[0]: set(line.split(",")[3].split()) for line in lines}
    assert {code: layout.capacity for code, layout in layouts.items()} == stated
    assert {code: {seat.row for seat in layout.seats if seat.exit} for code, layout in layouts.items()} == exits


def test_doors_and_galleys_stand_where_an_aircraft_of_that_size_has_them() -> None:
    """None in the smallest; at the front of all others, between cabins only with two aisles; a lavatory behind the smaller ones."""
    found = {
        code: ({section.rows[0]: section.ahead for section in spec.sections if section.ahead}, spec.behind)
        for code, spec in read_aircraft(shipped_data("aircraft")).items()
    }
    both = ("door", "galley", "door")
    assert found["BN2"] == ({}, ())
    assert found["ER4"] == ({"1": both}, ("lavatory",))
    assert found["320"] == ({"1": both}, both)
    assert found["77W"] == ({"1": both, "18": both}, both)


def test_a_hall_says_what_stands_before_and_behind_its_seats() -> None:
    sections = [{"cabin": "HALL", "rows": "1-2", "columns": "AB", "ahead": "stairs stage stairs"}]
    spec = layout_from({"id": "X", "sections": sections, "behind": ["door"]})
    assert (spec.sections[0].ahead, spec.behind) == (("stairs", "stage", "stairs"), ("door",))


def test_an_a319_has_its_cabins_zones_and_accessible_seats() -> None:
    layout = Layout(read_aircraft(shipped_data("aircraft"))["319"])
    assert (layout.capacity, layout.cabins) == (126, ("F", "Y"))
    zones = {row: {seat.zone for seat in layout.seats if seat.row == row} for row in ("1", "4", "6", "7", "10", "11")}
    assert zones == {"1": {"B"}, "4": {"A"}, "6": {"A"}, "7": {"B"}, "10": {"A"}, "11": {"B"}}
    assert [seat.seat_id for seat in layout.seats if seat.accessible] == ["1C", "1D", "4C", "4D", "5C", "5D"]


def test_a_narrow_last_row_stays_in_the_grid() -> None:
    """Row 21 of a DC-9 has C, D, E: its C is at the aisle and at no window."""
    layout = Layout(read_aircraft(shipped_data("aircraft"))["D93"])
    assert [seat.seat_id for seat in layout.seats if seat.row == "21"] == ["21C", "21D", "21E"]
    assert (layout.by_id["21C"].aisle, layout.by_id["21C"].window, layout.by_id["21C"].x) == (True, False, layout.by_id["20C"].x)


def test_the_nearest_size_stands_in_and_the_first_by_code_decides() -> None:
    layouts = {code: Layout(spec) for code, spec in read_aircraft(shipped_data("aircraft")).items()}
    assert nearest_sized(layouts, 149) == "320"
    assert nearest_sized(layouts, 1) == "BN2"
    assert nearest_sized(layouts, 5000) == "388"
