"""Orders that stand are changed: cancelled whole or in part, by a quote first (B8, B11). The handlers."""

from __future__ import annotations

from typing import Any

from datastore import commands, conditions, messages, wire
from datastore.errors import AlreadyCancelled, HoldfastError, QuoteExpired, ServiceClosed
from datastore.model import Leg, OrderState
from loadbalancer import quotes
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.booking import Booking
from loadbalancer.identity import ask_digest, token_digest
from loadbalancer.itineraries import Itineraries
from loadbalancer.quotes import Quote
from loadbalancer.reference import normalised
from loadbalancer.travellers import travelling
from loadbalancer.waiting import now_ms


class Changing:
    """The handlers of cancellations."""

    def __init__(self, balancer: Balancer, booking: Booking, itineraries: Itineraries) -> None:
        self._balancer = balancer
        self._booking = booking
        self._itineraries = itineraries

    def quote_cancel(self, request: messages.QuoteCancel) -> messages.QuoteAnswer:
        """Say what cancelling gives back, by leg and passenger."""
        deadline_ms = now_ms() + request.deadline_ms
        operator, value = self.standing(request.reference, request.token, deadline_ms)
        places, positions = [number - 1 for number in request.legs], [number - 1 for number in request.passengers]
        quote = quotes.cancelling(value, operator, places, positions, full=request.full)
        for place, _ in quote.cuts if not quote.full else ():
            self.check_not_gone(conditions.legs_of_order(value, operator)[place])
        return quotes.quote_answer(quote, value, operator, travelling(value["record"], value))

    def cancel(self, request: messages.CancelOrder) -> messages.OrderAnswer:
        """Cancel a booking (B8), or what of it was quoted (B11).

        Raises:
            QuoteExpired: The booking has changed since; `fields["quote"]` is what it comes to now.
        """
        deadline_ms = now_ms() + request.deadline_ms
        reference, digest = normalised(request.reference), token_digest(request.token)
        operator, value = self._booking.own(reference, request.token, deadline_ms)
        if request.quote:
            quote = quotes.quote_of(request.quote, reference, is_change=False)
            asked = ask_digest("cancel", reference, digest, request.quote)
            command: wire.AnyCommand = _amend(request.request_id, asked, digest, quote)
        else:
            asked = ask_digest("cancel", reference, digest)
            command = wire.Cancel(request.request_id, asked, reference, digest)
        try:
            changed = self._balancer.decide(operator, command, deadline_ms)
        except QuoteExpired as error:
            raise self._requoted(error, operator, request, deadline_ms) from error
        return self.followed(operator, value, changed)

    def _requoted(self, error: QuoteExpired, operator: str, request: messages.CancelOrder, deadline_ms: int) -> HoldfastError:
        """Return the refusal with what cancelling the whole comes to now, where that was wanted and can be said."""
        try:
            _, value = self._booking.own(request.reference, request.token, deadline_ms)
            old = quotes.quote_of(request.quote, value["reference"], is_change=False) if request.quote else None
            # What was "passenger 2" may be somebody else by now: only the whole is quoted anew.
            if old is None or not old.is_whole:
                return error
            new = quotes.cancelling(value, operator, (), (), full=old.full)
        except HoldfastError:
            return error
        error.fields["quote"], error.fields["refund_minor"] = quotes.quote_text(new), new.refund_minor
        return error

    def followed(self, operator: str, value: dict[str, Any], changed: dict[str, Any]) -> messages.OrderAnswer:
        """Have the other operators of a changed order follow, and return it as callers read it.

        Args:
            value: The order before; its names and its receipt stay.
        """
        for hold_id in changed["hold_ids"]:
            self._itineraries.reconciler.follow(hold_id)
        changed = {**changed, "evidence": value.get("evidence")}
        return self._booking.answer(operator, changed, travelling(value["record"], changed))

    def own(self, reference: str, token: str, deadline_ms: int) -> tuple[str, dict[str, Any]]:
        """Return (operator, order) of the booking that this token changes."""
        return self._booking.own(reference, token, deadline_ms)

    def standing(self, reference: str, token: str, deadline_ms: int) -> tuple[str, dict[str, Any]]:
        """As `own`, of a booking that stands.

        Raises:
            AlreadyCancelled: It does not.
        """
        operator, value = self.own(reference, token, deadline_ms)
        if value["state"] != OrderState.CONFIRMED:
            raise AlreadyCancelled(f"booking {value['reference']} is cancelled", reference=value["reference"])
        return operator, value

    def check_not_gone(self, leg: Leg) -> None:
        """Refuse a leg that has departed: other operators' departures stand in the views alone."""
        try:
            _, service, _ = self._balancer.catalogue.find(leg.service_id)
        except HoldfastError:
            return  # The timetable dropped it since.
        if service.departs_ms <= wall_ms():
            raise ServiceClosed(f"{service.service_id} has departed", service_id=service.service_id, state="departed")


def _amend(request_id: str, asked: bytes, digest: bytes, quote: Quote) -> commands.Amend:
    return commands.Amend(request_id, asked, quote.reference, digest, quote.expects, quote.cuts, quote.refund_minor, quote.full, quote.what)
