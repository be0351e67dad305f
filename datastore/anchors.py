"""A basket's record at its anchor: the one place where it is decided (B4, B6, B8, Q2). Pure.

The anchor is the operator of the first leg, always (Z3). PENDING becomes PAYING, COMMITTED or ABORTED, COMMITTED may become
CANCELLED, and that is all: a state once left never comes back, and each change is one entry here. With it go the anchor's
own legs; the other operators follow, and `undone` names those that do not yet. Nobody needs to remember anything else.
"""

from __future__ import annotations

import hmac
from typing import Any

import msgspec

from datastore import affecting, amending, charges, commands, errors, wire
from datastore.legs import take_legs
from datastore.model import BasketState, HoldState, OrderState, PaymentState, SeatState, is_basket, operators_of
from datastore.outcomes import basket_value, hold_value, order_value
from datastore.overlay import Batch
from datastore.rows import SEVERAL, BasketRow, HoldRow, OrderRow, PaymentRow, Ticketed
from datastore.taking import (
    abort_basket,
    cancel_order,
    capture_payment,
    check_fares,
    check_lap_fares,
    copy,
    expire,
    free_reference,
    issue_tickets,
    local_holds,
    others_of,
    price_of,
    set_seats,
    void_payment,
)

WHY_WORDS = {"released": "was released", "expired": "has expired"}


def hold(batch: Batch, command: commands.HoldLegs) -> dict[str, Any]:
    """B2 at the anchor: the same entry makes the record, PENDING, with all legs."""
    row = batch.basket(command.basket_id)
    if row is not None:
        return _again(batch, row, command)
    operators = operators_of(command.legs)
    if not operators or command.numbers != tuple(range(len(command.legs))):
        raise errors.InvalidRequest("a basket's anchor hears of all legs", field="legs")
    if command.replaces:
        _check_replaces(batch, command)
    elif operators[0] != batch.state.operator:
        raise errors.InvalidRequest("a basket is decided by the operator of its first leg", field="legs")
    own = [leg.service_id for leg in command.legs if leg.operator == batch.state.operator]
    # No leg outlives its service's departure.
    expires_ms = min([batch.now_ms + command.ttl_ms, *(batch.facts(service_id).service.departs_ms for service_id in own)])
    if own:
        take_legs(batch, command, expires_ms, "")
    row = BasketRow(
        basket_id=command.basket_id,
        owner=command.owner,
        state=BasketState.PENDING,
        digest=command.digest,
        driver=command.nonce,
        legs=command.legs,
        currency=command.currency,
        created_ms=batch.now_ms,
        expires_ms=expires_ms,
        lsn=batch.lsn,
        replaces=command.replaces,
        credit_minor=command.credit_minor,
    )
    batch.put_basket(row)
    return basket_value(row, batch.now_ms, batch.lsn)


def _check_replaces(batch: Batch, command: commands.HoldLegs) -> None:
    """B11: a change is held for the owner of an order that stands here."""
    order = batch.order(command.replaces)
    if order is None or not hmac.compare_digest(order.owner, command.owner):
        raise errors.UnknownOrder(f"no booking {errors.shown(command.replaces)} of that owner")
    if order.state == OrderState.CANCELLED:
        raise errors.AlreadyCancelled(f"booking {order.reference} is cancelled", reference=order.reference)
    if order.currency != command.currency:
        raise errors.InvalidRequest(f"the booking is in {order.currency}, not in {command.currency}", field="legs")


def _again(batch: Batch, row: BasketRow, command: commands.HoldLegs) -> dict[str, Any]:
    """Answer a HOLD_LEGS of a basket that is known: as it stands now, with the legs that were recorded (Z3)."""
    row = _live(batch, command.basket_id, command.owner)
    if not hmac.compare_digest(row.digest, command.digest):
        raise errors.IdempotencyKeyReused(f"basket {row.basket_id} was made by another request", hold_id=row.basket_id)
    if row.driver not in (command.nonce, SEVERAL):
        row = copy(row, driver=SEVERAL)
        batch.put_basket(row)
    return basket_value(row, batch.now_ms, row.lsn)


def _live(batch: Batch, basket_id: str, owner: str) -> BasketRow:
    """Return the owner's basket that is still to be decided; one whose time is over is aborted here and now (B6)."""
    row = batch.basket(basket_id)
    if row is None:
        raise errors.UnknownHold(f"no hold {errors.shown(basket_id)}", hold_id=errors.shown(basket_id))
    if not hmac.compare_digest(row.owner, owner):
        raise errors.HoldNotYours(f"hold {basket_id} belongs to somebody else", hold_id=basket_id)
    if row.state in (BasketState.COMMITTED, BasketState.CANCELLED):
        raise errors.AlreadyConfirmed(f"hold {basket_id} is order {row.reference}", hold_id=basket_id, reference=row.reference)
    if row.state != BasketState.ABORTED and row.expires_ms <= batch.now_ms:
        row = abort_basket(batch, row, "expired")
    if row.state == BasketState.ABORTED:
        word = WHY_WORDS.get(row.why, f"has ended: {row.why}")
        raise errors.HoldExpired(f"hold {basket_id} {word}", hold_id=basket_id, expires_ms=row.expires_ms, why=row.why)
    return row


def decide_commit(batch: Batch, command: commands.Decide) -> dict[str, Any]:
    """B4: the sale. Once this entry is committed, it is sold on all legs, whoever dies."""
    row = _decidable(batch, command)
    if row.replaces:
        raise errors.InvalidRequest(f"hold {row.basket_id} changes booking {row.replaces}; accept the change instead", field="hold_id")
    check_fares(command.fares, prices := tuple(leg.prices for leg in row.legs), row.fares, paid=bool(row.intent))
    check_lap_fares(command.lap_fares, command.fares or prices)
    holds = local_holds(batch, row)
    if len(command.leg_passengers) != len(holds):
        raise errors.InvalidRequest("a basket's decision names the passengers of each leg", field="passengers")
    reference = free_reference(batch, command.references)
    ticketed = issue_tickets(batch, len(row.legs[0].seats), command.laps)
    for one, passengers in zip(holds, command.leg_passengers, strict=True):
        set_seats(batch, one, SeatState.HELD, SeatState.BOOKED)
        batch.close_hold(copy(one, state=HoldState.CONVERTED, reference=reference, passengers=passengers))
    batch.put_basket(
        copy(
            row,
            state=BasketState.COMMITTED,
            reference=reference,
            holds=command.holds,
            undone=others_of(batch, row),
            decided_lsn=batch.lsn,
            passengers=command.passengers,
        )
    )
    capture_payment(batch, row.intent, reference)
    order = _order_of(batch, row, command, reference, ticketed)
    batch.put_order(order)
    return order_value(order, batch.now_ms, batch.lsn)


def _decidable(batch: Batch, command: commands.Decide | commands.Amend) -> BasketRow:
    """Return the basket that may be decided now: alive, held everywhere (Z4), and paid by what the command says (Q4)."""
    row = _live(batch, command.basket_id, command.owner)
    _check_holds(batch, row, command.holds)
    if row.intent != command.intent or (row.state == BasketState.PAYING and row.holds != command.holds):
        raise errors.OrderNotPayable(f"hold {row.basket_id} is being paid by {row.intent or 'nothing'}", hold_id=row.basket_id)
    return row


def amend(batch: Batch, command: commands.Amend) -> dict[str, Any]:
    """B11: change an order; once this entry is committed, the new seats are booked and the old ones are not."""
    amending.owned_order(batch, command.reference, command.token_digest)
    basket = _decidable(batch, command) if command.basket_id else None
    if basket is not None and basket.replaces != command.reference:
        raise errors.InvalidRequest(f"hold {basket.basket_id} does not change booking {command.reference}", field="basket_id")
    return amending.amend(batch, command, basket)


def move(batch: Batch, command: commands.Move) -> dict[str, Any]:
    """Z10: other seats of this operator's own services, taken and given up for by one entry.

    Raises:
        InvalidRequest: It is not such a change. Refusal: Whatever HOLD_LEGS and AMEND refuse; nothing has changed then.
    """
    taken, change = command.hold, command.amend
    if (change.basket_id, change.owner, change.reference) != (taken.basket_id, taken.owner, taken.replaces) or change.intent:
        raise errors.InvalidRequest("a move takes seats for the order that it changes, and is not paid for", field="basket_id")
    if operators_of(taken.legs) != (batch.state.operator,):
        raise errors.InvalidRequest("a move is of one operator's own services; others hold the new seats first", field="legs")
    trial = batch.trial()
    hold(trial, taken)
    value = amend(trial, change)
    batch.adopt(trial)
    return value


def _order_of(batch: Batch, row: BasketRow, command: commands.Decide, reference: str, ticketed: Ticketed) -> OrderRow:
    legs = row.legs
    if command.fares:
        legs = tuple(msgspec.structs.replace(leg, prices=fares) for leg, fares in zip(row.legs, command.fares, strict=True))
    if command.lap_fares:
        legs = tuple(msgspec.structs.replace(leg, laps=laps) for leg, laps in zip(legs, command.lap_fares, strict=True))
    first = legs[0]
    return OrderRow(
        reference=reference,
        hold_id=row.basket_id,
        owner=row.owner,
        state=OrderState.CONFIRMED,
        token_digest=command.token_digest,
        service_id=first.service_id,
        seats=first.seats,
        currency=row.currency,
        prices=first.prices,
        refundable_percent=first.refundable_percent,
        passengers=command.passengers,
        created_ms=batch.now_ms,
        departs_ms=batch.facts(first.service_id).service.departs_ms,
        lsn=batch.lsn,
        history=((row.created_ms, "held"), (batch.now_ms, "confirmed")),
        legs=legs,
        intent=row.intent,
        ticketed=ticketed,
        laps=first.laps,
    )


def _check_holds(batch: Batch, row: BasketRow, holds: tuple[tuple[str, int], ...]) -> None:
    """Z4: nothing is decided, and no money moves, before every other operator was seen to hold its legs."""
    proven = {operator: lsn for operator, lsn in holds if lsn > 0}
    missing = [operator for operator in others_of(batch, row) if operator not in proven]
    if missing:
        raise errors.InvalidRequest(f"not shown to be held: {', '.join(missing)}", field="holds", operators=missing)


def extend(batch: Batch, command: wire.Extend) -> dict[str, Any]:
    """Z11: one entry here, counted from its stamp; the other operators' hints follow when they next ask."""
    row = _live(batch, command.hold_id, command.owner)
    if row.state == BasketState.PAYING:
        raise errors.OrderNotPayable(f"hold {row.basket_id} is being paid; its time stands", hold_id=row.basket_id)
    row = _longer(batch, row, command.ttl_ms, command.hold_ms_max)
    return basket_value(row, batch.now_ms, batch.lsn)


def _longer(batch: Batch, row: BasketRow, ttl_ms: int, hold_ms_max: int) -> BasketRow:
    """Return the basket with its end moved, and move that of its legs here."""
    holds = local_holds(batch, row)
    latest_ms = min([row.created_ms + hold_ms_max, *(batch.facts(one.service_id).service.departs_ms for one in holds)])
    longer: BasketRow = copy(row, expires_ms=max(row.expires_ms, min(batch.now_ms + ttl_ms, latest_ms)))
    for one in holds:
        batch.put_open_hold(copy(one, expires_ms=longer.expires_ms))
    batch.put_basket(longer)
    return longer


def release(batch: Batch, command: wire.Release) -> dict[str, Any]:
    """The owner gives the basket back."""
    row = abort_basket(batch, _live(batch, command.hold_id, command.owner), "released")
    return basket_value(row, batch.now_ms, batch.lsn)


def abort(batch: Batch, command: commands.Abort) -> dict[str, Any]:
    """Z6: end a basket that was refused or failed; Z3: or write its tombstone.

    A refusal is recorded, so every driver of the basket hears the same one, and nobody was told "held". A failure is one driver's
    own: where there was another, before or after it, that one may have told its caller "held".
    """
    row = batch.basket(command.basket_id)
    if row is None:
        row = _tombstone(batch, command.basket_id, command.owner, command.why, command.operators)
    elif row.state in (BasketState.PENDING, BasketState.PAYING):
        if row.state == BasketState.PAYING or (command.why != "refused" and row.driver != command.driver):
            raise errors.RequestInProgress(f"basket {row.basket_id} has another driver too", basket=row.basket_id)
        row = abort_basket(batch, row, command.why)
    return basket_value(row, batch.now_ms, row.decided_lsn)


def resolve(batch: Batch, command: commands.Resolve) -> dict[str, Any]:
    """B6: say how the basket stands, and let what is due or unknown end here."""
    row = batch.basket(command.basket_id)
    if row is None:
        row = _tombstone(batch, command.basket_id, command.owner, "no record", (command.operator,))
    elif row.state in (BasketState.PENDING, BasketState.PAYING) and row.expires_ms <= batch.now_ms:
        row = abort_basket(batch, row, "expired")
    return basket_value(row, batch.now_ms, row.decided_lsn)


def _tombstone(batch: Batch, basket_id: str, owner: str, why: str, operators: tuple[str, ...]) -> BasketRow:
    """Write that the basket never was: a HOLD_LEGS that is still on its way here comes too late."""
    row = BasketRow(
        basket_id=basket_id,
        owner=owner,
        state=BasketState.ABORTED,
        digest=b"",
        driver="",
        legs=(),
        currency="",
        created_ms=batch.now_ms,
        expires_ms=batch.now_ms,
        lsn=batch.lsn,
        decided_lsn=batch.lsn,
        why=why,
        undone=tuple(operator for operator in dict.fromkeys(operators) if operator != batch.state.operator),
    )
    batch.put_basket(row)
    return row


def done(batch: Batch, command: commands.LegsDone) -> dict[str, Any]:
    """B5: some operators follow the decision. What was said of an earlier decision does not count for a later one."""
    row = batch.basket(command.basket_id)
    same = row is not None and (row.state, row.decided_lsn) == (command.state, command.lsn)
    if row is not None and same and set(row.undone) & set(command.operators):
        row = copy(row, undone=tuple(operator for operator in row.undone if operator not in command.operators))
        batch.put_basket(row)
    return {"undone": row.undone if row is not None else ()}


def service_lost(batch: Batch, command: commands.ServiceLost) -> dict[str, Any]:
    """A leg's service was cancelled by its operator: without it there is no trip, and the whole price goes back."""
    row = batch.basket(command.basket_id)
    if row is None:
        row = _tombstone(batch, command.basket_id, "", "service cancelled", (command.operator,))
    elif row.state in (BasketState.PENDING, BasketState.PAYING):
        row = abort_basket(batch, row, "service cancelled")
    elif row.state == BasketState.COMMITTED and command.asks:
        return affecting.leg_lost(batch, command, row)
    elif row.state == BasketState.COMMITTED:
        order = batch.order(row.reference)
        if order is None:
            raise errors.InvariantBroken(f"basket {row.basket_id} is committed and has no order {row.reference}")
        cancel_order(batch, order, price_of(order), f"service of {command.operator} cancelled: {command.reason}")
    elif command.operator not in row.undone:
        batch.put_basket(copy(row, undone=(*row.undone, command.operator)))
    found = batch.basket(command.basket_id)
    assert found is not None
    return basket_value(found, batch.now_ms, found.decided_lsn)


# --- payments (Q2-Q7) ---------------------------------------------------------------------------------------------


def paying(batch: Batch, command: commands.Paying) -> dict[str, Any]:
    """Q2: the intent is recorded before money moves; from here on an end without a sale leaves a VOID row (Q6)."""
    payment = charges.payable(batch, command)
    if not command.intent or command.amount_minor < 0:
        raise errors.InvalidRequest("a payment names its intent and its amount", field="intent")
    value = _paying_basket(batch, command) if is_basket(command.hold_id) else _paying_hold(batch, command)
    if payment is None or payment.hold_id != command.hold_id:
        row = (command.intent, command.hold_id, command.owner, PaymentState.PAYING, command.amount_minor, command.currency, batch.now_ms)
        batch.put_payment(PaymentRow(*row))
    return value


def _paying_basket(batch: Batch, command: commands.Paying) -> dict[str, Any]:
    row = _live(batch, command.hold_id, command.owner)
    _check_holds(batch, row, command.holds)
    prices = tuple(leg.prices for leg in row.legs)
    check_fares(command.fares, prices, row.fares, paid=bool(row.intent) and row.intent == command.intent)
    _check_amount(command, max(0, sum(map(sum, command.fares or prices)) - row.credit_minor), row.currency)
    if row.intent and row.intent != command.intent:
        void_payment(batch, row.intent)
    if row.state == BasketState.PENDING:  # Extended once, however often another card is tried.
        row = _longer(batch, row, command.ttl_ms, command.hold_ms_max)
    row = copy(row, state=BasketState.PAYING, intent=command.intent, holds=command.holds, fares=command.fares)
    batch.put_basket(row)
    return basket_value(row, batch.now_ms, batch.lsn)


def _paying_hold(batch: Batch, command: commands.Paying) -> dict[str, Any]:
    hold = batch.open_hold(command.hold_id)
    if hold is None or hold.basket:
        raise errors.UnknownHold(f"no open hold {errors.shown(command.hold_id)}", hold_id=errors.shown(command.hold_id))
    if not hmac.compare_digest(hold.owner, command.owner):
        raise errors.HoldNotYours(f"hold {hold.hold_id} belongs to somebody else", hold_id=hold.hold_id)
    if hold.expires_ms <= batch.now_ms:
        expire(batch, hold)
        raise errors.HoldExpired(f"hold {hold.hold_id} has expired", hold_id=hold.hold_id, expires_ms=hold.expires_ms)
    begun = bool(hold.intent) and hold.intent == command.intent
    check_fares(command.fares, (hold.prices,), (hold.fares,) if hold.fares else (), paid=begun)
    _check_amount(command, sum(map(sum, command.fares or (hold.prices,))), hold.currency)
    if hold.intent and hold.intent != command.intent:
        void_payment(batch, hold.intent)
    row: HoldRow = copy(hold, state=HoldState.PAYING, intent=command.intent, fares=command.fares[0] if command.fares else ())
    if hold.state == HoldState.ACTIVE:
        latest_ms = min(hold.created_ms + command.hold_ms_max, batch.facts(hold.service_id).service.departs_ms)
        row.expires_ms = max(hold.expires_ms, min(batch.now_ms + command.ttl_ms, latest_ms))
    batch.put_open_hold(row)
    return hold_value(row, batch.now_ms, batch.lsn)


def _check_amount(command: commands.Paying, price_minor: int, currency: str) -> None:
    if command.amount_minor != price_minor or command.currency != currency:
        raise errors.PriceChanged(
            f"the hold costs {price_minor} {currency}, not {command.amount_minor} {command.currency}",
            amount_minor=price_minor,
            currency=currency,
        )
