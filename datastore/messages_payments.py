"""Payments: what became of one, and whether the books balance. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.messages_base import Answer, OperatorCodes, Request, Secret, Word, Write
from datastore.model import Money


class GetTransaction(Request, frozen=True, kw_only=True):
    """A payment by the hold that it pays for, with its owner's key; or by a booking's `reference` and `token`."""

    owner_key: Secret
    hold_id: Word = ""
    reference: Word = ""
    token: str = ""


class ChangePayment(msgspec.Struct):
    """What was paid for a change of a booking; the fields as in `TransactionAnswer`."""

    intent: str
    state: str
    amount: Money
    captured: Money
    refunded: Money
    provider_state: str
    case: str


class TransactionAnswer(Answer, kw_only=True):
    """How a payment stands in the ledger of the operator that decides.

    `state`: "none" (nothing was paid or had to be), "processing", "requires_capture" (sold; being captured), "succeeded",
    "cancelling", "canceled", "refunding". `provider_state`: the provider's own word now, "" where it does not answer.
    `case`: why a person has to look at it. `changes`: of a booking, what was paid later for its changes, in order.
    """

    hold_id: str
    operator: str
    state: str
    intent: str = ""
    reference: str = ""
    amount: Money | None = None
    captured: Money | None = None
    refunded: Money | None = None
    refund: Money | None = None
    provider_state: str = ""
    case: str = ""
    changes: list[ChangePayment] = msgspec.field(default_factory=list)


class Accounts(Request, frozen=True, kw_only=True):
    """Compare what was paid with what is booked (Z15), of these operators; of all by default."""

    admin_key: Secret
    operators: OperatorCodes = msgspec.field(default_factory=list)


class AccountLine(msgspec.Struct):
    """One operator and currency, in minor units.

    Of the orders that the operator decides on: what is `booked`, what is `retained` of cancelled ones, what was `captured` and
    `refunded` for them, and what people took less gave back `by_hand` where the provider would not; `difference` is captured -
    refunded + by_hand - booked - retained. `share`: of all orders, the part of its own legs.
    `open`: payments that are still to be finished; they and their orders are in no other figure.
    """

    operator: str
    currency: str
    orders: int = 0
    booked: int = 0
    retained: int = 0
    captured: int = 0
    refunded: int = 0
    difference: int = 0
    share: int = 0
    open: int = 0
    by_hand: int = 0


class AccountsAnswer(Answer, kw_only=True):
    """`findings`: what does not agree, one sentence each; `cases`: payments that a person has to look at; `closings`: cases that
    people closed."""

    provider: str
    lines: list[AccountLine]
    findings: list[str]
    cases: list[str]
    intents: int
    closings: list[str] = msgspec.field(default_factory=list)


class PaymentCases(Request, frozen=True, kw_only=True):
    """List the payments that a person has to look at (Z15), of these operators, of all by default; with `closed`, also closed ones."""

    admin_key: Secret
    operators: OperatorCodes = msgspec.field(default_factory=list)
    closed: bool = False


class CaseClosing(msgspec.Struct):
    """Who closed a case, when and why. `amount`: what was taken (positive) or given back (negative) by hand."""

    stamp_ms: int
    who: str
    why: str
    amount: Money


class CaseInfo(msgspec.Struct):
    """A payment that the provider will not do what is due about.

    `due`: "capture", "refund" or "cancel"; "" where nothing is open any more. `amount`: how much of it. `since_ms`: when it became
    due. `why`: what the provider said.
    """

    operator: str
    intent: str
    hold_id: str
    reference: str
    due: str
    amount: Money
    since_ms: int
    why: str
    closings: list[CaseClosing]


class CasesAnswer(Answer, kw_only=True):
    """The cases, the oldest first; `partial` names operators that did not answer."""

    cases: list[CaseInfo]


class ClosePaymentCase(Write, frozen=True, kw_only=True):
    """Say that a person has seen to a case without the provider: what was due counts as done by hand.

    `who`: who says so, `why`: what was done; both stay in the ledger for ever, so no traveller's name belongs there.
    """

    admin_key: Secret
    intent: Word
    who: Annotated[str, Meta(min_length=1, max_length=64)]
    why: Annotated[str, Meta(min_length=1, max_length=200)]


class CaseClosed(Answer, kw_only=True):
    """`closed`: False where the provider did what was due after all, so that there was nothing to close. `lsn`: of the ledger's entry."""

    closed: bool
    case: CaseInfo
    lsn: int = 0
