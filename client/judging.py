"""The verdict on a history: is there an order of everything that explains every answer? Pure.

Two judges, and a few plain rules:

- the **witness**: what was done names the ledger entry that did it, so the entries' order is given. It must agree with time, and
  replaying it every step must be possible. Quick, and sound even against a cluster that lies about its entries: an order that
  passes *is* an order. What is of unknown outcome has no entry; where one could explain what is seen, it is believed.
- the **search**, seat by seat, which needs no word of the cluster's (`judging_seats.py`) and knows refusals and unknown outcomes.
  It is given up beyond a bound, and says so: undecided is not "fine".
- one request id has one answer; a map that was asked for an entry shows it or says that it does not.

What a trip's later legs do after the anchor has decided comes a little later (B5, B8): their ends and bookings are optional.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from client.history import CANCEL, CONFIRM, DONE, HOLD, MANIFEST, MAP, REFUSED, RELEASE, UNKNOWN, WRITES, Header, History, Record
from client.judging_seats import FOREVER, SITUATIONS_MAX, Act, Step, search
from client.judging_witness import Holds, witness

# What a refusal of a hold, a confirmation or a release says about the seats.
SEAT_CODES = ("seat_unavailable", "seat_blocked")
OVER_CODES = ("hold_expired",)


class Judgement(NamedTuple):
    """Attributes:
    faults: Sentences, [] where all is well.
    undecided: Seats whose search was given up.
    seats: How many seats were searched.
    unexplained: Those of which no order explains the answers.
    counts: (kind, outcome) -> records.
    gap_us: The longest time in which nothing was done, and when it began, after the first record.
    """

    faults: list[str]
    undecided: list[str]
    seats: int
    counts: dict[tuple[str, str], int]
    gap_us: int
    gap_at_us: int
    unexplained: Sequence[str] = ()


def judge(history: History, situations_max: int = SITUATIONS_MAX) -> Judgement:
    """Return the verdict on a whole history."""
    header, records = history
    holds = Holds(header, records)
    faults = [*_one_answer_each(records), *_maps_that_lag(records)]
    for operator, of_operator in _by_operator(records).items():
        faults += witness(operator, of_operator, holds)
    undecided: list[str] = []
    unexplained: list[str] = []
    steps = steps_of(header, records, holds)
    for seat, part in sorted(steps.items()):
        found = search(part, situations_max)
        if found.verdict is None:
            undecided.append(seat)
        elif not found.verdict:
            unexplained.append(seat)
            stuck = "; ".join(name for name in found.stuck if name) or "a hold that ended"
            faults.append(f"seat {seat}: no order of its {len(part)} steps explains the answers; none of these can come next: {stuck}")
    counts = Counter((record.operation.kind, record.answer.outcome) for record in records)
    gap_us, gap_at_us = longest_gap(records)
    return Judgement(faults, undecided, len(steps), dict(counts), gap_us, gap_at_us, unexplained)


def longest_gap(records: Sequence[Record]) -> tuple[int, int]:
    """Return the longest time between two writes that were done, and when it began, from the first record on."""
    if not records:
        return 0, 0
    start = min(record.call_us for record in records)
    last = max(record.return_us or record.call_us for record in records)
    moments = [start, *sorted(_done_at(records)), last]
    return max((after - before, before - start) for before, after in itertools.pairwise(moments))


def _done_at(records: Iterable[Record]) -> list[int]:
    return [
        record.return_us
        for record in records
        if record.return_us is not None and record.operation.kind in WRITES and record.answer.outcome == DONE
    ]


def _by_operator(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records of each operator's log: of a trip, the anchor's."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.operation.operator].append(record)
    return found


# --- plain rules ----------------------------------------------------------------------------------------------------


def _one_answer_each(records: Iterable[Record]) -> list[str]:
    """One request id has one effect and one answer (I10); that of an unknown outcome is open."""
    faults = []
    known: dict[tuple[str, str], Record] = {}
    for record in records:
        operation, answer = record.operation, record.answer
        if operation.kind not in WRITES or answer.outcome != DONE:
            continue
        before = known.setdefault((record.client, operation.request_id), record)
        one, other = before.answer, answer
        if (one.lsn, one.reference) != (other.lsn, other.reference) or before.seats() != record.seats():
            faults.append(f"{record.named()} was answered twice: entry {one.lsn} {one.reference}, then {other.lsn} {other.reference}")
    return faults


def _maps_that_lag(records: Iterable[Record]) -> list[str]:
    """A map that was asked for an entry shows it, or says that it does not (I8)."""
    return [
        f"{record.named()} had to include entry {record.operation.min_lsn} and shows {record.answer.lsn}"
        for record in records
        if record.operation.kind == MAP
        and record.answer.outcome == DONE
        and not record.answer.partial
        and record.answer.lsn < record.operation.min_lsn
    ]


# --- a seat's steps --------------------------------------------------------------------------------------------------


def steps_of(header: Header, records: Sequence[Record], holds: Holds) -> dict[str, list[Step]]:
    """Return each seat's part of a history, as the search takes it; seats that nobody may ever have had are left out."""
    found: dict[str, list[Step]] = defaultdict(list)
    references: dict[str, str] = {}
    made: dict[str, Record] = {}
    for record in records:
        if record.operation.kind == HOLD and record.answer.outcome != REFUSED:
            made.setdefault(record.operation.request_id, record)
        if record.answer.reference:
            references[record.answer.reference] = record.operation.hold
    for record in records:
        kind = record.operation.kind
        if kind == HOLD:
            _hold_steps(header, record, found)
        elif kind in (CONFIRM, RELEASE, CANCEL):
            _later_steps(record, made, found)
        if holds.may_take_anew(record):
            # For a moment, or for the sale; the hold's own end may have come before.
            for seat in record.seats():
                found[seat].append(Step(record.call_us, FOREVER, Act.TAKE, record.operation.hold, optional=True))
                found[seat].append(Step(record.call_us, FOREVER, Act.END, record.operation.hold, optional=True))
    for record in records:
        if record.operation.kind == MANIFEST and record.answer.outcome == DONE:
            _manifest_steps(record, references, found)
    return {seat: steps for seat, steps in found.items() if any(step.act is not Act.SEE_NOT_BOOKED for step in steps)}


def _hold_steps(header: Header, record: Record, found: dict[str, list[Step]]) -> None:
    operation, answer = record.operation, record.answer
    call, end, hold, name = record.call_us, record.end_us, operation.request_id, record.named()
    if answer.outcome == REFUSED:
        if answer.code in SEAT_CODES:
            for seat in answer.taken:
                found[seat].append(Step(call, end, Act.SEE_TAKEN, hold, name=f"{name}, refused"))
        if record.is_trip:  # It may have held some legs for a moment, or until they were looked after (Z6).
            for seat in record.seats():
                found[seat].append(Step(call, FOREVER, Act.TAKE, hold, optional=True))
                found[seat].append(Step(call, FOREVER, Act.END, hold, optional=True))
        return
    optional = answer.outcome == UNKNOWN
    for seat in record.seats():
        found[seat].append(Step(call, end, Act.TAKE, hold, optional, name))
        if operation.lasts_ms:
            due = call + 1000 * max(0, operation.lasts_ms - header.clock_shift_ms)
            found[seat].append(Step(due, FOREVER, Act.END, hold, optional=True))
        if optional and record.is_trip:
            found[seat].append(Step(call, FOREVER, Act.END, hold, optional=True))


def _later_steps(record: Record, made: dict[str, Record], found: dict[str, list[Step]]) -> None:
    """Add what a confirmation, a release or a cancellation did, or says by its refusal."""
    operation, answer = record.operation, record.answer
    hold, name, call, end = operation.hold, record.named(), record.call_us, record.end_us
    act = {CONFIRM: Act.BOOK, RELEASE: Act.END, CANCEL: Act.CANCEL}[operation.kind]
    origin = made.get(hold)
    service_ids = {leg.service_id for leg in operation.legs[1:]} if origin is not None and origin.is_trip else set()
    for seat in record.seats():
        if answer.outcome == REFUSED:
            if answer.code in OVER_CODES:
                found[seat].append(Step(call, end, Act.SEE_NOT_MINE, hold, name=f"{name}, refused"))
        elif seat.partition("/")[0] in service_ids:
            # The anchor has decided; this leg follows when its operator hears of it.
            found[seat].append(Step(call, FOREVER, act, hold, optional=True))
            if operation.kind == CANCEL:  # The booking and its end may come as one.
                found[seat].append(Step(call, FOREVER, Act.END, hold, optional=True))
        else:
            found[seat].append(Step(call, end, act, hold, answer.outcome == UNKNOWN, name))


def _manifest_steps(record: Record, references: dict[str, str], found: dict[str, list[Step]]) -> None:
    """A manifest is read from the primary: it shows every booking that was acknowledged before it was asked for."""
    service_id = record.operation.legs[0].service_id
    for seat, reference in record.answer.booked.items():
        hold = references.get(reference)
        if hold is not None:  # Of an order that nobody was told of, only the seat is known.
            found[f"{service_id}/{seat}"].append(Step(record.call_us, record.end_us, Act.SEE_BOOKED, hold, name=record.named()))
    for seat in list(found):
        service, _, name = seat.partition("/")
        if service == service_id and name not in record.answer.booked:
            found[seat].append(Step(record.call_us, record.end_us, Act.SEE_NOT_BOOKED, name=record.named()))
