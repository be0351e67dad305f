"""A party and the hold that it wants to confirm: what `loadbalancer.parties` needs to know of the hold's legs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from datastore.errors import UnknownService
from datastore.model import Passenger
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.identity import operator_of_hold
from loadbalancer.parties import Arranged, LegSeats, arrange
from loadbalancer.view import Sale


def seat_party(balancer: Balancer, passengers: Sequence[Passenger], hold: Mapping[str, Any]) -> Arranged:
    """Return the party of a hold, of one service or of a trip, in its seats, with what they pay.

    Args:
        hold: As its anchor has it.
    Raises:
        InvalidRequest: They may not sit so (`parties.arrange`).
    """
    legs = hold.get("legs") or [[operator_of_hold(hold["hold_id"]), hold["service_id"], hold["seats"], hold["prices"], 0]]
    return arrange(passengers, [_leg_seats(balancer, leg) for leg in legs])


def _leg_seats(balancer: Balancer, leg: Sequence[Any]) -> LegSeats:
    operator, service_id, seats, prices = leg[0], leg[1], leg[2], leg[3]
    view = balancer.catalogue.operators.get(operator)
    taken = view.taken.get(service_id) if view is not None else None
    sale: Sale | None = None
    # The timetable may have dropped the service since it was held: the hold stands all the same.
    with contextlib.suppress(UnknownService):
        sale = balancer.catalogue.sale(service_id, wall_ms())
    kind = view.row.kind if view is not None and view.row is not None else ""
    return LegSeats(sale, kind, service_id, seats, prices, set(taken or ()))
