"""What must be true of baskets in every state of the model. The checks know only rows, and what buyers were told."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from datastore import commands, wire
from datastore.model import BasketState, HoldState, OrderState, Part, SeatState
from datastore.rows import BasketRow, Kind, LegRow, OrderRow, SeatRow, decode_row
from loadbalancer import reconciling
from loadbalancer.itinerary import Failed, Held
from tests.simulation.basket_model import TICK_MS, Driver, Sent, State, Violation, World, in_order
from tests.simulation.basket_partitions import baskets_of, legs_of

SOLD = (BasketState.COMMITTED, BasketState.CANCELLED)
ENDED = (BasketState.ABORTED, BasketState.CANCELLED)


class Checks:
    """Looks at states of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen_ends: set[str] = set()

    def check(self, state: State) -> None:
        """Fail where the rows contradict each other, or what a buyer was told."""
        legs = {(part.operator, row.basket_id): row for part in state.parts for row in legs_of(part, closed=True)}
        baskets = {row.basket_id: row for part in state.parts for row in baskets_of(part, closed=True)}
        for row in baskets.values():
            for operator, lsn in row.holds:
                leg_row = legs.get((operator, row.basket_id))
                kept = leg_row is not None and (
                    leg_row.state == HoldState.CONVERTED or (leg_row.state == HoldState.ACTIVE and leg_row.lsn == lsn)
                )
                if not any(leg.seats for leg in row.legs if leg.operator == operator):
                    continue  # A change gave all of it up (B11).
                if row.state == BasketState.COMMITTED and not kept:
                    raise Violation(f"{row.basket_id} is sold and {operator} has not its seats: {leg_row}")
        for (operator, basket_id), leg_row in legs.items():
            basket = baskets.get(basket_id)
            if leg_row.state == HoldState.CONVERTED and (basket is None or basket.state not in SOLD):
                raise Violation(f"{operator} has booked {basket_id}, which was never sold: {basket}")
        for number, driver in enumerate(self.world.drivers):
            self._check_told(state, number, driver, baskets.get(driver.plan.basket_id), legs)

    def _check_told(
        self, state: State, number: int, driver: Driver, basket: BasketRow | None, legs: Mapping[tuple[str, str], LegRow]
    ) -> None:
        standing = self.world.standing(number, state.histories[number])
        if isinstance(standing.end, Failed):
            self.seen_ends.add(standing.end.error.code)
        elif standing.end is not None:
            self.seen_ends.add("held")
        self.seen_ends.add(standing.told)
        early = self.world.variant == "decide before all hold"  # Its buyer does not wait for the word "held".
        if isinstance(standing.end, Held) and not early and basket is not None and basket.state == BasketState.PENDING:
            for operator in reconciling.other_operators(standing.end.value):
                leg_row = legs.get((operator, basket.basket_id))
                if leg_row is None or leg_row.state != HoldState.ACTIVE:
                    raise Violation(f"a buyer was told that {basket.basket_id} is held, and {operator} gave its seats away: {leg_row}")
        if standing.told == "confirmed" and (basket is None or basket.state not in SOLD):
            raise Violation(f"a buyer was told that {driver.plan.basket_id} is sold: {basket}")

    def heal(self, state: State) -> State:
        """Let every clock pass every deadline and the reconcilers work undisturbed; return where it ends."""
        for _ in range(12):
            state = msgspec.structs.replace(
                state, parts=tuple(msgspec.structs.replace(part, now_ms=part.now_ms + 10 * TICK_MS) for part in state.parts)
            )
            before = state.parts
            for operator in self.world.operators:
                state = self._settle(state, Sent(-1, operator, wire.Sweep("", b"")))
                for row in legs_of(self.world.part(state, operator)):
                    resolve = commands.Resolve("", b"", row.basket_id, row.owner, operator)
                    state = self._settle(state, Sent(-1, row.anchor, resolve))
                for basket in [row for row in baskets_of(self.world.part(state, operator)) if row.undone]:
                    for one in reconciling.follow(self.world.basket(state, basket.basket_id)[0]):
                        state = self._settle(state, Sent(-1, one.operator, one.command))
            if [part.rows for part in before] == [part.rows for part in state.parts]:
                return state
        raise Violation("the reconcilers do not come to an end")

    def _settle(self, state: State, sent: Sent) -> State:
        empty = msgspec.structs.replace(state, sent=frozenset())
        after = self.world.arrive(empty, sent)
        for follow in in_order(after.sent):
            after = self._settle(msgspec.structs.replace(after, sent=frozenset()), follow)
        return after

    def check_healed(self, state: State) -> None:
        """Fail where, after all that, anything hangs: all legs are booked or none, and nothing is held."""
        state = self.heal(state)
        self.check(state)
        claimed = _claimed(state)
        for part in state.parts:
            for kind, key, value in part.rows:
                row = decode_row(kind, value)
                if isinstance(row, SeatRow) and row.state == SeatState.HELD:
                    raise Violation(f"{key} is held for ever by {row.hold_id}")
                if isinstance(row, SeatRow) and row.state == SeatState.BOOKED and claimed.get(f"{part.operator}/{key}") != row.hold_id:
                    raise Violation(f"{key} is booked by {row.hold_id}, and no order that stands has it")
                if isinstance(row, BasketRow) and kind == Kind.BASKET:
                    raise Violation(f"{key} never ends: {row}")
                if isinstance(row, LegRow) and row.state == HoldState.CONVERTED:
                    self._check_sold(state, part.operator, row)
                if isinstance(row, OrderRow) and row.state == OrderState.CONFIRMED:
                    self._check_all_booked(state, row)

    def _check_sold(self, state: State, operator: str, row: LegRow) -> None:
        (basket,) = self.world.basket(state, row.basket_id)
        if basket["basket_state"] in ENDED:
            raise Violation(f"{operator} has booked {row.basket_id}, which was cancelled")

    def _check_all_booked(self, state: State, order: OrderRow) -> None:
        parts = order.parts or tuple(Part(order.hold_id, number, number, one.seats) for number, one in enumerate(order.legs))
        for part in parts:
            one = order.legs[part.place]
            rows = {key: decode_row(kind, value) for kind, key, value in self.world.part(state, one.operator).rows if kind == Kind.SEAT}
            for seat in part.seats:
                row = rows.get(f"{one.service_id}/{seat}")
                if row is None or (row.state, row.hold_id) != (SeatState.BOOKED, f"{part.hold_id}.{part.number}"):
                    raise Violation(f"order {order.reference} has not {one.service_id} {seat}: {row}")


def _claimed(state: State) -> dict[str, str]:
    """Return operator/service/seat -> hold of all that the orders which stand have."""
    found: dict[str, str] = {}
    for part in state.parts:
        for kind, _, value in part.rows:
            row = decode_row(kind, value)
            if not isinstance(row, OrderRow) or row.state != OrderState.CONFIRMED:
                continue
            booked = row.parts or tuple(Part(row.hold_id, number, number, leg.seats) for number, leg in enumerate(row.legs))
            for one in booked:
                leg = row.legs[one.place]
                for seat in one.seats:
                    key, hold_id = f"{leg.operator}/{leg.service_id}/{seat}", f"{one.hold_id}.{one.number}"
                    if found.setdefault(key, hold_id) != hold_id:
                        raise Violation(f"two orders have {key}: {found[key]} and {hold_id}")
    return found
