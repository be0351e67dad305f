"""The bookings whose manage tokens this machine keeps."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Static

from client import show
from client.tui.legs import flights_line, legs_of, seats_line
from client.tui.page import Page
from client.tui.ticket_screen import TicketScreen
from datastore.errors import HoldfastError
from datastore.messages import OrderAnswer
from datastore.wording import counted

PAGE = 200  # Of one question, see messages.GetOrders.


class BookingsScreen(Page[object]):
    """A line a booking; Enter opens it."""

    heading = "My bookings"
    HELP = "# My bookings\n**Enter** opens a booking, **r** asks the cluster again. Kept are those made on this machine."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "again", "Ask again", id="bookings.again")]

    def __init__(self) -> None:
        super().__init__()
        self._orders: dict[str, OrderAnswer] = {}

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        table: DataTable[str | Text] = DataTable(id="orders", cursor_type="row", zebra_stripes=True)
        yield table

    def on_mount(self) -> None:
        table = self.query_one("#orders", DataTable)
        for name in ("Reference", "State", "Route", "Departs", "Services", "Seats", "Total", "Passengers"):
            table.add_column(name, key=name)

    def on_screen_resume(self) -> None:
        self.action_again()

    @work(group="orders", exclusive=True)
    async def action_again(self) -> None:
        """Ask the cluster for every booking kept here."""
        said, table = self.query_one("#said", Static), self.query_one("#orders", DataTable)
        try:
            orders = await self.holdfast.kept(lambda wallet: wallet.orders())
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))  # A damaged wallet: its file is named.
            return
        kept = [(order.reference, order.token) for order in reversed(orders)]
        if not kept:
            said.update("no bookings are kept on this machine")
            return
        table.loading = not self._orders
        found: list[OrderAnswer] = []
        silent: set[str] = set()
        try:
            for first in range(0, len(kept), PAGE):
                page = kept[first : first + PAGE]
                answer = await self.holdfast.ask(lambda client, page=page: client.orders(page))  # type: ignore[misc]
                found += answer.orders
                silent |= answer.partial.keys()
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))
            return
        finally:
            table.loading = False
        said.update(counted(len(found), "booking") + (f"; {', '.join(sorted(silent))} did not answer" if silent else ""))
        self._orders = {order.reference: order for order in found}
        table.clear()
        for order in found:
            table.add_row(*_row(order), key=order.reference)
        table.focus()

    @on(DataTable.RowSelected)
    def _open(self, event: DataTable.RowSelected) -> None:
        order = self._orders.get(str(event.row_key.value))
        if order is not None:
            self.app.push_screen(TicketScreen(order))


def _row(order: OrderAnswer) -> list[str | Text]:
    service = order.service
    return [
        order.reference,
        Text(order.state, "#009E73" if order.state == "confirmed" else "#D55E00"),
        show.route(service) if service and not order.legs else _ends(order),
        f"{service.date} {show.local_time(service.departs, service.date)}" if service else "",
        flights_line(order),
        seats_line(order),
        str(order.total),
        ", ".join(person.surname for person in order.passengers),
    ]


def _ends(order: OrderAnswer) -> str:
    """Return "EZE → DOH" of a trip whose services are known."""
    services = [leg.service for leg in legs_of(order)]
    if not services or services[0] is None or services[-1] is None:
        return ""
    return f"{services[0].origin} → {services[-1].destination}"
