"""From a file's cabin or hall plan to `model.LayoutSpec`. Pure: given rows and mappings, opens no file.

Two sources:

- layouts written by a person (`layouts.json`): sections of rows and columns in a short notation, see `labels_of`;
- typical aircraft cabins (`cabins.csv` beside `aircraft_types.csv`): row ranges with letters, from which price zones,
  exit rows and accessible seats are derived by the rules of `aircraft_layouts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from msgspec import structs

from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import FIXTURES, Layout, LayoutSpec, Section

ZONE_PREFERRED = "A"  # the zones that the fare formula knows: A costs more, B is the plain price
ZONE_STANDARD = "B"
FRONT_SHARE = 5  # One row in five of an economy cabin, from the front, is in the preferred zone ...
FRONT_ROWS_MIN = 12  # ... where the cabin has at least so many rows; a commuter aircraft has one price.
ACCESSIBLE_ROWS = 2  # Aisle seats of so many rows behind the front of economy have movable armrests.
LAYOUT_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,32}")
WORD_PATTERN = re.compile(r"[A-Z0-9]{1,16}")
LABELS_MAX = 500
FIXTURES_MAX = 8  # Side by side.
LAYOUT_KEYS = ("id", "name", "sections", "labels", "behind")
SECTION_KEYS = ("cabin", "zone", "rows", "columns", "missing", "exit_rows", "accessible", "prefix", "ahead")

# Where the doors and galleys of a typical aircraft are: a door on either side of a galley at the front; the same behind the last row
# of a large one, a lavatory behind that of a small one; and between the cabins of one with two aisles. The smallest have neither.
GALLEY_SEATS_MIN = 30
LARGE_SEATS_MIN = 100
DOORS_AND_GALLEY = ("door", "galley", "door")

CabinRow = tuple[str, int, int, str]  # cabin, first row, last row, letters with "-" for an aisle


def labels_of(text: str) -> tuple[str, ...]:
    """Return the labels that a short notation stands for, an empty one for an aisle.

    Parts are separated by commas. "1-12" counts, "A-T" goes through the alphabet, "D" is one label, an empty part is an
    aisle: "1-10,,11-30" is thirty seats with an aisle after the tenth.

    Raises:
        InvalidRequest: A part is none of these, a range runs backwards, or there are over 500 labels.
    """
    labels: list[str] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not dash:
            if first and not WORD_PATTERN.fullmatch(first):
                raise InvalidRequest(f"{shown(part)} is not a label: capital letters and digits")
            labels.append(first)
        elif first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 10_000:
            labels.extend(str(number) for number in range(int(first), int(last) + 1))
        elif re.fullmatch(r"[A-Z]", first) and re.fullmatch(r"[A-Z]", last) and first <= last:
            labels.extend(chr(code) for code in range(ord(first), ord(last) + 1))
        else:
            raise InvalidRequest(f"{shown(part)} is not a range: write e.g. 1-12 or A-T")
        if len(labels) > LABELS_MAX:
            raise InvalidRequest(f"over {LABELS_MAX} labels in {shown(text)}")
    return tuple(labels)


def columns_of(text: str) -> tuple[str, ...]:
    """Return the columns of "AC-DF" (letters, "-" is an aisle) or of "1-10,,11-30" (`labels_of`)."""
    if re.fullmatch(r"[A-Z]+(-[A-Z]+)*", text) and not re.fullmatch(r"[A-Z]-[A-Z]", text):
        return tuple("" if letter == "-" else letter for letter in text)
    if re.fullmatch(r"[A-Z]-[A-Z]", text):
        # "A-B" of a small aircraft is two seats beside an aisle, never a range: columns of letters are spelt out.
        return (text[0], "", text[2])
    return labels_of(text)


def seats_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return the seat ids of words such as "14C" or "A1-A6" (one row, counted).

    Raises:
        InvalidRequest: A range is not of one row or runs backwards.
    """
    seats: list[str] = []
    for word in words:
        first, dash, last = word.partition("-")
        if not dash:
            seats.append(word)
            continue
        begins, ends = re.fullmatch(r"(.*?)(\d+)", first), re.fullmatch(r"(.*?)(\d+)", last)
        if not begins or not ends or begins[1] != ends[1] or not 0 <= int(ends[2]) - int(begins[2]) <= LABELS_MAX:
            raise InvalidRequest(f"{shown(word)} is not a range of seats: write e.g. A1-A6")
        seats.extend(f"{begins[1]}{number}" for number in range(int(begins[2]), int(ends[2]) + 1))
    return tuple(seats)


def layout_from(mapping: Mapping[str, Any]) -> LayoutSpec:
    """Return the layout that one entry of `layouts.json` describes, checked by working it out.

    Raises:
        InvalidRequest: A key is unknown (the nearest is named), a value has the wrong form, a seat stands twice, or a seat
            that is missing, accessible or labelled does not exist in the grid.
    """
    layout_id = str(mapping.get("id", ""))
    if not LAYOUT_PATTERN.fullmatch(layout_id):
        raise InvalidRequest(f"{shown(layout_id)} is not a layout's id: up to 32 letters, digits, dots, hyphens, underscores")
    try:
        _known_keys(mapping, LAYOUT_KEYS)
        sections = mapping.get("sections")
        if not isinstance(sections, Sequence) or isinstance(sections, str) or not all(isinstance(one, Mapping) for one in sections):
            raise InvalidRequest("sections: a list of objects is expected")
        labels = mapping.get("labels", {})
        if not isinstance(labels, Mapping) or not all(isinstance(word, str) and 0 < len(word) <= 16 for word in labels.values()):
            raise InvalidRequest("labels: an object of seat id to what people read (up to 16 characters) is expected")
        parts = tuple(_section(one) for one in sections)
        spec = LayoutSpec(layout_id, _text(mapping, "name", layout_id), parts, dict(labels), _fixtures(mapping, "behind"))
        layout = Layout(spec)
        absent = [seat for seat in labels if seat not in layout.by_id]
        for section in spec.sections:
            grid = {f"{section.prefix}{row}{column}" for row in section.rows for column in section.columns if column}
            absent += [seat for seat in (*section.missing, *section.accessible) if seat not in grid]
            absent += [row for row in section.exit_rows if row not in section.rows]
    except InvalidRequest as error:
        raise InvalidRequest(f"layout {shown(layout_id)}: {error.detail}", layout=layout_id) from error
    if absent:
        raise InvalidRequest(f"layout {shown(layout_id)}: {shown(absent[0])} is named but not in the grid", layout=layout_id)
    return spec


def _section(mapping: Mapping[str, Any]) -> Section:
    _known_keys(mapping, SECTION_KEYS)
    cabin, zone, prefix = _text(mapping, "cabin"), _text(mapping, "zone", ZONE_STANDARD), _text(mapping, "prefix", "")
    for key, word in (("cabin", cabin), ("zone", zone), ("prefix", prefix or "X")):
        if not WORD_PATTERN.fullmatch(word):
            raise InvalidRequest(f"{key}: {shown(word)} is not 1 to 16 capital letters and digits")
    rows = labels_of(_text(mapping, "rows"))
    if "" in rows:
        raise InvalidRequest("rows: a row without a label")
    return Section(
        cabin=cabin,
        zone=zone,
        rows=rows,
        columns=columns_of(_text(mapping, "columns")),
        missing=seats_of(_words(mapping, "missing")),
        exit_rows=_words(mapping, "exit_rows"),
        accessible=seats_of(_words(mapping, "accessible")),
        prefix=prefix,
        ahead=_fixtures(mapping, "ahead"),
    )


def _fixtures(mapping: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words = _words(mapping, key)
    for word in words:
        if word not in FIXTURES:
            near = nearest(word, FIXTURES, 1)
            raise InvalidRequest(f"{key}: {shown(word)} is none of {', '.join(FIXTURES)}" + (f"; did you mean {near[0]}?" if near else ""))
    if len(words) > FIXTURES_MAX:
        raise InvalidRequest(f"{key}: over {FIXTURES_MAX} side by side")
    return words


def _known_keys(mapping: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in mapping:
        if key not in keys:
            near = nearest(str(key), keys, 1)
            raise InvalidRequest(f"unknown key {shown(key)}" + (f"; did you mean {near[0]}?" if near else f"; known: {', '.join(keys)}"))


def _text(mapping: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = mapping.get(key, default)
    if not isinstance(value, str) or len(value) > 200:
        raise InvalidRequest(f"{key}: a text of up to 200 characters is expected")
    return value


def _words(mapping: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = mapping.get(key, [])
    if isinstance(value, str):
        return tuple(value.split())
    if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        raise InvalidRequest(f"{key}: a list of texts is expected")
    return tuple(value)


# --- aircraft -----------------------------------------------------------------------------------------------------


def aircraft_layouts(types: Iterable[Mapping[str, str]], cabins: Iterable[Mapping[str, str]]) -> dict[str, LayoutSpec]:
    """Return type code -> layout of every aircraft type that has cabins.

    Price zones of economy (Y): A is the exit rows (more room) and the first fifth of the rows where there are twelve or
    more; B the rest. Other cabins are all B: their price is the cabin's. Accessible are the aisle seats of the first two
    rows of economy that are no exit row, and those of the first row of each other cabin.

    A row whose letters are some of those of the cabin before it (a narrow last row) joins that cabin's grid with its other
    seats missing, so that a map draws it in line.

    Doors, galleys and lavatories stand where those of a typical aircraft of its size do (`_with_fixtures`).

    Raises:
        InvalidRequest: A row of either file cannot be understood; the type is named.
    """
    by_type: dict[str, list[CabinRow]] = {}
    for row in cabins:
        try:
            by_type.setdefault(row["type"], []).append((row["cabin"], int(row["row_from"]), int(row["row_to"]), row["letters"]))
        except (KeyError, ValueError) as error:
            raise InvalidRequest(f"cabins of type {shown(row.get('type', ''))}: {error}") from error
    layouts: dict[str, LayoutSpec] = {}
    for row in types:
        code = row.get("type", "")
        if code in by_type:
            exits = frozenset((row.get("exit_rows") or "").split())
            # Front to back by row number; the file has a lower deck before an upper one.
            layouts[code] = _aircraft(code, row.get("name") or code, exits, sorted(by_type[code], key=lambda cabin: cabin[1]))
    return layouts


def _aircraft(code: str, name: str, exits: frozenset[str], cabins: Sequence[CabinRow]) -> LayoutSpec:
    grids: list[tuple[str, tuple[str, ...], list[tuple[str, str]]]] = []  # cabin, columns, (row, letters)
    for cabin, first, last, letters in cabins:
        rows = [(str(row), letters) for row in range(first, last + 1)]
        if grids and grids[-1][0] == cabin and set(letters) <= {*grids[-1][1], "-"}:
            grids[-1][2].extend(rows)
        else:
            grids.append((cabin, columns_of(letters), rows))
    sections: list[Section] = []
    for cabin, columns, rows in grids:
        sections.extend(_cabin_sections(cabin, columns, rows, exits))
    spec = LayoutSpec(code, name, tuple(sections))
    return _with_fixtures(spec, Layout(spec).capacity)  # Raises where two cabins share a row.


def _with_fixtures(spec: LayoutSpec, capacity: int) -> LayoutSpec:
    if capacity < GALLEY_SEATS_MIN:
        return spec
    parts: list[Section] = []
    for section in spec.sections:
        new_cabin = bool(parts) and parts[-1].cabin != section.cabin
        stands = not parts or (new_cabin and section.columns.count("") > 1)
        parts.append(structs.replace(section, ahead=DOORS_AND_GALLEY) if stands else section)
    return structs.replace(spec, sections=tuple(parts), behind=DOORS_AND_GALLEY if capacity >= LARGE_SEATS_MIN else ("lavatory",))


def _cabin_sections(cabin: str, columns: tuple[str, ...], rows: list[tuple[str, str]], exits: frozenset[str]) -> list[Section]:
    front = len(rows) // FRONT_SHARE if cabin == "Y" and len(rows) >= FRONT_ROWS_MIN else 0
    plain = [row for row, _ in rows if row not in exits]
    reachable = set(plain[: ACCESSIBLE_ROWS if cabin == "Y" else 1])
    beside_aisle = [
        column for x, column in enumerate(columns) if column and "" in (columns[max(x - 1, 0)], columns[min(x + 1, len(columns) - 1)])
    ]
    zoned = [
        (ZONE_PREFERRED if cabin == "Y" and (row in exits or place < front) else ZONE_STANDARD, row, letters)
        for place, (row, letters) in enumerate(rows)
    ]
    return [
        Section(
            cabin=cabin,
            zone=zone,
            rows=tuple(row for _, row, _ in part),
            columns=columns,
            missing=tuple(f"{row}{column}" for _, row, letters in part for column in columns if column not in letters),
            exit_rows=tuple(row for _, row, _ in part if row in exits),
            accessible=tuple(
                f"{row}{column}" for _, row, letters in part if row in reachable for column in beside_aisle if column in letters
            ),
        )
        for zone, part in ((zone, list(group)) for zone, group in groupby(zoned, key=lambda item: item[0]))
    ]


def nearest_sized(layouts: Mapping[str, Layout], seats: int) -> str:
    """Return the id of the layout whose capacity is nearest to `seats`; the first by id where two are as near."""
    return min(sorted(layouts), key=lambda layout_id: abs(layouts[layout_id].capacity - seats))
