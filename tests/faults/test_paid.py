"""Paying at a real cluster: a declined card, a refund by the fare. What was charged is read from the sandbox itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import exit_codes, keys
from datastore import messages
from datastore.errors import HoldfastError, PaymentDeclined
from datastore.model import Passenger
from loadbalancer.payments import StripeAdapter
from tests.integration.harness import ClusterUnderTest
from tests.integration.provider_trouble import plan_trouble
from tests.integration.test_cli import Terminal
from tests.waiting import wait_until

SERVICE = f"AR1140-EZE-{(date.today() + timedelta(days=20)).isoformat()}"
ADA = [Passenger("Byron", "Ada")]
CARD = "pm_card_visa"
OVERLAY = {
    "payments": {"provider": "sandbox", "timeout_ms": 1_500, "paying_ms": 4_000, "sandbox": [{"name": "payments-1", "port": 41}]},
}
HOLD_MS = 4_000
DEADLINE_MS = 4_000
CLOSED_S = 30


class Shop:
    """A cluster that takes payments, and the sandbox's own word on what was charged."""

    def __init__(self, cluster: ClusterUnderTest) -> None:
        self.cluster = cluster
        sandbox = cluster.plan.process("payments-1")
        self.host, self.port = sandbox.host, sandbox.port
        self.key = keys.read_secret(cluster.folders.sandbox_key)
        self.provider = StripeAdapter(self.key, timeout_ms=8_000, base=f"http://{self.host}:{self.port}")
        self.buyer = cluster.client(deadline_ms=DEADLINE_MS, balancers=["balancer-1"])
        self.other = cluster.client(deadline_ms=DEADLINE_MS, balancers=["balancer-2"])

    def fault(self, **fields: str) -> None:
        plan_trouble(self.cluster.plan, self.cluster.folders, **fields)

    def books(self) -> messages.AccountsAnswer:
        return self.other.accounts(keys.read_secret(self.cluster.folders.secrets / "admin.key"))

    def closed(self) -> bool:
        """Return whether nothing of any payment is left to be done."""
        try:
            return not any(line.open for line in self.books().lines)
        except HoldfastError:
            return False


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with ClusterUnderTest(tmp_path_factory.mktemp("paid"), OVERLAY, datasets=("brief",)) as cluster:
        yield Shop(cluster)


def test_a_declined_card_leaves_the_hold_until_its_deadline(shop: Shop) -> None:
    """Said with its reason; the seat is free for others once the hold has ended, and nothing was charged."""
    held = shop.buyer.hold_any(SERVICE, 1, ttl_ms=HOLD_MS)
    with pytest.raises(PaymentDeclined) as declined:
        shop.buyer.process_payment(held.hold_id, ADA, "pm_card_visa_chargeDeclined")
    assert declined.value.fields["decline_code"] == "generic_decline"
    assert shop.buyer.get_hold(held.hold_id).state == "paying"
    wait_until(lambda: shop.buyer.get_hold(held.hold_id).state == "expired", "the hold to end", 15)
    again = []

    def taken() -> bool:
        try:
            again.append(shop.other.hold(SERVICE, held.seats))
        except HoldfastError:
            return False
        return True

    wait_until(taken, "the seat to be free", 5)
    shop.other.release(again[0].hold_id)
    wait_until(lambda: shop.buyer.query_transaction(held.hold_id).state == "canceled", "the intent ended", 15)


def test_a_refund_by_the_fare(shop: Shop) -> None:
    """A cancelled booking gives back what its fare says, and the books have the rest as retained."""
    held = shop.buyer.hold_any(SERVICE, 1, ttl_ms=30_000)
    order = shop.buyer.process_payment(held.hold_id, ADA, CARD)
    refund = shop.buyer.cancel(order.reference, order.manage_token).refund
    assert refund is not None
    wait_until(shop.closed, "the refund", CLOSED_S)
    paid = shop.buyer.query_transaction(reference=order.reference, token=order.manage_token)
    assert (paid.captured, paid.refunded) == (held.total, refund)
    assert shop.books().findings == []


def test_what_a_change_cost_stands_beside_the_sale(shop: Shop) -> None:
    """A dearer date is paid on its own; the booking's transaction has both payments, and the ticket of the old date stands no longer."""
    held = shop.buyer.hold_any(SERVICE, 1, ttl_ms=30_000)
    order = shop.buyer.process_payment(held.hold_id, ADA, CARD)
    (old,) = shop.buyer.tickets(order.reference, order.manage_token).tickets
    assert [] == shop.buyer.check_ticket(old.code).wrong
    quotes = (
        shop.buyer.quote_change(order.reference, order.manage_token, leg=1, service_id=f"AR1140-EZE-{date.today() + timedelta(days=days)}")
        for days in range(3, 20)
    )
    quote = next(one for one in quotes if one.to_pay is not None and one.to_pay.minor)
    shop.buyer.change(order.reference, order.manage_token, quote.quote, payment_method=CARD)
    wait_until(shop.closed, "the payment of the change", CLOSED_S)
    paid = shop.buyer.query_transaction(reference=order.reference, token=order.manage_token)
    assert (held.total, [("succeeded", quote.to_pay)]) == (paid.captured, [(one.state, one.captured) for one in paid.changes])
    (reason,) = shop.buyer.check_ticket(old.code).wrong
    assert "exchanged" in reason
    (new,) = shop.buyer.tickets(order.reference, order.manage_token).tickets
    assert old.number == new.number and [] == shop.buyer.check_ticket(new.code).wrong
    assert shop.books().findings == []


def test_a_case_is_listed_and_closed_from_the_command_line(shop: Shop, tmp_path: Path) -> None:
    """What the provider will not capture is listed with why; once a person has closed it, the audit says who, and balances."""
    staff = Terminal(shop.cluster, tmp_path)
    held = shop.buyer.hold_any(SERVICE, 1, ttl_ms=30_000)
    shop.fault(on="capture", kind="down", count="1000")
    order = shop.buyer.process_payment(held.hold_id, ADA, CARD)
    intent = shop.buyer.query_transaction(reference=order.reference, token=order.manage_token).intent
    shop.provider.cancel(intent, "")
    shop.fault(kind="none")
    wait_until(lambda: any(case["intent"] == intent for case in staff.json("payments", "cases")["cases"]), "the case", 60)
    (case,) = staff.json("payments", "cases")["cases"]
    assert (case["reference"], case["due"], case["amount"]["minor"]) == (order.reference, "capture", held.total.minor)
    assert staff.json("audit", code=exit_codes.PARTIAL)["cases"] != []
    refused = staff.json("payments", "close", "pi_nobody", "--why", "a slip", "--yes", code=exit_codes.INVALID)
    assert refused["code"] == "invalid_request"
    done = staff.json("payments", "close", intent, "--why", "paid at the desk", "--by", "The bursar", "--yes")
    assert done["closed"] and done["case"]["closings"][0]["who"] == "The bursar"
    assert staff.json("payments", "cases")["cases"] == []
    books = staff.json("audit")
    assert (books["findings"], books["cases"]) == ([], [])
    assert any("The bursar" in closing and "paid at the desk" in closing for closing in books["closings"])
