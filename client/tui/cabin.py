"""A seat map as a place to walk about in: which seat lies next to which, and what each line of the picture holds. Pure.

The picture is made of lines. A seat line knows its seats and where each begins; all else (headings, column letters, the gap
between two cabins) is decoration. Only the states of seats change while a map is on screen, so lines are laid out once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from client import seatmap
from datastore.messages import SeatInfo, SeatMapAnswer

PITCH_WIDE, PITCH_NARROW = 3, 2
WIDE_COLUMNS_MAX = 14  # Wider halls have two characters a seat, not three.
WING_ROWS = 3  # How far a wing reaches before and behind the exits that lie over it.
WING, HULL = "▐", "│"


class Cell(NamedTuple):
    """A seat in the picture: it begins at character `left` of its line."""

    seat_id: str
    left: int


class PlanLine(NamedTuple):
    """One line. `text` for decoration; `cells` for seats, with the row's label and the characters at its two sides.

    `indent`: blanks before all of it, for a section that is narrower than the widest.
    """

    text: str = ""
    label: str = ""
    side: str = " "
    exit: bool = False
    cells: tuple[Cell, ...] = ()
    indent: int = 0

    def moved(self, blanks: int) -> PlanLine:
        """Return the line so far to the right."""
        cells = tuple(Cell(cell.seat_id, cell.left + blanks) for cell in self.cells)
        return self._replace(text=" " * blanks + self.text if self.text else "", cells=cells, indent=blanks)


class Cabin:
    """The seats of one service laid out.

    Attributes:
        seats: seat_id -> the seat as it is now.
        lines: The picture from front to back.
        width: Characters of the longest line.
        pitch: Characters of a seat.
    """

    def __init__(self, answer: SeatMapAnswer) -> None:
        self.service = answer.service
        self.seats: dict[str, SeatInfo] = {seat.seat_id: seat for seat in answer.seats}
        self._by_row = seatmap.rows_of(answer.seats)
        self._xs = {y: [seat.x for seat in row] for y, row in self._by_row.items()}
        self._ys = list(self._by_row)
        columns = max((seat.x for seat in answer.seats), default=0) + 1
        self.pitch = PITCH_WIDE if columns <= WIDE_COLUMNS_MAX else PITCH_NARROW
        self.label_width = max((len(seatmap.row_label(seat)) for seat in answer.seats), default=1)
        self.lines: list[PlanLine] = []
        self.line_of: dict[int, int] = {}  # y of a row -> its line
        self._lay_out(answer)
        self.width = max((self._width_of(line) for line in self.lines), default=1)

    # --- news -----------------------------------------------------------------------------------------------------

    def take(self, taken: Iterable[tuple[str, str, bool, str]]) -> list[str]:
        """Take in who has which seats now (`SeatStatesAnswer.taken`); return the seats that changed."""
        now = {seat_id: (state, mine, reason) for seat_id, state, mine, reason in taken}
        changed = []
        for seat_id, seat in self.seats.items():
            state, mine, reason = now.get(seat_id, ("available", False, ""))
            if (seat.state, seat.mine, seat.reason) != (state, mine, reason):
                seat.state, seat.mine, seat.reason = state, mine, reason
                changed.append(seat_id)
        return changed

    # --- walking --------------------------------------------------------------------------------------------------

    def first(self, cabin: str = "") -> str:
        """Return where to begin: the first free seat (of `cabin`, where that has one), else the first seat; "" where there are none."""
        free = [seat for y in self._ys for seat in self._by_row[y] if seat.state == "available"]
        begin = next((seat for seat in free if seat.cabin == cabin), next(iter(free), None))
        return begin.seat_id if begin is not None else next(iter(self.seats), "")

    def cheapest(self) -> str:
        """Return the cabin with the cheapest free seat; "" where none is free."""
        free = [seat for seat in self.seats.values() if seat.state == "available"]
        return min(free, key=lambda seat: seat.price.minor).cabin if free else ""

    def step(self, seat_id: str, across: int, along: int) -> str:
        """Return the next real seat left or right (`across` -1, 1: over aisles and gaps) or ahead or behind (`along` -1, 1).

        At the edge it is the seat itself.
        """
        seat = self.seats[seat_id]
        if across:
            row = self._by_row[seat.y]
            place = self._xs[seat.y].index(seat.x) + across
            return row[place].seat_id if 0 <= place < len(row) else seat_id
        return self.rows_away(seat_id, along)

    def rows_away(self, seat_id: str, rows: int) -> str:
        """Return the seat that many rows ahead (negative) or behind, in the same column or the one next to it."""
        seat = self.seats[seat_id]
        place = min(max(bisect_left(self._ys, seat.y) + rows, 0), len(self._ys) - 1)
        return self._nearest_in_row(self._ys[place], seat.x)

    def edge(self, seat_id: str, side: int) -> str:
        """Return the first (-1) or last (1) seat of the row."""
        row = self._by_row[self.seats[seat_id].y]
        return row[0 if side < 0 else -1].seat_id

    def in_column(self, seat_id: str, letter: str) -> str | None:
        """Return the seat of the same row in the column `letter`, else of the nearest row that has one; None without any."""
        here = self.seats[seat_id]
        named = [seat for seat in self.seats.values() if seat.column.upper() == letter.upper()]
        return min(named, key=lambda seat: abs(seat.y - here.y)).seat_id if named else None

    def in_row(self, seat_id: str, label: str) -> str | None:
        """Return the seat of the row labelled `label` nearest to the column of `seat_id`; None if there is no such row."""
        wanted = label.upper()
        rows = [y for y, row in self._by_row.items() if wanted in (row[0].row.upper(), seatmap.row_label(row[0]).upper())]
        return self._nearest_in_row(rows[0], self.seats[seat_id].x) if rows else None

    def named(self, word: str) -> str | None:
        """Return the seat of an id or a designator, in any case."""
        wanted = word.strip().upper()
        found = (one.seat_id for one in self.seats.values() if wanted in (one.seat_id.upper(), one.designator.upper()))
        return next(found, None)

    def nearest_free(self, seat_id: str, but: Sequence[str] = ()) -> str | None:
        """Return the free seat nearest to `seat_id` in the same cabin (rows count twice), None where the cabin is full."""
        here = self.seats[seat_id]
        free = [
            seat
            for seat in self.seats.values()
            if seat.state == "available" and seat.cabin == here.cabin and seat.seat_id not in but and seat.seat_id != seat_id
        ]
        best = min(free, key=lambda seat: (2 * abs(seat.y - here.y) + abs(seat.x - here.x), seat.y, seat.x), default=None)
        return best.seat_id if best is not None else None

    def free_run(self, count: int, cabin: str = "") -> list[str]:
        """Return the cheapest `count` free seats side by side; of equals those further ahead.

        Seats of `cabin` go before all others, and those without an aisle between them before those with one. Empty where none are left.
        """

        def worth(run: list[str]) -> tuple[bool, int, int]:
            seats = [self.seats[one] for one in run]
            return seats[0].cabin != cabin, seats[-1].x - seats[0].x, sum(seat.price.minor for seat in seats)

        return min(self._free_runs(count), key=worth, default=[]) if count > 0 else []

    def _free_runs(self, count: int) -> Iterator[list[str]]:
        run: list[str] = []
        for seat_id, seat in self.seats.items():
            last = self.seats[run[-1]] if run else None
            if seat.state != "available":
                run = []
                continue
            beside = last is not None and last.y == seat.y and last.cabin == seat.cabin and 0 < seat.x - last.x <= 2
            run = [*run, seat_id] if beside else [seat_id]
            if len(run) >= count:
                yield run[-count:]

    def _nearest_in_row(self, y: int, x: int) -> str:
        row, xs = self._by_row[y], self._xs[y]
        place = bisect_left(xs, x)
        around = [number for number in (place - 1, place) if 0 <= number < len(row)]
        return row[min(around, key=lambda number: abs(xs[number] - x))].seat_id

    # --- the picture ----------------------------------------------------------------------------------------------

    def _lay_out(self, answer: SeatMapAnswer) -> None:
        sections = seatmap.sections_of(answer, self._by_row)
        wings = self._wing_rows(answer)
        drawn: list[list[PlanLine]] = []
        for ys in sections:
            heading = f"{' ' * (self.label_width + 3)}{seatmap.cabin_name(self._by_row[ys[0]][0].cabin)}"
            aisles = seatmap.aisles_of(answer, ys[0])
            rows = [self._seat_line(y, aisles, wing=y in wings) for y in ys]
            ahead, behind = (self._fixtures(words, rows) for words in seatmap.fixtures_around(answer, ys))
            drawn.append([PlanLine(text=heading), *ahead, *self._columns(ys, aisles), *rows, *behind])
            self.line_of |= {y: len(drawn[-1]) - len(behind) - len(ys) + place for place, y in enumerate(ys)}
        widest = max((self._width_of(line) for lines in drawn for line in lines), default=0)
        for number, (ys, lines) in enumerate(zip(sections, drawn, strict=True)):
            if number:
                self.lines.append(PlanLine())
            # A narrow cabin at the front stands in the middle of the aircraft, as it does in the air; a hall's parts do too.
            blanks = (widest - max(self._width_of(line) for line in lines)) // 2
            self.line_of |= {y: self.line_of[y] + len(self.lines) for y in ys}
            self.lines += [line.moved(blanks) for line in lines]

    def _fixtures(self, words: Sequence[str], rows: Sequence[PlanLine]) -> list[PlanLine]:
        """Return the line of doors and galleys, as wide as the widest row of the section; nothing where none stand."""
        if not words:
            return []
        first, last = min(row.cells[0].left for row in rows), max(row.cells[-1].left for row in rows)
        return [PlanLine(text=" " * first + seatmap.fixture_line(words, last + self.pitch - first))]

    def _width_of(self, line: PlanLine) -> int:
        return line.cells[-1].left + self.pitch + self.label_width + 4 if line.cells else len(line.text)

    def _columns(self, ys: Sequence[int], aisles: Sequence[int]) -> list[PlanLine]:
        names = {seat.x: seat.column for y in ys for seat in self._by_row[y]}
        grid = seatmap.Grid(0, max(names) + 1, self.pitch, self.label_width)
        margin = " " * (self.label_width + 3 + (self.pitch == PITCH_WIDE))
        return [PlanLine(text=margin + row) for row in seatmap.column_labels(names, aisles, grid)]

    def _seat_line(self, y: int, aisles: Sequence[int], *, wing: bool) -> PlanLine:
        row = self._by_row[y]
        cells = []
        for seat in row:
            gaps = sum(1 for x in aisles if x < seat.x)
            cells.append(Cell(seat.seat_id, self.label_width + 3 + seat.x * self.pitch + gaps))
        side = WING if wing else HULL if self.service.kind == "airline" else " "
        return PlanLine(label=seatmap.row_label(row[0]), side=side, exit=any(seat.exit for seat in row), cells=tuple(cells))

    def _wing_rows(self, answer: SeatMapAnswer) -> frozenset[int]:
        """Return the rows beside the wings of an aircraft: around the exits that are not at its ends."""
        if self.service.kind != "airline" or not self._ys:
            return frozenset()
        ends = max(2, len(self._ys) // 6)
        middle = range(ends, len(self._ys) - ends)
        exits = [place for place in middle if any(seat.exit for seat in self._by_row[self._ys[place]])]
        if not exits:
            return frozenset()
        return frozenset(self._ys[max(0, exits[0] - WING_ROWS) : exits[-1] + WING_ROWS + 1])


def price_digits(seats: Mapping[str, SeatInfo]) -> dict[str, str]:
    """Return for each seat the rank of its price among the prices of the map: "1" is the cheapest, "9" stands for all above."""
    ranks = {minor: str(min(9, rank)) for rank, minor in enumerate(sorted({seat.price.minor for seat in seats.values()}), 1)}
    return {seat_id: ranks[seat.price.minor] for seat_id, seat in seats.items()}
