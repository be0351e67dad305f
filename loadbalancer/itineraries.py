"""Trips: one hold over several operators, its renewal and its sale (B1-B5). Carries out what `loadbalancer.itinerary` says."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from datastore import commands, messages, wire
from datastore.errors import (
    AlreadyConfirmed,
    ConnectionTooShort,
    HoldExpired,
    HoldfastError,
    HoldNotYours,
    InvalidRequest,
    LockTimeout,
    OfferExpired,
    OutcomeUnknown,
    PriceChanged,
    SeatUnavailable,
    ServiceClosed,
    UnknownHold,
    error_from_data,
    shown,
)
from datastore.model import BasketState, HoldState, Leg, Passenger
from datastore.wording import counted
from loadbalancer.answers import hold_answer
from loadbalancer.balancer import Balancer
from loadbalancer.basket import LockTicket
from loadbalancer.identity import ask_digest, basket_id_of, manage_token, operator_of_hold, owner_of, request_id_of_attempt, token_digest
from loadbalancer.itinerary import Clear, Failed, Held, Instruction, Itinerary, Lock, Plan, Send, Tell
from loadbalancer.party import Part
from loadbalancer.proposing import CHOICES_PROVED, Known, NoRoom, Proposal, Proposals, may_choose_again, prove_room
from loadbalancer.reconciler import Reconciler
from loadbalancer.reconciling import anchor_of, leg_digests, other_operators, proven_holds
from loadbalancer.seatchoice import count_free
from loadbalancer.seating import seat_party
from loadbalancer.selling import seat_offer
from loadbalancer.travellers import order_record, record_digest
from loadbalancer.tries import ATTEMPTS_MAX, Tries
from loadbalancer.view import OperatorView, Sale
from loadbalancer.waiting import Waiter, now_ms

# Giving up needs a moment of its own: past the caller's deadline what was held is still to be given back (Z6).
GIVING_UP_MS = 1_500


@dataclass(frozen=True)
class Wish:
    """One leg as it was asked for; `seats` are ids. What `Proposals` reads has the names of `messages.HoldSeats`."""

    sale: Sale
    service_id: str
    seats: tuple[str, ...]
    count: int
    cabin: str
    together: bool
    parts: tuple[Part, ...] = ()  # of an offer: only seats that they pay for
    offer: str = ""


class Sold(NamedTuple):
    """What a sale came to: the anchor's answer to DECIDE, who travels, and the token."""

    anchor: str
    value: dict[str, Any]
    position: commands.Evidence
    passengers: list[Passenger]
    token: str


class Itineraries:
    """The handlers of itineraries."""

    def __init__(self, balancer: Balancer, reconciler: Reconciler, proposals: Proposals) -> None:
        self._balancer = balancer
        self.reconciler = reconciler
        self._proposals = proposals

    # --- holding --------------------------------------------------------------------------------------------------

    def hold(self, request: messages.HoldTrip) -> messages.HoldAnswer:
        """Hold seats on every leg or on none."""
        deadline_ms = now_ms() + request.deadline_ms
        wishes = self._wishes(request, deadline_ms)
        owner = owner_of(request.owner_key)
        offer = (request.offer,) if request.offer else ()
        asked = ask_digest("trip", owner, [(one.service_id, one.seats, one.count, one.cabin) for one in wishes], request.together, *offer)
        if request.offer:
            try:
                wishes = self._offered(request.offer, wishes, deadline_ms)
            except (ConnectionTooShort, OfferExpired, PriceChanged, SeatUnavailable, ServiceClosed):
                # A repeat of what was done: the very hold may have changed the price.
                if Tries(self._balancer, wishes[0].sale.operator, owner, request.request_id, asked).earlier(deadline_ms)[1] is None:
                    raise
        return self._hold(wishes, owner, request.request_id, asked, request.ttl_ms, deadline_ms)

    def renew(self, request: messages.RenewHold) -> messages.HoldAnswer:
        """Take the seats of an expired hold, of one service or of a trip, again."""
        deadline_ms = now_ms() + request.deadline_ms
        operator = operator_of_hold(request.hold_id)
        self._balancer.catalogue.operator(operator)
        owner = owner_of(request.owner_key)
        value = self._balancer.read(operator, "hold", {"hold_id": request.hold_id}, deadline_ms).value
        if not hmac.compare_digest(value["owner"], owner):
            raise HoldNotYours(f"hold {request.hold_id} belongs to somebody else", hold_id=request.hold_id)
        if value["state"] in (HoldState.CONVERTED, HoldState.CANCELLED):
            reference = value["reference"]
            raise AlreadyConfirmed(f"hold {request.hold_id} is order {reference}", hold_id=request.hold_id, reference=reference)
        if value["state"] not in (HoldState.EXPIRED, HoldState.RELEASED):
            raise InvalidRequest(f"hold {request.hold_id} has not ended; extend it instead", field="hold_id")
        legs = value.get("legs") or [[operator, value["service_id"], list(value["seats"])]]
        wishes = []
        for leg in legs:
            sale = self._balancer.sale(leg[1], deadline_ms)
            wishes.append(Wish(sale, leg[1], tuple(leg[2]), 0, "", False))
        asked = ask_digest("renew", owner, request.hold_id, request.ttl_ms)
        return self._hold(wishes, owner, request.request_id, asked, request.ttl_ms, deadline_ms)

    # --- changes of orders (B11) ------------------------------------------------------------------------------------

    def hold_change(self, plan: Plan, deadline_ms: int) -> str:
        """Hold what may come into an order; return the basket's id.

        Args:
            plan: With named seats, the order's anchor and reference; its ids are the caller's request's.
        Raises:
            SeatUnavailable, ...: As `hold`; the order is as it was.
        """
        return self._taken(plan, deadline_ms)[0]

    def move(self, plan: Plan, deadline_ms: int) -> Mapping[str, Any]:
        """Take seats into an order and give up those that they replace, in one entry (Z10); return the order.

        Args:
            plan: As for `hold_change`, all legs being the anchor's, with the change itself in `amend`.
        """
        return self._taken(plan, deadline_ms)[1]

    def _taken(self, plan: Plan, deadline_ms: int) -> tuple[str, Mapping[str, Any]]:
        """Return (the basket's id, the anchor's answer) of the first attempt that was not spent before."""
        sales = [self._balancer.sale(leg.service_id, deadline_ms) for leg in plan.legs]
        keys = tuple(sale.offers[seat].key for sale, leg in zip(sales, plan.legs, strict=True) for seat in leg.seats)
        request_id = plan.request_id
        for attempt in range(ATTEMPTS_MAX):
            basket_id = basket_id_of(plan.anchor, plan.owner, request_id, attempt)
            one = plan._replace(request_id=request_id_of_attempt(request_id, attempt), basket_id=basket_id)
            verdict = self._drive(Itinerary(one), keys, deadline_ms)
            if isinstance(verdict, Held):
                return basket_id, verdict.value
            if not verdict.spent or now_ms() >= deadline_ms:
                raise verdict.error
        raise LockTimeout("an earlier try of this request kept coming to an end; ask again")

    def _wishes(self, request: messages.HoldTrip, deadline_ms: int) -> list[Wish]:
        """Check what is asked for; whatever is wrong, nothing was sent."""
        wishes = [self._wish(leg, request.together, deadline_ms) for leg in request.legs]
        if len({one.service_id for one in wishes}) < len(wishes):
            raise InvalidRequest("a service stands in the trip twice; name all its seats in one leg", field="legs")
        sizes = {one.service_id: len(one.seats) or one.count for one in wishes}
        if len(set(sizes.values())) > 1:
            named = ", ".join(f"{service_id}: {size}" for service_id, size in sizes.items())
            raise InvalidRequest(f"the party is of one size on every leg, not {named}", field="legs")
        currencies = {one.sale.prices.currency for one in wishes}
        if len(currencies) > 1:
            raise InvalidRequest(f"one trip has prices in one currency, not in {', '.join(sorted(currencies))}", field="legs")
        return wishes

    def _offered(self, text: str, wishes: list[Wish], deadline_ms: int) -> list[Wish]:
        """Return the wishes with what an offer pays for.

        Raises:
            OfferExpired, PriceChanged, ...: As `offers.check_offer`. InvalidRequest: The offer is of something else.
        """
        offer = self._balancer.checked_offer(text, deadline_ms)
        services = [leg.service_id for leg in offer.legs]
        if services != [wish.service_id for wish in wishes]:
            raise InvalidRequest(f"the offer is of {', '.join(services)}, in this order", field="offer")
        for wish, leg in zip(wishes, offer.legs, strict=True):
            if (wish.count or len(wish.seats)) != offer.passengers or wish.cabin not in ("", leg.cabin):
                raise InvalidRequest(f"the offer is of {counted(offer.passengers, 'seat')} in cabin {leg.cabin}", field="offer")
        return [replace(wish, parts=leg.parts, offer=text) for wish, leg in zip(wishes, offer.legs, strict=True)]

    def _wish(self, leg: messages.LegWish, together: bool, deadline_ms: int) -> Wish:
        sale = self._balancer.sale(leg.service_id, deadline_ms)
        if bool(leg.seats) == bool(leg.count):
            raise InvalidRequest(f"{leg.service_id}: name seats or say how many of the best, one of both", field="legs")
        most = self._balancer.config.seats_per_hold_max
        if max(len(leg.seats), leg.count) > most:
            raise InvalidRequest(f"{leg.service_id}: more than {most} seats are too many for one hold", field="legs", most=most)
        seats = tuple(seat_offer(sale, word).seat_id for word in leg.seats)
        if len(set(seats)) < len(seats):
            raise InvalidRequest(f"{leg.service_id}: a seat was named twice: {', '.join(map(shown, leg.seats[:9]))}", field="legs")
        if leg.cabin and leg.cabin not in sale.layout.cabins:
            known = ", ".join(sale.layout.cabins)
            raise InvalidRequest(f"{leg.service_id} has no cabin {shown(leg.cabin)}; it has {known}", field="cabin")
        return Wish(sale, leg.service_id, seats, leg.count, leg.cabin, together)

    def _hold(
        self, wishes: Sequence[Wish], owner: str, request_id: str, asked: bytes, ttl_ms: int, deadline_ms: int
    ) -> messages.HoldAnswer:
        """Try one attempt after the other, each with a basket of its own, until one holds or the refusal is final (Z3, Z8)."""
        config = self._balancer.config
        ttl_ms = ttl_ms or config.hold_ttl_ms
        if ttl_ms > config.hold_ttl_max_ms:
            minutes = config.hold_ttl_max_ms // 60_000
            raise InvalidRequest(f"a hold lasts at most {minutes} minutes", field="ttl_ms", most_ms=config.hold_ttl_max_ms)
        anchor = wishes[0].sale.operator
        any_chosen = any(one.count for one in wishes)
        tries = Tries(self._balancer, anchor, owner, request_id, asked)
        attempt, adopted = tries.earlier(deadline_ms) if any_chosen else (0, None)
        told: dict[str, Known] = {}
        while True:
            try:
                legs, proposals = (adopted, ()) if adopted else self._chosen(wishes, told, deadline_ms)
            except NoRoom as found_out:
                attempt, adopted = tries.refuse(attempt, found_out.refusal, deadline_ms)
                continue
            chosen = tuple([None if one is None else one.chosen for one in proposals])
            adopted = None
            plan = Plan(
                request_id_of_attempt(request_id, attempt),
                asked,
                basket_id_of(anchor, owner, request_id, attempt),
                owner,
                legs,
                wishes[0].sale.prices.currency,
                ttl_ms,
                config.owner_holds_max,
                config.service_holds_max,
                chosen=chosen if attempt < CHOICES_PROVED else (),
            )
            verdict: Held | Failed | None = None
            try:
                verdict = self._drive(Itinerary(plan), self._keys(wishes, legs), deadline_ms)
            finally:
                self._settle(wishes, legs, verdict)
            if isinstance(verdict, Held):
                return hold_answer(verdict.value)
            error = verdict.error
            if not verdict.spent and not (any_chosen and may_choose_again(error.to_data())):
                raise error
            self._learn(wishes, proposals, told, error)
            attempt += 1
            if now_ms() >= deadline_ms or attempt >= ATTEMPTS_MAX:
                raise error if verdict.spent else LockTimeout("other buyers were faster to the end; ask again")

    def _chosen(
        self, wishes: Sequence[Wish], told: Mapping[str, Known], deadline_ms: int
    ) -> tuple[tuple[Leg, ...], tuple[Proposal | None, ...]]:
        """Return the legs with their seats, and beside them the proposals of those that were not named but chosen (Z8)."""
        legs: list[Leg] = []
        proposals: list[Proposal | None] = []
        try:
            for wish in wishes:
                seats, proposal = wish.seats, None
                if not seats:
                    view = self._balancer.catalogue.operators[wish.sale.operator]
                    proposal = self._proposals.propose(wish.sale, wish, view, told.get(wish.service_id), wish.parts)
                    if not proposal.seats:
                        proposal = self._look_closer(wish, view, deadline_ms)
                    seats = proposal.seats
                offers = [wish.sale.offers[seat] for seat in seats]
                percent = min(offer.refundable_percent for offer in offers)
                legs.append(Leg(wish.sale.operator, wish.service_id, seats, tuple(offer.price_minor for offer in offers), percent))
                proposals.append(proposal)
        except BaseException:  # What was proposed for the legs before is not under way.
            self._settle(wishes, legs, None)
            raise
        return tuple(legs), tuple(proposals)

    def _look_closer(self, wish: Wish, view: OperatorView, deadline_ms: int) -> Proposal:
        """Nothing can be proposed: choose by what the primary says is taken.

        Raises:
            NoRoom: Its state proves that there is nothing (Z8).
        """
        operator = wish.sale.operator
        read = partial(self._balancer.read, operator, "seats", {"service_id": wish.service_id}, deadline_ms)
        told = prove_room(wish.sale, wish, read(), read, partial(self.reconciler.clear, operator, deadline_ms=deadline_ms))
        proposal = self._proposals.propose(wish.sale, wish, view, told, wish.parts, alone=True)
        if not proposal.seats:  # At the offered price.
            self._balancer.checked_offer(wish.offer, deadline_ms)  # Says what changed, if the view has it already.
            left = count_free(wish.sale.layout, told.taken, wish.cabin)
            facts: dict[str, Any] = {"service_id": wish.service_id, "free": left, "lsn": told.lsn}
            raise SeatUnavailable(f"{wish.service_id} has too few seats left at the offered price", seats=[], **facts)
        return proposal

    def _settle(self, wishes: Sequence[Wish], legs: Sequence[Leg], verdict: Held | Failed | None) -> None:
        """Keep what was proposed and is held until the views show it; forget the rest."""
        for wish, leg in zip(wishes, legs, strict=False):
            if wish.count:
                # The entry's lsn is known for the anchor alone; elsewhere the view is a moment behind at most.
                lsn = int(verdict.value["lsn"]) if isinstance(verdict, Held) and leg.operator == wishes[0].sale.operator else 0
                self._proposals.settle(wish.service_id, leg.seats, lsn)

    def _learn(
        self, wishes: Sequence[Wish], proposals: Sequence[Proposal | None], told: dict[str, Known], error: HoldfastError
    ) -> None:
        for wish, proposal in zip(wishes, proposals, strict=False):  # There are none of legs that an earlier try had chosen.
            for leg in error.fields.get("legs") or ():
                if proposal is not None and leg.get("service_id") == wish.service_id:
                    told[wish.service_id] = proposal.learnt(leg)

    def _keys(self, wishes: Sequence[Wish], legs: Sequence[Leg]) -> tuple[str, ...]:
        return tuple(wish.sale.offers[seat].key for wish, leg in zip(wishes, legs, strict=True) for seat in leg.seats)

    # --- the shell of the machine -----------------------------------------------------------------------------------

    def _drive(self, machine: Itinerary, keys: tuple[str, ...], deadline_ms: int) -> Held | Failed:
        """Carry out the machine's instructions to its end; the lock goes last."""
        ticket: LockTicket | None = None
        waiting: list[Instruction] = machine.started()
        try:
            while True:
                instructions, waiting = waiting, []
                sends = [one for one in instructions if isinstance(one, Send)]
                for one in instructions:
                    if isinstance(one, Held | Failed):
                        return one
                    if isinstance(one, Lock):
                        ticket, error = self._lock(ticket, keys, one.hint, deadline_ms)
                        if error is None and ticket is not None and ticket.lock is not None:
                            waiting += machine.locked(ticket.lock.fence, ticket.lock.nonce)
                        else:
                            ticket = None
                            waiting += machine.not_locked(error or OutcomeUnknown())
                    elif isinstance(one, Tell):
                        self._balancer.tell(one, deadline_ms + GIVING_UP_MS)
                    elif isinstance(one, Clear):
                        failure = self.reconciler.clear(one.operator, one.basket_id, one.owner, deadline_ms)
                        waiting += machine.cleared(one.operator, failure)
                waiting += self._sent(machine, sends, deadline_ms)
        finally:
            if ticket is not None and ticket.lock is not None:
                ticket.given_back()
                self._balancer.pipeline.locker.finish([ticket])

    def _sent(self, machine: Itinerary, sends: Sequence[Send], deadline_ms: int) -> list[Instruction]:
        """Send to all operators at once and give the machine their replies."""
        until_ms = deadline_ms
        if any(isinstance(send.command, commands.Abort | commands.ReleaseLegs) for send in sends):
            until_ms = max(deadline_ms, now_ms() + GIVING_UP_MS)
        found: list[Instruction] = []
        for send, reply in zip(sends, self._balancer.decide_all(sends, until_ms), strict=True):
            found += machine.answered(send.operator, reply, in_time=now_ms() < deadline_ms)
        return found

    def _lock(
        self, ticket: LockTicket | None, keys: tuple[str, ...], hint: int, deadline_ms: int
    ) -> tuple[LockTicket | None, HoldfastError | None]:
        """Get one lock on all keys (B1), or say why there is none."""
        waiter = Waiter(1)
        locker = self._balancer.pipeline.locker
        if ticket is None:
            ticket = LockTicket(keys, deadline_ms, waiter)
            locker.put([ticket])
        else:
            ticket.again(hint, waiter)
            locker.finish([ticket])
        # The locker answers at the deadline at the latest: a ticket that it still had would keep its lock for nobody.
        (outcome,) = waiter.wait(deadline_ms + GIVING_UP_MS)
        return ticket, error_from_data(outcome.error) if outcome.error else None

    # --- the sale ---------------------------------------------------------------------------------------------------

    def basket(self, basket_id: str, owner: str, deadline_ms: int) -> dict[str, Any]:
        """Return the anchor's record of the owner's basket, as its primary has it.

        Raises:
            UnknownHold, HoldNotYours: There is none, or it is somebody else's.
        """
        anchor = operator_of_hold(basket_id)
        self._balancer.catalogue.operator(anchor)
        found = self._balancer.read(anchor, "baskets", {"basket_ids": [basket_id]}, deadline_ms).value
        if not found or not found[0]["legs"]:
            raise UnknownHold(f"no hold {shown(basket_id)}", hold_id=shown(basket_id))
        if not hmac.compare_digest(found[0]["owner"], owner):
            raise HoldNotYours(f"hold {basket_id} belongs to somebody else", hold_id=basket_id)
        basket: dict[str, Any] = found[0]
        return basket

    def proof(self, basket: Mapping[str, Any], deadline_ms: int) -> tuple[tuple[str, int], ...]:
        """Return every other operator's holds of a basket, from one parallel linearizable look (Z4).

        Of one that its anchor has decided, what the decision was made of: the anchor will say what it was.

        Raises:
            HoldExpired: One does not hold its legs. HoldfastError: One cannot be asked; nothing was decided.
        """
        if basket["basket_state"] not in (BasketState.PENDING, BasketState.PAYING):
            return tuple((operator, int(lsn)) for operator, lsn in basket["holds"])
        items = [wire.ReadItem(operator, "leg", {"basket_id": basket["hold_id"]}) for operator in other_operators(basket)]
        legs: dict[str, Any] = {result.operator: result.value for result in self._balancer.read_each(items, deadline_ms)}
        try:
            return proven_holds(basket, legs)
        except HoldExpired:
            # Between the two looks another try may have sold the trip, so that its legs are booked, not held.
            basket_id = basket["hold_id"]
            (now,) = self._balancer.read(anchor_of(basket_id), "baskets", {"basket_ids": [basket_id]}, deadline_ms).value
            if now["basket_state"] in (BasketState.PENDING, BasketState.PAYING):
                raise
            return self.proof(now, deadline_ms)

    def confirm(
        self, request: messages.ConfirmHold, references: Sequence[str], deadline_ms: int, *, intent: str = ""
    ) -> Sold:
        """Turn a basket into an order (B4); its other operators follow (B5).

        Args:
            references: Booking references to choose from.
            intent: Of a basket in PAYING (Q4).
        """
        owner = owner_of(request.owner_key)
        basket = self.basket(request.hold_id, owner, deadline_ms)
        passengers, fares, laps, lap_fares = seat_party(self._balancer, request.passengers, basket)
        holds = self.proof(basket, deadline_ms)
        token = manage_token(request.owner_key, request.hold_id)
        record = order_record(token, passengers)
        anchor = anchor_of(request.hold_id)
        digests, sides = leg_digests(basket, anchor, record)
        digest = record_digest(record)
        command = commands.Decide(
            request.request_id,
            ask_digest("confirm", owner, request.hold_id, digest),
            request.hold_id,
            owner,
            holds,
            tuple(references),
            token_digest(token),
            digest,
            digests,
            intent,
            fares,
            laps,
            lap_fares,
        )
        value, position = self._balancer.decide_at(anchor, command, deadline_ms, {**sides, digest: record})
        self.reconciler.nudge(request.hold_id)
        return Sold(anchor, value, position, passengers, token)
