"""An operator marks seats on a service's live map and takes them out of sale, with a reason, or puts them back."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from client.api import new_request_id
from client.tui.ask_text import AskText
from client.tui.cabin import Cabin
from client.tui.happenings import Happening
from client.tui.map_page import MapPage
from client.tui.seat_grid import SeatGrid
from datastore.errors import HoldfastError
from datastore.messages import SeatsChanged, ServiceInfo

STATES = (("available", "free"), ("held", "held"), ("occupied", "booked"), ("blocked", "blocked"))


class BlockScreen(MapPage[object]):
    """The map of one service, for its operator."""

    heading = "Seats"
    HELP = """
    # Blocking seats
    Walk as on a traveller's map; **Space** marks a seat, **r** its whole row, **u** forgets the marks. **Ctrl+B** takes the marked
    free seats out of sale for a reason that travellers may read, **Ctrl+U** puts marked blocked seats back. What
    somebody holds or has booked stays.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "mark_row", "Row", id="block.row"),
        Binding("u", "unmark", "Unmark", id="block.unmark"),
        Binding("ctrl+b", "block", "Block", id="block.block"),
        Binding("ctrl+u", "unblock", "Unblock", id="block.unblock"),
        Binding("escape", "app.pop_screen", "Back", id="block.back"),
    ]

    def __init__(self, service: ServiceInfo) -> None:
        super().__init__(service.service_id)
        self.marks: list[str] = []

    def beside(self, cabin: Cabin) -> Text:
        counts: dict[str, int] = {}
        for seat in cabin.seats.values():
            counts[seat.state] = counts.get(seat.state, 0) + 1
        lines = [f"{counts.get(state, 0):>5} {word}" for state, word in STATES]
        marked = ", ".join(cabin.seats[one].designator for one in self.marks[:24]) + (" …" if len(self.marks) > 24 else "")
        return Text.assemble(("\n".join(lines) + "\n\n"), (f"{len(self.marks)} marked\n", "bold"), marked)

    def toggle(self, cabin: Cabin, seat_id: str) -> None:
        self.marks = [one for one in self.marks if one != seat_id] if seat_id in self.marks else [*self.marks, seat_id]
        self._marked()

    def _marked(self) -> None:
        self.query_one(SeatGrid).choose(self.marks)
        self.describe()

    def action_mark_row(self) -> None:
        """Mark the whole row of the cursor."""
        cabin, cursor = self.cabin, self.query_one(SeatGrid).cursor
        if cabin is not None and cursor:
            y = cabin.seats[cursor].y
            self.marks += [one for one, seat in cabin.seats.items() if seat.y == y and one not in self.marks]
            self._marked()

    def action_unmark(self) -> None:
        self.marks = []
        self._marked()

    @work(group="block", exclusive=True)
    async def action_block(self) -> None:
        """Take the marked free seats out of sale."""
        seats = self._marked_in("available")
        if not seats:
            self.notify("mark free seats first: Space marks one, r a row", severity="warning")
            return
        reason = await self.app.push_screen_wait(
            AskText(f"before: {len(seats)} free seats, {', '.join(seats[:12])}\nafter: not sold\n\nThe reason, for travellers:")
        )
        if reason is not None:
            await self._do("block", seats, reason or "blocked by the operator")

    @work(group="block", exclusive=True)
    async def action_unblock(self) -> None:
        """Put the marked blocked seats back into sale."""
        seats = self._marked_in("blocked")
        if not seats:
            self.notify("mark blocked seats first", severity="warning")
            return
        await self._do("unblock", seats, "")

    def _marked_in(self, state: str) -> list[str]:
        return [one for one in self.marks if self.cabin is not None and self.cabin.seats[one].state == state]

    async def _do(self, word: str, seats: list[str], reason: str) -> None:
        desk, service_id, request_id = self.holdfast.desk, self.service_id, new_request_id()
        try:
            if desk is None:
                raise self.holdfast.no_desk()
            changed: SeatsChanged = await self.holdfast.ask(
                lambda client: (
                    client.block(desk.operator_key(service_id), service_id, seats, reason, request_id=request_id)
                    if word == "block"
                    else client.unblock(desk.operator_key(service_id), service_id, seats, request_id=request_id)
                )
            )
        except HoldfastError as error:
            self.holdfast.say_error(error, "nothing was changed")
            return
        before, after = ("free", "blocked") if word == "block" else ("blocked", "free")
        self.holdfast.happens(Happening(f"{service_id} {', '.join(changed.seats)}: before {before}, after {after}", word != "block"))
        self.action_unmark()
