"""The questions of the Python client about payments. `client.api.Holdfast` has them all."""

from __future__ import annotations

from collections.abc import Sequence

from client.searches import Searches
from datastore import messages


class Payments(Searches):
    """What a client asks about payments with; `Holdfast` is one."""

    owner_key: str

    def query_transaction(self, hold_id: str = "", *, reference: str = "", token: str = "") -> messages.TransactionAnswer:
        """Return what became of the payment of a hold of one's own, or of a booking by its reference and manage token."""
        request = messages.GetTransaction(
            owner_key=self.owner_key, hold_id=hold_id, reference=reference, token=token
        )
        return self._ask("transaction", request, messages.TransactionAnswer)

    def payment_cases(self, admin_key: str, operators: Sequence[str] = (), *, closed: bool = False) -> messages.CasesAnswer:
        """Return the payments that a person has to look at, the oldest first; with `closed`, also those that people closed."""
        request = messages.PaymentCases(admin_key=admin_key, operators=list(operators), closed=closed)
        return self._ask("payment_cases", request, messages.CasesAnswer)

    def close_payment_case(self, admin_key: str, intent: str, who: str, why: str, *, request_id: str = "") -> messages.CaseClosed:
        """Say that a person has seen to a case without the provider, which is asked once more first.

        Args:
            who, why: Stay in the ledger for ever: no traveller's name belongs there.
        Raises:
            InvalidRequest: There is no such open case.
            PaymentsUnavailable, OutcomeUnknown: The provider does not answer, and only what it has just refused is closed.
        """
        request = messages.ClosePaymentCase(
            request_id=request_id,
            admin_key=admin_key,
            intent=intent,
            who=who,
            why=why,
        )
        return self._ask("close_payment_case", request, messages.CaseClosed)

    def accounts(self, admin_key: str, operators: Sequence[str] = ()) -> messages.AccountsAnswer:
        """Compare what was paid with what is booked, from the ledgers and the provider's own list."""
        request = messages.Accounts(admin_key=admin_key, operators=list(operators))
        return self._ask("accounts", request, messages.AccountsAnswer)
