"""Best available, against a slow plain twin on small layouts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.commands import Chosen
from datastore.model import Layout, LayoutSpec, Section
from loadbalancer.seatchoice import best_while, choose, count_free, has_block
from tests.unit.datastore.inventory import Partition, schedule
from tests.unit.loadbalancer.cabins import assert_best, groups_of, orphans, side_by_side, span

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


@settings(max_examples=300)
@given(halls(), st.integers(1, 5), st.sampled_from(["", "J", "Y"]))
def test_agrees_with_trying_everything(hall: tuple[Layout, frozenset[str]], count: int, cabin: str) -> None:
    """Together if any group side by side is free, without a new orphan if any such group makes none; never a taken seat."""
    layout, taken = hall
    free = [seat for seat in layout.seats if seat.seat_id not in taken and (not cabin or seat.cabin == cabin)]
    groups = groups_of(layout.seats, taken, count, cabin)
    choice = choose(layout, taken, count, cabin=cabin)
    assert count_free(layout, taken, cabin) == len(free)
    assert has_block(layout, taken, count, cabin) == bool(groups)
    assert choice == choose(layout, set(taken), count, cabin=cabin)
    if len(free) < count:
        assert choice.seats == ()
        return
    assert choice.together == bool(groups)
    assert choose(layout, taken, count, cabin=cabin, together=True).seats == (choice.seats if groups else ())
    assert_best(layout.seats, taken, choice.seats, count, cabin)


@st.composite
def changing_halls(draw: st.DrawFn) -> tuple[Layout, frozenset[str], frozenset[str], frozenset[str]]:
    """Return a hall, what a buyer knew to be taken and to be about to be, and what is taken when the seats are held."""
    layout, taken = draw(halls())
    some = st.frozensets(st.sampled_from([seat.seat_id for seat in layout.seats]), max_size=3)
    others = draw(some) - taken
    return layout, taken, others, (taken | draw(some)) - draw(some) | others


@settings(max_examples=500)
@given(changing_halls(), st.integers(1, 4), st.sampled_from(["", "J", "Y"]))
def test_what_is_the_best_still(
    hall: tuple[Layout, frozenset[str], frozenset[str], frozenset[str]], count: int, cabin: str
) -> None:
    """Whatever others did meanwhile: while a choice is allowed to stand, trying everything finds nothing better.

    What others were about to take is taken by then, before or after what else happened.
    """
    layout, taken, others, then = hall
    choice = choose(layout, taken | others, count, cabin=cabin)
    if not choice.seats:
        return
    chosen = best_while(layout, choice.seats, taken, others, cabin)
    then -= frozenset(choice.seats)
    if not others:
        assert allows(chosen, layout, choice.seats, taken)
    if allows(chosen, layout, choice.seats, then):
        assert_best(layout.seats, then, choice.seats, count, cabin, close=False)


def allows(chosen: Chosen, layout: Layout, seats: tuple[str, ...], taken: frozenset[str]) -> bool:
    """Return whether a primary takes the seats that somebody chose."""
    partition = Partition(schedules=[schedule(layout_id=layout.layout_id)], layout=layout.spec)
    if taken:
        partition.submit(partition.block("crew", *taken))[0].unwrap()
    outcome = partition.submit(partition.hold("any", *seats, chosen=chosen))[0]
    assert not outcome.error or outcome.error["code"] == "seat_unavailable"
    return not outcome.error


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
    assert len(seats) == count and orphans(layout.seats, set(seats)) == 0
    chosen = sorted((layout.by_id[seat] for seat in seats), key=lambda seat: seat.position)
    assert 1 + sum(not side_by_side(pair) for pair in pairwise(chosen)) == pieces
    assert span(tuple(chosen)) <= 1


def test_a_large_party_in_a_large_hall_is_split_too() -> None:
    """Fifty in rows of twenty: three rows, and no seat is left alone."""
    layout = Layout(LayoutSpec("H", "H", (Section("Y", "A", tuple(f"R{n}" for n in range(1, 101)), tuple(f"S{n}" for n in range(1, 21))),)))
    seats = choose(layout, (), 50).seats
    assert len(seats) == 50 and span(tuple(layout.by_id[seat] for seat in seats)) == 2 and orphans(layout.seats, set(seats)) == 0


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


def test_what_others_took_may_leave_just_the_place() -> None:
    """Four of five leave one alone, until somebody takes the end of another five: then the choice does not stand."""
    layout = layout_of(("A", "B", "C", "D", "E"), 2)
    seats = choose(layout, {"1A", "1E"}, 4, cabin="Y").seats
    assert seats == ("2A", "2B", "2C", "2D")
    chosen = best_while(layout, seats, {"1A", "1E"}, {"1B"}, "Y")
    assert allows(chosen, layout, seats, frozenset({"1A", "1E"})) and allows(chosen, layout, seats, frozenset({"1A", "1B", "1E"}))
    assert not allows(chosen, layout, seats, frozenset({"1A", "1E", "3A"}))
    assert choose(layout, {"1A", "1E", "3A"}, 4, cabin="Y").seats == ("3B", "3C", "3D", "3E")
