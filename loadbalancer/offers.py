"""Offers: a trip with its price, as a text that a buyer carries to a hold. Pure.

An offer holds no seat and no price. Its text says what was offered: the services with their times, the seats by cabin and zone with
the price of each, what comes back on cancelling, and until when. Whoever takes it to a hold has every word compared with what is
true then (`check_offer`), so any balancer can serve an offer of any other, none keeps a list, and there is nothing to gain by
writing an offer oneself: it buys what is on sale at the price of the moment or nothing. The digest at its end finds slips of the pen.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import msgspec

from datastore.errors import ConnectionTooShort, InvalidRequest, OfferExpired, PriceChanged, SeatUnavailable, ServiceClosed, shown
from datastore.model import MINUTE_MS, Layout, Money, Service, ServiceState
from datastore.wire import UNREADABLE
from loadbalancer.connecting import is_international
from loadbalancer.fares import CURRENCY, days_ahead, price_table
from loadbalancer.party import Part, free_by_zone, party_fare
from loadbalancer.search_index import Network
from loadbalancer.seatchoice import choose
from loadbalancer.view import Catalogue, OperatorView

PERSON = b"holdfast-offer"
DIGEST_BYTES = 6
FORM = 1  # Raised when the meaning of a field changes; offers of another form are refused as expired.


class OfferedLeg(msgspec.Struct, frozen=True, array_like=True):
    """One service of an offer. `parts`: the seats, all of one cabin, cheapest first; times are UTC milliseconds."""

    service_id: str
    departs_ms: int
    arrives_ms: int
    parts: tuple[Part, ...]
    refundable_percent: int

    @property
    def total_minor(self) -> int:
        return sum(part.seats * part.each_minor for part in self.parts)

    @property
    def cabin(self) -> str:
        return self.parts[0].cabin


class TripOffer(msgspec.Struct, frozen=True, array_like=True):
    """What was offered. `expires_ms`: UTC; `currency`: of all its prices."""

    form: int
    passengers: int
    currency: str
    expires_ms: int
    legs: tuple[OfferedLeg, ...]

    @property
    def total_minor(self) -> int:
        return sum(leg.total_minor for leg in self.legs)


class Scene(NamedTuple):
    """What an offer is made and judged from: the views, the network, UTC now, and how long offers last."""

    catalogue: Catalogue
    network: Network
    now_ms: int
    ttl_ms: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TripOffer)


def offer_id(offer: TripOffer) -> str:
    """Return the offer as a text of letters, digits, "-" and "_"."""
    data = _encoder.encode(offer)
    return base64.urlsafe_b64encode(data + _digest(data)).decode().rstrip("=")


def read_offer(text: str) -> TripOffer:
    """Return the offer that `offer_id` made the text of.

    Raises:
        InvalidRequest: It is no such text. OfferExpired: It has another form; search anew.
    """
    word = text.strip()
    try:
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except (binascii.Error, ValueError) as error:
        raise _no_offer(word) from error
    data, digest = raw[:-DIGEST_BYTES], raw[-DIGEST_BYTES:]
    if _digest(data) != digest:
        raise _no_offer(word)
    try:
        offer = _decoder.decode(data)
    except UNREADABLE as error:
        raise OfferExpired("the offer is of another version of Holdfast; search anew") from error
    if offer.form != FORM or not offer.legs or not all(leg.parts for leg in offer.legs):
        raise OfferExpired("the offer is of another version of Holdfast; search anew")
    return offer


def make_offer(scene: Scene, service_ids: Sequence[str], passengers: int, cabins: Sequence[str]) -> TripOffer:
    """Return the offer of these services as they are now.

    Args:
        cabins: Beside `service_ids`: the cabin of each leg, "" for the cheapest that has room for all.
    Raises:
        UnknownService, UnknownOperator, ServiceClosed: A service is not on sale. SeatUnavailable: One has not so many seats left.
        ConnectionTooShort: Two services cannot be connected any more.
    """
    found = [scene.catalogue.find(service_id) for service_id in service_ids]
    legs = [leg_now(scene, *one, passengers, cabin)[0] for one, cabin in zip(found, cabins, strict=True)]
    check_connections(scene.network, [service for _, service, _ in found])
    currencies = {service.schedule.currency or CURRENCY for _, service, _ in found}
    if len(currencies) > 1:
        raise InvalidRequest(f"these services are priced in {' and '.join(sorted(currencies))}; one order has one currency", field="offer")
    return TripOffer(FORM, passengers, currencies.pop(), scene.now_ms + scene.ttl_ms, tuple(legs))


def check_offer(scene: Scene, text: str) -> TripOffer:
    """Return the offer if all that it says is still true: its legs with their prices are what a hold may take.

    Raises:
        InvalidRequest: No such offer. OfferExpired: Its time is over.
        PriceChanged: A price, a time or a condition is another now; `fields["offer"]` is the new offer and `fields["changed"]`
            says what changed on which service.
        UnknownService, ServiceClosed, SeatUnavailable, ConnectionTooShort: It cannot be had at any price.
    """
    offer = read_offer(text)
    if offer.expires_ms <= scene.now_ms:
        seconds = (scene.now_ms - offer.expires_ms) // 1000
        services = [leg.service_id for leg in offer.legs]
        raise OfferExpired(f"the offer expired {seconds} s ago; search anew", services=services, expires_ms=offer.expires_ms)
    now = make_offer(scene, [leg.service_id for leg in offer.legs], offer.passengers, [leg.cabin for leg in offer.legs])
    changed = [change for was, one in zip(offer.legs, now.legs, strict=True) for change in _changes(was, one)]
    if offer.currency != now.currency:
        changed.append(f"the currency was {offer.currency} and is {now.currency}")
    if changed:
        raise PriceChanged(
            f"the offer has changed: {'; '.join(changed)}",
            offer=offer_id(now),
            changed=changed,
            was={"minor": offer.total_minor, "currency": offer.currency},
            now={"minor": now.total_minor, "currency": now.currency},
            expires_ms=now.expires_ms,
        )
    return offer


def leg_now(
    scene: Scene, view: OperatorView, service: Service, layout: Layout, passengers: int, cabin: str
) -> tuple[OfferedLeg, int]:
    """Return a service for the party as it can be bought now, and how many seats of that cabin are left.

    Args:
        cabin: "" means the cheapest that has room for all.
    Raises:
        ServiceClosed: It is not on sale. SeatUnavailable: It has not so many seats left.
    """
    service_id = service.service_id
    row = view.services.get(service_id)
    if row is not None and row.state != ServiceState.OPEN:
        word = "cancelled" if row.state == ServiceState.CANCELLED else "closed for sale"
        raise ServiceClosed(f"{service_id} is {word}: {row.reason}", service_id=service_id, state=word)
    if service.departs_ms <= scene.now_ms:
        raise ServiceClosed(f"{service_id} has departed", service_id=service_id, state="departed")
    prices = price_table(service.schedule, layout, days_ahead(service.departs_ms, scene.now_ms))
    free = free_by_zone(layout, list(view.taken.get(service_id, ())))
    fare = party_fare(prices.minor, free, passengers, cabin)
    if fare is None:
        where = f"{service_id}{' in cabin ' + cabin if cabin else ''}"
        left = sum(count for (word, _), count in free.items() if cabin in ("", word))
        raise SeatUnavailable(f"{where} has {left} seats left, {passengers} were asked for", seats=[], service_id=service_id, free=left)
    offered = OfferedLeg(service_id, service.departs_ms, service.arrives_ms, fare.parts, prices.refundable_percent[fare.cabin])
    return offered, fare.left


def choose_offered(layout: Layout, taken: Collection[str], parts: Sequence[Part], *, together: bool) -> tuple[str, ...]:
    """Return the best free seats at the prices of an offer's parts; empty where there are not so many, or not `together`."""
    if together and len(parts) > 1:
        paid = {(part.cabin, part.zone): part.seats for part in parts}
        others = {seat.seat_id for seat in layout.seats if (seat.cabin, seat.zone) not in paid}
        seats = choose(layout, {*taken, *others}, sum(paid.values()), cabin=parts[0].cabin, together=True).seats
        where = [(layout.by_id[seat_id].cabin, layout.by_id[seat_id].zone) for seat_id in seats]
        return seats if all(where.count(pair) == count for pair, count in paid.items()) else ()
    found: list[str] = []
    for part in parts:
        others = {seat.seat_id for seat in layout.seats if (seat.cabin, seat.zone) != (part.cabin, part.zone)}
        seats = choose(layout, {*taken, *others}, part.seats, cabin=part.cabin, together=together).seats
        if not seats:
            return ()
        found += seats
    return tuple(found)


def check_connections(network: Network, services: Sequence[Service]) -> None:
    """Check that whoever takes one service after the other has the minimum connecting times.

    Raises:
        InvalidRequest: One does not begin where the one before it ends. ConnectionTooShort: There is too little time.
    """
    for before, after in pairwise(services):
        schedule, onward = before.schedule, after.schedule
        here = onward.origin
        if schedule.destination != here:
            raise InvalidRequest(f"{after.service_id} does not begin where {before.service_id} ends", field="offer")
        places = network.places
        countries = [places[code].country if code in places else "" for code in (schedule.origin, here, onward.destination)]
        needed = network.connecting.minutes(here, before.operator, after.operator, international=is_international(*countries))
        minutes = (after.departs_ms - before.arrives_ms) // MINUTE_MS
        if minutes < needed:
            raise ConnectionTooShort(
                f"at {here} there are {minutes} min between {before.service_id} and {after.service_id}; {needed} are needed",
                place=here,
                minutes=minutes,
                needed=needed,
            )


def _changes(was: OfferedLeg, now: OfferedLeg) -> list[str]:
    found = []
    if (was.departs_ms, was.arrives_ms) != (now.departs_ms, now.arrives_ms):
        minutes = (now.departs_ms - was.departs_ms) // MINUTE_MS, (now.arrives_ms - was.arrives_ms) // MINUTE_MS
        found.append(f"{was.service_id} departs {minutes[0]:+d} min and arrives {minutes[1]:+d} min")
    if was.parts != now.parts:
        # Without a currency: an offer has one, and the answer names it.
        found.append(f"{was.service_id} cost {_plain(was.total_minor)} and costs {_plain(now.total_minor)}")
    if was.refundable_percent != now.refundable_percent:
        found.append(f"{was.service_id} was {was.refundable_percent} % refundable and is {now.refundable_percent} %")
    return found


def _plain(minor: int) -> str:
    return str(Money(minor, "")).strip()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES, person=PERSON).digest()


def _no_offer(word: str) -> InvalidRequest:
    return InvalidRequest(f"{shown(word, 24)} is not an offer: take it whole from a search", field="offer")
