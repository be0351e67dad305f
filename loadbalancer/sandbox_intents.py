"""What the payment sandbox knows of payments: the part of Stripe's API that Holdfast uses, as a machine over plain objects. Pure.

    create → requires_payment_method ─ confirm ─→ requires_action ─ consent ─→ requires_capture ─ capture ─→ succeeded
                    ↑      |                             |                            |                        └ refund*
                    └ declined                           └──────────── cancel ────────┴──→ canceled

Objects are dicts as Stripe shows them. Every operation takes the objects as they are and returns what they become; `ApiError` is
a refusal, and a refusal of a card still changes the intent (`changed`). Which endpoints and words: docs/payments.md.

Source: Stripe API reference, "PaymentIntents", "Refunds", "Errors" and "Idempotent requests"; Stripe, "Testing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

FIELDS_MAX = 200
METADATA_MAX = 50
CURRENCY_LETTERS = 3
AMOUNT_MAX = 99_999_999  # Stripe's own: eight digits in the smallest unit.
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture")

Object = dict[str, Any]


class ApiError(Exception):
    """A refusal as the API words it.

    Attributes:
        status: HTTP status.
        kept: Whether a repeat under the same idempotency key gets it again: Stripe keeps what began to execute, and no mistakes of form.
        changed: Objects that changed all the same, by id.
    """

    def __init__(self, status: int, kind: str, message: str, *, kept: bool = True, changed: dict[str, Object] | None = None, **more: Any):
        super().__init__(message)
        self.status = status
        self.kept = kept
        self.changed = changed or {}
        self.body: Object = {"type": kind, "message": message, **{name: value for name, value in more.items() if value is not None}}


def invalid(message: str, *, status: int = 400, **more: Any) -> ApiError:
    """Return the refusal of a request that can never do."""
    return ApiError(status, "invalid_request_error", message, kept=False, **more)


class Card(NamedTuple):
    """How a test card behaves. `code` "" takes the payment; else it is declined with `decline_code`."""

    code: str = ""
    decline_code: str = ""
    message: str = ""
    consent: bool = False
    slow: bool = False
    answer_lost: bool = False


_DECLINED = Card("card_declined", "generic_decline", "Your card was declined.")
_NO_FUNDS = Card("card_declined", "insufficient_funds", "Your card has insufficient funds.")
CARDS: dict[str, Card] = {
    "pm_card_visa": Card(),
    "pm_card_mastercard": Card(),
    "pm_card_amex": Card(),
    "pm_card_chargeDeclined": _DECLINED,
    "pm_card_visa_chargeDeclined": _DECLINED,
    "pm_card_chargeDeclinedInsufficientFunds": _NO_FUNDS,
    "pm_card_visa_chargeDeclinedInsufficientFunds": _NO_FUNDS,
    "pm_card_chargeDeclinedExpiredCard": Card("expired_card", "expired_card", "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": Card("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError": Card(
        "processing_error", "processing_error", "An error occurred while processing your card. Try again in a little bit."
    ),
    "pm_card_authenticationRequired": Card(consent=True),
    "pm_card_threeDSecure2Required": Card(consent=True),
    # Not Stripe's: what a network does to an answer.
    "pm_card_sandbox_answerLost": Card(answer_lost=True),
    "pm_card_sandbox_slow": Card(slow=True),
}


class Clock(NamedTuple):
    """What an operation may not find out by itself: the time (s since 1970) and fresh random letters for ids."""

    now_s: int
    letters: Callable[[], str]


# --- bodies -------------------------------------------------------------------------------------------------------


def parse_form(body: str) -> Object:
    """Return a form's fields; "metadata[hold]=x" and "expand[]=y" are nested as Stripe reads them.

    Raises:
        ApiError: Too many fields, or a name that cannot be read.
    """
    found: Object = {}
    try:
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=bool(body), max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise invalid(f"The body is no form: {error}") from error
    for name, value in pairs:
        head, *path = name.replace("]", "").split("[")
        if not head or name.count("[") != name.count("]") or len(path) > 3:
            raise invalid(f"Invalid field name: {name[:60]}", param=name[:60])
        _nest(found, head, path, value)
    return found


def _nest(into: Object, head: str, path: list[str], value: str) -> None:
    if not path:
        into[head] = value
        return
    inner = into.setdefault(head, {})
    if not isinstance(inner, dict):
        raise invalid(f"{head} is both a value and a table", param=head)
    key = path[0] or str(len(inner))
    _nest(inner, key, path[1:], value)


def _known(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in fields:
        if name not in (*known, "expand"):
            raise invalid(f"Received unknown parameter: {name[:60]}", param=name[:60], code="parameter_unknown")


def _amount(fields: Mapping[str, Any], name: str, most: int = AMOUNT_MAX) -> int:
    word = fields.get(name)
    if word is None:
        raise invalid(f"Missing required param: {name}.", param=name, code="parameter_missing")
    if not isinstance(word, str) or not word.isascii() or not word.isdigit() or len(word) > 12:
        raise invalid(f"Invalid integer: {str(word)[:40]}", param=name, code="parameter_invalid_integer")
    if int(word) < 1:
        raise invalid("This value must be greater than or equal to 1.", param=name, code="parameter_invalid_integer")
    if int(word) > most:
        raise invalid(f"{name} must be no more than {most}.", param=name, code="amount_too_large")
    return int(word)


def _metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    found = fields.get("metadata") or {}
    if not isinstance(found, dict) or len(found) > METADATA_MAX or not all(isinstance(value, str) for value in found.values()):
        raise invalid("Invalid metadata: a table of texts is needed", param="metadata")
    return dict(found)


# --- payment intents ----------------------------------------------------------------------------------------------


def create(fields: Mapping[str, Any], clock: Clock) -> Object:
    """Return a new intent: it moves nothing."""
    _known(fields, ("amount", "currency", "capture_method", "metadata", "description", "payment_method_types"))
    amount = _amount(fields, "amount")
    currency = fields.get("currency")
    if not isinstance(currency, str) or len(currency) != CURRENCY_LETTERS or not currency.isascii() or not currency.isalpha():
        raise invalid(f"Invalid currency: {str(currency)[:10]}", param="currency")
    method = fields.get("capture_method", "automatic")
    if method not in ("manual", "automatic"):
        raise invalid(f"Invalid capture_method: must be one of manual or automatic, not {str(method)[:30]}", param="capture_method")
    intent_id = f"pi_{clock.letters()}"
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": method,
        "client_secret": f"{intent_id}_secret_{clock.letters()}",
        "created": clock.now_s,
        "currency": currency.lower(),
        "description": fields.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": _metadata(fields),
        "next_action": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }


def confirm(intent: Object, fields: Mapping[str, Any], clock: Clock, consent_url: str) -> dict[str, Object]:
    """Return what changes when an intent is confirmed with a card.

    Args:
        consent_url: Where the holder of the card consents, if the card wants that.
    """
    _known(fields, ("payment_method", "return_url"))
    if intent["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise _unexpected(intent, "confirm", "requires_payment_method, requires_confirmation, requires_action")
    word = fields.get("payment_method") or intent["payment_method"]
    if not word:
        raise invalid("You cannot confirm this PaymentIntent because it's missing a payment method.", param="payment_method")
    card = CARDS.get(str(word))
    if card is None:
        raise invalid(f"No such PaymentMethod: '{str(word)[:60]}'", param="payment_method", code="resource_missing")
    changed = {**intent, "payment_method": word, "next_action": None, "last_payment_error": None}
    if card.code:
        raise _declined(changed, card, clock)
    if card.consent:
        changed["status"] = "requires_action"
        changed["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"url": consent_url, "return_url": None}}
        return {changed["id"]: changed}
    return _authorised(changed, clock)


def _declined(intent: Object, card: Card, clock: Clock) -> ApiError:
    charge = _charge(intent, clock, paid=False)
    what = {"code": card.code, "decline_code": card.decline_code, "charge": charge["id"]}
    intent |= {"status": "requires_payment_method", "payment_method": None, "latest_charge": charge["id"]}
    intent["last_payment_error"] = {"type": "card_error", "message": card.message, **what}
    changed = {intent["id"]: intent, charge["id"]: charge}
    return ApiError(402, "card_error", card.message, changed=changed, payment_intent=intent, **what)


def _authorised(intent: Object, clock: Clock) -> dict[str, Object]:
    charge = _charge(intent, clock, paid=True)
    intent = {**intent, "latest_charge": charge["id"], "next_action": None}
    if intent["capture_method"] == "manual":
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        return {intent["id"]: intent, charge["id"]: charge}
    return _captured(intent, charge, intent["amount"])


def _charge(intent: Object, clock: Clock, *, paid: bool) -> Object:
    return {
        "id": f"ch_{clock.letters()}",
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "captured": False,
        "created": clock.now_s,
        "currency": intent["currency"],
        "livemode": False,
        "paid": paid,
        "payment_intent": intent["id"],
        "refunded": False,
        "status": "succeeded" if paid else "failed",
    }


def consent(intent: Object, given: bool, clock: Clock) -> dict[str, Object]:
    """Return what changes when the holder of the card has consented, or has not."""
    if intent["status"] != "requires_action":
        raise _unexpected(intent, "complete", "requires_action")
    if given:
        return _authorised(intent, clock)
    message = "We are unable to authenticate your payment method. Please choose a different payment method and try again."
    problem = {"type": "invalid_request_error", "code": "payment_intent_authentication_failure", "message": message}
    changed = {
        **intent,
        "status": "requires_payment_method",
        "next_action": None,
        "payment_method": None,
        "last_payment_error": problem,
    }
    return {changed["id"]: changed}


def capture(intent: Object, charge: Object | None, fields: Mapping[str, Any]) -> dict[str, Object]:
    """Return what changes when authorised money is taken; what is not captured is given up."""
    _known(fields, ("amount_to_capture",))
    if intent["status"] != "requires_capture" or charge is None:
        raise _unexpected(intent, "capture", "requires_capture")
    amount = _amount(fields, "amount_to_capture", intent["amount"]) if "amount_to_capture" in fields else intent["amount"]
    return _captured(intent, charge, amount)


def _captured(intent: Object, charge: Object, amount: int) -> dict[str, Object]:
    intent = {**intent, "status": "succeeded", "amount_capturable": 0, "amount_received": amount}
    charge = {**charge, "captured": True, "amount_captured": amount}
    return {intent["id"]: intent, charge["id"]: charge}


def cancel(intent: Object, fields: Mapping[str, Any], clock: Clock) -> dict[str, Object]:
    """Return what changes when an intent ends without money: an authorisation is given up."""
    _known(fields, ("cancellation_reason",))
    if intent["status"] not in OPEN:
        raise _unexpected(intent, "cancel", ", ".join(OPEN))
    reason = fields.get("cancellation_reason")
    if reason not in (None, "duplicate", "fraudulent", "requested_by_customer", "abandoned"):
        raise invalid(f"Invalid cancellation_reason: {str(reason)[:40]}", param="cancellation_reason")
    ended = {"status": "canceled", "canceled_at": clock.now_s, "cancellation_reason": reason, "amount_capturable": 0, "next_action": None}
    return {intent["id"]: {**intent, **ended}}


def _unexpected(intent: Object, what: str, wanted: str) -> ApiError:
    message = f"You cannot {what} this PaymentIntent because it has a status of {intent['status']}. It needs one of: {wanted}."
    return ApiError(
        400, "invalid_request_error", message, code="payment_intent_unexpected_state", payment_intent=intent
    )


# --- refunds ------------------------------------------------------------------------------------------------------


def refund(intent: Object, charge: Object | None, fields: Mapping[str, Any], clock: Clock) -> dict[str, Object]:
    """Return what changes when captured money goes back, whole or in part; the refund comes first."""
    _known(fields, ("payment_intent", "amount", "metadata", "reason"))
    if charge is None or not charge["captured"]:
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise invalid(message, param="payment_intent")
    left = charge["amount_captured"] - charge["amount_refunded"]
    if not left:
        raise ApiError(400, "invalid_request_error", f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = _amount(fields, "amount") if "amount" in fields else left
    if amount > left:
        raise ApiError(400, "invalid_request_error", f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})")
    made: Object = {
        "id": f"re_{clock.letters()}",
        "object": "refund",
        "amount": amount,
        "charge": charge["id"],
        "created": clock.now_s,
        "currency": intent["currency"],
        "metadata": _metadata(fields),
        "payment_intent": intent["id"],
        "reason": fields.get("reason"),
        "status": "succeeded",
    }
    charge = {**charge, "amount_refunded": charge["amount_refunded"] + amount, "refunded": amount == left}
    return {made["id"]: made, charge["id"]: charge}
