"""What an import changes: from a dataset's rows and the applied state to events, or to a refusal. Pure.

A dataset replaces its own rows of its own operator and nothing else. All or nothing: one bad row refuses the import.
What was sold stays possible: a row or a seat under a sale that lies ahead cannot be taken away.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from datastore import errors, wire
from datastore.import_changes import LINES_MAX, row_changes
from datastore.model import (
    ACCOUNTING_PATTERN,
    CONNECTING_MINUTES_MAX,
    DATASET_PATTERN,
    NUMBER_PATTERN,
    OPERATOR_PATTERN,
    PLACE_PATTERN,
    ConnectingTime,
    Layout,
    LayoutSpec,
    Schedule,
    is_date,
    parse_service_id,
)
from datastore.rows import DatasetRow, Event, Kind, ScheduleRow, encode_row
from datastore.state import AppliedState
from datastore.timetable import Timetable, runs_on

BODY_BYTES_MAX = 64 * 1024 * 1024
ROWS_MAX = 200_000
CONNECTING_MAX = 10_000
_body_decoder = msgspec.msgpack.Decoder(wire.ImportBody)


def decide_import(state: AppliedState, command: wire.Import, now_ms: int) -> tuple[list[Event], dict[str, Any]]:
    """Return the events of an import and its counts: added, changed, removed, unchanged (schedules).

    For a dry run also the first of the rows that would change, `rows`, and how many more there are, `rows_left_off`.

    Raises:
        InvalidRequest: The body is malformed, a row is wrong, two rows mean the same service, or a sold service or seat
            would vanish; `fields` names them.
    """
    data = _unpacked(command)
    body = _decoded(data)
    schedules = _keyed(command.dataset, body.schedules)
    layouts = {spec.layout_id: spec for spec in body.layouts}
    places = {place.code: place for place in body.places}
    _check_rows(state, schedules.values(), layouts, places)
    _check_connecting(body.connecting)
    _check_apart(state.timetable, command.dataset, schedules)

    before = {key: row for key, row in state.timetable.schedules.items() if row[0] == command.dataset}
    added = [key for key in schedules if key not in before]
    changed = [key for key in schedules if key in before and before[key][1] != schedules[key]]
    removed = [key for key in before if key not in schedules]
    known_layouts = state.timetable.layouts
    new_layouts = [spec for name, spec in layouts.items() if name not in known_layouts or known_layouts[name].spec != spec]
    if changed or removed or any(spec.layout_id in known_layouts for spec in new_layouts):
        _check_sold(state, command.dataset, schedules, {spec.layout_id: Layout(spec) for spec in new_layouts}, now_ms)

    events = [Event(Kind.LAYOUT, spec.layout_id, encode_row(spec)) for spec in new_layouts]
    events += [Event(Kind.PLACE, code, encode_row(place)) for code, place in places.items() if state.timetable.places.get(code) != place]
    events += [Event(Kind.SCHEDULE, key, encode_row(ScheduleRow(command.dataset, schedules[key]))) for key in (*added, *changed)]
    events += [Event(Kind.SCHEDULE, key, b"") for key in removed]
    digest = hashlib.blake2b(data, digest_size=16).digest()
    known = state.datasets.get(command.dataset)
    if events or known is None or known.digest != digest:
        connecting = tuple(body.connecting)
        row = DatasetRow(command.dataset, body.title, body.licence, len(schedules), now_ms, digest, connecting)
        events.append(Event(Kind.DATASET, command.dataset, encode_row(row)))
    events += _accounting(state, body.accounting)
    counts: dict[str, Any] = {
        "added": len(added),
        "changed": len(changed),
        "removed": len(removed),
        "unchanged": len(schedules) - len(added) - len(changed),
    }
    if command.dry_run:
        rows = row_changes({key: row[1] for key, row in before.items()}, schedules, known_layouts, new_layouts)
        counts |= {"rows": rows[:LINES_MAX], "rows_left_off": len(rows[LINES_MAX:])}
    return events, counts


def _accounting(state: AppliedState, code: str) -> list[Event]:
    """Return the operator's row with the accounting code that the dataset states, where it is another.

    Raises:
        InvalidRequest: It is none.
    """
    row = state.operator_row
    if not code or row is None or row.accounting == code:
        return []
    if not ACCOUNTING_PATTERN.fullmatch(code):
        raise errors.InvalidRequest(f"{errors.shown(code)} is no accounting code: three digits", field="accounting")
    return [Event(Kind.OPERATOR, row.code, encode_row(msgspec.structs.replace(row, accounting=code)))]


def _unpacked(command: wire.Import) -> bytes:
    if not DATASET_PATTERN.fullmatch(command.dataset):
        raise errors.InvalidRequest(
            f"{errors.shown(command.dataset)} is not a dataset's name: lower-case letters, digits and hyphens, up to 32", field="dataset"
        )
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(command.body, BODY_BYTES_MAX)
    except zlib.error as error:
        raise errors.InvalidRequest(f"the timetable's body is malformed: {error}", field="body") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise errors.InvalidRequest(f"the timetable is over {BODY_BYTES_MAX} bytes, or cut off", field="body")
    return data


def _decoded(data: bytes) -> wire.ImportBody:
    try:
        body = _body_decoder.decode(data)
    except wire.UNREADABLE as error:
        raise errors.InvalidRequest(f"the timetable's body is malformed: {error}", field="body") from error
    if len(body.schedules) > ROWS_MAX:
        raise errors.InvalidRequest(f"{len(body.schedules)} rows; {ROWS_MAX} are allowed in one dataset", field="schedules")
    return body


def _keyed(dataset: str, schedules: Iterable[Schedule]) -> dict[str, Schedule]:
    """Return row key -> schedule. The key is made of what tells rows apart, so that a repeated import finds its rows."""
    keyed: dict[str, Schedule] = {}
    for schedule in schedules:
        base = f"{dataset}/{schedule.number}/{schedule.origin}/{schedule.departs_min:04d}/{schedule.days}/{schedule.destination}"
        key, count = base, 1
        while key in keyed:
            count += 1
            key = f"{base}/{count}"
        keyed[key] = schedule
    return keyed


def _check_rows(state: AppliedState, schedules: Iterable[Schedule], layouts: dict[str, LayoutSpec], places: dict[str, Any]) -> None:
    for spec in layouts.values():
        Layout(spec)  # Raises where it is malformed.
    for row in schedules:
        what = f"{state.operator}{errors.shown(row.number)} from {errors.shown(row.origin)}"
        faults = (
            (not NUMBER_PATTERN.fullmatch(row.number), "the number is not letters, digits and dots"),
            (not PLACE_PATTERN.fullmatch(row.origin), "the origin is not a place's code"),
            (row.origin not in places, f"the place {errors.shown(row.origin)} is missing"),
            (bool(row.destination) and row.destination not in places, f"the place {errors.shown(row.destination)} is missing"),
            (row.layout_id not in layouts, f"the layout {errors.shown(row.layout_id)} is missing"),
            (not (0 <= row.departs_min < 1440 and 0 <= row.arrives_min < 1440), "a time is not within a day"),
            (not -1 <= row.arrives_day <= 7, "the arrival day is not -1 (across the date line) to 7"),
            (not _is_days(row.days), "days are seven characters, Monday first, like 1-3-5--"),
            (not _is_span(row.valid_from, row.valid_to), "the validity is not two dates in order"),
            (any(minor < 0 for _, _, minor in row.fares), "a fare is negative"),
            (not -1 <= row.refundable_percent <= 100, "the refund is not 0 to 100 percent"),
        )
        for wrong, reason in faults:
            if wrong:
                fields = {"number": errors.shown(row.number), "origin": errors.shown(row.origin), "reason": reason}
                raise errors.InvalidRequest(f"{what}: {reason}", **fields)


def _check_connecting(lines: list[ConnectingTime]) -> None:
    if len(lines) > CONNECTING_MAX:
        raise errors.InvalidRequest(f"{len(lines)} connecting times; {CONNECTING_MAX} are allowed in one dataset", field="connecting")
    for line in lines:
        codes = [bool(OPERATOR_PATTERN.fullmatch(code)) for code in (line.arriving, line.departing) if code]
        minutes = (line.domestic_min, line.international_min)
        named = not line.place or PLACE_PATTERN.fullmatch(line.place)
        if not named or not all(codes) or not all(-1 <= one <= CONNECTING_MINUTES_MAX for one in minutes):
            words = ", ".join(errors.shown(word) for word in (line.place, line.arriving, line.departing, *minutes))
            raise errors.InvalidRequest(f"a connecting time is not a place, two operators and minutes: {words}", field="connecting")


def _is_span(first: str, last: str) -> bool:
    return is_date(first) and is_date(last) and first <= last


def _is_days(days: str) -> bool:
    return len(days) == 7 and days != "-------" and all(letter in ("-", str(place)) for place, letter in enumerate(days, 1))


def _check_apart(timetable: Timetable, dataset: str, schedules: dict[str, Schedule]) -> None:
    """Refuse rows that would give one service id two meanings, within the dataset and beside the others."""
    by_number: dict[tuple[str, str], list[tuple[str, Schedule]]] = {}
    for schedule in schedules.values():
        by_number.setdefault((schedule.number, schedule.origin), []).append((dataset, schedule))
    for other, schedule in timetable.schedules.values():
        mine = by_number.get((schedule.number, schedule.origin))
        if other != dataset and mine is not None:
            mine.append((other, schedule))
    for (number, origin), rows in by_number.items():
        for place, (_, one) in enumerate(rows):
            for other, two in rows[place + 1 :]:
                if _overlap(one, two):
                    raise errors.InvalidRequest(
                        f"{timetable.operator}{number} from {origin} stands twice for the same day (datasets {dataset} and {other}); "
                        "tell the numbers apart",
                        number=number,
                        origin=origin,
                        dataset=other,
                    )


def _overlap(one: Schedule, two: Schedule) -> bool:
    shared_days = any(a != "-" and b != "-" for a, b in zip(one.days, two.days, strict=True))
    return shared_days and one.valid_from <= two.valid_to and two.valid_from <= one.valid_to


def _check_sold(state: AppliedState, dataset: str, schedules: dict[str, Schedule], new_layouts: dict[str, Layout], now_ms: int) -> None:
    """Refuse to take away a service or a seat that is held, booked or blocked on a day that lies ahead."""
    today = datetime.fromtimestamp(now_ms / 1000 - 86_400, UTC).date().isoformat()
    by_number: dict[tuple[str, str], list[Schedule]] = {}
    for schedule in schedules.values():
        by_number.setdefault((schedule.number, schedule.origin), []).append(schedule)
    lost: list[str] = []
    for service_id, seats in state.services_with_taken_seats().items():
        key = parse_service_id(service_id, frozenset((state.operator,)))
        facts = state.facts(service_id)
        if key.date < today or facts is None:
            continue
        after = facts.service.schedule
        if facts.service.dataset == dataset:
            implied = [row for row in by_number.get((key.number, key.origin), ()) if runs_on(row, key.date)]
            if not implied:
                lost.append(service_id)
                continue
            after = implied[0]
        layout = new_layouts.get(after.layout_id) or state.timetable.layouts[after.layout_id]
        lost += [f"{service_id}/{seat_id}" for seat_id in sorted(seats) if seat_id not in layout.by_id]
    if lost:
        named = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise errors.InvalidRequest(f"the import would take away what is sold, held or blocked: {named}", lost=lost[:100])
