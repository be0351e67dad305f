"""The questions of the Python client that hold in bulk: many holds in one message. `client.api.Holdfast` has them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from client.asking import Asking, new_request_id
from datastore import messages
from datastore.errors import InvalidRequest
from loadbalancer.stub import BalancerStub


class BulkHolds(Asking):
    """Many holds at once, each of which stands or falls alone; `Holdfast` is one."""

    _stub: BalancerStub
    owner_key: str

    def _remember(self, answer: messages.Answer | None) -> None:
        raise NotImplementedError

    def hold_request(
        self, service_id: str, seats: Sequence[str], ttl_ms: int = 0, request_id: str = "", deadline_ms: int = 0
    ) -> messages.HoldSeats:
        """Return the question behind `hold`, with its request id and deadline: what `hold_many` takes."""
        return messages.HoldSeats(
            request_id=request_id or new_request_id(),
            owner_key=self.owner_key,
            service_id=service_id,
            seats=self.listed(seats),
            ttl_ms=ttl_ms,
            deadline_ms=deadline_ms or self.deadline_ms,
        )

    def hold_many(self, holds: Sequence[messages.HoldSeats]) -> list[messages.HoldResult]:
        """Send up to 256 holds, of any services and owners, in one message; results are beside `holds`."""
        request = messages.HoldMany(holds=list(holds), deadline_ms=self.deadline_ms)
        # Without the check of `call`: a bulk caller pays for every microsecond, and the border checks anyway.
        results = cast(messages.HoldManyAnswer, self._stub.call("hold_many", request)).results
        for result in results:
            self._remember(result.hold)
        return results

    def hold_each(
        self, service_id: str, seats: Sequence[str | Sequence[str]], *, ttl_ms: int = 0, request_id: str = ""
    ) -> list[messages.HoldResult]:
        """Make a hold of each of up to 256 seats of one service, in one request; results are beside `seats`.

        Each hold is one of its own: it is confirmed, extended and released by its own id. Several times as fast as as many holds in
        `hold_many`. A repeat with the same `request_id` gives the first answer to all of them.

        Args:
            seats: A seat for each hold, or all seats of one that has several.
        Raises:
            LockTimeout, OperatorUnavailable: For all of them: nothing was done, and it may be asked again.
        """
        if isinstance(seats, str):
            raise InvalidRequest("a list of seats is wanted, one for each hold", field="seats")
        request = messages.HoldEach(
            request_id=request_id, owner_key=self.owner_key, service_id=service_id, seats=list(map(self.listed, seats)), ttl_ms=ttl_ms
        )
        return self._ask("hold_each", request, messages.HoldEachAnswer).results()
