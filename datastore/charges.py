"""What the anchor's ledger says of payment intents: what they pay for, what is still to be done about each (Q2-Q7, Z15). Pure.

    PAYING ─ sale decided ─→ CAPTURE ─ captured ─→ SETTLED ─ seats given up ─→ REFUND ─ refunded ─→ SETTLED
       ↑ └── hold ended ──→ VOID ─ begun ─→ VOIDING ─ ended at the provider ─→ SETTLED
       └───── the same seats, held anew (Q7) ┘

Money is moved by balancers' reconcilers, by the intent's id, after the row that asks for it is committed; each says here what it did.
What the provider refuses for good is a case (Z15), which a person closes.
"""

from __future__ import annotations

import hmac
from typing import Any

from datastore import commands, errors
from datastore.model import PaymentState
from datastore.overlay import Batch
from datastore.rows import PaymentRow, by_hand
from datastore.taking import copy


def payable(batch: Batch, command: commands.Paying) -> PaymentRow | None:
    """Return an intent's row if it may pay for the command's hold; None where nobody has heard of it.

    Q7: one whose hold has ended may pay for another hold of the same owner, at the same price, until somebody has begun to end it.

    Raises:
        AlreadyConfirmed: What it pays for is sold: another try was faster. OrderNotPayable: It is being ended.
        IdempotencyKeyReused: It pays, or paid, for something else.
    """
    payment = batch.payment(command.intent)
    if payment is None or (payment.hold_id == command.hold_id and payment.state == PaymentState.PAYING):
        return payment
    if payment.hold_id == command.hold_id and payment.reference and hmac.compare_digest(payment.owner, command.owner):
        detail = f"hold {payment.hold_id} is order {payment.reference}"
        raise errors.AlreadyConfirmed(detail, hold_id=payment.hold_id, reference=payment.reference)
    what = f"intent {errors.shown(command.intent)}"
    if payment.state in (PaymentState.VOID, PaymentState.VOIDING) and hmac.compare_digest(payment.owner, command.owner):
        same = (payment.amount_minor, payment.currency) == (command.amount_minor, command.currency)
        if payment.state == PaymentState.VOID and same and payment.hold_id != command.hold_id:
            return payment
        raise errors.OrderNotPayable(f"{what} is given back", intent=command.intent)
    raise errors.IdempotencyKeyReused(f"{what} pays for {payment.hold_id}", intent=command.intent)


def begin_void(batch: Batch, command: commands.BeginVoid) -> dict[str, Any]:
    """Q6: from here on the intent is ended, whoever still wanted to pay with it."""
    payment = _known(batch, command.intent)
    if payment.state == PaymentState.VOID:
        payment = copy(payment, state=PaymentState.VOIDING)
        batch.put_payment(payment)
    return payment_value(payment)


def settle(batch: Batch, command: commands.Settle) -> dict[str, Any]:
    """Q5-Q7: the provider has done what the row asked for; a refund that came up meanwhile is still to be done."""
    payment = _known(batch, command.intent)
    if payment.state != command.state or payment.state in (PaymentState.PAYING, PaymentState.VOID, PaymentState.SETTLED):
        return payment_value(payment)
    captured, refunded = payment.captured_minor, payment.refunded_minor
    if payment.state == PaymentState.CAPTURE:
        captured = command.moved_minor
    elif payment.state == PaymentState.REFUND:
        if command.moved_minor < payment.step_minor - by_hand(payment.closings)[1]:
            return payment_value(payment)  # Said of an earlier step.
        refunded = command.moved_minor
    moved = copy(payment, note=command.note, captured_minor=captured, refunded_minor=refunded)
    return _done(batch, moved)


def close_case(batch: Batch, command: commands.CloseCase) -> dict[str, Any]:
    """Z15: what the provider will not do was done without it, or given up: the books count it as moved by hand.

    Raises:
        InvalidRequest: There is no such open case; nothing changed.
    """
    payment = _known(batch, command.intent)
    what = f"payment {errors.shown(command.intent)}"
    if not payment.case or payment.state == PaymentState.SETTLED:
        raise errors.InvalidRequest(f"{what} is no open case", field="intent")
    if payment.state != command.state:
        raise errors.InvalidRequest(f"{what} is another case than the one that was looked at; list the cases again", field="intent")
    if payment.state == PaymentState.CAPTURE:
        minor = payment.amount_minor
    elif payment.state == PaymentState.REFUND:
        minor = payment.refunded_minor + by_hand(payment.closings)[1] - payment.step_minor
    else:
        minor = 0  # Nothing was sold: nothing is due either way.
    closing = (batch.now_ms, command.who, command.why, minor)
    return {**_done(batch, copy(payment, note="closed by hand", closings=(*payment.closings, closing))), "lsn": batch.lsn}


def _done(batch: Batch, payment: PaymentRow) -> dict[str, Any]:
    """Write that what a row asked for is done; a refund that came up meanwhile is next."""
    refund_due = bool(payment.reference) and payment.refund_minor > payment.refunded_minor + by_hand(payment.closings)[1]
    payment = copy(
        payment,
        state=PaymentState.REFUND if refund_due else PaymentState.SETTLED,
        step_minor=payment.refund_minor if refund_due else payment.step_minor,
        since_ms=batch.now_ms,
        case="",
    )
    batch.put_payment(payment)
    return payment_value(payment)


def note_case(batch: Batch, command: commands.PaymentCase) -> dict[str, Any]:
    """Z15: what the provider will not do stays to be done; why is written down once."""
    payment = _known(batch, command.intent)
    if payment.state == command.state and payment.case != command.why and payment.state != PaymentState.SETTLED:
        payment = copy(payment, case=command.why)
        batch.put_payment(payment)
    return payment_value(payment)


def _known(batch: Batch, intent: str) -> PaymentRow:
    payment = batch.payment(intent)
    if payment is None:
        raise errors.InvalidRequest(f"no payment {errors.shown(intent)}", field="intent")
    return payment


def payment_value(payment: PaymentRow) -> dict[str, Any]:
    """Return a payment's row as plain data."""
    return {
        "intent": payment.intent,
        "hold_id": payment.hold_id,
        "owner": payment.owner,
        "state": int(payment.state),
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "since_ms": payment.since_ms,
        "reference": payment.reference,
        "refund_minor": payment.refund_minor,
        "note": payment.note,
        "captured_minor": payment.captured_minor,
        "refunded_minor": payment.refunded_minor,
        "case": payment.case,
        "step_minor": payment.step_minor,
        "closings": [list(one) for one in payment.closings],
    }
