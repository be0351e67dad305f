"""Trips as bars over one clock: when one sits in which aircraft, and how long one waits where. Pure.

All trips of an answer are drawn over the same stretch of time, so that earlier, later and longer can be seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from datastore.messages import Layover, Trip

FLYING, CHANGED, WAITING, NIGHT, EMPTY = "flying", "changed", "waiting", "night", "empty"
LINE, DOTS, BLANK = "━", "┄", " "
WIDTH_MIN = 12
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CLOCK_STEPS_MS = tuple(hours * HOUR_MS for hours in (1, 2, 3, 6, 12, 24))
CLOCK_LABEL = 12  # Characters that a moment on the clock has at least: "╷18:00+1" and some blank.


class Piece(NamedTuple):
    """Some characters of a bar and what they stand for: one of the words above."""

    text: str
    role: str


def stretch(trips: Sequence[Trip]) -> tuple[int, int]:
    """Return the first departure and the last arrival of all trips, UTC milliseconds; (0, 1) without any."""
    if not trips:
        return 0, 1
    begin, end = min(trip.departs_ms for trip in trips), max(trip.arrives_ms for trip in trips)
    return begin, max(end, begin + 1)


def clock(trips: Sequence[Trip], width: int) -> str:
    """Return the clock that the bars of `trips` are drawn over, `width` characters: "18:00" where that moment is.

    It is the time of the place where the trip that departs first begins; a day later has "+1" behind, as arrivals do.
    """
    width = max(width, WIDTH_MIN)
    begin, end = stretch(trips)
    first = min(trips, key=lambda trip: trip.departs_ms)
    local = datetime.fromisoformat(first.departs)
    midnight_ms = first.departs_ms - round(timedelta(hours=local.hour, minutes=local.minute).total_seconds() * 1000)
    step_ms = next((step for step in CLOCK_STEPS_MS if (end - begin) / step <= width / CLOCK_LABEL), CLOCK_STEPS_MS[-1])
    line = ""
    moment = midnight_ms + -(-(begin - midnight_ms) // step_ms) * step_ms
    while moment < end:
        place = round((moment - begin) * width / (end - begin))
        days, rest = divmod(moment - midnight_ms, DAY_MS)
        label = f"╷{rest // HOUR_MS:02d}:00{f'+{days}' if days else ''}"
        if place >= len(line) and place + len(label) <= width:
            line += " " * (place - len(line)) + label
        moment += step_ms
    return line


def bar(trip: Trip, span_ms: tuple[int, int], width: int) -> list[Piece]:
    """Return a trip as `width` characters over the stretch of time `span_ms`.

    A service is a line with its operator on it, a wait is dotted with the place's code on it. What changes its airline has
    another role, as a change of airline may mean another terminal and bags to collect.
    """
    begin, end = span_ms
    width = max(width, WIDTH_MIN)

    def place(moment_ms: int) -> int:
        return max(0, min(width, round((moment_ms - begin) * width / (end - begin))))

    pieces: list[Piece] = []
    at = place(trip.departs_ms)
    if at:
        pieces.append(Piece(BLANK * at, EMPTY))
    role = FLYING
    for number, leg in enumerate(trip.legs):
        # Each service has a character at least, however short it is beside the whole.
        until = max(place(leg.service.arrives_ms), at + 1)
        pieces.append(Piece(_labelled(leg.service.operator, until - at, LINE), role))
        at = until
        if number < len(trip.layovers):
            wait = trip.layovers[number]
            until = max(place(trip.legs[number + 1].service.departs_ms), at + 1)
            pieces.append(Piece(_labelled(wait.place, until - at, DOTS), NIGHT if wait.overnight else WAITING))
            at = until
            if wait.changes_airline:
                role = CHANGED if role == FLYING else FLYING
    return _cut([*pieces, Piece(BLANK * max(0, width - at), EMPTY)], width)


def _labelled(word: str, width: int, fill: str) -> str:
    return word.center(width, fill) if width >= len(word) + 2 else fill * width


def _cut(pieces: list[Piece], width: int) -> list[Piece]:
    cut, left = [], width
    for piece in pieces:
        if left > 0 and piece.text:
            cut.append(Piece(piece.text[:left], piece.role))
        left -= len(piece.text)
    return cut


def hours(minutes: int) -> str:
    """Return "2h05"."""
    return f"{minutes // 60}h{minutes % 60:02d}"


def route_words(trip: Trip) -> str:
    """Return "EZE → GRU 2h15 → DOH", "!" where the airline changes, "☾" where a night is between."""
    words = [trip.origin]
    for wait in trip.layovers:
        words += ["→", f"{wait.place} {_wait(wait)}"]
    return " ".join([*words, "→", trip.destination])


def _wait(wait: Layover) -> str:
    return f"{hours(wait.minutes)}{'!' * wait.changes_airline}{'☾' * wait.overnight}"


def stops_words(trip: Trip) -> str:
    """Return "direct", "1 stop" or "2 stops"."""
    return "direct" if not trip.stops else f"{trip.stops} stop{'s' * (trip.stops > 1)}"


def terms_words(trip: Trip) -> str:
    """Return what one should know before choosing: changes of airline, nights, what is refunded, and why it is shown."""
    changes = [wait.place for wait in trip.layovers if wait.changes_airline]
    nights = [wait.place for wait in trip.layovers if wait.overnight]
    words = [trip.why] if trip.why else []
    if changes:
        words.append(f"changes airline in {' and '.join(changes)}")
    if nights:
        words.append(f"a night in {' and '.join(nights)}")
    if trip.refundable_percent:
        words.append(f"{trip.refundable_percent} % back")
    return "; ".join(words)
