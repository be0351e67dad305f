"""A booking: reference, segments, seats with passengers, price, and a code that a door can read."""

from __future__ import annotations

import io
from typing import ClassVar

import segno
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from client import show
from client.api import new_request_id
from client.tui.legs import legs_of, seats_on
from client.tui.page import Page
from client.tui.question import Question
from datastore.errors import HoldfastError
from datastore.messages import OrderAnswer
from datastore.model import Money


class TicketScreen(Page[object]):
    """One order."""

    heading = "Booking"
    HELP = """
    # A booking
    The reference and a surname show it anywhere; changing it needs the manage token, which this machine keeps.
    **c** cancels: what comes back is told first.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel", "Cancel booking", id="ticket.cancel"),
        Binding("escape", "back", "Back", id="ticket.back"),
    ]

    def __init__(self, order: OrderAnswer, *, fresh: bool = False) -> None:
        super().__init__()
        self.order = order
        self.fresh = fresh

    def content(self) -> ComposeResult:
        with Horizontal():
            with VerticalScroll(id="ticket"):
                yield Static(id="order")
            yield Static(id="code")

    def on_mount(self) -> None:
        self._draw()
        if self.fresh:
            self.notify(f"booked: {self.order.reference}", timeout=8)

    def _draw(self) -> None:
        self.query_one("#order", Static).update(ticket_text(self.order))
        self.query_one("#code", Static).update(qr_lines(f"HOLDFAST/{self.order.reference}/{':'.join(self.order.receipt.split(':')[:3])}"))

    @work(group="cancel", exclusive=True)
    async def action_cancel(self) -> None:
        """Say what comes back, ask, cancel."""
        order = self.order
        token = await self.holdfast.kept(lambda wallet: wallet.token(order.reference))
        if order.state != "confirmed" or not token:
            self.notify("it is cancelled already" if order.state != "confirmed" else "its manage token is not kept on this machine")
            return
        back = Money(order.total.minor * order.refundable_percent // 100, order.total.currency)
        quote = f"Cancel {order.reference}: {seats_on(order)}?\n\nYou get back {back} of {order.total}."
        if not await self.app.push_screen_wait(Question(quote, "Cancel booking", "Keep it")):
            return
        request_id = new_request_id()
        try:
            self.order = await self.holdfast.ask(lambda client: client.cancel(order.reference, token, request_id=request_id))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not cancelled")
            return
        self._draw()
        self.notify(f"{order.reference} is cancelled; {self.order.refund} comes back")

    def action_back(self) -> None:
        self.app.pop_screen()


def ticket_text(order: OrderAnswer) -> Text:
    """Return an order as text: every segment with who sits where."""
    colour = "#009E73" if order.state == "confirmed" else "#D55E00"
    text = Text.assemble((f"{order.reference}", "bold"), "  ", (order.state, colour), "\n")
    people = [f"{person.given} {person.surname}".strip() for person in order.passengers]
    legs = legs_of(order)
    # Whoever was given a seat by its name sits there; else people sit in the order of the seats, on each leg alike.
    named = {person.seat_id: name for person, name in zip(order.passengers, people, strict=True) if person.seat_id and len(legs) == 1}
    for number, leg in enumerate(legs, 1):
        what = show.service_line(leg.service) if leg.service else leg.service_id
        text.append(f"\n{f'{number}. ' if len(legs) > 1 else ''}{what}\n", "bold" if len(legs) > 1 else "")
        for place, (seat, price) in enumerate(zip(leg.seats, leg.prices, strict=False)):
            text.append(f"{seat:>6}  {named.get(seat) or (people[place] if place < len(people) else ''):<26} {price!s:>14}\n")
    for ticket in order.tickets:
        text.append(f"ticket {show.ticket_line(ticket)}\n", "dim")
    text.append(f"\n{'in all':>6}  {'':<26} {order.total!s:>14}\n")
    if order.refund is not None:
        text.append(f"{'back':>6}  {'':<26} {order.refund!s:>14}\n")
    text.append(f"\n{order.refundable_percent} % back if you cancel\n" if order.state == "confirmed" else "\n")
    for stamp, what in order.history:
        text.append(f"{show.clock(stamp)}  {what}\n", "dim")
    text.append(f"ledger {order.receipt}\n", "dim")
    return text


def qr_lines(content: str) -> Text:
    """Return a QR code of half blocks, dark on light whatever the theme: a reader needs the contrast."""
    out = io.StringIO()
    segno.make(content, error="m", micro=False).save(out, kind="txt", border=2)
    rows = [[cell == "1" for cell in line] for line in out.getvalue().splitlines()]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    blocks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    lines = ["".join(blocks[pair] for pair in zip(above, below, strict=True)) for above, below in zip(rows[::2], rows[1::2], strict=True)]
    return Text("\n".join(lines), "black on white")
