"""Somebody who buys without a pause while a test does something to the cluster: not one error may reach a caller."""

from __future__ import annotations

import itertools
import threading
from types import TracebackType

from datastore.errors import HoldfastError
from tests.checkers import History
from tests.faults.buyers import Buyer, seats_of, services_of
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

# A call that outlives a promotion, a lock server's rejoin and a loaded machine.
DEADLINE_MS = 30_000
PACE_S = 0.02


class Sales:
    """Holds and releases seats of one service in turn, from entering to leaving the context; `errors` is what callers heard."""

    def __init__(
        self, cluster: ClusterUnderTest, history: History, operator: str = "GRAND", days_ahead: int = 3, name: str = "steady"
    ) -> None:
        self.service = services_of(cluster, operator, days_ahead)[0].service_id
        self.seats = seats_of(cluster, self.service)
        self.buyer = Buyer(cluster, history, name, deadline_ms=DEADLINE_MS)
        self.errors: list[HoldfastError] = []
        self.sold = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sell, name="sales", daemon=True)

    def __enter__(self) -> Sales:
        self._thread.start()
        self.go_on(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(2 * DEADLINE_MS / 1000)
        assert not self._thread.is_alive()

    def go_on(self, count: int = 3, deadline_s: float = 60) -> None:
        """Wait until so many more were sold."""
        enough = self.sold + count
        wait_until(lambda: self.sold >= enough or self.errors, f"{count} more sales", deadline_s)
        assert [] == self.errors

    def _sell(self) -> None:
        # The last ten seats are left to the test.
        for seat in itertools.cycle(self.seats[:-10]):
            if self._over.wait(PACE_S):
                return
            try:
                self.buyer.release(self.buyer.hold(self.service, [seat]))
                self.sold += 1
            except HoldfastError as error:
                self.errors.append(error)
                return
