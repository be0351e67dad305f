"""Holds in bulk for one owner: one request, one lock over all seats, one command; each hold stands or falls alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from datastore import messages, wire
from datastore.errors import InvalidRequest, shown
from datastore.model import bulk_hold_id
from loadbalancer.balancer import Balancer
from loadbalancer.basket import Basket, HoldEachDraft
from loadbalancer.identity import ask_digest, hold_id_of, owner_of
from loadbalancer.locker import KEYS_PER_BATCH
from loadbalancer.selling import Begun, check_count, seat_offer, ttl_of
from loadbalancer.view import Offer, Sale
from loadbalancer.waiting import Waiter, now_ms


class Bulk:
    """The handler of `hold_each`."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    def hold_each(self, request: messages.HoldEach) -> Begun:
        """Begin to make the holds.

        Raises:
            Refusal: Something asked for can never be held: then none is made, and nothing was sent.
        """
        deadline_ms = now_ms() + request.deadline_ms
        config = self._balancer.config
        sale = self._balancer.sale(request.service_id, deadline_ms)
        offers = [_offers(sale, words, config.seats_per_hold_max) for words in request.seats]
        seats = tuple([tuple([offer.seat_id for offer in held]) for held in offers])
        keys = tuple([offer.key for held in offers for offer in held])
        if len(keys) > KEYS_PER_BATCH:
            reason = f"{len(keys)} seats are too many for one request; {KEYS_PER_BATCH} are allowed"
            raise InvalidRequest(reason, field="seats", most=KEYS_PER_BATCH)
        if len(set(keys)) < len(keys):
            counted = Counter(offer.seat_id for held in offers for offer in held)
            twice = [seat_id for seat_id, count in counted.items() if count > 1]
            raise InvalidRequest(f"a seat was named twice: {', '.join(map(shown, twice[:9]))}", field="seats")
        owner = owner_of(request.owner_key)
        draft = HoldEachDraft(
            request.request_id,
            ask_digest("each", owner, request.service_id, request.seats, request.ttl_ms),
            hold_id_of(sale.operator, owner, request.request_id),
            owner,
            request.service_id,
            seats,
            ttl_of(request.ttl_ms, config),
            sale.prices.currency,
            tuple([tuple([offer.price_minor for offer in held]) for held in offers]),
            tuple([min([offer.refundable_percent for offer in held]) for held in offers]),
            config.owner_holds_max,
            config.service_holds_max,
        )
        waiter = Waiter(1)
        self._balancer.pipeline.put([Basket(sale.operator, deadline_ms, keys=keys, draft=draft, waiter=waiter)])
        return Begun(waiter, deadline_ms, lambda outcomes: _answer(sale.operator, outcomes[0]))


def _offers(sale: Sale, words: Sequence[str], most: int) -> list[Offer]:
    if not words:
        raise InvalidRequest("a hold without a seat; name one or more for each", field="seats")
    check_count(len(words), most)
    return [sale.offers.get(word) or seat_offer(sale, word) for word in words]


def _answer(operator: str, outcome: wire.Outcome) -> messages.HoldEachAnswer:
    value = outcome.unwrap()
    refused = [(number - 1, error) for number, error in value["refused"]]
    bulk_id, seats = value["bulk_id"], value["seats"]
    hold_ids = [bulk_hold_id(bulk_id, number + 1) for number in range(len(seats))]
    for place, _ in refused:
        hold_ids[place] = ""
    return messages.HoldEachAnswer(
        operator=operator,
        service_id=value["service_id"],
        created_ms=value["created_ms"],
        expires_ms=value["expires_ms"],
        remaining_ms=max(0, value["expires_ms"] - value["now_ms"]),
        currency=value["currency"],
        lsn=value["lsn"],
        hold_ids=hold_ids,
        seats=seats,
        prices=value["prices"],
        refundable_percents=value["refundable_percents"],
        refused=refused,
    )
