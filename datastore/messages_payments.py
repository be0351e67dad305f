"""Payments: what became of one, and whether the books balance. Pure."""

from __future__ import annotations

import msgspec

from datastore.messages_base import Answer, OperatorCodes, Request, Secret, Word
from datastore.model import Money


class GetTransaction(Request, frozen=True, kw_only=True):
    """A payment by the hold that it pays for, with its owner's key; or by a booking's `reference` and `token`."""

    owner_key: Secret
    hold_id: Word = ""
    reference: Word = ""
    token: str = ""


class TransactionAnswer(Answer, kw_only=True):
    """How a payment stands in the ledger of the operator that decides.

    `state`: "none" (nothing was paid or had to be), "processing", "requires_capture" (sold; being captured), "succeeded",
    "cancelling", "canceled", "refunding". `provider_state`: the provider's own word now, "" where it does not answer.
    `case`: why a person has to look at it.
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


class Accounts(Request, frozen=True, kw_only=True):
    """Compare what was paid with what is booked (Z15), of these operators; of all by default."""

    admin_key: Secret
    operators: OperatorCodes = msgspec.field(default_factory=list)


class AccountLine(msgspec.Struct):
    """One operator and currency, in minor units.

    Of the orders that the operator decides on: what is `booked`, what is `retained` of cancelled ones, what was `captured` and
    `refunded` for them; `difference` is captured - refunded - booked - retained. `share`: of all orders, the part of its own legs.
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


class AccountsAnswer(Answer, kw_only=True):
    """`findings`: what does not agree, one sentence each; `cases`: payments that a person has to look at."""

    provider: str
    lines: list[AccountLine]
    findings: list[str]
    cases: list[str]
    intents: int
