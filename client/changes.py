"""The questions of the Python client about orders that are cancelled or changed. `client.api.Holdfast` has them all."""

from __future__ import annotations

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
            reference=reference, token=token, legs=list(legs), passengers=list(passengers), full=full
        )
        return self._ask("quote_cancel", request, messages.QuoteAnswer)

    def cancel(self, reference: str, token: str, *, quote: str = "", request_id: str = "") -> messages.OrderAnswer:
        """Cancel an order whole, or just what was quoted; `refund` says what comes back in all.

        Raises:
            QuoteExpired: The order has changed since; `fields["quote"]` is what it comes to now.
        """
        request = messages.CancelOrder(
            request_id=request_id, reference=reference, token=token, quote=quote
        )
        return self._ask("cancel", request, messages.OrderAnswer)

    def quote_change(
        self,
        reference: str,
        token: str,
        *,
        leg: int = 0,
        swaps: Sequence[tuple[str, str]] = (),
        service_id: str = "",
        seats: Sequence[str] = (),
    ) -> messages.QuoteAnswer:
        """Return what a change of one leg costs or gives back; nothing is held.

        Args:
            leg: Counted from 1; 0 is the only one, or the one that has the seats.
            swaps: (seat that is given up, seat that is taken) on that leg.
            service_id, seats: Another service of the same operator instead, with these seats or the best that are left.
        """
        request = messages.QuoteChange(
            reference=reference,
            token=token,
            leg=leg,
            swaps=[messages.SeatSwap(old, new) for old, new in swaps],
            service_id=service_id,
            seats=self.listed(seats),
        )
        return self._ask("quote_change", request, messages.QuoteAnswer)

    def change(
        self, reference: str, token: str, quote: str, *, payment_method: str = "", request_id: str = ""
    ) -> messages.OrderAnswer:
        """Change an order as it was quoted: all of it, or nothing.

        Args:
            payment_method: The card that pays the difference, where there is one to pay.
        Raises:
            QuoteExpired: The order or a price is not what it was. SeatUnavailable: Somebody was faster.
        """
        request = messages.ChangeOrder(
            request_id=request_id,
            reference=reference,
            token=token,
            quote=quote,
            payment_method=payment_method,
        )
        return self._ask("change", request, messages.OrderAnswer)

    # --- a service was taken away or moved ------------------------------------------------------------------------

    def alternatives(self, reference: str, token: str, *, leg: int = 0, most: int = 3, request_id: str = "") -> messages.AlternativesAnswer:
        """Search for other ways in the place of a leg whose service was taken away, and hold them at no charge.

        Each one's `quote` is what `change` takes; those that are not taken end by themselves, or by `release`.
        """
        request = messages.FindAlternatives(
            request_id=request_id,
            reference=reference,
            token=token,
            leg=leg,
            most=most,
        )
        return self._ask("alternatives", request, messages.AlternativesAnswer)

    def keep(self, reference: str, token: str, *, request_id: str = "") -> messages.OrderAnswer:
        """Keep an order as it is, though a service of it was moved."""
        request = messages.KeepOrder(
            request_id=request_id, reference=reference, token=token
        )
        return self._ask("keep", request, messages.OrderAnswer)

    def affected(self, operator_key: str, service_id: str) -> messages.AffectedAnswer:
        """Return the bookings of a service, and whose travellers are asked what now."""
        request = messages.Affected(operator_key=operator_key, service_id=service_id)
        return self._ask("affected", request, messages.AffectedAnswer)
