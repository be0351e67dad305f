"""The logs of all processes of this machine as one, filtered by words; a request followed through the tiers."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from client.loglines import LogLine, matching
from client.logtails import Tails
from client.tui.lines import Lines
from client.tui.page import Page

EVERY_S = 1.0
LINES_MAX = 4_000
LEVELS = ("INFO", "WARNING", "ERROR")
STYLES = {"WARNING": "#E69F00", "ERROR": "#D55E00", "CRITICAL": "bold #D55E00"}


class LogScreen(Page[object]):
    """One line each, the newest below."""

    heading = "Log"
    HELP = """
    # The log
    Lines of all processes of this machine, in the order of time. Words in the field must all be in a line: `operator=AR`, a process, a
    request id. **l** shows graver lines only, **Esc** clears the field.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_filter", "Filter", id="log.filter"),
        Binding("l", "level", "Graver only", id="log.level"),
        Binding("escape", "clear", "All lines", id="log.clear"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._tails = Tails()
        self._lines: list[LogLine] = []
        self._level = LEVELS[0]
        self._reading = False

    def content(self) -> ComposeResult:
        yield Input(placeholder="words that a line must have, e.g. operator=AR or node-2", id="filter", compact=True)
        yield Static("", id="said")
        yield Lines(id="lines", max_lines=LINES_MAX)

    def on_mount(self) -> None:
        self.set_interval(EVERY_S, self._look)

    def on_screen_resume(self) -> None:
        self.query_one("#lines").focus()
        self._look()

    @work(group="log")
    async def _look(self) -> None:
        """Read on; a look under way is waited for, as what it has read is read once."""
        if not self._reading:
            self._reading = True
            try:
                await self._read_on()
            finally:
                self._reading = False

    async def _read_on(self) -> None:
        desk = self.holdfast.desk
        if desk is None:
            self.query_one("#said", Static).update("the cluster's data folder is not on this machine: no logs here")
            return
        if not self.is_current:
            return
        new = await self.holdfast.ask(lambda _: self._tails.more(desk.logs()))
        if new:
            self._lines = [*self._lines, *new][-LINES_MAX:]
            self._show(matching(new, self._wanted, self._level))
        self._count()

    @property
    def _wanted(self) -> str:
        return self.query_one("#filter", Input).value

    def _show(self, lines: list[LogLine]) -> None:
        log = self.query_one("#lines", Lines)
        for line in lines:
            log.tell(
                Text.assemble((f"{line.stamp[11:]} ", "dim"), (f"{line.process:<12} ", "#56B4E9"), (line.text, STYLES.get(line.level, "")))
            )

    def _count(self) -> None:
        shown = len(matching(self._lines, self._wanted, self._level))
        self.query_one("#said", Static).update(f"{shown} of {len(self._lines)} lines, {self._level} and graver")

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self.query_one("#lines", Lines).forget()
        self._show(matching(self._lines, self._wanted, self._level))
        self._count()

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self.query_one("#lines").focus()

    def action_focus_filter(self) -> None:
        self.query_one("#filter").focus()

    def action_level(self) -> None:
        """Show only graver lines, or all again."""
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        self._filter()

    def action_clear(self) -> None:
        self.query_one("#filter", Input).value = ""
        self.query_one("#lines").focus()
