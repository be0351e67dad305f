"""The questions of the Python client about a booking's papers: what a party pays, receipts. `client.api.Holdfast` has them all."""

from __future__ import annotations

from collections.abc import Sequence

from client.payments import Payments
from datastore import messages
from datastore.model import Passenger


class Papers(Payments):
    """Receipts, and prices by passengers; `Holdfast` is one."""

    def price_party(self, hold_id: str, passengers: Sequence[Passenger]) -> messages.PartyPriced:
        """Return what these passengers would pay for the seats of a hold; nothing is booked.

        Raises:
            InvalidRequest: They may not sit so: ages, an infant without an adult, a child at an exit (`fields["nearest"]`: where).
        """
        request = messages.PriceParty(
            owner_key=self.owner_key, hold_id=hold_id, passengers=list(passengers), deadline_ms=self.deadline_ms
        )
        return self._ask("price_party", request, messages.PartyPriced)

    def check_receipt(self, receipt: str) -> messages.ReceiptAnswer:
        """Ask the operator's ledger about a receipt (`OrderAnswer.receipt`): `differences` is empty where it is proved."""
        return self._ask("receipt", messages.CheckReceipt(receipt=receipt, deadline_ms=self.deadline_ms), messages.ReceiptAnswer)
