"""May these seats be taken, and how they change: the checks and the writes that holds and blocks share. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from datastore import errors, tickets, wire
from datastore.commands import Chosen, HoldEach
from datastore.model import (
    BasketState,
    HoldState,
    Layout,
    Leg,
    OrderState,
    PaymentState,
    SeatState,
    ServiceState,
    is_basket,
    leg_hold_id,
    operators_of,
)
from datastore.overlay import Batch
from datastore.rows import BasketRow, HoldRow, OrderRow, SeatRow, Ticketed
from datastore.state import ServiceFacts

STATE_WORDS = {SeatState.FREE: "available", SeatState.HELD: "held", SeatState.BOOKED: "occupied", SeatState.BLOCKED: "blocked"}


class Claim(NamedTuple):
    """Free seats of one service that a lock's holder wants; `wire.Hold` and `wire.Block` have the same fields."""

    service_id: str
    seats: tuple[str, ...]
    generation: int
    counter: int
    nonce: str


class Found(NamedTuple):
    """What stands in the way of a claim: seats that others have, what the newest fence was, holds that are due."""

    conflicts: list[dict[str, str]]
    newest: tuple[int, int]
    same_holder: bool
    due: dict[str, HoldRow]


def look(batch: Batch, command: Claim | wire.Hold | wire.Block) -> Found:
    """Return what stands in the way of taking the seats; changes nothing."""
    newest = (0, -1)
    same_holder = True
    conflicts: list[dict[str, str]] = []
    due: dict[str, HoldRow] = {}
    for seat_id in command.seats:
        row = batch.seat(command.service_id, seat_id)
        if row is None:
            continue
        if row.state == SeatState.HELD and (hold := _due_hold(batch, row)) is not None:
            due[hold.hold_id] = hold
        elif row.state != SeatState.FREE:
            conflicts.append({"seat": seat_id, "state": STATE_WORDS[row.state]})
        seen = (row.generation, row.counter)
        if seen > newest:
            newest, same_holder = seen, True
        if seen == newest:
            same_holder = same_holder and row.nonce == command.nonce
    return Found(conflicts, newest, same_holder, due)


def check_free_to_take(batch: Batch, command: Claim | wire.Hold | wire.Block, found: Found) -> None:
    """Check that a claim without conflicts may be made now: its fence is new enough, and what is due is decided here.

    Raises:
        StaleFence: `fence` is what to go beyond. ResolveNeeded: A due hold is decided at another operator (Z5).
    """
    fence = (command.generation, command.counter)
    if fence < found.newest or (fence == found.newest and not found.same_holder):
        raise errors.StaleFence(
            f"the lock's fence {list(fence)} is older than {list(found.newest)}, which a seat has seen",
            fence=list(found.newest),
            got=list(fence),
        )
    for hold in found.due.values():
        if hold.anchor:
            raise errors.ResolveNeeded(
                f"a due hold is decided by {hold.anchor}",
                basket=hold.basket,
                anchor=hold.anchor,
                operator=batch.state.operator,
                owner=hold.owner,
            )


def take(batch: Batch, command: Claim | wire.Hold | wire.Block) -> None:
    """Check that every seat may be taken under the command's lock; due holds in the way are aborted (B6).

    Raises:
        SeatUnavailable: Lists every seat in the way and what it is now. StaleFence, ResolveNeeded: See `check_free_to_take`.
    """
    found = look(batch, command)
    if found.conflicts:
        raise _unavailable(batch, command, found.conflicts)
    check_free_to_take(batch, command, found)
    for hold in found.due.values():
        expire(batch, hold)


def check_chosen(batch: Batch, layout: Layout, service_id: str, seats: Sequence[str], chosen: Chosen) -> None:
    """Check that the best available is still that: whoever chose it knew another state of the service (Z8).

    Raises:
        SeatUnavailable: `seats` is empty, for none of them is in the way. `taken` and `freed` are what matters and is not as it was
            known: what to choose again from, at `lsn`. Not all that is taken: every buyer of a hall may hear this at once.
    """
    others = frozenset(chosen.others)
    due = _due_seats(batch, service_id)

    def is_free(seat_id: str) -> bool:
        row = batch.seat(service_id, seat_id)
        return row is None or row.state == SeatState.FREE or seat_id in due

    taken, freed = set[str](), set[str]()
    if chosen.cabins:
        seats_there = frozenset[str]().union(*[layout.seats_of.get(cabin, ()) for cabin in chosen.cabins])
        free = (seats_there - batch.taken(service_id)) | (seats_there & due)
        freed = set(free - others.union(chosen.free))
        if freed or chosen.orphans_max:
            taken = set(frozenset(chosen.free) - free)
    if not freed and not taken:
        if layout.orphans(frozenset(seats), lambda seat_id: seat_id not in others and is_free(seat_id)) <= chosen.orphans_max:
            return
        around = {further for seat_id in seats for other in layout.neighbours[seat_id] for further in (other, *layout.neighbours[other])}
        freed = {seat_id for seat_id in around if is_free(seat_id)}.difference(seats)
        taken = around - freed - {*seats}
    reason = f"{service_id}: {', '.join(seats)} are not the best available any more"
    raise errors.SeatUnavailable(
        reason, service_id=service_id, seats=[], taken=sorted(taken), freed=sorted(freed), lsn=batch.lsn - 1
    )


def _due_seats(batch: Batch, service_id: str) -> set[str]:
    """Return the seats of holds whose time is over, also after what was done earlier in this batch."""
    found: set[str] = set()
    for hold in batch.state.due_holds(service_id, batch.now_ms):
        current = batch.open_hold(hold.hold_id)
        if current is not None and current.expires_ms <= batch.now_ms:
            found.update(current.seats)
    return found


def _unavailable(batch: Batch, command: Claim | wire.Hold | wire.Block, conflicts: list[dict[str, str]]) -> errors.Refusal:
    # The whole taken set rides along: whoever wanted "any" proposes again from it (Z8).
    due = _due_seats(batch, command.service_id)
    taken = [
        seat_id for seat_id, row in batch.touched(command.service_id).items() if row.state != SeatState.FREE and seat_id not in due
    ]
    return unavailable(command.service_id, conflicts, taken=taken, lsn=batch.lsn - 1)


def unavailable(service_id: str, conflicts: list[dict[str, str]], **fields: Any) -> errors.Refusal:
    """Return the refusal of seats that others have, each with what it is now."""
    named = ", ".join(f"{conflict['seat']} is {conflict['state']}" for conflict in conflicts)
    kind = errors.SeatBlocked if all(conflict["state"] == "blocked" for conflict in conflicts) else errors.SeatUnavailable
    return kind(f"{service_id}: {named}", service_id=service_id, seats=conflicts, **fields)


def _due_hold(batch: Batch, row: SeatRow) -> HoldRow | None:
    hold = batch.open_hold(row.hold_id)
    if hold is None:
        raise errors.InvariantBroken(f"a seat is held by {row.hold_id}, which is not open")
    return hold if hold.expires_ms <= batch.now_ms else None


def check_seats(facts: ServiceFacts, seats: Sequence[str]) -> None:
    if not seats:
        raise errors.InvalidRequest("no seat was named", field="seats")
    if len(set(seats)) != len(seats):
        raise errors.InvalidRequest("a seat was named twice", field="seats")
    known = facts.layout.by_id
    for seat_id in seats:
        if seat_id not in known:
            near = errors.nearest(seat_id, known)
            hint = f"; the nearest are {', '.join(near)}" if near else ""
            raise errors.UnknownSeat(
                f"{facts.service.service_id} has no seat {errors.shown(seat_id)}{hint}", seat=errors.shown(seat_id), nearest=near
            )


def check_on_sale(batch: Batch, facts: ServiceFacts) -> None:
    service = facts.service
    row = batch.service_row(service.service_id)
    if row is not None and row.state != ServiceState.OPEN:
        word = "cancelled" if row.state == ServiceState.CANCELLED else "closed for sale"
        raise errors.ServiceClosed(f"{service.service_id} is {word}: {row.reason}", service_id=service.service_id, state=word)
    if service.departs_ms <= batch.now_ms:
        raise errors.ServiceClosed(f"{service.service_id} has departed", service_id=service.service_id, state="departed")


class Limits(NamedTuple):
    """How many open holds an owner may have; `wire.Hold` has the same fields."""

    owner: str
    service_id: str
    owner_holds_max: int
    service_holds_max: int


def check_limits(batch: Batch, command: Limits | wire.Hold) -> None:
    """Refuse an owner who has too many open holds, with the operator or on the service.

    Raises:
        HoldLimitReached: `limit` and `where`.
    """
    room, refusal = room_for(batch, command, 1)
    if not room:
        assert refusal is not None
        raise refusal


def room_for(batch: Batch, command: Limits | wire.Hold | HoldEach, wanted: int) -> tuple[int, errors.HoldLimitReached | None]:
    """Return how many of `wanted` holds the owner may still open, and why not more, where it is fewer."""
    limit = min(command.owner_holds_max, command.service_holds_max)
    if batch.count_holds(command.owner) + wanted <= limit:
        return wanted, None
    # Only now is it worth looking closer: holds whose time is over do not count.
    live = [hold for hold in batch.holds_of(command.owner) if hold.expires_ms > batch.now_ms]
    here = sum(hold.service_id == command.service_id for hold in live)
    room, refusal = wanted, None
    for count, most, where in (
        (len(live), command.owner_holds_max, batch.state.operator),
        (here, command.service_holds_max, command.service_id),
    ):
        if count + room > most:
            room = max(0, most - count)
            refusal = errors.HoldLimitReached(f"{count + room} open holds on {where}; {most} are allowed", limit=most, where=where)
    return room, refusal


def free_hold(batch: Batch, hold: HoldRow, state: HoldState) -> HoldRow:
    """End a hold without a sale: its seats are free again, their fences stay."""
    set_seats(batch, hold, SeatState.HELD, SeatState.FREE)
    closed: HoldRow = copy(hold, state=state)
    batch.close_hold(closed)
    void_payment(batch, hold.intent)
    return closed


def expire(batch: Batch, hold: HoldRow) -> None:
    """End a due hold that is decided here; a leg takes its whole basket with it (B6)."""
    if not hold.basket:
        free_hold(batch, hold, HoldState.EXPIRED)
        return
    basket = batch.basket(hold.basket)
    if basket is None:
        raise errors.InvariantBroken(f"hold {hold.hold_id} is a leg of {hold.basket}, which is not recorded")
    if batch.open_hold(hold.hold_id) is not None:  # Another leg of the same basket may have ended it just now.
        abort_basket(batch, basket, "expired")


def abort_basket(batch: Batch, basket: BasketRow, why: str) -> BasketRow:
    """End a basket without a sale: the anchor's seats are free at once, the other operators follow (B6)."""
    state = HoldState.EXPIRED if why == "expired" else HoldState.RELEASED
    for hold in local_holds(batch, basket):
        free_hold(batch, hold, state)
    void_payment(batch, basket.intent)
    row: BasketRow = copy(
        basket, state=BasketState.ABORTED, why=why, undone=others_of(batch, basket), decided_lsn=batch.lsn
    )
    batch.put_basket(row)
    return row


def cancel_basket(batch: Batch, basket: BasketRow) -> BasketRow:
    """End a sold basket: the anchor's seats are free at once, the other operators follow (B8)."""
    for hold in local_holds(batch, basket, is_open=False):
        set_seats(batch, hold, SeatState.BOOKED, SeatState.FREE)
        batch.close_hold(copy(hold, state=HoldState.CANCELLED))
    row: BasketRow = copy(basket, state=BasketState.CANCELLED, undone=others_of(batch, basket), decided_lsn=batch.lsn)
    batch.put_basket(row)
    return row


def local_holds(batch: Batch, basket: BasketRow, *, is_open: bool = True) -> list[HoldRow]:
    """Return the holds of a basket's legs at its anchor.

    Raises:
        InvariantBroken: One is not there, or not as the basket's record says.
    """
    found = []
    for number, leg in enumerate(basket.legs):
        if leg.operator != batch.state.operator:
            continue
        hold_id = leg_hold_id(basket.basket_id, number)
        if not leg.seats:
            continue  # All of it was given up by a change (B11).
        hold = batch.open_hold(hold_id) if is_open else batch.closed_hold(hold_id)
        if hold is None or (not is_open and hold.state != HoldState.CONVERTED):
            raise errors.InvariantBroken(f"leg {hold_id} is not as its basket's record says ({BasketState(basket.state).name})")
        found.append(hold)
    return found


def others_of(batch: Batch, basket: BasketRow) -> tuple[str, ...]:
    """Return the basket's operators but this one."""
    return tuple(operator for operator in operators_of(basket.legs) if operator != batch.state.operator)


def void_payment(batch: Batch, intent: str) -> None:
    """Note that there is no sale behind an intent: whatever became of it is to be undone (Q6, Z11)."""
    payment = batch.payment(intent) if intent else None
    if payment is not None and payment.state == PaymentState.PAYING:
        batch.put_payment(copy(payment, state=PaymentState.VOID, since_ms=batch.now_ms))


def capture_payment(batch: Batch, intent: str, reference: str) -> None:
    """Note that the sale behind an intent is decided: the money is to be taken (Q5)."""
    payment = batch.payment(intent) if intent else None
    if payment is not None:
        batch.put_payment(copy(payment, state=PaymentState.CAPTURE, since_ms=batch.now_ms, reference=reference))


# An infant on a lap is paid for with its adult's seat; nobody pays more for one than for a seat.
FARE_PER_PRICE_MAX = 2


def check_fares(
    fares: tuple[tuple[int, ...], ...], prices: tuple[tuple[int, ...], ...], paying: tuple[tuple[int, ...], ...], *, paid: bool
) -> None:
    """Check what the passengers' types make of a hold's prices, leg by leg; () means the prices themselves.

    Args:
        paying: What the payment that has begun is for; `paid`: whether one has.
    Raises:
        InvalidRequest: They do not stand beside the seats, or are no share of the prices.
        OrderNotPayable: The payment is for other fares.
    """
    if fares and [len(leg) for leg in fares] != [len(leg) for leg in prices]:
        raise errors.InvalidRequest("there is one fare for each seat of each leg", field="fares")
    for leg, held in zip(fares, prices, strict=False):
        if any(not 0 <= fare <= FARE_PER_PRICE_MAX * price for fare, price in zip(leg, held, strict=True)):
            raise errors.InvalidRequest("a fare is between nothing and twice the price of its seat", field="fares")
    if paid and fares != paying:
        raise errors.OrderNotPayable("the payment that has begun is for passengers of other types; release the hold to start anew")


def check_lap_fares(laps: tuple[tuple[int, ...], ...], prices: tuple[tuple[int, ...], ...]) -> None:
    """Check that what infants on laps pay is a part of each seat's fare, leg by leg; () means that there are none.

    Raises:
        InvalidRequest: It is not.
    """
    if laps and [len(leg) for leg in laps] != [len(leg) for leg in prices]:
        raise errors.InvalidRequest("what infants on laps pay stands beside the seats of each leg", field="lap_fares")
    if any(not 0 <= lap <= fare for leg, fares in zip(laps, prices, strict=False) for lap, fare in zip(leg, fares, strict=True)):
        raise errors.InvalidRequest("what an infant on a lap pays is a part of its seat's fare", field="lap_fares")


def issue_tickets(batch: Batch, party: int, laps: tuple[int, ...]) -> Ticketed:
    """Return the tickets of a sale: the ledger counts their serials, so that none is given twice.

    Raises:
        InvalidRequest: An infant is on the lap of nobody, or two are on one.
    """
    if len(set(laps)) < len(laps) or any(place not in range(party) for place in laps):
        raise errors.InvalidRequest("each infant on a lap has one passenger with a seat", field="laps")
    row = batch.state.operator_row
    first = batch.counter(tickets.TICKET_COUNTER) + 1
    batch.put_counter(tickets.TICKET_COUNTER, first + party + len(laps) - 1)
    return Ticketed(tickets.accounting_code(batch.state.operator, row.accounting if row is not None else ""), first, party, laps)


def free_reference(batch: Batch, references: Sequence[str]) -> str:
    """Return the first proposed booking reference that no order has.

    Raises:
        RequestInProgress: None is free; others are to be proposed.
    """
    for word in references:
        if word and batch.order(word) is None:
            return word
    raise errors.RequestInProgress("none of the proposed references is free; propose others", references=list(references))


def set_seats(batch: Batch, hold: HoldRow, was: SeatState, now: SeatState) -> None:
    for seat_id in hold.seats:
        row = batch.seat(hold.service_id, seat_id)
        if row is None or row.state != was or row.hold_id != hold.hold_id:
            raise errors.InvariantBroken(
                f"{hold.service_id} {seat_id} should be {was.name} by {hold.hold_id} and is {row.state.name if row else 'untouched'}"
            )
        free = now == SeatState.FREE
        batch.put_seat(
            hold.service_id,
            seat_id,
            SeatRow(
                now,
                "" if free else hold.hold_id,
                0 if free else hold.lsn,
                "" if free else hold.owner,
                row.generation,
                row.counter,
                row.nonce,
            ),
        )


def trim_hold(batch: Batch, hold: HoldRow, gone: set[str]) -> None:
    """Free some of a sold hold's seats; one that keeps none is cancelled, with the seats that it had last."""
    places = [place for place, seat in enumerate(hold.seats) if seat not in gone]
    free = tuple(seat for seat in hold.seats if seat in gone)
    set_seats(batch, copy(hold, seats=free), SeatState.BOOKED, SeatState.FREE)
    if not places:
        batch.close_hold(copy(hold, state=HoldState.CANCELLED))
        return
    seats, prices = tuple(hold.seats[place] for place in places), tuple(hold.prices[place] for place in places)
    batch.close_hold(copy(hold, seats=seats, prices=prices))


def cancel_order(batch: Batch, order: OrderRow, refund_minor: int, what: str) -> OrderRow:
    """End an order whole, wherever its seats are booked."""
    for hold_id in dict.fromkeys([part.hold_id for part in order.parts] or [order.hold_id]):
        if is_basket(hold_id):
            basket = batch.basket(hold_id)
            if basket is None or basket.state != BasketState.COMMITTED:
                raise errors.InvariantBroken(f"order {order.reference} has no committed basket {hold_id}")
            cancel_basket(batch, basket)
        else:
            hold = batch.closed_hold(hold_id)
            if hold is None or hold.state != HoldState.CONVERTED:
                raise errors.InvariantBroken(f"order {order.reference} has no converted hold {hold_id}")
            set_seats(batch, hold, SeatState.BOOKED, SeatState.FREE)
    refund_payments(batch, order, refund_minor)
    row: OrderRow = copy(
        order,
        state=OrderState.CANCELLED,
        cancelled_ms=batch.now_ms,
        refund_minor=order.refund_minor + refund_minor,
        retained=_kept_of(batch, order, refund_minor),
        history=(*order.history, (batch.now_ms, what)),
        changed_lsn=batch.lsn,
        action=(),
    )
    batch.put_order(row)
    return row


def _kept_of(batch: Batch, order: OrderRow, refund_minor: int) -> tuple[tuple[str, int], ...]:
    """Return what each operator keeps of a cancelled order: nothing where the whole price went back, else by its legs' conditions."""
    found = dict(order.retained)
    plain = Leg(batch.state.operator, order.service_id, order.seats, order.prices, order.refundable_percent)
    all_back = refund_minor == price_of(order)
    for leg in order.legs or (plain,):
        kept_minor = 0 if all_back else sum(leg.prices) - sum(leg.prices) * leg.refundable_percent // 100
        if kept_minor:
            found[leg.operator] = found.get(leg.operator, 0) + kept_minor
    return tuple(found.items())


def refund_payments(batch: Batch, order: OrderRow, refund_minor: int) -> None:
    """Note that money goes back: of the newest payment first, of each no more than it took.

    One step of refunding is under way at a time: what is asked for meanwhile is the next (`datastore.charges`).
    """
    left_minor = refund_minor
    for intent in reversed((order.intent, *order.intents)):
        payment = batch.payment(intent) if intent else None
        if payment is None:
            continue
        back_minor = min(left_minor, payment.amount_minor - payment.refund_minor)
        if back_minor <= 0:
            continue
        left_minor -= back_minor
        payment = copy(payment, refund_minor=payment.refund_minor + back_minor)
        if payment.state == PaymentState.SETTLED:
            payment = copy(payment, state=PaymentState.REFUND, step_minor=payment.refund_minor, since_ms=batch.now_ms)
        batch.put_payment(payment)  # What is still to be captured stays so: the refund follows the capture.


def price_of(order: OrderRow) -> int:
    """Return what an order costs, in minor units."""
    return sum(sum(leg.prices) for leg in order.legs) if order.legs else sum(order.prices)


def refund_of(order: OrderRow) -> int:
    """Return what cancelling an order gives back by its fares' conditions, in minor units."""
    if order.legs:
        return sum(sum(leg.prices) * leg.refundable_percent // 100 for leg in order.legs)
    return sum(order.prices) * order.refundable_percent // 100


def copy(row: Any, **changes: Any) -> Any:
    """Return the row with some fields changed (rows are shared with the state and never changed in place)."""
    kind = type(row)
    return kind(**{name: changes.get(name, getattr(row, name)) for name in kind.__struct_fields__})
