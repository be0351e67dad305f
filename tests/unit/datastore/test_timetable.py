"""One operator's timetable: which services a row implies, and at which instants, through changes of clocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from datastore.model import LayoutSpec, Place, Schedule, Section, ServiceKey
from datastore.timetable import Timetable, instant_ms, runs_on, weekday

ZONES = {"JFK": "America/New_York", "PHX": "America/Phoenix", "HNL": "Pacific/Honolulu", "EZE": "America/Argentina/Buenos_Aires"}
ROW = Schedule("1", "JFK", "PHX", 480, 660, 0, "12345--", "2026-11-20", "2027-03-13", "319")


def timetable(*rows: Schedule) -> Timetable:
    table = Timetable("AA")
    for code, zone in ZONES.items():
        table.put_place(Place(code, code, "", "", zone))
    table.put_layout(LayoutSpec("319", "A319", (Section("Y", "B", ("1",), ("A",)),)))
    for count, row in enumerate(rows):
        table.put_schedule(f"set/{count}", "set", row)
    return table


def utc(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def test_a_row_runs_on_its_weekdays_within_its_validity() -> None:
    """Both ends count; 21 November 2026 is a Saturday."""
    assert weekday("2026-11-21") == 5
    days = ["2026-11-19", "2026-11-20", "2026-11-21", "2026-11-23", "2027-03-12", "2027-03-13", "2027-03-15"]
    assert [runs_on(ROW, day) for day in days] == [False, True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("day", "minutes", "zone", "expected"),
    [
        ("2027-01-15", 480, "America/New_York", "2027-01-15T13:00"),
        ("2027-07-15", 480, "America/New_York", "2027-07-15T12:00"),
        ("2027-01-15", 480, "America/Phoenix", "2027-01-15T15:00"),
        ("2027-07-15", 480, "America/Phoenix", "2027-07-15T15:00"),
        ("2027-07-15", 1430, "Pacific/Honolulu", "2027-07-16T09:50"),
        ("2027-03-14", 119, "America/New_York", "2027-03-14T06:59"),
        ("2027-03-14", 150, "America/New_York", "2027-03-14T07:30"),  # 02:30 does not exist: the offset before
        ("2027-03-14", 180, "America/New_York", "2027-03-14T07:00"),
        ("2027-11-07", 90, "America/New_York", "2027-11-07T05:30"),  # 01:30 comes twice: the first
        ("2027-11-07", 180, "America/New_York", "2027-11-07T08:00"),
    ],
)
def test_local_times_become_instants(day: str, minutes: int, zone: str, expected: str) -> None:
    assert utc(instant_ms(day, minutes, 0, zone)) == expected


def test_an_arrival_days_later_is_read_with_the_offset_of_that_day() -> None:
    """Leaving on the Saturday before the spring change, landing at 06:00 on the Sunday after it."""
    assert utc(instant_ms("2027-03-13", 360, 1, "America/New_York")) == "2027-03-14T10:00"
    assert utc(instant_ms("2027-11-06", 360, 1, "America/New_York")) == "2027-11-07T11:00"


def test_a_service_has_the_instants_of_both_zones() -> None:
    """08:00 in New York to 11:00 in Phoenix in winter is five hours."""
    service = timetable(ROW).service(ServiceKey("AA", "1", "JFK", "2027-01-15"))
    assert service is not None
    assert (service.service_id, service.dataset) == ("AA1-JFK-2027-01-15", "set")
    assert (utc(service.departs_ms), utc(service.arrives_ms)) == ("2027-01-15T13:00", "2027-01-15T18:00")


def test_rows_of_one_number_that_share_no_day_are_found_by_date() -> None:
    """The winter and the summer row of one flight; the right one answers, or none."""
    summer = replace(ROW, valid_from="2027-03-14", valid_to="2027-10-01", arrives_min=600)
    table = timetable(ROW, summer)
    arrivals = {}
    for day in ("2027-03-12", "2027-03-13", "2027-03-15"):
        found = table.service(ServiceKey("AA", "1", "JFK", day))
        arrivals[day] = found.schedule.arrives_min if found else None
    assert arrivals == {"2027-03-12": 660, "2027-03-13": None, "2027-03-15": 600}


def test_what_nobody_has_is_none() -> None:
    table = timetable(ROW)
    for key in (("AA", "2", "JFK", "2027-01-15"), ("AA", "1", "PHX", "2027-01-15"), ("AA", "1", "JFK", "2027-01-16")):
        assert table.service(ServiceKey(*key)) is None
        assert table.layout_of(ServiceKey(*key)) is None
    assert table.layout_of(ServiceKey("AA", "1", "JFK", "2027-01-15")) is table.layouts["319"]


def test_a_showing_begins_and_ends_in_one_zone() -> None:
    show = replace(ROW, origin="EZE", destination="", departs_min=1425, arrives_min=96, arrives_day=1, days="1234567")
    (service,) = timetable(show).services("2027-01-15", "EZE")
    assert (service.arrives_ms - service.departs_ms) // 60_000 == 111


def test_services_of_a_day_are_found_by_either_end_or_none() -> None:
    table = timetable(ROW, replace(ROW, number="2", destination="HNL"), replace(ROW, number="3", origin="PHX", destination="JFK"))
    found = {
        ends: sorted(service.schedule.number for service in table.services("2027-01-15", *ends))
        for ends in (("", ""), ("JFK", ""), ("", "JFK"), ("JFK", "HNL"), ("HNL", "JFK"))
    }
    assert found == {("", ""): ["1", "2", "3"], ("JFK", ""): ["1", "2"], ("", "JFK"): ["3"], ("JFK", "HNL"): ["2"], ("HNL", "JFK"): []}


def test_a_row_that_is_put_again_replaces_itself_and_a_dropped_one_is_gone() -> None:
    table = timetable(ROW)
    table.put_schedule("set/0", "set", replace(ROW, number="7", destination="HNL"))
    assert (list(table.numbers()), list(table.routes())) == ([("7", "JFK")], [("JFK", "HNL")])
    table.drop_schedule("set/0")
    table.drop_schedule("set/0")
    assert (list(table.numbers()), list(table.routes()), list(table.services("2027-01-15"))) == ([], [], [])
