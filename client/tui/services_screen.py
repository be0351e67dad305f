"""An operator's services of a day: how full each is; close, open, cancel, block seats, see who sits where."""

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
from client.api import new_request_id
from client.tui.ask_text import AskText
from client.tui.block_screen import BlockScreen
from client.tui.choice import Choice
from client.tui.happenings import Happening
from client.tui.live_table import LiveTable, Row
from client.tui.manifest_screen import ManifestScreen
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import ServiceInfo

EVERY_S = 4.0
PAGE = 200
BAR = 12  # Characters of a load factor's bar.
FULL, BUSY = 90, 60  # Percent from which the bar changes its colour.
KEEP_IT = "it is kept: nothing changes"
ASK_TRAVELLERS = "cancelled, and its travellers are asked: bookings stand until each takes another way or the whole price back"
CANCEL_WAYS = (KEEP_IT, ASK_TRAVELLERS, "cancelled with all its bookings: each is paid back the whole price at once")
WORDS = {"closed": "nothing new is sold, what is booked stays", "open": "it is sold again"}


class ServicesScreen(Page[object]):
    """A line a service."""

    heading = "Services"
    HELP = """
    # An operator's services
    Give the operator's code and a date, **Enter** lists them; the bar says how much is sold, held or blocked. **c** closes the marked
    service, **o** opens it again, **X** cancels it for good, its bookings at once or as their travellers decide, **m** lists who sits
    where, **Enter** or **b** opens the map on which seats are taken out of sale and put back. Each says first what is and what will be.
    It needs the operator's key in the cluster's data folder on this machine.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_operator", "Choose", priority=True, id="services.focus"),
        Binding("c", "change('closed')", "Close", id="services.close"),
        Binding("o", "change('open')", "Open", id="services.open"),
        Binding("X", "cancel_service", "Cancel", id="services.cancel"),
        Binding("m", "manifest", "Manifest", id="services.manifest"),
        Binding("b", "block", "Block", id="services.block"),
        Binding("escape", "leave_field", "Leave the field", show=False, id="services.leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, ServiceInfo] = {}

    def content(self) -> ComposeResult:
        with Horizontal(classes="fields"):
            with Vertical(classes="field"):
                yield Label("Operator")
                yield Input(placeholder="a code", id="code", compact=True, max_length=8)
            with Vertical(classes="field"):
                yield Label("Date")
                yield Input(value="tomorrow", id="day", compact=True, max_length=20)
        yield Static("", id="said")
        yield LiveTable("Departs", "Service", "Route", "Load", "Free", "State", "From", id="operated")

    def on_mount(self) -> None:
        self.set_interval(EVERY_S, self._again)
        self._propose()

    @work(group="operators")
    async def _propose(self) -> None:
        """Begin with an operator whose key is kept here, as only those can be changed."""
        field = self.query_one("#code", Input)
        field.focus()
        desk = self.holdfast.desk
        codes = await self.holdfast.ask(lambda _: desk.operators()) if desk is not None else []
        if codes and not field.value:
            field.value = codes[0]
            self.look(focus=True)

    def on_screen_resume(self) -> None:
        self._again()

    def _again(self) -> None:
        # One under way is waited for: begun anew every time, a slow answer would never be shown.
        if self.is_current and self._found and not self.at_work("look"):
            self.look()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._found = {}
        self.look(focus=True)

    @work(group="look", exclusive=True)
    async def look(self, *, focus: bool = False) -> None:
        """List the operator's services of the day."""
        said, table = self.query_one("#said", Static), self.query_one("#operated", LiveTable)
        operator = self.query_one("#code", Input).value.strip().upper()
        table.loading = not self._found
        try:
            day = inputs.day(self.query_one("#day", Input).value, date.today())
            answer = await self.holdfast.ask(lambda client: client.services(day, operator=operator, limit=PAGE))
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))
            return
        finally:
            table.loading = False
        self._found = {service.service_id: service for service in answer.services}
        table.bring([_row(service) for service in answer.services])
        sold = sum(service.capacity - service.free for service in answer.services)
        seats = sum(service.capacity for service in answer.services)
        more = f"the first {PAGE}" if answer.next else str(len(answer.services))
        gone = f"{sold} of {seats} seats sold, held or blocked ({_percent(sold, seats)} %)"
        said.update(f"{more} services of {operator or 'all'} on {day}; {gone}")
        if focus and answer.services:
            table.focus()

    # --- doing ---------------------------------------------------------------------------------------------------------

    @property
    def _marked(self) -> ServiceInfo | None:
        return self._found.get(self.query_one("#operated", LiveTable).marked)

    def action_leave_field(self) -> None:
        self.query_one("#operated").focus()

    def action_focus_operator(self) -> None:
        self.query_one("#code", Input).focus().action_select_all()

    @work(group="change", exclusive=True)
    async def action_change(self, state: str) -> None:
        """Close or open the marked service."""
        service = self._marked
        if service is None:
            return
        now = f"{service.service_id}\n\nbefore: {service.state}, {_sold(service)}"
        reason = await self.app.push_screen_wait(AskText(f"{now}\nafter: {state}: {WORDS[state]}\n\nThe reason, for travellers:"))
        if reason is not None:
            await self._change(service, state, reason)

    @work(group="change", exclusive=True)
    async def action_cancel_service(self) -> None:
        """Cancel the marked service: with all its bookings, or asking their travellers what now."""
        service = self._marked
        if service is None:
            return
        said = f"Cancel {service.service_id} for good? Every hold of it is released.\n\nbefore: {service.state}, {_sold(service)}\nafter:"
        chosen = await self.app.push_screen_wait(Choice(said, CANCEL_WAYS))
        if not chosen:
            return
        asked = AskText(f"Cancel {service.service_id} for good. Why? Its travellers read it.", "decided by the operator")
        why = await self.app.push_screen_wait(asked)
        if why is not None:
            await self._change(service, "cancelled", why, ask_travellers=CANCEL_WAYS[chosen] == ASK_TRAVELLERS)

    async def _change(self, service: ServiceInfo, state: str, reason: str, *, ask_travellers: bool = False) -> None:
        desk, request_id, service_id = self.holdfast.desk, new_request_id(), service.service_id
        try:
            if desk is None:
                raise self.holdfast.no_desk()
            changed = await self.holdfast.ask(
                lambda client: client.change_service(
                    desk.operator_key(service_id), service_id, state, reason, ask_travellers=ask_travellers, request_id=request_id
                )
            )
        except HoldfastError as error:
            self.holdfast.say_error(error, "nothing was changed")
            return
        cancelled = f", {len(changed.orders_cancelled)} bookings cancelled" if changed.orders_cancelled else ""
        released = f", {changed.holds_released} holds released" if changed.holds_released else ""
        words = f"{service_id}: before {service.state}, after {changed.state}{cancelled}{released}"
        self.holdfast.happens(Happening(words, state == "open"))
        self.look()

    def action_manifest(self) -> None:
        if self._marked is not None:
            self.app.push_screen(ManifestScreen(self._marked))

    def action_block(self) -> None:
        if self._marked is not None:
            self.app.push_screen(BlockScreen(self._marked))

    @on(DataTable.RowSelected)
    def _opened(self) -> None:
        self.action_block()


def _sold(service: ServiceInfo) -> str:
    return f"{service.capacity - service.free} of {service.capacity} seats sold, held or blocked"


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def load_bar(sold: int, capacity: int) -> Text:
    """Return how full a service is, as a bar and a number."""
    percent = _percent(sold, capacity)
    filled = round(BAR * sold / capacity) if capacity else 0
    colour = "#D55E00" if percent >= FULL else "#E69F00" if percent >= BUSY else "#009E73"
    return Text.assemble(("█" * filled, colour), ("░" * (BAR - filled), "dim"), f" {percent:>3} %")


def _row(service: ServiceInfo) -> Row:
    state = Text(service.state, "" if service.state == "open" else "#D55E00")
    cells: list[str | Text] = [
        show.local_time(service.departs, service.date),
        service.service_id,
        show.route(service) if service.destination else service.title or service.origin,
        load_bar(service.capacity - service.free, service.capacity),
        f"{service.free}/{service.capacity}",
        state,
        str(service.from_price) if service.from_price is not None else "-",
    ]
    return service.service_id, cells
