"""Whether the books balance: collects what the ledgers and the provider have, and has it compared (Z15)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from datastore import messages
from datastore.errors import InvalidRequest, UnknownOperator, nearest, shown
from loadbalancer.balancer import Balancer
from loadbalancer.books import Books, Ledger, compare
from loadbalancer.cashier import Cashier
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
        self._balancer.require_admin(request.admin_key)
        provider = self._cashier.provider
        if provider is None:
            raise InvalidRequest("this cluster takes no payments ([payments] in cluster.toml): nothing to compare", field="payments")
        known = self._balancer.catalogue.codes()
        for operator in request.operators:
            if operator not in known:
                raise UnknownOperator(f"no operator {shown(operator)}", operator=shown(operator), nearest=nearest(operator, known))
        deadline_ms = now_ms() + request.deadline_ms
        pause = threading.Event()
        for look in range(LOOKS):
            books, intents = self._look(provider, request.operators or known, not request.operators, deadline_ms)
            if not books.findings or look == LOOKS - 1 or now_ms() + 2_000 > deadline_ms:
                break
            pause.wait(PAUSE_S)
        return messages.AccountsAnswer(
            provider=self._cashier.provider_name,
            lines=books.lines,
            findings=books.findings,
            cases=books.cases,
            intents=intents,
        )

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
