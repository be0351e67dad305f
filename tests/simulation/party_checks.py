"""What must be true of the best available, judged from ledgers, from what was chosen, and from what parties were told (Z3, Z8).

The state before an entry is replayed from the ledger; what is the best in it is found by trying everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from datastore.events import seats_in
from datastore.ledger import SealedEntry
from datastore.model import BasketState, HoldState, Layout, Seat, SeatState
from datastore.rows import Kind, SeatRow
from loadbalancer.identity import basket_id_of, hold_id_of, owner_of
from tests.checkers import Answer
from tests.holds_told import holds_in
from tests.simulation.invariants import Fault
from tests.simulation.parties import HALL, Notes
from tests.simulation.travellers import TripAsked
from tests.simulation.trip_checks import Ledgers, Rows
from tests.unit.loadbalancer.cabins import assert_best, groups_of

ATTEMPTS = 64
NO_ROOM = ("seat_unavailable", "no_adjacent_block")
STOOD = ("expired", "released")  # why a trip ended that was not given up
ENDED = (HoldState.RELEASED, HoldState.EXPIRED, HoldState.CANCELLED)


class Moment(NamedTuple):
    """One entry of a ledger and a service's state before it.

    Attributes:
        before, after: Seat -> row, of seats that are not free.
        ends: Hold -> when it ends, log time, and who decides on that if not this operator.
        changed: Seats whose rows it writes.
    """

    lsn: int
    stamp_ms: int
    before: Mapping[str, SeatRow]
    after: Mapping[str, SeatRow]
    ends: Mapping[str, tuple[int, str]]
    changed: frozenset[str]

    def taken(self, rows: Mapping[str, SeatRow], *, decided_elsewhere: bool = True) -> set[str]:
        """Return what cannot be had: a hold whose time is over stands in nobody's way.

        Args:
            decided_elsewhere: Whether one does that another operator decides, until that was asked.
        """

        def is_over(row: SeatRow) -> bool:
            ends_ms, anchor = self.ends.get(row.hold_id, (self.stamp_ms + 1, ""))
            return row.state == SeatState.HELD and ends_ms <= self.stamp_ms and not (anchor and decided_elsewhere)

        return {seat for seat, row in rows.items() if not is_over(row)}


def moments(entries: Sequence[SealedEntry], service_id: str) -> Iterator[Moment]:
    """Yield every entry with the service's state around it. What `ends` has is of before the entry."""
    rows: dict[str, SeatRow] = {}
    ends: dict[str, tuple[int, str]] = {}
    for sealed in entries:
        entry = sealed.entry
        changes: dict[str, SeatRow] = {}
        later: dict[str, tuple[int, str]] = {}
        for kind, key, value in entry.events:
            for seat_key, row in seats_in(kind, key, value, entry.lsn).items():
                head, _, seat = seat_key.rpartition("/")
                if head == service_id:
                    changes[seat] = row
            if value and kind in (Kind.OPEN_HOLD, Kind.BULK):
                later.update({hold.hold_id: (hold.expires_ms, hold.anchor) for hold in holds_in(kind, value)})
        after = {seat: row for seat, row in (rows | changes).items() if row.state != SeatState.FREE}
        yield Moment(entry.lsn, entry.stamp_ms, rows, after, dict(ends), frozenset(changes))
        rows = after
        ends.update(later)


def check_choices(notes: Notes, asked: Sequence[TripAsked], service_id: str, entries: Sequence[SealedEntry]) -> tuple[list[Fault], int]:
    """Z8: seats that were proved to be the best were that in the state before their entry; also return how many could be judged."""
    wanted = {hold_id: one for one in asked if one.count for hold_id in attempts_of(one)}
    faults: list[Fault] = []
    judged = 0
    seats = Layout(HALL).seats
    for moment in moments(entries, service_id):
        made = {row.hold_id for seat, row in moment.after.items() if seat in moment.changed and row.state == SeatState.HELD}
        new = made - {row.hold_id for row in moment.before.values()}
        for hold_id in new & notes.keys():
            one = wanted.get(basket_of(hold_id))
            if one is None or None in notes[hold_id]:
                continue
            held = {seat for seat, row in moment.after.items() if row.hold_id == hold_id}
            proved = [noted for noted in notes[hold_id] if noted is not None and {*noted.seats} == held]
            others = moment.changed - held
            taken_before = moment.taken(moment.before)
            if not proved or held & taken_before or others & (taken_before | moment.taken(moment.after)):
                continue  # Another request of the same entry changed the service: before it or after, an entry does not say.
            judged += 1
            known = [taken_before.union(noted.chosen.others) for noted in proved]
            wrong = [_worse(seats, taken, sorted(held), one) for taken in known]
            if all(wrong):
                what = f"entry {moment.lsn}: {hold_id} took {', '.join(sorted(held))} with {', '.join(sorted(known[0])) or 'nothing'} taken"
                faults.append(("the best available", f"{what}, and {wrong[0]}"))
    return faults, judged


def _worse(seats: Sequence[Seat], taken: set[str], held: Sequence[str], one: TripAsked) -> str:
    """Return why a party could have had better seats, "" if it could not."""
    if one.together and not groups_of(seats, taken, one.count, one.cabin):
        return f"no {one.count} were side by side"
    try:
        assert_best(seats, taken, held, one.count, one.cabin, close=False)
    except AssertionError:
        return f"{one.count} could sit better"
    return ""


def check_no_room(asked: Sequence[TripAsked], service_id: str, entries: Sequence[SealedEntry]) -> list[Fault]:
    """Promise 5: who was told that there is no room was told the truth, of a state no older than the question."""
    told = [one for one in asked if one.count and one.answer is Answer.REFUSED and one.code in NO_ROOM]
    told = [one for one in told if "free" in one.told.fields and one.told.fields["service_id"] == service_id]
    if not told:
        return []
    seats = Layout(HALL).seats
    after = {moment.lsn: moment.taken(moment.after, decided_elsewhere=False) for moment in moments(entries, service_id)}
    ended = _ends(entries)
    operator_of = service_id[:2]
    faults: list[Fault] = []
    for one in told:
        lsn = int(one.told.fields["lsn"])
        what = f"{one.request_id} was told {one.code} from entry {lsn}"
        taken = after.get(lsn)
        if taken is None:
            faults.append(("no free seat is refused", f"{what}, which no ledger has"))
            continue
        free = [seat.seat_id for seat in seats if seat.seat_id not in taken and one.cabin in ("", seat.cabin)]
        if groups_of(seats, taken, one.count, one.cabin) if one.together else len(free) >= one.count:
            faults.append(("no free seat is refused", f"{what}, where {', '.join(free)} are free"))
        for other in asked:
            if other.kind not in ("release", "cancel") or other.answer is not Answer.DONE or other.answered >= one.asked:
                continue
            given_back = ended.get(other.hold_id)
            if given_back is not None and other.legs[0][0] == service_id and other.hold_id.startswith(operator_of) and given_back > lsn:
                faults.append(("no free seat is refused", f"{what}, though {other.request_id} had ended in entry {given_back} before"))
    return faults


def _ends(entries: Sequence[SealedEntry]) -> dict[str, int]:
    """Return which entry ended a hold of this operator alone, or gave its order's seats back."""
    found: dict[str, int] = {}
    for sealed in entries:
        for kind, _, value in sealed.entry.events:
            if kind == Kind.CLOSED_HOLD and value:
                for hold in holds_in(kind, value):
                    if hold.state in ENDED:
                        found[hold.hold_id] = sealed.entry.lsn
    return found


def check_one_hold(asked: Sequence[TripAsked], ledgers: Ledgers) -> list[Fault]:
    """I10, I12: a request makes one hold, whatever it tried, and one that was refused makes none.

    A trip that ended may be followed by another attempt, if nobody was told of it. Who was refused had none that stood to its end.
    """
    faults: list[Fault] = []
    for one in asked:
        if one.kind != "hold" or not one.count:
            continue
        rows = ledgers.get(one.legs[0][0][:2])
        # Its time may be over before any entry says so.
        over = one.code == "hold_expired" and one.told.fields.get("why") in STOOD
        stood = [hold_id for hold_id in attempts_of(one) if rows is not None and _stood(rows, hold_id, *STOOD)]
        made = [hold_id for hold_id in stood if rows is not None and _stood(rows, hold_id)]
        if len(made) > 1:
            faults.append(("one effect a request", f"{one.request_id} made {' and '.join(made)}"))
        if stood and one.answer is Answer.REFUSED and not over:
            faults.append(("not done means not done", f"{one.request_id} was told {one.code}, and the ledger has {stood[0]}"))
        if made and one.answer is Answer.DONE and made[0] != one.hold_id:
            faults.append(("one answer a request", f"{one.request_id} was told {one.hold_id}, and the ledger has {made[0]}"))
    return faults


def _stood(rows: Rows, hold_id: str, *ends: str) -> bool:
    """Whether a hold was made, or a trip that did not end otherwise than so."""
    basket = rows.basket(hold_id)
    return hold_id in rows.holds or (basket is not None and (basket.state != BasketState.ABORTED or basket.why in ends))


def attempts_of(one: TripAsked) -> list[str]:
    """Return the ids of the holds that the attempts of a request make (Z3)."""
    name = hold_id_of if len(one.legs) == 1 else basket_id_of
    return [name(one.legs[0][0][:2], owner_of(one.owner_key), one.request_id, attempt) for attempt in range(ATTEMPTS)]


def basket_of(hold_id: str) -> str:
    """Return the trip that a hold is a leg of, or the hold itself."""
    head, _, number = hold_id.rpartition(".")
    return head if number.isdigit() else hold_id


def as_named(asked: Iterable[TripAsked], ledgers: Ledgers) -> list[TripAsked]:
    """Return the operations with the seats that each attempt chose, as if they had been named.

    An attempt that came to nothing, and one that nobody was told of, may have stood in somebody's way.
    """
    found: list[TripAsked] = []
    for one in asked:
        if one.kind != "hold" or not one.count:
            found.append(one)
            continue
        if one.answer is Answer.DONE or one.answer is Answer.REFUSED:
            found.append(one)
        rows = ledgers.get(one.legs[0][0][:2])
        for hold_id in attempts_of(one) if rows is not None else ():
            if hold_id == one.hold_id:
                continue
            legs = _legs_of(rows, hold_id)
            if legs:
                changes: dict[str, Any] = {"hold_id": hold_id, "legs": legs, "answer": Answer.UNKNOWN, "told": None, "code": ""}
                found.append(TripAsked(**{**vars(one), **changes}))
    return found


def _legs_of(rows: Rows | None, hold_id: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if rows is None:
        return ()
    if hold_id in rows.holds:
        hold = rows.holds[hold_id]
        return ((hold.service_id, hold.seats),)
    basket = rows.basket(hold_id)
    return () if basket is None else tuple((leg.service_id, leg.seats) for leg in basket.legs)
