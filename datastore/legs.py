"""A basket's legs at one operator: take their seats, and follow what the anchor decided (B2, B5, B6, B8). Pure.

At the anchor itself the legs live and die with the basket's record (`datastore.anchors`). At any other operator they are
kept until the anchor's word is here: whatever this log's clock says, it frees nothing (B6). A basket is heard of once: its
row stays when its holds are gone, so that what was delayed finds that it comes too late.
"""

from __future__ import annotations

import hmac
from typing import Any, NamedTuple

from datastore import commands, errors
from datastore.model import HoldState, Leg, SeatState, leg_hold_id
from datastore.outcomes import legs_value
from datastore.overlay import Batch
from datastore.rows import HoldRow, LegRow, SeatRow
from datastore.taking import (
    Claim,
    Limits,
    check_chosen,
    check_limits,
    check_on_sale,
    check_seats,
    copy,
    free_hold,
    set_seats,
    take,
    trim_hold,
)

TAKEN = (errors.SeatUnavailable, errors.SeatBlocked)


class Own(NamedTuple):
    """A leg of this operator and its place in the basket; `chosen` None where its seats were named."""

    number: int
    leg: Leg
    chosen: commands.Chosen | None


def hold(batch: Batch, command: commands.HoldLegs) -> dict[str, Any]:
    """B2 at an operator that is not the anchor."""
    row = batch.leg(command.basket_id)
    if row is not None:
        return _again(batch, row, command)
    holds = take_legs(batch, command, batch.now_ms + command.ttl_ms, command.anchor)
    row = LegRow(
        command.basket_id,
        command.owner,
        command.anchor,
        HoldState.ACTIVE,
        command.digest,
        batch.lsn,
        batch.now_ms + command.ttl_ms,
        tuple(int(one.hold_id.rpartition(".")[2]) for one in holds),
    )
    batch.put_leg(row)
    return leg_value(batch, row)


def _again(batch: Batch, row: LegRow, command: commands.HoldLegs) -> dict[str, Any]:
    """Answer a HOLD_LEGS that has been here before, or that its own RELEASE has overtaken."""
    if row.state != HoldState.ACTIVE:
        raise errors.HoldExpired(f"basket {row.basket_id} has ended", hold_id=row.basket_id, why="ended")
    if not hmac.compare_digest(row.digest, command.digest):
        raise errors.IdempotencyKeyReused(f"basket {row.basket_id} was made by another request", hold_id=row.basket_id)
    return leg_value(batch, row)


def take_legs(batch: Batch, command: commands.HoldLegs, expires_ms: int, anchor: str) -> list[HoldRow]:
    """Take the seats of all legs that are this operator's, or none; return their holds.

    Args:
        expires_ms: On this log's clock.
        anchor: Who decides, "" for this operator.
    Raises:
        SeatUnavailable, SeatBlocked: Lists every seat in the way on every leg. StaleFence, ResolveNeeded: As `take`.
        InvalidRequest, UnknownService, UnknownSeat, ServiceClosed, HoldLimitReached: Nothing was taken.
    """
    own = _own_legs(batch, command)
    _take_seats(batch, command, own)
    found: list[HoldRow] = []
    for number, leg, _ in own:
        check_limits(batch, Limits(command.owner, leg.service_id, command.owner_holds_max, command.service_holds_max))
        row = HoldRow(
            hold_id=leg_hold_id(command.basket_id, number),
            owner=command.owner,
            service_id=leg.service_id,
            seats=leg.seats,
            state=HoldState.ACTIVE,
            lsn=batch.lsn,
            created_ms=batch.now_ms,
            expires_ms=expires_ms,
            currency=command.currency,
            prices=leg.prices,
            refundable_percent=leg.refundable_percent,
            anchor=anchor,
            basket=command.basket_id,
        )
        found.append(row)
    for row in found:
        for seat_id in row.seats:
            seat = SeatRow(SeatState.HELD, row.hold_id, batch.lsn, row.owner, command.generation, command.counter, command.nonce)
            batch.put_seat(row.service_id, seat_id, seat)
        batch.put_open_hold(row)
    return found


def _own_legs(batch: Batch, command: commands.HoldLegs) -> list[Own]:
    if len(command.numbers) != len(command.legs) or command.ttl_ms <= 0:
        raise errors.InvalidRequest("a basket needs a place for each leg and a time above zero", field="legs")
    chosen = command.chosen or (None,) * len(command.legs)
    if len(chosen) != len(command.legs):
        raise errors.InvalidRequest("what makes a basket's seats the best stands beside its legs", field="chosen")
    legs = zip(command.numbers, command.legs, chosen, strict=True)
    own = [Own(number, leg, choice) for number, leg, choice in legs if leg.operator == batch.state.operator]
    if not own:
        raise errors.InvalidRequest(f"no leg of the basket is operated by {batch.state.operator}", field="legs")
    if len({leg.service_id for _, leg, _ in own}) < len(own):
        raise errors.InvalidRequest("a service stands in the basket twice; name all its seats in one leg", field="legs")
    for _, leg, _ in own:
        facts = batch.facts(leg.service_id)
        check_seats(facts, leg.seats)
        if len(leg.prices) != len(leg.seats):
            raise errors.InvalidRequest("a leg needs a price for each seat", field="legs")
        check_on_sale(batch, facts)
    return own


def _take_seats(batch: Batch, command: commands.HoldLegs, own: list[Own]) -> None:
    """Check that every leg's seats may be taken; what stands in the way on any leg is told together."""
    refused: list[errors.HoldfastError] = []
    for _, leg, chosen in own:
        try:
            take(batch, Claim(leg.service_id, leg.seats, command.generation, command.counter, command.nonce))
            if chosen is not None:
                check_chosen(batch, batch.facts(leg.service_id).layout, leg.service_id, leg.seats, chosen)
        except TAKEN as error:
            refused.append(error)
    if not refused:
        return
    fields = [error.fields for error in refused]
    told = ("service_id", "seats", "taken", "freed", "lsn")
    services = [{name: one[name] for name in told if name in one} for one in fields]
    first = refused[0]
    detail = "; ".join(error.detail for error in refused)
    raise type(first)(detail, service_id=fields[0]["service_id"], seats=fields[0]["seats"], services=services, lsn=batch.lsn - 1)


def finalise(batch: Batch, command: commands.Finalise) -> dict[str, Any]:
    """B5: book what is held since the lsn that the anchor's decision names; leave anything else alone and say so."""
    _check_evidence(command.evidence)
    row = batch.leg(command.basket_id)
    if row is None:
        raise errors.UnknownHold(f"nothing is held here by {errors.shown(command.basket_id)}", hold_id=command.basket_id)
    if row.state == HoldState.ACTIVE and row.lsn == command.lsn:
        row = _converted(batch, row, command)
    if row.state == HoldState.CONVERTED and row.lsn == command.lsn:
        row = _trimmed(batch, row, command)
    # A delayed repeat must not bring back what was cancelled since (I9); what keeps nothing is done when nothing is left.
    nothing = command.kept is not None and not any(command.kept)
    done = row.state == HoldState.CONVERTED or (nothing and row.state == HoldState.CANCELLED)
    return {"done": done, "state": int(row.state), "lsn": row.lsn}


def _converted(batch: Batch, row: LegRow, command: commands.Finalise) -> LegRow:
    holds = _holds(batch, row)
    if len(command.passengers) != len(holds):
        raise errors.InvalidRequest("a basket's decision names the passengers of each leg", field="passengers")
    for one, passengers in zip(holds, command.passengers, strict=True):
        set_seats(batch, one, SeatState.HELD, SeatState.BOOKED)
        batch.close_hold(copy(one, state=HoldState.CONVERTED, reference=command.reference, passengers=passengers))
    converted: LegRow = copy(row, state=HoldState.CONVERTED, evidence=command.evidence)
    batch.put_leg(converted)
    return converted


def _trimmed(batch: Batch, row: LegRow, command: commands.Finalise) -> LegRow:
    """Give back what the order does not keep (B11), and forget a loss that the order knows of."""
    changed = row
    if command.kept is not None:
        holds = [one for one in _holds(batch, row, is_open=False)]
        if len(command.kept) != len(holds):
            raise errors.InvalidRequest("a word on a basket names the seats of each leg", field="kept")
        told = [(one, set(one.seats) - set(kept)) for one, kept in zip(holds, command.kept, strict=True)]
        for one, gone in told:
            if gone and one.state == HoldState.CONVERTED:
                trim_hold(batch, one, gone)
                changed = copy(changed, evidence=command.evidence)
        if not any(command.kept):
            changed = copy(changed, state=HoldState.CANCELLED, evidence=command.evidence, lost="")
    if changed.lost and changed.lost == command.heard:
        changed = copy(changed, lost="")
    if changed is not row:
        batch.put_leg(changed)
    return changed


def release(batch: Batch, command: commands.ReleaseLegs) -> dict[str, Any]:
    """B6, B8: give back what the basket has here. No lsn is needed: what the anchor ended is ended for good, whenever it was held."""
    _check_evidence(command.evidence)
    row = batch.leg(command.basket_id)
    if row is None:
        row = LegRow(command.basket_id, command.owner, command.anchor, HoldState.RELEASED, b"", batch.lsn, 0, (), command.evidence)
        batch.put_leg(row)
    elif row.state == HoldState.ACTIVE:
        for one in _holds(batch, row):
            free_hold(batch, one, HoldState.RELEASED)
        row = copy(row, state=HoldState.RELEASED, evidence=command.evidence, lost="")
        batch.put_leg(row)
    elif row.state == HoldState.CONVERTED:
        for one in _holds(batch, row, is_open=False):
            if one.state != HoldState.CONVERTED:
                continue  # Given up by a change before (B11).
            set_seats(batch, one, SeatState.BOOKED, SeatState.FREE)
            batch.close_hold(copy(one, state=HoldState.CANCELLED))
        row = copy(row, state=HoldState.CANCELLED, evidence=command.evidence, lost="")
        batch.put_leg(row)
    return {"done": True, "state": int(row.state), "lsn": row.lsn}


def due(batch: Batch, command: commands.LegDue) -> dict[str, Any]:
    """Z11: the anchor says "not due yet": move the hint. Counted from here on, as the two logs have each their clock."""
    _check_evidence(command.evidence)
    row = batch.leg(command.basket_id)
    if row is None or row.state != HoldState.ACTIVE:
        return {"done": False}
    due_ms = batch.now_ms + max(1, command.remaining_ms)
    for one in _holds(batch, row):
        batch.put_open_hold(copy(one, expires_ms=due_ms))
    batch.put_leg(copy(row, due_ms=due_ms))
    return {"done": True}


def lose(batch: Batch, basket_id: str, reason: str, *, asks: str = "") -> None:
    """Note that the operator took the service away: the anchor has to hear of it before anything is freed.

    Args:
        asks: The service, if the traveller is asked what now where it is sold.
    """
    row = batch.leg(basket_id)
    if row is None:
        raise errors.InvariantBroken(f"a seat belongs to basket {basket_id}, which is not known here")
    batch.put_leg(copy(row, lost=reason or "service cancelled", asks=asks))


def leg_value(batch: Batch, row: LegRow) -> dict[str, Any]:
    """Return what is held here as plain data."""
    holds = _holds(batch, row)
    legs = tuple(Leg(batch.state.operator, one.service_id, one.seats, one.prices, one.refundable_percent) for one in holds)
    return {"hold_id": row.basket_id, "state": int(row.state), "lsn": row.lsn, "legs": legs_value(legs), "numbers": row.numbers}


def _holds(batch: Batch, row: LegRow, *, is_open: bool = True) -> list[HoldRow]:
    found = []
    for number in row.numbers:
        hold_id = leg_hold_id(row.basket_id, number)
        one = batch.open_hold(hold_id) if is_open else batch.closed_hold(hold_id)
        if one is None:
            raise errors.InvariantBroken(f"leg {hold_id} is not there, though its row says {HoldState(row.state).name}")
        found.append(one)
    return found


def _check_evidence(evidence: commands.Evidence) -> None:
    if evidence[0] <= 0 or evidence[1] <= 0 or not evidence[2]:
        raise errors.InvalidRequest("what follows a decision carries where in the anchor's ledger it stands", field="evidence")
