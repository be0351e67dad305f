"""Tables that fit a terminal without cutting what people must type again.

What does not fit is taken from where it is missed least: long texts are shortened or folded onto further lines, then
whole columns go, in an order that the table names. An id, a time or a price is shown whole or not at all; where even that
is too wide the terminal breaks the line, which can still be copied.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
STAYS = "\u00a0"  # A blank where a line is not broken; printed as a common one, which can be copied.
FOLD_MIN = 16  # A text folded into less than this is a column of single words.


class Fitted(NamedTuple):
    """The columns that are shown, by number, and how wide each may be."""

    columns: list[int]
    widths: dict[int, int]


def fit(widths: Sequence[int], room: int, elastic: Mapping[int, int], drop: Sequence[int]) -> Fitted:
    """Return which columns to show in `room` characters.

    Args:
        widths: What each column needs.
        elastic: Columns that may be narrower -> how narrow at least; the first gives way first.
        drop: Columns that may vanish, the least worth first.
    """
    kept = list(range(len(widths)))
    for gone in (None, *drop):
        kept = [column for column in kept if column != gone]
        now = {column: widths[column] for column in kept}
        for column, least in elastic.items():
            over = sum(now.values()) + GAP * (len(kept) - 1) - room
            if over > 0 and column in now:
                now[column] = max(now[column] - over, min(least, now[column]))
        if sum(now.values()) + GAP * (len(kept) - 1) <= room:
            break
    return Fitted(kept, now)


def folded(text: str, width: int) -> list[str]:
    """Return a text as lines: broken at blanks only, never in a word, an id or a date."""
    lines = textwrap.wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False)
    return [line.replace(STAYS, " ") for line in lines] or [""]


class Rows:
    """A table that is built row by row."""

    def __init__(
        self,
        *headings: str,
        right: Iterable[str] = (),
        fold: Iterable[str] = (),
        shorten: Iterable[str] = (),
        drop: Iterable[str] = (),
        below: str = "",
        headed: bool = True,
    ) -> None:
        """Begin empty.

        Args:
            right: Columns of numbers.
            fold: Columns whose text may take several lines.
            shorten: Columns whose text may end in an ellipsis: none that is typed again.
            drop: Columns that may vanish, the least worth first.
            below: A column to drop that then stands on lines of its own, below its row.
            headed: Whether the headings are printed; else they only name the columns.
        """
        self._headings = headings
        self._right = {headings.index(name) for name in right}
        self._fold = [headings.index(name) for name in fold]
        self._shorten = [headings.index(name) for name in shorten]
        self._drop = [headings.index(name) for name in drop]
        self._below = headings.index(below) if below else None
        self._headed = headed
        self._rows: list[list[Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row, one cell a column."""
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def print(self, console: Console) -> None:
        """Print the table as wide as the console."""
        for line in self.lines(console.width):
            console.print(line, soft_wrap=True)

    def lines(self, width: int) -> list[Text]:
        """Return the lines of the table, without blanks at their ends."""
        rows = [[Text(name, "bold") for name in self._headings], *self._rows] if self._headed else self._rows
        widths = [max((cell_len(row[column].plain) for row in rows), default=0) for column in range(len(self._headings))]
        elastic = {
            column: max(FOLD_MIN, cell_len(self._headings[column]), *(self._word(rows, column) if column in self._fold else [0]))
            for column in (*self._shorten, *self._fold)
        }
        fitted = fit(widths, width, elastic, self._drop)
        made: list[Text] = []
        for number, row in enumerate(rows):
            made += self._lines_of(row, fitted)
            if self._below is not None and self._below not in fitted.columns and (number or not self._headed):
                made += [Text(" " * GAP + line) for line in folded(row[self._below].plain, width - GAP)]
        return made

    def _word(self, rows: Sequence[Sequence[Text]], column: int) -> list[int]:
        """Return the widths of the words of a column, which folding does not break."""
        return [cell_len(word) for row in rows for word in row[column].plain.split()] or [0]

    def _lines_of(self, row: Sequence[Text], fitted: Fitted) -> list[Text]:
        cells: list[list[str]] = []
        for column in fitted.columns:
            text, width = row[column].plain, fitted.widths[column]
            if cell_len(text) <= width:
                cells.append([text.replace(STAYS, " ")])
            elif column in self._fold:
                cells.append(folded(text, width))
            else:
                cells.append([text if column not in self._shorten else set_cell_size(text, width - 1).rstrip() + "…"])
        made: list[Text] = []
        for number in range(max(map(len, cells), default=0)):
            line = Text()
            for column, parts in zip(fitted.columns, cells, strict=True):
                part = parts[number] if number < len(parts) else ""
                blank = " " * max(0, fitted.widths[column] - cell_len(part))
                line.append(blank if column in self._right else "")
                line.append(part, row[column].style)
                line.append(("" if column in self._right else blank) + " " * GAP)
            line.rstrip()
            made.append(line)
        return made
