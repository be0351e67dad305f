"""Orders: confirm a hold, look bookings up."""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

from datastore import commands, messages, wire
from datastore.edge import Peer
from datastore.errors import HoldfastError, HoldNotYours, InvalidRequest, RequestInProgress, UnknownOrder, WorldFailure
from datastore.model import Passenger, is_basket
from loadbalancer.answers import order_answer, service_info
from loadbalancer.balancer import Balancer, failed, wall_ms
from loadbalancer.identity import ask_digest, manage_token, operator_of_hold, owner_of, token_digest
from loadbalancer.itineraries import Itineraries
from loadbalancer.limits import Buckets
from loadbalancer.names import is_among
from loadbalancer.parties import check_people
from loadbalancer.reference import SERIALS, make_reference, normalised, slot_of, slot_of_operator
from loadbalancer.seating import seat_party
from loadbalancer.travellers import order_record, record_digest, travelling
from loadbalancer.waiting import now_ms

REFERENCES_PROPOSED = 4


class Booking:
    """The handlers of orders."""

    def __init__(self, balancer: Balancer, itineraries: Itineraries) -> None:
        """Serve orders; `itineraries` sells what is held over several operators."""
        self._balancer = balancer
        self._itineraries = itineraries
        config = balancer.config
        self._tries_of_reference = Buckets(config.lookup_per_minute, "of this booking")
        self._tries_of_peer = Buckets(config.lookup_per_minute_peer, "from this address")

    def confirm(self, request: messages.ConfirmHold, deadline_ms: int, intent: str = "") -> messages.OrderAnswer:
        """Turn a hold into an order (B4, B7).

        Args:
            deadline_ms: Monotonic.
            intent: What pays for it (Q4), "" where nothing has to.
        """
        operator = operator_of_hold(request.hold_id)
        self._balancer.catalogue.operator(operator)
        check_people(request.passengers)
        if is_basket(request.hold_id):
            return self._confirm_trip(request, deadline_ms, intent)
        owner = owner_of(request.owner_key)
        hold = self._balancer.read(operator, "hold", {"hold_id": request.hold_id}, deadline_ms).value
        if not hmac.compare_digest(hold["owner"], owner):
            # Before anything is said of its seats: they are nobody else's business.
            raise HoldNotYours(f"hold {request.hold_id} belongs to somebody else", hold_id=request.hold_id)
        passengers, fares, laps, lap_fares = seat_party(self._balancer, request.passengers, hold)
        token = manage_token(request.owner_key, request.hold_id)
        side = order_record(token, passengers)
        digest = record_digest(side)
        asked = ask_digest("confirm", owner, request.hold_id, digest)
        while True:
            references = _references(operator)
            named = (request.request_id, asked, request.hold_id, owner, references)
            command = wire.Confirm(*named, token_digest(token), digest, intent, *_only(fares), laps, *_only(lap_fares))
            try:
                value, position = self._balancer.decide_at(operator, command, deadline_ms, {digest: side})
                return self._sold(operator, value, position, passengers, token, deadline_ms)
            except RequestInProgress as error:
                # All of them were taken: with 14 million in a slot, that happens to nobody, but it must not end a sale.
                if "references" not in error.fields or now_ms() >= deadline_ms:
                    raise

    def _confirm_trip(self, request: messages.ConfirmHold, deadline_ms: int, intent: str) -> messages.OrderAnswer:
        while True:
            try:
                references = _references(operator_of_hold(request.hold_id))
                sold = self._itineraries.confirm(request, references, deadline_ms, intent=intent)
                return self._sold(sold.anchor, sold.value, sold.position, sold.passengers, sold.token, deadline_ms)
            except RequestInProgress as error:
                if "references" not in error.fields or now_ms() >= deadline_ms:
                    raise

    def _sold(
        self,
        operator: str,
        value: dict[str, Any],
        position: commands.Evidence,
        passengers: Sequence[Passenger],
        token: str,
        deadline_ms: int,
    ) -> messages.OrderAnswer:
        """Return the answer to a sale with its receipt: the entry just committed, or, for a repeat, the one that it asks for anew."""
        value = {**value, "evidence": position}
        if position[1] != value["made_lsn"]:
            # It is sold whatever comes of this: without an answer the receipt is left out and `order` gives it.
            with contextlib.suppress(HoldfastError):
                for _, found in self._find([value["reference"]], deadline_ms).values:
                    value["evidence"] = found.get("evidence")
        return self.answer(operator, value, passengers, token=token)

    def order(self, request: messages.GetOrder, peer: Peer) -> messages.OrderAnswer:
        """Return one booking: whole by its token, reduced by a passenger's surname.

        An unknown reference, a wrong surname and a wrong token give the same answer after the same work.
        """
        deadline_ms = now_ms() + request.deadline_ms
        if not request.token and not request.surname.strip():
            raise InvalidRequest("a booking is shown to whoever has its token or a passenger's surname", field="surname")
        reference = normalised(request.reference)
        if not request.token:
            self._tries_of_reference.take(reference, now_ms())
            self._tries_of_peer.take(peer.address.rpartition(":")[0], now_ms())
        found = self._find([reference], deadline_ms)
        for operator, value in found.values:
            passengers = travelling(value["record"], value)
            if request.token:
                if hmac.compare_digest(value["token_digest"], token_digest(request.token)):
                    return self.answer(operator, value, passengers)
            elif is_among(request.surname, [one.surname for one in passengers]):
                return self.answer(operator, value, passengers, reduced=True)
        raise found.trouble or _unknown(reference)

    def owned(self, word: str, token: str, deadline_ms: int) -> messages.OrderAnswer:
        """Return the whole booking that this token shows. Raises as `own` does."""
        operator, value = self.own(word, token, deadline_ms)
        return self.answer(operator, value, travelling(value["record"], value))

    def of_operator(self, operator: str, reference: str, deadline_ms: int) -> messages.OrderAnswer | None:
        """Return the booking that this operator decides, None where it has none. Not to be shown as it is: nobody's right was asked about.

        Raises:
            WorldFailure: An operator that may have it does not answer.
        """
        found = self._find([normalised(reference)], deadline_ms)
        for code, value in found.values:
            if code == operator:
                return self.answer(operator, value, travelling(value["record"], value))
        if found.trouble is not None:
            raise found.trouble
        return None

    def orders(self, request: messages.GetOrders) -> messages.OrdersAnswer:
        """Return the bookings whose tokens the caller has."""
        deadline_ms = now_ms() + request.deadline_ms
        digests: dict[str, set[bytes]] = {}
        for word, token in request.tokens:
            digests.setdefault(normalised(word), set()).add(token_digest(token))
        found = self._find(list(digests), deadline_ms)
        orders = [
            self.answer(operator, value, travelling(value["record"], value))
            for operator, value in found.values
            if any(hmac.compare_digest(value["token_digest"], digest) for digest in digests.get(value["reference"], ()))
        ]
        return messages.OrdersAnswer(orders=sorted(orders, key=lambda order: (order.created_ms, order.reference)), partial=found.partial)

    def own(self, word: str, token: str, deadline_ms: int) -> tuple[str, dict[str, Any]]:
        """Return (operator, order) of the booking that this token changes.

        Raises:
            UnknownOrder: There is none, or the token is another's; WorldFailure: An operator that may have it does not answer.
        """
        reference, digest = normalised(word), token_digest(token)
        found = self._find([reference], deadline_ms)
        for operator, value in found.values:
            if hmac.compare_digest(value["token_digest"], digest):
                return operator, value
        raise found.trouble or _unknown(reference)

    def _find(self, references: Sequence[str], deadline_ms: int) -> _Found:
        """Return the orders of these references from every operator of their slots, in one batch."""
        wanted: dict[int, list[str]] = {}
        for reference in references:
            slot = slot_of(reference)
            if slot is not None:
                wanted.setdefault(slot, []).append(reference)
        items = [
            wire.ReadItem(operator, "orders", {"references": wanted[slot], "evidence": len(references) == 1})
            for operator in self._balancer.catalogue.codes()
            if (slot := slot_of_operator(operator)) in wanted
        ]
        found = _Found()
        for result in self._balancer.read_all(items, deadline_ms):
            error = failed(result)
            if error is not None:
                # Not "no such booking": an operator that may have it did not answer.
                found.partial[result.operator] = error.detail
                found.trouble = found.trouble or (error if isinstance(error, WorldFailure) else None)
            else:
                found.values += [(result.operator, value) for value in result.value]
        return found

    def answer(
        self, operator: str, value: dict[str, Any], passengers: Sequence[Passenger], *, token: str = "", reduced: bool = False
    ) -> messages.OrderAnswer:
        """Return an order as callers read it."""
        try:
            view, service, layout = self._balancer.catalogue.find(value["service_id"])
            info = service_info(view, service, layout, wall_ms())
        except HoldfastError:
            info = None  # The timetable dropped the service since; the booking stays.
        answer = order_answer(value, operator, info, passengers, token=token, reduced=reduced)
        for leg in answer.legs:
            with contextlib.suppress(HoldfastError):
                leg.service = service_info(*self._balancer.catalogue.find(leg.service_id), wall_ms())
        return answer


class _Found:
    """Orders found: (operator, value) pairs; who could not be asked; the first failure among them."""

    def __init__(self) -> None:
        self.values: list[tuple[str, dict[str, Any]]] = []
        self.partial: dict[str, str] = {}
        self.trouble: WorldFailure | None = None


def _unknown(reference: str) -> UnknownOrder:
    return UnknownOrder(f"no booking {reference} with that surname or token")


def _references(operator: str) -> tuple[str, ...]:
    """Return booking references to choose from, each leading back to the operator."""
    slot = slot_of_operator(operator)
    return tuple(make_reference(slot, secrets.randbelow(SERIALS)) for _ in range(REFERENCES_PROPOSED))


def _only(legs: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...]]:
    """Return what stands beside the seats of the only leg, () where nothing does."""
    return (legs[0] if legs else (),)
