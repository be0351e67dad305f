"""The payment provider as a port, and its one adapter: the official `stripe` library, for Stripe and for the sandbox alike.

Money is whole minor units. Every write carries an idempotency key that follows from what is done, so that whoever does it again,
at whichever balancer, does it once; the library itself retries nothing. What happened is told by the intent's id alone (Z15):
after `OutcomeUnknown`, `retrieve` tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from datastore.errors import (
    ConfigInvalid,
    IdempotencyKeyReused,
    InvalidRequest,
    OutcomeUnknown,
    PaymentDeclined,
    PaymentsUnavailable,
    shown,
)
from loadbalancer.payments_config import SANDBOX, PaymentsConfig

CONNECT_S_MAX = 2.0
PAGE = 100
POOL = 32

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Intent(NamedTuple):
    """A payment as the provider has it; `status` in Stripe's words (docs/glossary.md).

    Attributes:
        action: Where the card's holder consents, in "requires_action".
        decline: (code, sentence) of the last refusal, ("", "") for none.
        received_minor, refunded_minor: What was captured, and what of it went back.
    """

    id: str
    status: str
    amount_minor: int
    currency: str
    received_minor: int = 0
    refunded_minor: int = 0
    action: str = ""
    decline: tuple[str, str] = ("", "")
    metadata: Mapping[str, str] = {}


class PaymentProvider(Protocol):
    """Who moves money.

    `key`: an idempotency key; "" for what can be done only once anyway. Every method raises:
        PaymentDeclined: The card was refused; `decline_code` says why.
        OutcomeUnknown: Sent, and no usable reply: ask by the id.
        PaymentsUnavailable: The provider refuses us; nothing happened.
        InvalidRequest: It refuses what was sent, e.g. an unknown card; nothing happened.
    """

    def create(self, amount_minor: int, currency: str, key: str, metadata: Mapping[str, str]) -> Intent:
        """Make an intent: nothing moves."""
        ...

    def authorise(self, intent: str, method: str, key: str) -> Intent:
        """Confirm an intent with a card: the amount is set aside, not taken."""
        ...

    def retrieve(self, intent: str) -> Intent:
        """Return an intent as it is."""
        ...

    def capture(self, intent: str, amount_minor: int, key: str) -> Intent:
        """Take what was set aside."""
        ...

    def cancel(self, intent: str, key: str) -> Intent:
        """End an intent that took nothing."""
        ...

    def refund(self, intent: str, amount_minor: int, key: str) -> Intent:
        """Give back some of what was taken."""
        ...

    def page(self, after: str) -> tuple[list[Intent], str]:
        """Return intents, the newest first, beginning behind `after`, and where the next page begins ("" at the end)."""
        ...


class StripeAdapter:
    """The port on the `stripe` library. Any number of threads may ask."""

    def __init__(self, api_key: str, *, timeout_ms: int, base: str = "", cluster: str = "holdfast") -> None:
        """Begin; nothing is sent.

        Args:
            base: Where the API is, e.g. "http://127.0.0.1:7501"; "" is Stripe itself.
            cluster: Stands in the metadata of every intent; `page` gives only those of this cluster.
        """
        import requests
        import stripe

        self._stripe = stripe
        self._cluster = cluster
        stripe.enable_telemetry = False
        session = requests.Session()
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=POOL))
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=POOL))
        # A sandbox is asked directly: neither a proxy of the environment nor a .netrc has a say in it.
        session.trust_env = not base
        timeout_s = timeout_ms / 1000
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": base} if base else None,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=(min(CONNECT_S_MAX, timeout_s), timeout_s), session=session),
        )

    def create(self, amount_minor: int, currency: str, key: str, metadata: Mapping[str, str]) -> Intent:
        """See `PaymentProvider`."""
        params = {
            "amount": amount_minor,
            "currency": currency.lower(),
            "capture_method": "manual",
            "payment_method_types": ["card"],
            "metadata": {**metadata, "cluster": self._cluster},
        }
        return self._intent(lambda: self._client.v1.payment_intents.create(params, _options(key)))

    def authorise(self, intent: str, method: str, key: str) -> Intent:
        """See `PaymentProvider`. One that is further on already is returned as it is."""
        params = {"payment_method": method}
        return self._further(intent, lambda: self._client.v1.payment_intents.confirm(intent, params, _options(key)))

    def retrieve(self, intent: str) -> Intent:
        """See `PaymentProvider`."""
        return self._intent(lambda: self._client.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]}))

    def capture(self, intent: str, amount_minor: int, key: str) -> Intent:
        """See `PaymentProvider`. One that cannot be captured is returned as it is."""
        params = {"amount_to_capture": amount_minor}
        return self._further(intent, lambda: self._client.v1.payment_intents.capture(intent, params, _options(key)))

    def cancel(self, intent: str, key: str) -> Intent:
        """See `PaymentProvider`. One that cannot be cancelled is returned as it is."""
        return self._further(intent, lambda: self._client.v1.payment_intents.cancel(intent, {}, _options(key)))

    def refund(self, intent: str, amount_minor: int, key: str) -> Intent:
        """See `PaymentProvider`."""
        params = {"payment_intent": intent, "amount": amount_minor}
        try:
            self._ask(lambda: self._client.v1.refunds.create(params, _options(key)))
        except _AlreadyThere:
            log.info("already refunded intent=%s", intent)
        return self.retrieve(intent)

    def page(self, after: str) -> tuple[list[Intent], str]:
        """See `PaymentProvider`."""
        params: dict[str, Any] = {"limit": PAGE, "expand": ["data.latest_charge"]}
        if after:
            params["starting_after"] = after
        found = self._ask(lambda: self._client.v1.payment_intents.list(params))
        intents = [intent_of(one) for one in found.data]
        ours = [one for one in intents if one.metadata.get("cluster") == self._cluster]
        return ours, intents[-1].id if found.has_more and intents else ""

    def _intent(self, ask: Callable[[], Any]) -> Intent:
        return intent_of(self._ask(ask))

    def _further(self, intent: str, ask: Callable[[], Any]) -> Intent:
        try:
            return self._intent(ask)
        except _AlreadyThere:
            return self.retrieve(intent)

    def _ask(self, ask: Callable[[], Result]) -> Result:
        """Ask, and word what goes wrong in our own errors, with the provider's as the cause."""
        stripe = self._stripe
        try:
            return ask()
        except stripe.CardError as error:
            raise _declined(error) from error
        except stripe.IdempotencyError as error:
            if error.http_status == HTTPStatus.CONFLICT:
                raise OutcomeUnknown("the payment provider is still at work on this") from error
            raise IdempotencyKeyReused(f"the payment provider: {error.user_message}") from error
        except stripe.InvalidRequestError as error:
            if error.code in ("payment_intent_unexpected_state", "charge_already_refunded"):
                raise _AlreadyThere(error.user_message or "") from error
            field = "payment_method" if error.param == "payment_method" else "payment"
            raise InvalidRequest(f"the payment provider: {shown(error.user_message, 200)}", field=field) from error
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            raise PaymentsUnavailable("the payment provider refuses this cluster's key") from error
        except stripe.RateLimitError as error:
            raise PaymentsUnavailable("the payment provider asks to wait") from error
        except stripe.StripeError as error:
            # No connection, no reply in time, or an error on its side: it may have happened.
            raise OutcomeUnknown(f"the payment provider does not answer: {shown(error.user_message, 120)}") from error


class _AlreadyThere(Exception):
    """The intent has moved on: ask how it is."""


def _options(key: str) -> dict[str, Any]:
    return {"max_network_retries": 0, **({"idempotency_key": key} if key else {})}


def _declined(error: Any) -> PaymentDeclined:
    body = getattr(error.error, "decline_code", None) if error.error is not None else None
    code = body or error.code or "generic_decline"
    return PaymentDeclined(str(error.user_message or "the card was declined"), decline_code=str(code), provider_code=str(error.code or ""))


def intent_of(found: Any) -> Intent:
    """Return a PaymentIntent of the library as ours; the refunded amount is known where its charge came along."""
    whole: dict[str, Any] = found.to_dict()
    charge = whole.get("latest_charge")
    problem = whole.get("last_payment_error") or {}
    action = whole.get("next_action") or {}
    redirect = action.get("redirect_to_url") or {}
    return Intent(
        id=whole["id"],
        status=whole["status"],
        amount_minor=int(whole["amount"]),
        currency=str(whole["currency"]).upper(),
        received_minor=int(whole.get("amount_received") or 0),
        refunded_minor=int(charge["amount_refunded"]) if isinstance(charge, dict) else 0,
        action=str(redirect.get("url") or action.get("type") or ""),
        decline=(str(problem.get("decline_code") or problem.get("code") or ""), str(problem.get("message") or "")),
        metadata=whole.get("metadata") or {},
    )


def provider_of(config: PaymentsConfig, sandbox_key: Path) -> PaymentProvider | None:
    """Return the configured provider, or None where no payments are taken.

    Args:
        sandbox_key: The file with the sandbox's key.
    Raises:
        ConfigInvalid: The file with the key cannot be used.
    """
    if not config.wanted:
        return None
    path = sandbox_key if config.provider == SANDBOX else Path(config.key_file)
    api_key = read_key(path)
    base = ""
    if config.provider == SANDBOX:
        one = config.sandboxes[0]
        base = f"http://{one.host}:{one.port}"
    return StripeAdapter(api_key, timeout_ms=config.timeout_ms, base=base, cluster=config.cluster)


def read_key(path: Path) -> str:
    """Return the key in a file that only its owner may read.

    Raises:
        ConfigInvalid: It is missing, open to others, or empty.
    """
    try:
        mode = path.stat().st_mode
        word = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path}: cannot be read as a key: {error}", file=str(path)) from error
    if mode & 0o077:
        raise ConfigInvalid(f"{path}: others may read it (mode {mode & 0o777:03o}); chmod 600 it", file=str(path))
    if not word:
        raise ConfigInvalid(f"{path}: is empty", file=str(path))
    return word
