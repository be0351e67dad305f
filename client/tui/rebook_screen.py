"""A traveller chooses another service of the same operator for one leg of a booking."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Input, Label, Static

from client import inputs, show
from client.tui.live_table import LiveTable
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import ServiceInfo

PAGE = 200


class RebookScreen(Page[str | None]):
    """Dismissed with the service chosen, None where all stays as it is."""

    heading = "Another service"
    HELP = """
    # Another service
    Services of the same operator with the same ends. **Enter** in the date lists that day's, **Enter** on one asks what the change
    costs with the best seats that are left there; nothing is changed before you agree. **Esc** leaves everything as it is.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_date", "Date", priority=True, id="rebook.date"),
        Binding("escape", "dismiss(None)", "Leave it", id="rebook.back"),
    ]

    def __init__(self, service: ServiceInfo, party: int) -> None:
        super().__init__()
        self.service = service
        self._party = party

    def content(self) -> ComposeResult:
        with Horizontal(classes="fields"), Vertical(classes="field"):
            yield Label("Date")
            yield Input(value=self.service.date, id="day", compact=True, max_length=20)
        yield Static(Text(f"instead of {show.service_line(self.service)}", "dim"), id="wrong")
        yield Static("", id="said")
        yield LiveTable("Departs", "Arrives", "Service", "Free", "From", id="services")

    def on_mount(self) -> None:
        self.look()

    @on(Input.Submitted)
    def look(self) -> None:
        self._look()

    def action_focus_date(self) -> None:
        self.query_one("#day", Input).focus().action_select_all()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        """List the day's services with these ends."""
        said, table, old = self.query_one("#said", Static), self.query_one("#services", LiveTable), self.service
        table.loading = True
        try:
            day = inputs.day(self.query_one("#day", Input).value, date.today())
            answer = await self.holdfast.ask(
                lambda client: client.services(
                    day, operator=old.operator, origin=old.origin, destination=old.destination, limit=PAGE
                )
            )
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))
            return
        finally:
            table.loading = False
        found = [one for one in answer.services if one.service_id != old.service_id and one.state == "open" and one.free >= self._party]
        table.bring([(one.service_id, _cells(one)) for one in found])
        said.update(f"{len(found)} other services with {self._party} free seats on {day}")
        if found:
            table.focus()

    @on(DataTable.RowSelected)
    def _take(self, event: DataTable.RowSelected) -> None:
        self.dismiss(str(event.row_key.value))


def _cells(service: ServiceInfo) -> list[str | Text]:
    return [
        show.local_time(service.departs, service.date),
        show.local_time(service.arrives, service.date),
        service.service_id,
        f"{service.free}/{service.capacity}",
        str(service.from_price) if service.from_price is not None else "-",
    ]
