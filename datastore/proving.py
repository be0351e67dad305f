"""What one copy of a ledger proves: its chain, one owner a seat, whose seats are booked, what was paid, which receipts hold. Pure.

`audit.py` has the proof of the seats; this takes the entries in, says where the first damage is, and adds what else follows from
the rows at the end: every booked seat belongs to an order that stands, and what was captured less what went back is what the
orders cost (Z15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from datastore.audit import Audit
from datastore.errors import HoldfastError, InvariantBroken
from datastore.ledger import LedgerDamaged, SealedEntry, erased_sides, genesis, unseal
from datastore.model import OrderState, PaymentState, SeatState
from datastore.receipts import Receipt, differences
from datastore.rows import Kind, OrderRow, PaymentRow, by_hand, decode_row

SEAT_WORDS = {SeatState.FREE: "free_again", SeatState.HELD: "held", SeatState.BOOKED: "booked", SeatState.BLOCKED: "blocked"}


class Damage(msgspec.Struct):
    """Where a copy is not what was written. `lsn`: 0 where it is in no entry."""

    file: str
    lsn: int
    what: str


class ReceiptFound(msgspec.Struct):
    """What one copy says of a receipt. `reached`: it has the entry at all; `differences`: [] proves the receipt."""

    receipt: str
    reached: bool
    differences: list[str]


class CopyProof(msgspec.Struct, kw_only=True):
    """What one copy proves, or where it is damaged.

    Attributes:
        entries: All that the copy has; those after `applied_lsn` may not be committed.
        counts: Seats by state, orders by state.
        money: Currency -> [captured, refunded, booked and retained], minor units, of settled payments.
        violations: Sentences; [] when the ledger proves what it should.
    """

    operator: str
    node: str = ""
    file: str = ""
    entries: int = 0
    last_lsn: int = 0
    last_hash: str = ""
    applied_lsn: int = 0
    counts: dict[str, int] = {}
    money: dict[str, list[int]] = {}
    violations: list[str] = []
    damage: list[Damage] = []
    receipts: list[ReceiptFound] = []


class Prover:
    """Takes one ledger in, page by page, from its first entry."""

    def __init__(self, operator: str, receipts: Sequence[Receipt] = ()) -> None:
        self._operator = operator
        self._audit = Audit(operator, genesis(operator))
        self._payments: dict[str, PaymentRow] = {}
        self._wanted: dict[int, list[Receipt]] = {}
        for receipt in receipts:
            self._wanted.setdefault(receipt.lsn, []).append(receipt)
        self._receipts = {str(receipt): ReceiptFound(str(receipt), False, []) for receipt in receipts}
        self.sides: set[bytes] = set()
        """Digests of the side records that must lie beside the entries taken in so far: named, and not erased (Z12)."""

    def take(self, page: Iterable[bytes]) -> None:
        """Take in the next sealed entries.

        Raises:
            LedgerDamaged: One is not what was written, or does not follow the one before; `fields["lsn"]` is its place.
        """
        for data in page:
            lsn = self._audit.report().end.lsn + 1
            try:
                sealed = unseal(data)
                self._audit.take([sealed])
            except (LedgerDamaged, InvariantBroken) as error:
                raise LedgerDamaged(f"entry {lsn}: {error.detail}", lsn=lsn) from error
            self._note(sealed)

    def _note(self, sealed: SealedEntry) -> None:
        for receipt in self._wanted.get(sealed.entry.lsn, ()):
            self._receipts[str(receipt)] = ReceiptFound(str(receipt), True, differences(receipt, sealed))
        self.sides.update(sealed.entry.sides)
        self.sides.difference_update(erased_sides(sealed.entry))
        for kind, key, value in sealed.entry.events:
            if kind in (Kind.PAYMENT, Kind.CLOSED_PAYMENT) and value:
                self._payments[key] = decode_row(kind, value)

    def proof(self) -> CopyProof:
        """Return what was proved."""
        report = self._audit.report()
        money, wrong = balance(self._audit.orders, self._payments)
        return CopyProof(
            operator=self._operator,
            entries=report.entries,
            last_lsn=report.end.lsn,
            last_hash=report.end.hash.hex(),
            counts=self._counts(),
            money=money,
            violations=[*report.violations, *self._audit.strays(), *wrong],
            receipts=list(self._receipts.values()),
        )

    def _counts(self) -> dict[str, int]:
        found = {f"seats_{SEAT_WORDS[state]}": number for state, number in self._audit.seat_counts().items()}
        orders = [order.state for order in self._audit.orders.values()]
        found["orders_confirmed"] = orders.count(OrderState.CONFIRMED)
        found["orders_cancelled"] = orders.count(OrderState.CANCELLED)
        found["payments"] = len(self._payments)
        return found


def balance(orders: Mapping[str, OrderRow], payments: Mapping[str, PaymentRow]) -> tuple[dict[str, list[int]], list[str]]:
    """Return (currency -> [captured, refunded, booked and retained], what is wrong): of what is settled, in minor units.

    An order counts when all of its payments are settled: between its changes the two sides differ (Z15).
    """
    money: dict[str, list[int]] = {}
    wrong = []
    owned: set[str] = set()
    for order in orders.values():
        intents = [intent for intent in (order.intent, *order.intents) if intent]
        owned.update(intents)
        missing = [intent for intent in intents if intent not in payments]
        wrong += [f"booking {order.reference} is paid by {intent}, of which the ledger has no payment" for intent in missing]
        rows = [payments[intent] for intent in intents if intent in payments]
        if missing or not rows or any(row.state != PaymentState.SETTLED for row in rows):
            continue
        booked_minor = _price(order) if order.state == OrderState.CONFIRMED else 0
        kept_minor = booked_minor + sum(minor for _, minor in order.retained)
        taken_minor = sum(row.captured_minor - row.refunded_minor + sum(minor for *_, minor in row.closings) for row in rows)
        if taken_minor != kept_minor:
            wrong.append(f"booking {order.reference}: payments took {taken_minor} {order.currency}, it keeps {kept_minor}")
        _add(money, rows, kept_minor)
    for intent, row in payments.items():
        if row.refunded_minor > row.captured_minor:
            wrong.append(f"payment {intent} gave back {row.refunded_minor} of {row.captured_minor} {row.currency}")
        if intent in owned or row.state != PaymentState.SETTLED:
            continue
        _add(money, [row], 0)
        if row.captured_minor != row.refunded_minor:
            wrong.append(f"payment {intent} of {row.hold_id} took {row.captured_minor - row.refunded_minor} {row.currency} for no booking")
    return money, wrong


def _add(money: dict[str, list[int]], rows: Sequence[PaymentRow], kept_minor: int) -> None:
    line = money.setdefault(rows[0].currency, [0, 0, 0])
    for row in rows:
        taken_minor, back_minor = by_hand(row.closings)
        line[0] += row.captured_minor + taken_minor
        line[1] += row.refunded_minor + back_minor
    line[2] += kept_minor


def _price(order: OrderRow) -> int:
    return sum(sum(leg.prices) for leg in order.legs) if order.legs else sum(order.prices)


class Verdict(msgspec.Struct, kw_only=True):
    """What all copies come to.

    Attributes:
        state: "proved"; "damaged": some copy is not what was written, or proves what must never be; "incomplete": nothing was
            found wrong, but something could not be looked at.
        findings: What is wrong, located.
        missing: What could not be looked at, and why.
        receipts: Receipt -> "proved", or why it is not.
    """

    state: str
    findings: list[str]
    missing: list[str]
    receipts: dict[str, str]


def judge(copies: Sequence[CopyProof], apart: Sequence[str], receipts: Sequence[Receipt], missing: Sequence[str] = ()) -> Verdict:
    """Return what the copies of all operators come to.

    Args:
        apart: Sentences about copies that differ where both are committed (I4).
        missing: What could not be looked at.
    """
    findings = list(apart)
    for copy in copies:
        where = f"{copy.operator} at {copy.node}" if copy.node else copy.operator
        findings += [f"{where}: {one.file}{f', entry {one.lsn}' if one.lsn else ''}: {one.what}" for one in copy.damage]
        findings += [f"{where}: {one}" for one in copy.violations]
    verdicts = {str(receipt): _judge_receipt(receipt, copies) for receipt in receipts}
    findings += [f"receipt {word}: {why}" for word, why in verdicts.items() if why != "proved"]
    state = "damaged" if findings else "incomplete" if missing or not copies else "proved"
    return Verdict(state=state, findings=findings, missing=list(missing), receipts=verdicts)


def _judge_receipt(receipt: Receipt, copies: Sequence[CopyProof]) -> str:
    """A copy that is behind, or damaged before the place, says nothing; what was acknowledged is in a majority of the others."""
    of_operator = [copy for copy in copies if copy.operator == receipt.operator]
    found = [(copy, one) for copy in of_operator for one in copy.receipts if one.receipt == str(receipt)]
    there = [(copy, one) for copy, one in found if one.reached]
    proved = [copy for copy, one in there if not one.differences]
    if not of_operator:
        return f"there is no ledger of operator {receipt.operator} here"
    if not there:
        last = max(copy.last_lsn for copy in of_operator)
        return f"the ledger of {receipt.operator} ends at entry {last}, before entry {receipt.lsn}"
    if len(proved) * 2 <= len(of_operator) and len(proved) < len(there):
        copy, one = next((copy, one) for copy, one in there if one.differences)
        return f"{'; '.join(one.differences)}{f' ({copy.node})' if copy.node else ''}"
    return "proved"


def as_document(verdict: Verdict, copies: Sequence[CopyProof]) -> dict[str, Any]:
    """Return verdict and copies as one JSON-ready document."""
    found: dict[str, Any] = msgspec.to_builtins(verdict)
    return {**found, "copies": msgspec.to_builtins(copies)}


def damaged(operator: str, error: HoldfastError, file: str) -> Damage:
    """Return where an error says that a copy is damaged."""
    return Damage(str(error.fields.get("file") or file), int(error.fields.get("lsn") or 0), error.detail)
