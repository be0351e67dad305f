"""From rows of a timetable file to `model.Schedule`: every row checked, every bad one reported. Pure.

A row is a mapping of column to text (CSV) or to a JSON value. `TimetableReader` takes them one by one, with file and line,
and `finish` gives a `Dataset`: what each operator would import, and the problems. A bad row belongs to the operator that it
names, and that operator then imports nothing (all or nothing); the others go on.

The columns, their meaning and their other names are in docs/timetable-format.md; `COLUMNS` and `ALIASES` are the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec.structs import replace

from client.descriptions import Header, OperatorName
from client.layouts import nearest_sized
from client.numbering import NATURAL_LENGTH_MAX, numbered
from client.seasons import Span, arrival, block_minutes, spans
from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import NUMBER_PATTERN, OPERATOR_PATTERN, ConnectingTime, Layout, LayoutSpec, Place, Schedule, is_date
from datastore.timetable import miles_between

COLUMNS = (
    "operator", "number", "from", "to", "departs", "arrives", "arrives_day", "days", "valid_from", "valid_to", "block_min", "miles",
    "layout", "aircraft", "seats", "title", "currency", "fares", "refundable_percent",
    "child_percent", "infant_percent", "infant_seat_percent",
)  # fmt: skip
# The raw form of published timetables says the same in shorter words.
ALIASES = {
    "carrier": "operator", "flight": "number", "origin": "from", "destination": "to", "dep": "departs", "arr": "arrives",
    "arr_day": "arrives_day", "arrival_day": "arrives_day", "type": "aircraft",
}  # fmt: skip
IGNORED = frozenset(("inferred", "note"))
FARE_PREFIX = "fare:"
PROBLEMS_MAX = 10_000
DAY_MINUTES = 1440
JOURNEY_DAYS_MAX = 7
FARE_MAX_MINOR = 100_000_000_00
# How long a journey takes that nobody says: half an hour and 450 miles an hour.
ESTIMATE_START_MIN = 30
ESTIMATE_MILES_PER_MIN = 7.5
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class Problem(NamedTuple):
    """What is wrong with one line. `operator` is "" where the line belongs to none."""

    file: str
    line: int
    reason: str
    operator: str = ""


@dataclass
class OperatorRows:
    """What one operator would import: `rows` of the files became `schedules` (a row may be cut at a change of clocks)."""

    code: str
    name: str
    kind: str
    accounting: str = ""
    rows: int = 0
    schedules: list[Schedule] = field(default_factory=list)
    layouts: dict[str, LayoutSpec] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    connecting: list[ConnectingTime] = field(default_factory=list)


@dataclass
class Dataset:
    """A timetable read and checked.

    Attributes:
        operators: Code -> what it would import; also of operators with bad rows, whose part must not be sent.
        problems: Every bad line (at most 10,000 are kept).
        warnings: Lines that were understood by a guess.
        bad_rows: Operator -> how many of its lines are bad.
    """

    name: str
    title: str
    licence: str
    rows: int = 0
    operators: dict[str, OperatorRows] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    bad_rows: dict[str, int] = field(default_factory=dict)


class _Parsed(NamedTuple):
    schedule: Schedule
    block_min: int  # 0: the local times are taken at their word


class TimetableReader:
    """Takes rows, keeps schedules and problems. One reader a dataset."""

    def __init__(
        self,
        header: Header,
        places: Mapping[str, Place],
        operators: Mapping[str, OperatorName],
        layouts: Mapping[str, LayoutSpec],
        aircraft: Mapping[str, LayoutSpec],
        connecting: Iterable[ConnectingTime] = (),
    ) -> None:
        """Begin.

        Args:
            operators: Code -> name and kind; empty where the dataset has no such file: then any code goes.
            layouts: The dataset's own, by id.
            aircraft: Typical cabins by type code: what `aircraft` names, and what stands in for an unknown type.
            connecting: Minimum connecting times; each goes to the operators that it names, or to all.
        """
        self._header = header
        self._places = places
        self._connecting = sorted(set(connecting), key=lambda line: (line.place, line.arriving, line.departing))
        self._operators = operators
        self._specs = {**aircraft, **layouts}
        self._aircraft = {code: Layout(spec) for code, spec in aircraft.items()}
        self._fare_keys: dict[str, frozenset[tuple[str, str]]] = {}
        self._parsed: dict[str, list[_Parsed]] = {}
        self._guessed: set[tuple[str, str]] = set()
        self.dataset = Dataset(header.name, header.title, header.licence)

    def take(self, file: str, line: int, row: Mapping[str, Any]) -> None:
        """Take one row; a bad one becomes a problem of its operator."""
        self.dataset.rows += 1
        operator = str(row.get("operator", "") or "")
        try:
            if not OPERATOR_PATTERN.fullmatch(operator):
                raise InvalidRequest(f"operator: {shown(operator)} is not a code of 2 to 8 capital letters and digits")
            if self._operators and operator not in self._operators:
                raise InvalidRequest(f"operator: {shown(operator)} is not in the list of operators{_hint(operator, self._operators)}")
            parsed = self._row(file, line, operator, row)
        except InvalidRequest as error:
            self.refuse(file, line, error.detail, operator if OPERATOR_PATTERN.fullmatch(operator) else "")
            return
        self._parsed.setdefault(operator, []).append(parsed)

    def refuse(self, file: str, line: int, reason: str, operator: str = "") -> None:
        """Report a bad line."""
        self.dataset.bad_rows[operator] = self.dataset.bad_rows.get(operator, 0) + 1
        if len(self.dataset.problems) < PROBLEMS_MAX:
            self.dataset.problems.append(Problem(file, line, reason, operator))

    def refuse_row(self, file: str, line: int, error: InvalidRequest) -> None:
        """Report a line that made no row; its operator is told where the line names one."""
        self.dataset.rows += 1
        operator = str(error.fields.get("operator", ""))
        self.refuse(file, line, error.detail, operator if OPERATOR_PATTERN.fullmatch(operator) else "")

    def warn(self, file: str, line: int, reason: str, operator: str = "") -> None:
        """Report a line that was understood by a guess."""
        if len(self.dataset.warnings) < PROBLEMS_MAX:
            self.dataset.warnings.append(Problem(file, line, reason, operator))

    def finish(self) -> Dataset:
        """Return the dataset: repeated numbers told apart, rows cut where the clocks change."""
        for code in sorted({*self._parsed, *(code for code in self.dataset.bad_rows if code)}):
            known = self._operators.get(code) or OperatorName(code, code, "")
            part = OperatorRows(code, known.name, known.kind or self._header.kind, known.accounting)
            parsed = self._parsed.pop(code, [])
            part.rows = len(parsed)
            for schedule, (_, block_min) in zip(numbered([one.schedule for one in parsed]), parsed, strict=True):
                part.schedules.extend(self._through_the_year(schedule, block_min))
            for schedule in part.schedules:
                part.layouts.setdefault(schedule.layout_id, self._specs[schedule.layout_id])
                for place in (schedule.origin, schedule.destination):
                    if place:
                        part.places.setdefault(place, self._places[place])
            part.connecting = [line for line in self._connecting if _concerns(line, code)]
            self.dataset.operators[code] = part
        return self.dataset

    # --- one row ---------------------------------------------------------------------------------------------------

    def _row(self, file: str, line: int, operator: str, row: Mapping[str, Any]) -> _Parsed:
        for key in row:
            if key not in _KNOWN:
                raise InvalidRequest(f"unknown field {shown(key)}{_hint(key, COLUMNS)}")
        number = _text(row, "number")
        if not NUMBER_PATTERN.fullmatch(number) or len(number) > NATURAL_LENGTH_MAX:
            raise InvalidRequest(f"number: {shown(number)} is not 1 to {NATURAL_LENGTH_MAX} capital letters, digits and dots")
        origin, destination = self._place(row, "from"), self._place(row, "to") if row.get("to") else ""
        if origin == destination:
            raise InvalidRequest(f"to: {origin} is where it departs; leave `to` empty for a showing")
        valid_from, valid_to = self._validity(row)
        layout_id = self._layout(file, line, operator, row)
        currency = _text(row, "currency", self._header.currency)
        if not re.fullmatch(r"([A-Z]{3})?", currency):
            raise InvalidRequest(f"currency: {shown(currency)} is not an ISO 4217 code such as USD")
        schedule = Schedule(
            number=number,
            origin=origin,
            destination=destination,
            departs_min=_minutes(_text(row, "departs"), "departs"),
            arrives_min=0,
            arrives_day=0,
            days=_days(_text(row, "days", "1234567")),
            valid_from=valid_from,
            valid_to=valid_to,
            layout_id=layout_id,
            distance_miles=_integer(row, "miles", -1, 0, 20_000),
            title=_text(row, "title", ""),
            currency=currency,
            fares=self._fares(row, layout_id, currency),
            refundable_percent=_integer(row, "refundable_percent", self._header.refundable_percent, -1, 100),
            child_percent=_integer(row, "child_percent", -1, -1, 100),
            infant_percent=_integer(row, "infant_percent", -1, -1, 100),
            infant_seat_percent=_integer(row, "infant_seat_percent", -1, -1, 100),
        )
        if schedule.distance_miles < 0:
            schedule = replace(schedule, distance_miles=self._miles(origin, destination))
        return self._timed(file, line, operator, row, schedule)

    def _place(self, row: Mapping[str, Any], key: str) -> str:
        code = _text(row, key)
        if code not in self._places:
            raise InvalidRequest(f"{key}: no place {shown(code)}{_hint(code, self._places)}")
        return code

    def _validity(self, row: Mapping[str, Any]) -> tuple[str, str]:
        valid_from = _text(row, "valid_from", "") or self._header.valid_from
        valid_to = _text(row, "valid_to", "") or self._header.valid_to
        for key, day in (("valid_from", valid_from), ("valid_to", valid_to)):
            if not is_date(day):
                raise InvalidRequest(f"{key}: {shown(day)} is not a date such as 2026-12-01")
        if valid_to < valid_from:
            raise InvalidRequest(f"valid_to: {valid_to} is before {valid_from}")
        return valid_from, valid_to

    def _layout(self, file: str, line: int, operator: str, row: Mapping[str, Any]) -> str:
        named = _text(row, "layout", "")
        if named:
            if named not in self._specs:
                raise InvalidRequest(f"layout: no layout {shown(named)}{_hint(named, self._specs)}")
            return named
        kind = _text(row, "aircraft", "")
        if kind in self._specs:
            return kind
        seats = _integer(row, "seats", 0, 0, 20_000)
        if not self._aircraft or not seats:
            if kind:
                raise InvalidRequest(f"aircraft: no type {shown(kind)} and no seats to go by{_hint(kind, self._specs)}")
            raise InvalidRequest("layout: none is named; give layout, aircraft or seats")
        stand_in = nearest_sized(self._aircraft, seats)
        if (operator, kind) not in self._guessed:
            self._guessed.add((operator, kind))
            size = self._aircraft[stand_in].capacity
            self.warn(file, line, f"aircraft: no type {shown(kind)}; {stand_in} ({size} seats) stands in for {seats} seats", operator)
        return stand_in

    def _fares(self, row: Mapping[str, Any], layout_id: str, currency: str) -> tuple[tuple[str, str, int], ...]:
        stated = row.get("fares") or {}
        if not isinstance(stated, Mapping):
            raise InvalidRequest('fares: an object such as {"Y": 12900, "Y/EXIT": 15900} is expected')
        stated = {key: value for key, value in stated.items() if value not in ("", None)}
        if not stated:
            return ()
        if not currency:
            raise InvalidRequest("fares: without a currency; state one in the row, or in dataset.json for all of them")
        known = self._fare_keys.get(layout_id)
        if known is None:
            zones = {(section.cabin, section.zone) for section in self._specs[layout_id].sections}
            known = self._fare_keys[layout_id] = frozenset(zones | {(cabin, "") for cabin, _ in zones})
        fares: list[tuple[str, str, int]] = []
        for key in stated:
            cabin, _, zone = str(key).partition("/")
            if (cabin, zone) not in known:
                words = [f"{cabin}/{zone}" if zone else cabin for cabin, zone in known]
                raise InvalidRequest(f"fares: layout {layout_id} has no {shown(key)}{_hint(str(key), words)}")
            fares.append((cabin, zone, _integer(stated, key, 0, 0, FARE_MAX_MINOR, "; minor units: 12900 is 129.00")))
        return tuple(sorted(fares))

    def _miles(self, origin: str, destination: str) -> int:
        return miles_between(self._places[origin], self._places[destination]) if destination else 0

    # --- times -----------------------------------------------------------------------------------------------------

    def _timed(self, file: str, line: int, operator: str, row: Mapping[str, Any], schedule: Schedule) -> _Parsed:
        """Return the row with its arrival: the block time decides where there is one, and the stated arrival is checked."""
        block_min = _integer(row, "block_min", 0, 1, JOURNEY_DAYS_MAX * DAY_MINUTES)
        stated, arrives_day = _text(row, "arrives", ""), _integer(row, "arrives_day", 0, -1, JOURNEY_DAYS_MAX)
        if not block_min and not stated:
            raise InvalidRequest("arrives: neither arrives nor block_min is given")
        day = schedule.valid_from
        zones = self._zones(schedule)
        if not stated:
            arrives_min, arrives_day = arrival(day, schedule.departs_min, block_min, *zones)
            return _Parsed(replace(schedule, arrives_min=arrives_min, arrives_day=arrives_day), block_min)
        arrives_min = _minutes(stated, "arrives")
        timed = replace(schedule, arrives_min=arrives_min, arrives_day=arrives_day)
        seasons = [(date.fromisoformat(day) + timedelta(days=later)).isoformat() for later in (0, 91, 182, 273)]
        if block_min:
            fitting = (arrival(season, schedule.departs_min, block_min, *zones) for season in seasons)
            if (arrives_min, arrives_day) not in fitting:
                self.warn(file, line, f"arrives: {stated} does not follow from block_min {block_min}, which is taken", operator)
            return _Parsed(timed, block_min)
        shortest = min(block_minutes(season, schedule.departs_min, arrives_min, arrives_day, *zones) for season in seasons)
        # A published timetable has the column and a few empty cells, whose arrival is then often a midnight that means nothing.
        estimate = round(ESTIMATE_START_MIN + schedule.distance_miles / ESTIMATE_MILES_PER_MIN)
        if "block_min" in row and schedule.distance_miles and not estimate // 2 <= shortest <= 2 * estimate + ESTIMATE_START_MIN:
            reason = f"arrives: {stated} makes {shortest} minutes of {schedule.distance_miles} miles; {estimate} are taken"
            self.warn(file, line, reason, operator)
            return _Parsed(timed, estimate)
        if shortest <= 0:
            raise InvalidRequest(f"arrives: {stated} is before the departure; is arrives_day {arrives_day + 1} meant?")
        return _Parsed(timed, 0)

    def _zones(self, schedule: Schedule) -> tuple[str, str]:
        origin = self._places[schedule.origin].zone
        return origin, self._places[schedule.destination].zone if schedule.destination else origin

    def _through_the_year(self, schedule: Schedule, block_min: int) -> Iterable[Schedule]:
        if not block_min:
            return (schedule,)
        found = spans(schedule.valid_from, schedule.valid_to, schedule.days, schedule.departs_min, block_min, *self._zones(schedule))
        return [_spanned(schedule, span) for span in found]


def _concerns(line: ConnectingTime, operator: str) -> bool:
    """Return whether a connecting time names the operator, or none."""
    return operator in (line.arriving, line.departing) or not (line.arriving or line.departing)


def column_of(word: str) -> str:
    """Return the column that a CSV header's cell means; "" for one that is ignored.

    Raises:
        InvalidRequest: It is unknown; the nearest is named.
    """
    name = word.strip()
    name = ALIASES.get(name, name)
    if name in IGNORED:
        return ""
    if name.startswith(FARE_PREFIX) or (name in COLUMNS and name != "fares"):
        return name
    raise InvalidRequest(f"unknown column {shown(word)}{_hint(name, (*COLUMNS, *ALIASES))}")


def from_cells(columns: list[str], cells: list[str]) -> dict[str, Any]:
    """Return the row of a CSV line's cells under the columns of its header (`column_of`).

    Raises:
        InvalidRequest: There are more or fewer cells than columns.
    """
    if len(cells) != len(columns):
        owner = cells[columns.index("operator")] if "operator" in columns[: len(cells)] else ""
        raise InvalidRequest(f"{len(cells)} cells under {len(columns)} columns", operator=owner.strip())
    row: dict[str, Any] = {}
    fares: dict[str, str] = {}
    for column, cell in zip(columns, cells, strict=True):
        if column.startswith(FARE_PREFIX):
            fares[column[len(FARE_PREFIX) :]] = cell.strip()
        elif column:
            row[column] = cell.strip()
    if fares:
        row["fares"] = fares
    return row


def from_object(item: object) -> dict[str, Any]:
    """Return the row of a JSON object, its fields under their right names.

    Raises:
        InvalidRequest: It is no object, or gives one thing under two names.
    """
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"an object is expected, not {shown(item)}")
    row: dict[str, Any] = {}
    for key, value in item.items():
        name = ALIASES.get(str(key), str(key))
        if name in row:
            raise InvalidRequest(f"{name} is given twice", operator=str(item.get("operator", item.get("carrier", ""))))
        if name not in IGNORED:
            row[name] = value
    return row


_KNOWN = frozenset(COLUMNS)


def _hint(word: str, known: Iterable[str]) -> str:
    found = nearest(word, known, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _text(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = row.get(key)
    if value is None or (value == "" and default is not None):
        if default is None:
            raise InvalidRequest(f"{key}: missing")
        return default
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise InvalidRequest(f"{key}: {shown(value)} is not a text of up to 200 printable characters")
    return value


def _integer(row: Mapping[str, Any], key: str, default: int, least: int, most: int, advice: str = "") -> int:
    value = row.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,12}", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequest(f"{key}: {shown(value)} is not a whole number from {least} to {most}{advice}")
    return value


@lru_cache(maxsize=4096)
def _minutes(text: str, key: str) -> int:
    match = _TIME.fullmatch(text)
    if not match:
        raise InvalidRequest(f"{key}: {shown(text)} is not a time from 00:00 to 23:59")
    return int(match[1]) * 60 + int(match[2])


@lru_cache(maxsize=1024)
def _days(text: str) -> str:
    if len(text) == 7 and text != "-" * 7 and all(letter in ("-", str(place)) for place, letter in enumerate(text, 1)):
        return text
    raise InvalidRequest(f"days: {shown(text)} is not seven characters, Monday first, such as 123-567 (not on Thursdays)")


def _spanned(schedule: Schedule, span: Span) -> Schedule:
    return replace(schedule, valid_from=span.valid_from, valid_to=span.valid_to, arrives_min=span.arrives_min, arrives_day=span.arrives_day)
