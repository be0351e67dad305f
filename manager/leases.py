"""The courtesy between managers: a lease in the lock store on every operator that one of them is about to promote.

Safety never depends on it (R9). Two managers that promote the same operator at once would only take each other's epochs
away; with the lease the second one waits and then finds a primary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lockstore.errors import LockError
from lockstore.seatlocks import Grant, LockRequest, SeatLocks, Unavailable
from manager.failover_steps import Lease

log = logging.getLogger(__name__)


class PromoteLeases:
    """Leases `promote:OPERATOR`, many at once. Used by one thread."""

    def __init__(self, locks: SeatLocks | None, ttl_ms: int) -> None:
        """Prepare.

        Args:
            locks: None where no lock servers are configured: every lease is unavailable then.
            ttl_ms: Longer than a promotion takes, short enough that a manager that died holding it delays nobody for long.
        """
        self._locks = locks
        self._ttl_ms = ttl_ms
        self._held: list[Grant] = []

    def take(self, operators: Sequence[str]) -> dict[str, Lease]:
        """Ask for all of them in one round to the lock servers."""
        if self._locks is None:
            return dict.fromkeys(operators, Lease.UNAVAILABLE)
        try:
            outcomes = self._locks.acquire_many([LockRequest((f"promote:{operator}",)) for operator in operators], ttl_ms=self._ttl_ms)
        except LockError as error:
            log.warning("leases cannot be asked for: %s", error)
            return dict.fromkeys(operators, Lease.UNAVAILABLE)
        leases: dict[str, Lease] = {}
        for operator, outcome in zip(operators, outcomes, strict=True):
            if isinstance(outcome, Grant):
                self._held.append(outcome)
                leases[operator] = Lease.GRANTED
            else:
                leases[operator] = Lease.UNAVAILABLE if isinstance(outcome, Unavailable) else Lease.CONTENDED
        return leases

    def release_all(self) -> None:
        """Give back what is held; what cannot be reached ends with its ttl."""
        held, self._held = self._held, []
        if held and self._locks is not None:
            try:
                self._locks.release_many(held)
            except LockError as error:
                log.warning("leases cannot be given back, they end by themselves: %s", error)

    def close(self) -> None:
        if self._locks is not None:
            self._locks.close()
