"""A seat map as lines of text: what to show of a service's seats, for any terminal.

The glyph says what a seat is, the colour only repeats it, so the map reads the same in monochrome. The colours are from
the Okabe-Ito palette, which people with the common colour blindnesses tell apart. Pure: seats in, spans of text out.

    ·  free      ◐  held by somebody      ×  taken      ●  yours      ▒  blocked      » « a row at an exit
    &  free, a seat for people who use a wheelchair (an emoji's width is a guess in many fonts)

Rows carry the label that their seats' ids begin with, so that a seat read off the map can be typed: CIRA, not A.

A hall that is wider than the terminal loses the space between its seats, and where that is not enough the map is cut
into blocks of columns, one below the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from datastore.messages import SeatInfo, SeatMapAnswer
from datastore.model import Money

FREE, HELD, TAKEN, YOURS, BLOCKED, FRAME, PLAIN = "free", "held", "taken", "yours", "blocked", "frame", "plain"
ACCESSIBLE = "accessible"

# Okabe-Ito: bluish green, orange, vermilion, sky blue; greys where nothing can be done.
COLOURS = {FREE: "#009E73", HELD: "#E69F00", TAKEN: "#D55E00", YOURS: "bold #56B4E9", BLOCKED: "#999999", FRAME: "#999999", PLAIN: ""}
COLOURS[ACCESSIBLE] = COLOURS[FREE]
GLYPHS = {FREE: "·", ACCESSIBLE: "&", HELD: "◐", TAKEN: "×", YOURS: "●", BLOCKED: "▒"}
WORDS = {FREE: "free", ACCESSIBLE: "of them accessible", HELD: "held", TAKEN: "taken", YOURS: "yours", BLOCKED: "blocked"}
CABINS = {"F": "First", "J": "Business", "W": "Premium economy", "Y": "Economy"}
EXIT_LEFT, EXIT_RIGHT = "»", "«"
WALL = "┄"  # Between doors, galleys, a stage.
LABEL_EVERY = 5  # Columns with long labels are numbered this far apart.
WIDTH_MIN = 20


class Span(NamedTuple):
    """A piece of a line and what it is: a key of `COLOURS`."""

    text: str
    role: str = PLAIN


Line = list[Span]


class Grid(NamedTuple):
    """How one section is drawn: the columns from `first` to before `last`, each seat `pitch` characters wide."""

    first: int
    last: int
    pitch: int
    label: int


def role_of(seat: SeatInfo) -> str:
    """Return what a seat is to the one who looks. A booked seat of one's own is "yours" too."""
    if seat.state == "available" and seat.accessible and not seat.mine:
        return ACCESSIBLE
    if seat.mine:
        return YOURS
    return {"available": FREE, "held": HELD, "occupied": TAKEN, "blocked": BLOCKED}.get(seat.state, BLOCKED)


def draw(answer: SeatMapAnswer, width: int = 80) -> list[Line]:
    """Return the whole map: every cabin with heading and columns, then the legend and the prices.

    Args:
        width: Characters of a line; the map never asks for more.
    """
    width = max(width, WIDTH_MIN)
    lines: list[Line] = []
    by_row = rows_of(answer.seats)
    for ys in sections_of(answer, by_row):
        lines += _heading([seat for y in ys for seat in by_row[y]])
        aisles = aisles_of(answer, ys[0])
        grids = _grids(by_row, ys, aisles, width)
        ahead, behind = fixtures_around(answer, ys)
        lines += _draw_fixtures(ahead, aisles, grids[0], width)
        for grid in grids:
            lines += _draw_section(by_row, ys, aisles, grid)
        lines += _draw_fixtures(behind, aisles, grids[0], width)
        lines.append([])
    lines.append(legend(answer.seats))
    lines += prices(answer.seats)
    return lines


def text(lines: Sequence[Line]) -> str:
    """Return the lines without their roles: what a monochrome terminal shows."""
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)


def legend(seats: Sequence[SeatInfo]) -> Line:
    """Return one line: each glyph with its word and number of seats; free always, the others where there are any."""
    roles = [role_of(seat) for seat in seats]
    line: Line = []
    for role, glyph in GLYPHS.items():
        count = roles.count(role) + (roles.count(ACCESSIBLE) if role == FREE else 0)
        if count or role == FREE:
            line += [Span(glyph, role), Span(f" {WORDS[role]} {count}   ")]
    if any(seat.exit for seat in seats):
        line.append(Span(f"{EXIT_LEFT} {EXIT_RIGHT} exit row", FRAME))
    return line


def prices(seats: Sequence[SeatInfo]) -> list[Line]:
    """Return a line for each cabin and price zone: what a seat costs there and how many are free."""
    groups: dict[tuple[str, str], list[SeatInfo]] = {}
    for seat in seats:
        groups.setdefault((seat.cabin, seat.zone), []).append(seat)
    lines: list[Line] = []
    for (cabin, zone), members in groups.items():
        low, high = min(seat.price.minor for seat in members), max(seat.price.minor for seat in members)
        currency = members[0].price.currency
        amount = str(Money(low, currency)) if low == high else f"{Money(low, currency)} to {Money(high, currency)}"
        free = sum(role_of(seat) in (FREE, ACCESSIBLE) for seat in members)
        name = f"{cabin_name(cabin)}, zone {zone}" if zone else cabin_name(cabin)
        lines.append([Span(f"{name:<28} {amount:>16}   {free} of {len(members)} free")])
    return lines


def row_label(seat: SeatInfo) -> str:
    """Return what the designators of a seat's row begin with: "CIRA" of CIRA1; the plain row where they are named otherwise."""
    named, ending = seat.designator, seat.row + seat.column
    return named[: len(named) - len(seat.column)] if named.endswith(ending) else seat.row


def cabin_name(cabin: str) -> str:
    """Return a cabin's name for people: "Y" is Economy, "STALLS" is Stalls."""
    return CABINS.get(cabin, cabin.capitalize() if len(cabin) > 1 else cabin)


def rows_of(seats: Sequence[SeatInfo]) -> dict[int, list[SeatInfo]]:
    by_row: dict[int, list[SeatInfo]] = {}
    for seat in seats:
        by_row.setdefault(seat.y, []).append(seat)
    return {y: sorted(by_row[y], key=lambda seat: seat.x) for y in sorted(by_row)}


def sections_of(answer: SeatMapAnswer, by_row: dict[int, list[SeatInfo]]) -> list[list[int]]:
    """Return the rows that belong together: one cabin, one arrangement of columns and aisles."""
    sections: list[list[int]] = []
    before: object = None
    for y, seats in by_row.items():
        bounds = next(((first, last) for first, last, _ in answer.aisles if first <= y <= last), None)
        # Rows of two sections that look alike are drawn as one: a price zone is not a wall.
        now = (seats[0].cabin, tuple(aisles_of(answer, y)), {seat.x: seat.column for seat in seats} if bounds is None else None)
        parted = any(y == place for place, _ in answer.fixtures)
        if now != before or parted or (sections and not _columns_agree(by_row, sections[-1][-1], y)):
            sections.append([])
        sections[-1].append(y)
        before = now
    return sections


def fixtures_around(answer: SeatMapAnswer, ys: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return what stands before the rows `ys` and, where they are the last, behind them."""
    standing = dict(answer.fixtures)
    last = max(seat.y for seat in answer.seats)
    return standing.get(ys[0], []), standing.get(last + 1, []) if ys[-1] == last else []


def fixture_line(words: Sequence[str], width: int) -> str:
    """Return one line of `width` characters with the words spread over it; a cabin that is narrower than its words is overhung."""
    room = width - sum(len(word) for word in words)
    if len(words) == 1 and room > 3:
        return f" {words[0]} ".center(width, WALL)
    gaps = len(words) - 1
    if room < 3 * gaps or not words:
        return " ".join(words)
    sizes = [room // gaps + (number < room % gaps) for number in range(gaps)]
    return words[0] + "".join(f" {WALL * (size - 2)} {word}" for size, word in zip(sizes, words[1:], strict=True))


def _columns_agree(by_row: dict[int, list[SeatInfo]], above: int, below: int) -> bool:
    names = {seat.x: seat.column for seat in by_row[above]}
    return all(names.get(seat.x, seat.column) == seat.column for seat in by_row[below])


def aisles_of(answer: SeatMapAnswer, y: int) -> list[int]:
    return next((list(xs) for first, last, xs in answer.aisles if first <= y <= last), [])


def _heading(seats: Sequence[SeatInfo]) -> list[Line]:
    free = sum(role_of(seat) in (FREE, ACCESSIBLE) for seat in seats)
    line = [Span(f"{cabin_name(seats[0].cabin)}  ", FRAME), Span(f"{free} of {len(seats)} free", FRAME)]
    if row_label(seats[0]) != seats[0].row:
        line.append(Span(f"   seats {seats[0].designator} to {seats[-1].designator}", FRAME))
    return [line]


def _grids(by_row: dict[int, list[SeatInfo]], ys: Sequence[int], aisles: Sequence[int], width: int) -> list[Grid]:
    """Return how to draw a section within `width`: spaced, compact, or compact in blocks of columns."""
    label = max(len(row_label(by_row[y][0])) for y in ys)
    columns = max(seat.x for y in ys for seat in by_row[y]) + 1
    room = width - 2 * label - 6
    for pitch in (2, 1):
        if columns * pitch + len(aisles) <= room:
            return [Grid(0, columns, pitch, label)]
    block = max(1, room - len(aisles))
    return [Grid(first, min(first + block, columns), 1, label) for first in range(0, columns, block)]


def _draw_fixtures(words: Sequence[str], aisles: Sequence[int], grid: Grid, width: int) -> list[Line]:
    margin = grid.label + 3
    while len(" ".join(words)) > width - margin:
        words = words[:-1]
    if not words:
        return []
    across = (grid.last - grid.first) * grid.pitch + sum(grid.first <= x < grid.last for x in aisles) - (grid.pitch > 1)
    return [[Span(" " * margin + fixture_line(words, across), FRAME)]]


def _draw_section(by_row: dict[int, list[SeatInfo]], ys: Sequence[int], aisles: Sequence[int], grid: Grid) -> list[Line]:
    names = {seat.x: seat.column for y in ys for seat in by_row[y]}
    lines = [[Span(" " * (grid.label + 3) + row, FRAME)] for row in column_labels(names, aisles, grid)]
    for y in ys:
        seats = {seat.x: seat for seat in by_row[y]}
        if not any(grid.first <= x < grid.last for x in seats):
            continue
        row = row_label(by_row[y][0])
        at_exit = any(seat.exit for seat in by_row[y])
        line = [Span(f"{row:>{grid.label}} {EXIT_LEFT if at_exit else ' '} ", FRAME)]
        for x in range(grid.first, grid.last):
            line += _cell(seats.get(x), x, aisles, grid)
        line.append(Span(f"{EXIT_RIGHT if at_exit else ' '} {row}", FRAME))
        lines.append(line)
    return lines


def _cell(seat: SeatInfo | None, x: int, aisles: Sequence[int], grid: Grid) -> Line:
    width = grid.pitch + (1 if x in aisles else 0)
    if seat is None:
        return [Span(" " * width)]
    role = role_of(seat)
    rest = width - 1
    return [Span(GLYPHS[role], role), Span(" " * rest)] if rest else [Span(GLYPHS[role], role)]


def column_labels(names: dict[int, str], aisles: Sequence[int], grid: Grid) -> list[str]:
    """Return the line of column labels; long ones stand only at every fifth column, where they have room."""
    widths = {x: grid.pitch + (1 if x in aisles else 0) for x in range(grid.first, grid.last)}
    longest = max((len(name) for name in names.values()), default=1)
    text, place = "", 0
    for number, x in enumerate(range(grid.first, grid.last)):
        name = names.get(x, "")
        sparse = longest >= grid.pitch and longest > 1
        wanted = not sparse or number == 0 or (name.isdigit() and int(name) % LABEL_EVERY == 0)
        if name and wanted and len(text) <= place:
            text += " " * (place - len(text)) + name + (" " if sparse else "")
        place += widths[x]
    return [text.rstrip()]
