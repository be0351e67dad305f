"""Where the tries of one request for a trip meet, at whichever balancers: the records of its attempts at the anchor (Z3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datastore import wire
from datastore.conditions import leg_from
from datastore.errors import HoldfastError, RequestInProgress, error_from_data
from datastore.model import BasketState, Leg
from loadbalancer.balancer import Balancer
from loadbalancer.identity import basket_id_of, request_id_of_attempt
from loadbalancer.itinerary import SPENT
from loadbalancer.proposing import is_no_room, may_choose_again
from loadbalancer.refusing import refuse

ATTEMPTS_MAX = 32
ATTEMPTS_LOOKED_AHEAD = ATTEMPTS_MAX


@dataclass(frozen=True)
class Tries:
    """The tries of one request.

    Attributes:
        asked: Digest of what the caller asked.
    """

    balancer: Balancer
    anchor: str
    owner: str
    request_id: str
    asked: bytes

    def earlier(self, deadline_ms: int) -> tuple[int, tuple[Leg, ...] | None]:
        """Ask the anchor what an earlier try chose: (attempt, its legs), or the first free attempt.

        Raises:
            SeatUnavailable, NoAdjacentBlock: The request was refused for want of room.
        """
        ids = [self._basket_id(attempt) for attempt in range(ATTEMPTS_LOOKED_AHEAD)]
        baskets = wire.ReadItem(self.anchor, "baskets", {"basket_ids": ids})
        rows, *first = self._read([baskets, self._answer_to(0)], deadline_ms)  # Who asks for the first time waits once.
        found = {row["hold_id"]: row for row in rows}
        gap = len(ids)
        for attempt, basket_id in enumerate(ids):
            row = found.get(basket_id)
            if row is None:
                gap = min(gap, attempt)
            elif _stood(row):
                return attempt, tuple(map(leg_from, row["legs"]))
        for answer in first + self._read([self._answer_to(attempt) for attempt in range(1, gap + 1)], deadline_ms):
            if answer is not None and answer["digest"] == self.asked:
                refusal = answer["outcome"][2]
                if is_no_room(refusal):
                    raise error_from_data(refusal)
        return gap, None

    def _answer_to(self, attempt: int) -> wire.ReadItem:
        """Ask what an attempt was answered: one that was given up may have been refused, and the next one does not meet that."""
        return wire.ReadItem(self.anchor, "request", {"request_id": request_id_of_attempt(self.request_id, attempt)})

    def _read(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[Any]:
        return [result.value for result in self.balancer.read_each(items, deadline_ms)] if items else []

    def refuse(self, attempt: int, refusal: HoldfastError, deadline_ms: int) -> tuple[int, tuple[Leg, ...]]:
        """Refuse the request for good, for want of room; return what another try has chosen meanwhile: (attempt, its legs).

        Args:
            attempt: From which on another try may be under way.
        Raises:
            HoldfastError: The refusal, or the one that another try met first.
        """
        while attempt < ATTEMPTS_MAX:
            request_id, basket_id = request_id_of_attempt(self.request_id, attempt), self._basket_id(attempt)
            outcome = refuse(self.balancer, self.anchor, request_id, self.asked, refusal, deadline_ms, basket_id)
            if outcome.error.get("code") == RequestInProgress.code:
                free, adopted = self.earlier(deadline_ms)
                if adopted is not None:
                    return free, adopted
                attempt = max(free, attempt + 1)  # It has ended.
            elif may_choose_again(outcome.error) or (outcome.error.get("fields") or {}).get("why") in SPENT:
                attempt += 1
            else:
                raise error_from_data(outcome.error)
        raise refusal

    def _basket_id(self, attempt: int) -> str:
        return basket_id_of(self.anchor, self.owner, self.request_id, attempt)


def earlier_change(balancer: Balancer, anchor: str, owner: str, request_id: str, deadline_ms: int) -> str:
    """Return the basket that an earlier try of a change held, or has sold, "" for none (Z3)."""
    ids = [basket_id_of(anchor, owner, request_id, attempt) for attempt in range(ATTEMPTS_LOOKED_AHEAD)]
    found = balancer.read(anchor, "baskets", {"basket_ids": ids}, deadline_ms).value
    return next((str(row["hold_id"]) for row in found if _stood(row)), "")


def _stood(row: Mapping[str, Any]) -> bool:
    """Return whether a basket was held and perhaps sold, and not given up."""
    return row["basket_state"] != BasketState.ABORTED or row["why"] in ("released", "expired")
