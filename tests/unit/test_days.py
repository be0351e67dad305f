"""Tests of the days that the tests choose: a suite that passes on a Friday passes on a Sunday."""

from __future__ import annotations

import csv
import re
from datetime import date, timedelta
from pathlib import Path

from tests.days import TIMETABLE, flown

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"\b([A-Z]{2}\d{3,4}-[A-Z]{3})-\{")


def test_a_flight_that_does_not_leave_each_day_is_asked_for_by_its_days() -> None:
    """Whoever names such a flight together with a computed day takes the day from `flown`; it is one on which the flight leaves."""
    with TIMETABLE.open(encoding="utf-8", newline="") as rows:
        some_days = {row["operator"] + row["number"] + "-" + row["from"]: row["days"] for row in csv.DictReader(rows) if "-" in row["days"]}
    wrong, seen = [], 0
    for file in sorted(TESTS.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for flight in sorted(set(NAMED.findall(text)) & set(some_days)):
            seen += 1
            wrong += [f"{file}: {flight}"] * (f'flown("{flight}"' not in text)
    assert seen
    assert not wrong
    for ahead in range(14):
        first = date.today() + timedelta(ahead)
        day = flown("AR1130-EZE", ahead)
        assert day.isoweekday() in (1, 3, 5, 7)
        assert first <= day < date.today() + timedelta(ahead + 3)
