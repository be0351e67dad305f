"""Who sits where on a service, for its operator."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from client.tui.live_table import LiveTable
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import ServiceInfo


class ManifestScreen(Page[object]):
    """A line a booked seat."""

    heading = "Manifest"
    HELP = "# The manifest\nEvery booked seat with its passenger; **r** asks again."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "Ask again", id="manifest.again"),
        Binding("escape", "app.pop_screen", "Back", id="manifest.back"),
    ]

    def __init__(self, service: ServiceInfo) -> None:
        super().__init__()
        self.service = service

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        yield LiveTable("Seat", "Surname", "Given", "Booking", id="manifest")

    def on_mount(self) -> None:
        self.action_again()

    @work(group="manifest", exclusive=True)
    async def action_again(self) -> None:
        """Ask for the manifest."""
        desk, service_id = self.holdfast.desk, self.service.service_id
        said, table = self.query_one("#said", Static), self.query_one("#manifest", LiveTable)
        table.loading = True
        try:
            if desk is None:
                raise self.holdfast.no_desk()
            answer = await self.holdfast.ask(lambda client: client.manifest(desk.operator_key(service_id), service_id))
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))
            return
        finally:
            table.loading = False
        table.bring([(line.seat_id, [line.seat_id, line.surname, line.given, line.reference]) for line in answer.lines])
        blocked = "".join(f"; {seat} blocked: {reason}" for seat, reason in answer.blocked[:3])
        counts = f"{len(answer.lines)} booked, {answer.held} held, {len(answer.blocked)} blocked, {answer.free} free"
        said.update(Text(f"{service_id}: {counts}{blocked}"))
        table.focus()
