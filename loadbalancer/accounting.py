"""Whether the books balance, and the cases that people close: collects what the ledgers and the provider have (Z15)."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from datastore import commands, messages, wire
from datastore.errors import HoldfastError, InvalidRequest, UnknownOperator, WorldFailure, error_from_data, nearest, shown
from datastore.model import Money, PaymentState
from datastore.rows import PaymentRow, by_hand
from loadbalancer.balancer import Balancer
from loadbalancer.books import Books, Ledger, compare
from loadbalancer.cashier import Cashier
from loadbalancer.identity import ask_digest
from loadbalancer.payments import Intent, PaymentProvider
from loadbalancer.waiting import now_ms

# Sales go on meanwhile: what was finished between two looks agrees at the next.
LOOKS = 4
PAUSE_S = 1.0


class Accounting:
    """The handler of the accounting check."""

    def __init__(self, balancer: Balancer, cashier: Cashier) -> None:
        self._balancer = balancer
        self._cashier = cashier

    def accounts(self, request: messages.Accounts) -> messages.AccountsAnswer:
        """Compare payments with bookings.

        Raises:
            InvalidRequest: This cluster takes no payments. NotAuthorised, UnknownOperator: Nothing was looked at.
        """
        provider, operators = self._allowed(request.admin_key, request.operators)
        deadline_ms = now_ms() + request.deadline_ms
        pause = threading.Event()
        for look in range(LOOKS):
            books, intents = self._look(provider, operators, not request.operators, deadline_ms)
            if not books.findings or look == LOOKS - 1 or now_ms() + 2_000 > deadline_ms:
                break
            pause.wait(PAUSE_S)
        return messages.AccountsAnswer(
            provider=self._cashier.provider_name,
            lines=books.lines,
            findings=books.findings,
            cases=books.cases,
            intents=intents,
            closings=books.closings,
        )

    def cases(self, request: messages.PaymentCases) -> messages.CasesAnswer:
        """List the payments that a person has to look at, or has closed.

        Raises:
            InvalidRequest: This cluster takes no payments. NotAuthorised, UnknownOperator: Nothing was looked at.
        """
        _, operators = self._allowed(request.admin_key, request.operators)
        deadline_ms = now_ms() + request.deadline_ms
        found: list[messages.CaseInfo] = []
        silent: dict[str, str] = {}
        for operator in operators:
            try:
                rows = self._rows(operator, "payments", deadline_ms)
                if request.closed:
                    rows += self._rows(operator, "settled", deadline_ms)
            except WorldFailure as error:
                silent[operator] = error.detail
                continue
            found += [case_info(operator, row) for row in rows if row["case"] or (request.closed and row["closings"])]
        return messages.CasesAnswer(cases=sorted(found, key=lambda case: case.since_ms), partial=silent)

    def close_case(self, request: messages.ClosePaymentCase) -> messages.CaseClosed:
        """Close a case that a person has seen to; the provider is asked once more first.

        Raises:
            InvalidRequest: There is no such open case. PaymentsUnavailable, OutcomeUnknown: The provider does not answer, and only
                what it has just refused is closed. OperatorUnavailable: Some ledger cannot be asked.
        """
        _, operators = self._allowed(request.admin_key, ())
        deadline_ms = now_ms() + request.deadline_ms
        operator, row = self._payment(operators, request.intent, deadline_ms)
        # A repeat of what was done gets its first answer from the partition (Z2), which also says what is no case.
        if row["case"]:
            self._cashier.settle(operator, payment_row(row))
            operator, after = self._payment([operator], request.intent, deadline_ms)
            if not after["case"]:
                return messages.CaseClosed(closed=False, case=case_info(operator, after))
            row = after
        asked = ask_digest("close case", request.intent, request.who, request.why)
        command = commands.CloseCase(request.request_id, asked, request.intent, int(row["state"]), request.who, request.why)
        value = self._balancer.decide(operator, command, deadline_ms)
        return messages.CaseClosed(closed=True, case=case_info(operator, value), lsn=value["lsn"])

    def _allowed(self, admin_key: str, operators: Sequence[str]) -> tuple[PaymentProvider, Sequence[str]]:
        """Return the provider, and which operators are meant."""
        self._balancer.require_admin(admin_key)
        provider = self._cashier.provider
        if provider is None:
            raise InvalidRequest("this cluster takes no payments ([payments] in cluster.toml): nothing to compare", field="payments")
        known = self._balancer.catalogue.codes()
        for operator in operators:
            if operator not in known:
                raise UnknownOperator(f"no operator {shown(operator)}", operator=shown(operator), nearest=nearest(operator, known))
        return provider, operators or known

    def _payment(self, operators: Sequence[str], intent: str, deadline_ms: int) -> tuple[str, dict[str, Any]]:
        """Return whose ledger has a payment, and its row."""
        items = [wire.ReadItem(operator, "payments", {"intents": [intent]}) for operator in operators]
        failure: HoldfastError | None = None
        for operator, result in zip(operators, self._balancer.read_all(items, deadline_ms), strict=True):
            if result.error:
                failure = error_from_data(result.error)
            elif result.value:
                return operator, result.value[0]
        if failure is not None:
            raise failure
        raise InvalidRequest(f"no ledger has a payment {shown(intent)}; list the open cases", field="intent")

    def _look(self, provider: PaymentProvider, operators: Sequence[str], everything: bool, deadline_ms: int) -> tuple[Books, int]:
        # The provider first: what it has, a ledger has asked for before.
        intents: dict[str, Intent] = {}
        page, after = provider.page("")
        intents |= {one.id: one for one in page}
        while after:
            page, after = provider.page(after)
            intents |= {one.id: one for one in page}
        ledgers = []
        for operator in operators:
            orders = self._rows(operator, "orders", deadline_ms)
            settled, unsettled = self._rows(operator, "settled", deadline_ms), self._rows(operator, "payments", deadline_ms)
            ledgers.append(Ledger(operator, orders, [*settled, *unsettled]))
        return compare(ledgers, intents, all_operators=everything), len(intents)

    def _rows(self, operator: str, kind: str, deadline_ms: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self._balancer.read(operator, "accounts", {"of": kind, "after": after}, deadline_ms).value
            found += page["rows"]
            if page["next"] is None:
                return found
            after = page["next"]


DUE = {PaymentState.CAPTURE: "capture", PaymentState.REFUND: "refund", PaymentState.VOIDING: "cancel"}


def case_info(operator: str, row: Mapping[str, Any]) -> messages.CaseInfo:
    """Return a payment's row as people see its case."""
    currency = row["currency"]
    due = DUE.get(PaymentState(row["state"]), "") if row["case"] else ""
    minor = row["amount_minor"]
    if due == "refund":
        minor = row["step_minor"] - row["refunded_minor"] - by_hand(row["closings"])[1]
    closings = [messages.CaseClosing(stamp_ms, who, why, Money(moved, currency)) for stamp_ms, who, why, moved in row["closings"]]
    return messages.CaseInfo(
        operator,
        row["intent"],
        row["hold_id"],
        row["reference"],
        due,
        Money(minor, currency),
        row["since_ms"],
        row["case"],
        closings,
    )


def payment_row(value: Mapping[str, Any]) -> PaymentRow:
    """Return the row that a ledger gave as plain data (`charges.payment_value`)."""
    known = {**value, "state": PaymentState(value["state"]), "closings": tuple((*one,) for one in value["closings"])}
    return PaymentRow(**{name: known[name] for name in PaymentRow.__struct_fields__})
