"""A month to choose a day from, with the lowest price of each day where origin and destination are known."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from typing import ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from client.tui.host import Host
from datastore.errors import HoldfastError
from datastore.messages import CalendarDay

WEEK = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
CELL = 8


class CalendarScreen(ModalScreen[str | None]):
    """Dismissed with an ISO date, None for none."""

    HELP = "# The calendar\nArrow keys walk over days, **PgUp** and **PgDn** over months, **Enter** takes the day, **Esc** none."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "days(-1)", "Day before", show=False, id="calendar.left"),
        Binding("right,l", "days(1)", "Day after", show=False, id="calendar.right"),
        Binding("up,k", "days(-7)", "Week before", show=False, id="calendar.up"),
        Binding("down,j", "days(7)", "Week after", show=False, id="calendar.down"),
        Binding("pageup", "months(-1)", "Month before", id="calendar.month_before"),
        Binding("pagedown", "months(1)", "Month after", id="calendar.month_after"),
        Binding("enter", "take", "Take", id="calendar.take"),
        Binding("escape", "dismiss(None)", "None", id="calendar.none"),
    ]

    def __init__(self, day: date, origin: str, destination: str, party: int) -> None:
        super().__init__()
        self.day = day
        self._ends = (origin, destination)
        self._party = party
        self._prices: dict[str, CalendarDay] = {}
        self._asked: set[str] = set()

    def compose(self) -> ComposeResult:
        with Vertical(id="calendar-box"):
            yield Static(id="month")

    def on_mount(self) -> None:
        self._draw()

    def _draw(self) -> None:
        month = self.day.isoformat()[:7]
        text = Text(f"{self.day:%B %Y}\n\n", "bold")
        text.append("".join(f"{name:>{CELL}}" for name in WEEK) + "\n")
        first = self.day.replace(day=1)
        text.append(" " * CELL * first.weekday())
        lowest = min((line.lowest.minor for line in self._prices.values() if line.lowest and line.date.startswith(month)), default=-1)
        for number in range(1, monthrange(self.day.year, self.day.month)[1] + 1):
            day = self.day.replace(day=number)
            line = self._prices.get(day.isoformat())
            price = f" {line.lowest.minor // 100}" if line and line.lowest else ""
            style = "bold #009E73" if line and line.lowest and line.lowest.minor == lowest else ""
            text.append(f"{f'{number}{price}':>{CELL}}", "bold reverse" if day == self.day else style)
            if day.weekday() == len(WEEK) - 1:
                text.append("\n")
        chosen = self._prices.get(self.day.isoformat())
        asked = month in self._asked and all(self._ends)
        price = str(chosen.lowest) if chosen and chosen.lowest else "nothing on sale" if chosen else "asking …" if asked else ""
        text.append(f"\n\n{self.day:%A} {self.day.isoformat()}   {price}\n", "bold")
        text.append("whole units a day, the lowest of all trips; Enter takes it" if all(self._ends) else "Enter takes it", "dim")
        self.query_one("#month", Static).update(text)
        if all(self._ends) and month not in self._asked:
            self._asked.add(month)
            self._ask(month)

    @work(group="calendar")
    async def _ask(self, month: str) -> None:
        origin, destination = self._ends
        try:
            answer = await cast(Host, self.app).ask(
                lambda client: client.calendar(origin, destination, month, passengers=self._party)
            )
        except HoldfastError as error:
            self.notify(error.detail, title="no prices", severity="warning")
            return
        self._prices |= {line.date: line for line in answer.days}
        self._draw()

    def action_days(self, days: int) -> None:
        self.day += timedelta(days)
        self._draw()

    def action_months(self, months: int) -> None:
        number = self.day.year * 12 + self.day.month - 1 + months
        year, month = divmod(number, 12)
        self.day = date(year, month + 1, min(self.day.day, monthrange(year, month + 1)[1]))
        self._draw()

    def action_take(self) -> None:
        self.dismiss(self.day.isoformat())
