"""What "the best available" means, by trying everything: the plain twin of `loadbalancer.seatchoice`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations, pairwise
from typing import Protocol


class Placed(Protocol):
    """A seat of a layout, or of a seat map."""

    @property
    def seat_id(self) -> str: ...

    @property
    def cabin(self) -> str: ...

    @property
    def x(self) -> int: ...

    @property
    def y(self) -> int: ...


def side_by_side(seats: Sequence[Placed]) -> bool:
    return all(one.y == two.y and one.x + 1 == two.x and one.cabin == two.cabin for one, two in pairwise(seats))


def orphans(seats: Sequence[Placed], taken: Collection[str]) -> int:
    """Count free seats with no free neighbour at their side."""
    return len(lonely(seats, taken))


def lonely(seats: Sequence[Placed], taken: Collection[str]) -> set[tuple[int, int]]:
    free = {(seat.x, seat.y) for seat in seats if seat.seat_id not in taken}
    return {(x, y) for x, y in free if (x - 1, y) not in free and (x + 1, y) not in free}


def span(seats: Sequence[Placed]) -> int:
    return max(seat.y for seat in seats) - min(seat.y for seat in seats)


def groups_of(seats: Sequence[Placed], taken: Collection[str], count: int, cabin: str) -> list[Sequence[Placed]]:
    """Return every way to sit side by side."""
    free = sorted((seat for seat in seats if seat.seat_id not in taken and cabin in ("", seat.cabin)), key=lambda seat: (seat.y, seat.x))
    runs = [free[at : at + count] for at in range(len(free) - count + 1)]
    return [run for run in runs if side_by_side(run)]


def assert_best(
    seats: Sequence[Placed], taken: Collection[str], chosen: Sequence[str], count: int, cabin: str, *, close: bool = True
) -> None:
    """Check a choice: free, side by side if anything is, and no single seat is left behind where that can be avoided.

    Args:
        close: A split party also sits over no more rows than that asks.
    """
    free = [seat for seat in seats if seat.seat_id not in taken and cabin in ("", seat.cabin)]
    party = [seat for seat in free if seat.seat_id in chosen]
    assert len(party) == len(chosen) == count
    groups = groups_of(seats, taken, count, cabin)
    if not groups:
        assert_spread_well(seats, taken, party, free, close=close)
        return
    assert side_by_side(party)
    here = [group for group in groups if group[0].cabin == party[0].cabin]
    before = orphans(seats, taken)
    made = orphans(seats, {*taken, *chosen}) - before
    least = min(orphans(seats, {*taken, *(seat.seat_id for seat in group)}) - before for group in here)
    # Filling an orphan is a bonus of its own; making one where it can be avoided is the fault.
    assert made <= max(0, least)


def assert_spread_well(
    seats: Sequence[Placed], taken: Collection[str], party: Sequence[Placed], free: Sequence[Placed], *, close: bool
) -> None:
    """A split party leaves no new orphan that it could avoid in as few rows as can be, or one more; and no more rows than that asks."""
    cabins = {seat.cabin for seat in party}
    pool = [seat for seat in free if len(cabins) > 1 or seat.cabin in cabins]
    before = lonely(seats, taken)

    def made(group: Sequence[Placed]) -> int:
        return len(lonely(seats, {*taken, *(seat.seat_id for seat in group)}) - before)

    groups = list(combinations(pool, len(party)))
    closest = min(map(span, groups))
    near = min((made(group), span(group)) for group in groups if span(group) <= closest + 1)
    assert (made(party), span(party)) == near if close else made(party) == near[0]
