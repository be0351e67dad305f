"""Which seats many want at once: how often a request stood in line for a seat here, found its lock taken elsewhere, or came too late.

Counted where it happens, for people who run the cluster. The table of seats is bounded: when it is full every count is halved and
what falls to nothing is forgotten, so what was hot yesterday makes room. Pure; numbers only grow, so two looks give a rate.
"""

from __future__ import annotations

from collections.abc import Iterable

SEATS_MAX = 512


class Contention:
    """Counters of one balancer. Several threads note without a lock: a count lost to a race does not matter to its readers."""

    def __init__(self) -> None:
        self.waited = 0  # Requests that stood behind another of this balancer.
        self.contended = 0  # Tries that found a lock held by another balancer's request.
        self.refused = 0  # Requests whose seats somebody else had when it came to deciding.
        self._seats: dict[str, int] = {}

    def note_waited(self, keys: Iterable[str]) -> None:
        self.waited += 1
        self._note(keys)

    def note_contended(self, keys: Iterable[str]) -> None:
        self.contended += 1
        self._note(keys)

    def note_refused(self, keys: Iterable[str]) -> None:
        self.refused += 1
        self._note(keys)

    def hottest(self, count: int) -> list[tuple[str, int]]:
        """Return the seat keys with the highest counts, the hottest first."""
        return sorted(dict(self._seats).items(), key=lambda pair: (-pair[1], pair[0]))[:count]

    def _note(self, keys: Iterable[str]) -> None:
        seats = self._seats
        for key in keys:
            seats[key] = seats.get(key, 0) + 1
        if len(seats) > SEATS_MAX:
            # A new table from a copy, which is made in one step: another thread may be noting in this one.
            self._seats = {key: count // 2 for key, count in dict(seats).items() if count > 1}
