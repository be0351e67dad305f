"""What a partition says of holds, baskets and orders: plain data, the same for commands and for reads. Pure."""

from __future__ import annotations

from typing import Any

from datastore.model import BasketState, HoldState, Leg
from datastore.rows import BasketRow, HoldRow, OrderRow


def hold_value(hold: HoldRow, now_ms: int, lsn: int = 0) -> dict[str, Any]:
    """Return a hold as plain data; no personal data in it. `lsn`: of the write it answers, else the one that made the hold."""
    return {
        "hold_id": hold.hold_id,
        "service_id": hold.service_id,
        "seats": hold.seats,
        "state": int(hold.state),
        "created_ms": hold.created_ms,
        "expires_ms": hold.expires_ms,
        "now_ms": now_ms,
        "currency": hold.currency,
        "prices": hold.prices,
        "refundable_percent": hold.refundable_percent,
        "lsn": lsn or hold.lsn,
        "reference": hold.reference,
        "fares": (hold.fares,) if hold.fares else (),
    }


def order_value(order: OrderRow, now_ms: int, lsn: int = 0) -> dict[str, Any]:
    """Return an order as plain data; names are in the side record `passengers`.

    `made_lsn` is the entry that made the order; `lsn` that of the write it answers, else the same.
    """
    return {
        "reference": order.reference,
        "hold_id": order.hold_id,
        "state": int(order.state),
        "service_id": order.service_id,
        "seats": order.seats,
        "currency": order.currency,
        "prices": order.prices,
        "refundable_percent": order.refundable_percent,
        "refund_minor": order.refund_minor,
        "created_ms": order.created_ms,
        "departs_ms": order.departs_ms,
        "passengers": order.passengers,
        "lsn": lsn or order.lsn,
        "made_lsn": order.lsn,
        "history": order.history,
        "now_ms": now_ms,
        "legs": legs_value(order.legs),
        "laps": order.laps,
        "intent": order.intent,
        "intents": [intent for intent in (order.intent, *order.intents) if intent],
        "version": order.changed_lsn or order.lsn,
        "travellers": order.travellers,
        "retained": order.retained,
        "action": order.action,
        "ticketed": ticketed_value(order),
        "hold_ids": list(dict.fromkeys((order.hold_id, *(part.hold_id for part in order.parts)))),
    }


def ticketed_value(order: OrderRow) -> list[Any]:
    """Return an order's tickets as a list: code, first serial, party, laps, coupons that are gone; [] for none."""
    row = order.ticketed
    return [] if row is None else [row.code, row.first, row.party, list(row.laps), [list(one) for one in row.gone]]


def basket_value(basket: BasketRow, now_ms: int, lsn: int = 0) -> dict[str, Any]:
    """Return a basket as plain data: a hold's fields, those of one service being the first leg's, and `legs`."""
    first = basket.legs[0] if basket.legs else Leg("", "", (), (), 0)
    return {
        "hold_id": basket.basket_id,
        "service_id": first.service_id,
        "seats": first.seats,
        "state": int(hold_state_of(basket, now_ms)),
        "basket_state": int(basket.state),
        "created_ms": basket.created_ms,
        "expires_ms": basket.expires_ms,
        "now_ms": now_ms,
        "currency": basket.currency,
        "prices": first.prices,
        "refundable_percent": first.refundable_percent,
        "lsn": lsn or basket.lsn,
        "made_lsn": basket.lsn,
        "reference": basket.reference,
        "legs": legs_value(basket.legs),
        "why": basket.why,
        "undone": basket.undone,
        "intent": basket.intent,
        "replaces": basket.replaces,
        "credit_minor": basket.credit_minor,
        "seated": basket.seated,
        "heard": basket.heard,
        "fares": basket.fares,
    }


def hold_state_of(basket: BasketRow, now_ms: int) -> HoldState:
    """Return a hold's word for a basket's state; one whose time is over has expired, whether or not an entry says so yet."""
    if basket.state in (BasketState.PENDING, BasketState.PAYING):
        if basket.expires_ms <= now_ms:
            return HoldState.EXPIRED
        return HoldState.ACTIVE if basket.state == BasketState.PENDING else HoldState.PAYING
    if basket.state == BasketState.ABORTED:
        return HoldState.EXPIRED if basket.why == "expired" else HoldState.RELEASED
    return HoldState.CONVERTED


def legs_value(legs: tuple[Leg, ...]) -> list[list[Any]]:
    """Return legs as lists: operator, service id, seats, prices, refundable percent, what infants on laps pay of the prices."""
    return [[leg.operator, leg.service_id, list(leg.seats), list(leg.prices), leg.refundable_percent, list(leg.laps)] for leg in legs]
