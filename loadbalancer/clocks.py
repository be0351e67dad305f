"""Local days and clocks as minutes on one axis, fast enough for whole timetables. Pure.

Time in searches is whole minutes of UTC counted from the midnight that begins ordinal day 0 (`date.toordinal`). A zone's
offset is the same all day long but for the days on which its clocks change; those are worked out one instant at a time, by the
rule of `datastore.timetable.instant_ms`.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from datastore.model import DAY_MS, MINUTE_MS
from datastore.timetable import instant_ms

DAY_MIN = 1_440
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
EPOCH_MIN = EPOCH_ORDINAL * DAY_MIN


@lru_cache(maxsize=65_536)
def steady_offset_min(zone: str, first: int, last: int) -> int | None:
    """Return the zone's offset in minutes where it stays the same from ordinal day `first` to the end of `last`, else None."""
    clock = ZoneInfo(zone)
    found = {_offset_s(clock, day) for day in range(first, last + 2)}
    if len(found) != 1:
        return None
    seconds = found.pop()
    return None if seconds % 60 else seconds // 60


@lru_cache(maxsize=65_536)
def offset_gain(origin: str, destination: str, first: int, last: int, days_later: int) -> tuple[int | None, tuple[int, ...]]:
    """Return how much the clocks at the end are ahead of those at the beginning, at most, and the days that must be looked at one by one.

    Args:
        first, last: Ordinal local days of departure; arrivals are `days_later`.
    Returns:
        (minutes, None where no day is steady; days on which the clocks of an end change).
    """
    most: int | None = None
    odd: list[int] = []
    for day in range(first, last + 1):
        begins = _day_offset_min(origin, day)
        ends = _day_offset_min(destination, day + days_later)
        if begins is None or ends is None:
            odd.append(day)
        elif most is None or ends - begins > most:
            most = ends - begins
    return most, tuple(odd)


@lru_cache(maxsize=65_536)
def _day_offset_min(zone: str, day: int) -> int | None:
    return steady_offset_min(zone, day, day)


def _offset_s(clock: ZoneInfo, ordinal: int) -> int:
    offset = datetime.fromordinal(ordinal).replace(tzinfo=clock).utcoffset() or timedelta(0)
    return round(offset.total_seconds())


def instant_min(ordinal: int, minutes: int, days_later: int, zone: str) -> int:
    """Return the UTC minutes of a local wall-clock time."""
    return instant_ms(iso(ordinal), minutes, days_later, zone) // MINUTE_MS + EPOCH_MIN


def to_ms(minutes: int) -> int:
    """Return UTC milliseconds since 1970 of UTC minutes since ordinal day 0."""
    return (minutes - EPOCH_MIN) * MINUTE_MS


def to_min(milliseconds: int) -> int:
    """Return UTC minutes since ordinal day 0, rounded down."""
    return milliseconds // MINUTE_MS + EPOCH_MIN


def ordinal_of_ms(milliseconds: int) -> int:
    """Return the ordinal UTC day of UTC milliseconds."""
    return milliseconds // DAY_MS + EPOCH_ORDINAL


@lru_cache(maxsize=8_192)
def iso(ordinal: int) -> str:
    """Return an ordinal day as YYYY-MM-DD."""
    return date.fromordinal(ordinal).isoformat()


@lru_cache(maxsize=8_192)
def ordinal_of(day: str) -> int:
    """Return the ordinal of YYYY-MM-DD."""
    return date.fromisoformat(day).toordinal()
