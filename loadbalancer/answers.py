"""From rows and timetables to what callers read: names, local times, prices, states in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from datastore import messages, tickets
from datastore.model import HoldState, Layout, Money, Passenger, Seat, SeatState, Service, ServiceState
from datastore.passengers import LAP_INFANT, on_laps, seated
from datastore.receipts import receipt_of
from datastore.rows import SeatRow
from datastore.tickets import CouponStatus
from loadbalancer.fares import days_ahead, price_table
from loadbalancer.party import seats_by_zone
from loadbalancer.travellers import passengers_of
from loadbalancer.view import OperatorView, Sale

SEAT_WORDS = {SeatState.FREE: "available", SeatState.HELD: "held", SeatState.BOOKED: "occupied", SeatState.BLOCKED: "blocked"}
HOLD_WORDS = {
    HoldState.ACTIVE: "active",
    HoldState.PAYING: "paying",
    HoldState.CONVERTED: "converted",
    HoldState.RELEASED: "released",
    HoldState.EXPIRED: "expired",
    HoldState.CANCELLED: "cancelled",
}
ORDER_WORDS = ("confirmed", "cancelled")
SERVICE_WORDS = {ServiceState.OPEN: "open", ServiceState.CLOSED: "closed", ServiceState.CANCELLED: "cancelled"}

_hold_words = [HOLD_WORDS[state] for state in HoldState]


def hold_answer(value: Mapping[str, Any]) -> messages.HoldAnswer:
    """Return a hold as callers read it; `value`: what the partition answers to HOLD, EXTEND, RELEASE and "hold"."""
    if "legs" in value:
        return _basket_answer(value)
    currency, state, prices = value["currency"], value["state"], value["prices"]
    hold_id = value["hold_id"]
    return messages.HoldAnswer(
        hold_id=hold_id,
        operator=hold_id.partition(".")[0],
        service_id=value["service_id"],
        seats=value["seats"],
        state=_hold_words[state],
        created_ms=value["created_ms"],
        expires_ms=value["expires_ms"],
        # Counted on the log's clock, which stamped both: no wall clock of ours is in it (R17).
        remaining_ms=max(0, value["expires_ms"] - value["now_ms"]) if state in (HoldState.ACTIVE, HoldState.PAYING) else 0,
        prices=[Money(minor, currency) for minor in prices],
        total=Money(sum(prices), currency),
        refundable_percent=value["refundable_percent"],
        lsn=value["lsn"],
        reference=value["reference"],
    )


def _basket_answer(value: Mapping[str, Any]) -> messages.HoldAnswer:
    """Return a basket as callers read it: one hold, with its legs."""
    currency, state, legs = value["currency"], value["state"], value["legs"]
    return messages.HoldAnswer(
        hold_id=value["hold_id"],
        operator=value["hold_id"].partition(".")[0],
        service_id=value["service_id"],
        seats=list(value["seats"]),
        state=_hold_words[state],
        created_ms=value["created_ms"],
        expires_ms=value["expires_ms"],
        remaining_ms=max(0, value["expires_ms"] - value["now_ms"]) if state in (HoldState.ACTIVE, HoldState.PAYING) else 0,
        prices=[Money(minor, currency) for minor in value["prices"]],
        total=Money(sum(sum(leg[3]) for leg in legs), currency),
        refundable_percent=min((leg[4] for leg in legs), default=0),
        lsn=value["lsn"],
        reference=value["reference"],
        legs=[leg_info(leg, currency) for leg in legs],
    )


def leg_info(leg: Sequence[Any], currency: str) -> messages.LegInfo:
    """Return one leg of a basket or an order as callers read it (see `datastore.outcomes.legs_value`)."""
    operator, service_id, seats, prices, percent, *_laps = leg
    return messages.LegInfo(
        operator=operator,
        service_id=service_id,
        seats=list(seats),
        prices=[Money(minor, currency) for minor in prices],
        total=Money(sum(prices), currency),
        refundable_percent=percent,
    )


def fare_parts(legs: Sequence[Sequence[Any]], passengers: Sequence[Passenger], currency: str) -> list[messages.FarePart]:
    """Return what each passenger pays on each leg: whoever has a seat, in order, and then the infants on laps.

    Args:
        legs: As `datastore.outcomes.legs_value` gives them.
    """
    numbered = list(enumerate(passengers, 1))
    seated_ones = [(number, one.type) for number, one in numbered if one.type != LAP_INFANT]
    infants = {one.with_adult: number for number, one in numbered if one.type == LAP_INFANT}
    found: list[messages.FarePart] = []
    for leg, (_, service_id, seats, prices, _, *rest) in enumerate(legs, 1):
        laps = rest[0] if rest and rest[0] else [0] * len(seats)
        of_laps: list[messages.FarePart] = []
        for place, (seat, price, lap) in enumerate(zip(seats, prices, laps, strict=True)):
            number, kind = seated_ones[place] if place < len(seated_ones) else (0, "")
            found.append(messages.FarePart(leg, number, kind, service_id, seat, Money(price - lap, currency)))
            if lap or place + 1 in infants:
                of_laps.append(messages.FarePart(leg, infants.get(place + 1, 0), LAP_INFANT, service_id, seat, Money(lap, currency)))
        found += of_laps
    return found


def order_answer(
    value: Mapping[str, Any],
    operator: str,
    service: messages.ServiceInfo | None,
    passengers: Sequence[Passenger],
    *,
    token: str = "",
    reduced: bool = False,
) -> messages.OrderAnswer:
    """Return an order as callers read it; `value`: what the partition answers to CONFIRM, CANCEL and "order"."""
    currency, legs = value["currency"], value["legs"]
    cancelled = value["state"] != 0
    retained = sum(minor for _, minor in value["retained"])
    total_minor = sum(sum(leg[3]) for leg in legs) if legs else sum(value["prices"])
    plain = [operator, value["service_id"], value["seats"], value["prices"], value["refundable_percent"], value["laps"]]
    return messages.OrderAnswer(
        reference=value["reference"],
        operator=operator,
        state=ORDER_WORDS[value["state"]],
        service=service,
        service_id=value["service_id"],
        seats=list(value["seats"]),
        passengers=[initials(one) for one in passengers] if reduced else list(passengers),
        prices=[Money(minor, currency) for minor in value["prices"]],
        total=Money(total_minor, currency),
        refundable_percent=min((leg[4] for leg in legs), default=value["refundable_percent"]),
        refund=Money(value["refund_minor"], currency) if cancelled or value["retained"] or value["refund_minor"] else None,
        retained=Money(retained, currency) if retained and not cancelled else None,
        created_ms=value["created_ms"],
        history=[(stamp, what) for stamp, what in value["history"]],
        lsn=value["lsn"],
        receipt=receipt_of(operator, value["reference"], value["made_lsn"], value.get("evidence")),
        manage_token=token,
        reduced=reduced,
        tickets=[] if reduced else ticket_infos(value, operator, passengers),
        legs=[leg_info(leg, currency) for leg in legs],
        available_actions=[] if reduced or cancelled else actions_of(value),
        action_required="" if cancelled else "; ".join(f"{service_id}: {why}" for service_id, why in value["action"]),
        affected=[] if cancelled else [service_id for service_id, _ in value["action"]],
        price_parts=fare_parts(legs or [plain], passengers, currency),
    )


def actions_of(value: Mapping[str, Any]) -> list[str]:
    """Return what can be done with a booking that stands, by the clock of the log that has it."""
    found = ["accept_alternative", "refund"] if value["action"] else []
    if value["departs_ms"] <= value["now_ms"]:
        return found
    found += ["cancel"]
    found += ["cancel_leg"] if len(value["legs"]) > 1 else []
    found += ["cancel_passenger"] if len(value["seats"]) > 1 else []
    return [*found, "change_seat", "change_service"]


def ticket_infos(value: Mapping[str, Any], operator: str, passengers: Sequence[Passenger]) -> list[messages.TicketInfo]:
    """Return an order's tickets as callers read them; `passengers`: who still travels (`travellers.travelling`)."""
    found = []
    for ticket in tickets.tickets_of(value, operator):
        person = passengers[ticket.traveller] if 0 <= ticket.traveller < len(passengers) else None
        coupons = [
            messages.CouponInfo(one.operator, one.service_id, one.seat_id, tickets.COUPON_WORDS[CouponStatus(one.status)])
            for one in ticket.coupons
        ]
        name = f"{person.surname}/{person.given}" if person is not None and person.surname else ""
        kind = person.type if person is not None else LAP_INFANT if ticket.on_lap else ""
        found.append(messages.TicketInfo(ticket.number, tickets.check_digit(ticket.number), name, kind, coupons))
    return found


def manifest_lines(order: Mapping[str, Any], operator: str, service_id: str) -> list[messages.ManifestLine]:
    """Return who has which seat of an order, or of a leg; infants on laps behind their adults.

    Args:
        order: {"reference", "seats", "record"}, and what `outcomes.order_value` says where this operator issued the tickets.
    """
    people = passengers_of(order["record"])
    by_seat = {one.seat_id: one for one in people if one.seat_id}
    issued = order.get("issued") or order
    numbers: dict[tuple[str, bool], str] = {}
    for ticket in tickets.tickets_of(issued, operator) if issued.get("ticketed") else ():
        for coupon in ticket.coupons:
            if coupon.status == CouponStatus.OPEN and coupon.service_id == service_id:
                numbers[coupon.seat_id, ticket.on_lap] = ticket.number
    # None once the names were erased (Z12).
    lines = [
        _manifest_line(seat_id, by_seat.get(seat_id), order["reference"], numbers.get((seat_id, False), "")) for seat_id in order["seats"]
    ]
    seats = [one.seat_id for one in seated(people)]
    for one in on_laps(people):
        seat_id = seats[one.with_adult - 1]
        if seat_id in order["seats"]:
            lines.append(_manifest_line(seat_id, one, order["reference"], numbers.get((seat_id, True), "")))
    return lines


def _manifest_line(seat_id: str, who: Passenger | None, reference: str, ticket: str) -> messages.ManifestLine:
    if who is None:
        return messages.ManifestLine(seat_id, "", "", reference, ticket=ticket)
    facts = (who.type, who.born, who.document, who.loyalty, who.requests)
    return messages.ManifestLine(seat_id, who.surname, who.given, reference, *facts, ticket)


def initials(passenger: Passenger) -> Passenger:
    """Return a passenger as a record found by surname shows them (reduced: no full names)."""
    surname, given = passenger.surname.strip(), passenger.given.strip()
    letters = (surname[:1] + "." if surname else "", given[:1] + "." if given else "")
    return Passenger(*letters, passenger.seat_id, passenger.type, with_adult=passenger.with_adult)


def service_info(view: OperatorView, service: Service, layout: Layout, now_ms: int, sale: Sale | None = None) -> messages.ServiceInfo:
    """Return one service as callers read it; `now_ms`: UTC. The cheapest free seat is of the view's moment."""
    schedule = service.schedule
    places = view.timetable.places
    origin = places.get(schedule.origin)
    destination = places.get(schedule.destination) if schedule.destination else None
    prices = sale.prices if sale is not None else price_table(schedule, layout, days_ahead(service.departs_ms, now_ms))
    taken = view.taken.get(service.service_id) or {}
    free = layout.capacity - len(taken)
    row = view.services.get(service.service_id)
    state = SERVICE_WORDS[row.state] if row is not None else "open"
    if state != "cancelled" and service.departs_ms <= now_ms:
        state = "departed"
    return messages.ServiceInfo(
        service_id=service.service_id,
        operator=service.operator,
        operator_name=view.row.name if view.row is not None else service.operator,
        kind=view.row.kind if view.row is not None else "",
        origin=schedule.origin,
        origin_name=origin.name if origin else schedule.origin,
        destination=schedule.destination,
        destination_name=destination.name if destination else schedule.destination,
        date=service.date,
        departs=local_time(service.departs_ms, origin.zone if origin else "UTC"),
        arrives=local_time(service.arrives_ms, destination.zone if destination else origin.zone if origin else "UTC"),
        departs_ms=service.departs_ms,
        arrives_ms=service.arrives_ms,
        duration_min=(service.arrives_ms - service.departs_ms) // 60_000,
        title=schedule.title,
        layout_id=layout.layout_id,
        layout_name=layout.spec.name,
        state=state,
        free=free,
        capacity=layout.capacity,
        from_price=cheapest(layout, list(taken), prices.minor, prices.currency) if free > 0 else None,
        dataset=service.dataset,
        price_label=prices.label,
    )


def cheapest(layout: Layout, taken: Sequence[str], minor: Mapping[tuple[str, str], int], currency: str) -> Money | None:
    """Return the least price of a free seat, or None where none is free."""
    left = dict(seats_by_zone(layout))
    for seat_id in taken:
        seat = layout.by_id.get(seat_id)
        if seat is not None:
            left[seat.cabin, seat.zone] -= 1
    free = [minor[pair] for pair, seats in left.items() if seats > 0]
    return Money(min(free), currency) if free else None


@lru_cache(maxsize=4_096)
def local_time(instant_ms: int, zone: str) -> str:
    """Return an instant as ISO 8601 local time with its offset, to the minute."""
    # Not fromtimestamp: it refuses years that a mistyped timetable may imply on some systems.
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant_ms)
    return instant.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


def seat_info(seat: Seat, row: SeatRow | None, sale: Sale, owner: str) -> messages.SeatInfo:
    """Return one seat; `owner`: the caller's owner name, or "" for nobody."""
    return messages.SeatInfo(
        seat_id=seat.seat_id,
        designator=seat.designator,
        state=SEAT_WORDS[row.state] if row is not None else "available",
        mine=row is not None and bool(owner) and row.owner == owner,
        cabin=seat.cabin,
        zone=seat.zone,
        row=seat.row,
        column=seat.column,
        x=seat.x,
        y=seat.y,
        window=seat.window,
        aisle=seat.aisle,
        exit=seat.exit,
        accessible=seat.accessible,
        price=Money(sale.offers[seat.seat_id].price_minor, sale.prices.currency),
        reason=row.reason if row is not None else "",
    )


def aisles(layout: Layout) -> list[tuple[int, int, list[int]]]:
    """Return (first y, last y, x of the aisles) of each section, front to back."""
    found: list[tuple[int, int, list[int]]] = []
    y = 0
    for section in layout.spec.sections:
        if section.rows:
            found.append((y, y + len(section.rows) - 1, [x for x, column in enumerate(section.columns) if not column]))
        y += len(section.rows)
    return found


def fixtures(layout: Layout) -> list[tuple[int, list[str]]]:
    """Return (y of the row behind, fixtures from left to right) wherever some stand, front to back."""
    found: list[tuple[int, list[str]]] = []
    y = 0
    for section in layout.spec.sections:
        if section.ahead:
            found.append((y, list(section.ahead)))
        y += len(section.rows)
    return [*found, (y, list(layout.spec.behind))] if layout.spec.behind else found
