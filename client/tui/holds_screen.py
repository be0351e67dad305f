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
from client.tui.host import EXTENSION_MS
from client.tui.legs import seats_line, seats_on, services_line
from client.tui.page import Page
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from datastore.errors import HoldfastError
from datastore.messages import HoldAnswer


class HoldsScreen(Page[object]):
    """A line a hold; Enter goes on to its passengers."""

    heading = "My holds"
    HELP = "# My holds\n**Enter** books, **e** extends, **d** gives the seats back; **r** takes those of an ended hold again."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "extend", "Extend", id="holds.extend"),
        Binding("r", "renew", "Take again", id="holds.renew"),
        Binding("d", "release", "Give back", id="holds.release"),
    ]

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        table: DataTable[str] = DataTable(id="holds", cursor_type="row", zebra_stripes=True)
        yield table

    def on_mount(self) -> None:
        table = self.query_one("#holds", DataTable)
        for name in ("Left", "Seats", "Total", "Services", "Hold"):
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
        kept = self.holdfast.holds
        holds = {hold.hold_id: hold for hold in (*kept.open(), *kept.ended())}
        for row in [str(key.value) for key in table.rows if key.value not in holds]:
            table.remove_row(row)
        over = {hold.hold_id for hold in kept.ended()}
        for hold in holds.values():
            left = "ended" if hold.hold_id in over else countdown(kept.remaining_ms(hold.hold_id, now_ms()))
            if hold.hold_id in table.rows:
                table.update_cell(hold.hold_id, "Left", left)
            else:
                table.add_row(left, seats_line(hold), str(hold.total), services_line(hold), hold.hold_id, key=hold.hold_id)
        words = [f"{len(kept.open())} open"] if kept.open() else ["no open holds; seats are held from a map under 1, Travel"]
        words += [f"{len(over)} ended: r takes the seats again"] if over else []
        self.query_one("#said", Static).update(", ".join(words))

    def _focused(self) -> HoldAnswer | None:
        table = self.query_one("#holds", DataTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((hold for hold in (*self.holdfast.holds.open(), *self.holdfast.holds.ended()) if hold.hold_id == key), None)

    @on(DataTable.RowSelected)
    def _book(self, event: DataTable.RowSelected) -> None:
        hold = self._focused()
        if hold is None:
            return
        if hold in self.holdfast.holds.ended():
            self.action_renew()
            return
        self.app.push_screen(PassengersScreen(hold, []))

    @work(group="renew", exclusive=True)
    async def action_renew(self) -> None:
        """Take the seats of an ended hold again, all or none."""
        hold = self._focused()
        if hold is None:
            return
        if hold not in self.holdfast.holds.ended():
            self.notify("this hold has not ended: e lets it last longer")
            return
        await self.holdfast.renew(hold)
        self._draw()

    @work(group="extend", exclusive=True)
    async def action_extend(self) -> None:
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
        question = Question(f"Give back {seats_on(hold)}?", "Give back", "Keep")
        if not await self.app.push_screen_wait(question):
            return
        request_id = new_request_id()
        try:
            self.holdfast.take_hold(await self.holdfast.ask(lambda client: client.release(hold.hold_id, request_id=request_id)))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not given back")
