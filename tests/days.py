"""The days on which the shipped flights leave: a test finds its service on whatever day of the week it runs."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

TIMETABLE = Path(__file__).parents[1] / "data" / "brief" / "timetable.csv"
WEEK = 7


def flown(flight: str, ahead: int) -> date:
    """Return the first day, from `ahead` days after today on, on which a flight of `data/brief` (such as AR1130-EZE) leaves."""
    with TIMETABLE.open(encoding="utf-8", newline="") as rows:
        days = {row["operator"] + row["number"] + "-" + row["from"]: row["days"] for row in csv.DictReader(rows)}
    first = date.today() + timedelta(days=ahead)
    return next(day for day in (first + timedelta(days=later) for later in range(WEEK)) if str(day.isoweekday()) in days[flight])
