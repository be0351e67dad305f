"""The seat map as a widget: walk with arrows or hjkl, choose with Space; any size scrolls, only visible lines are drawn."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from client import seatmap
from client.tui.cabin import Cabin, PlanLine, price_digits
from client.tui.seat_keys import SeatKeys

CHOSEN_GLYPH = "◉"
CHOSEN, CHOSEN_COLOUR = "chosen", "bold #F0E442"  # Okabe-Ito yellow.
COLOURS = {role: Style.parse(colour) if colour else Style.null() for role, colour in seatmap.COLOURS.items()}
CHOSEN_STYLE = Style.parse(CHOSEN_COLOUR)
CURSOR_STYLE = Style(reverse=True, bold=True)
LEGEND = (
    (seatmap.GLYPHS[seatmap.FREE], seatmap.FREE, "free"),
    (CHOSEN_GLYPH, CHOSEN, "chosen"),
    (seatmap.GLYPHS[seatmap.YOURS], seatmap.YOURS, "yours"),
    (seatmap.GLYPHS[seatmap.HELD], seatmap.HELD, "held"),
    (seatmap.GLYPHS[seatmap.TAKEN], seatmap.TAKEN, "taken"),
    (seatmap.GLYPHS[seatmap.BLOCKED], seatmap.BLOCKED, "not sold"),
    (seatmap.GLYPHS[seatmap.ACCESSIBLE], seatmap.ACCESSIBLE, "wheelchair"),
    (f"{seatmap.EXIT_LEFT}{seatmap.EXIT_RIGHT}", seatmap.FRAME, "exit"),
)


class SeatGrid(ScrollView, can_focus=True):
    """The seats of one service."""

    TAKES_DIGITS = True
    HELP = """
    # The seat map
    Arrow keys or **h j k l** walk from seat to seat, over aisles and gaps. A capital letter jumps to that column, digits and
    Enter to that row. **Space** chooses a seat or gives it up, **p** shows prices, **b** holds the best for your party,
    **Enter** holds what is chosen. `·` free (or a digit: 1 is the cheapest price), `●` yours, `◐` held by somebody, `×` taken, `▒` blocked.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1, 0)", "Left", show=False, id="seats.left"),
        Binding("right,l", "step(1, 0)", "Right", show=False, id="seats.right"),
        Binding("up,k", "step(0, -1)", "Up", show=False, id="seats.up"),
        Binding("down,j", "step(0, 1)", "Down", show=False, id="seats.down"),
        Binding("pageup", "rows(-8)", "Page up", show=False, id="seats.page_up"),
        Binding("pagedown", "rows(8)", "Page down", show=False, id="seats.page_down"),
        Binding("home", "edge(-1)", "Row's first", show=False, id="seats.home"),
        Binding("end", "edge(1)", "Row's last", show=False, id="seats.end"),
        # Done by the page itself, as its other keys are: a hasty Enter after it finds the seat chosen.
        Binding("space", "screen.choose", "Pick", id="seats.choose"),
        Binding("p", "prices", "Prices", show=False, id="seats.prices"),
    ]

    class Moved(Message):
        """The cursor is on another seat."""

        def __init__(self, seat_id: str) -> None:
            super().__init__()
            self.seat_id = seat_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cabin: Cabin | None = None
        self.cursor = ""
        self.chosen: list[str] = []
        self.show_prices = False
        self._digits: dict[str, str] = {}
        self._keys = SeatKeys()

    # --- what is shown --------------------------------------------------------------------------------------------

    def show(self, cabin: Cabin, at: str = "") -> None:
        """Show a service's seats from now on, the cursor on the seat `at` or the first free one."""
        self.cabin = cabin
        self.chosen = []
        self._digits = price_digits(cabin.seats)
        self.virtual_size = Size(cabin.width, len(cabin.lines))
        self.scroll_to(0, 0, animate=False)
        self.move_to(at or cabin.first())
        self.refresh()

    def changed(self, seat_ids: list[str]) -> None:
        """Redraw seats whose states changed: their lines only, so that a busy sale costs little."""
        if self.cabin is None:
            return
        for line in {self.cabin.line_of[self.cabin.seats[seat_id].y] for seat_id in seat_ids}:
            self._refresh_line(line)

    def choose(self, seat_ids: list[str]) -> None:
        """Mark exactly these seats as chosen."""
        before, self.chosen = self.chosen, list(seat_ids)
        self.changed([*before, *self.chosen])

    def move_to(self, seat_id: str) -> None:
        """Put the cursor on a seat and scroll to it."""
        if self.cabin is None or seat_id not in self.cabin.seats:
            return
        before, self.cursor = self.cursor, seat_id
        self.changed([one for one in (before, seat_id) if one in self.cabin.seats])
        self._scroll_to_cursor(self.cabin)
        self.post_message(self.Moved(seat_id))

    def _scroll_to_cursor(self, cabin: Cabin) -> None:
        line = cabin.line_of[cabin.seats[self.cursor].y]
        left = next(cell.left for cell in cabin.lines[line].cells if cell.seat_id == self.cursor)
        # With the heading of its cabin where that fits, and a few rows of what comes.
        self.scroll_to_region(Region(max(0, left - 6), max(0, line - 2), 12 + cabin.pitch, 5), animate=False)

    def on_resize(self) -> None:
        """The cursor stays in sight on a smaller screen."""
        if self.cabin is not None and self.cursor in self.cabin.seats:
            self.call_after_refresh(self._scroll_to_cursor, self.cabin)

    @property
    def _margin(self) -> int:
        """Characters before the picture: it stands in the middle of what is wider."""
        return max(0, (self.size.width - self.virtual_size.width) // 2)

    def render_line(self, y: int) -> Strip:
        scroll_x, scroll_y = self.scroll_offset
        number = y + scroll_y
        style = self.rich_style
        if self.cabin is None or number >= len(self.cabin.lines):
            return Strip.blank(self.size.width, style)
        segments = [(" " * self._margin, None), *self._segments(self.cabin, self.cabin.lines[number])]
        strip = Strip([Segment(text, style + given if given else style) for text, given in segments])
        return strip.crop_extend(scroll_x, scroll_x + self.size.width, style)

    def _segments(self, cabin: Cabin, line: PlanLine) -> list[tuple[str, Style | None]]:
        frame = COLOURS[seatmap.FRAME]
        if not line.cells:
            return [(line.text, frame)]
        mark = seatmap.EXIT_LEFT if line.exit else line.side
        parts: list[tuple[str, Style | None]] = [(f"{' ' * line.indent}{line.label:>{cabin.label_width}} {mark} ", frame)]
        place = line.indent + cabin.label_width + 3
        for seat_id, left in line.cells:
            parts.append((" " * (left - place), None))
            parts.append(self._cell(cabin, seat_id))
            place = left + cabin.pitch
        parts.append((f" {seatmap.EXIT_RIGHT if line.exit else line.side} {line.label}", frame))
        return parts

    def _cell(self, cabin: Cabin, seat_id: str) -> tuple[str, Style | None]:
        role = seatmap.role_of(cabin.seats[seat_id])
        glyph, style = seatmap.GLYPHS[role], COLOURS[role]
        if role == seatmap.FREE and self.show_prices:
            glyph = self._digits[seat_id]
        if seat_id in self.chosen:
            glyph, style = CHOSEN_GLYPH, CHOSEN_STYLE
        if seat_id == self.cursor:
            style = style + CURSOR_STYLE
            return (f"[{glyph}]" if cabin.pitch > 2 else f"{glyph}◂", style)
        return (f" {glyph} " if cabin.pitch > 2 else f"{glyph} ", style)

    def _refresh_line(self, line: int) -> None:
        self.refresh(Region(0, line - self.scroll_offset.y, self.size.width, 1))

    # --- keys and mouse -------------------------------------------------------------------------------------------

    def action_step(self, across: int, along: int) -> None:
        if self.cabin is not None and self.cursor:
            self.move_to(self.cabin.step(self.cursor, across, along))

    def action_rows(self, rows: int) -> None:
        if self.cabin is not None and self.cursor:
            self.move_to(self.cabin.rows_away(self.cursor, rows))

    def action_edge(self, side: int) -> None:
        if self.cabin is not None and self.cursor:
            self.move_to(self.cabin.edge(self.cursor, side))

    def action_prices(self) -> None:
        self.show_prices = not self.show_prices
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        """Capital letters go to a column, digits and Enter to a row; all else goes its usual way."""
        self._keys.follow(event, self)

    async def on_click(self, event: events.Click) -> None:
        if self.cabin is None:
            return
        at = event.get_content_offset(self)
        if at is None:
            return
        line = at.y + self.scroll_offset.y
        x = at.x + self.scroll_offset.x - self._margin
        if line < len(self.cabin.lines):
            for seat_id, left in self.cabin.lines[line].cells:
                if left <= x < left + self.cabin.pitch:
                    self.move_to(seat_id)
                    await self.run_action("screen.choose")


def legend() -> Text:
    """Return what each glyph stands for, in one line of 80 characters."""
    line = Text(" ")
    for glyph, role, word in LEGEND:
        line.append(glyph, {CHOSEN: CHOSEN_COLOUR, **seatmap.COLOURS}[role])
        line.append(f" {word}  ")
    return line
