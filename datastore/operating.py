"""The operator's side of the engine: block and unblock seats, close and cancel services, import timetables. Pure."""

from __future__ import annotations

from typing import Any

from datastore import affecting, commands, errors, wire
from datastore.importing import decide_import
from datastore.legs import lose
from datastore.model import ACCOUNTING_PATTERN, DATASET_PATTERN, BasketState, HoldState, SeatState, ServiceState
from datastore.overlay import Batch
from datastore.rows import Event, Kind, OperatorRow, SeatRow, ServiceRow, encode_row
from datastore.taking import abort_basket, cancel_order, check_seats, expire, free_hold, price_of, take

COUNTER_MAX = 2**53  # What every reader of JSON keeps exactly.
SWEEP_MAX = 500  # Holds in one entry: what is left over waits for the next sweep.


def block(batch: Batch, command: wire.Block) -> dict[str, Any]:
    facts = batch.facts(command.service_id)
    check_seats(facts, command.seats)
    take(batch, command)
    for seat_id in command.seats:
        batch.put_seat(
            command.service_id,
            seat_id,
            SeatRow(SeatState.BLOCKED, "", batch.lsn, "", command.generation, command.counter, command.nonce, command.reason),
        )
    return {"service_id": command.service_id, "seats": list(command.seats), "lsn": batch.lsn}


def unblock(batch: Batch, command: wire.Unblock) -> dict[str, Any]:
    facts = batch.facts(command.service_id)
    check_seats(facts, command.seats)
    rows = {seat_id: batch.seat(command.service_id, seat_id) for seat_id in command.seats}
    wrong = [seat_id for seat_id, row in rows.items() if row is None or row.state != SeatState.BLOCKED]
    if wrong:
        raise errors.InvalidRequest(f"not blocked: {', '.join(wrong)}", seats=wrong)
    for seat_id, row in rows.items():
        assert row is not None
        batch.put_seat(command.service_id, seat_id, SeatRow(SeatState.FREE, "", 0, "", row.generation, row.counter, row.nonce))
    return {"service_id": command.service_id, "seats": list(command.seats), "lsn": batch.lsn}


def set_service(batch: Batch, command: wire.SetService) -> dict[str, Any]:
    batch.facts(command.service_id)
    if command.state not in tuple(ServiceState):
        raise errors.InvalidRequest(f"{command.state} is not a service state", field="state")
    cancels = command.state == ServiceState.CANCELLED
    if command.asks not in affecting.ASKS or (command.asks and cancels != (command.asks == affecting.CANCELLED)):
        raise errors.InvalidRequest("travellers are asked about a service that is cancelled, or moved", field="asks")
    row = batch.service_row(command.service_id)
    if row is not None and row.state == ServiceState.CANCELLED:
        raise errors.AlreadyCancelled(f"{command.service_id} is cancelled; that is final", service_id=command.service_id)
    # Said again without a reason, the state keeps the one that it has: buyers are still told why.
    reason = command.reason or (row.reason if row is not None and row.state == command.state else "")
    state = ServiceState(command.state)
    if command.asks == affecting.MOVED:
        state = row.state if row is not None else ServiceState.OPEN
    else:
        batch.put_service(command.service_id, ServiceRow(state, reason, batch.lsn))
    cancelled: list[str] = []
    asked: list[str] = []
    released, why = 0, ""
    if command.asks:
        why = f"{command.asks}: {command.reason}".rstrip(": ")
        asked = affecting.ask_travellers(batch, command.service_id, why)
    if cancels:
        cancelled, released = _empty_service(batch, command.service_id, why or command.reason, sold=not command.asks)
    return {
        "service_id": command.service_id,
        "state": int(state),
        "orders_asked": asked,
        "orders_cancelled": cancelled,
        "holds_released": released,
        "lsn": batch.lsn,
    }


def _empty_service(batch: Batch, service_id: str, reason: str, *, sold: bool) -> tuple[list[str], int]:
    """Release every hold of a service and, with `sold`, cancel every order of it, with the whole price back."""
    touched = batch.touched(service_id)
    holds = dict.fromkeys(row.hold_id for row in touched.values() if row.state == SeatState.HELD)
    booked = dict.fromkeys(row.hold_id for row in touched.values() if row.state == SeatState.BOOKED)
    for hold_id in holds:
        hold = batch.open_hold(hold_id)
        if hold is None:
            raise errors.InvariantBroken(f"a seat of {service_id} is held by {hold_id}, which is not open")
        if hold.anchor:
            # It may be sold already, and the word not here yet: then its traveller is asked as the others are.
            lose(batch, hold.basket, reason, asks="" if sold else service_id)
        elif hold.basket:
            _abort(batch, hold.basket)
        else:
            free_hold(batch, hold, HoldState.RELEASED)
    cancelled: list[str] = []
    for hold_id in booked if sold else ():
        closed = batch.closed_hold(hold_id)
        if closed is not None and closed.anchor:
            # Its anchor cancels the order; until then the seats stay as they are (I9).
            lose(batch, closed.basket, reason)
            cancelled.append(closed.reference)
            continue
        order = batch.order(closed.reference) if closed is not None else None
        if order is None:
            raise errors.InvariantBroken(f"a seat of {service_id} is booked by {hold_id}, which has no order")
        cancel_order(batch, order, price_of(order), f"service cancelled: {reason}")
        cancelled.append(order.reference)
    return cancelled, len(holds)


def _abort(batch: Batch, basket_id: str) -> None:
    basket = batch.basket(basket_id)
    if basket is None:
        raise errors.InvariantBroken(f"a seat is held by basket {basket_id}, which is not recorded")
    if basket.state in (BasketState.PENDING, BasketState.PAYING):
        abort_basket(batch, basket, "service cancelled")


def set_operator(batch: Batch, command: wire.SetOperator) -> dict[str, Any]:
    if command.code != batch.state.operator:
        raise errors.InvalidRequest(f"this is the partition of {batch.state.operator}", field="code")
    old = batch.state.operator_row
    # An empty digest leaves the key as it is: naming an operator again must not lock it out.
    digest = command.key_digest or (old.key_digest if old else b"")
    accounting = command.accounting or (old.accounting if old else "")
    if command.accounting and not ACCOUNTING_PATTERN.fullmatch(command.accounting):
        raise errors.InvalidRequest(f"{errors.shown(command.accounting)} is no accounting code: three digits", field="accounting")
    row = OperatorRow(command.code, command.name, command.kind, digest, accounting=accounting)
    batch.events.append(Event(Kind.OPERATOR, command.code, encode_row(row)))
    return {"code": command.code, "lsn": batch.lsn}


def count(batch: Batch, command: wire.Count) -> dict[str, Any]:
    if not DATASET_PATTERN.fullmatch(command.counter):
        raise errors.InvalidRequest(f"{errors.shown(command.counter)} is not a counter's name: a-z, 0-9 and '-', up to 32", field="counter")
    value = batch.counter(command.counter) + command.add
    if abs(value) > COUNTER_MAX:
        raise errors.InvalidRequest(f"counter {command.counter} would leave its bounds of {COUNTER_MAX}", field="add")
    batch.put_counter(command.counter, value)
    return {"counter": command.counter, "value": value, "lsn": batch.lsn}


def import_timetable(batch: Batch, command: wire.Import) -> dict[str, Any]:
    if batch.changed and not command.dry_run:
        # An import is checked against applied state; behind other changes of the same batch it comes again, alone.
        raise errors.RequestInProgress("the import waits for the changes before it")
    events, value = decide_import(batch.state, command, batch.now_ms)
    if not command.dry_run:
        batch.events.extend(events)
        batch.timetable_changed = bool(events)
    return {**value, "lsn": batch.lsn, "dry_run": command.dry_run}


def retire(batch: Batch, _command: commands.Retire) -> dict[str, Any]:
    """Take the operator out of sale. Like an import it is decided on applied state alone, and what comes after on the next."""
    if batch.changed:
        raise errors.RequestInProgress("it waits for the changes before it")
    state = batch.state
    row = state.operator_row
    if row is None or row.retired_ms:
        raise errors.UnknownOperator(f"{state.operator} is not in sale", operator=state.operator)
    left = _left_open(batch)
    if left:
        raise errors.InvalidRequest(f"{state.operator} is not removed while anything is open: {', '.join(left)}", field="code", open=left)
    for kind in (Kind.SCHEDULE, Kind.DATASET):
        batch.events += [Event(kind, key, b"") for key, _ in state.store.scan(kind)]
    gone = OperatorRow(row.code, row.name, row.kind, row.key_digest, batch.now_ms, row.accounting)
    batch.events.append(Event(Kind.OPERATOR, row.code, encode_row(gone)))
    batch.timetable_changed = True
    return {"code": row.code, "lsn": batch.lsn}


def _left_open(batch: Batch) -> list[str]:
    """Return what somebody still expects of the operator, in words; [] for nothing."""
    state = batch.state
    booked = 0
    for service_id, seats in state.services_with_taken_seats().items():
        facts = state.facts(service_id)
        if facts is None or facts.service.departs_ms > batch.now_ms:
            rows = batch.touched(service_id)
            booked += sum(rows[seat_id].state == SeatState.BOOKED for seat_id in seats)
    counted = {
        "open holds": len(state.open_holds),
        "open trips": len(state.baskets) + len(state.legs),
        "payments under way": len(state.payments),
        "booked seats that have not travelled": booked,
    }
    return [f"{count} {what}" for what, count in counted.items() if count]


def sweep(batch: Batch, _command: wire.Sweep) -> dict[str, Any]:
    swept = 0
    for hold in batch.state.open_holds.due(batch.now_ms, SWEEP_MAX):
        current = batch.open_hold(hold.hold_id)
        if current is None or current.expires_ms > batch.now_ms:
            continue  # Closed or extended earlier in this batch.
        expire(batch, current)
        swept += 1
    for row in batch.state.due_baskets(batch.now_ms, SWEEP_MAX):
        basket = batch.basket(row.basket_id)
        if basket is not None and basket.state in (BasketState.PENDING, BasketState.PAYING) and basket.expires_ms <= batch.now_ms:
            abort_basket(batch, basket, "expired")
            swept += 1
    return {"swept": swept}
