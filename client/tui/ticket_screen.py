"""A booking: reference, segments, seats with passengers, price, and a code that a door can read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import segno
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from client import bookings, show
from client.api import new_request_id
from client.ticket_files import write_pdf
from client.tui.amends import PAYABLE_AGAIN, alternative_words, parts_of, unpaid_words
from client.tui.ask_text import AskText
from client.tui.choice import Choice
from client.tui.gateway import Client
from client.tui.legs import legs_of
from client.tui.page import Page
from client.tui.quote_screen import QuoteScreen
from client.tui.rebook_screen import RebookScreen
from client.tui.swap_screen import SwapScreen
from datastore.errors import HoldfastError
from datastore.messages import OrderAnswer, QuoteAnswer
from datastore.passengers import seated

Quoting = Callable[[Client, str], QuoteAnswer]
# What the cluster must say that can be done, for an action to be offered.
NEEDS = {
    "cancel": ("cancel",),
    "seats": ("change_seat",),
    "service": ("change_service",),
    "decide": ("accept_alternative", "refund"),
}


class TicketScreen(Page[object]):
    """One order, and what its traveller may do with it now."""

    heading = "Booking"
    HELP = """
    # A booking
    The reference and a surname show it anywhere; changing it needs the manage token, which this machine keeps.
    **c** cancels it, or a leg or a passenger of it; **s** takes other seats; **v** goes with another service of the same operator.
    Each says first what it costs or gives back, and asks. **a** decides what now, after a service of it was cancelled or moved:
    another way that is held for you, keeping it, or the whole price back. **t** says what became of the payment.
    **w** writes the tickets to a PDF, with a code that proves them without the cluster.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "decide", "Decide", id="ticket.decide"),
        Binding("s", "seats", "Seats", id="ticket.seats"),
        Binding("v", "service", "Service", id="ticket.service"),
        Binding("c", "cancel", "Cancel", id="ticket.cancel"),
        Binding("w", "write", "PDF", id="ticket.write"),
        Binding("t", "transaction", "Payment", id="ticket.transaction"),
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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what the cluster says can be done with the booking now."""
        wanted = NEEDS.get(action)
        return True if wanted is None else not self.order.reduced and any(one in self.order.available_actions for one in wanted)

    def _draw(self) -> None:
        self.query_one("#order", Static).update(ticket_text(self.order))
        self.query_one("#code", Static).update(qr_lines(f"HOLDFAST/{self.order.reference}/{':'.join(self.order.receipt.split(':')[:3])}"))
        self.refresh_bindings()

    # --- deciding ------------------------------------------------------------------------------------------------------

    @work(group="amend", exclusive=True)
    async def action_cancel(self) -> None:
        """Choose what is given up, say what comes back, ask, cancel."""
        parts = parts_of(self.order)
        chosen: int | None = 0
        if len(parts) > 1:
            chosen = await self.app.push_screen_wait(Choice("Cancel what?", [part.words for part in parts]))
        if chosen is not None:
            part = parts[chosen]
            what, legs, passengers = self._reference, part.legs, part.passengers
            await self._give_up(lambda client, token: client.quote_cancel(what, token, legs=legs, passengers=passengers))

    @work(group="amend", exclusive=True)
    async def action_seats(self) -> None:
        """Choose other seats on one leg, say what they cost, ask, change."""
        leg = await self._which_leg("Other seats on which leg?")
        if leg:
            there = legs_of(self.order)[leg - 1]
            people = [f"{one.given} {one.surname}".strip() for one in seated(self.order.passengers)]
            people += [""] * (len(there.seats) - len(people))
            swaps = await self.app.push_screen_wait(SwapScreen(there.service_id, there.seats, people[: len(there.seats)]))
            if swaps:
                await self._alter(lambda client, token: client.quote_change(self._reference, token, leg=leg, swaps=swaps))

    @work(group="amend", exclusive=True)
    async def action_service(self) -> None:
        """Choose another service for one leg, say what it costs, ask, change."""
        leg = await self._which_leg("Another service for which leg?")
        if not leg:
            return
        there = legs_of(self.order)[leg - 1]
        try:
            service = there.service or (await self.holdfast.ask(lambda client: client.seat_map(there.service_id))).service
        except HoldfastError as error:
            self.holdfast.say_error(error, "not changed")
            return
        chosen = await self.app.push_screen_wait(RebookScreen(service, len(there.seats)))
        if chosen:
            await self._alter(lambda client, token: client.quote_change(self._reference, token, leg=leg, service_id=chosen))

    @work(group="amend", exclusive=True)
    async def action_decide(self) -> None:
        """After a service was taken away or moved: another way that is held, the booking as it is, or the whole price back."""
        token = await self._token()
        if not token:
            return
        self.notify("looking for other ways …", timeout=3)
        try:
            found = await self.holdfast.ask(lambda client: client.alternatives(self._reference, token))
        except HoldfastError as error:
            self.holdfast.say_error(error, "no other ways")
            return
        held = [(one.quote, one.hold_id) for one in found.alternatives]
        await self.holdfast.kept(lambda wallet: wallet.keep_alternatives(self._reference, held))
        ways = [f"instead: {alternative_words(one)}, at no charge" for one in found.alternatives]
        question = f"{found.lost} {found.why}. What now?" + ("" if ways else " Nothing else goes there that can be had.")
        keep, refund = "keep the booking as it is", "the whole price back, whatever the fare says"
        chosen = await self.app.push_screen_wait(Choice(question, [*ways, keep, refund]))
        wallet = self.holdfast.wallet
        if chosen is None:
            return
        if chosen < len(ways):
            quote = held[chosen][0]
            await self._done(lambda client: bookings.take_alternative(client, wallet, self._reference, token, quote), "not changed")
        elif chosen == len(ways):
            await self._done(lambda client: client.keep(self._reference, token), "not kept")
        else:
            await self._give_up(lambda client, used: client.quote_cancel(self._reference, used, full=True))

    @work(group="amend", exclusive=True)
    async def action_transaction(self) -> None:
        """Say what became of the payment."""
        token = await self._token()
        if not token:
            return
        try:
            answer = await self.holdfast.ask(lambda client: client.query_transaction(reference=self._reference, token=token))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not known")
            return
        words = [f"{answer.state}: nothing was paid or had to be"]
        if answer.intent:
            words = [answer.state, f"captured {answer.captured} of {answer.amount}, refunded {answer.refunded}"]
            words.append(f"{answer.intent} {answer.provider_state or 'does not answer'}")
        words += [f"case: {answer.case}"] if answer.case else []
        self.notify("\n".join(words), title="payment", timeout=12)

    @work(group="write", exclusive=True)
    async def action_write(self) -> None:
        """Ask for a name, write the tickets there."""
        reference, token = self._reference, await self._token()
        if not token:
            return
        name = await self.app.push_screen_wait(AskText("The tickets of this booking as PDF, in the file:", f"{reference}.pdf"))
        if not name:
            return
        home, file = self.holdfast.wallet.folder, Path(name).expanduser()
        try:
            await self.holdfast.ask(lambda client: write_pdf(client, home, reference, token, file))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not written")
            return
        except OSError as error:
            self.notify(f"not written: {file}: {error.strerror}", severity="error")
            return
        self.notify(f"{file.absolute()} is written", timeout=8)

    def action_back(self) -> None:
        self.app.pop_screen()

    # --- doing ---------------------------------------------------------------------------------------------------------

    @property
    def _reference(self) -> str:
        return self.order.reference

    async def _token(self) -> str:
        token = await self.holdfast.kept(lambda wallet: wallet.token(self._reference))
        if not token:
            self.notify("its manage token is not kept on this machine", severity="warning")
        return token

    async def _which_leg(self, question: str) -> int:
        """Return a leg, counted from 1; 0 for none."""
        legs = legs_of(self.order)
        if len(legs) == 1:
            return 1
        lines = [f"{number}. {leg.service_id}: {', '.join(leg.seats)}" for number, leg in enumerate(legs, 1)]
        chosen = await self.app.push_screen_wait(Choice(question, lines))
        return 0 if chosen is None else chosen + 1

    async def _give_up(self, question: Quoting) -> None:
        """Say what giving something up brings back, ask, do just that."""
        token = await self._token()
        quote = await self._quoted(question, token) if token else None
        if quote is None or await self.app.push_screen_wait(QuoteScreen(quote)) is None:
            return
        request_id = new_request_id()
        await self._done(lambda client: client.cancel(self._reference, token, quote=quote.quote, request_id=request_id), "not cancelled")

    async def _alter(self, question: Quoting) -> None:
        """Say what a change costs, ask, do it; a card that does not pay leaves the booking as it is, and another may be tried."""
        token, wallet, cards = await self._token(), self.holdfast.wallet, self.holdfast.cards
        quote = await self._quoted(question, token) if token else None
        said, card = "", ""
        while quote is not None:
            agreed = await self.app.push_screen_wait(QuoteScreen(quote, cards, said, card))
            if agreed is None:
                return
            card, text = agreed, quote.quote
            try:
                order = await self.holdfast.ask(
                    lambda client, text=text, card=card: bookings.change(client, wallet, self._reference, token, text, card=card)  # type: ignore[misc]
                )
            except HoldfastError as error:
                if error.code not in PAYABLE_AGAIN:
                    self.holdfast.say_error(error, "not changed")
                    return
                said = unpaid_words(error, "the booking stays as it was")
                continue
            self._show(order, "changed")
            return

    async def _quoted(self, question: Quoting, token: str) -> QuoteAnswer | None:
        try:
            return await self.holdfast.ask(lambda client: question(client, token))
        except HoldfastError as error:
            self.holdfast.say_error(error, "nothing was changed")
            return None

    async def _done(self, act: Callable[[Client], OrderAnswer], otherwise: str) -> None:
        try:
            order = await self.holdfast.ask(act)
        except HoldfastError as error:
            self.holdfast.say_error(error, otherwise)
            return
        self._show(order, "cancelled" if order.state == "cancelled" else "changed")

    def _show(self, order: OrderAnswer, what: str) -> None:
        self.order = order
        self._draw()
        back = f"; {order.refund} comes back" if order.refund is not None and order.refund.minor else ""
        self.notify(f"{order.reference} is {what}{back}", timeout=8)


def ticket_text(order: OrderAnswer) -> Text:
    """Return an order as text: every segment with who sits where."""
    colour = "#009E73" if order.state == "confirmed" else "#D55E00"
    text = Text.assemble((f"{order.reference}", "bold"), "  ", (order.state, colour), "\n")
    if order.action_required:
        text.append(f"decide (a): {order.action_required}\n", "bold #E69F00")
    people = [f"{person.given} {person.surname}".strip() for person in order.passengers]
    legs = legs_of(order)
    # Whoever was given a seat by its name sits there; else people sit in the order of the seats, on each leg alike.
    named = {person.seat_id: name for person, name in zip(order.passengers, people, strict=True) if person.seat_id and len(legs) == 1}
    for number, leg in enumerate(legs, 1):
        what = show.brief_line(leg.service) if leg.service else leg.service_id
        text.append(f"\n{f'{number}. ' if len(legs) > 1 else ''}{what}\n", "bold" if len(legs) > 1 else "")
        for place, (seat, price) in enumerate(zip(leg.seats, leg.prices, strict=False)):
            text.append(f"{seat:>6}  {named.get(seat) or (people[place] if place < len(people) else ''):<18.18} {price!s:>13}\n")
    for ticket in order.tickets:
        text.append(f"ticket {show.ticket_line(ticket)}\n", "dim")
    text.append(f"\n{'in all':>6}  {'':<18} {order.total!s:>13}\n")
    if order.refund is not None:
        text.append(f"{'back':>6}  {'':<18} {order.refund!s:>13}\n")
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
