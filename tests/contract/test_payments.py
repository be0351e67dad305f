"""What the provider of payments must do: against the sandbox, and against Stripe's test mode where STRIPE_TEST_KEY gives a key.

The same adapter asks both (`loadbalancer.payments`), so what passes here against the sandbox is what Stripe is relied on for.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from datastore.errors import IdempotencyKeyReused, InvalidRequest, OutcomeUnknown, PaymentDeclined, PaymentsUnavailable
from loadbalancer.payments import StripeAdapter
from loadbalancer.sandbox import Sandbox

KEY = "sk_test_of_the_contract_suite"
TIMEOUT_MS = 10_000
STRIPE_KEY = os.environ.get("STRIPE_TEST_KEY", "")


def key() -> str:
    return secrets.token_urlsafe(16)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox("payments-1", "127.0.0.1", 0, file=tmp_path / "payments.db", api_key=KEY)
    made.start()
    yield made
    made.close()


def base(sandbox: Sandbox) -> str:
    host, port = sandbox.address
    return f"http://{host}:{port}"


@pytest.fixture(params=["sandbox", "stripe"])
def provider(request: pytest.FixtureRequest) -> StripeAdapter:
    """The adapter on one of the providers."""
    if request.param == "sandbox":
        return StripeAdapter(KEY, timeout_ms=TIMEOUT_MS, base=base(request.getfixturevalue("sandbox")))
    if not STRIPE_KEY.startswith("sk_test_"):
        pytest.skip("STRIPE_TEST_KEY gives no key of Stripe's test mode (sk_test_...)")
    return StripeAdapter(STRIPE_KEY, timeout_ms=30_000, cluster=f"contract-{secrets.token_hex(4)}")


def test_authorise_and_capture(provider: StripeAdapter) -> None:
    """An intent moves nothing; confirming sets the amount aside; capturing takes it; all by its id."""
    made = provider.create(12_345, "USD", key(), {"hold": "AR.aaa"})
    assert (made.status, made.received_minor, made.amount_minor, made.currency) == ("requires_payment_method", 0, 12_345, "USD")
    assert made.metadata["hold"] == "AR.aaa"
    held = provider.authorise(made.id, "pm_card_visa", key())
    assert (held.status, held.received_minor) == ("requires_capture", 0)
    taken = provider.capture(made.id, 12_345, key())
    assert (taken.status, taken.received_minor) == ("succeeded", 12_345)
    assert provider.retrieve(made.id).received_minor == 12_345


def test_the_same_key_does_it_once(provider: StripeAdapter) -> None:
    """A repeat under the same key gives the first answer; the same key with other parameters is refused."""
    create, confirm = key(), key()
    first = provider.create(5_000, "USD", create, {})
    assert provider.create(5_000, "USD", create, {}).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        provider.create(6_000, "USD", create, {})
    assert provider.authorise(first.id, "pm_card_visa", confirm).status == "requires_capture"
    assert provider.authorise(first.id, "pm_card_visa", confirm).status == "requires_capture"


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ],
)
def test_a_declined_card_can_be_followed_by_another(provider: StripeAdapter, card: str, decline_code: str) -> None:
    """A declined card says why, a repeat says it again, and the intent takes another card."""
    made, confirm = provider.create(7_000, "USD", key(), {}), key()
    for _ in range(2):
        with pytest.raises(PaymentDeclined) as declined:
            provider.authorise(made.id, card, confirm)
        assert decline_code == declined.value.fields["decline_code"]
    assert provider.retrieve(made.id).status == "requires_payment_method"
    assert provider.retrieve(made.id).decline[0] == decline_code
    assert provider.authorise(made.id, "pm_card_visa", key()).status == "requires_capture"


def test_a_card_that_wants_consent(provider: StripeAdapter) -> None:
    """A card whose bank asks its holder leaves the intent waiting, with where to go."""
    made = provider.create(7_000, "USD", key(), {})
    waiting = provider.authorise(made.id, "pm_card_authenticationRequired", key())
    assert waiting.status == "requires_action"
    assert waiting.action


def test_a_cancelled_intent_takes_nothing_ever(provider: StripeAdapter) -> None:
    """After a cancel, before or after the card, no confirm and no capture moves money; saying it again changes nothing."""
    for authorised in (False, True):
        made = provider.create(4_000, "USD", key(), {})
        if authorised:
            provider.authorise(made.id, "pm_card_visa", key())
        assert provider.cancel(made.id, key()).status == "canceled"
        assert provider.cancel(made.id, key()).status == "canceled"
        assert provider.authorise(made.id, "pm_card_visa", key()).status == "canceled"
        after = provider.capture(made.id, 4_000, key())
        assert (after.status, after.received_minor) == ("canceled", 0)


def test_refunds(provider: StripeAdapter) -> None:
    """Captured money goes back in part, then wholly, never beyond; what is refunded shows at the intent."""
    made = provider.create(9_000, "USD", key(), {})
    provider.authorise(made.id, "pm_card_visa", key())
    with pytest.raises(InvalidRequest):
        provider.refund(made.id, 1_000, key())
    provider.capture(made.id, 9_000, key())
    again = key()
    assert provider.refund(made.id, 2_500, again).refunded_minor == 2_500
    assert provider.refund(made.id, 2_500, again).refunded_minor == 2_500
    with pytest.raises(InvalidRequest):
        provider.refund(made.id, 6_501, key())
    assert provider.refund(made.id, 6_500, key()).refunded_minor == 9_000
    assert provider.refund(made.id, 1, key()).refunded_minor == 9_000


def test_what_cannot_be_is_refused_by_name(provider: StripeAdapter) -> None:
    """Unknown cards and intents are refused and change nothing."""
    made = provider.create(1_000, "USD", key(), {})
    with pytest.raises(InvalidRequest, match="pm_card_nobody") as refused:
        provider.authorise(made.id, "pm_card_nobody", key())
    assert refused.value.fields["field"] == "payment_method"
    with pytest.raises(InvalidRequest):
        provider.retrieve("pi_doesnotexist000000000")
    assert provider.retrieve(made.id).status == "requires_payment_method"


def test_pages(provider: StripeAdapter) -> None:
    """All intents of this cluster come in pages, the newest first, with what was captured and refunded."""
    made = [provider.create(1_000 + number, "USD", key(), {}).id for number in range(3)]
    provider.authorise(made[0], "pm_card_visa", key())
    provider.capture(made[0], 1_000, key())
    provider.refund(made[0], 400, key())
    found, after = provider.page("")
    while after:
        more, after = provider.page(after)
        found += more
    ours = [one for one in found if one.id in made]
    assert [one.id for one in ours] == made[::-1]
    assert (ours[-1].received_minor, ours[-1].refunded_minor) == (1_000, 400)


def test_a_wrong_key_is_refused(sandbox: Sandbox) -> None:
    """Who does not show the key gets nothing."""
    with pytest.raises(PaymentsUnavailable):
        StripeAdapter("sk_test_of_somebody_else", timeout_ms=TIMEOUT_MS, base=base(sandbox)).create(1_000, "USD", key(), {})


# --- what only the sandbox can be made to do ----------------------------------------------------------------------


def ask(
    sandbox: Sandbox, method: str, path: str, fields: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(*sandbox.address, timeout=10)
    try:
        own = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        connection.request(method, path, urlencode(fields or {}), own)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.headers["Content-Type"] == "application/json" else {"html": content.decode()}
    finally:
        connection.close()


@pytest.fixture
def on_sandbox(sandbox: Sandbox) -> StripeAdapter:
    return StripeAdapter(KEY, timeout_ms=1_000, base=base(sandbox))


def test_an_answer_lost_after_success(sandbox: Sandbox, on_sandbox: StripeAdapter) -> None:
    """The money is set aside and nobody says so: it is unknown; the id tells, and a repeat under the same key too."""
    made, confirm = on_sandbox.create(1_000, "USD", key(), {}), key()
    with pytest.raises(OutcomeUnknown):
        on_sandbox.authorise(made.id, "pm_card_sandbox_answerLost", confirm)
    assert on_sandbox.retrieve(made.id).status == "requires_capture"
    assert on_sandbox.authorise(made.id, "pm_card_sandbox_answerLost", confirm).status == "requires_capture"
    ask(sandbox, "POST", "/v1/sandbox/faults", {"on": "capture", "kind": "lost"})
    with pytest.raises(OutcomeUnknown):
        on_sandbox.capture(made.id, 1_000, confirm + "c")
    assert on_sandbox.capture(made.id, 1_000, confirm + "c").received_minor == 1_000


def test_slow_and_still_at_it(sandbox: Sandbox, on_sandbox: StripeAdapter) -> None:
    """Past the time-out it is unknown; a repeat while the first is at it is told so, not done twice; then it is done."""
    made, confirm = on_sandbox.create(1_000, "USD", key(), {}), key()
    with pytest.raises(OutcomeUnknown):
        on_sandbox.authorise(made.id, "pm_card_sandbox_slow", confirm)
    with pytest.raises(OutcomeUnknown):
        on_sandbox.authorise(made.id, "pm_card_sandbox_slow", confirm)
    done = threading.Event()
    for _ in range(100):
        if on_sandbox.retrieve(made.id).status == "requires_capture":
            break
        done.wait(0.1)
    assert on_sandbox.retrieve(made.id).status == "requires_capture"


def test_down_and_back(sandbox: Sandbox, on_sandbox: StripeAdapter, tmp_path: Path) -> None:
    """Down, nothing is done and it is unknown; errors of its own are unknown too; what it answered outlives it."""
    ask(sandbox, "POST", "/v1/sandbox/faults", {"on": "any", "kind": "down", "count": "2"})
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            on_sandbox.create(1_000, "USD", key(), {})
    ask(sandbox, "POST", "/v1/sandbox/faults", {"on": "create", "kind": "error"})
    with pytest.raises(OutcomeUnknown):
        on_sandbox.create(1_000, "USD", key(), {})
    once = key()
    made = on_sandbox.create(1_000, "USD", once, {})
    sandbox.close()
    with pytest.raises(OutcomeUnknown):
        on_sandbox.retrieve(made.id)
    again = Sandbox("payments-1", "127.0.0.1", 0, file=tmp_path / "payments.db", api_key=KEY)
    again.start()
    try:
        back = StripeAdapter(KEY, timeout_ms=1_000, base=base(again))
        assert back.create(1_000, "USD", once, {}).id == made.id
        assert [one.id for one in back.page("")[0]] == [made.id]
    finally:
        again._server.server_close()


def test_consent_on_its_page(sandbox: Sandbox, on_sandbox: StripeAdapter) -> None:
    """The page takes the holder's word, once, from whoever has the payment's secret."""
    for outcome, status in (("succeed", "requires_capture"), ("fail", "requires_payment_method")):
        made = on_sandbox.create(1_000, "USD", key(), {})
        url = urlsplit(on_sandbox.authorise(made.id, "pm_card_authenticationRequired", key()).action)
        where = f"{url.path}?{url.query}"
        assert ask(sandbox, "POST", url.path + "?secret=wrong", {"outcome": outcome})[0] == 404
        assert "<form" in ask(sandbox, "GET", where)[1]["html"]
        assert ask(sandbox, "POST", where, {"outcome": outcome})[0] == 200
        assert on_sandbox.retrieve(made.id).status == status
        assert ask(sandbox, "POST", where, {"outcome": outcome})[0] == 400


def test_bad_input_is_refused_in_the_form_of_the_api(sandbox: Sandbox) -> None:
    """Every refusal is JSON with a type and a message that names the thing; mistakes of form use up no idempotency key."""
    wrong: list[tuple[str, str, dict[str, str], int, str]] = [
        ("POST", "/v1/payment_intents", {"amount": "0", "currency": "usd"}, 400, "greater than"),
        ("POST", "/v1/payment_intents", {"amount": "1e3", "currency": "usd"}, 400, "Invalid integer"),
        ("POST", "/v1/payment_intents", {"amount": "5", "currency": "dollars"}, 400, "currency"),
        ("POST", "/v1/payment_intents", {"amount": "5", "currency": "usd", "amuont": "5"}, 400, "amuont"),
        ("POST", "/v1/payment_intents/pi_none/capture", {}, 404, "pi_none"),
        ("GET", "/v1/payment_intents?limit=1000", {}, 400, "limit"),
        ("GET", "/v1/nothing", {}, 404, "/v1/nothing"),
        ("POST", "/v1/sandbox/faults", {"kind": "explode"}, 400, "kind"),
    ]
    for method, path, fields, status, words in wrong:
        found, body = ask(sandbox, method, path, fields, {"Idempotency-Key": "one-key"} if method == "POST" else {})
        assert (status, True) == (found, words in body["error"]["message"]), (path, body)
    assert ask(sandbox, "POST", "/v1/payment_intents", {"amount": "5", "currency": "usd"}, {"Idempotency-Key": "one-key"})[0] == 200


def test_an_answer_does_not_wait_for_acknowledgements(sandbox: Sandbox, on_sandbox: StripeAdapter) -> None:
    """Small questions on one connection are answered at once: with Nagle's algorithm each would wait some 40 ms."""
    import time

    made = on_sandbox.create(1_000, "USD", key(), {})
    spent = []
    for _ in range(20):
        started = time.monotonic()
        on_sandbox.retrieve(made.id)
        spent.append(time.monotonic() - started)
    assert sorted(spent)[5] < 0.03, spent
