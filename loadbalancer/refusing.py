"""That there is no room for a party, made the answer to its request wherever it is asked (Z3, Z8).

A partition records what it refuses, so every try of a request hears the same. That there is no room is found out by the balancer
that was asked: another try of the request, at another balancer, may be on its way to a seat meanwhile. What its caller was
told must stay true, so the refusal is written down where all tries meet: under the attempt that was to come next.
"""

from __future__ import annotations

from datastore import commands, wire
from datastore.errors import HoldfastError, InvalidRequest, OperatorUnavailable, RequestInProgress, error_from_data
from loadbalancer.balancer import Balancer
from loadbalancer.batching import SUBMIT_MS_MAX, outcomes_in
from loadbalancer.waiting import now_ms


def refuse(
    balancer: Balancer, operator: str, request_id: str, digest: bytes, refusal: HoldfastError, deadline_ms: int, basket_id: str = ""
) -> wire.Outcome:
    """Let `refusal` be the answer to an attempt, unless it has one; return its answer.

    Args:
        request_id: The attempt's own.
        refusal: For want of room, from the primary's state.
        basket_id: The attempt's basket, of a trip.
    Raises:
        HoldfastError: The operator cannot be asked, so that nothing can be said for good.
    """
    command = commands.Refuse(request_id, digest, refusal.code, refusal.detail, refusal.fields, basket_id)
    # By itself: a primary of an older program cannot read it, and would refuse everything that came with it.
    item = wire.SubmitItem(operator, wire.encode([command]))
    while (left_ms := deadline_ms - now_ms()) > 0:
        (result,) = balancer.managers.submit([item], min(left_ms, SUBMIT_MS_MAX))
        if result.error:
            error = error_from_data(result.error)
            if isinstance(error, InvalidRequest):
                return wire.failure(refusal)
            raise error
        (outcome,) = outcomes_in(result, 1)
        if outcome.error.get("code") != RequestInProgress.code or outcome.error["fields"]:
            return outcome
        # An import was in the same entry; the next takes it.
    raise OperatorUnavailable(f"no time left to ask {operator}", operator=operator)
