"""SeatLocks itself (`lockstore.seatlocks`) over the simulated network: only its connections and its clock are simulated.

Every grant is recorded with the true times between which its holder relies on it: for the checkers, which know nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lockstore.links import Answer, Command
from lockstore.redlock import Missing
from lockstore.seatlocks import Grant, LockOutcome, LockRequest, SeatLocks, ServerAddress
from tests.simulation.world import Ask, Process

TIMEOUT_MS = 80


@dataclass
class LockHeld:
    """One acquisition. Times are true ones: `valid_us` when its validity is over, `ended_us` that or when it was given back."""

    keys: tuple[str, ...]
    fence: tuple[int, int]
    nonce: str
    holder: str
    asked_us: int
    granted_us: int
    ended_us: int
    valid_us: int
    fast: bool


class SimulatedLinks:
    """What `lockstore.links.LinkSet` is: one round to all servers, answers until the time-out."""

    def __init__(self, locks: SimulatedLocks) -> None:
        self._locks = locks

    def prepare(self) -> None:
        pass

    def close(self) -> None:
        pass

    def ask_all(self, command: Command) -> list[Answer]:
        process = self._locks.process

        def ask(name: str) -> Callable[[], Answer]:
            def call() -> Answer:
                answer: Answer | None = process.ask(Ask(name, "script", command.packed, TIMEOUT_MS))
                if answer is None:
                    return Missing(f"no answer within {TIMEOUT_MS} ms", sent=True)
                return answer

            return call

        answers = process.at_once({name: ask(name) for name in self._locks.server_names})
        return [answers[name] for name in self._locks.server_names]


class SimulatedLocks(SeatLocks):
    """The locks of one process."""

    def __init__(self, process: Process, servers: Sequence[str], seed: str, record: list[LockHeld] | None, ttl_ms: int = 2_000) -> None:
        self.process = process
        self.server_names = list(servers)
        chance = random.Random(seed)
        super().__init__(
            [ServerAddress(name, "127.0.0.1", 1 + number) for number, name in enumerate(servers)],
            ttl_ms=ttl_ms,
            timeout_ms=TIMEOUT_MS,
            now_ms=process.now_ms,
            draw_hex=lambda count: f"{chance.getrandbits(8 * count):0{2 * count}x}",
        )
        self._record = record
        self._held: dict[str, LockHeld] = {}

    @contextmanager
    def _links(self) -> Iterator[SimulatedLinks]:  # type: ignore[override]
        yield SimulatedLinks(self)

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = (), ttl_ms: int | None = None) -> list[LockOutcome]:
        process = self.process
        asked_us = process.world.now_us
        self._given_back(releases)
        outcomes = super().acquire_many(requests, releases, ttl_ms)
        if self._record is None:
            return outcomes
        for outcome in outcomes:
            if isinstance(outcome, Grant):
                left_ms = outcome.valid_until_ms - process.now_ms()
                now_us = process.world.now_us
                until_us = now_us + int(left_ms * 1000 / process.clock.rate)
                held = LockHeld(
                    outcome.keys, outcome.fence, outcome.nonce, process.name, asked_us, now_us, until_us, until_us, outcome.fast
                )
                self._record.append(held)
                self._held[outcome.nonce] = held
        return outcomes

    def release_many(self, grants: Sequence[Grant]) -> None:
        self._given_back(grants)
        super().release_many(grants)

    def _given_back(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            held = self._held.pop(grant.nonce, None)
            if held is not None:
                held.ended_us = min(held.ended_us, self.process.world.now_us)
