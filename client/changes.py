"""The questions of the Python client about orders that are cancelled or changed. `client.api.Holdfast` has them all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from client.papers import Papers
from datastore import messages


class Changes(Papers):
    """What a client cancels and changes with; `Holdfast` is one."""

    def quote_cancel(
        self, reference: str, token: str, *, legs: Sequence[int] = (), passengers: Sequence[int] = (), full: bool = False
    ) -> messages.QuoteAnswer:
        """Return what cancelling gives back by the fares' conditions: the whole order, or a part of it.

        Args:
            legs, passengers: Counted from 1; of one kind. Passengers are taken off every leg.
            full: The whole price, where a service of the order was taken away.
        """
        request = messages.QuoteCancel(
            reference=reference, token=token, legs=list(legs), passengers=list(passengers), full=full, deadline_ms=self.deadline_ms
        )
        return self._ask("quote_cancel", request, messages.QuoteAnswer)

    def cancel(self, reference: str, token: str, *, quote: str = "", request_id: str = "") -> messages.OrderAnswer:
        """Cancel an order whole, or just what was quoted; `refund` says what comes back in all.

        Raises:
            QuoteExpired: The order has changed since; `fields["quote"]` is what it comes to now.
        """
        request = messages.CancelOrder(
            request_id=request_id or secrets.token_urlsafe(18), reference=reference, token=token, quote=quote, deadline_ms=self.deadline_ms
        )
        return self._ask("cancel", request, messages.OrderAnswer)
