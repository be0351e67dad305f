"""Paid bookings through a whole balancer: the tiers below in this process, the provider a sandbox behind HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore import errors, messages, wire
from datastore.model import HoldState, Passenger, PaymentState
from loadbalancer.cashier import Cashier
from loadbalancer.payments import Intent, StripeAdapter
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.sandbox import Sandbox
from tests.unit.loadbalancer.scenery import ADMIN_KEY, DAY, OWNER, Scene, scene
from tests.unit.loadbalancer.test_itineraries import before_look_at_legs
from tests.waiting import wait_until

KEY = "sk_test_of_the_paying_suite"
ADA = [Passenger("Byron", "Ada")]
LEGS = [f"{code}1140-EZE-{DAY}" for code in ("AR", "QR")]


class Till:
    """A balancer that takes payments, its sandbox, and the provider's view of what happened."""

    def __init__(self, made: Scene, sandbox: Sandbox, provider: StripeAdapter) -> None:
        self.scene = made
        self.sandbox = sandbox
        self.provider = provider

    def confirm(self, hold_id: str, card: str = "pm_card_visa", request_id: str = "", deadline_ms: int = 10_000) -> messages.OrderAnswer:
        request = messages.ConfirmHold(
            request_id=request_id or self.scene.request_id(),
            owner_key=OWNER,
            hold_id=hold_id,
            passengers=ADA,
            payment_method=card,
            deadline_ms=deadline_ms,
        )
        answer = self.scene.ask("confirm", request)
        assert isinstance(answer, messages.OrderAnswer)
        return answer

    def trip(self) -> messages.HoldAnswer:
        legs = [messages.LegWish(service_id=service_id, count=1) for service_id in LEGS]
        answer = self.scene.ask("hold_trip", messages.HoldTrip(request_id=self.scene.request_id(), owner_key=OWNER, legs=legs))
        assert isinstance(answer, messages.HoldAnswer)
        return answer

    def transaction(self, hold_id: str) -> messages.TransactionAnswer:
        answer = self.scene.ask("transaction", messages.GetTransaction(owner_key=OWNER, hold_id=hold_id))
        assert isinstance(answer, messages.TransactionAnswer)
        return answer

    def wait_state(self, hold_id: str, state: str) -> messages.TransactionAnswer:
        wait_until(lambda: self.transaction(hold_id).state == state, f"the payment of {hold_id} to be {state}", 15)
        return self.transaction(hold_id)

    def hold(self, hold_id: str) -> messages.HoldAnswer:
        answer = self.scene.ask("get_hold", messages.GetHold(owner_key=OWNER, hold_id=hold_id))
        assert isinstance(answer, messages.HoldAnswer)
        return answer

    def books(self) -> messages.AccountsAnswer:
        answer = self.scene.ask("accounts", messages.Accounts(admin_key=ADMIN_KEY))
        assert isinstance(answer, messages.AccountsAnswer)
        return answer

    def intents(self) -> list[Intent]:
        return self.provider.page("")[0]

    def fault(self, on: str, kind: str, count: int = 1) -> None:
        self.sandbox.faults.plan({"on": on, "kind": kind, "count": str(count)})


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    sandbox = Sandbox("payments-1", "127.0.0.1", 0, file=tmp_path / "payments.db", api_key=KEY)
    sandbox.start()
    host, port = sandbox.address
    provider = StripeAdapter(KEY, timeout_ms=1_500, base=f"http://{host}:{port}")
    with scene(("AR", "QR"), payments=PaymentsConfig("sandbox", paying_ms=1_000), provider=provider, hold_ttl_ms=60_000) as made:
        yield Till(made, sandbox, provider)
    sandbox.close()


def sweep(made: Scene) -> None:
    """What a node does every second."""
    for operator in made.managers.operators:
        made.server.balancer.decide(operator, wire.Sweep("", b""), time.monotonic_ns() // 1_000_000 + 5_000)


def test_paid_and_captured(till: Till) -> None:
    """The sale is answered once it is decided; the money follows, exactly the price; the books balance."""
    held = till.scene.hold("3A")
    order = till.confirm(held.hold_id)
    paid = till.wait_state(held.hold_id, "succeeded")
    assert (paid.reference, paid.captured, paid.provider_state) == (order.reference, held.total, "succeeded")
    (intent,) = till.intents()
    assert (intent.received_minor, intent.metadata["hold"]) == (held.total.minor, held.hold_id)
    books = till.books()
    assert (books.findings, books.cases) == ([], [])
    assert [(line.operator, line.booked, line.captured, line.share) for line in books.lines] == [("AR", *[held.total.minor] * 3)]


def test_a_trip_is_paid_once_at_its_anchor(till: Till) -> None:
    """One payment for all legs; every operator's share adds up to it."""
    held = till.trip()
    till.confirm(held.hold_id)
    till.wait_state(held.hold_id, "succeeded")
    books = till.books()
    assert books.findings == []
    assert sum(line.captured for line in books.lines) == held.total.minor == sum(line.share for line in books.lines)
    assert {line.operator: line.share for line in books.lines} == {leg.operator: leg.total.minor for leg in held.legs}


def test_the_same_request_again_pays_once(till: Till) -> None:
    """A repeat, with a payment or of a lost answer, gives the first order and moves nothing more."""
    held, request_id = till.scene.hold("3A"), till.scene.request_id()
    first = till.confirm(held.hold_id, request_id=request_id)
    again = till.confirm(held.hold_id, request_id=request_id)
    assert (again.reference, again.manage_token) == (first.reference, first.manage_token)
    with pytest.raises(errors.AlreadyConfirmed):
        till.confirm(held.hold_id)
    till.wait_state(held.hold_id, "succeeded")
    assert len(till.intents()) == 1


def test_a_declined_card_leaves_the_hold(till: Till) -> None:
    """Not paid, not booked, said why; the hold lives to its deadline and another card pays for it."""
    held = till.scene.hold("3A")
    with pytest.raises(errors.PaymentDeclined) as declined:
        till.confirm(held.hold_id, "pm_card_visa_chargeDeclinedInsufficientFunds")
    assert declined.value.fields["decline_code"] == "insufficient_funds"
    assert (till.hold(held.hold_id).state, till.transaction(held.hold_id).state) == ("paying", "processing")
    till.confirm(held.hold_id)
    assert till.wait_state(held.hold_id, "succeeded").captured == held.total


@pytest.mark.parametrize(("card", "kind"), [("", errors.InvalidRequest), ("pm_card_nobody", errors.InvalidRequest)])
def test_without_a_card_nothing_is_booked(till: Till, card: str, kind: type[errors.HoldfastError]) -> None:
    """A card that is missing or unknown is refused by its field."""
    held = till.scene.hold("3A")
    with pytest.raises(kind) as refused:
        till.confirm(held.hold_id, card)
    assert refused.value.fields["field"] == "payment_method"
    assert till.hold(held.hold_id).state in ("active", "paying")


def test_consent_is_asked_for_and_then_it_goes_on(till: Till) -> None:
    """The caller is told where the holder consents; the same request then books."""
    held, request_id = till.scene.hold("3A"), till.scene.request_id()
    for _ in range(2):
        with pytest.raises(errors.PaymentActionRequired) as waiting:
            till.confirm(held.hold_id, "pm_card_authenticationRequired", request_id)
    url = waiting.value.fields["action"]
    till.sandbox.consent(url.partition("/consent/")[2].partition("?")[0], url.partition("secret=")[2], "succeed")
    till.confirm(held.hold_id, "pm_card_authenticationRequired", request_id)
    till.wait_state(held.hold_id, "succeeded")


@pytest.mark.parametrize("on", ["create", "confirm", "capture"])
@pytest.mark.parametrize("kind", ["lost", "down", "error"])
def test_whatever_the_network_does_it_is_paid_once(till: Till, on: str, kind: str) -> None:
    """Answers lost before or after the deed, and errors of the provider: charged once, booked once."""
    till.fault(on, kind, 2)
    held = till.scene.hold("3A")
    till.confirm(held.hold_id)
    assert till.wait_state(held.hold_id, "succeeded").captured == held.total
    assert [one.received_minor for one in till.intents()] == [held.total.minor]
    assert till.books().findings == []


def test_a_provider_that_stays_down_books_nothing(till: Till) -> None:
    """Nobody is told "confirmed"; the hold ends in its time, what was set aside is given up, nothing was charged."""
    held = till.scene.hold("3A", ttl_ms=2_500)
    till.fault("read", "down", 1_000)
    till.fault("confirm", "lost", 1)
    till.fault("confirm", "down", 1_000)
    with pytest.raises(errors.PaymentsUnavailable):
        till.confirm(held.hold_id, deadline_ms=1_500)
    till.sandbox.faults.plan({"kind": "none"})
    assert [one.status for one in till.intents()] == ["requires_capture"]
    wait_until(lambda: till.hold(held.hold_id).state == "expired", "the hold to end", 10)
    sweep(till.scene)
    till.wait_state(held.hold_id, "canceled")
    assert [(one.status, one.received_minor) for one in till.intents()] == [("canceled", 0)]
    assert till.books().findings == []


def test_a_silent_provider_is_not_asked_past_the_callers_time() -> None:
    """A question that cannot be answered in the caller's time is not begun: he hears that nothing is booked, not that nobody knows."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        provider = StripeAdapter(KEY, timeout_ms=3_000, base=f"http://{host}:{port}")
        with scene(("AR",), payments=PaymentsConfig("sandbox"), provider=provider, hold_ttl_ms=60_000) as made:
            held = made.hold("3A")
            with pytest.raises(errors.PaymentsUnavailable, match="nothing is booked"):
                Till(made, None, provider).confirm(held.hold_id, deadline_ms=6_000)  # type: ignore[arg-type]
        mute.setblocking(False)
        mute.accept()[0].close()
        with pytest.raises(BlockingIOError):
            mute.accept()


def late_sale(till: Till, held: messages.HoldAnswer) -> str:
    """Bring a hold to where its card is good and its time is over; return the request id of the confirm that was cut off."""
    request_id = till.scene.request_id()
    till.fault("confirm", "lost", 1)
    till.fault("confirm", "down", 1_000)
    with pytest.raises(errors.PaymentsUnavailable):
        till.confirm(held.hold_id, request_id=request_id, deadline_ms=1_500)
    till.sandbox.faults.plan({"kind": "none"})
    wait_until(lambda: till.hold(held.hold_id).state == "expired", "the hold to end", 10)
    return request_id


def test_a_late_payment_gets_the_same_seats(till: Till) -> None:
    """Q7: the card was good after the hold's time was over: the same seats are sold for it, and a repeat finds the order."""
    held = till.scene.hold("3A", ttl_ms=2_500)
    request_id = late_sale(till, held)
    order = till.confirm(held.hold_id, request_id=request_id)
    assert order.seats == ["3A"] and order.state == "confirmed"
    assert till.confirm(held.hold_id, request_id=request_id).reference == order.reference
    wait_until(lambda: [one.received_minor for one in till.intents()] == [held.total.minor], "the one capture", 15)
    wait_until(lambda: till.books().lines[0].open == 0, "the books closed", 15)
    assert till.books().findings == []


def test_a_late_payment_of_seats_that_are_gone_is_given_back(till: Till) -> None:
    """Q7: somebody else has the seats: nothing is charged, and the buyer is told so."""
    held = till.scene.hold("3A", ttl_ms=2_500)
    request_id = late_sale(till, held)
    till.scene.hold("3A", owner="owner-key-of-bob-0002")
    with pytest.raises(errors.HoldExpired, match="nothing is charged"):
        till.confirm(held.hold_id, request_id=request_id)
    till.wait_state(held.hold_id, "canceled")
    assert [(one.status, one.received_minor) for one in till.intents()] == [("canceled", 0)]
    assert till.books().findings == []


def test_a_released_hold_gives_its_payment_back(till: Till) -> None:
    """The owner gives the seats back after a decline: the intent is ended, and cannot pay afterwards."""
    held = till.scene.hold("3A")
    with pytest.raises(errors.PaymentDeclined):
        till.confirm(held.hold_id, "pm_card_visa_chargeDeclined")
    till.scene.ask("release", messages.ReleaseHold(request_id=till.scene.request_id(), owner_key=OWNER, hold_id=held.hold_id))
    till.wait_state(held.hold_id, "canceled")
    with pytest.raises(errors.HoldExpired):
        till.confirm(held.hold_id)
    assert till.hold(held.hold_id).state == "released"


def test_a_cancelled_booking_is_refunded_by_its_fare(till: Till) -> None:
    """What the fare gives back is refunded, the rest is retained, and the books say both."""
    held = till.trip()
    order = till.confirm(held.hold_id)
    cancelled = till.scene.ask(
        "cancel", messages.CancelOrder(request_id=till.scene.request_id(), reference=order.reference, token=order.manage_token)
    )
    assert isinstance(cancelled, messages.OrderAnswer) and cancelled.refund is not None
    wait_until(lambda: not any(line.open for line in till.books().lines), "the payment finished", 15)
    (intent,) = till.intents()
    assert (intent.received_minor, intent.refunded_minor) == (held.total.minor, cancelled.refund.minor)
    books = till.books()
    assert books.findings == []
    assert sum(line.retained for line in books.lines) == held.total.minor - cancelled.refund.minor


def test_what_is_given_up_in_parts_goes_back_in_parts(till: Till) -> None:
    """Each leg's refund is a refund of its own at the provider; the books balance between them and at the end."""
    held = till.trip()
    order = till.confirm(held.hold_id)
    back = 0
    for _ in held.legs:
        quote = till.scene.ask("quote_cancel", messages.QuoteCancel(reference=order.reference, token=order.manage_token, legs=[1]))
        assert isinstance(quote, messages.QuoteAnswer)
        request_id = till.scene.request_id()
        till.scene.ask(
            "cancel",
            messages.CancelOrder(request_id=request_id, reference=order.reference, token=order.manage_token, quote=quote.quote),
        )
        back += quote.refund.minor
        wait_until(lambda: till.intents()[0].refunded_minor == back, "the refund", 30)  # noqa: B023
        wait_until(lambda: not any(line.open for line in till.books().lines), "the payment finished", 30)
        assert till.books().findings == []
    assert back == sum(leg.total.minor * leg.refundable_percent // 100 for leg in held.legs)


def test_what_cannot_be_captured_becomes_a_case(till: Till) -> None:
    """Somebody ended the payment at the provider: the sale stands, and a person hears of it (Z15)."""
    till.scene.server.collector.close()
    held = till.scene.hold("3A")
    till.confirm(held.hold_id)
    (intent,) = till.intents()
    till.provider.cancel(intent.id, "")
    operator = till.scene.managers.operators["AR"]
    cashier = Cashier(till.scene.server.balancer, PaymentsConfig("sandbox"), till.provider)
    cashier.settle("AR", operator.state.payments[intent.id])
    row = operator.state.payments[intent.id]
    assert (row.state, bool(row.case)) == (PaymentState.CAPTURE, True)
    assert any(intent.id in case for case in till.books().cases)


def test_the_books_find_money_that_belongs_to_nobody(till: Till) -> None:
    """The check can fail: money taken without a booking, and a refund that no ledger asked for, are found and named."""
    held = till.scene.hold("3A")
    till.confirm(held.hold_id)
    till.wait_state(held.hold_id, "succeeded")
    (paid,) = till.intents()
    till.provider.refund(paid.id, 5, "a-hand-in-the-till")
    stray = till.provider.create(700, "USD", "a-stray-intent", {})
    till.provider.authorise(stray.id, "pm_card_visa", "a-stray-card")
    findings = till.books().findings
    assert any(paid.id in found and "refunded" in found for found in findings)
    assert any(stray.id in found for found in findings)
    assert len(findings) == 2


def test_a_cluster_without_payments_takes_no_card() -> None:
    """Where nothing is paid, a hold is confirmed as it is, and a card is refused."""
    with scene() as made:
        held = made.hold("3A")
        request = messages.ConfirmHold(
            request_id=made.request_id(), owner_key=OWNER, hold_id=held.hold_id, passengers=ADA, payment_method="pm_card_visa"
        )
        with pytest.raises(errors.InvalidRequest, match="takes no payments"):
            made.ask("confirm", request)
        without = messages.ConfirmHold(request_id=made.request_id(), owner_key=OWNER, hold_id=held.hold_id, passengers=ADA)
        confirmed = made.ask("confirm", without)
        assert isinstance(confirmed, messages.OrderAnswer)
        assert HoldState.CONVERTED == made.managers.operators["AR"].state.closed_hold(held.hold_id).state  # type: ignore[union-attr]


def test_a_try_that_looks_while_another_one_sells_pays_once(till: Till) -> None:
    """It has read that the trip is open; when it looks at the legs they are booked: it is told of the order, and one payment is made."""
    held, sold = till.trip(), list[messages.OrderAnswer]()

    def sell() -> None:
        sold.append(till.confirm(held.hold_id, request_id="confirm-of-two-tries"))
        wait_until(lambda: not till.scene.managers.operators["QR"].state.legs, "the other leg to be booked", 10)

    before_look_at_legs(till.scene, sell)
    again = till.confirm(held.hold_id, request_id="confirm-of-two-tries")
    assert [one.reference for one in sold] == [again.reference]
    assert till.wait_state(held.hold_id, "succeeded").reference == again.reference
    assert len(till.intents()) == 1
