"""Other seats or another service for a leg of an order that stands (B11, Z10). The handlers.

The new seats are held first, for the order's owner; the difference is paid for while they are (Q1-Q3); one entry at the order's anchor
then books the new and gives up the old. Whatever goes wrong before it leaves the order as it is: what was held ends by itself, and
what was set aside for it is given back (Q6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from datastore import commands, conditions, messages, wire
from datastore.errors import (
    AlreadyConfirmed,
    ConnectionTooShort,
    HoldExpired,
    HoldfastError,
    InvalidRequest,
    NoAdjacentBlock,
    PaymentDeclined,
    QuoteExpired,
    SeatUnavailable,
    ServiceClosed,
    shown,
)
from datastore.model import BasketState, Leg, Money, OrderState, Service
from datastore.passengers import seated
from loadbalancer import charging, quotes
from loadbalancer.balancer import Balancer
from loadbalancer.cashier import Cashier
from loadbalancer.changing import Changing
from loadbalancer.identity import ask_digest, token_digest
from loadbalancer.itineraries import Itineraries
from loadbalancer.itinerary import Plan
from loadbalancer.offers import check_connections
from loadbalancer.parties import LegSeats, arrange
from loadbalancer.quotes import Quote
from loadbalancer.reconciling import leg_digests
from loadbalancer.reference import normalised
from loadbalancer.seatchoice import choose
from loadbalancer.selling import seat_offer
from loadbalancer.travellers import travelling
from loadbalancer.tries import earlier_change
from loadbalancer.view import Sale
from loadbalancer.waiting import now_ms

GIVING_UP_MS = 1_000


class Rebooking:
    """The handlers of changes."""

    def __init__(self, balancer: Balancer, changing: Changing, itineraries: Itineraries, cashier: Cashier) -> None:
        self._balancer = balancer
        self._changing = changing
        self._itineraries = itineraries
        self._cashier = cashier

    # --- what it comes to -------------------------------------------------------------------------------------------

    def quote_change(self, request: messages.QuoteChange) -> messages.QuoteAnswer:
        """Say what other seats, or another service of the same operator, cost; nothing is held."""
        deadline_ms = now_ms() + request.deadline_ms
        operator, value = self._changing.standing(request.reference, request.token, deadline_ms)
        legs = conditions.legs_of_order(value, operator)
        if bool(request.swaps) == bool(request.service_id):
            raise InvalidRequest("say which seats are changed, or which service is taken instead, one of both", field="swaps")
        if request.swaps:
            place = _place_of_seats(legs, request.leg, [swap.old for swap in request.swaps])
            sale = self._balancer.sale(legs[place].service_id, deadline_ms)
            positions, chosen = _swapped(sale, legs[place], request.swaps)
            seats: Sequence[str] = chosen
        else:
            place = place_of(legs, request.leg)
            positions = list(range(len(legs[place].seats)))
            sale, seats = self._other_service(legs, place, request.service_id, request.seats, deadline_ms)
        self._changing.check_not_gone(legs[place])
        self._check_free(sale, seats)
        quote = quotes.changing(value, operator, place, positions, [self.priced(value, legs[place], positions, sale, seats)])
        return quotes.quote_answer(quote, value, operator, travelling(value["record"], value))

    def _other_service(
        self, legs: Sequence[Leg], place: int, service_id: str, words: Sequence[str], deadline_ms: int
    ) -> tuple[Sale, Sequence[str]]:
        leg = legs[place]
        sale = self._balancer.sale(service_id, deadline_ms)
        if sale.operator != leg.operator or service_id == leg.service_id:
            raise InvalidRequest(f"{shown(service_id)} is not another service of {leg.operator}", field="service_id")
        with contextlib.suppress(HoldfastError):  # The timetable may have dropped the old one since.
            _, old, _ = self._balancer.catalogue.find(leg.service_id)
            if _ends(old) != _ends(sale.service):
                here, there = ("-".join(_ends(one)) for one in (old, sale.service))
                raise InvalidRequest(f"{service_id} goes {there}, not {here}", field="service_id")
        self.check_order(legs, place, [sale.service], deadline_ms)
        party = len(leg.seats)
        if words:
            seats = [seat_offer(sale, word).seat_id for word in words]
            if len(seats) != party:
                raise InvalidRequest(f"{party} travel, and {len(seats)} seats were named", field="seats")
            return sale, seats
        return sale, self._best(sale, leg, party)

    def _best(self, sale: Sale, leg: Leg, party: int) -> Sequence[str]:
        """Return the best seats that the view has left, in the cabin that the party has now if there is such a cabin."""
        service_id = sale.service.service_id
        taken = set(self._balancer.catalogue.operators[sale.operator].taken.get(service_id) or ())
        with contextlib.suppress(HoldfastError):
            _, _, layout = self._balancer.catalogue.find(leg.service_id)
            seat = layout.by_id.get(leg.seats[0])
            if seat is not None and seat.cabin in sale.layout.cabins:
                seats = choose(sale.layout, taken, party, cabin=seat.cabin, together=False).seats
                if seats:
                    return seats
        seats = choose(sale.layout, taken, party, cabin="", together=False).seats
        if not seats:
            raise NoAdjacentBlock(f"{service_id} has no {party} seats left", service_id=service_id)
        return seats

    def _check_free(self, sale: Sale, seats: Sequence[str]) -> None:
        """Refuse seats that the view has as taken already: nobody should agree to a price for them."""
        if len(set(seats)) < len(seats):
            raise InvalidRequest("a seat was named twice", field="seats")
        service_id = sale.service.service_id
        taken = self._balancer.catalogue.operators[sale.operator].taken.get(service_id) or {}
        gone = [{"seat": seat, "state": "held"} for seat in seats if seat in taken]
        if gone:
            named = ", ".join(one["seat"] for one in gone)
            raise SeatUnavailable(f"{service_id}: {named} is taken", service_id=service_id, seats=gone)

    def priced(self, value: dict[str, Any], leg: Leg, positions: Sequence[int], sale: Sale, seats: Sequence[str]) -> Leg:
        """Return seats of a service at what those who move there pay now, each by its type.

        Args:
            leg: The order's, of which the seats at `positions` are replaced.
        Raises:
            InvalidRequest: Somebody of the party may not sit so, or is of another age then (`parties.arrange`).
        """
        plain = leg_of(sale, seats)
        people = travelling(value["record"], value)
        if len(seated(people)) != len(leg.seats):
            return plain  # Erased: nothing is known of them.
        whole = list(leg.seats) if sale.service.service_id == leg.service_id else [""] * len(leg.seats)
        for position, seat in zip(positions, seats, strict=True):
            whole[position] = seat
        adults = [sale.offers[seat].price_minor for seat in whole]
        view = self._balancer.catalogue.operators[sale.operator]
        kind = view.row.kind if view.row is not None else ""
        taken = set(view.taken.get(plain.service_id) or ())
        arranged = arrange(people, [LegSeats(sale, kind, plain.service_id, whole, adults, taken)])
        prices = tuple(arranged.fares[0][position] for position in positions) if arranged.fares else plain.prices
        laps = tuple(arranged.lap_fares[0][position] for position in positions) if arranged.lap_fares else ()
        return Leg(plain.operator, plain.service_id, plain.seats, prices, plain.refundable_percent, laps if any(laps) else ())

    def check_order(self, legs: Sequence[Leg], place: int, new: Sequence[Service], deadline_ms: int) -> None:
        """Check that what is taken fits between the legs before and after: in time, and with time to change where one follows on.

        Raises:
            ConnectionTooShort: It does not.
        """
        for other, before in ((place - 1, True), (place + 1, False)):
            if not 0 <= other < len(legs):
                continue
            try:
                _, service, _ = self._balancer.catalogue.find(legs[other].service_id)
            except HoldfastError:
                continue
            first, second = (service, new[0]) if before else (new[-1], service)
            if second.departs_ms < first.arrives_ms:
                raise ConnectionTooShort(f"{second.service_id} leaves before {first.service_id} has arrived", field="service_id")
            if first.schedule.destination and first.schedule.destination == second.schedule.origin:
                check_connections(self._balancer.finder.network(deadline_ms), [first, second])

    # --- doing it ---------------------------------------------------------------------------------------------------

    def change(self, request: messages.ChangeOrder) -> messages.OrderAnswer:
        """Change a booking as it was quoted: the new seats, the difference and the old seats, all or nothing.

        Raises:
            QuoteExpired: The booking or a price is not what it was. SeatUnavailable: Somebody was faster.
            PaymentDeclined, PaymentActionRequired, PaymentsUnavailable: The difference was not paid. The booking is as before.
        """
        deadline_ms = now_ms() + request.deadline_ms
        reference = normalised(request.reference)
        quote = quotes.quote_of(request.quote, reference, is_change=True)
        operator, value = self._changing.own(reference, request.token, deadline_ms)
        self._check_card(quote, operator, value, request.payment_method)
        asked = ask_digest("change", reference, token_digest(request.token), request.quote)
        basket_id = quote.hold_id or earlier_change(self._balancer, operator, value["owner"], request.request_id, deadline_ms)
        if not basket_id:
            self._check_quoted(operator, value, quote, deadline_ms)
            if self._is_move(operator, value, quote):
                return self._moved(request, operator, value, quote, asked, deadline_ms)
            basket_id = self._held(operator, value, quote, request.request_id, asked, deadline_ms)
        basket = self._itineraries.basket(basket_id, value["owner"], deadline_ms)
        if basket["basket_state"] in (BasketState.COMMITTED, BasketState.CANCELLED) and basket["reference"] == reference:
            return self._changing.followed(operator, value, value)  # Done by an earlier try.
        try:
            holds = self._itineraries.proof(basket, deadline_ms)
            intent = str(basket["intent"])
            if charging.is_open(basket):
                with contextlib.suppress(AlreadyConfirmed):  # By an earlier try of this request: it is given that answer again.
                    intent = self._cashier.authorised(basket, request.payment_method, request.request_id, holds, deadline_ms)
            command, sides = self._command(request, operator, value, quote, basket, holds, intent, asked)
            changed = self._balancer.decide(operator, command, deadline_ms, sides)
        except HoldExpired as error:
            detail = f"the seats were held too long; {reference} is as it was, nothing is charged"
            raise HoldExpired(detail, request_id=request.request_id, **error.fields) from error
        except (PaymentDeclined, QuoteExpired, ServiceClosed):
            self.give_up(basket_id, value["owner"])
            raise
        self._itineraries.reconciler.follow(basket_id)
        return self._changing.followed(operator, value, changed)

    def _check_card(self, quote: Quote, operator: str, value: dict[str, Any], card: str) -> None:
        """Refuse what has to be paid for and names no card, before anything is held."""
        if self._cashier.provider is None or card or quote.hold_id or value["version"] != quote.expects:
            return
        legs = conditions.legs_of_order(value, operator)
        place, positions = quotes.cut_of_change(quote, legs)
        more_minor = quotes.difference_minor(legs[place], positions, quote.legs)
        if more_minor > 0:
            raise InvalidRequest(f"{Money(more_minor, value['currency'])} have to be paid: say with which card", field="payment_method")

    def _check_quoted(self, operator: str, value: dict[str, Any], quote: Quote, deadline_ms: int) -> None:
        """Check that the booking and the prices are those of the quote."""
        if value["state"] != OrderState.CONFIRMED or value["version"] != quote.expects:
            raise QuoteExpired(f"booking {quote.reference} has changed since; ask for a new quote", reference=quote.reference)
        legs = conditions.legs_of_order(value, operator)
        place, positions = quotes.cut_of_change(quote, legs)
        self._check_prices(value, legs[place], positions, quote, deadline_ms)

    def _held(self, operator: str, value: dict[str, Any], quote: Quote, request_id: str, asked: bytes, deadline_ms: int) -> str:
        """Hold what is taken; return the basket."""
        legs = conditions.legs_of_order(value, operator)
        place, positions = quotes.cut_of_change(quote, legs)
        credit_minor = conditions.cut_price_minor(legs[place], positions)
        return self.hold(operator, value, quote.legs, credit_minor, request_id, asked, deadline_ms)

    def _is_move(self, operator: str, value: dict[str, Any], quote: Quote) -> bool:
        """Return whether one entry does it all (Z10): the anchor has every seat in question, and no card has to be asked."""
        legs = conditions.legs_of_order(value, operator)
        place, positions = quotes.cut_of_change(quote, legs)
        is_paid = self._cashier.provider is not None and quotes.difference_minor(legs[place], positions, quote.legs) > 0
        return not is_paid and all(leg.operator == operator for leg in quote.legs)

    def _moved(
        self, request: messages.ChangeOrder, operator: str, value: dict[str, Any], quote: Quote, asked: bytes, deadline_ms: int
    ) -> messages.OrderAnswer:
        """Take the new seats and give up the old ones in one entry (Z10)."""
        legs = conditions.legs_of_order(value, operator)
        place, positions = quotes.cut_of_change(quote, legs)
        credit_minor = conditions.cut_price_minor(legs[place], positions)
        legs_of_it = [[leg.operator, leg.service_id, list(leg.seats), list(leg.prices), leg.refundable_percent] for leg in quote.legs]
        basket = {"hold_id": "", "legs": legs_of_it}  # The id follows from the attempt.
        amend, sides = self._command(request, operator, value, quote, basket, (), "", asked)
        plan = self._plan(operator, value, quote.legs, credit_minor, request.request_id, asked)
        changed = self._itineraries.move(plan._replace(amend=amend, sides=sides), deadline_ms)
        return self._changing.followed(operator, value, dict(changed))

    def _check_prices(self, value: dict[str, Any], leg: Leg, positions: Sequence[int], quote: Quote, deadline_ms: int) -> None:
        """Check that what was quoted is one service of the leg's operator at the prices of now, whoever wrote the quote."""
        (new,) = quote.legs if len(quote.legs) == 1 else (leg,)
        if new is leg or new.operator != leg.operator or len(new.seats) != len(positions):
            raise InvalidRequest("that is not a quote of a change; ask for one first", field="quote")
        sale = self._balancer.sale(new.service_id, deadline_ms)
        seats = [seat_offer(sale, seat).seat_id for seat in new.seats]
        whole = len(positions) == len(leg.seats)
        if not whole and new.service_id != leg.service_id:
            raise InvalidRequest("the whole party goes to another service, or nobody", field="quote")
        if self.priced(value, leg, positions, sale, seats) != new:
            raise QuoteExpired(f"the price on {new.service_id} has changed; ask for a new quote", service_id=new.service_id)

    def hold(
        self, operator: str, value: dict[str, Any], legs: Sequence[Leg], credit_minor: int, request_id: str, asked: bytes, deadline_ms: int
    ) -> str:
        """Hold what may come into an order, at the order's anchor; return the basket."""
        return self._itineraries.hold_change(self._plan(operator, value, legs, credit_minor, request_id, asked), deadline_ms)

    def _plan(
        self, operator: str, value: dict[str, Any], legs: Sequence[Leg], credit_minor: int, request_id: str, asked: bytes
    ) -> Plan:
        """Return what is wanted for an order, at its anchor."""
        config = self._balancer.config
        return Plan(
            request_id,
            asked,
            "",
            value["owner"],
            tuple(legs),
            value["currency"],
            config.hold_ttl_ms,
            config.owner_holds_max,
            config.service_holds_max,
            operator,
            value["reference"],
            credit_minor,
        )

    def give_up(self, basket_id: str, owner: str) -> None:
        """Give back what was held for a change that is not made; it ends by itself if this does not reach it."""
        with contextlib.suppress(HoldfastError):
            anchor = basket_id.partition(".")[0]
            self._balancer.decide(anchor, wire.Release("", b"", basket_id, owner), now_ms() + GIVING_UP_MS)
            self._itineraries.reconciler.follow(basket_id)

    def _command(
        self,
        request: messages.ChangeOrder,
        operator: str,
        value: dict[str, Any],
        quote: Quote,
        basket: dict[str, Any],
        holds: tuple[tuple[str, int], ...],
        intent: str,
        asked: bytes,
    ) -> tuple[commands.Amend, dict[bytes, bytes]]:
        """Return the entry that is wanted, with the passengers of the anchor's own new legs."""
        ((place, positions),) = quote.cuts
        party = value["travellers"] or range(len(value["seats"]))
        who = [party[position] for position in positions if position < len(party)]
        digests, sides = leg_digests({**basket, "seated": [who] * len(basket["legs"])}, operator, value["record"])
        departs_ms = 0
        if place == 0 and len(positions) == len(value["seats"]):
            _, service, _ = self._balancer.catalogue.find(basket["legs"][0][1])
            departs_ms = service.departs_ms
        command = commands.Amend(
            request.request_id,
            asked,
            quote.reference,
            token_digest(request.token),
            quote.expects,
            quote.cuts,
            quote.refund_minor,
            False,
            quote.what,
            basket["hold_id"],
            value["owner"],
            holds,
            digests,
            intent,
            departs_ms,
        )
        return command, sides


def leg_of(sale: Sale, seats: Sequence[str]) -> Leg:
    """Return seats of a service at its prices of now."""
    offers = [sale.offers[seat] for seat in seats]
    percent = min(offer.refundable_percent for offer in offers)
    return Leg(sale.operator, sale.service.service_id, tuple(seats), tuple(offer.price_minor for offer in offers), percent)


def _swapped(sale: Sale, leg: Leg, swaps: Sequence[messages.SeatSwap]) -> tuple[list[int], list[str]]:
    """Return the positions that are changed, and the seats that are taken there."""
    pairs: dict[int, str] = {}
    for swap in swaps:
        position = leg.seats.index(seat_offer(sale, swap.old).seat_id)
        if position in pairs:
            raise InvalidRequest(f"{swap.old} is changed twice", field="swaps")
        pairs[position] = seat_offer(sale, swap.new).seat_id
    yours = [seat for seat in pairs.values() if seat in leg.seats]
    if yours:
        raise InvalidRequest(f"{leg.service_id}: {', '.join(yours)} is yours already", field="swaps")
    positions = sorted(pairs)
    return positions, [pairs[position] for position in positions]


def place_of(legs: Sequence[Leg], number: int) -> int:
    """Return the place of the leg that a caller counts as `number`, 0 for the only one.

    Raises:
        InvalidRequest: There is none, or more than one.
    """
    if number > len(legs):
        raise InvalidRequest(f"there is no leg {number}: the booking has {len(legs)}", field="leg", most=len(legs))
    if not number and len(legs) > 1:
        raise InvalidRequest(f"say which leg: 1 to {len(legs)}", field="leg", most=len(legs))
    return max(0, number - 1)


def _place_of_seats(legs: Sequence[Leg], number: int, words: Sequence[str]) -> int:
    """Return the place of the leg that has these seats."""
    if number > len(legs):
        raise InvalidRequest(f"there is no leg {number}: the booking has {len(legs)}", field="leg", most=len(legs))
    wanted = {word.strip().upper() for word in words}
    places = [place for place, leg in enumerate(legs) if wanted <= set(leg.seats) and number in (0, place + 1)]
    if len(places) == 1:
        return places[0]
    named = ", ".join(map(shown, words))
    if places:
        raise InvalidRequest(f"{named}: on which leg? say e.g. 1:{words[0]}", field="leg")
    yours = "; ".join(f"{place}: {', '.join(leg.seats)}" for place, leg in enumerate(legs, 1))
    raise InvalidRequest(f"{named}: not seats of one leg of the booking, which has {yours}", field="swaps")


def _ends(service: Service) -> tuple[str, str]:
    return service.schedule.origin, service.schedule.destination

