"""Best available, against a slow plain twin on small layouts."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.model import Layout, LayoutSpec, Seat, Section
from loadbalancer.seatchoice import choose, count_free, has_block

COLUMNS = st.sampled_from([("A", "B", "C"), ("A", "", "B", "C"), ("A", "B", "", "C", "D"), ("A", "B", "C", "D", "E")])


def layout_of(columns: tuple[str, ...], rows: int, missing: tuple[str, ...] = ()) -> Layout:
    front = Section("J", "A", ("1",), columns)
    back = Section("Y", "B", tuple(str(row) for row in range(2, rows + 2)), columns, missing=missing)
    return Layout(LayoutSpec("L", "L", (front, back)))


@st.composite
def halls(draw: st.DrawFn) -> tuple[Layout, frozenset[str]]:
    layout = layout_of(draw(COLUMNS), draw(st.integers(1, 3)), ("2B",) if draw(st.booleans()) else ())
    taken = draw(st.sets(st.sampled_from([seat.seat_id for seat in layout.seats])))
    return layout, frozenset(taken)


def side_by_side(seats: tuple[Seat, ...]) -> bool:
    return all(one.y == two.y and one.x + 1 == two.x and one.cabin == two.cabin for one, two in pairwise(seats))


def orphans(layout: Layout, taken: set[str] | frozenset[str]) -> int:
    """Count free seats with no free neighbour at their side."""
    return len(lonely(layout, taken))


def lonely(layout: Layout, taken: set[str] | frozenset[str]) -> set[tuple[int, int]]:
    free = {(seat.x, seat.y) for seat in layout.seats if seat.seat_id not in taken}
    return {(x, y) for x, y in free if (x - 1, y) not in free and (x + 1, y) not in free}


@settings(max_examples=300)
@given(halls(), st.integers(1, 5), st.sampled_from(["", "J", "Y"]))
def test_agrees_with_trying_everything(hall: tuple[Layout, frozenset[str]], count: int, cabin: str) -> None:
    """Together if any group side by side is free, without a new orphan if any such group makes none; never a taken seat."""
    layout, taken = hall
    free = [seat for seat in layout.seats if seat.seat_id not in taken and (not cabin or seat.cabin == cabin)]
    groups = [group for group in combinations(free, count) if side_by_side(group)]
    choice = choose(layout, taken, count, cabin=cabin)
    assert count_free(layout, taken, cabin) == len(free)
    assert has_block(layout, taken, count, cabin) == bool(groups)
    assert choice == choose(layout, set(taken), count, cabin=cabin)
    if len(free) < count:
        assert choice.seats == ()
        return
    seats = tuple(layout.by_id[seat_id] for seat_id in choice.seats)
    assert len(set(seats)) == count and all(seat in free for seat in seats)
    assert choice.together == bool(groups)
    strict = choose(layout, taken, count, cabin=cabin, together=True)
    assert strict.seats == (choice.seats if groups else ())
    if groups:
        assert side_by_side(seats)
        here = [group for group in groups if group[0].cabin == seats[0].cabin]
        before = orphans(layout, taken)
        made = orphans(layout, taken | set(choice.seats)) - before
        least = min(orphans(layout, taken | {seat.seat_id for seat in group}) - before for group in here)
        # Filling an orphan is a bonus of its own; making one where it can be avoided is the fault.
        assert made <= max(0, least)
    else:
        assert_spread_well(layout, taken, seats, free)


def span(seats: tuple[Seat, ...]) -> int:
    return max(seat.y for seat in seats) - min(seat.y for seat in seats)


def assert_spread_well(layout: Layout, taken: frozenset[str], seats: tuple[Seat, ...], free: list[Seat]) -> None:
    """A split party leaves no new orphan that it could avoid in as few rows as can be, or one more; and no more rows than that asks."""
    cabins = {seat.cabin for seat in seats}
    pool = [seat for seat in free if len(cabins) > 1 or seat.cabin in cabins]
    before = lonely(layout, taken)

    def made(group: tuple[Seat, ...]) -> int:
        return len(lonely(layout, taken | {seat.seat_id for seat in group}) - before)

    groups = list(combinations(pool, len(seats)))
    closest = min(map(span, groups))
    near = [(made(group), span(group)) for group in groups if span(group) <= closest + 1]
    assert (made(seats), span(seats)) == min(near)


CABINS = {
    "2-3-2": ("A", "B", "", "D", "E", "F", "", "H", "J"),
    "3-4-3": ("A", "B", "C", "", "D", "E", "F", "G", "", "H", "J", "K"),
    "2-4-2": ("A", "C", "", "D", "E", "F", "G", "", "H", "K"),
    "2-3": ("A", "C", "", "D", "E", "F"),
}


@pytest.mark.parametrize(
    ("cabin", "count", "pieces"),
    [("2-3-2", 4, 2), ("2-3-2", 9, 4), ("3-4-3", 6, 2), ("3-4-3", 9, 3), ("2-4-2", 9, 4), ("2-3", 4, 2), ("2-3", 7, 3)],
)
def test_a_split_party_leaves_nobody_a_single_seat(cabin: str, count: int, pieces: int) -> None:
    """In an empty cabin, whatever its shape, in as few pieces as that takes."""
    layout = Layout(LayoutSpec("L", "L", (Section("Y", "A", tuple(map(str, range(1, 9))), CABINS[cabin]),)))
    seats = choose(layout, (), count).seats
    assert len(seats) == count and orphans(layout, set(seats)) == 0
    chosen = sorted((layout.by_id[seat] for seat in seats), key=lambda seat: seat.position)
    assert 1 + sum(not side_by_side(pair) for pair in pairwise(chosen)) == pieces
    assert span(tuple(chosen)) <= 1


def test_a_large_party_in_a_large_hall_is_split_too() -> None:
    """Fifty in rows of twenty: three rows, and no seat is left alone."""
    layout = Layout(LayoutSpec("H", "H", (Section("Y", "A", tuple(f"R{n}" for n in range(1, 101)), tuple(f"S{n}" for n in range(1, 21))),)))
    seats = choose(layout, (), 50).seats
    assert len(seats) == 50 and span(tuple(layout.by_id[seat] for seat in seats)) == 2 and orphans(layout, set(seats)) == 0


def test_front_rows_and_edges_first() -> None:
    """In an empty cabin two sit in the front row of the back cabin, from the window."""
    layout = layout_of(("A", "B", "", "C", "D"), 3)
    assert choose(layout, (), 2).seats == ("2A", "2B")
    assert choose(layout, (), 2, cabin="J").seats == ("1A", "1B")
    assert choose(layout, (), 1).seats == ("2A",)


def test_an_orphan_is_avoided_and_an_existing_one_is_filled() -> None:
    """One traveller does not break a pair when a single seat is free; two do not leave one of three behind."""
    layout = layout_of(("A", "B", "C"), 2)
    assert choose(layout, {"1A", "1B", "1C", "2A", "2C"}, 1).seats == ("2B",)
    assert choose(layout, {"1A", "1B", "1C", "3A"}, 2).seats == ("3B", "3C")


def test_a_party_too_large_for_a_block_sits_close() -> None:
    """Six in rows of two and two fill whole neighbouring rows rather than single seats far apart."""
    layout = layout_of(("A", "B", "", "C", "D"), 4)
    rows = {layout.by_id[seat].y for seat in choose(layout, {"2A", "2B", "2C"}, 6).seats}
    assert rows == {2, 3}


def test_other_cabins_before_turning_away() -> None:
    """Without a cabin named, a full back cabin sends the party to the front one."""
    layout = layout_of(("A", "B"), 1)
    assert choose(layout, {"2A", "2B"}, 2).seats == ("1A", "1B")
    assert choose(layout, {"2A", "2B"}, 2, cabin="Y").seats == ()
    assert choose(layout, (), 0).seats == ()


def test_accessible_seats_are_left_for_who_needs_them() -> None:
    """The window seats of the front row are accessible: others come first, and they are had when nothing else is left."""
    section = Section("Y", "A", ("1", "2"), ("A", "B", "C", "", "D", "E", "F"), accessible=("1A", "1D"))
    layout = Layout(LayoutSpec("L", "L", (section,)))
    assert choose(layout, (), 1).seats == ("1C",)
    assert choose(layout, (), 3).seats == ("2A", "2B", "2C")
    left = {"1A", "1D", "1E"}
    assert choose(layout, {seat.seat_id for seat in layout.seats} - left, 2).seats == ("1D", "1E")
