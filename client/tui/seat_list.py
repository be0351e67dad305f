"""The seats of one service as a list, with the same keys as the map: for screen readers, and for who knows what to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from client import seatmap
from client.tui.cabin import Cabin
from client.tui.seat_keys import SeatKeys
from datastore.messages import SeatInfo

COLUMNS = ("Seat", "Section", "Row", "Place", "State", "Price")


class SeatList(DataTable[str]):
    """A line a seat. What it says of the row at its cursor and of the row that was chosen are `DataTable`'s own messages."""

    TAKES_DIGITS = True
    HELP = """
    # The seats as a list
    One line a seat: section, row, where it lies, what it is, what it costs. **Space** chooses the seat or gives it up, **Enter** holds
    what is chosen, digits go to a row and a capital letter to a column, as on the map. **Tab** goes back to the map.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "screen.choose", "Pick", id="list.choose"),
        Binding("enter", "screen.hold", "Hold", id="list.hold"),  # As on the map; the table's own would choose.
        Binding("j", "cursor_down", "Down", show=False, id="list.down"),
        Binding("k", "cursor_up", "Up", show=False, id="list.up"),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self.cabin: Cabin | None = None
        self._keys = SeatKeys()

    def on_mount(self) -> None:
        for name in COLUMNS:
            self.add_column(name, key=name)

    def show(self, cabin: Cabin, chosen: Sequence[str]) -> None:
        """List a service's seats from now on."""
        self.cabin = cabin
        self.clear()
        for seat_id, seat in cabin.seats.items():
            words = (seat.designator, seatmap.cabin_name(seat.cabin), seat.row, place_words(seat))
            self.add_row(*words, self._state(seat_id, chosen), str(seat.price), key=seat_id)

    def changed(self, seat_ids: Iterable[str], chosen: Sequence[str]) -> None:
        """Say anew what these seats are."""
        for seat_id in seat_ids:
            self.update_cell(seat_id, "State", self._state(seat_id, chosen), update_width=True)

    def move_to(self, seat_id: str) -> None:
        """Put the cursor on a seat's line."""
        if self.cabin is not None and seat_id in self.cabin.seats:
            self.move_cursor(row=self.get_row_index(seat_id))

    @property
    def cursor(self) -> str:
        """Return the seat at the cursor; "" without any."""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value) if self.row_count else ""

    def _state(self, seat_id: str, chosen: Sequence[str]) -> str:
        assert self.cabin is not None, "a list is shown of a cabin"
        return "chosen" if seat_id in chosen else state_word(self.cabin.seats[seat_id])

    def on_key(self, event: events.Key) -> None:
        """Digits go to a row, capital letters to a column."""
        self._keys.follow(event, self)


def place_words(seat: SeatInfo) -> str:
    """Return where a seat lies and who it is for: "window, exit"."""
    words = ["window" if seat.window else "aisle" if seat.aisle else "middle"]
    words += [word for word, given in (("exit", seat.exit), ("wheelchair", seat.accessible)) if given]
    return ", ".join(words)


def state_word(seat: SeatInfo) -> str:
    """Return what a seat is to the one who looks."""
    return "yours" if seat.mine else {"available": "free", "occupied": "taken", "blocked": "not sold"}.get(seat.state, seat.state)
