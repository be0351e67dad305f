"""What must be true of a finished run, judged from its history, its ledgers and its locks: nothing of how they came about.

Each check is named after the invariant that it stands for (docs/proof.md); it returns sentences, none where all is well.

- I1, I9: replaying the ledger, no seat has two owners; a hold expires at its time, not before, and is not confirmed after it.
- I2, I10, I12: what a caller was told is what the ledger holds under its request id, once; what it was told is not done, is not
  there.
- I7: fences of one key are distinct and ordered in time; no entry takes a seat with a fence that the seat has outgrown.
- I8: an operation that began after another had ended comes after it in the ledger; a read shows the state of its entry.
- I11: every seat is free, held, booked or blocked, once. I13: configurations differ by one voter at most.
- Locks: while clocks keep their bounds, no two holders rely on locks of one key at the same true time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from datastore import wire
from datastore.audit import Audit
from datastore.events import seats_in
from datastore.ledger import SealedEntry, genesis, outcome_at
from datastore.model import HoldState, SeatState
from datastore.rows import ConfigRow, HoldRow, Kind, SeatRow, decode_row
from tests.checkers import Answer, Final, check_operations
from tests.holds_told import holds_in
from tests.simulation.buyers import Asked, Seen
from tests.simulation.lockclients import LockHeld

Fault = tuple[str, str]  # checker, sentence


def check_ledger(operator: str, entries: Sequence[SealedEntry]) -> list[Fault]:
    """I1, I7, I9, I13 from one operator's committed entries."""
    audit = Audit(operator, genesis(operator))
    audit.take(entries)
    faults = [("one owner a seat", sentence) for sentence in audit.report().violations]
    fences: dict[str, tuple[int, int, str]] = {}
    ends: dict[str, int] = {}
    before: ConfigRow | None = None
    stamp_ms = 0
    for sealed in entries:
        entry = sealed.entry
        if entry.stamp_ms < stamp_ms:
            faults.append(("stamps never fall", f"entry {entry.lsn} is stamped {entry.stamp_ms}, after {stamp_ms}"))
        stamp_ms = entry.stamp_ms
        for kind, key, value in entry.events:
            for seat, row in seats_in(kind, key, value, entry.lsn).items():
                faults += _check_fence(entry.lsn, seat, row, fences)
            if kind in (Kind.OPEN_HOLD, Kind.BULK) and value:
                ends.update({hold.hold_id: hold.expires_ms for hold in holds_in(kind, value)})
            elif kind == Kind.CLOSED_HOLD:
                faults += _check_end(entry.lsn, entry.stamp_ms, decode_row(kind, value), ends.get(key, 0))
            elif kind == Kind.CONFIG:
                after: ConfigRow = decode_row(kind, value)
                if before is not None and len(before.voters.keys() ^ after.voters.keys()) > 1:
                    faults.append(("one voter at a time", f"entry {entry.lsn} changes {before.voters} to {after.voters}"))
                before = after
    return faults


def _check_fence(lsn: int, key: str, row: SeatRow, fences: dict[str, tuple[int, int, str]]) -> Iterable[Fault]:
    seen = fences.get(key)
    fence = (row.generation, row.counter, row.nonce)
    fences[key] = fence
    if seen is not None and fence != seen and (fence[:2] < seen[:2] or (fence[:2] == seen[:2] and fence[2] != seen[2])):
        yield "fences rise", f"entry {lsn}: seat {key} takes the fence {fence[:2]} after {seen[:2]}"


def _check_end(lsn: int, stamp_ms: int, hold: HoldRow, expires_ms: int) -> Iterable[Fault]:
    """I9: the log's own clock decides when a hold is over; of a leg that is decided elsewhere it only says when to ask (B6)."""
    if hold.anchor:
        return
    if hold.state == HoldState.EXPIRED and stamp_ms < expires_ms:
        yield "holds last", f"entry {lsn} expires {hold.hold_id} {expires_ms - stamp_ms} ms before its time"
    if hold.state == HoldState.CONVERTED and stamp_ms >= expires_ms:
        yield "holds end", f"entry {lsn} confirms {hold.hold_id} {stamp_ms - expires_ms} ms after its time"


def check_overdue(entries: Sequence[SealedEntry], now_ms: int, bound_ms: int) -> list[Fault]:
    """I3: no hold stays open for longer than the bound after its end, on the log's clock, once all is well."""
    found: dict[tuple[int, str], list[HoldRow]] = {}
    for sealed in entries:
        for kind, key, value in sealed.entry.events:
            if kind in (Kind.OPEN_HOLD, Kind.BULK):
                found[kind, key] = holds_in(kind, value) if value else []
    return [
        ("seats come back", f"{hold.hold_id} is open {now_ms - hold.expires_ms} ms after its end")
        for holds in found.values()
        for hold in holds
        if hold.expires_ms + bound_ms < now_ms
    ]


def check_answers(entries: Sequence[SealedEntry], asked: Sequence[Asked]) -> list[Fault]:
    """I2, I10, I12: what callers were told is in the ledger, once, and nothing else is."""
    recorded: dict[str, wire.Outcome] = {}
    faults: list[Fault] = []
    for sealed in entries:
        for index, (request_id, _) in enumerate(sealed.entry.requests):
            if request_id:
                if request_id in recorded:
                    faults.append(("one effect a request", f"entry {sealed.entry.lsn} answers {request_id} a second time"))
                recorded[request_id] = outcome_at(sealed.entry, index)[1]
    for one in asked:
        found = recorded.get(one.request_id)
        if one.outcome:
            if found is None:
                faults.append(("nothing is lost", f"{one.request_id} was answered in entry {one.lsn}, and no ledger has it"))
            elif wire.encode(found) != one.outcome:
                faults.append(("one answer a request", f"{one.request_id} was told {_told(one)}, the ledger says {found}"))
        elif one.answer is Answer.REFUSED and found is not None and not found.error:
            faults.append(("not done means not done", f"{one.request_id} was told {one.code}, and the ledger has it done in {found.lsn}"))
    return faults


def _told(one: Asked) -> wire.Outcome:
    told: wire.Outcome = wire.decode(wire.Outcome, one.outcome)
    return told


def check_order(asked: Sequence[Asked], seen: Sequence[Seen], states: Callable[[int], Mapping[str, Any]]) -> list[Fault]:
    """I8 by the witness of (lsn): operations in real time are in the ledger's order, and reads show what is there.

    Args:
        states: lsn -> taken seats (seat id -> [state, hold id]) after that entry.
    """
    faults: list[Fault] = []
    ended = sorted((one.answered, one.lsn, one.request_id) for one in asked if one.outcome)
    begun: list[tuple[float, int, str, bool]] = [(one.asked, one.lsn, one.request_id, False) for one in asked if one.outcome]
    begun += [(one.asked, one.lsn, f"a read at {one.asked:.6f}", True) for one in seen]
    greatest, name, at = 0, "", 0
    for asked_at, lsn, what, _ in sorted(begun):
        while at < len(ended) and ended[at][0] < asked_at:
            if ended[at][1] > greatest:
                greatest, name = ended[at][1], ended[at][2]
            at += 1
        if lsn < greatest:
            faults.append(
                ("real time order", f"{what} is answered from entry {lsn}, though {name} of entry {greatest} had ended before it")
            )
    for read in seen:
        shown = {seat: list(row[:2]) for seat, row in read.seats.items()}
        if shown != states(read.lsn):
            faults.append(("reads are true", f"a read at {read.asked:.6f} shows {shown} for entry {read.lsn}, it was {states(read.lsn)}"))
    return faults


def seat_states(entries: Sequence[SealedEntry], service_id: str) -> Callable[[int], Mapping[str, Any]]:
    """Return lsn -> taken seats of the service after that entry."""
    after: list[dict[str, list[Any]]] = [{}]
    for sealed in entries:
        state = after[-1]
        for kind, key, value in sealed.entry.events:
            for seat, row in seats_in(kind, key, value, sealed.entry.lsn).items():
                head, _, seat_id = seat.rpartition("/")
                if head != service_id:
                    continue
                state = {seat: was for seat, was in state.items() if seat != seat_id}
                if row.state != SeatState.FREE:
                    state[seat_id] = [int(row.state), row.hold_id]
        after.append(state)
    return lambda lsn: after[lsn] if lsn < len(after) else {"no such entry": lsn}


def check_locks(held: Sequence[LockHeld], *, clocks_keep_bounds: bool) -> list[Fault]:
    """I7 (P1, P2) of every key, and that nobody relies on a lock that another relies on."""
    faults: list[Fault] = []
    by_key: dict[str, list[LockHeld]] = {}
    for one in held:
        for key in one.keys:
            by_key.setdefault(key, []).append(one)
    for key, locks in by_key.items():
        owners: dict[tuple[int, int], str] = {}
        for one in locks:
            if owners.setdefault(one.fence, one.nonce) != one.nonce:
                faults.append(("fences differ", f"{key} was locked twice with the fence {one.fence}"))
        faults += _check_fence_order(key, locks)
        for one in locks:
            if one.valid_us <= one.granted_us:
                faults.append(
                    ("locks are granted while valid", f"{key} was granted to {one.holder} {one.granted_us - one.valid_us} us late")
                )
        if clocks_keep_bounds:
            faults += _check_exclusion(key, locks)
    return faults


def _check_fence_order(key: str, locks: Sequence[LockHeld]) -> Iterable[Fault]:
    ended = sorted(locks, key=lambda one: one.granted_us)
    greatest: tuple[int, int] = (0, 0)
    at = 0
    for one in sorted(locks, key=lambda one: one.asked_us):
        while at < len(ended) and ended[at].granted_us < one.asked_us:
            greatest = max(greatest, ended[at].fence)
            at += 1
        if one.fence <= greatest:
            yield "fences rise in time", f"{key}: {one.fence} was granted to {one.holder} after {greatest} had been"


def _check_exclusion(key: str, locks: Sequence[LockHeld]) -> Iterable[Fault]:
    until_us, holder = 0, ""
    for one in sorted(locks, key=lambda one: one.granted_us):
        if one.granted_us < until_us:
            yield "locks exclude", f"{key}: {one.holder} was granted it while {holder} relied on it for {until_us - one.granted_us} us more"
        if one.ended_us > until_us:
            until_us, holder = one.ended_us, one.holder


def check_buyers(asked: Sequence[Asked], service_id: str, final: Final, now: float) -> list[Fault]:
    """I1, I2, I12 as buyers see them, in true time: the history checker of the fault tests."""
    operations = [one for one in asked if one.service_id == service_id]
    return [("what buyers were told", sentence) for sentence in check_operations(operations, final, now)]
