"""What seats for a whole party cost on one service, and how many are left. Pure.

The party sits in one cabin, not necessarily together: the one asked for, else the cheapest that has room for all. Within it the
cheapest seats count, zone by zone. Prices only rise when seats go, so the price of an untouched service is a lower bound of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from datastore.model import Layout


class Part(NamedTuple):
    """So many seats of one price."""

    cabin: str
    zone: str
    seats: int
    each_minor: int


class PartyFare(NamedTuple):
    """Seats for the party: their parts, cheapest first, what they cost together, and the free seats of that cabin."""

    parts: tuple[Part, ...]
    total_minor: int
    left: int

    @property
    def cabin(self) -> str:
        return self.parts[0].cabin


def party_fare(minor: Mapping[tuple[str, str], int], free: Mapping[tuple[str, str], int], passengers: int, cabin: str) -> PartyFare | None:
    """Return the cheapest seats for the party in one cabin, or None where no cabin has room.

    Args:
        minor: (cabin, zone) -> price of a seat. free: (cabin, zone) -> seats free there.
        cabin: The cabin wanted; "" means any.
    """
    best: PartyFare | None = None
    for word in (cabin,) if cabin else dict.fromkeys(cabin for cabin, _ in minor):
        zones = sorted((price, zone) for (where, zone), price in minor.items() if where == word and free[where, zone] > 0)
        left = sum(free[word, zone] for _, zone in zones)
        if left < passengers:
            continue
        parts: list[Part] = []
        needed = passengers
        for price, zone in zones:
            taken = min(needed, free[word, zone])
            parts.append(Part(word, zone, taken, price))
            needed -= taken
            if not needed:
                break
        total = sum(part.seats * part.each_minor for part in parts)
        if best is None or total < best.total_minor:
            best = PartyFare(tuple(parts), total, left)
    return best


@lru_cache(maxsize=512)
def seats_by_zone(layout: Layout) -> dict[tuple[str, str], int]:
    """Return (cabin, zone) -> seats of an empty service. Not to be changed by the caller."""
    counts: dict[tuple[str, str], int] = {}
    for seat in layout.seats:
        counts[seat.cabin, seat.zone] = counts.get((seat.cabin, seat.zone), 0) + 1
    return counts


def free_by_zone(layout: Layout, taken: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return (cabin, zone) -> free seats."""
    free = dict(seats_by_zone(layout))
    for seat_id in taken:
        seat = layout.by_id.get(seat_id)
        if seat is not None:
            free[seat.cabin, seat.zone] -= 1
    return free
