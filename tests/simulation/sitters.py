"""Who takes one lock again and again, relies on it to its last moment, and lets it end by itself: what locks are judged by."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lockstore.seatlocks import Grant, LockRequest
from tests.simulation.lockclients import LockHeld, SimulatedLocks
from tests.simulation.world import Process, World

KEYS = (("AR/sat-upon/1A",), ("AR/sat-upon/1A", "AR/sat-upon/1B"))


class Sitter(Process):
    """One holder among several of the same locks."""

    def __init__(
        self,
        world: World,
        name: str,
        locks_type: type[SimulatedLocks],
        servers: Sequence[str],
        record: list[LockHeld],
        seed: str,
        ttl_ms: int,
        share: float = 1.0,
    ) -> None:
        """Prepare. `share`: of a lock's validity, for which it is relied on; what is left of it is given back."""
        super().__init__(world, name)
        self._locks_type = locks_type
        self._servers = list(servers)
        self._record = record
        self._random = random.Random(f"{seed} {name}")
        self._ttl_ms = ttl_ms
        self._share = share
        self.closing = False

    def boot(self) -> None:
        self._locks = self._locks_type(self, self._servers, f"{self._random.getrandbits(64):x}", self._record, self._ttl_ms)
        self.run(self._forever)

    def _forever(self) -> None:
        while not self.closing:
            (outcome,) = self._locks.acquire_many([LockRequest(self._random.choice(KEYS))])
            if isinstance(outcome, Grant):
                self.sleep(max(1, int(self._share * (outcome.valid_until_ms - self.now_ms()))))
                if self._share < 1:
                    self._locks.release_many([outcome])
            self.sleep(self._random.randrange(1, 12))
