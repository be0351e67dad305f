"""A journey takes as long in July as in January, wherever the clocks change."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from client.seasons import arrival, block_minutes, spans
from datastore.timetable import instant_ms

YEAR = ("2026-11-20", "2027-10-17")
EVERY_DAY = "1234567"
ZONES = ("America/New_York", "America/Phoenix", "Pacific/Honolulu", "America/Santiago", "Asia/Qatar", "Europe/London")


def test_new_york_to_phoenix_is_cut_where_new_york_changes() -> None:
    """Five hours from 08:00: 11:00 in winter, 10:00 in summer, as Arizona keeps its clocks."""
    found = spans(*YEAR, EVERY_DAY, 480, 300, "America/New_York", "America/Phoenix")
    assert found == [("2026-11-20", "2027-03-13", 660, 0), ("2027-03-14", "2027-10-17", 600, 0)]


def test_honolulu_to_los_angeles_lands_the_next_day_in_summer_too() -> None:
    """21:40, five and a quarter hours: 04:55 in winter and 05:55 in summer, both a day later."""
    found = spans(*YEAR, EVERY_DAY, 1300, 315, "Pacific/Honolulu", "America/Los_Angeles")
    # Leaving Honolulu on the 13th at 21:40 is landing on the 14th after the change of clocks.
    assert found == [("2026-11-20", "2027-03-12", 295, 1), ("2027-03-13", "2027-10-17", 355, 1)]


def test_a_day_offset_may_change_with_the_season() -> None:
    """An arrival at 23:40 in winter is 00:40 of the next day in summer."""
    found = spans(*YEAR, EVERY_DAY, 1380, 40, "America/Phoenix", "America/Denver")
    assert [(span.arrives_min, span.arrives_day) for span in found] == [(1420, 0), (40, 1)]


def test_the_night_of_the_change_has_its_own_arrival() -> None:
    """A night flight inside one zone lands an hour later by the clock in the spring night, an hour earlier in autumn."""
    found = spans("2027-01-01", "2027-12-31", EVERY_DAY, 1380, 300, "America/New_York", "America/New_York")
    assert [span.arrives_min for span in found] == [240, 300, 240, 180, 240]
    assert found[1][:2] == ("2027-03-13", "2027-03-13")
    assert found[3][:2] == ("2027-11-06", "2027-11-06")


def test_a_day_flight_inside_one_zone_is_never_cut() -> None:
    assert len(spans("2027-01-01", "2027-12-31", EVERY_DAY, 480, 300, "America/New_York", "America/New_York")) == 1


def test_a_night_that_does_not_run_cuts_nothing() -> None:
    """The change comes on the night after a Saturday; a flight on Mondays does not feel it."""
    assert len(spans("2027-01-01", "2027-12-31", "1------", 1380, 300, "America/New_York", "America/New_York")) == 1


@pytest.mark.parametrize("origin", ZONES)
@pytest.mark.parametrize("destination", ZONES)
def test_every_day_of_a_year_keeps_the_block_time(origin: str, destination: str) -> None:
    """The spans cover the validity without a gap, and on each day the instants are the block time apart.

    An arrival inside the hour that comes twice in autumn is the one exception that the module names.
    """
    for departs_min, block_min in ((480, 300), (1410, 600), (90, 75)):
        found = spans(*YEAR, "12345-7", departs_min, block_min, origin, destination)
        assert (YEAR[0], YEAR[1]) == (found[0].valid_from, found[-1].valid_to)
        day, last = date.fromisoformat(YEAR[0]), date.fromisoformat(YEAR[1])
        while day <= last:
            if day.weekday() != 5:
                (span,) = [one for one in found if one.valid_from <= day.isoformat() <= one.valid_to]
                assert arrival(day.isoformat(), departs_min, block_min, origin, destination) == span[2:]
                minutes = block_minutes(day.isoformat(), departs_min, *span[2:], origin, destination)
                assert minutes in (block_min, block_min - 60) and (minutes == block_min or 60 <= span.arrives_min < 180)
            day += timedelta(days=1)


def test_an_instant_in_the_skipped_hour_is_read_with_the_offset_before() -> None:
    """02:30 on the morning that skips it is half an hour after the change."""
    assert instant_ms("2027-03-14", 150, 0, "America/New_York") - instant_ms("2027-03-14", 119, 0, "America/New_York") == 31 * 60_000
