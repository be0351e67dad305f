"""The witness check: the ledger's own order of what was done, against time and against itself. Pure.

Every completed write names its entry (lsn). Entries are one order; so all that is left is to see whether it agrees with time
(nothing was over before something began that stands ahead of it) and whether it is possible step by step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from client.history import CANCEL, CONFIRM, DONE, HOLD, MANIFEST, MAP, RELEASE, UNKNOWN, WRITES, Header, Record
from client.judging_seats import FREE, State

OCCUPIED, HELD, AVAILABLE = "occupied", "held", "available"


class Holds:
    """What is known of holds beside the entries: what may have ended them, and what may have made others."""

    def __init__(self, header: Header, records: Sequence[Record]) -> None:
        self._shift_ms = header.clock_shift_ms
        self._late_payments = header.late_payments
        self._made: dict[str, Record] = {}
        self._unknown_ends: dict[str, int] = {}  # hold -> when the first end of unknown outcome was asked for
        self._unknown_takers: dict[str, int] = {}  # seat -> when the first hold of unknown outcome was asked for
        self.references: dict[str, str] = {}
        # A trip's later leg stands in another ledger than its answer names: of such seats only the search knows.
        self.trip_seats: set[str] = set()
        for record in records:
            operation, answer = record.operation, record.answer
            if operation.kind == HOLD:
                self._note_hold(record)
            elif answer.outcome == UNKNOWN and operation.kind in WRITES:
                first = self._unknown_ends.get(operation.hold, record.call_us)
                self._unknown_ends[operation.hold] = min(first, record.call_us)
            if answer.reference:
                self.references[answer.reference] = operation.hold
        for record in records:
            if self.may_take_anew(record):
                self._note_taker(record)

    def _note_hold(self, record: Record) -> None:
        if record.answer.outcome == DONE:
            self._made[record.operation.request_id] = record
        if record.is_trip:
            self.trip_seats.update(record.seats())
        if record.answer.outcome == UNKNOWN:
            self._note_taker(record)

    def _note_taker(self, record: Record) -> None:
        for seat in record.seats():
            self._unknown_takers[seat] = min(self._unknown_takers.get(seat, record.call_us), record.call_us)

    def may_have_ended(self, hold: str, at_us: float) -> bool:
        """Return whether a hold may be over at a moment without an entry of the history that says so."""
        if self._unknown_ends.get(hold, at_us + 1) <= at_us:
            return True
        made = self._made.get(hold)
        if made is None or not made.operation.lasts_ms:
            return made is None
        return made.call_us + 1000 * (made.operation.lasts_ms - self._shift_ms) <= at_us

    def may_be_free(self, state: State, at_us: float) -> bool:
        """Return whether a seat may have become free by a moment; what is booked does not run out, it can only be given back."""
        if state.booked:
            return self._unknown_ends.get(state.hold, at_us + 1) <= at_us
        return state == FREE or self.may_have_ended(state.hold, at_us)

    def may_take_anew(self, record: Record) -> bool:
        """Return whether a confirmation may have found its hold's time over and, being paid, have taken the seats once more (Q7)."""
        operation = record.operation
        return self._late_payments and operation.kind == CONFIRM and self.may_have_ended(operation.hold, record.end_us)

    def may_be_taken(self, seat: str, at_us: float) -> bool:
        """Return whether a hold of unknown outcome may have a seat at a moment."""
        return self._unknown_takers.get(seat, at_us + 1) <= at_us


def witness(operator: str, records: Sequence[Record], holds: Holds) -> list[str]:
    """Return what is wrong about one operator's entries as the history tells of them, a sentence each."""
    placed = [record for record in records if record.answer.outcome == DONE and record.answer.lsn]
    placed.sort(key=_place)
    return [*_against_time(operator, [one for one in placed if one.operation.kind != MAP]), *_replay(placed, holds)]


def _place(record: Record) -> tuple[int, bool, int]:
    """Return where a record stands: in its entry, reads after what the entry did."""
    return record.answer.lsn, record.operation.kind in (MANIFEST, MAP), record.call_us


def _against_time(operator: str, placed: Sequence[Record]) -> list[str]:
    """Find entries that stand behind others which began after these were over. Writes of one entry are of one moment."""
    faults = []
    latest: Record | None = None  # of all that stands ahead, what began last
    for (lsn, reads), group in groupby(placed, key=lambda one: _place(one)[:2]):
        members = list(group)
        newest = max(members, key=lambda one: one.call_us)
        ahead = latest if reads else max([one for one in (latest, newest) if one is not None], key=lambda one: one.call_us)
        first = min(members, key=lambda one: one.end_us)
        if ahead is not None and first.end_us < ahead.call_us:
            earlier = f"{ahead.named()} began, which stands in entry {ahead.answer.lsn}"
            faults.append(f"{operator}: {first.named()} in entry {lsn} was over before {earlier}")
        if latest is None or newest.call_us > latest.call_us:
            latest = newest
    return faults


def _replay(placed: Sequence[Record], holds: Holds) -> list[str]:
    """Carry out what was done, entry by entry; the order within an entry is tried until it works."""
    faults: list[str] = []
    states: dict[str, State] = defaultdict(lambda: FREE)
    for (_, reads), group in groupby(placed, key=lambda one: _place(one)[:2]):
        waiting = list(group)
        if reads:
            for record in waiting:
                faults += _compare(record, states, holds)
            continue
        while waiting:
            # Steps of one entry that can be done now are done; they cannot stand in each other's way, as each asks for one state.
            able = next((one for one in waiting if not _do(one, states, holds, try_only=True)), waiting[0])
            waiting.remove(able)
            faults += _do(able, states, holds)
    return faults


def _do(record: Record, states: dict[str, State], holds: Holds, *, try_only: bool = False) -> list[str]:
    """Apply a write to its seats, those of the anchor's service where it is a trip; return what was impossible."""
    faults = []
    hold, kind = record.operation.hold or record.operation.request_id, record.operation.kind
    leg = record.operation.legs[0]
    for seat in (f"{leg.service_id}/{name}" for name in leg.seats):
        state = states[seat]
        if kind == HOLD:
            right, then = holds.may_be_free(state, record.end_us), State(hold)
        elif kind == CONFIRM:
            taken_anew = holds.may_take_anew(record) and holds.may_be_free(state, record.end_us)
            right, then = state == State(hold) or taken_anew, State(hold, True)
        elif kind == RELEASE:
            right, then = state == State(hold), FREE
        else:
            # An order whose confirmation nobody was told of can be cancelled by who asked again.
            right, then = state == State(hold, True) or (state == State(hold) and holds.may_have_ended(hold, record.end_us)), FREE
            assert kind == CANCEL
        if not right:
            owner = f"{'booked' if state.booked else 'held'} for {state.hold}" if state.hold else "free"
            faults.append(f"seat {seat} was {owner} at entry {record.answer.lsn}, which is {record.named()}")
        if not try_only:
            states[seat] = then
    return faults


def _compare(record: Record, states: dict[str, State], holds: Holds) -> list[str]:
    """Compare what a read shows with the state of its entry."""
    service_id = record.operation.legs[0].service_id
    shown = record.answer.booked if record.operation.kind == MANIFEST else record.answer.taken
    faults = []
    seats = {*(f"{service_id}/{name}" for name in shown), *(seat for seat in states if seat.startswith(f"{service_id}/"))}
    for seat in sorted(seats - holds.trip_seats):
        state = states[seat]
        what = shown.get(seat.removeprefix(f"{service_id}/"), "")
        if record.operation.kind == MANIFEST:
            right = _manifest_is_right(what, state, holds, seat, record)
        elif record.answer.partial:
            right = True
        else:
            right = _map_is_right(what, state, holds, seat, record)
        if not right:
            said = what or ("not booked" if record.operation.kind == MANIFEST else AVAILABLE)
            owner = f"{'booked' if state.booked else 'held'} for {state.hold}" if state.hold else "free"
            faults.append(f"{record.named()} shows {seat} as {said} at entry {record.answer.lsn}, where it was {owner}")
    return faults


def _manifest_is_right(reference: str, state: State, holds: Holds, seat: str, record: Record) -> bool:
    at_us = record.end_us
    if not reference:
        return not state.booked or holds.may_be_free(state, at_us)
    known = holds.references.get(reference)
    if known is None:  # Somebody's who was never told: of unknown outcome, or it is nobody's.
        return holds.may_be_taken(seat, at_us) or (state != FREE and holds.may_be_free(state, at_us))
    return state == State(known, True)


def _map_is_right(what: str, state: State, holds: Holds, seat: str, record: Record) -> bool:
    at_us = record.end_us
    if what not in (HELD, OCCUPIED):
        return holds.may_be_free(state, at_us)
    if state == FREE:
        return holds.may_be_taken(seat, at_us)
    return state.booked == (what == OCCUPIED) or holds.may_be_free(state, at_us) or holds.may_be_taken(seat, at_us)
