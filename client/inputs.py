"""What people type, read: durations, dates, passengers, seats. Pure: today is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import Passenger

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION_PATTERN = re.compile(r"(?:\d{1,9}[smhd])+", re.ASCII)
DAYS_AHEAD_MAX = 3_660
NEIGHBOURS = {"yesterday": -1, "tomorrow": 1}
DAYS = ("today", *NEIGHBOURS)


def duration_ms(text: str) -> int:
    """Return the milliseconds of "15m", "90s", "1h30m"; a bare number counts as minutes.

    Raises:
        InvalidRequest: It is none of these, or zero.
    """
    word = text.strip().lower()
    if word.isascii() and word.isdigit() and len(word) < 10:
        total = int(word) * UNIT_MS["m"]
    elif DURATION_PATTERN.fullmatch(word):
        total = sum(int(number) * UNIT_MS[unit] for number, unit in re.findall(r"(\d+)([smhd])", word))
    else:
        raise InvalidRequest(f"{shown(text)} is not a duration: write e.g. 15m, 90s or 1h30m", field="for")
    if total <= 0:
        raise InvalidRequest(f"{shown(text)} is no time at all: write e.g. 15m", field="for")
    return total


def hold_ms(text: str) -> int:
    """Return the milliseconds that a hold shall last.

    Raises:
        InvalidRequest: It is no duration, or longer than a day, which no hold lasts.
    """
    total = duration_ms(text)
    if total > UNIT_MS["d"]:
        raise InvalidRequest(f"{shown(text)} is longer than any hold: at most 24h", field="for")
    return total


def day(text: str, today: date) -> str:
    """Return the ISO date of "2026-12-01", "yesterday", "today", "tomorrow" or "+3d".

    Raises:
        InvalidRequest: It is none of these.
    """
    word = text.strip().lower()
    if word in ("today", ""):
        return today.isoformat()
    if word in NEIGHBOURS:
        return (today + timedelta(days=NEIGHBOURS[word])).isoformat()
    ahead = re.fullmatch(r"\+(\d{1,4})d?", word, re.ASCII)
    if ahead and int(ahead[1]) <= DAYS_AHEAD_MAX:
        return (today + timedelta(days=int(ahead[1]))).isoformat()
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", word, re.ASCII):
            return date.fromisoformat(word).isoformat()
    except ValueError:
        pass
    near = nearest(word, DAYS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InvalidRequest(f"{shown(text)} is not a date: write e.g. 2026-12-01, yesterday, today, tomorrow or +3d{hint}", field="date")


def service_id(text: str, today: date) -> str:
    """Return a service id in capitals; its date may be a word, as in "AR1140-EZE-tomorrow" or "AR1140-EZE-+3d".

    What has no such form is passed on: the cluster knows the nearest right one.

    Raises:
        InvalidRequest: Its date is almost such a word, which only we know: "AR1140-EZE-tomorow".
    """
    head, dash, last = text.strip().rpartition("-")
    # A service's own number and place stand in front, so that a place that is like such a word is none.
    if dash and (last.lower() in DAYS or last.startswith("+") or ("-" in head and nearest(last.lower(), DAYS, 1))):
        return f"{head.upper()}-{day(last, today)}"
    return text.strip().upper()


def passenger(text: str) -> Passenger:
    """Return the person of "Given Names Surname" or "Surname/Given Names".

    Raises:
        InvalidRequest: There is no surname, or a name has control characters.
    """
    word = " ".join(text.split()) if text.isprintable() else ""
    surname, slash, given = word.partition("/")
    if not slash:
        given, _, surname = word.rpartition(" ")
    surname, given = surname.strip(), given.strip()
    if not surname:
        raise InvalidRequest(f'"{shown(text)}" names nobody: write "Given Surname" or "Surname/Given"', field="passenger")
    return Passenger(surname, given)


def seats(words: Sequence[str]) -> list[str]:
    """Return seat ids as the layouts have them: upper case, split at commas.

    Raises:
        InvalidRequest: A word is empty.
    """
    if not all(word.strip() for word in words):
        raise InvalidRequest("one of the seats is empty: name each, e.g. 12A 12B", field="seats")
    return [part.strip().upper() for word in words for part in word.split(",") if part.strip()]


def trip_leg(word: str, today: date) -> tuple[str, list[str] | int]:
    """Return the service and the seats, or how many of the best, of "AR1140-EZE-tomorrow:12A,12B" or "AR1140-EZE-+3d:any2".

    Raises:
        InvalidRequest: It names no service or nothing to hold there.
    """
    service, colon, wanted = word.strip().partition(":")
    count = re.fullmatch(r"any(\d{1,3})", wanted.strip().lower(), re.ASCII)
    named = seats([wanted]) if wanted.strip() and not count else []
    if not service or not colon or not (named or (count and int(count[1]))):
        raise InvalidRequest(f"{shown(word)} is not a leg: write SERVICE:12A,12B or SERVICE:any2", field="legs")
    return service_id(service, today), int(count[1]) if count else named


def duration_text(milliseconds: int) -> str:
    """Return a duration for people: "14 min 59 s", "2 h 5 min", "3 d"."""
    seconds = max(0, milliseconds) // 1000
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number or first == len(parts) - 1)
