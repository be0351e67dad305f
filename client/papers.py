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
            owner_key=self.owner_key, hold_id=hold_id, passengers=list(passengers)
        )
        return self._ask("price_party", request, messages.PartyPriced)

    def tickets(self, reference: str, token: str) -> messages.TicketsAnswer:
        """Return the signed codes of a booking's tickets, as they are now; `client.ticket_pages` makes a PDF of them."""
        request = messages.GetTickets(reference=reference, token=token)
        return self._ask("tickets", request, messages.TicketsAnswer)

    def ticket_key(self, operator: str) -> str:
        """Return the public key (PEM) with which an operator's tickets are proved without the cluster."""
        request = messages.GetTicketKey(operator=operator)
        return self._ask("ticket_key", request, messages.TicketKey).public_key

    def check_ticket(self, code: str) -> messages.TicketStanding:
        """Ask whether a ticket still stands (`wrong` is empty): not cancelled, not exchanged, at the time that it says.

        Raises:
            InvalidRequest: The code is none, or was not signed by this cluster.
        """
        return self._ask("check_ticket", messages.CheckTicket(code=code), messages.TicketStanding)

    def check_receipt(self, receipt: str) -> messages.ReceiptAnswer:
        """Ask the operator's ledger about a receipt (`OrderAnswer.receipt`): `differences` is empty where it is proved."""
        return self._ask("receipt", messages.CheckReceipt(receipt=receipt), messages.ReceiptAnswer)
