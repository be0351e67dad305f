"""Holds in bulk: one command, one answer and one row for many holds of a service, each of which stands or falls alone. Pure.

What a hold alone costs, in rows, names and answers, is mostly the same for its neighbours; said once for all of them it costs
a fraction. Nothing is decided together: every seat is looked at alone and keeps its own fence, and every hold has its own id.
"""

from __future__ import annotations

from typing import Any

from datastore import errors
from datastore.commands import HoldEach
from datastore.model import bulk_hold_id
from datastore.overlay import Batch
from datastore.rows import BulkRow, HoldRow
from datastore.taking import Claim, check_free_to_take, check_on_sale, check_seats, expire, look, room_for, unavailable


def hold_each(batch: Batch, command: HoldEach) -> dict[str, Any]:
    """Make the holds that can be made; the others are refused one by one.

    Raises:
        StaleFence, ResolveNeeded: For all of them: nothing was done, and it may come again.
    """
    facts = batch.facts(command.service_id)
    check_seats(facts, [seat_id for seats in command.seats for seat_id in seats])
    count = len(command.seats)
    beside = list(map(len, command.prices)) == list(map(len, command.seats)) and len(command.refundable_percents) == count
    if not beside or not all(command.seats) or command.ttl_ms <= 0:
        raise errors.InvalidRequest("a hold needs a price for each seat and a time above zero", field="ttl_ms")
    if command.generation < 0:  # The bulk's row would say nothing of its seats.
        raise errors.InvalidRequest("a fence is not negative", field="generation")
    check_on_sale(batch, facts)
    if batch.knows_bulk(command.bulk_id) or batch.knows_any([bulk_hold_id(command.bulk_id, number + 1) for number in range(count)]):
        raise errors.IdempotencyKeyReused(f"holds {errors.shown(command.bulk_id)} exist already", hold_id=command.bulk_id)
    refused, due = _conflicts(batch, command)
    for hold in due.values():
        expire(batch, hold)
    numbers = [number for number in range(1, count + 1) if number not in refused]
    room, refusal = room_for(batch, command, len(numbers))
    if refusal is not None:
        refused.update(dict.fromkeys(numbers[room:], _told(refusal, command)))
        numbers = numbers[:room]
    expires_ms = min(batch.now_ms + command.ttl_ms, facts.service.departs_ms)
    if numbers:
        _open(batch, command, numbers, expires_ms)
    return {
        "bulk_id": command.bulk_id,
        "service_id": command.service_id,
        "seats": command.seats,
        "prices": command.prices,
        "refundable_percents": command.refundable_percents,
        "created_ms": batch.now_ms,
        "expires_ms": expires_ms,
        "now_ms": batch.now_ms,
        "currency": command.currency,
        "lsn": batch.lsn,
        "refused": sorted(refused.items()),
    }


def _conflicts(batch: Batch, command: HoldEach) -> tuple[dict[int, dict[str, Any]], dict[str, HoldRow]]:
    """Return the holds that cannot be made (number -> error data), and what is due and in the way of the others.

    Raises:
        StaleFence, ResolveNeeded: Of those that could be made.
    """
    refused: dict[int, dict[str, Any]] = {}
    due: dict[str, HoldRow] = {}
    for number, seats in enumerate(command.seats, 1):
        if not batch.is_touched(command.service_id, seats):
            continue  # Nobody ever had them: the common case in bulk, and a tenth of the work.
        claim = Claim(command.service_id, seats, command.generation, command.counter, command.nonce)
        found = look(batch, claim)
        if found.conflicts:
            refused[number] = _told(unavailable(command.service_id, found.conflicts), command)
            continue
        check_free_to_take(batch, claim, found)
        due.update(found.due)
    return refused, due


def _told(refusal: errors.HoldfastError, command: HoldEach) -> dict[str, Any]:
    refusal.request_id = command.request_id
    return refusal.to_data()


def _open(batch: Batch, command: HoldEach, numbers: list[int], expires_ms: int) -> None:
    batch.put_bulk(
        BulkRow(
            command.bulk_id,
            command.owner,
            command.service_id,
            batch.lsn,
            batch.now_ms,
            expires_ms,
            command.currency,
            tuple(numbers),
            tuple([command.seats[number - 1] for number in numbers]),
            tuple([command.prices[number - 1] for number in numbers]),
            tuple([command.refundable_percents[number - 1] for number in numbers]),
            command.generation,
            command.counter,
            command.nonce,
        )
    )
