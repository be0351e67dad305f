"""The holds of this traveller and how long each still lasts. Pure: the time is given.

Remaining times come from the log's clock (`remaining_ms` of an answer) and are counted down on this machine's monotonic
clock from the moment the answer came, so that no wall clock, here or there, has a say in a countdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from datastore.messages import HoldAnswer

WARN_AT_S = (60, 15)
TOLD_MAX = 200  # Holds of which is remembered when they were heard of: more than are told of while a list is under way.
ENDED_MAX = 20  # Ended holds that are remembered, so that their seats can be taken again.


@dataclass
class Held:
    """One hold. `warned`: the seconds at which its end was announced."""

    hold: HoldAnswer
    ends_ms: int
    warned: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Notice:
    """Something to be said. `seconds` 0 means that the hold has ended."""

    hold: HoldAnswer
    seconds: int


class Holds:
    """All open holds known here."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._ended: dict[str, HoldAnswer] = {}  # Oldest first.
        self.moment = 0  # Counts what was taken in.
        self._told: dict[str, int] = {}  # hold id -> the moment at which it was last heard of; the longest ago first

    def found(self, holds: Sequence[HoldAnswer], asked: int, now_ms: int) -> None:
        """Take in a list of open holds that was asked for at the moment `asked`: what was heard of one since then is newer."""
        for hold in holds:
            if self._told.get(hold.hold_id, 0) <= asked:
                self.put(hold, now_ms)

    def _hear(self, hold_id: str) -> None:
        self.moment += 1
        self._told.pop(hold_id, None)
        self._told[hold_id] = self.moment
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]

    def put(self, hold: HoldAnswer, now_ms: int) -> None:
        """Take in an answer about a hold: a new one, an extension, or its end."""
        self._hear(hold.hold_id)
        if hold.state not in ("active", "paying"):
            self._held.pop(hold.hold_id, None)
            if hold.state == "expired":
                self._end(hold)
            return
        ends_ms = now_ms + hold.remaining_ms
        known = self._held.get(hold.hold_id)
        warned = {second for second in known.warned if hold.remaining_ms <= second * 1_000} if known else set[int]()
        self._held[hold.hold_id] = Held(hold, ends_ms, warned)

    def drop(self, hold_id: str) -> None:
        self._hear(hold_id)
        self._held.pop(hold_id, None)
        self._ended.pop(hold_id, None)

    def expire(self, hold: HoldAnswer) -> None:
        """Take in that a hold is over, from whoever said so."""
        self._hear(hold.hold_id)
        self._held.pop(hold.hold_id, None)
        self._end(hold)

    def ended(self) -> list[HoldAnswer]:
        """Return holds whose time is over, the newest first: their seats may still be free."""
        return list(reversed(self._ended.values()))

    def _end(self, hold: HoldAnswer) -> None:
        self._ended.pop(hold.hold_id, None)
        self._ended[hold.hold_id] = hold
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def open(self) -> list[HoldAnswer]:
        """Return the holds, the one that ends first ahead."""
        return [held.hold for held in sorted(self._held.values(), key=lambda held: held.ends_ms)]

    def remaining_ms(self, hold_id: str, now_ms: int) -> int:
        """Return how long a hold lasts; 0 where it has ended."""
        held = self._held.get(hold_id)
        return max(0, held.ends_ms - now_ms) if held else 0

    def tick(self, now_ms: int) -> list[Notice]:
        """Return what is to be announced now; each warning once; what has ended is no longer open."""
        notices: list[Notice] = []
        for hold_id, held in list(self._held.items()):
            left_ms = held.ends_ms - now_ms
            if left_ms <= 0:
                del self._held[hold_id]
                self._end(held.hold)
                notices.append(Notice(held.hold, 0))
                continue
            due = [second for second in WARN_AT_S if left_ms <= second * 1_000 and second not in held.warned]
            if due:
                held.warned.update(due)
                notices.append(Notice(held.hold, min(due)))
        return notices


def countdown(milliseconds: int) -> str:
    """Return "14:05"."""
    seconds = (milliseconds + 999) // 1_000
    return f"{seconds // 60}:{seconds % 60:02d}"
