"""Who sits where: a name for each held seat, then the booking. Leaving asks what becomes of the hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, Input, Label, Select, Static

from client import bookings, show, travellers
from client.api import new_request_id
from client.tui.amends import PAYABLE_AGAIN, unpaid_words
from client.tui.clock import countdown
from client.tui.gateway import now_ms
from client.tui.legs import legs_of, seats_line
from client.tui.page import Page
from client.tui.question import Question
from client.tui.ticket_screen import TicketScreen
from datastore.errors import HoldfastError, InvalidRequest
from datastore.messages import HoldAnswer, ServiceInfo
from datastore.model import Passenger


class PassengersScreen(Page[object]):
    """Names for a hold."""

    heading = "Passengers"
    HELP = """
    # Passengers
    One person a seat: given names, then the surname, or Surname/Given; CHD or INS in front of a child's
    or an infant's. Behind the name where needed: `, born=2019-05-01, doc=ARG:AB123:2030-05-01, ffp=AR123, ssr=WCHR`.
    **Ctrl+S** books. **Ctrl+E** lets the hold last longer;
    after its end **Ctrl+R** takes the same seats again, if they are free.
    **Esc** goes back and asks whether the seats stay held; nothing is lost without that.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "book", "Book", id="passengers.book"),
        Binding("ctrl+e", "app.extend", "Extend", priority=True, id="passengers.extend"),
        Binding("ctrl+r", "renew", "Hold again", id="passengers.renew"),
        Binding("escape", "leave", "Back", id="passengers.leave"),
    ]

    def __init__(self, hold: HoldAnswer, services: Sequence[ServiceInfo]) -> None:
        """Ask for names. `services`: of the legs, where they are known here."""
        super().__init__()
        self.hold = hold
        self._total = hold.total
        self._over_shown = False
        self.services = {service.service_id: service for service in services}

    def content(self) -> ComposeResult:
        yield Static(self._summary(), id="summary")
        with VerticalScroll(id="people"):
            for number, seats in enumerate(zip(*(leg.seats for leg in legs_of(self.hold)), strict=False)):
                with Horizontal(classes="person"):
                    yield Label(" + ".join(seats), classes="who")
                    yield Input(placeholder="Given Surname", id=f"person-{number}", max_length=240, compact=True)
            with Horizontal(classes="person"):
                yield Label("on laps", classes="who")
                yield Input(placeholder="nobody; or INF Given Surname; INF …", id="laps", max_length=960, compact=True)
        if self.holdfast.cards:
            with Horizontal(id="paying"):
                yield Label(self._pay_words(), id="amount")
                yield Select(self.holdfast.cards, value=self.holdfast.cards[0][1], allow_blank=False, id="card", compact=True)
            yield Static(" charged if it is booked, and only then; a declined card leaves the seats held", classes="dim")
        yield Static("", id="wrong")
        with Horizontal(id="buttons"):
            yield Button("Book (Ctrl+S)", variant="success", id="book", compact=True)
            yield Button("Extend (Ctrl+E)", id="extend", compact=True)
            yield Button("Back (Esc)", id="back", compact=True)

    def on_mount(self) -> None:
        self.query_one("#person-0", Input).focus()

    def _pay_words(self) -> str:
        return f"Pay {self._total} with  "

    @on(Input.Blurred)
    def _left_a_name(self) -> None:
        self._price()

    @work(group="price", exclusive=True)
    async def _price(self) -> None:
        """Say what these passengers pay: children and infants pay less than the hold says."""
        try:
            people = self._people(focus=False)
            priced = await self.holdfast.ask(lambda client: client.price_party(self.hold.hold_id, people))
        except HoldfastError as error:
            self.log(f"not priced yet: {error.detail}")  # Not all named yet; booking says what is wrong.
            return
        self._total = priced.total
        self.query_one("#summary", Static).update(self._summary())
        for label in self.query("#amount").results(Label):
            label.update(self._pay_words())

    def _summary(self) -> Text:
        hold, text = self.hold, Text()
        for leg in legs_of(hold):
            service = self.services.get(leg.service_id)
            text.append((show.brief_line(service) if service else leg.service_id) + "\n", "bold")
            text.append(f"  {', '.join(f'{seat} {price}' for seat, price in zip(leg.seats, leg.prices, strict=False))}\n")
        terms = f"{hold.refundable_percent} % back if you cancel" if hold.refundable_percent else "not refundable"
        party = "" if self._total == hold.total else f"; for these passengers {self._total}"
        text.append(f"held for you{', all or none' if hold.legs else ''}   {hold.total} in all{party}   {terms}")
        return text

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What has not ended cannot be taken again."""
        return self._over if action == "renew" else True

    @property
    def _over(self) -> bool:
        return any(one.hold_id == self.hold.hold_id for one in self.holdfast.holds.ended())

    def on_news(self) -> None:
        super().on_news()
        if self._over != self._over_shown:
            self._over_shown = self._over
            self.refresh_bindings()
        if self._over:
            over = "the hold has ended; Ctrl+R takes the same seats again, if they are free"
            self.query_one("#wrong", Static).update(Text(over, "#D55E00"))

    @work(group="renew", exclusive=True)
    async def action_renew(self) -> None:
        """Take the seats again after the hold has ended; what was typed stays."""
        renewed = await self.holdfast.renew(self.hold)
        if renewed is not None:
            self.hold = renewed
            self.query_one("#summary", Static).update(self._summary())
            self.query_one("#wrong", Static).update("")

    # --- doing ---------------------------------------------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        {"book": self.action_book, "extend": self.app.action_extend, "back": self.action_leave}[event.button.id or "back"]()  # type: ignore[attr-defined]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes to the next empty name; behind the last it books."""
        for field in self._seats:
            if not field.value.strip():
                field.focus()
                return
        self.action_book()

    @property
    def _seats(self) -> list[Input]:
        """Return the fields of those who have a seat."""
        return [field for field in self.query(Input) if field.id != "laps"]

    def _people(self, *, focus: bool = True) -> list[Passenger]:
        """Return who travels, infants on laps last.

        Raises:
            InvalidRequest: Somebody is not named as people are; the cursor goes there with `focus`.
        """
        people: list[Passenger] = []
        laps = self.query_one("#laps", Input)
        named = [(field, seat, field.value) for field, seat in zip(self._seats, self.hold.seats, strict=True)]
        named += [(laps, "on a lap", text) for text in laps.value.split(";") if text.strip()]
        for field, seat, text in named:
            try:
                people.append(travellers.passenger(text.strip(), len(people) + 1))
            except InvalidRequest as error:
                if focus:
                    field.focus()
                raise InvalidRequest(f"{seat}: {error.detail}", field="passenger") from error
        return people

    @work(group="book", exclusive=True)
    async def action_book(self) -> None:
        """Turn the hold into a booking."""
        wrong = self.query_one("#wrong", Static)
        try:
            people = self._people()
        except InvalidRequest as error:
            wrong.update(Text(error.detail, "#D55E00"))
            return
        wrong.update("booking …")
        box = self.query_one("#people")
        box.loading = True
        wallet, card = self.holdfast.wallet, str(self.query_one("#card", Select).value) if self.holdfast.cards else ""
        try:
            order = await self.holdfast.ask(lambda client: bookings.confirm(client, wallet, self.hold.hold_id, people, card=card))
        except HoldfastError as error:
            self._not_booked(error)
            if error.code == "hold_expired":
                self.holdfast.holds.expire(self.hold)
            elif error.code == "unknown_hold":
                self.holdfast.holds.drop(self.hold.hold_id)
            return
        finally:
            box.loading = False
        self.holdfast.holds.drop(self.hold.hold_id)
        self.app.switch_screen(TicketScreen(order, fresh=True))

    def _not_booked(self, error: HoldfastError) -> None:
        """Say why, and put the cursor where one goes on: a card that does not pay leaves the hold as it is."""
        wrong = self.query_one("#wrong", Static)
        if error.code not in PAYABLE_AGAIN:
            wrong.update(Text(error.detail, "#D55E00"))
            self.holdfast.say_error(error, "not booked")
            return
        left = countdown(self.holdfast.holds.remaining_ms(self.hold.hold_id, now_ms()))
        wrong.update(Text(unpaid_words(error, f"the seats stay held for you for {left}"), "#D55E00"))
        for card in self.query("#card").results(Select):
            card.focus()

    @work(group="leave", exclusive=True)
    async def action_leave(self) -> None:
        """Go back; the hold stays or is given up, as the traveller says."""
        if self.at_work("book"):
            # Whether the seats are booked or held is not known before the answer, which must find somebody.
            self.notify("the booking is under way: its answer comes first")
            return
        known = self.hold.hold_id in {hold.hold_id for hold in self.holdfast.holds.open()}
        if known:
            held = f"{seats_line(self.hold)} {'are' if self.hold.legs or len(self.hold.seats) > 1 else 'is'} held for you."
            choice = "Keep the hold (under Holds) until its time is over, or give the seats back?"
            keep = await self.app.push_screen_wait(Question(f"{held}\n\n{choice}", "Keep", "Give back", "Stay"))
            if keep is None or (not keep and not await self._released()):
                return
        self.app.pop_screen()

    async def _released(self) -> bool:
        request_id = new_request_id()
        try:
            self.holdfast.take_hold(await self.holdfast.ask(lambda client: client.release(self.hold.hold_id, request_id=request_id)))
        except HoldfastError as error:
            self.holdfast.say_error(error, "not given back")
            return False
        self.notify(f"{seats_line(self.hold)} given back")
        return True
