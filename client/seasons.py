"""Local arrival times through the year, where a row says how long the journey takes.

A timetable row has local times at both ends. They fit together at one time of the year: Honolulu and Phoenix never change
their clocks, the southern half of the world changes them the other way, and one night each season is an hour shorter or
longer. So a row that states its block time (minutes from departure to arrival) is cut into spans of dates, in each of which
one local arrival time is right. A row that states only local times is taken at its word.

One case is beyond the stored form: an arrival inside the hour that comes twice in autumn is read as its first coming.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from datastore.model import MINUTE_MS
from datastore.timetable import instant_ms

# Local days before and after a change of clocks whose departures may feel it: journeys up to a day, zones a day apart.
DAYS_BEFORE = 2
DAYS_AFTER = 1


class Span(NamedTuple):
    """From `valid_from` to `valid_to` (ISO dates of departure, inclusive) the arrival is at that local time."""

    valid_from: str
    valid_to: str
    arrives_min: int
    arrives_day: int


def arrival(day: str, departs_min: int, block_min: int, origin_zone: str, destination_zone: str) -> tuple[int, int]:
    """Return (local minutes after midnight, days after departure) of one day's arrival."""
    arrives_ms = instant_ms(day, departs_min, 0, origin_zone) + block_min * MINUTE_MS
    local = datetime.fromtimestamp(arrives_ms / 1000, _zone(destination_zone))
    return local.hour * 60 + local.minute, local.toordinal() - _ordinal(day)


def block_minutes(day: str, departs_min: int, arrives_min: int, arrives_day: int, origin_zone: str, destination_zone: str) -> int:
    """Return the minutes between one day's departure and arrival, both local times."""
    span_ms = instant_ms(day, arrives_min, arrives_day, destination_zone) - instant_ms(day, departs_min, 0, origin_zone)
    return span_ms // MINUTE_MS


def spans(
    valid_from: str, valid_to: str, days: str, departs_min: int, block_min: int, origin_zone: str, destination_zone: str
) -> list[Span]:
    """Return the spans of dates with one arrival time each, in order; together they cover the validity.

    Args:
        days: Seven characters, Monday first: only days that run are looked at, so that a row is not cut for nothing.
    """
    found: list[Span] = []
    for first, last in _stretches(valid_from, valid_to, origin_zone, destination_zone):
        running = _first_running(first, last, days)
        if not running:
            continue
        arrives_min, arrives_day = arrival(running, departs_min, block_min, origin_zone, destination_zone)
        if not found or (found[-1].arrives_min, found[-1].arrives_day) != (arrives_min, arrives_day):
            found.append(Span(first, last, arrives_min, arrives_day))
    if not found:
        # It runs on no day of its validity: harmless, kept whole.
        return [Span(valid_from, valid_to, *arrival(valid_from, departs_min, block_min, origin_zone, destination_zone))]
    starts = [valid_from, *(span.valid_from for span in found[1:])]
    ends = [*(_shifted(start, -1) for start in starts[1:]), valid_to]
    return [span._replace(valid_from=start, valid_to=end) for span, start, end in zip(found, starts, ends, strict=True)]


@lru_cache(maxsize=4096)
def _stretches(valid_from: str, valid_to: str, origin_zone: str, destination_zone: str) -> tuple[tuple[str, str], ...]:
    """Return (first, last) date of stretches within which no arrival can change: single days about each change of clocks."""
    begin, end = _ordinal(valid_from), _ordinal(valid_to)
    cuts = {begin}
    for zone in {origin_zone, destination_zone}:
        for change in _changes(zone, begin - DAYS_AFTER, end + DAYS_BEFORE):
            cuts.update(range(change - DAYS_BEFORE, change + DAYS_AFTER + 1))
    starts = sorted(cut for cut in cuts if begin <= cut <= end)
    ends = [*(start - 1 for start in starts[1:]), end]
    return tuple((_iso(start), _iso(last)) for start, last in zip(starts, ends, strict=True))


@lru_cache(maxsize=1024)
def _changes(zone: str, begin: int, end: int) -> tuple[int, ...]:
    """Return the ordinals of days whose noon has another offset than the noon before."""
    clock = _zone(zone)
    offsets = [datetime.fromordinal(day).replace(hour=12, tzinfo=clock).utcoffset() for day in range(begin - 1, end + 1)]
    return tuple(begin + place for place, pair in enumerate(pairwise(offsets)) if pair[0] != pair[1])


@lru_cache(maxsize=65_536)
def _first_running(first: str, last: str, days: str) -> str:
    begin, end = _ordinal(first), _ordinal(last)
    for day in range(begin, min(end, begin + 6) + 1):
        if days[(day - 1) % 7] != "-":  # Ordinal 1 is a Monday.
            return _iso(day)
    return ""


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=8192)
def _ordinal(day: str) -> int:
    return date.fromisoformat(day).toordinal()


@lru_cache(maxsize=8192)
def _iso(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _shifted(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
