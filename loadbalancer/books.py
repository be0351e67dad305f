"""Do the books balance: captured - refunded + by hand = booked + retained, to the cent, per operator and over all (Z15). Pure.

Three sources that know nothing of each other are compared: the orders, the ledger's rows of payments, and the provider's own list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from datastore.messages import AccountLine
from datastore.model import Money, OrderState, PaymentState


class Paid(Protocol):
    """What the provider says of an intent (`payments.Intent`)."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def received_minor(self) -> int: ...
    @property
    def refunded_minor(self) -> int: ...


class Ledger(NamedTuple):
    """One operator's orders that were paid for, and its payments, as the queries "accounts" give them."""

    operator: str
    orders: Sequence[Mapping[str, Any]]
    payments: Sequence[Mapping[str, Any]]


class Books(NamedTuple):
    """What the comparison came to; `findings` empty means that all agrees. `closings`: cases that people closed."""

    lines: list[AccountLine]
    findings: list[str]
    cases: list[str]
    closings: list[str]


def compare(ledgers: Sequence[Ledger], intents: Mapping[str, Paid], *, all_operators: bool) -> Books:
    """Return the books of these ledgers.

    Args:
        intents: The provider's, by id.
        all_operators: Whether these are all ledgers: only then an intent that is in none of them belongs to nobody.
    """
    lines: dict[tuple[str, str], AccountLine] = {}
    findings: list[str] = []
    cases: list[str] = []
    closings: list[str] = []
    known: set[str] = set()
    for ledger in ledgers:
        payments = {row["intent"]: row for row in ledger.payments}
        known |= payments.keys()
        # An order counts when all of its payments are settled: between its changes the two sides of the books differ.
        unsettled = {
            intent
            for order in ledger.orders
            if any(payments[one]["state"] != PaymentState.SETTLED for one in order["intents"] if one in payments)
            for intent in order["intents"]
        }
        for row in payments.values():
            line = _line(lines, ledger.operator, row["currency"])
            if row["case"]:
                cases.append(f"{ledger.operator} {row['reference'] or row['hold_id']} {row['intent']}: {row['case']}")
            closings += [case_closed(ledger.operator, row, closing) for closing in row["closings"]]
            if row["state"] != PaymentState.SETTLED:
                line.open += 1
            if row["state"] != PaymentState.SETTLED or row["intent"] in unsettled:
                continue
            line.captured += row["captured_minor"]
            line.refunded += row["refunded_minor"]
            line.by_hand += sum(minor for *_, minor in row["closings"])
            findings += _against_provider(ledger.operator, row, intents.get(row["intent"]))
        for order in ledger.orders:
            findings += _missing(ledger.operator, order, payments)
            if not unsettled & set(order["intents"]):
                _add_order(lines, ledger.operator, order)
    for line in lines.values():
        line.difference = line.captured - line.refunded + line.by_hand - line.booked - line.retained
        if line.difference:
            amount = f"{line.difference} {line.currency}"
            findings.append(f"{line.operator}: captured less refunded, and by hand, differs from booked and retained by {amount}")
    if all_operators:
        findings += [
            f"{one.id}: the provider has taken or set aside money that no ledger knows"
            for one in intents.values()
            if one.id not in known and (one.received_minor != one.refunded_minor or one.status == "requires_capture")
        ]
        findings += _over_all(lines.values())
    return Books([lines[key] for key in sorted(lines)], findings, cases, closings)


def case_closed(operator: str, row: Mapping[str, Any], closing: Sequence[Any]) -> str:
    """Return a sentence on a case that a person closed."""
    _, who, why, minor = closing
    amount = f", {Money(abs(minor), row['currency'])} {'taken' if minor > 0 else 'given back'} by hand" if minor else ""
    return f"{operator} {row['reference'] or row['hold_id']} {row['intent']}: closed by {who}{amount}: {why}"


def _line(lines: dict[tuple[str, str], AccountLine], operator: str, currency: str) -> AccountLine:
    return lines.setdefault((operator, currency), AccountLine(operator, currency))


def _against_provider(operator: str, row: Mapping[str, Any], paid: Paid | None) -> list[str]:
    what = f"{operator} {row['reference'] or row['hold_id']} {row['intent']}"
    if paid is None:
        return [f"{what}: the provider does not list it"] if row["captured_minor"] else []
    found = []
    if row["reference"] and (paid.received_minor, paid.refunded_minor) != (row["captured_minor"], row["refunded_minor"]):
        found.append(
            f"{what}: the ledger has {row['captured_minor']} captured and {row['refunded_minor']} refunded,"
            f" the provider {paid.received_minor} and {paid.refunded_minor}"
        )
    if not row["reference"] and (paid.received_minor != paid.refunded_minor or paid.status == "requires_capture"):
        found.append(f"{what}: nothing was sold, and the provider has {paid.status}, {paid.received_minor - paid.refunded_minor} taken")
    return found


def _missing(operator: str, order: Mapping[str, Any], payments: Mapping[str, Any]) -> list[str]:
    missing = [intent for intent in order["intents"] if intent not in payments]
    return [f"{operator} {order['reference']}: is sold, and the ledger has no payment {intent}" for intent in missing]


def _add_order(lines: dict[tuple[str, str], AccountLine], operator: str, order: Mapping[str, Any]) -> None:
    line = _line(lines, operator, order["currency"])
    line.orders += 1
    line.booked += sum(booked_minor for _, booked_minor in _booked(operator, order))
    line.retained += sum(kept_minor for _, kept_minor in order["retained"])
    for leg_operator, share_minor in shares(operator, order):
        _line(lines, leg_operator, order["currency"]).share += share_minor


def _booked(operator: str, order: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return (operator, minor units) of what is booked of an order's legs; nothing of a cancelled one."""
    if order["state"] != OrderState.CONFIRMED:
        return []
    return [(leg[0], sum(leg[3])) for leg in order["legs"]] or [(operator, sum(order["prices"]))]


def shares(operator: str, order: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return (operator, minor units) of what each operator has of an order: the price of its legs, and what it retains."""
    return [*_booked(operator, order), *((leg_operator, kept_minor) for leg_operator, kept_minor in order["retained"])]


def _over_all(lines: Iterable[AccountLine]) -> list[str]:
    totals: dict[str, tuple[int, int]] = {}
    for line in lines:
        net, share = totals.get(line.currency, (0, 0))
        totals[line.currency] = (net + line.captured - line.refunded + line.by_hand, share + line.share)
    return [
        f"over all: captured less refunded, and by hand, is {net} {currency}, the operators' shares are {share}"
        for currency, (net, share) in sorted(totals.items())
        if net != share
    ]
