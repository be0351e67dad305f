"""Carries payments out: a buyer's card before a sale is decided, and afterwards whatever the anchors' ledgers ask for (Q2-Q7).

What to do is judged in `loadbalancer.charging`; what was done is said to the anchor before anything follows from it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from datastore import commands
from datastore.errors import HoldfastError, InvalidRequest, OrderNotPayable, OutcomeUnknown, PaymentDeclined, PaymentsUnavailable
from datastore.model import HoldState, PaymentState
from datastore.rows import PaymentRow, by_hand
from loadbalancer import charging
from loadbalancer.balancer import Balancer
from loadbalancer.charging import Act
from loadbalancer.payments import Intent, PaymentProvider
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.reconciling import anchor_of
from loadbalancer.waiting import now_ms

PAUSE_MS = 100
STEP_MS = 8_000
# Deciding and answering need their time too, once the card is done.
DECIDING_MS = 500

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Cashier:
    """One balancer's payments. Without a provider nothing has to be paid for."""

    def __init__(self, balancer: Balancer, config: PaymentsConfig, provider: PaymentProvider | None) -> None:
        self._balancer = balancer
        self._config = config
        self._provider = provider
        self._pause = threading.Event()  # never set: a wait with an end

    @property
    def provider(self) -> PaymentProvider | None:
        """Who moves the money; None where no payments are taken."""
        return self._provider

    @property
    def provider_name(self) -> str:
        """Return the configured word for who moves the money."""
        return self._config.provider

    def status_of(self, intent: str) -> str:
        """Return the provider's word for an intent, "" where it does not answer."""
        try:
            return self._provider.retrieve(intent).status if self._provider is not None else ""
        except HoldfastError:
            return ""

    # --- before the sale (Q1-Q3) ------------------------------------------------------------------------------------

    def authorised(
        self,
        hold: Mapping[str, Any],
        method: str,
        request_id: str,
        holds: tuple[tuple[str, int], ...],
        deadline_ms: int,
        fares: charging.Fares = (),
    ) -> str:
        """Have the price of an open hold set aside and return the intent, "" where there is nothing to pay.

        Args:
            hold: As its anchor has it, with its owner.
            method: The card, as the provider knows it.
            holds: Of a trip: every other operator's holds, just seen (Z4).
            fares: For each leg, where the passengers' types make them other than the hold's prices.
        Raises:
            OrderNotPayable: The payment that has begun is for other fares.
            PaymentDeclined, PaymentActionRequired: Not paid; the hold stays as it is, until its deadline.
            PaymentsUnavailable: The provider does not answer; nothing is booked, and what was set aside is given up in the end.
            InvalidRequest: No card was named, or the provider does not know it.
        """
        provider, hold_id = self._provider, hold["hold_id"]
        price_minor = charging.price_of(hold, fares)
        if provider is None or not price_minor:
            return ""
        if not method:
            raise InvalidRequest(f"hold {hold_id} has to be paid for: say with which card", field="payment_method")
        if hold["state"] == HoldState.PAYING and charging.price_of(hold, hold.get("fares", ())) != price_minor:
            # Before the provider hears of it: under the hold's key it would refuse another amount.
            raise OrderNotPayable(
                f"the payment of hold {hold_id} has begun for passengers of other types; release the hold to start anew", hold_id=hold_id
            )
        until_ms = deadline_ms - DECIDING_MS
        metadata = {"hold": hold_id, "operator": anchor_of(hold_id)}
        intent: Intent = self._until_known(
            lambda: provider.create(price_minor, hold["currency"], charging.create_key(hold_id), metadata), until_ms
        )
        self._pay(hold, intent.id, price_minor, holds, deadline_ms, fares)
        standing = self._confirmed(hold, intent.id, method, request_id, until_ms)
        error = charging.judge_card(standing, hold_id)
        if error is not None:
            raise error
        return intent.id

    def adopt(
        self, hold: Mapping[str, Any], intent: str, holds: tuple[tuple[str, int], ...], deadline_ms: int, fares: charging.Fares = ()
    ) -> None:
        """Q7: have an intent whose hold has ended pay for the same seats, held anew.

        Raises:
            OrderNotPayable: It is being given back. PriceChanged: They cost something else now.
        """
        self._pay(hold, intent, charging.price_of(hold, fares), holds, deadline_ms, fares)

    def is_set_aside(self, intent: str, deadline_ms: int) -> bool:
        """Return whether an intent's amount is set aside."""
        provider = self._provider
        assert provider is not None
        return self._until_known(lambda: provider.retrieve(intent), deadline_ms).status in charging.SET_ASIDE

    def _pay(
        self,
        hold: Mapping[str, Any],
        intent: str,
        price_minor: int,
        holds: tuple[tuple[str, int], ...],
        deadline_ms: int,
        fares: charging.Fares,
    ) -> None:
        """Q2: what may move from now on is in the ledger first."""
        ttl_ms, most_ms = self._config.paying_ms, self._balancer.config.hold_ttl_max_ms
        named = ("", b"", hold["hold_id"], hold["owner"], intent)
        command = commands.Paying(*named, price_minor, hold["currency"], holds, ttl_ms, most_ms, fares)
        self._balancer.decide(anchor_of(hold["hold_id"]), command, deadline_ms)

    def _confirmed(self, hold: Mapping[str, Any], intent: str, method: str, request_id: str, until_ms: int) -> Intent:
        """Q3: confirm with the card; after a lost answer the intent's id tells."""
        provider = self._provider
        assert provider is not None
        hold_id = hold["hold_id"]
        key = charging.confirm_key(hold_id, request_id, method)
        if hold["state"] == HoldState.PAYING:
            # An earlier try may have gone through, or its card's holder has consented since.
            standing = self._until_known(lambda: provider.retrieve(intent), until_ms)
            if standing.status in charging.SET_ASIDE:
                return standing
        try:
            standing = self._until_known(lambda: provider.authorise(intent, method, key), until_ms)
            while standing.status == "processing":
                self._wait(until_ms)
                standing = self._until_known(lambda: provider.retrieve(intent), until_ms)
        except PaymentDeclined as error:
            error.fields["hold_id"] = hold_id
            raise
        if standing.status == "requires_action":
            # What the idempotency key tells may be old: the holder may have consented since.
            standing = self._until_known(lambda: provider.retrieve(intent), until_ms)
        return standing

    def _until_known(self, ask: Callable[[], Result], until_ms: int) -> Result:
        """Ask again, under the same key, until the provider has said how it is.

        Raises:
            PaymentsUnavailable: Not in time. Whatever it did is found out by the intent's id later.
        """
        while True:
            asked_ms = now_ms()
            try:
                return ask()
            except OutcomeUnknown as error:
                # Who was silent for so long is taken to be so again: past the caller's time nobody hears how it was.
                took_ms = now_ms() - asked_ms
                if now_ms() + PAUSE_MS + took_ms >= until_ms:
                    raise PaymentsUnavailable(f"{error.detail}; nothing is booked, say the same again later") from error
                self._wait(until_ms)

    def _wait(self, until_ms: int) -> None:
        if now_ms() + PAUSE_MS >= until_ms:
            raise PaymentsUnavailable("the payment provider has not decided yet; nothing is booked, say the same again later")
        self._pause.wait(PAUSE_MS / 1000)

    # --- after it (Q5-Q7) -------------------------------------------------------------------------------------------

    def settle(self, operator: str, row: PaymentRow) -> None:
        """Do what an anchor's row asks for, and say there that it is done; every balancer may do it at the same time.

        Raises:
            HoldfastError: Not yet; the row stays, and it is tried again.
        """
        provider = self._provider
        if provider is None or row.state in (PaymentState.PAYING, PaymentState.SETTLED):
            return
        deadline_ms = now_ms() + STEP_MS
        # Of what is to go back in all, what went back by hand is not the provider's to do.
        state, step_minor = PaymentState(row.state), row.step_minor - by_hand(row.closings)[1]
        if state == PaymentState.VOID:
            begun = self._balancer.decide(operator, commands.BeginVoid("", b"", row.intent), deadline_ms)
            state = PaymentState(begun["state"])
            if state != PaymentState.VOIDING:
                return  # It pays for the same seats again (Q7), or somebody was faster.
        try:
            standing = provider.retrieve(row.intent)
        except InvalidRequest as error:
            self._note_case(operator, row, state, error.detail)
            return
        act = charging.judge_step(state, standing, step_minor)
        if act not in (Act.NOTHING, Act.WAIT, Act.CASE):
            try:
                standing = self._act(provider, act, row, charging.refund_due(state, standing, step_minor, row.refunded_minor))
            except (InvalidRequest, PaymentDeclined) as error:
                self._note_case(operator, row, state, f"cannot {act.value}: {error.detail}")
                return
            act = charging.judge_step(state, standing, step_minor)
        if act is Act.NOTHING:
            done = commands.Settle("", b"", row.intent, int(state), standing.status, charging.moved(state, standing))
            self._balancer.decide(operator, done, deadline_ms)
        elif act is Act.CASE:
            what = "refund" if state == PaymentState.REFUND else "capture"
            self._note_case(operator, row, state, f"cannot {what}: the provider has it as {standing.status}")

    def _note_case(self, operator: str, row: PaymentRow, state: PaymentState, why: str) -> None:
        """Z15: write down what a person has to look at; said once, tried on."""
        if row.case == why:
            return
        log.error("payment case operator=%s intent=%s reference=%s reason=%s", operator, row.intent, row.reference, why)
        self._balancer.decide(operator, commands.PaymentCase("", b"", row.intent, int(state), why), now_ms() + STEP_MS)

    def _act(self, provider: PaymentProvider, act: Act, row: PaymentRow, refund_minor: int) -> Intent:
        # An intent is captured or cancelled once by its own nature, and under a key the provider would repeat a failure of its own
        # for a day. Refunds can be done twice: they go under a key.
        if act is Act.CAPTURE:
            return provider.capture(row.intent, row.amount_minor, "")
        if act is Act.CANCEL:
            return provider.cancel(row.intent, "")
        step_minor = row.step_minor if row.state == PaymentState.REFUND else 0
        return provider.refund(row.intent, refund_minor, charging.refund_key(row.intent, step_minor))


def is_late(error: HoldfastError) -> bool:
    """Return whether a sale was refused only because the hold's time was over when it came to deciding (Q7)."""
    return error.code == "hold_expired" and "expired" in (error.fields.get("state"), error.fields.get("why"))
