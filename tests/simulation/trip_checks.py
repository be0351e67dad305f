"""What must be true of trips and of payments, judged from the ledgers, the provider's books and what travellers were told (I3, I9, Z15).

While the run goes on, its ledgers alone are judged; when all is quiet, what is left in them too. Nothing here asks the protocol's
modules what they think: rows are read as they were committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from datastore.ledger import SealedEntry
from datastore.model import BasketState, HoldState, OrderState, PaymentState, is_basket
from datastore.rows import BasketRow, HoldRow, Kind, LegRow, OrderRow, PaymentRow, decode_row
from tests.checkers import Answer
from tests.holds_told import holds_in
from tests.simulation.invariants import Fault
from tests.simulation.travellers import TripAsked

OPEN = (BasketState.PENDING, BasketState.PAYING)
NEXT = {
    None: (BasketState.PENDING, BasketState.ABORTED),
    BasketState.PENDING: (BasketState.PAYING, BasketState.COMMITTED, BasketState.ABORTED),
    BasketState.PAYING: (BasketState.COMMITTED, BasketState.ABORTED),
    BasketState.COMMITTED: (BasketState.CANCELLED,),
    BasketState.CANCELLED: (),
    BasketState.ABORTED: (),
}
FOLLOWS = {
    HoldState.CONVERTED: (BasketState.COMMITTED,),
    HoldState.RELEASED: (BasketState.ABORTED, BasketState.CANCELLED),
    HoldState.CANCELLED: (BasketState.CANCELLED,),
}


class LegChange(NamedTuple):
    """A row of a leg as an entry of its operator's ledger left it."""

    lsn: int
    row: LegRow


@dataclass
class Rows:
    """One operator's rows of trips and payments, as the ledger leaves them; `states`: basket -> (lsn, row) of each change."""

    hashes: list[bytes] = field(default_factory=list)
    stamp_ms: int = 0
    states: dict[str, list[tuple[int, BasketRow]]] = field(default_factory=dict)
    legs: dict[str, list[LegChange]] = field(default_factory=dict)
    holds: dict[str, HoldRow] = field(default_factory=dict)
    orders: dict[str, OrderRow] = field(default_factory=dict)
    sold_minor: dict[str, int] = field(default_factory=dict)  # reference -> what it was sold for
    payments: dict[str, PaymentRow] = field(default_factory=dict)

    def basket(self, basket_id: str) -> BasketRow | None:
        return self.states[basket_id][-1][1] if basket_id in self.states else None

    def state_at(self, basket_id: str, lsn: int) -> BasketState | None:
        found = [row.state for at, row in self.states.get(basket_id, ()) if at <= lsn]
        return found[-1] if found else None

    def leg(self, basket_id: str) -> LegRow | None:
        return self.legs[basket_id][-1].row if basket_id in self.legs else None


def rows_of(entries: Sequence[SealedEntry]) -> Rows:
    """Read one operator's ledger."""
    found = Rows()
    for sealed in entries:
        lsn = sealed.entry.lsn
        found.hashes.append(sealed.hash)
        found.stamp_ms = sealed.entry.stamp_ms
        for kind, key, value in sealed.entry.events:
            if not value:
                continue  # It moved to the table of what is closed, by another event of the same entry.
            if kind in (Kind.BASKET, Kind.CLOSED_BASKET):
                found.states.setdefault(key, []).append((lsn, decode_row(kind, value)))
            elif kind in (Kind.LEG, Kind.CLOSED_LEG):
                found.legs.setdefault(key, []).append(LegChange(lsn, decode_row(kind, value)))
            elif kind in (Kind.OPEN_HOLD, Kind.CLOSED_HOLD, Kind.BULK):
                found.holds.update({hold.hold_id: hold for hold in holds_in(kind, value)})
            elif kind == Kind.ORDER:
                order = found.orders[key] = decode_row(kind, value)
                found.sold_minor.setdefault(key, sum(sum(leg.prices) for leg in order.legs) or sum(order.prices))
            elif kind in (Kind.PAYMENT, Kind.CLOSED_PAYMENT):
                found.payments[key] = decode_row(kind, value)
    return found


Ledgers = Mapping[str, Rows]


def check_trips(ledgers: Ledgers) -> list[Fault]:
    """What holds at every moment: the anchor decides once, and legs follow it alone (B4-B6, B8, I9)."""
    faults: list[Fault] = []
    for operator, rows in ledgers.items():
        for basket_id, changes in rows.states.items():
            state = None
            for lsn, row in changes:
                if row.state != state and row.state not in NEXT[state]:
                    faults.append(("a decision stands", f"{operator} entry {lsn}: {basket_id} went from {state!r} to {row.state!r}"))
                state = row.state
        for basket_id, legs in rows.legs.items():
            for change in legs:
                faults += _check_leg(operator, basket_id, change, ledgers)
    return faults


def _check_leg(operator: str, basket_id: str, change: LegChange, ledgers: Ledgers) -> Iterable[Fault]:
    """A leg ends by its anchor's committed word, and is booked where the sale named the very hold."""
    row = change.row
    wanted = FOLLOWS.get(row.state)
    if wanted is None:
        return
    anchor = ledgers.get(row.anchor)
    _, lsn, digest = row.evidence
    what = f"{operator} entry {change.lsn}: leg of {basket_id} is {row.state.name}"
    if anchor is None or not 0 < lsn <= len(anchor.hashes) or anchor.hashes[lsn - 1] != digest:
        yield "legs follow the anchor", f"{what} by entry {lsn} of {row.anchor}, which is not in its ledger"
        return
    state = anchor.state_at(basket_id, lsn)
    if state not in wanted:
        yield "legs follow the anchor", f"{what}, and at entry {lsn} of {row.anchor} the trip was {state!r}"
    decided = anchor.basket(basket_id)
    if row.state == HoldState.CONVERTED and decided is not None and dict(decided.holds).get(operator) != row.lsn:
        yield "legs follow the anchor", f"{what} as held since entry {row.lsn}, the sale was of {dict(decided.holds)}"


def check_quiet_trips(ledgers: Ledgers, bound_ms: int) -> list[Fault]:
    """I3, when all is quiet: all legs or none, and nothing kept for a trip that is over."""
    faults: list[Fault] = []
    for anchor, rows in ledgers.items():
        for basket_id in rows.states:
            basket = rows.basket(basket_id)
            assert basket is not None
            if basket.state in OPEN and basket.expires_ms + bound_ms < rows.stamp_ms:
                faults.append(("seats come back", f"{basket_id} is open {rows.stamp_ms - basket.expires_ms} ms after its end"))
            for operator in {leg.operator for leg in basket.legs} - {anchor}:
                leg = ledgers[operator].leg(basket_id)
                faults += _check_all_or_none(basket, operator, leg)
            faults += _check_own_legs(basket, anchor, rows)
    for operator, rows in ledgers.items():
        for basket_id in rows.legs:
            leg = rows.leg(basket_id)
            assert leg is not None
            decided = ledgers[leg.anchor].basket(basket_id) if leg.anchor in ledgers else None
            is_over = decided is None or decided.state not in OPEN
            if leg.state == HoldState.ACTIVE and is_over and leg.due_ms + bound_ms < rows.stamp_ms:
                word = decided.state.name if decided is not None else "unknown"
                faults.append(("seats come back", f"{operator} keeps seats of {basket_id}, which is {word}"))
    return faults


def _check_all_or_none(basket: BasketRow, operator: str, leg: LegRow | None) -> Iterable[Fault]:
    name = leg.state.name if leg is not None else "unknown"
    if basket.state == BasketState.COMMITTED and (leg is None or leg.state != HoldState.CONVERTED):
        yield "all legs or none", f"{basket.basket_id} is sold, and its leg at {operator} is {name}"
    is_over = basket.state in (BasketState.ABORTED, BasketState.CANCELLED)
    if is_over and leg is not None and leg.state in (HoldState.ACTIVE, HoldState.CONVERTED):
        yield "all legs or none", f"{basket.basket_id} is {basket.state.name}, and its leg at {operator} is {name}"


def _check_own_legs(basket: BasketRow, anchor: str, rows: Rows) -> Iterable[Fault]:
    for number, leg in enumerate(basket.legs):
        if leg.operator == anchor:
            hold = rows.holds.get(f"{basket.basket_id}.{number}")
            state = hold.state if hold is not None else None
            if (state == HoldState.CONVERTED) != (basket.state == BasketState.COMMITTED):
                yield "all legs or none", f"{basket.basket_id} is {basket.state.name}, and its leg at {anchor} itself is {state!r}"


# --- payments ---------------------------------------------------------------------------------------------------------


def check_payments(ledgers: Ledgers, intents: Mapping[str, Mapping[str, Any]]) -> list[Fault]:
    """Z15, when all is quiet: charged if and only if booked, to the cent, and nothing left set aside."""
    faults: list[Fault] = []
    paid: dict[str, tuple[str, int]] = {}  # intent -> (what it pays for, how much of it is to be kept)
    for operator, rows in ledgers.items():
        for reference, order in rows.orders.items():
            what = f"{operator} order {reference}"
            if not order.intent or order.intent not in intents:
                faults.append(("charged if and only if booked", f"{what} is booked, and nothing pays for it"))
            elif order.intent in paid:
                faults.append(("charged if and only if booked", f"{what} and {paid[order.intent][0]} were paid by one {order.intent}"))
            else:
                paid[order.intent] = (what, rows.sold_minor[reference] - order.refund_minor)
        for intent, row in rows.payments.items():
            if row.state not in (PaymentState.SETTLED, PaymentState.PAYING):
                faults.append(("payments are settled", f"{operator}: {intent} of {row.hold_id} is still {row.state.name} {row.case}"))
    holds = Counter(one["metadata"].get("hold") for one in intents.values())
    faults += [("one payment a hold", f"{count} payments were made for {hold}") for hold, count in holds.items() if count > 1]
    for name, one in intents.items():
        charge = one["latest_charge"] or {"amount_refunded": 0}
        kept = one["amount_received"] - charge["amount_refunded"]
        what, price = paid.get(name, (f"nothing was sold for {one['metadata']}", 0))
        if kept != price:
            faults.append(("charged if and only if booked", f"{name}: {kept} of {one['amount']} is kept, it should be {price}: {what}"))
        if one["status"] == "requires_capture":
            faults.append(("charged if and only if booked", f"{name}: {one['amount']} is still set aside for {one['metadata']}"))
    return faults


# --- what travellers were told ----------------------------------------------------------------------------------------


def check_told(asked: Sequence[TripAsked], ledgers: Ledgers) -> list[Fault]:
    """I2, I10, I12: what travellers were told of trips and orders is in the ledgers, and what they were refused is not."""
    faults: list[Fault] = []
    orders = {order.hold_id: order for rows in ledgers.values() for order in rows.orders.values()}
    references = {order.reference: order for order in orders.values()}
    for one in asked:
        if one.kind == "confirm" and one.answer is Answer.DONE:
            order = references.get(one.reference)
            if order is None:
                faults.append(("nothing is lost", f"{one.request_id} was told order {one.reference}, and no ledger has it"))
            elif order.state == OrderState.CANCELLED and not _may_have(asked, one.hold_id, "cancel"):
                faults.append(("nothing is lost", f"order {one.reference} is cancelled, and nobody asked for it"))
        elif one.kind == "confirm" and one.answer is Answer.REFUSED:
            if one.hold_id in orders and not _may_have(asked, one.hold_id, "confirm"):
                faults.append(("not done means not done", f"{one.request_id} was told {one.code}, and {one.hold_id} is sold"))
        elif one.kind == "cancel" and one.answer is Answer.DONE:
            order = references.get(one.reference)
            if order is None or order.state != OrderState.CANCELLED:
                faults.append(("nothing is lost", f"{one.request_id} was told that {one.reference} is cancelled, and it is not"))
        elif one.kind == "hold" and one.answer is Answer.DONE:
            faults += _check_hold_told(one, ledgers)
    return faults


def _check_hold_told(one: TripAsked, ledgers: Ledgers) -> Iterable[Fault]:
    rows = ledgers[one.hold_id.partition(".")[0]]
    if not is_basket(one.hold_id):
        if one.hold_id not in rows.holds:
            yield "nothing is lost", f"{one.request_id} was told {one.hold_id}, and no ledger has it"
        return
    basket = rows.basket(one.hold_id)
    if basket is None or tuple((leg.service_id, leg.seats) for leg in basket.legs) != one.legs:
        yield "nothing is lost", f"{one.request_id} was told {one.hold_id} of {one.legs}, the ledger has {basket}"
    elif basket.state == BasketState.ABORTED and basket.why in ("refused", "failed"):
        yield "nothing is lost", f"{one.request_id} was told that {one.hold_id} holds, and it was given up as {basket.why}"


def _may_have(asked: Sequence[TripAsked], hold_id: str, kind: str) -> bool:
    return any(one.kind == kind and one.hold_id == hold_id and one.answer is not Answer.REFUSED for one in asked)


def as_operations(
    asked: Sequence[TripAsked], ledgers: Ledgers, service_id: str, settled_by: Callable[[float], float], lock_s: float
) -> list[TripAsked]:
    """Return what happened to one service as the checker of buyers reads it: each trip's leg there.

    A sale that was paid too late may stand on the same seats held anew (Q7): then the first hold has ended, and the second is what
    was sold. A request that failed stood in nobody's way while its lock lasted (Z6); where it took longer than that, or was sent
    more than once, some of its seats may have been seen as held.

    Args:
        settled_by: Time of an anchor's decision (s) -> by when the other operators follow it (Z5).
        lock_s: How long a lock lasts.
    """
    sold = {order.reference: order.hold_id for rows in ledgers.values() for order in rows.orders.values()}
    found: list[TripAsked] = []
    for one in asked:
        seats = next((seats for leg, seats in one.legs if leg == service_id), None)
        if seats is None:
            continue
        mine = TripAsked(**{**vars(one), "service_id": service_id, "seats": seats})
        if one.kind == "hold" and one.answer is Answer.REFUSED:
            if one.tries > 1 or one.answered - one.asked > lock_s:
                found.append(TripAsked(**{**vars(mine), "answer": Answer.UNKNOWN}))
            mine.seats = _refused_seats(one, service_id)
        if one.kind == "confirm" and one.card:
            anew = sold.get(one.reference, "") if one.answer is Answer.DONE else ""
            if anew != one.hold_id and (one.answer is not Answer.REFUSED or one.code == "hold_expired"):
                again = TripAsked(**{**vars(mine), "kind": "hold", "hold_id": anew, "lasts_s": 0.0, "answer": Answer.UNKNOWN})
                if one.answer is Answer.DONE:
                    again.answer, mine.hold_id = Answer.DONE, anew
                found.append(again)
        if one.kind in ("release", "cancel") and one.legs[0][0] != service_id:
            mine.answered = settled_by(one.answered)
        found.append(mine)
    # What is cancelled is what was sold, under whatever hold.
    for one in found:
        if one.kind == "cancel" and one.reference in sold:
            one.hold_id = sold[one.reference]
    return found


def _refused_seats(one: TripAsked, service_id: str) -> tuple[str, ...]:
    """Return the seats of a service that are said to stand in the way: a trip is refused for what is taken on any leg."""
    fields = getattr(one.told, "fields", {})
    named = fields.get("legs") or [fields]
    return tuple(seat["seat"] for leg in named if leg.get("service_id") == service_id for seat in leg.get("seats") or ())


def tally_trips(ledgers: Ledgers) -> dict[str, int]:
    """Count what happened to trips and payments (I14)."""
    last = [rows.basket(basket_id) for rows in ledgers.values() for basket_id in rows.states]
    states = [basket.state for basket in last if basket is not None]
    payments = [row for rows in ledgers.values() for row in rows.payments.values()]
    legs = [change.row for rows in ledgers.values() for changes in rows.legs.values() for change in changes]
    return {
        "trips_sold": sum(state in (BasketState.COMMITTED, BasketState.CANCELLED) for state in states),
        "trips_ended": states.count(BasketState.ABORTED),
        "resolved": sum(row.state == HoldState.RELEASED for row in legs),
        "charged": sum(row.captured_minor > 0 for row in payments),
        "given_back": sum(row.refunded_minor > 0 or (row.state == PaymentState.SETTLED and not row.reference) for row in payments),
    }
