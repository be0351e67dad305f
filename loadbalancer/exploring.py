"""The network without times: what runs between which places, and every path from one to another. Pure.

A path is simple: no place twice. Their number grows steeply with the legs, so counting stops at `STEPS_MAX` and says so; only the
best are listed, by legs and then by miles.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import NamedTuple

from loadbalancer.search_index import Network

STEPS_MAX = 300_000
PAUSE_EVERY = 2_000
WEEK = 7


class Route(NamedTuple):
    """What runs from one place to another in a week: how many services, whose, and how far."""

    origin: str
    destination: str
    operators: tuple[str, ...]
    weekly: int
    miles: int


class Path(NamedTuple):
    """A chain of routes; compared by legs, then miles, then places."""

    legs: int
    miles: int
    places: tuple[str, ...]
    routes: tuple[Route, ...]

    @property
    def combinations(self) -> int:
        """Return how many ways there are to take one service of the week on each leg."""
        return prod(route.weekly for route in self.routes)


class Paths(NamedTuple):
    """What was counted: how many, and the first of them (`best`). `complete`: whether all were counted."""

    total: int
    combinations: int
    by_legs: dict[int, int]
    complete: bool
    best: list[Path]


def routes(network: Network, ordinal: int, operators: frozenset[str], pause: Callable[[], None] = lambda: None) -> list[Route]:
    """Return what runs in the week from a local date on, by places; `operators` empty means all."""
    found: list[Route] = []
    for origin in sorted(network.lines):
        pause()
        for destination in sorted(network.lines[origin]):
            lines = network.lines[origin][destination].values()
            codes = [row.operator for line in lines for day in range(WEEK) for row in line.runs(ordinal + day)]
            wanted = [code for code in codes if not operators or code in operators]
            if wanted:
                miles = max(line.miles for line in lines)
                found.append(Route(origin, destination, tuple(sorted(set(wanted))), len(wanted), miles))
    return found


def paths(
    found: list[Route],
    origins: tuple[str, ...],
    destinations: tuple[str, ...],
    legs_max: int,
    limit: int,
    pause: Callable[[], None] = lambda: None,
) -> Paths:
    """Return the simple paths of up to `legs_max` legs from any of the origins to any of the destinations.

    A path leaves its origins and reaches its destinations once: it neither passes another airport of the city where it began nor
    flies on from one where it could end.
    """
    onward: dict[str, list[Route]] = {}
    for route in found:
        onward.setdefault(route.origin, []).append(route)
    needed = _legs_to(found, destinations)
    best: list[tuple[tuple[int, int, tuple[str, ...]], Path]] = []
    by_legs: dict[int, int] = {}
    combinations = 0
    walk = _Walk(onward, needed, frozenset(origins), frozenset(destinations), legs_max, pause)
    for path in walk.all():
        by_legs[path.legs] = by_legs.get(path.legs, 0) + 1
        combinations += path.combinations
        best.append((path[:3], path))
        if len(best) >= 4 * limit + 1_000:
            best = heapq.nsmallest(limit, best, key=lambda entry: entry[0])
    kept = heapq.nsmallest(limit, best, key=lambda entry: entry[0])
    return Paths(sum(by_legs.values()), combinations, dict(sorted(by_legs.items())), walk.complete, [path for _, path in kept])


def _legs_to(found: list[Route], destinations: tuple[str, ...]) -> dict[str, int]:
    """Return from how many legs on each place reaches a destination."""
    into: dict[str, list[str]] = {}
    for route in found:
        into.setdefault(route.destination, []).append(route.origin)
    needed = dict.fromkeys(destinations, 0)
    reached = list(destinations)
    while reached:
        here = reached.pop(0)
        for before in into.get(here, ()):
            if before not in needed:
                needed[before] = needed[here] + 1
                reached.append(before)
    return needed


class _Walk:
    """A depth-first walk; a branch that cannot arrive in the legs left is not entered."""

    def __init__(
        self,
        onward: Mapping[str, list[Route]],
        needed: Mapping[str, int],
        origins: frozenset[str],
        destinations: frozenset[str],
        legs_max: int,
        pause: Callable[[], None],
    ) -> None:
        self._onward, self._needed = onward, needed
        self._origins, self._destinations = origins, destinations
        self._legs_max = legs_max
        self._pause = pause
        self._steps = 0
        self.complete = True

    def all(self) -> Iterator[Path]:
        """Yield the paths, shorter ones before longer ones where counting may have to stop."""
        for legs in range(1, self._legs_max + 1):
            for origin in sorted(self._origins - self._destinations):
                yield from self._from((origin,), (), legs)

    def _from(self, places: tuple[str, ...], taken: tuple[Route, ...], left: int) -> Iterator[Path]:
        """Yield the paths that go on from the last place in exactly `left` legs."""
        for route in self._onward.get(places[-1], ()):
            self._steps += 1
            if self._steps % PAUSE_EVERY == 0:
                self._pause()
            if self._steps > STEPS_MAX:
                self.complete = False
                return
            there = route.destination
            if there in places or there in self._origins or self._needed.get(there, self._legs_max) > left - 1:
                continue
            if there in self._destinations:
                if left == 1:
                    chain = (*taken, route)
                    yield Path(len(chain), sum(one.miles for one in chain), (*places, there), chain)
            elif left > 1:
                yield from self._from((*places, there), (*taken, route), left - 1)
