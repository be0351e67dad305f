"""A service is taken away or moved, and the traveller is asked what now: orders marked, here and through their anchors. Pure.

A marked order stands, with its seats, until its traveller takes an alternative, keeps it as it is, or has the whole price back
whatever the fare says. The operator of a leg that is decided elsewhere frees and cancels nothing: its mark travels to the anchor, as
every loss does, and comes back with the next word on the basket (`datastore.legs`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datastore import commands, errors
from datastore.model import BasketState, OrderState, SeatState
from datastore.outcomes import basket_value
from datastore.overlay import Batch
from datastore.rows import BasketRow, OrderRow
from datastore.taking import copy

CANCELLED, MOVED = "cancelled", "moved"
ASKS = ("", CANCELLED, MOVED)


def ask_travellers(batch: Batch, service_id: str, why: str) -> list[str]:
    """Mark every order that has seats of a service; return their references. Those decided elsewhere hear of it through their anchors."""
    holds = dict.fromkeys(row.hold_id for row in batch.touched(service_id).values() if row.state == SeatState.BOOKED)
    found: list[str] = []
    for hold_id in holds:
        closed = batch.closed_hold(hold_id)
        if closed is None:
            raise errors.InvariantBroken(f"a seat of {service_id} is booked by {hold_id}, which is not known")
        found.append(closed.reference)
        if closed.anchor:
            leg = batch.leg(closed.basket)
            if leg is None:
                raise errors.InvariantBroken(f"a seat belongs to basket {closed.basket}, which is not known here")
            services = dict.fromkeys((*(leg.asks.split() if leg.lost else ()), service_id))
            batch.put_leg(copy(leg, lost=why, asks=" ".join(services)))
            continue
        order = batch.order(closed.reference)
        if order is None:
            raise errors.InvariantBroken(f"a seat of {service_id} is booked by {hold_id}, which has no order")
        marked(batch, order, [service_id], why)
    return list(dict.fromkeys(found))


def marked(batch: Batch, order: OrderRow, services: Iterable[str], why: str) -> None:
    """Ask an order's traveller about services that it still has; once for each."""
    own = {leg.service_id for leg in order.legs} or {order.service_id}
    new = [(service_id, why) for service_id in services if service_id in own and (service_id, why) not in order.action]
    if order.state != OrderState.CONFIRMED or not new:
        return
    named = {service_id for service_id, _ in new}
    batch.put_order(
        copy(
            order,
            action=(*(one for one in order.action if one[0] not in named), *new),
            history=(*order.history, *((batch.now_ms, f"{service_id} {why}") for service_id, _ in new)),
            changed_lsn=batch.lsn,
        )
    )


def leg_lost(batch: Batch, command: commands.ServiceLost, row: BasketRow) -> dict[str, Any]:
    """At the anchor of a sold basket: its traveller is asked, and the operator that said so hears that it was heard."""
    order = batch.order(row.reference)
    if order is None or row.state != BasketState.COMMITTED:
        raise errors.InvariantBroken(f"basket {row.basket_id} is sold and has no order {row.reference}")
    heard = dict(row.heard)
    if heard.get(command.operator) != command.reason:
        marked(batch, order, command.asks.split(), command.reason)
        heard[command.operator] = command.reason
        undone = tuple(dict.fromkeys((*row.undone, command.operator)))
        row = copy(row, heard=tuple(heard.items()), undone=undone, decided_lsn=batch.lsn)
        batch.put_basket(row)
    return basket_value(row, batch.now_ms, row.decided_lsn)
