"""What an import would change, row by row, for people to read before they agree. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from datastore.model import LayoutSpec, Schedule

LINES_MAX = 500
VALUE_CHARACTERS_MAX = 120
ADDED, CHANGED, REMOVED = "+", "~", "-"
MINUTES = ("departs_min", "arrives_min")
# Said by the row's name already.
NAMED = ("number", "origin", "destination", "departs_min", "days")


class FieldChange(msgspec.Struct, frozen=True, array_like=True):
    """One field of a row, as text for people; "" is nothing."""

    field: str
    before: str
    after: str


class RowChange(msgspec.Struct, frozen=True, array_like=True):
    """One row. `mark`: "+" added, "~" changed, "-" removed. `what`: the row in words. `fields`: of a changed row, those that differ."""

    mark: str
    what: str
    fields: tuple[FieldChange, ...] = ()


def row_changes(
    before: Mapping[str, Schedule], after: Mapping[str, Schedule], layouts_before: Collection[str], layouts_new: Collection[LayoutSpec]
) -> list[RowChange]:
    """Return what differs between the rows of a dataset, by their keys, in the order of number, origin and departure; not cut.

    Args:
        layouts_before: Ids of the layouts that the operator has.
        layouts_new: Layouts that are new, or not as they were.
    """
    found: list[tuple[tuple[str, str, int, str], RowChange]] = []
    for mark, keys in ((ADDED, after.keys() - before.keys()), (REMOVED, before.keys() - after.keys())):
        rows = after if mark == ADDED else before
        found += [(_place(rows[key], mark), RowChange(mark, _words(rows[key]))) for key in keys]
    for key in before.keys() & after.keys():
        if before[key] != after[key]:
            found.append((_place(after[key], CHANGED), RowChange(CHANGED, _words(after[key]), _differing(before[key], after[key]))))
    layouts = [
        RowChange(CHANGED if spec.layout_id in layouts_before else ADDED, f"layout {spec.layout_id}")
        for spec in sorted(layouts_new, key=lambda spec: spec.layout_id)
    ]
    return [*layouts, *(change for _, change in sorted(found, key=lambda pair: pair[0]))]


def _place(row: Schedule, mark: str) -> tuple[str, str, int, str]:
    return row.number, row.origin, row.departs_min, mark


def _words(row: Schedule) -> str:
    """Return a row in words: "1140 EZE-MIA 22:15 1234567"."""
    route = f"{row.origin}-{row.destination}" if row.destination else row.origin
    return " ".join(word for word in (row.number, route, _shown("departs_min", row.departs_min), row.days, row.title) if word)


def _differing(before: Schedule, after: Schedule) -> tuple[FieldChange, ...]:
    names = [name for name in Schedule.__struct_fields__ if name not in NAMED and getattr(before, name) != getattr(after, name)]
    return tuple(
        FieldChange(name.removesuffix("_min"), _shown(name, getattr(before, name)), _shown(name, getattr(after, name))) for name in names
    )


def _shown(name: str, value: Any) -> str:
    if name in MINUTES:
        return f"{value // 60:02d}:{value % 60:02d}"
    if name == "fares":
        text = ", ".join(" ".join(word for word in (cabin, zone, f"{minor / 100:.2f}") if word) for cabin, zone, minor in value)
    elif name.endswith("_percent"):
        text = "default" if value < 0 else f"{value} %"
    else:
        text = str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"
