"""The only place where a seat changes hands: a batch of commands against the applied state, folded in order.

Rules (docs/rules.md, Z1-Z7, B2, B4, B6-B8):

- The state given is *applied* state and nothing is in flight, so what is decided here holds when it commits (Z1). Later
  commands of the batch see what earlier ones of it did, through an overlay.
- A command is checked whole before it changes anything: a refusal has no events but those of holds whose time was over,
  which are aborted by the one who meets them (B6; expiry needs no sweeper).
- Every outcome is recorded under its request_id, refusals too, and a repeat gets the first answer (Z2). Not recorded
  are the few that say "come again": `StaleFence`, `ResolveNeeded`, `RequestInProgress`. They had no effect, and whoever
  comes again does so under the same request_id. A caller that wants *other* seats after a refusal (best available)
  numbers its attempts, `ID`, `ID#1`, `ID#2` ...: a retry elsewhere walks the same chain and meets the recorded answers.
- Only what takes a free seat carries a fence, compared with the newest the seat has seen (Z7): equal is refused too
  unless the nonce is the same, because two holders with one fence mean that a lock server lied.
- "Available" is no row, or a row that is free. Rows stay, with their fence.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from datastore import amending, anchors, bulk, charges, commands, errors, legs, operating, wire
from datastore.ledger import KEPT_LONG, KEPT_SHORT, KEPT_WITH_ORDER
from datastore.model import Epoch, HoldState, OrderState, SeatState, is_basket
from datastore.outcomes import hold_value, order_value
from datastore.overlay import Batch
from datastore.rows import ROWS_FORM, ErasedRow, Event, HoldRow, OrderRow, SeatRow
from datastore.state import AppliedState
from datastore.taking import (
    cancel_order,
    capture_payment,
    check_chosen,
    check_fares,
    check_lap_fares,
    check_limits,
    check_on_sale,
    check_seats,
    copy,
    expire,
    free_hold,
    free_reference,
    issue_tickets,
    refund_of,
    set_seats,
    take,
)

COME_AGAIN = (errors.StaleFence, errors.ResolveNeeded, errors.RequestInProgress)

DIGEST_BYTES = 32

FirstAnswer = Callable[[str], tuple[bytes, wire.Outcome] | None]


class Decision(NamedTuple):
    """What a batch came to.

    Attributes:
        outcomes: Beside the commands.
        events: Row images in order; empty where nothing changed.
        requests: Beside the commands: (request_id, digest), or ("", b"") where nothing is to be recorded.
        keeps: Beside the commands: how long each answer is kept (Z2).
        erases: Whether some side record is erased: the entry then says so in its kind.
        changed: Whether there is anything that must be written and replicated before the answers leave.
    """

    outcomes: list[wire.Outcome]
    events: list[Event]
    requests: list[tuple[str, bytes]]
    keeps: bytes
    changed: bool
    erases: bool = False


def decide(
    state: AppliedState,
    commands: Sequence[wire.AnyCommand],
    now_ms: int,
    lsn: int,
    epoch: Epoch,
    first_answer: FirstAnswer,
    rows_form: int = ROWS_FORM,
) -> Decision:
    """Fold `commands` in order.

    Args:
        now_ms: The log's stamp of the entry to be written (R17).
        lsn: The entry's number.
        first_answer: An applied request's (digest, outcome), or None.
        rows_form: The newest form of rows that every copy reads.
    Raises:
        InvariantBroken: The applied state contradicts itself; the node must stop.
    """
    batch = Batch(state, now_ms, lsn, rows_form)
    outcomes: list[wire.Outcome] = []
    requests: list[tuple[str, bytes]] = []
    keeps = bytearray()
    answered: dict[str, tuple[bytes, wire.Outcome]] = {}
    recorded = False
    for command in commands:
        request_id = command.request_id
        first = (answered.get(request_id) or first_answer(request_id)) if request_id else None
        if first is not None:
            outcomes.append(_repeat(command, first))
            requests.append(("", b""))
            keeps.append(KEPT_SHORT)
            continue
        outcome, keep = _decide_one(batch, command)
        outcomes.append(outcome)
        keeps.append(_kept(outcome))
        if keep and request_id:
            answered[request_id] = (command.digest, outcome)
            requests.append((request_id, command.digest))
            recorded = True
        else:
            requests.append(("", b""))
    events = batch.finish()
    return Decision(outcomes, events, requests, bytes(keeps), recorded or bool(events), batch.erases)


def _decide_one(batch: Batch, command: wire.AnyCommand) -> tuple[wire.Outcome, bool]:
    try:
        if batch.timetable_changed:
            raise errors.RequestInProgress("a new timetable comes first")
        value = _handlers[type(command)](batch, command)
        # A basket's record answers for itself: said again, HOLD_LEGS is told how the basket stands now.
        return wire.Outcome(batch.lsn, value), type(command) is not commands.HoldLegs
    except errors.InvariantBroken:
        raise
    except errors.HoldfastError as error:
        error.request_id = command.request_id
        return wire.Outcome(batch.lsn, {}, error.to_data()), not isinstance(error, COME_AGAIN)


def _kept(outcome: wire.Outcome) -> int:
    """Return how long an answer is kept (Z2): a refusal for an hour, an order's for the order's life, the rest for seven days."""
    if outcome.error:
        return KEPT_SHORT
    return KEPT_WITH_ORDER if outcome.value.get("reference") else KEPT_LONG


def _repeat(command: wire.AnyCommand, first: tuple[bytes, wire.Outcome]) -> wire.Outcome:
    digest, outcome = first
    if hmac.compare_digest(digest, command.digest):
        return outcome
    return wire.failure(
        errors.IdempotencyKeyReused(
            f"request id {errors.shown(command.request_id)} was used for another request", request_id=command.request_id
        )
    )


# --- taking seats -------------------------------------------------------------------------------------------------


def _refuse(batch: Batch, command: commands.Refuse) -> dict[str, Any]:
    """Z3, Z8: a party for which a balancer found no room finds none by any other try of its request, unless one was faster."""
    if command.basket_id and batch.basket(command.basket_id) is not None:
        raise errors.RequestInProgress(f"{command.basket_id} was made by another try of the request", basket=command.basket_id)
    kind = errors.type_of_code.get(command.code)
    if kind is None or kind not in errors.NO_ROOM:
        raise errors.InvalidRequest(f"{errors.shown(command.code)} does not say that there is no room", field="code")
    error = kind(command.detail)
    error.fields = dict(command.fields)
    raise error


def _hold(batch: Batch, command: wire.Hold) -> dict[str, Any]:
    facts = batch.facts(command.service_id)
    check_seats(facts, command.seats)
    if len(command.prices) != len(command.seats) or command.ttl_ms <= 0:
        raise errors.InvalidRequest("a hold needs a price for each seat and a time above zero", field="ttl_ms")
    check_on_sale(batch, facts)
    if batch.open_hold(command.hold_id) is not None or batch.closed_hold(command.hold_id) is not None:
        raise errors.IdempotencyKeyReused(f"hold {errors.shown(command.hold_id)} exists already", hold_id=command.hold_id)
    take(batch, command)
    if command.chosen is not None:
        check_chosen(batch, facts.layout, command.service_id, command.seats, command.chosen)
    check_limits(batch, command)
    row = HoldRow(
        hold_id=command.hold_id,
        owner=command.owner,
        service_id=command.service_id,
        seats=command.seats,
        state=HoldState.ACTIVE,
        lsn=batch.lsn,
        created_ms=batch.now_ms,
        # A hold never outlives the service's departure: nobody could use it.
        expires_ms=min(batch.now_ms + command.ttl_ms, facts.service.departs_ms),
        currency=command.currency,
        prices=command.prices,
        refundable_percent=command.refundable_percent,
    )
    for seat_id in command.seats:
        batch.put_seat(
            command.service_id,
            seat_id,
            SeatRow(SeatState.HELD, command.hold_id, batch.lsn, command.owner, command.generation, command.counter, command.nonce),
        )
    batch.put_open_hold(row)
    return hold_value(row, batch.now_ms, batch.lsn)


# --- the life of a hold -------------------------------------------------------------------------------------------


def _live_hold(batch: Batch, hold_id: str, owner: str) -> HoldRow:
    """Return the owner's open hold; one whose time is over is aborted here and now."""
    hold = batch.open_hold(hold_id)
    if hold is None:
        raise _why_not_open(batch, hold_id, owner)
    if not hmac.compare_digest(hold.owner, owner):
        raise errors.HoldNotYours(f"hold {hold_id} belongs to somebody else", hold_id=hold_id)
    if hold.basket:
        raise errors.InvalidRequest(f"{hold_id} is one leg of {hold.basket}: all legs stand or fall together", field="hold_id")
    if hold.expires_ms <= batch.now_ms:
        expire(batch, hold)
        raise errors.HoldExpired(f"hold {hold_id} has expired", hold_id=hold_id, expires_ms=hold.expires_ms, state="expired")
    return hold


def _why_not_open(batch: Batch, hold_id: str, owner: str) -> errors.Refusal:
    closed = batch.closed_hold(hold_id)
    if closed is None:
        return errors.UnknownHold(f"no hold {errors.shown(hold_id)}", hold_id=errors.shown(hold_id))
    if not hmac.compare_digest(closed.owner, owner):
        return errors.HoldNotYours(f"hold {hold_id} belongs to somebody else", hold_id=hold_id)
    if closed.state == HoldState.CONVERTED:
        return errors.AlreadyConfirmed(f"hold {hold_id} is order {closed.reference}", hold_id=hold_id, reference=closed.reference)
    word = "was released" if closed.state == HoldState.RELEASED else "has expired"
    state = "released" if closed.state == HoldState.RELEASED else "expired"
    return errors.HoldExpired(f"hold {hold_id} {word}", hold_id=hold_id, expires_ms=closed.expires_ms, state=state)


def _extend(batch: Batch, command: wire.Extend) -> dict[str, Any]:
    if command.ttl_ms <= 0:
        raise errors.InvalidRequest("the time must be above zero", field="ttl_ms")
    if is_basket(command.hold_id):
        return anchors.extend(batch, command)
    hold = _live_hold(batch, command.hold_id, command.owner)
    latest_ms = min(hold.created_ms + command.hold_ms_max, batch.facts(hold.service_id).service.departs_ms)
    row = copy(hold, expires_ms=max(hold.expires_ms, min(batch.now_ms + command.ttl_ms, latest_ms)))
    batch.put_open_hold(row)
    return hold_value(row, batch.now_ms, batch.lsn)


def _release(batch: Batch, command: wire.Release) -> dict[str, Any]:
    if is_basket(command.hold_id):
        return anchors.release(batch, command)
    hold = _live_hold(batch, command.hold_id, command.owner)
    return hold_value(free_hold(batch, hold, HoldState.RELEASED), batch.now_ms, batch.lsn)


def _confirm(batch: Batch, command: wire.Confirm) -> dict[str, Any]:
    hold = _live_hold(batch, command.hold_id, command.owner)
    facts = batch.facts(hold.service_id)
    if hold.intent != command.intent:
        raise errors.OrderNotPayable(f"hold {hold.hold_id} is being paid by {hold.intent or 'nothing'}", hold_id=hold.hold_id)
    check_fares((command.fares,) if command.fares else (), (hold.prices,), (hold.fares,) if hold.fares else (), paid=bool(hold.intent))
    check_lap_fares((command.lap_fares,) if command.lap_fares else (), (command.fares or hold.prices,))
    reference = free_reference(batch, command.references)
    ticketed = issue_tickets(batch, len(hold.seats), command.laps)
    set_seats(batch, hold, SeatState.HELD, SeatState.BOOKED)
    batch.close_hold(copy(hold, state=HoldState.CONVERTED, reference=reference))
    capture_payment(batch, hold.intent, reference)
    order = OrderRow(
        reference=reference,
        hold_id=hold.hold_id,
        owner=hold.owner,
        state=OrderState.CONFIRMED,
        token_digest=command.token_digest,
        service_id=hold.service_id,
        seats=hold.seats,
        currency=hold.currency,
        prices=command.fares or hold.prices,
        refundable_percent=hold.refundable_percent,
        passengers=command.passengers,
        created_ms=batch.now_ms,
        departs_ms=facts.service.departs_ms,
        lsn=batch.lsn,
        history=((hold.created_ms, "held"), (batch.now_ms, "confirmed")),
        intent=hold.intent,
        ticketed=ticketed,
        laps=command.lap_fares,
    )
    batch.put_order(order)
    return order_value(order, batch.now_ms, batch.lsn)


def _cancel(batch: Batch, command: wire.Cancel) -> dict[str, Any]:
    order = amending.owned_order(batch, command.reference, command.token_digest)
    if order.departs_ms <= batch.now_ms:
        raise errors.ServiceClosed(f"{order.service_id} has departed", service_id=order.service_id, state="departed")
    return order_value(cancel_order(batch, order, refund_of(order), "cancelled"), batch.now_ms, batch.lsn)


def _erase(batch: Batch, command: wire.Erase) -> dict[str, Any]:
    """Erase a side record, or put one with fewer names in its place (Z12). Rows keep its digest, which leads nowhere then."""
    if len(command.record) != DIGEST_BYTES or len(command.replacement) not in (0, DIGEST_BYTES):
        raise errors.InvalidRequest("a side record is named by its digest of 32 bytes", field="record")
    erased = not batch.is_erased(command.record)
    if erased:
        batch.put_erased(command.record, ErasedRow(command.replacement, batch.lsn, batch.now_ms))
    return {"erased": erased, "lsn": batch.lsn}


def _hold_legs(batch: Batch, command: commands.HoldLegs) -> dict[str, Any]:
    return anchors.hold(batch, command) if command.anchor == batch.state.operator else legs.hold(batch, command)


_handlers: dict[type, Callable[[Batch, Any], dict[str, Any]]] = {
    wire.Hold: _hold,
    wire.Extend: _extend,
    wire.Release: _release,
    wire.Confirm: _confirm,
    wire.Cancel: _cancel,
    wire.Block: operating.block,
    wire.Unblock: operating.unblock,
    wire.SetService: operating.set_service,
    wire.SetOperator: operating.set_operator,
    wire.Count: operating.count,
    wire.Import: operating.import_timetable,
    wire.Sweep: operating.sweep,
    wire.Erase: _erase,
    commands.Retire: operating.retire,
    commands.HoldLegs: _hold_legs,
    commands.Refuse: _refuse,
    commands.HoldEach: bulk.hold_each,
    commands.Decide: anchors.decide_commit,
    commands.Amend: anchors.amend,
    commands.Move: anchors.move,
    commands.Abort: anchors.abort,
    commands.Resolve: anchors.resolve,
    commands.Finalise: legs.finalise,
    commands.ReleaseLegs: legs.release,
    commands.LegDue: legs.due,
    commands.LegsDone: anchors.done,
    commands.ServiceLost: anchors.service_lost,
    commands.Paying: anchors.paying,
    commands.Settle: charges.settle,
    commands.BeginVoid: charges.begin_void,
    commands.PaymentCase: charges.note_case,
    commands.CloseCase: charges.close_case,
}
