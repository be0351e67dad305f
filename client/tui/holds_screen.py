"""The open holds: how long each lasts; book, extend or give back."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Static

from client.api import new_request_id
from client.tui.clock import countdown
from client.tui.gateway import now_ms
from client.tui.page import Page
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from datastore.errors import HoldfastError
from datastore.messages import HoldAnswer


class HoldsScreen(Page[object]):
    """A line a hold; Enter goes on to its passengers."""

    heading = "My holds"
    HELP = "# My holds\n**Enter** books, **e** extends, **d** gives the seats back."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "extend", "Extend", id="holds.extend"),
        Binding("d", "release", "Give back", id="holds.release"),
    ]

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        table: DataTable[str] = DataTable(id="holds", cursor_type="row", zebra_stripes=True)
        yield table

    def on_mount(self) -> None:
        table = self.query_one("#holds", DataTable)
        for name in ("Left", "Service", "Seats", "Total", "Hold"):
            table.add_column(name, key=name)
        self._draw()

    def on_screen_resume(self) -> None:
        self.holdfast.find_holds()
        self.query_one("#holds").focus()

    def on_news(self) -> None:
        super().on_news()
        if self.is_current:
            self._draw()

    def _draw(self) -> None:
        """Bring the table up to date in place: the cursor stays where it is."""
        table = self.query_one("#holds", DataTable)
        holds = {hold.hold_id: hold for hold in self.holdfast.holds.open()}
        for row in [str(key.value) for key in table.rows if key.value not in holds]:
            table.remove_row(row)
        for hold in holds.values():
            left = countdown(self.holdfast.holds.remaining_ms(hold.hold_id, now_ms()))
            if hold.hold_id in table.rows:
                table.update_cell(hold.hold_id, "Left", left)
            else:
                table.add_row(left, hold.service_id, ", ".join(hold.seats), str(hold.total), hold.hold_id, key=hold.hold_id)
        self.query_one("#said", Static).update(f"{len(holds)} open" if holds else "no open holds")

    def _focused(self) -> HoldAnswer | None:
        table = self.query_one("#holds", DataTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((hold for hold in self.holdfast.holds.open() if hold.hold_id == key), None)

    @on(DataTable.RowSelected)
    def _book(self, event: DataTable.RowSelected) -> None:
        hold = next((one for one in self.holdfast.holds.open() if one.hold_id == event.row_key.value), None)
        if hold is not None:
            self.app.push_screen(PassengersScreen(hold, None))

    @work(group="extend", exclusive=True)
    async def action_extend(self) -> None:
        from client.tui.app import EXTENSION_MS

        hold = self._focused()
        if hold is None:
            return
        request_id = new_request_id()
        try:
            longer = await self.holdfast.ask(lambda client: client.extend(hold.hold_id, EXTENSION_MS, request_id=request_id))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not extended")
            return
        self.holdfast.take_hold(longer)

    @work(group="release", exclusive=True)
    async def action_release(self) -> None:
        hold = self._focused()
        if hold is None:
            return
        question = Question(f"Give back {', '.join(hold.seats)} on {hold.service_id}?", "Give back", "Keep")
        if not await self.app.push_screen_wait(question):
            return
        request_id = new_request_id()
        try:
            self.holdfast.take_hold(await self.holdfast.ask(lambda client: client.release(hold.hold_id, request_id=request_id)))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not given back")
