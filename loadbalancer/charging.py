"""What follows from how a payment stands, at the provider and in the anchor's ledger: the rules Q2-Q7 and Z15. Pure.

    Q2 intent made, PAYING committed → Q3 card confirmed, amount set aside → Q4 sale decided → Q5 captured
                                              └ no sale decided: ended by its id (Q6), or the same seats once more (Q7)

The intent follows from the hold alone, so there is never more than one for a hold, whoever asks, however often and with however
many cards: two of them cannot both set money aside. Everything here may be judged again by anybody at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any, Protocol

from datastore.errors import HoldfastError, OrderNotPayable, PaymentActionRequired, PaymentDeclined
from datastore.model import HoldState, PaymentState

Fares = tuple[tuple[int, ...], ...]  # minor units for each leg, beside its seats; () where they are the hold's prices

SET_ASIDE = ("requires_capture", "succeeded")
UNDECIDED = ("requires_payment_method", "requires_confirmation")
ENDED = "canceled"

# How a payment stands, in Stripe's words where it has one.
PAYMENT_WORDS = {
    PaymentState.PAYING: "processing",
    PaymentState.CAPTURE: "requires_capture",
    PaymentState.VOID: "cancelling",
    PaymentState.VOIDING: "cancelling",
    PaymentState.REFUND: "refunding",
}


class Standing(Protocol):
    """What is judged of an intent (`payments.Intent`)."""

    @property
    def status(self) -> str: ...
    @property
    def received_minor(self) -> int: ...
    @property
    def refunded_minor(self) -> int: ...
    @property
    def action(self) -> str: ...
    @property
    def decline(self) -> tuple[str, str]: ...


class Act(Enum):
    """What is to be done at the provider now."""

    NOTHING = "nothing"  # what the ledger asks for is so: say it there
    CAPTURE = "capture"
    CANCEL = "cancel"
    REFUND = "refund"
    WAIT = "wait"  # the provider is at work on it
    CASE = "case"  # it can no longer be done


def create_key(hold_id: str) -> str:
    """Return the idempotency key of a hold's only intent."""
    return f"holdfast-create-{hold_id}"


def confirm_key(hold_id: str, request_id: str, method: str) -> str:
    """Return the idempotency key of one try with one card."""
    return "holdfast-confirm-" + blake2b("\0".join((hold_id, request_id, method)).encode(), digest_size=20).hexdigest()


def refund_key(intent: str, step_minor: int) -> str:
    """Return the idempotency key of the refund that reaches `step_minor` in all; 0: of one without a sale, which takes all."""
    return f"holdfast-refund-{intent}-{step_minor}" if step_minor else f"holdfast-refund-{intent}"


def again_request_id(request_id: str, what: str) -> str:
    """Return the request id under which the same seats are held, or sold, once more for a payment that came late (Q7)."""
    return f"late-{what}-" + blake2b(request_id.encode(), digest_size=20).hexdigest()


def price_of(hold: Mapping[str, Any], fares: Fares = ()) -> int:
    """Return what is to be paid for a hold, of one service or of all legs of a trip, in minor units: of a change, the rest (B11).

    Args:
        fares: For each leg, where the passengers' types make them other than the hold's prices.
    """
    legs = hold.get("legs")
    whole_minor: int = sum(map(sum, fares)) if fares else sum(sum(leg[3]) for leg in legs) if legs else sum(hold["prices"])
    return max(0, whole_minor - int(hold.get("credit_minor", 0)))


def is_open(hold: Mapping[str, Any]) -> bool:
    """Return whether a hold can still be paid."""
    return hold["state"] in (HoldState.ACTIVE, HoldState.PAYING)


def judge_card(standing: Standing, hold_id: str) -> HoldfastError | None:
    """Return why the sale cannot be decided (Q3), None where the amount is set aside. Not of one that is "processing"."""
    if standing.status in SET_ASIDE:
        return None
    if standing.status == "requires_action":
        detail = f"the card's bank wants its holder's consent: {standing.action}; then say the same again"
        return PaymentActionRequired(detail, action=standing.action, hold_id=hold_id)
    if standing.status == ENDED:
        return OrderNotPayable(f"the payment of hold {hold_id} was ended", hold_id=hold_id)
    code, sentence = standing.decline
    return PaymentDeclined(sentence or "the card was declined", decline_code=code or "generic_decline", hold_id=hold_id)


def judge_step(state: PaymentState, standing: Standing, step_minor: int) -> Act:
    """Return what a row of the ledger asks for, given how its intent stands (Q5, Q6).

    Args:
        step_minor: In REFUND: what has gone back in all when the step under way is done.
    """
    if state == PaymentState.CAPTURE:
        if standing.status == "succeeded":
            return Act.NOTHING
        if standing.status == "requires_capture":
            return Act.CAPTURE
        return Act.WAIT if standing.status == "processing" else Act.CASE
    if state == PaymentState.VOIDING:
        if standing.status == "processing":
            return Act.WAIT
        if standing.status == "succeeded":
            return Act.REFUND if standing.refunded_minor < standing.received_minor else Act.NOTHING
        return Act.NOTHING if standing.status == ENDED else Act.CANCEL
    if state == PaymentState.REFUND:
        # One step at a time, so that what the provider shows is ours, however old the idempotency key is.
        if step_minor <= standing.refunded_minor:
            return Act.NOTHING
        return Act.REFUND if standing.status == "succeeded" else Act.CASE
    return Act.WAIT


def refund_due(state: PaymentState, standing: Standing, step_minor: int, refunded_minor: int) -> int:
    """Return how much goes back now, in minor units; `refunded_minor`: by the steps before, as the ledger has it."""
    return step_minor - refunded_minor if state == PaymentState.REFUND else standing.received_minor - standing.refunded_minor


def moved(state: PaymentState, standing: Standing) -> int:
    """Return what the ledger writes down as moved."""
    return standing.received_minor if state == PaymentState.CAPTURE else standing.refunded_minor


def word_of(payment: Mapping[str, Any]) -> str:
    """Return how a payment stands, for people and programs."""
    state = PaymentState(payment["state"])
    if state == PaymentState.SETTLED:
        return "succeeded" if payment["reference"] else "canceled"
    return PAYMENT_WORDS[state]
