"""What people read of an import before they agree: every difference, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datastore.import_changes import ADDED, CHANGED, REMOVED, FieldChange, RowChange, row_changes
from datastore.model import LayoutSpec, Schedule

ROW = Schedule("1140", "EZE", "MIA", 1335, 355, 1, "1234567", "2026-01-01", "2026-12-31", "A332")
ROWS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(lambda minute, percent: replace(ROW, arrives_min=minute, refundable_percent=percent), *[st.integers(0, 3)] * 2),
)


def test_a_changed_row_says_what_is_different() -> None:
    """By the names of the format, in people's units."""
    after = replace(ROW, arrives_min=370, fares=(("Y", "", 69_100), ("J", "window", 200_050)), refundable_percent=50)
    (change,) = row_changes({"k": ROW}, {"k": after}, (), ())
    assert change.mark == CHANGED and change.what == "1140 EZE-MIA 22:15 1234567"
    assert change.fields == (
        FieldChange("arrives", "05:55", "06:10"),
        FieldChange("fares", "", "Y 691.00, J window 2000.50"),
        FieldChange("refundable_percent", "default", "50 %"),
    )


def test_the_order_is_that_of_a_timetable() -> None:
    """A row that moved to another time stands beside where it was."""
    other = replace(ROW, number="900", departs_min=10)
    moved = replace(ROW, departs_min=1340)
    found = row_changes(
        {"a": ROW, "b": other}, {"c": moved, "b": other}, {"OLD"}, [LayoutSpec("NEW", "New", ()), LayoutSpec("OLD", "Old", ())]
    )
    assert [(one.mark, one.what) for one in found] == [
        (ADDED, "layout NEW"), (CHANGED, "layout OLD"), (REMOVED, "1140 EZE-MIA 22:15 1234567"), (ADDED, "1140 EZE-MIA 22:20 1234567"),
    ]  # fmt: skip


@given(ROWS, ROWS)
def test_every_difference_is_said_once(before: dict[str, Schedule], after: dict[str, Schedule]) -> None:
    """As many lines of each mark as there are rows of it, and none for what is equal."""
    found: list[RowChange] = row_changes(before, after, (), ())
    assert sum(one.mark == ADDED for one in found) == len(after.keys() - before.keys())
    assert sum(one.mark == REMOVED for one in found) == len(before.keys() - after.keys())
    assert sum(one.mark == CHANGED for one in found) == sum(before[key] != after[key] for key in before.keys() & after.keys())
    assert all(bool(one.fields) == (one.mark == CHANGED) for one in found)
