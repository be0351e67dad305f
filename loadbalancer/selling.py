"""Holds: named seats, best available, bulk; and what becomes of a hold before it is an order."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from datastore import messages, wire
from datastore.commands import Chosen
from datastore.errors import (
    ConnectionTooShort,
    HoldfastError,
    HoldNotYours,
    InvalidRequest,
    LockTimeout,
    NoAdjacentBlock,
    OfferExpired,
    PriceChanged,
    SeatUnavailable,
    ServiceClosed,
    UnknownHold,
    error_from_data,
    shown,
)
from datastore.model import in_order, parse_service_id
from datastore.wording import counted
from loadbalancer.answers import hold_answer
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.basket import Basket, HoldDraft
from loadbalancer.config import LoadBalancerConfig
from loadbalancer.identity import ask_digest, hold_id_of, operator_of_hold, owner_of, request_id_of_attempt
from loadbalancer.nearby import no_such_seat
from loadbalancer.party import Part
from loadbalancer.proposing import CHOICES_PROVED, Known, NoRoom, Proposal, Proposals, may_choose_again, prove_room
from loadbalancer.reconciler import Reconciler
from loadbalancer.refusing import refuse
from loadbalancer.view import Offer, Sale
from loadbalancer.waiting import Waiter, now_ms

# A repeat of a best-available request looks for what an earlier try got, this many attempts ahead, before it says "none".
ATTEMPTS_LOOKED_AHEAD = 64


class Begun(NamedTuple):
    """A request on its way through the pipeline; `answer` makes the answer of its outcomes or raises their error.

    Attributes:
        deadline_ms: When its caller must have heard, monotonic.
    """

    waiter: Waiter
    deadline_ms: int
    answer: Callable[[list[wire.Outcome]], messages.Answer]


class Selling:
    """The handlers of holds."""

    def __init__(self, balancer: Balancer, reconciler: Reconciler) -> None:
        """Serve holds; the reconciler carries a basket's change to its other operators, and asks how a due leg stands."""
        self._balancer = balancer
        self.reconciler = reconciler
        self.proposals = Proposals()

    def hold(self, request: messages.HoldSeats) -> messages.HoldAnswer | Begun:
        """Hold the named seats, or the best available."""
        return self._begin(request, now_ms() + request.deadline_ms)

    def begin_hold(self, request: messages.HoldSeats, unread_ms: int) -> Begun | None:
        """Gather a hold for the pipeline's next round without waiting for anything; None where that is not possible.

        Args:
            unread_ms: For how long the request may have waited to be read: so much of its time is gone.
        Raises:
            Refusal: `hold` will say the same.
        """
        if request.offer or request.count:
            return None
        sale = self._balancer.catalogue.sale_at_hand(request.service_id, wall_ms())
        if sale is None or not sale.offers.keys() >= set(request.seats):  # What is wrong with it takes a search to say.
            return None
        deadline_ms = now_ms() + request.deadline_ms - unread_ms
        waiter = Waiter(1)
        self._balancer.pipeline.gather(self._basket(request, sale, deadline_ms, waiter, 0))
        return Begun(waiter, deadline_ms, _first_hold)

    def _hold(self, request: messages.HoldSeats, deadline_ms: int) -> messages.HoldAnswer:
        """Hold on this thread, to the end."""
        begun = self._begin(request, deadline_ms)
        return _first_hold(begun.waiter.wait(deadline_ms)) if isinstance(begun, Begun) else begun

    def _begin(self, request: messages.HoldSeats, deadline_ms: int) -> messages.HoldAnswer | Begun:
        parts: tuple[Part, ...] = ()
        if request.offer:
            try:
                parts = self._offered(request, deadline_ms)
            except (ConnectionTooShort, OfferExpired, PriceChanged, SeatUnavailable, ServiceClosed):
                # A repeat of what was done: the very hold may have changed the price.
                made = self._made_before(request, deadline_ms)
                if made is None:
                    raise
                return made
        if request.count:
            return self._hold_any(request, deadline_ms, parts)
        waiter = Waiter(1)
        sale = self._balancer.sale(request.service_id, deadline_ms)
        self._balancer.pipeline.put([self._basket(request, sale, deadline_ms, waiter, 0)])
        return Begun(waiter, deadline_ms, _first_hold)

    def hold_many(self, request: messages.HoldMany) -> Begun:
        """Make many holds as one batch; each stands or falls alone. Those of the best available follow, one by one."""
        deadline_ms = now_ms() + request.deadline_ms
        results: list[messages.HoldResult] = [messages.HoldResult() for _ in request.holds]
        named: list[int] = []
        baskets: list[Basket] = []
        waiter = Waiter(sum(not (hold.count or hold.offer) for hold in request.holds))
        for place, hold in enumerate(request.holds):
            if hold.count or hold.offer:
                continue
            named.append(place)
            try:
                sale = self._balancer.sale(hold.service_id, deadline_ms)
                baskets.append(self._basket(hold, sale, deadline_ms, waiter, len(named) - 1))
            except HoldfastError as error:
                error.request_id = hold.request_id
                waiter.settle(len(named) - 1, wire.failure(error))
        if baskets:
            self._balancer.pipeline.put(baskets)
        if len(named) < len(request.holds):
            waiter.wait(deadline_ms)  # This one's thread has more to do than to begin.
            for place, hold in enumerate(request.holds):
                if hold.count or hold.offer:
                    results[place] = self._one_of_many(hold, deadline_ms)

        def answer(outcomes: list[wire.Outcome]) -> messages.HoldManyAnswer:
            for place, outcome in zip(named, outcomes, strict=True):
                if outcome.error:
                    results[place].error = outcome.error
                else:
                    results[place].hold = hold_answer(outcome.value)
            return messages.HoldManyAnswer(results=results)

        return Begun(waiter, deadline_ms, answer)

    def extend(self, request: messages.ExtendHold) -> messages.HoldAnswer:
        """Move a hold's end (Z11: bounded from its creation)."""
        config = self._balancer.config
        owner = owner_of(request.owner_key)
        digest = ask_digest("extend", owner, request.hold_id, request.ttl_ms)
        command = wire.Extend(request.request_id, digest, request.hold_id, owner, request.ttl_ms, config.hold_ttl_max_ms)
        return self._changed(request.hold_id, command, request.deadline_ms)

    def release(self, request: messages.ReleaseHold) -> messages.HoldAnswer:
        """Give a hold's seats back."""
        owner = owner_of(request.owner_key)
        digest = ask_digest("release", owner, request.hold_id)
        answer = self._changed(request.hold_id, wire.Release(request.request_id, digest, request.hold_id, owner), request.deadline_ms)
        self.reconciler.follow(request.hold_id)
        return answer

    def get_hold(self, request: messages.GetHold) -> messages.HoldAnswer:
        """Return a hold as it is now."""
        deadline_ms = now_ms() + request.deadline_ms
        operator = operator_of_hold(request.hold_id)
        self._balancer.catalogue.operator(operator)
        result = self._balancer.read(operator, "hold", {"hold_id": request.hold_id}, deadline_ms)
        if not hmac.compare_digest(result.value["owner"], owner_of(request.owner_key)):
            raise HoldNotYours(f"hold {request.hold_id} belongs to somebody else", hold_id=request.hold_id)
        return hold_answer(result.value)

    def my_holds(self, request: messages.MyHolds) -> messages.HoldsAnswer:
        """Return the owner's holds with every operator."""
        deadline_ms = now_ms() + request.deadline_ms
        owner = owner_of(request.owner_key)
        operators = self._balancer.catalogue.codes()
        results = self._balancer.read_all([wire.ReadItem(code, "holds", {"owner": owner}) for code in operators], deadline_ms)
        partial = {result.operator: str(result.error.get("detail", "")) for result in results if result.error}
        holds = [hold_answer(value) for result in results if not result.error for value in result.value]
        return messages.HoldsAnswer(holds=sorted(holds, key=lambda hold: (hold.created_ms, in_order(hold.hold_id))), partial=partial)

    def _changed(self, hold_id: str, command: wire.AnyCommand, wait_ms: int) -> messages.HoldAnswer:
        operator = operator_of_hold(hold_id)
        self._balancer.catalogue.operator(operator)
        return hold_answer(self._balancer.decide(operator, command, now_ms() + wait_ms))

    # --- named seats ----------------------------------------------------------------------------------------------

    def _basket(self, request: messages.HoldSeats, sale: Sale, deadline_ms: int, waiter: Waiter, place: int) -> Basket:
        """Return the basket of a hold of named seats.

        Raises:
            Refusal: The request cannot be served whatever the state of the seats: nothing was sent.
        """
        words = request.seats
        if not words:
            raise InvalidRequest("no seat was named; name seats, or say how many of the best", field="seats")
        check_count(len(words), self._balancer.config.seats_per_hold_max)
        offers = []
        for word in words:
            offer = sale.offers.get(word)
            offers.append(seat_offer(sale, word) if offer is None else offer)
        if len(offers) > 1 and len({offer.seat_id for offer in offers}) < len(offers):
            raise InvalidRequest(f"a seat was named twice: {', '.join(map(shown, words[:9]))}", field="seats")
        return self._basket_of(request, sale, offers, 0, deadline_ms, waiter, place)

    def _basket_of(
        self, request: messages.HoldSeats, sale: Sale, offers: list[Offer], attempt: int, deadline_ms: int, waiter: Waiter, place: int,
        chosen: Chosen | None = None,
    ) -> Basket:
        config = self._balancer.config
        ttl_ms = ttl_of(request.ttl_ms, config)
        owner = owner_of(request.owner_key)
        if len(offers) == 1:  # The common case, and the hot one: nothing to gather.
            seat_id, key, price_minor, percent = offers[0]
            seats: tuple[str, ...] = (seat_id,)
            keys: tuple[str, ...] = (key,)
            prices: tuple[int, ...] = (price_minor,)
        else:
            seats = tuple([offer.seat_id for offer in offers])
            keys = tuple([offer.key for offer in offers])
            prices = tuple([offer.price_minor for offer in offers])
            percent = min([offer.refundable_percent for offer in offers])
        draft = HoldDraft(
            request_id_of_attempt(request.request_id, attempt) if attempt else request.request_id,
            _digest(request, owner),
            hold_id_of(sale.operator, owner, request.request_id, attempt),
            owner,
            request.service_id,
            seats,
            ttl_ms,
            sale.prices.currency,
            prices,
            percent,
            config.owner_holds_max,
            config.service_holds_max,
            chosen,
        )
        return Basket(sale.operator, deadline_ms, keys=keys, draft=draft, waiter=waiter, place=place)

    # --- best available (Z8) --------------------------------------------------------------------------------------

    def _one_of_many(self, request: messages.HoldSeats, deadline_ms: int) -> messages.HoldResult:
        try:
            return messages.HoldResult(hold=self._hold(request, deadline_ms))
        except HoldfastError as error:
            error.request_id = request.request_id
            return messages.HoldResult(error=error.to_data())

    def _hold_any(self, request: messages.HoldSeats, deadline_ms: int, parts: tuple[Part, ...] = ()) -> messages.HoldAnswer:
        """Propose, lock exactly those seats, HOLD; after a refusal propose again from what the primary said is taken.

        Attempts are numbered: a repeat of the request at any balancer walks the same chain of recorded answers, so that
        it meets the hold that an earlier try may have made instead of making a second one.

        Args:
            parts: Of an offer: only seats that they pay for.
        """
        if request.seats:
            raise InvalidRequest("name seats or ask for how many of the best, not both", field="count")
        check_count(request.count, self._balancer.config.seats_per_hold_max)
        attempt = 0
        told: Known | None = None  # by the primary
        while True:
            sale = self._balancer.sale(request.service_id, deadline_ms)
            self._check_cabin(sale, request.cabin)
            view = self._balancer.catalogue.operators[sale.operator]
            proposal = self.proposals.propose(sale, request, view, told, parts)
            if not proposal.seats:
                try:
                    found, told = self._look_closer(sale, request, attempt, deadline_ms)
                except NoRoom as found_out:
                    return self._refused(request, sale.operator, found_out.refusal, attempt, deadline_ms)
                if found is not None:
                    return found
                proposal = self.proposals.propose(sale, request, view, told, parts, alone=True)
                if not proposal.seats:
                    self._wait_for_change(request, deadline_ms)
            outcome = self._hold_proposed(request, sale, proposal, attempt, deadline_ms)
            if not may_choose_again(outcome.error):
                return hold_answer(outcome.unwrap())
            told = proposal.learnt(outcome.error.get("fields") or {})
            attempt += 1
            if now_ms() >= deadline_ms:
                raise LockTimeout("other buyers were faster to the end; ask again", service_id=request.service_id)

    def _hold_proposed(
        self, request: messages.HoldSeats, sale: Sale, proposal: Proposal, attempt: int, deadline_ms: int
    ) -> wire.Outcome:
        """Return what the partition says to the proposal, which is not under way any more, however this ends."""
        lsn = 0
        try:
            chosen = proposal.chosen if attempt < CHOICES_PROVED else None
            offers = [sale.offers[seat_id] for seat_id in proposal.seats]
            waiter = Waiter(1)
            self._balancer.pipeline.put([self._basket_of(request, sale, offers, attempt, deadline_ms, waiter, 0, chosen)])
            outcome = waiter.wait(deadline_ms)[0]
            if not outcome.error and {*outcome.value["seats"]} == {*proposal.seats}:  # A repeat's answer may be of other seats.
                lsn = outcome.lsn
            return outcome
        finally:
            self.proposals.settle(request.service_id, proposal.seats, lsn)

    def _refused(
        self, request: messages.HoldSeats, operator: str, refusal: HoldfastError, attempt: int, deadline_ms: int
    ) -> messages.HoldAnswer:
        """Refuse the request for good, for want of room; return the hold that another try of it has made meanwhile.

        Args:
            attempt: From which on another try may be under way; an attempt whose seats were taken is followed by another.
        Raises:
            HoldfastError: The refusal, or the one that another try met first.
        """
        digest = _digest(request, owner_of(request.owner_key))
        for later in range(ATTEMPTS_LOOKED_AHEAD):
            request_id = request_id_of_attempt(request.request_id, attempt + later)
            outcome = refuse(self._balancer, operator, request_id, digest, refusal, deadline_ms)
            if not may_choose_again(outcome.error):
                return hold_answer(outcome.unwrap())
        raise refusal

    def _look_closer(
        self, sale: Sale, request: messages.HoldSeats, attempt: int, deadline_ms: int
    ) -> tuple[messages.HoldAnswer | None, Known]:
        """Nothing can be proposed: return the hold that an earlier try of this request made, and the seats truly taken.

        Raises:
            NoRoom: The primary's state proves it (Z8).
        """
        operator = sale.operator
        owner = owner_of(request.owner_key)
        ids = [hold_id_of(operator, owner, request.request_id, attempt + ahead) for ahead in range(ATTEMPTS_LOOKED_AHEAD)]
        seats = {"service_id": request.service_id}
        items = [wire.ReadItem(operator, "seats", seats)]
        items += [wire.ReadItem(operator, "hold", {"hold_id": hold_id}) for hold_id in ids]
        results = self._balancer.read_all(items, deadline_ms)
        for result in results:
            if result.error and result.error.get("code") != UnknownHold.code:
                raise error_from_data(result.error)
        for result in results[1:]:
            if not result.error:
                return hold_answer(result.value), Known.of(results[0])
        again = partial(self._balancer.read, operator, "seats", seats, deadline_ms)
        clear = partial(self.reconciler.clear, operator, deadline_ms=deadline_ms)
        return None, prove_room(sale, request, results[0], again, clear)

    # --- offers ---------------------------------------------------------------------------------------------------

    def _offered(self, request: messages.HoldSeats, deadline_ms: int) -> tuple[Part, ...]:
        """Return what the request's offer pays for.

        Raises:
            OfferExpired, PriceChanged, ...: As `offers.check_offer`. InvalidRequest: The offer is of something else.
        """
        self._balancer.sale(request.service_id, deadline_ms)  # Whether the service exists is asked of its primary where in doubt.
        offer = self._balancer.checked_offer(request.offer, deadline_ms)
        if len(offer.legs) > 1:
            services = ", ".join(leg.service_id for leg in offer.legs)
            raise InvalidRequest(f"the offer is a trip of {len(offer.legs)} services ({services}): hold the trip", field="offer")
        leg = offer.legs[0]
        if leg.service_id != request.service_id:
            raise InvalidRequest(f"the offer is of {leg.service_id}, not of {request.service_id}", field="offer")
        wanted = request.count or len(request.seats)
        if wanted != offer.passengers or (request.cabin and request.cabin != leg.cabin):
            raise InvalidRequest(f"the offer is of {counted(offer.passengers, 'seat')} in cabin {leg.cabin}", field="offer")
        return leg.parts

    def _made_before(self, request: messages.HoldSeats, deadline_ms: int) -> messages.HoldAnswer | None:
        """Return the hold that an earlier try of this request made."""
        operator = parse_service_id(request.service_id, frozenset(self._balancer.catalogue.operators)).operator
        owner = owner_of(request.owner_key)
        ids = [hold_id_of(operator, owner, request.request_id, attempt) for attempt in range(ATTEMPTS_LOOKED_AHEAD)]
        results = self._balancer.read_all([wire.ReadItem(operator, "hold", {"hold_id": hold_id}) for hold_id in ids], deadline_ms)
        for result in results:
            if not result.error:
                return hold_answer(result.value)
            if result.error.get("code") != UnknownHold.code:
                raise error_from_data(result.error)
        return None

    def _wait_for_change(self, request: messages.HoldSeats, deadline_ms: int) -> None:
        """The primary has fewer seats at the offered price than the view: wait until the offer is seen to have changed.

        Raises:
            PriceChanged, ...: As `offers.check_offer`. NoAdjacentBlock, SeatUnavailable: The view did not follow in time.
        """
        operator = parse_service_id(request.service_id, frozenset(self._balancer.catalogue.operators)).operator
        until_ms = min(deadline_ms, now_ms() + self._balancer.config.view_wait_ms)
        while now_ms() < until_ms:
            self._balancer.checked_offer(request.offer, deadline_ms)
            self._balancer.follower.wait_for(operator, self._balancer.catalogue.operators[operator].lsn + 1, until_ms - now_ms())
        self._balancer.checked_offer(request.offer, deadline_ms)
        kind = NoAdjacentBlock if request.together else SeatUnavailable
        seats = counted(request.count, "seat") + " side by side" * request.together
        reason = f"{request.service_id} has no {seats} left at the offered price"
        raise kind(reason, service_id=request.service_id, seats=[])

    def _check_cabin(self, sale: Sale, cabin: str) -> None:
        if cabin and cabin not in sale.layout.cabins:
            known = ", ".join(sale.layout.cabins)
            raise InvalidRequest(f"{sale.service.service_id} has no cabin {shown(cabin)}; it has {known}", field="cabin")


def _digest(request: messages.HoldSeats, owner: str) -> bytes:
    offer = (request.offer,) if request.offer else ()
    return ask_digest(owner, request.service_id, request.seats, request.count, request.cabin, request.together, request.ttl_ms, *offer)


def _first_hold(outcomes: list[wire.Outcome]) -> messages.HoldAnswer:
    return hold_answer(outcomes[0].unwrap())


def check_count(count: int, most: int) -> None:
    """Refuse more seats than one hold may have.

    Raises:
        InvalidRequest: `most` is how many are allowed.
    """
    if count > most:
        raise InvalidRequest(f"{count} seats are too many for one hold; {most} are allowed", field="seats", most=most)


def ttl_of(wanted_ms: int, config: LoadBalancerConfig) -> int:
    """Return how long a hold lasts for which a caller wants that time, 0 being the cluster's own.

    Raises:
        InvalidRequest: That is too long.
    """
    ttl_ms = wanted_ms or config.hold_ttl_ms
    if ttl_ms > config.hold_ttl_max_ms:
        minutes = config.hold_ttl_max_ms // 60_000
        raise InvalidRequest(f"a hold lasts at most {minutes} minutes", field="ttl_ms", most_ms=config.hold_ttl_max_ms)
    return ttl_ms


def seat_offer(sale: Sale, word: str) -> Offer:
    """Return the seat that a caller's word means in any case.

    Raises:
        UnknownSeat: None; the nearest are in the message.
    """
    offer = sale.offers.get(word.strip().lower())
    if offer is None:
        raise no_such_seat(sale.service.service_id, sale.layout, word)
    return offer
