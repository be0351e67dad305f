"""Confirming what has to be paid for, and what became of a payment: the handlers (Q1-Q4, Q7)."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from datastore import messages, wire
from datastore.errors import AlreadyConfirmed, HoldExpired, HoldfastError, HoldNotYours, InvalidRequest, Refusal
from datastore.model import Money, is_basket
from loadbalancer import charging
from loadbalancer.answers import fare_parts, leg_info
from loadbalancer.balancer import Balancer
from loadbalancer.booking import Booking
from loadbalancer.cashier import Cashier, is_late
from loadbalancer.identity import operator_of_hold, owner_of
from loadbalancer.itineraries import Itineraries
from loadbalancer.parties import check_people
from loadbalancer.seating import seat_party
from loadbalancer.waiting import now_ms


class Paying:
    """The handlers of paid bookings."""

    def __init__(self, balancer: Balancer, booking: Booking, itineraries: Itineraries, cashier: Cashier) -> None:
        self._balancer = balancer
        self._booking = booking
        self._itineraries = itineraries
        self._cashier = cashier

    def confirm(self, request: messages.ConfirmHold) -> messages.OrderAnswer:
        """Turn a hold into an order; where payments are taken, its price is set aside first and captured afterwards."""
        deadline_ms = now_ms() + request.deadline_ms
        if self._cashier.provider is None:
            if request.payment_method:
                raise InvalidRequest("this cluster takes no payments: confirm without a card", field="payment_method")
            return self._booking.confirm(request, deadline_ms)
        check_people(request.passengers)
        hold = self._hold(request.hold_id, owner_of(request.owner_key), deadline_ms)
        fares = seat_party(self._balancer, request.passengers, hold).fares
        intent = hold["intent"]
        if charging.is_open(hold):
            intent = self._paid(request, hold, deadline_ms, fares)
        try:
            return self._booking.confirm(request, deadline_ms, intent)
        except HoldExpired as error:
            if not intent or not is_late(error):
                raise
            return self._late(request, intent, error, deadline_ms)

    def _paid(self, request: messages.ConfirmHold, hold: Mapping[str, Any], deadline_ms: int, fares: charging.Fares) -> str:
        """Have an open hold's price set aside; return the intent, "" where nothing is to be paid."""
        try:
            holds = self._itineraries.proof(hold, deadline_ms) if is_basket(request.hold_id) else ()
            return self._cashier.authorised(hold, request.payment_method, request.request_id, holds, deadline_ms, fares)
        except AlreadyConfirmed:
            # Sold since it was read. If that was an earlier try of this request, the sale below gives it that answer again.
            return str(hold["intent"])

    def price_party(self, request: messages.PriceParty) -> messages.PartyPriced:
        """Say what these passengers would pay for a hold's seats."""
        check_people(request.passengers)
        hold = self._hold(request.hold_id, owner_of(request.owner_key), now_ms() + request.deadline_ms)
        arranged = seat_party(self._balancer, request.passengers, hold)
        legs = hold.get("legs") or [
            [operator_of_hold(request.hold_id), hold["service_id"], hold["seats"], hold["prices"], hold["refundable_percent"]]
        ]
        currency = hold["currency"]
        laps = arranged.lap_fares or ((),) * len(legs)
        fares = arranged.fares or [leg[3] for leg in legs]
        priced = [[*leg[:3], own, leg[4], lap] for leg, own, lap in zip(legs, fares, laps, strict=True)]
        return messages.PartyPriced(
            hold_id=request.hold_id,
            passengers=arranged.passengers,
            legs=[leg_info(leg, currency) for leg in priced],
            total=Money(charging.price_of(hold, arranged.fares), currency),
            price_parts=fare_parts(priced, arranged.passengers, currency),
        )

    def _hold(self, hold_id: str, owner: str, deadline_ms: int) -> Mapping[str, Any]:
        """Return the owner's hold, of one service or of a trip, with its payment's intent."""
        if is_basket(hold_id):
            return self._itineraries.basket(hold_id, owner, deadline_ms)
        operator = operator_of_hold(hold_id)
        self._balancer.catalogue.operator(operator)
        hold: dict[str, Any] = self._balancer.read(operator, "hold", {"hold_id": hold_id}, deadline_ms).value
        if not hmac.compare_digest(hold["owner"], owner):
            raise HoldNotYours(f"hold {hold_id} belongs to somebody else", hold_id=hold_id)
        return hold

    def _late(self, request: messages.ConfirmHold, intent: str, late: HoldExpired, deadline_ms: int) -> messages.OrderAnswer:
        """Q7: the card was good, but the hold's time was over: the same seats once more if they are free, else nothing is charged.

        Raises:
            HoldExpired: They are not, or the payment is being given back already.
        """
        owner, held = owner_of(request.owner_key), ""
        try:
            if not self._cashier.is_set_aside(intent, deadline_ms):
                raise late
            held = self._held_again(request, intent, deadline_ms)
            hold = self._itineraries.basket(held, owner, deadline_ms)
            if charging.is_open(hold):
                fares = seat_party(self._balancer, request.passengers, hold).fares
                self._cashier.adopt(hold, intent, self._itineraries.proof(hold, deadline_ms), deadline_ms, fares)
            again_id = charging.again_request_id(request.request_id, "sale")
            again = msgspec.structs.replace(request, hold_id=held, request_id=again_id)
            return self._booking.confirm(again, deadline_ms, intent)
        except AlreadyConfirmed:
            raise  # By an earlier request of the same owner's.
        except Refusal as error:
            if held:
                with contextlib.suppress(HoldfastError):  # It ends by itself if this does not reach it.
                    self._balancer.decide(operator_of_hold(held), wire.Release("", b"", held, owner), now_ms() + 1_000)
            detail = f"{late.detail}; nothing is charged, what was set aside is given back"
            raise HoldExpired(detail, request_id=request.request_id, **late.fields) from error

    def _held_again(self, request: messages.ConfirmHold, intent: str, deadline_ms: int) -> str:
        """Return the id of the hold that has the same seats once more: that of an earlier try, or a new one."""
        operator = operator_of_hold(request.hold_id)
        for row in self._balancer.read(operator, "payments", {"intents": [intent]}, deadline_ms).value:
            if row["hold_id"] != request.hold_id:
                return str(row["hold_id"])
        renewal = messages.RenewHold(
            request_id=charging.again_request_id(request.request_id, "hold"),
            owner_key=request.owner_key,
            hold_id=request.hold_id,
            deadline_ms=max(10, deadline_ms - now_ms()),
        )
        return self._itineraries.renew(renewal).hold_id

    def transaction(self, request: messages.GetTransaction) -> messages.TransactionAnswer:
        """Say what became of a payment."""
        deadline_ms = now_ms() + request.deadline_ms
        if bool(request.hold_id) == bool(request.reference):
            raise InvalidRequest("name a hold, or a booking with its token", field="hold_id")
        if request.hold_id:
            operator = operator_of_hold(request.hold_id)
            value = self._hold(request.hold_id, owner_of(request.owner_key), deadline_ms)
        else:
            operator, value = self._booking.own(request.reference, request.token, deadline_ms)
        intent = value["intent"]
        intents = list(value.get("intents") or ([intent] if intent else []))  # Of a booking also those of its changes.
        rows = self._balancer.read(operator, "payments", {"intents": intents}, deadline_ms).value if intents else []
        found = {row["intent"]: row for row in rows}
        changes = [self._change(found[one]) for one in intents if one != intent and one in found]
        row = found.get(intent)
        if row is None:
            return messages.TransactionAnswer(hold_id=value["hold_id"], operator=operator, state="none", changes=changes)
        currency = row["currency"]
        return messages.TransactionAnswer(
            hold_id=row["hold_id"],
            operator=operator,
            state=charging.word_of(row),
            intent=intent,
            reference=row["reference"],
            amount=Money(row["amount_minor"], currency),
            captured=Money(row["captured_minor"], currency),
            refunded=Money(row["refunded_minor"], currency),
            refund=Money(row["refund_minor"], currency),
            provider_state=self._cashier.status_of(intent),
            case=row["case"],
            changes=changes,
        )

    def _change(self, row: dict[str, Any]) -> messages.ChangePayment:
        currency, intent = row["currency"], row["intent"]
        amount, captured, refunded = (Money(row[name], currency) for name in ("amount_minor", "captured_minor", "refunded_minor"))
        return messages.ChangePayment(
            intent, charging.word_of(row), amount, captured, refunded, self._cashier.status_of(intent), row["case"]
        )
