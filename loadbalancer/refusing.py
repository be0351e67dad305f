"""Refusals that a balancer has proved by itself, made the answer to a request wherever it is asked (Z3, Z8).

A partition records what it refuses, so every try of a request hears the same. "Sold out", or that an offer is over, is found
out by the balancer that was asked: another try of the request, at another balancer, may be on its way to a seat meanwhile. What
its caller was told must stay true, so the refusal is written down where all tries meet: under the attempt that was to come next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datastore import commands, wire
from datastore.errors import (
    ConnectionTooShort,
    HoldfastError,
    InvalidRequest,
    NoAdjacentBlock,
    OfferExpired,
    OperatorUnavailable,
    PriceChanged,
    RequestInProgress,
    SeatUnavailable,
    ServiceClosed,
    error_from_data,
)
from loadbalancer.balancer import Balancer
from loadbalancer.waiting import now_ms

# What a balancer may find out by itself, and another one a moment later not.
FOUND_OUT = (ConnectionTooShort, NoAdjacentBlock, OfferExpired, PriceChanged, SeatUnavailable, ServiceClosed)
# What a refusal says where somebody else has seats, or where they are not the best any more: others are proposed.
TAKEN_CODES = ("seat_unavailable", "seat_blocked")


def may_choose_again(error: Mapping[str, Any]) -> bool:
    """Return whether others are to be proposed: of the seats that were, some are taken. Not where there was no room for the party."""
    return error.get("code") in TAKEN_CODES and "free" not in (error.get("fields") or {})


def refuse(
    balancer: Balancer, operator: str, request_id: str, digest: bytes, refusal: HoldfastError, deadline_ms: int, basket_id: str = ""
) -> wire.Outcome:
    """Let `refusal` be the answer to an attempt, unless it has one; return its answer.

    Args:
        request_id: The attempt's own.
        basket_id: The attempt's basket, of a trip.
    Raises:
        HoldfastError: The operator cannot be asked, so that nothing can be said for good.
    """
    command = commands.Refuse(request_id, digest, refusal.code, refusal.detail, refusal.fields, basket_id)
    # By itself: a primary of an older program cannot read it, and would refuse everything that came with it.
    item = wire.SubmitItem(operator, wire.encode([command]))
    while (left_ms := deadline_ms - now_ms()) > 0:
        (result,) = balancer.managers.submit([item], left_ms)
        if result.error:
            error = error_from_data(result.error)
            if isinstance(error, InvalidRequest):
                return wire.failure(refusal)
            raise error
        outcome: wire.Outcome = wire.decode(wire.OUTCOMES, result.outcomes)[0]
        if outcome.error.get("code") != RequestInProgress.code or outcome.error["fields"]:
            return outcome
        # An import was in the same entry; the next takes it.
    raise OperatorUnavailable(f"no time left to ask {operator}", operator=operator)
