"""Best available, against a slow plain twin on small layouts."""

from __future__ import annotations

from itertools import combinations, pairwise

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
    free = {(seat.x, seat.y): seat for seat in layout.seats if seat.seat_id not in taken}
    return sum((x - 1, y) not in free and (x + 1, y) not in free for x, y in free)


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
