"""Best available: which free seats to propose for a party. Pure and deterministic.

A row falls into blocks: seats side by side without an aisle or a gap between them. What is chosen, in this order:

1. all in one block, if it can be; else in one row; else in rows close to each other (never if `together` is asked);
2. leaving no single seat between taken ones, or between one and a wall, where it can be avoided: such an orphan is hard
   to sell. An orphan that was there before does not count, and filling one is a merit. A party that must be split sits over
   one row more than it needs where that avoids one;
3. seats with space for a wheelchair last: who needs one has no other choice, and can name it;
4. a party that must be split in as few pieces as can be;
5. the front rows first, and in a row the places nearest to the windows' side of their block.

A choice is made from a state that may have changed since. `best_while` says while what it is the best: who holds the seats
for it checks that under their lock.

"Side by side" is what decides `together`: a run of free seats in one block as long as the party is the proof that one
exists, and none in any block the proof that none does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from datastore.commands import Chosen
from datastore.model import Layout, Seat


class Choice(NamedTuple):
    """Seats for a party; `seats` empty: none. `together`: side by side in one block."""

    seats: tuple[str, ...]
    together: bool


NONE = Choice((), False)
LARGE_PARTY = 40  # Above it only the front rows of those with room are looked at: weighing all takes seconds for a hundred people.


class Run(NamedTuple):
    """Neighbouring free seats of one block: `seats[first:last]` of `block`, as long as can be."""

    block: tuple[Seat, ...]
    first: int
    last: int


def choose(layout: Layout, taken: Collection[str], count: int, *, cabin: str = "", together: bool = False) -> Choice:
    """Return the best `count` free seats.

    Args:
        taken: Ids of seats that cannot be had.
        cabin: Only seats of this cabin; "" means the layout's last (an aircraft's economy class, a hall's cheapest part)
            as far as it has room, and any other cabin before the party is turned away.
        together: Side by side, or none.
    """
    if count <= 0:
        return NONE
    cabins = (cabin,) if cabin else tuple(reversed(layout.cabins))
    for word in cabins:
        found = _in_one_block(layout, taken, count, word)
        if found:
            return Choice(found, True)
    if together:
        return NONE
    for word in cabins:
        found = _spread(layout, taken, count, word)
        if found:
            return Choice(found, False)
    if cabin:
        return NONE
    return Choice(_spread(layout, taken, count, ""), False)


def best_while(layout: Layout, seats: Sequence[str], taken: Set[str], others: Collection[str], cabin: str = "") -> Chosen:
    """Return what must be true for the chosen seats to be the best still.

    Side by side, without an orphan or a space for a wheelchair: as good as can be in their cabin, while they leave no orphan; with
    a seat of a cabin that is chosen before it given back, that one may be better. Otherwise any seat that is given back may
    make a better choice; and where orphans are left, one that others take may too.

    Args:
        taken: What is taken. others: What is about to be. Both were kept from `choose`.
        cabin: As for `choose`.
    """
    chosen = [layout.by_id[seat_id] for seat_id in seats]
    orphans = layout.orphans(frozenset(seats), lambda seat_id: seat_id not in taken and seat_id not in others)
    sides = all(after.seat_id in layout.neighbours[seat.seat_id] for seat, after in pairwise(chosen))
    if not sides and len({seat.cabin for seat in chosen}) == 1:  # A party that no block could seat is none the worse for it.
        sides = not any(len(block) >= len(chosen) and cabin in ("", block[0].cabin) for block in layout.blocks)
    plain = sides and not orphans and not any(seat.accessible for seat in chosen)
    if cabin:
        cabins: tuple[str, ...] = () if plain else (cabin,)
    elif not sides:
        cabins = layout.cabins  # A split party would go anywhere to sit together.
    else:
        # Those that come before the one in which the party sits, and where that can be bettered, this one too.
        cabins = layout.cabins[layout.cabins.index(chosen[0].cabin) + plain :]
    free = [seat_id for word in cabins for seat_id in layout.seats_of[word] if seat_id not in taken and seat_id not in others]
    return Chosen(orphans, cabins, tuple(sorted(free)), tuple(others))


def has_block(layout: Layout, taken: Collection[str], count: int, cabin: str = "") -> bool:
    """Return whether `count` free seats stand side by side: if not, `no_adjacent_block` is the truth."""
    return any(run.last - run.first >= count for run in _runs(layout, taken, cabin))


def count_free(layout: Layout, taken: Collection[str], cabin: str = "") -> int:
    """Return how many seats of the cabin are free; "" means all cabins."""
    return sum(seat.seat_id not in taken for seat in layout.seats if not cabin or seat.cabin == cabin)


def orphans_made(run: Run, at: int, count: int) -> int:
    """Return how many single seats taking `count` seats of the run from index `at` of its block leaves behind."""
    left, right = at - run.first, run.last - at - count
    return (left == 1) + (right == 1)


def _in_one_block(layout: Layout, taken: Collection[str], count: int, cabin: str) -> tuple[str, ...]:
    best: tuple[tuple[int, int, int, int, int], Run, int] | None = None
    for run in _runs(layout, taken, cabin):
        for at in range(run.first, run.last - count + 1):
            rank = _rank(run, at, count)
            if best is None or rank < best[0]:
                best = (rank, run, at)
    if best is None:
        return ()
    _, run, at = best
    return tuple(seat.seat_id for seat in run.block[at : at + count])


def _rank(run: Run, at: int, count: int) -> tuple[int, int, int, int, int]:
    """Return a key that is least for the best place: no orphan, not accessible, then the front, an exact fit, the edge."""
    seat = run.block[at]
    from_edge = min(at - run.first, run.last - at - count)
    exact = 0 if run.last - run.first == count else 1
    accessible = sum(each.accessible for each in run.block[at : at + count])
    return orphans_made(run, at, count), accessible, seat.y, exact * (1 + from_edge), seat.x


class Plan(NamedTuple):
    """How a split party sits: how many seats of which runs, each time from an end of the run.

    Attributes:
        cost: Orphans made, accessible seats, pieces, runs left broken: each is least at the best plan, the first first.
        picks: The seats of each piece.
    """

    cost: tuple[int, int, int, int]
    picks: tuple[tuple[Seat, ...], ...]


def _spread(layout: Layout, taken: Collection[str], count: int, cabin: str) -> tuple[str, ...]:
    """Return seats of rows close to each other: of as few rows as can be, or of one more where that avoids an orphan."""
    runs_of_row: dict[int, list[Run]] = {}
    for run in _runs(layout, taken, cabin):
        runs_of_row.setdefault(run.block[0].y, []).append(run)
    rows = sorted(runs_of_row)
    closest = _least_span([(y, sum(run.last - run.first for run in runs_of_row[y])) for y in rows], count)
    if closest is None:
        return ()
    span, front = closest
    plans = {y: _plans_of_row(runs, count) for y, runs in runs_of_row.items()}
    best: tuple[int, int, tuple[int, ...], int] | None = None
    chosen: tuple[tuple[Seat, ...], ...] = ()
    for start, first in enumerate(rows):
        if count > LARGE_PARTY and first != front:
            continue
        here: dict[int, Plan] = _NOTHING
        for y in rows[start:]:
            if y - first > span + 1:
                break
            here = _joined(here, plans[y], count)
            if count in here:
                orphans, *rest = here[count].cost
                rank = (orphans, y - first, tuple(rest), first)
                if best is None or rank < best:
                    best, chosen = rank, here[count].picks
    seats = [seat for piece in chosen for seat in piece]
    return tuple(seat.seat_id for seat in sorted(seats, key=lambda seat: seat.position))


def _least_span(rows: Sequence[tuple[int, int]], count: int) -> tuple[int, int] | None:
    """Return over how many rows more than one the party must sit at least, and from which on; None if it finds no seats.

    Args:
        rows: Of each its y and how many seats are free there.
    """
    least: tuple[int, int] | None = None
    start, free = 0, 0
    for y, free_here in rows:
        free += free_here
        while free - rows[start][1] >= count:
            free -= rows[start][1]
            start += 1
        if free >= count and (least is None or y - rows[start][0] < least[0]):
            least = y - rows[start][0], rows[start][0]
    return least


def _plans_of_row(runs: Sequence[Run], count: int) -> dict[int, Plan]:
    """Return the best plan for each number of seats of one row."""
    found = _NOTHING
    for run in runs:
        found = _joined(found, _plans_of_run(run, count), count)
    return found


def _plans_of_run(run: Run, count: int) -> dict[int, Plan]:
    """Return for each number of seats of a run which are taken: those at one of its ends, so that one orphan is made at most."""
    found = dict(_NOTHING)
    length = run.last - run.first
    for size in range(1, min(length, count) + 1):
        ends = (run.block[run.first : run.first + size], run.block[run.last - size : run.last])
        piece = min(ends, key=lambda seats: sum(seat.accessible for seat in seats))
        cost = (orphans_made(run, run.first, size), sum(seat.accessible for seat in piece), 1, int(size < length))
        found[size] = Plan(cost, (piece,))
    return found


def _joined(one: Mapping[int, Plan], other: Mapping[int, Plan], count: int) -> dict[int, Plan]:
    """Return the best plan for each number of seats of both together; among equals the one with more seats of `one`."""
    found: dict[int, Plan] = {}
    for size in sorted(one, reverse=True):
        for more, plan in other.items():
            if size + more > count:
                continue
            cost = _sum(one[size].cost, plan.cost)
            if size + more not in found or cost < found[size + more].cost:
                found[size + more] = Plan(cost, one[size].picks + plan.picks)
    return found


def _sum(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


_NOTHING = {0: Plan((0, 0, 0, 0), ())}


def _runs(layout: Layout, taken: Collection[str], cabin: str) -> Iterator[Run]:
    for block in layout.blocks:
        if cabin and block[0].cabin != cabin:
            continue
        first = 0
        for at, seat in enumerate(block):
            if seat.seat_id in taken:
                if at > first:
                    yield Run(block, first, at)
                first = at + 1
        if len(block) > first:
            yield Run(block, first, len(block))
