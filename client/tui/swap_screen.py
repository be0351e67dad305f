"""A traveller chooses other seats on one leg of a booking, on its live map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from client.tui.cabin import Cabin
from client.tui.map_page import MapPage
from client.tui.seat_grid import SeatGrid
from client.tui.swaps import Swaps


class SwapScreen(MapPage[list[tuple[str, str]] | None]):
    """Dismissed with (seat given up, seat taken) pairs, None where all stays as it is."""

    heading = "Other seats"
    HELP = """
    # Other seats
    Walk as on any map; **Space** on a free seat takes it for the passenger marked ▸, on a seat of yours it turns to whoever sits
    there, on a chosen one it takes the wish back. **n** goes to the next passenger. **Enter** asks what it costs; nothing is
    changed before you agree. **Esc** leaves everything as it is.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "done", "What it costs", id="swap.done"),
        Binding("n", "next", "Next passenger", id="swap.next"),
        Binding("escape", "dismiss(None)", "Leave it", id="swap.back"),
    ]

    def __init__(self, service_id: str, seats: Sequence[str], people: Sequence[str]) -> None:
        """Begin with nothing wished. `people`: who sits on `seats`, one for each."""
        super().__init__(service_id)
        self.swaps = Swaps(list(seats))
        self._people = list(people)

    def opened(self, cabin: Cabin) -> None:
        if self.swaps.seats[0] in cabin.seats:
            self.query_one(SeatGrid).move_to(self.swaps.seats[0])

    def beside(self, cabin: Cabin) -> Text:
        gone = {seat_id for seat_id, seat in cabin.seats.items() if seat.state != "available"}
        for lost in self.swaps.lose(gone):
            self.notify(f"{cabin.seats[lost].designator} was just taken by another", severity="warning")
            self._mark()
        text = Text("who sits where\n", "bold")
        for place, (seat, person) in enumerate(zip(self.swaps.seats, self._people, strict=True)):
            new = self.swaps.wished.get(seat)
            words = f"{seat} → {new}" if new else seat
            text.append(f"{'▸' if place == self.swaps.turn else ' '} {words:<12} {person}\n", "bold" if place == self.swaps.turn else "")
        return text.append("\nEnter says what it costs" if self.swaps.wished else "\nSpace takes the seat at the cursor", "dim")

    def toggle(self, cabin: Cabin, seat_id: str) -> None:
        why_not = self.swaps.choose(cabin.seats[seat_id])
        if why_not:
            self.notify(why_not, severity="warning")
        self._mark()
        self.describe()

    def _mark(self) -> None:
        self.query_one(SeatGrid).choose(list(self.swaps.wished.values()))

    def action_next(self) -> None:
        self.swaps.next_turn()
        self.describe()

    def action_done(self) -> None:
        if not self.swaps.wished:
            self.notify("choose another seat first: Space takes the one at the cursor")
            return
        self.dismiss(self.swaps.pairs())
