"""Payments that a person has to look at: listed with why, and closed by somebody, whom the ledger names (Z15)."""

from __future__ import annotations

import time

import pytest

from datastore import commands, errors, messages
from datastore.model import PaymentState
from tests.unit.loadbalancer.scenery import ADMIN_KEY
from tests.unit.loadbalancer.test_paying import Till, till
from tests.waiting import wait_until

__all__ = ["till"]  # the fixture


def close(till: Till, intent: str, request_id: str = "") -> messages.CaseClosed:
    request_id = request_id or till.scene.request_id()
    named = {"admin_key": ADMIN_KEY, "intent": intent, "who": "The bursar", "why": "paid at the desk"}
    answer = till.scene.ask("close_payment_case", messages.ClosePaymentCase(request_id=request_id, **named))
    assert isinstance(answer, messages.CaseClosed)
    return answer


def cases(till: Till, *, closed: bool = False) -> list[messages.CaseInfo]:
    answer = till.scene.ask("payment_cases", messages.PaymentCases(admin_key=ADMIN_KEY, closed=closed))
    assert isinstance(answer, messages.CasesAnswer) and answer.partial == {}
    return answer.cases


def uncaptured(till: Till) -> tuple[messages.HoldAnswer, messages.OrderAnswer, str]:
    """Sell a seat whose payment somebody ended at the provider; return the hold, the order and the intent."""
    held = till.scene.hold("3A")
    till.fault("capture", "down", 100)
    order = till.confirm(held.hold_id)
    (intent,) = till.intents()
    till.provider.cancel(intent.id, "")
    till.sandbox.faults.plan({"kind": "none"})
    wait_until(lambda: bool(cases(till)), "the case", 30)
    return held, order, intent.id


def test_a_case_is_closed_by_a_person(till: Till) -> None:
    """Who closed it and why is in the ledger, what was due counts as taken by hand, and the books balance with it."""
    held, order, intent = uncaptured(till)
    (case,) = cases(till)
    assert (case.due, case.reference, case.amount, case.closings) == ("capture", order.reference, held.total, [])
    assert len(till.books().cases) == 1
    request_id = till.scene.request_id()
    done = close(till, intent, request_id)
    assert (done.closed, done.case.due, close(till, intent, request_id)) == (True, "", done)
    with pytest.raises(errors.InvalidRequest, match="no open case"):
        close(till, intent)
    assert cases(till) == []
    (closing,) = cases(till, closed=True)[0].closings
    assert (closing.who, closing.why, closing.amount) == ("The bursar", "paid at the desk", held.total)
    books = till.books()
    assert (books.findings, books.cases, len(books.closings)) == ([], [], 1)
    assert [(line.captured, line.by_hand, line.difference) for line in books.lines if line.orders] == [(0, held.total.minor, 0)]


def test_what_was_taken_by_hand_goes_back_by_hand(till: Till) -> None:
    """A refund of what the provider never had is a case again; closed, the books still balance."""
    held, order, intent = uncaptured(till)
    close(till, intent)
    request = messages.CancelOrder(request_id=till.scene.request_id(), reference=order.reference, token=order.manage_token)
    cancelled = till.scene.ask("cancel", request)
    assert isinstance(cancelled, messages.OrderAnswer) and cancelled.refund is not None and cancelled.refund.minor > 0
    wait_until(lambda: bool(cases(till)), "the case of the refund", 30)
    (case,) = cases(till)
    assert (case.due, case.amount) == ("refund", cancelled.refund)
    done = close(till, intent)
    assert [closing.amount.minor for closing in done.case.closings] == [held.total.minor, -cancelled.refund.minor]
    books = till.books()
    assert (books.findings, books.cases, len(books.closings)) == ([], [], 2)


def test_a_case_that_the_provider_can_do_after_all_is_not_closed(till: Till) -> None:
    """It is asked once more first; what nobody has heard of, and what is no case, is refused with its name."""
    held = till.scene.hold("3A")
    till.fault("capture", "down", 100)
    till.confirm(held.hold_id)
    (intent,) = till.intents()
    operator = till.scene.managers.operators["AR"]
    command = commands.PaymentCase("", b"", intent.id, int(PaymentState.CAPTURE), "a bad day")
    till.scene.server.balancer.decide("AR", command, time.monotonic_ns() // 1_000_000 + 5_000)
    assert operator.state.payments[intent.id].case == "a bad day"
    with pytest.raises(errors.HoldfastError) as silent:
        close(till, intent.id)
    assert silent.value.code in ("outcome_unknown", "payments_unavailable")
    till.sandbox.faults.plan({"kind": "none"})
    assert not close(till, intent.id).closed
    till.wait_state(held.hold_id, "succeeded")
    with pytest.raises(errors.InvalidRequest, match="no ledger has a payment pi_nobody"):
        close(till, "pi_nobody")
    assert till.books().closings == []
