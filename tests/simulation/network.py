"""The simulated network: every message may be late, lost, repeated or overtaken, and every direction may be cut.

A message reaches whatever process runs at its target when it arrives. An answer reaches the incarnation that asked, and no
other. Nothing is said to a sender of what became of its message: that is what time-outs are for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.simulation.world import Ask, Process, World


# A command comes twice only because its caller sent it twice: a stream delivers once. What managers and primaries say is
# repeated all the same, as their machines must bear it.
ONCE = frozenset(
    {"submit", "read", "basket", "feed", "snapshot", "topology", "GET", "POST"}
    | {"hold", "hold_trip", "extend", "release", "confirm", "cancel"}
)


class Weather(NamedTuple):
    """How bad the network is: chances for each message, and times in microseconds."""

    delay_us: int = 1_000
    loss: float = 0.0
    repeat: float = 0.0
    slow: float = 0.0
    slow_us: int = 100_000


class Trap(NamedTuple):
    """A fault that waits for its moment.

    Attributes:
        springs: Asked of every message as it is sent, until it returns by how much later that one arrives (microseconds).
    """

    springs: Callable[[Process, Ask], int | None]


class Network:
    """Carries messages between processes."""

    world: World

    def __init__(self, seed: str, weather: Weather) -> None:
        self._random = random.Random(seed)
        self.weather = weather
        self.cuts: set[tuple[str, str]] = set()
        self.traps: list[Trap] = []
        self._sprung: tuple[Process, int, int] | None = None  # (whose round of messages, at what time, how much later it arrives)
        self.carried = self.dropped = self.repeated = 0

    def cut(self, source: str, target: str) -> None:
        """From now on nothing gets from `source` to `target`; the other direction is another matter."""
        self.cuts.add((source, target))

    def mend(self) -> None:
        self.cuts.clear()
        self.traps.clear()

    def request(self, asker: Process, ask: Ask, settle: Callable[[Any], None]) -> None:
        target = self.world.processes[ask.to]
        incarnation = asker.incarnation

        def answer(value: Any) -> None:
            self._carry(target, asker, incarnation, settle, value)

        def arrive(_: Any) -> None:
            target.handle(ask.method, ask.payload, answer)

        late_us = self._trapped(asker, ask) if self.traps or self._sprung else 0
        self._carry(asker, target, None, arrive, None, may_repeat=ask.method not in ONCE, late_us=late_us)

    def _trapped(self, asker: Process, ask: Ask) -> int:
        """Return by how much a message is late because a trap waited for it; what goes out at once goes out together."""
        if self._sprung is not None:
            if self._sprung[:2] == (asker, self.world.now_us):
                return self._sprung[2]
            self._sprung = None
        for trap in self.traps:
            late_us = trap.springs(asker, ask)
            if late_us is not None:
                self.traps.remove(trap)
                self._sprung = (asker, self.world.now_us, late_us)
                return late_us
        return 0

    def _carry(
        self,
        source: Process,
        target: Process,
        incarnation: int | None,
        act: Callable[[Any], None],
        argument: Any,
        may_repeat: bool = True,
        late_us: int = 0,
    ) -> None:
        if self.cuts and (source.name, target.name) in self.cuts:
            self.dropped += 1
            return
        draw, weather = self._random.random, self.weather
        if weather.loss and draw() < weather.loss:
            self.dropped += 1
            return
        self.carried += 1
        self.world.push(late_us + self._delay_us(), target, incarnation, act, argument)
        if may_repeat and weather.repeat and draw() < weather.repeat:
            self.repeated += 1
            self.world.push(self._delay_us() * 3, target, incarnation, act, argument)

    def _delay_us(self) -> int:
        draw, weather = self._random.random, self.weather
        delay_us = 50 + int(draw() * weather.delay_us)
        if weather.slow and draw() < weather.slow:
            delay_us += int(draw() * weather.slow_us)
        return delay_us
