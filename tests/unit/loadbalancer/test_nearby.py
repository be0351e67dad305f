"""What is said of a seat that is not there."""

import pytest

from datastore.model import Layout, LayoutSpec, Section
from loadbalancer import nearby

JET = Layout(LayoutSpec("J", "Jet", (Section("Y", "S", ("1", "2", "30"), ("A", "B", "", "C")),)))
HALL = Layout(LayoutSpec("H", "Hall", (Section("STALLS", "A", ("A", "B"), ("1", "2")),)))


@pytest.mark.parametrize(
    ("layout", "word", "near"),
    [
        (JET, "99Z", ["30A", "30B", "30C"]),
        (JET, "99C", ["30C", "30A", "30B"]),
        (JET, "30D", ["30A", "30B", "30C"]),
        (JET, "３０Ａ", ["30A", "30B", "30C"]),
        (HALL, "99Z", []),
        (JET, "", []),
    ],
)
def test_the_nearest_seats(layout: Layout, word: str, near: list[str]) -> None:
    """A row that is far away still has a nearest one; where rows have no numbers nothing is guessed."""
    assert near == sorted(nearby.nearest_seats(layout, word), key=near.index)


def test_one_and_many() -> None:
    """The verb fits the number."""
    assert ["", "; the nearest is VX", "; the nearest are AA, AR"] == [nearby.hint(near) for near in ([], ["VX"], ["AA", "AR"])]


def test_the_refusal_names_the_service_and_the_nearest() -> None:
    """A person reads the sentence, a program the fields."""
    error = nearby.no_such_seat("AR1-EZE-2026-12-01", JET, "99C")
    assert "AR1-EZE-2026-12-01 has no seat 99C; the nearest are 30C, 30A, 30B" == error.detail
    assert ["30C", "30A", "30B"] == error.fields["nearest"]
