"""What has changed in the cluster between two looks at it, in sentences; and how fast it works. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from datastore.messages import PartitionLine, StatusAnswer

KEPT = 240  # Points of a series: as many as the widest screen shows.
NAMED_MAX = 4


class Happening(NamedTuple):
    """`good`: whether it makes things better. `at`: the time of day when it was told, for people; "" before."""

    text: str
    good: bool
    at: str = ""


def between(before: StatusAnswer, after: StatusAnswer) -> list[Happening]:
    """Return what happened, the processes first."""
    found = []
    known = {process.name: process for process in before.processes}
    for process in after.processes:
        old = known.pop(process.name, None)
        if old is None:
            found.append(Happening(f"{process.name} is new: {process.state}", True))
        elif old.verdict != process.verdict:
            better = process.verdict == "ok"
            why = "" if better or not process.detail else f": {process.detail}"
            found.append(Happening(f"{process.name} ({process.kind}) {'is back' if better else process.state}{why}", better))
        elif old.uptime_ms > process.uptime_ms > 0:
            found.append(Happening(f"{process.name} ({process.kind}) has started again", True))
    found += [Happening(f"{name} is gone", False) for name in known]
    return found + _of_operators(before, after)


def _of_operators(before: StatusAnswer, after: StatusAnswer) -> list[Happening]:
    known = {line.operator: line for line in before.partitions}
    moved: dict[str, list[str]] = {}
    stopped: list[str] = []
    again: list[str] = []
    for line in after.partitions:
        old = known.get(line.operator)
        if old is None:
            continue
        if line.primary and (old.primary, old.epoch) != (line.primary, line.epoch) and line.primary != old.primary:
            moved.setdefault(line.primary, []).append(f"{line.operator} (epoch {line.epoch})")
        if (old.verdict == "down") != (line.verdict == "down"):
            (stopped if line.verdict == "down" else again).append(line.operator)
    found = [Happening(f"{node} leads {_some(operators)} now", True) for node, operators in sorted(moved.items())]
    if stopped:
        found.append(Happening(f"nobody may write for {_some(stopped)}: look, but neither hold nor book there", False))
    if again:
        found.append(Happening(f"{_some(again)} {'sells' if len(again) == 1 else 'sell'} again", True))
    return found


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


class Series:
    """How the cluster has worked while one looked: commands and refusals a second, answering time, lag."""

    def __init__(self) -> None:
        self.commands: deque[float] = deque(maxlen=KEPT)
        self.waited: deque[float] = deque(maxlen=KEPT)
        self.refused: deque[float] = deque(maxlen=KEPT)
        self.entries: deque[float] = deque(maxlen=KEPT)
        self.latency_ms: deque[float] = deque(maxlen=KEPT)
        self.lag: deque[float] = deque(maxlen=KEPT)
        self._last: tuple[int, dict[str, dict[str, int]], dict[str, int]] | None = None

    def take(self, status: StatusAnswer, now_ms: int, took_ms: int) -> None:
        """Take in an answer of `status` that came at `now_ms` (monotonic) after `took_ms`."""
        figures = {process.name: process.figures for process in status.processes if process.figures}
        entries = {line.operator: line.lsn for line in status.partitions}
        self.latency_ms.append(float(took_ms))
        self.lag.append(float(max((lag for line in status.partitions for lag in line.replicas.values()), default=0)))
        if self._last is not None and now_ms > self._last[0]:
            then_ms, old, old_entries = self._last
            seconds = (now_ms - then_ms) / 1000
            for name, series in (("commands", self.commands), ("waited", self.waited), ("refused", self.refused)):
                # A balancer that started anew counts from zero: what it says then is all since.
                grown = sum(_grown(old.get(who, {}).get(name, 0), said.get(name, 0)) for who, said in figures.items() if who in old)
                series.append(grown / seconds)
            self.entries.append(sum(max(0, lsn - old_entries.get(operator, lsn)) for operator, lsn in entries.items()) / seconds)
        self._last = (now_ms, figures, entries)


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now


def hot_seats(status: StatusAnswer, count: int) -> list[tuple[str, int]]:
    """Return the seats that most requests wanted at once, over all balancers: (OPERATOR/SERVICE/SEAT, how often)."""
    total: dict[str, int] = {}
    for process in status.processes:
        for key, times in process.hot:
            total[key] = total.get(key, 0) + times
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:count]


def worst_lag(line: PartitionLine) -> int:
    """Return how many entries the copy that is furthest behind lacks."""
    return max(line.replicas.values(), default=0)
