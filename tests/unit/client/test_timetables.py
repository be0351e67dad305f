"""Timetable files: every row checked alone, every bad one named with file, line, reason and the nearest right value."""

from __future__ import annotations

import json
import lzma
import os
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from client.importing import load_dataset, shipped_data
from client.timetables import ALIASES, COLUMNS, IGNORED, Dataset
from datastore.errors import InvalidRequest
from datastore.model import Layout
from datastore.timetable import Timetable, weekday

TODAY = date(2026, 11, 21)
CHECKOUT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("HOLDFAST_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
SCHEMA = json.loads((CHECKOUT / "docs" / "timetable.schema.json").read_text("utf-8"))
HEADER = "operator,number,from,to,departs,arrives,arrives_day,days,block_min,aircraft"
PLACES = "code,name,zone,lat,lon\nEZE,Ezeiza,America/Argentina/Buenos_Aires,-34.82,-58.54\nMIA,Miami,America/New_York,25.8,-80.29\n"
GOOD = "AR,1140,EZE,MIA,22:15,05:55,1,1234567,580,332"


def loaded(folder: Path, rows: str, header: str = HEADER, **files: str) -> Dataset:
    (folder / "timetable.csv").write_text(f"{header}\n{rows}\n", "utf-8")
    (folder / "places.csv").write_text(PLACES, "utf-8")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, "utf-8")
    return load_dataset(folder, valid_from=TODAY, days=330, dataset="test")


def test_a_good_row_says_what_it_says(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, GOOD)
    assert dataset.problems + dataset.warnings == []
    first = dataset.operators["AR"].schedules[0]
    assert (first.number, first.origin, first.destination, first.departs_min, first.layout_id) == ("1140", "EZE", "MIA", 1335, "332")
    assert (first.valid_from, dataset.operators["AR"].schedules[-1].valid_to) == ("2026-11-20", "2027-10-17")
    assert 4400 < first.distance_miles < 4450


BAD_ROWS = {
    "AR,1140,EZE,MIB,22:15,05:55,1,1234567,580,332": "to: no place MIB; did you mean MIA?",
    "AR,1140,EZE,MIA,24:15,05:55,1,1234567,580,332": "departs: 24:15 is not a time",
    "AR,1140,EZE,MIA,22:15,05:55,1,1243567,580,332": "days: 1243567 is not seven characters",
    "AR,1140,EZE,MIA,22:15,05:55,1,-------,580,332": "days: -------",
    "AR,1140,EZE,MIA,22:15,05:55,1,1234567,-5,332": "block_min: -5 is not a whole number from 1",
    "AR,1140,EZE,MIA,22:15,05:55,9,1234567,580,332": "arrives_day: 9 is not a whole number from -1 to 7",
    "AR,1140,EZE,MIA,22:15,05:55,1,1234567,580,77Z": "aircraft: no type 77Z and no seats to go by; did you mean 77",
    "AR,1140,EZE,MIA,22:15,,,1234567,,332": "arrives: neither arrives nor block_min is given",
    "AR,1140,EZE,EZE,22:15,05:55,1,1234567,580,332": "to: EZE is where it departs",
    "AR,11 40,EZE,MIA,22:15,05:55,1,1234567,580,332": "number: 11 40 is not 1 to 11 capital letters",
    "AR,,EZE,MIA,22:15,05:55,1,1234567,580,332": "number:",
    "AR,1140,EZE,MIA,22:15": "5 cells under 10 columns",
    "AR,1\x07,EZE,MIA,22:15,05:55,1,1234567,580,332": "number: '1\\x07' is not a text",
    "AR," + "1" * 5000 + ",EZE,MIA,22:15,05:55,1,1234567,580,332": "(5000 characters)",
}


@pytest.mark.parametrize("bad", BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_is_named_and_costs_its_own_operator_only(tmp_path: Path, bad: str) -> None:
    """The line and the reason are right, the other operator has all of its rows."""
    dataset = loaded(tmp_path, f"{GOOD}\n{bad}\n{GOOD.replace('AR', 'LA')}")
    (problem,) = dataset.problems
    assert (str(tmp_path / "timetable.csv"), 3, "AR") == (problem.file, problem.line, problem.operator)
    assert BAD_ROWS[bad] in problem.reason
    assert dataset.bad_rows == {"AR": 1}
    assert dataset.operators["LA"].rows == 1


def test_an_operator_that_is_not_listed_is_refused_with_the_nearest(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, GOOD.replace("AR,", "ARR,"), operators__csv="code,name\nAR,Aerolíneas\n")
    assert dataset.problems[0].reason == "operator: ARR is not in the list of operators; did you mean AR?"


def test_a_row_without_an_operator_belongs_to_none(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, f"{GOOD[2:]}\n{GOOD}")
    assert [problem.operator for problem in dataset.problems] == [""]
    assert list(dataset.operators) == ["AR"]


def test_an_unknown_column_refuses_the_file_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"timetable\.csv:1: unknown column aircaft; did you mean aircraft"):
        loaded(tmp_path, GOOD, HEADER.replace("aircraft", "aircaft"))


def test_a_file_that_is_cut_off_imports_nothing(tmp_path: Path) -> None:
    """Where the end is not known, no operator's rows are known to be all."""
    whole = lzma.compress(f"{HEADER}\n{GOOD}\n".encode() * 500)
    (tmp_path / "places.csv").write_text(PLACES, "utf-8")
    (tmp_path / "timetable.csv.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequest, match="cannot be read on"):
        load_dataset(tmp_path, valid_from=TODAY)


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    loaded(tmp_path, GOOD)
    with pytest.raises(InvalidRequest, match=r"no such file; did you mean timetable\.csv"):
        load_dataset(tmp_path / "timetabel.csv", valid_from=TODAY)


def test_a_wrong_zone_is_reported_and_its_place_is_not_there(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, GOOD, places__csv=PLACES.replace("New_York", "New_Yorck"))
    assert (
        dataset.problems[0].reason == "zone: America/New_Yorck is not a time zone such as America/New_York; did you mean America/New_York?"
    )
    assert "to: no place MIA" in dataset.problems[1].reason


def test_an_unknown_type_gets_the_nearest_size_with_one_warning(tmp_path: Path) -> None:
    rows = "\n".join(f"AR,{number},EZE,MIA,22:15,05:55,1,1234567,580,ZZZ,{seats}" for number, seats in ((1, 148), (2, 148)))
    dataset = loaded(tmp_path, rows, f"{HEADER},seats")
    assert [one.reason for one in dataset.warnings] == ["aircraft: no type ZZZ; 320 (150 seats) stands in for 148 seats"]
    assert {"320"} == set(dataset.operators["AR"].layouts)


def test_fares_are_carried_in_minor_units(tmp_path: Path) -> None:
    header = f"{HEADER},fare:Y,fare:Y/A,fare:J,refundable_percent,currency"
    dataset = loaded(tmp_path, f"{GOOD},61900,,219900,50,USD", header)
    schedule = dataset.operators["AR"].schedules[0]
    assert (schedule.fares, schedule.refundable_percent, schedule.currency) == ((("J", "", 219900), ("Y", "", 61900)), 50, "USD")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [("619.00,,,,USD", "12900 is 129.00"), ("61900,,,,", "without a currency"), ("61900,,,101,USD", "refundable_percent: 101")],
)
def test_wrong_fares_are_refused(tmp_path: Path, cells: str, reason: str) -> None:
    dataset = loaded(tmp_path, f"{GOOD},{cells}", f"{HEADER},fare:Y,fare:Y/A,fare:J,refundable_percent,currency")
    assert reason in dataset.problems[0].reason


def test_a_row_that_states_no_fare_needs_no_currency(tmp_path: Path) -> None:
    """A file has the columns because some of its rows state fares."""
    dataset = loaded(tmp_path, f"{GOOD},,,,,", f"{HEADER},fare:Y,fare:Y/A,fare:J,refundable_percent,currency")
    assert (dataset.problems, dataset.operators["AR"].schedules[0].fares) == ([], ())


def test_the_example_of_the_documented_format_is_imported(tmp_path: Path) -> None:
    """Its CSV as it stands there, with the places of the shipped timetables."""
    text = (CHECKOUT / "docs" / "timetable-format.md").read_text("utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith(("    operator,", "    AR,"))]
    (tmp_path / "timetable.csv").write_text("\n".join(lines), "utf-8")
    (tmp_path / "places.csv").write_bytes((shipped_data("brief") / "places.csv").read_bytes())
    dataset = load_dataset(tmp_path, valid_from=TODAY, days=330)
    assert (dataset.problems, dataset.rows) == ([], 2)
    assert [one.fares for one in dataset.operators["AR"].schedules if one.number == "1240"] == [(("Y", "", 18900),)]


def test_a_fare_of_a_cabin_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    dataset = loaded(tmp_path, f"{GOOD},61900,USD", f"{HEADER},fare:Y/AA,currency")
    assert dataset.problems[0].reason == "fares: layout 332 has no Y/AA; did you mean Y/A?"


# --- the JSON form and its schema ---------------------------------------------------------------------------------

PLACE_OBJECTS = [{"code": "EZE", "zone": "America/Argentina/Buenos_Aires"}, {"code": "MIA", "zone": "America/New_York"}]
ROW: dict[str, Any] = {
    "operator": "AR",
    "number": "1140",
    "from": "EZE",
    "to": "MIA",
    "departs": "22:15",
    "block_min": 580,
    "aircraft": "332",
}


def document(**row: Any) -> dict[str, Any]:
    return {"name": "test", "currency": "USD", "places": PLACE_OBJECTS, "timetable": [{**ROW, **row}]}


def loaded_json(folder: Path, content: object) -> Dataset:
    path = folder / "rows.json"
    path.write_text(json.dumps(content, indent=1), "utf-8")
    return load_dataset(path, valid_from=TODAY, days=330)


def test_the_json_form_is_the_csv_form(tmp_path: Path) -> None:
    """Both give the same schedules, and the schema allows it."""
    content = document(fares={"Y": 61900}, refundable_percent=50)
    jsonschema.validate(content, SCHEMA)
    from_json = loaded_json(tmp_path, content).operators["AR"].schedules
    (tmp_path / "csv").mkdir()
    from_csv = loaded(tmp_path / "csv", f"{GOOD},61900,50,USD", f"{HEADER},fare:Y,refundable_percent,currency").operators["AR"].schedules
    assert [(one.departs_min, one.arrives_min, one.fares) for one in from_csv] == [
        (one.departs_min, one.arrives_min, one.fares) for one in from_json
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"departs": "25:00"}, {"days": "7654321"}, {"days": "-------"}, {"block_min": 0}, {"operator": "a"}, {"number": "x y"},
        {"wings": 2}, {"refundable_percent": 101}, {"fares": {"Y": 12.5}}, {"fares": {"Y": -1}}, {"arrives_day": 8},
        {"number": "123456789012"},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_import_refuses(tmp_path: Path, change: dict[str, Any]) -> None:
    content = document(**change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)
    dataset = loaded_json(tmp_path, content)
    assert len(dataset.problems) == 1
    # The row's own line: after the header's three lines and the places' eight.
    assert 1 + (tmp_path / "rows.json").read_text().split('"timetable"')[0].count("\n") + 1 == dataset.problems[0].line


def test_json_that_breaks_off_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"name": "test",\n "timetable": [\n {"operator": "AR"', "utf-8")
    with pytest.raises(InvalidRequest, match=r"rows\.json:3: not JSON"):
        load_dataset(tmp_path / "rows.json", valid_from=TODAY)


def test_the_schema_knows_every_column() -> None:
    assert {*COLUMNS, *IGNORED} == set(SCHEMA["$defs"]["row"]["properties"])


def test_the_documented_format_knows_every_column() -> None:
    text = (CHECKOUT / "docs" / "timetable-format.md").read_text("utf-8")
    assert [column for column in (*COLUMNS, *ALIASES) if f"`{column}`" not in text and column != "arrival_day"] == []


# --- what ships -----------------------------------------------------------------------------------------------------


def test_the_shipped_layouts_follow_the_schema() -> None:
    layouts = json.loads((shipped_data("venues") / "layouts.json").read_text("utf-8"))["layouts"]
    for layout in layouts:
        jsonschema.validate(
            layout, {**SCHEMA, "$ref": "#/$defs/layout", "type": "object", "properties": {}, "required": [], "additionalProperties": True}
        )


def test_nyc_2013_is_whole_and_every_key_is_one_service() -> None:
    """3,278 rows of 15 airlines; the 27 repeated keys are told apart, and nothing else changes its number."""
    dataset = load_dataset(shipped_data("nyc-2013"), valid_from=TODAY, days=330)
    assert (dataset.problems, dataset.warnings, dataset.rows, len(dataset.operators)) == ([], [], 3278, 15)
    before: Counter[tuple[str, ...]] = Counter()
    extra = 0
    for code, part in dataset.operators.items():
        keys = Counter((one.number, one.origin, digit, one.valid_from) for one in part.schedules for digit in one.days if digit != "-")
        assert {1} == set(keys.values())
        whole = {(one.number, one.origin, one.departs_min, digit) for one in part.schedules for digit in one.days if digit != "-"}
        for number, origin, _, digit in whole:
            before[code, number.split(".")[0], origin, digit] += 1
        extra += len({(one.number, one.origin) for one in part.schedules if "." in one.number})
    assert sum(count > 1 for count in before.values()) == 27
    assert 0 < extra <= 27


def test_the_brief_has_the_five_airlines_and_touches_no_number_of_nyc_2013() -> None:
    brief = load_dataset(shipped_data("brief"), valid_from=TODAY, days=330)
    assert (brief.problems, brief.warnings) == ([], [])
    assert {"AR", "LA", "QR", "AA", "FO"} == set(brief.operators)
    american = load_dataset(shipped_data("nyc-2013"), valid_from=TODAY, days=330).operators["AA"]
    assert not {one.number for one in brief.operators["AA"].schedules} & {one.number for one in american.schedules}
    for code, place in brief.operators["AA"].places.items():
        assert american.places.get(code, place) == place


def test_the_venues_have_a_theatre_of_2000_seats_and_a_cinema() -> None:
    venues = load_dataset(shipped_data("venues"), valid_from=TODAY, days=330)
    assert (venues.problems, venues.warnings) == ([], [])
    assert [(part.code, part.kind) for part in venues.operators.values()] == [("GRAND", "theatre"), ("LUM", "cinema")]
    hall = Layout(venues.operators["GRAND"].layouts["GRAND-HALL"])
    assert (hall.capacity, hall.cabins) == (2000, ("STALLS", "CIRCLE", "BALCONY"))
    assert all(one.fares and not one.destination for one in venues.operators["GRAND"].schedules)


def test_us_2008_imports_with_its_gaps_as_warnings() -> None:
    if not (SHARED / "us-2008").is_dir():
        pytest.skip("the us-2008 data is not here: set HOLDFAST_SHARED_DATA to its folder")
    dataset = load_dataset(SHARED / "us-2008", valid_from=TODAY, days=330)
    assert (dataset.problems, dataset.rows, len(dataset.operators), dataset.name) == ([], 30_617, 20, "us-2008")
    assert len(dataset.warnings) == 17
    assert sum("." in one.number for part in dataset.operators.values() for one in part.schedules) == 1


def test_every_journey_of_nyc_2013_takes_its_block_time_in_winter_and_in_summer() -> None:
    """The hardest rows: Phoenix and Honolulu from New York, a day in each season, through the timetable itself."""
    dataset = load_dataset(shipped_data("nyc-2013"), valid_from=TODAY, days=330)
    minutes: dict[tuple[str, str, str], set[int]] = {}
    for part in dataset.operators.values():
        timetable = Timetable(part.code)
        for place in part.places.values():
            timetable.put_place(place)
        for count, schedule in enumerate(part.schedules):
            timetable.put_schedule(str(count), dataset.name, schedule)
        for day in ("2027-01-13", "2027-07-14"):
            assert weekday(day) == 2
            for origin, destination in (("JFK", "PHX"), ("JFK", "HNL"), ("PHX", "JFK"), ("EWR", "HNL")):
                for service in timetable.services(day, origin, destination):
                    key = (service.service_id[: -len(day)], origin, destination)
                    minutes.setdefault(key, set()).add((service.arrives_ms - service.departs_ms) // 60_000)
    assert minutes
    assert {1} == {len(found) for found in minutes.values()}


def test_progress_knows_how_many_rows_there_are() -> None:
    """A bar without its end says nothing: rows so far never pass rows in all, and end there."""
    told: list[tuple[str, int, int]] = []
    dataset = load_dataset(shipped_data("brief"), valid_from=TODAY, progress=lambda what, done, total: told.append((what, done, total)))
    rows = sum(part.rows for part in dataset.operators.values())
    assert rows > 0
    assert all(what == "reading" and done <= total == rows for what, done, total in told)
    assert ("reading", rows, rows) == told[-1]
