"""An order changed by one entry at its anchor: seats given up, and others booked in their place (B11, Z10). Pure.

Where an order's seats are booked is in its parts: the hold or basket that was sold, and those of its changes. Giving seats up ends
them here at once; of a basket's leg at another operator, the record shrinks and that operator follows, as it follows every other
word (B5): what it is told to keep only ever gets less, so words may come late, twice or out of order.

A change holds the new seats first, as a basket of its own with the same anchor. It is paid for like any other, and if it ends, the
order is as it was: nothing is given up before the entry that books the new.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from datastore import commands, conditions, errors, tickets
from datastore.affecting import MOVED
from datastore.model import BasketState, HoldState, Leg, OrderState, Part, SeatState, is_basket, leg_hold_id
from datastore.outcomes import order_value
from datastore.overlay import Batch
from datastore.rows import BasketRow, HoldRow, OrderRow, Ticketed
from datastore.taking import cancel_order, capture_payment, copy, local_holds, others_of, refund_payments, set_seats, trim_hold
from datastore.tickets import CouponStatus

Cuts = Mapping[int, tuple[int, ...]]


def owned_order(batch: Batch, reference: str, token_digest: bytes) -> OrderRow:
    """Return the order that this token changes.

    Raises:
        UnknownOrder, AlreadyCancelled: There is none that stands.
    """
    order = batch.order(reference)
    if order is None or not hmac.compare_digest(order.token_digest, token_digest):
        # One answer for both: nobody learns which references exist.
        raise errors.UnknownOrder(f"no booking {errors.shown(reference)} with that token")
    if order.state == OrderState.CANCELLED:
        raise errors.AlreadyCancelled(f"booking {order.reference} is cancelled", reference=order.reference)
    return order


def amend(batch: Batch, command: commands.Amend, basket: BasketRow | None) -> dict[str, Any]:
    """Change an order (B11).

    Args:
        basket: The change basket, checked to be alive, proven and paid; None for none.
    Raises:
        QuoteExpired: The order, or what goes back, is not what was quoted. InvalidRequest: Not such a change.
    """
    order = owned_order(batch, command.reference, command.token_digest)
    version = order.changed_lsn or order.lsn
    if version != command.expects:
        raise errors.QuoteExpired(f"booking {order.reference} has changed since; ask for a new quote", reference=order.reference)
    if command.full and (not order.action or basket is not None):
        raise errors.InvalidRequest("the whole price goes back only where a service was taken away", field="full")
    if not command.cuts and basket is None and order.action:
        return _kept(batch, order, command)
    legs = legs_of(batch, order)
    cuts = _checked_cuts(legs, command, basket)
    _check_not_gone(batch, [legs[place] for place in cuts] if not command.full else [])
    if basket is not None and len(command.leg_passengers) != len(local_holds(batch, basket)):
        raise errors.InvalidRequest("a basket's decision names the passengers of each leg", field="passengers")
    price_minor, refund_minor = _amounts(legs, cuts, command, basket)
    if refund_minor != command.refund_minor:
        raise errors.QuoteExpired(
            f"{refund_minor} would go back, not {command.refund_minor}; ask for a new quote", refund_minor=refund_minor
        )
    if basket is None and all(len(cuts.get(place, ())) == len(leg.seats) for place, leg in enumerate(legs)):
        return order_value(cancel_order(batch, order, refund_minor, command.what), batch.now_ms, batch.lsn)
    left = _given_up(batch, parts_of(order, legs), legs, cuts)
    ticketed = _coupons_gone(order, legs, cuts, refund_minor, exchanged=basket is not None)
    party = order.travellers or tuple(range(len(legs[0].seats)))
    if basket is None:
        order = _smaller(order, legs, left, cuts, party)
    else:
        _book(batch, order, basket, command, tuple(party[position] for position in next(iter(cuts.values()))))
        order = _exchanged(order, legs, left, cuts, basket)
    retained = _retained(order.retained, legs, cuts, price_minor - refund_minor)
    refund_payments(batch, order, refund_minor)
    first = order.legs[0]
    gone = {legs[place].service_id for place in cuts}
    order = copy(
        order,
        service_id=first.service_id,
        seats=first.seats,
        prices=first.prices,
        laps=first.laps,
        refundable_percent=first.refundable_percent,
        departs_ms=command.departs_ms or order.departs_ms,
        refund_minor=order.refund_minor + refund_minor,
        retained=retained,
        history=(*order.history, (batch.now_ms, command.what)),
        changed_lsn=batch.lsn,
        ticketed=ticketed,
        action=tuple(one for one in order.action if one[0] not in gone or any(leg.service_id == one[0] for leg in order.legs)),
    )
    batch.put_order(order)
    return order_value(order, batch.now_ms, batch.lsn)


def _coupons_gone(order: OrderRow, legs: Sequence[Leg], cuts: Cuts, refund_minor: int, *, exchanged: bool) -> Ticketed | None:
    """Return the order's tickets with the coupons of what is given up: exchanged, or refunded, or void where nothing goes back."""
    if order.ticketed is None:
        return None
    status = CouponStatus.EXCHANGED if exchanged else CouponStatus.REFUNDED if refund_minor else CouponStatus.VOID
    party = order.travellers or tuple(range(len(legs[0].seats)))
    gone = tickets.given_up(party, legs, cuts, status)
    return msgspec.structs.replace(order.ticketed, gone=(*order.ticketed.gone, *gone))


def _kept(batch: Batch, order: OrderRow, command: commands.Amend) -> dict[str, Any]:
    """The traveller keeps the order as it is: a service that is not there any more cannot be kept."""
    gone = [service_id for service_id, why in order.action if not why.startswith(MOVED)]
    if gone:
        raise errors.ServiceClosed(f"{gone[0]} is cancelled: take an alternative, or the money", service_id=gone[0], state="cancelled")
    history = (*order.history, (batch.now_ms, command.what))
    row: OrderRow = copy(order, action=(), history=history, changed_lsn=batch.lsn)
    batch.put_order(row)
    return order_value(row, batch.now_ms, batch.lsn)


def legs_of(batch: Batch, order: OrderRow) -> tuple[Leg, ...]:
    """Return an order's legs; that of one service alone has one."""
    plain = Leg(batch.state.operator, order.service_id, order.seats, order.prices, order.refundable_percent, order.laps)
    return order.legs or (plain,)


def parts_of(order: OrderRow, legs: Sequence[Leg]) -> tuple[Part, ...]:
    """Return where an order's seats are booked."""
    if order.parts:
        return order.parts
    numbered = is_basket(order.hold_id)
    return tuple(Part(order.hold_id, place if numbered else -1, place, leg.seats) for place, leg in enumerate(legs))


def _check_not_gone(batch: Batch, legs: Sequence[Leg]) -> None:
    """Refuse to give up what has departed, as far as it is this operator's; others' times are not known here."""
    for leg in legs:
        facts = batch.state.facts(leg.service_id) if leg.operator == batch.state.operator else None
        if facts is not None and facts.service.departs_ms <= batch.now_ms:
            raise errors.ServiceClosed(f"{leg.service_id} has departed", service_id=leg.service_id, state="departed")


def _checked_cuts(legs: Sequence[Leg], command: commands.Amend, basket: BasketRow | None) -> dict[int, tuple[int, ...]]:
    cuts = {place: tuple(sorted(set(positions))) for place, positions in command.cuts}
    party = range(len(legs[0].seats))
    if not cuts or any(place not in range(len(legs)) or not positions or set(positions) - set(party) for place, positions in cuts.items()):
        raise errors.InvalidRequest("a change names legs of the booking, and seats of them", field="cuts")
    if basket is None:
        whole_legs = all(len(positions) == len(party) for positions in cuts.values())
        same_seats = len(cuts) == len(legs) and len(set(cuts.values())) == 1
        if not whole_legs and not same_seats:
            raise errors.InvalidRequest("whole legs are given up, or the same passengers on all of them", field="cuts")
        return cuts
    ((place, positions),) = cuts.items() if len(cuts) == 1 else (_one_leg(),)
    partly = len(positions) < len(party)
    if any(len(leg.seats) != len(positions) for leg in basket.legs) or (
        partly and [leg.service_id for leg in basket.legs] != [legs[place].service_id]
    ):
        raise errors.InvalidRequest("what comes in does not fit what goes out", field="basket_id")
    if basket.credit_minor != conditions.cut_price_minor(legs[place], positions):
        raise errors.QuoteExpired("what is replaced does not cost what was quoted; ask for a new quote", hold_id=basket.basket_id)
    return cuts


def _one_leg() -> tuple[int, tuple[int, ...]]:
    raise errors.InvalidRequest("one leg is changed at a time", field="cuts")


def _amounts(legs: Sequence[Leg], cuts: Cuts, command: commands.Amend, basket: BasketRow | None) -> tuple[int, int]:
    """Return (what is given up for nothing else, what of it goes back), in minor units."""
    price_minor = sum(conditions.cut_price_minor(legs[place], positions) for place, positions in cuts.items())
    if basket is not None:
        (place,) = cuts
        price_minor = max(0, price_minor - sum(sum(leg.prices) for leg in basket.legs))
        return price_minor, conditions.back_minor(price_minor, legs[place].refundable_percent)
    if command.full:
        return price_minor, price_minor
    return price_minor, sum(conditions.cut_refund_minor(legs[place], positions) for place, positions in cuts.items())


def _retained(
    before: tuple[tuple[str, int], ...], legs: Sequence[Leg], cuts: Cuts, kept_minor: int
) -> tuple[tuple[str, int], ...]:
    """Return what operators keep of what was given up, this change's share of each leg by its price added."""
    places = list(cuts)
    found = dict(before)
    shares = conditions.split_minor(kept_minor, [conditions.cut_price_minor(legs[place], cuts[place]) for place in places])
    if len(places) > 1:
        # Each leg keeps by its own conditions; the sum is the same wherever rounding went (`conditions`).
        own = [
            conditions.cut_price_minor(legs[place], cuts[place]) - conditions.cut_refund_minor(legs[place], cuts[place]) for place in places
        ]
        shares = own if sum(own) == kept_minor else shares
    for place, share in zip(places, shares, strict=True):
        if share:
            found[legs[place].operator] = found.get(legs[place].operator, 0) + share
    return tuple(found.items())


# --- what goes out ------------------------------------------------------------------------------------------------


def _given_up(batch: Batch, parts: Sequence[Part], legs: Sequence[Leg], cuts: Cuts) -> tuple[Part, ...]:
    """Give up seats where they are booked; return the parts that are left, each at the place that it had."""
    left: list[Part] = []
    for part in parts:
        leg = legs[part.place]
        gone = {leg.seats[position] for position in cuts.get(part.place, ())} & set(part.seats)
        if gone:
            _give_up(batch, part, leg.operator, gone)
        kept = tuple(seat for seat in part.seats if seat not in gone)
        if kept:
            left.append(Part(part.hold_id, part.number, part.place, kept))
    return tuple(left)


def _give_up(batch: Batch, part: Part, operator: str, gone: set[str]) -> None:
    """End seats of a part: here at once, elsewhere by the basket's record, which its operator follows."""
    if part.number < 0:
        trim_hold(batch, _sold_hold(batch, part.hold_id), gone)
        return
    basket = batch.basket(part.hold_id)
    if basket is None or basket.state != BasketState.COMMITTED:
        raise errors.InvariantBroken(f"order seats are in basket {part.hold_id}, which is not sold")
    leg = basket.legs[part.number]
    positions = [place for place, seat in enumerate(leg.seats) if seat in gone]
    seated = basket.seated or tuple(tuple(range(len(one.seats))) for one in basket.legs)
    mine = tuple(who for place, who in enumerate(seated[part.number]) if place not in positions)
    undone = basket.undone
    if operator == batch.state.operator:
        trim_hold(batch, _sold_hold(batch, leg_hold_id(part.hold_id, part.number)), gone)
    else:
        undone = tuple(dict.fromkeys((*undone, operator)))
    number = part.number
    batch.put_basket(
        copy(
            basket,
            legs=(*basket.legs[:number], conditions.without(leg, positions), *basket.legs[number + 1 :]),
            seated=(*seated[:number], mine, *seated[number + 1 :]),
            undone=undone,
            decided_lsn=batch.lsn,
        )
    )


def _sold_hold(batch: Batch, hold_id: str) -> HoldRow:
    hold = batch.closed_hold(hold_id)
    if hold is None or hold.state != HoldState.CONVERTED:
        raise errors.InvariantBroken(f"order seats are in hold {hold_id}, which is not sold")
    return hold


# --- what the order is afterwards ---------------------------------------------------------------------------------


def _smaller(order: OrderRow, legs: Sequence[Leg], left: Sequence[Part], cuts: Cuts, party: tuple[int, ...]) -> OrderRow:
    """Return the order without some legs, or without some passengers."""
    positions = next(iter(cuts.values()))
    if len(positions) < len(party):
        party = tuple(who for place, who in enumerate(party) if place not in positions)
        fewer = tuple(conditions.without(leg, cuts[place]) for place, leg in enumerate(legs))
        return copy(order, legs=fewer, parts=tuple(left), travellers=party)  # type: ignore[no-any-return]
    places = [place for place in range(len(legs)) if place not in cuts]
    parts = tuple(Part(part.hold_id, part.number, places.index(part.place), part.seats) for part in left)
    return copy(order, legs=tuple(legs[place] for place in places), parts=parts, travellers=party)  # type: ignore[no-any-return]


def _exchanged(order: OrderRow, legs: Sequence[Leg], left: Sequence[Part], cuts: Cuts, basket: BasketRow) -> OrderRow:
    """Return the order with a basket's seats in the place of some of one leg, or with its legs in the place of that leg."""
    ((place, positions),) = cuts.items()
    own = basket.legs
    if len(positions) < len(legs[place].seats):
        own = (conditions.exchanged(legs[place], positions, basket.legs[0]),)
    more = len(own) - 1
    parts = [Part(part.hold_id, part.number, part.place + more * (part.place > place), part.seats) for part in left]
    parts += [Part(basket.basket_id, number, place + number, leg.seats) for number, leg in enumerate(basket.legs)]
    changed = (*legs[:place], *own, *legs[place + 1 :])
    intents = (*order.intents, basket.intent) if basket.intent else order.intents
    party = order.travellers or tuple(range(len(legs[0].seats)))
    return copy(order, legs=changed, parts=tuple(parts), intents=intents, travellers=party)  # type: ignore[no-any-return]


def _book(batch: Batch, order: OrderRow, basket: BasketRow, command: commands.Amend, who: tuple[int, ...]) -> None:
    """Book what a change basket holds here; its other operators follow."""
    for one, passengers in zip(local_holds(batch, basket), command.leg_passengers, strict=True):
        set_seats(batch, one, SeatState.HELD, SeatState.BOOKED)
        batch.close_hold(copy(one, state=HoldState.CONVERTED, reference=order.reference, passengers=passengers))
    batch.put_basket(
        copy(
            basket,
            state=BasketState.COMMITTED,
            reference=order.reference,
            holds=command.holds,
            undone=others_of(batch, basket),
            decided_lsn=batch.lsn,
            passengers=order.passengers,
            seated=(who,) * len(basket.legs),
        )
    )
    capture_payment(batch, basket.intent, order.reference)
