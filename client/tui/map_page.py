"""A page around the live map of one service: it opens the map and follows what happens to it until the page goes."""

from __future__ import annotations

from asyncio import sleep
from typing import TypeVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from client.tui.cabin import Cabin
from client.tui.page import Page, TopBar
from client.tui.seat_grid import SeatGrid, legend
from client.tui.trip import seat_words
from datastore.errors import HoldfastError

WATCH_MS = 4_000
AGAIN_S = 1.0
GATHER_S = 0.08  # News of a busy sale are drawn together, a dozen times a second: sooner nobody sees, and keys come first.
R = TypeVar("R")


class MapPage(Page[R]):
    """The map, beside it the focused seat and whatever `beside` says."""

    def __init__(self, service_id: str) -> None:
        super().__init__()
        self.service_id = service_id
        self.cabin: Cabin | None = None

    def content(self) -> ComposeResult:
        with Horizontal():
            yield SeatGrid(id="grid")
            with Vertical(id="beside"):
                yield Static(id="seat")
                yield Static(id="chosen")
        yield Static(legend(), id="legend")

    def beside(self, cabin: Cabin) -> Text:
        """Return what stands beside the map, below the focused seat."""
        raise NotImplementedError

    def opened(self, cabin: Cabin) -> None:
        """Called once the map is there."""

    def toggle(self, cabin: Cabin, seat_id: str) -> None:
        """Mark a seat, or give up its mark."""
        raise NotImplementedError

    def action_choose(self) -> None:
        """Mark the seat at the cursor."""
        cursor = self.query_one(SeatGrid).cursor
        if self.cabin is not None and cursor in self.cabin.seats:
            self.toggle(self.cabin, cursor)

    def on_mount(self) -> None:
        self.query_one(TopBar).show(f"{self.heading} of {self.service_id}")
        self.query_one(SeatGrid).focus()
        self._follow()

    @work(group="map", exclusive=True)
    async def _follow(self) -> None:
        """Show the map, then what happens to it, until the page goes."""
        service_id, grid = self.service_id, self.query_one(SeatGrid)
        grid.loading = True
        try:
            self.cabin = cabin = Cabin(await self.holdfast.ask(lambda client: client.seat_map(service_id)))
        except HoldfastError as error:
            self.holdfast.say_error(error, "no seat map")
            return
        finally:
            grid.loading = False
        grid.show(cabin)
        grid.focus()
        self.opened(cabin)
        seen = 0
        while True:
            try:
                news = await self.holdfast.ask(lambda client, seen=seen: client.watch_seats(service_id, seen=seen, wait_ms=WATCH_MS))  # type: ignore[misc]
            except HoldfastError as error:
                self.query_one("#seat", Static).update(Text(f"not live: {error.detail}", "#E69F00"))
                await self.holdfast.until_heard(AGAIN_S)
                continue
            seen = news.seen
            if news.taken is not None:
                grid.changed(cabin.take(news.taken))
                self.describe()
                await sleep(GATHER_S)

    @on(SeatGrid.Moved)
    def describe(self) -> None:
        """Bring what stands beside the map up to date."""
        cabin, grid = self.cabin, self.query_one(SeatGrid)
        if cabin is None or grid.cursor not in cabin.seats:
            return
        first, *rest = seat_words(cabin.seats[grid.cursor])
        self.query_one("#seat", Static).update(Text.assemble((first + "\n", "bold"), "\n".join(rest)))
        self.query_one("#chosen", Static).update(self.beside(cabin))
