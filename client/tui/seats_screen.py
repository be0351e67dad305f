"""Choose seats on each segment of a trip, on a live map; hold them all at once."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, DataTable, Static

from client import show
from client.api import new_request_id
from client.tui.cabin import Cabin
from client.tui.gateway import Client
from client.tui.map_page import AGAIN_S, GATHER_S, WATCH_MS
from client.tui.page import Page, TopBar
from client.tui.passengers_screen import PassengersScreen
from client.tui.seat_grid import SeatGrid, legend
from client.tui.seat_list import SeatList
from client.tui.trip import Trip, seat_words
from datastore.errors import HoldfastError
from datastore.messages import HoldAnswer


class SeatsScreen(Page[object]):
    """The seat map of a segment, beside what is known of the focused seat and of the trip."""

    heading = "Seats"
    HELP = SeatGrid.HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "hold", "Hold", id="trip.hold"),
        Binding("b", "best", "Best", id="trip.best"),
        Binding("n,right_square_bracket", "segment(1)", "Leg", id="trip.next"),
        Binding("left_square_bracket", "segment(-1)", "Leg before", show=False, id="trip.previous"),
        Binding("tab", "list", "View", id="trip.list"),
        Binding("escape", "back", "Back", id="trip.back"),
    ]

    def __init__(self, trip: Trip) -> None:
        super().__init__()
        self.trip = trip
        self.number = 0
        self._cabins: dict[int, Cabin] = {}

    def content(self) -> ComposeResult:
        yield Static(id="legs")
        with Horizontal():
            with ContentSwitcher(initial="grid", id="views"):
                yield SeatGrid(id="grid")
                yield SeatList(id="list")
            with Vertical(id="beside"):
                yield Static(id="seat")
                yield Static(id="chosen")
        yield Static(legend(), id="legend")

    def on_mount(self) -> None:
        self.query_one(SeatGrid).focus()
        self._open_segment()

    # --- the map -----------------------------------------------------------------------------------------------------

    @property
    def cabin(self) -> Cabin | None:
        return self._cabins.get(self.number)

    @work(group="map", exclusive=True)
    async def _open_segment(self) -> None:
        """Show a segment's map, then follow what happens to it until another is shown or the screen goes."""
        number, service = self.number, self.trip.segments[self.number].service
        grid = self.query_one(SeatGrid)
        self._describe()
        grid.loading = number not in self._cabins
        try:
            answer = await self.holdfast.ask(lambda client: client.seat_map(service.service_id))
        except HoldfastError as error:
            self.holdfast.say_error(error, "no seat map")
            return
        finally:
            grid.loading = False
        cabin = self._cabins[number] = Cabin(answer)
        chosen = [seat.seat_id for seat in self.trip.segments[number].seats]
        # An aircraft's map begins where the seats are that the trip's price is of; a hall's at its front.
        wanted = self._wanted(cabin, number)
        grid.show(cabin, chosen[0] if chosen else cabin.first(wanted) if service.kind == "airline" else "")
        grid.choose(chosen)
        self.query_one(SeatList).show(cabin, chosen)
        self.query_one(SeatList).move_to(grid.cursor)
        self._describe()
        await self._follow(cabin, number)

    async def _follow(self, cabin: Cabin, number: int) -> None:
        seen = 0
        while self.number == number:
            try:
                news = await self.holdfast.ask(
                    lambda client, seen=seen: client.watch_seats(cabin.service.service_id, seen=seen, wait_ms=WATCH_MS)  # type: ignore[misc]
                )
            except HoldfastError as error:
                self.query_one("#seat", Static).update(Text(f"not live: {error.detail}", "#E69F00"))
                await self.holdfast.until_heard(AGAIN_S)
                continue
            seen = news.seen
            cabin.service.state = news.state
            if news.taken is not None:
                self._take_news(cabin, number, cabin.take(news.taken))
                await sleep(GATHER_S)

    def _take_news(self, cabin: Cabin, number: int, changed: list[str]) -> None:
        """Show what changed; seats chosen here that others were faster to hold are given up, with the nearest in their place."""
        self.query_one(SeatGrid).changed(changed)
        self.query_one(SeatList).changed(changed, self._chosen)
        gone = [seat_id for seat_id in changed if cabin.seats[seat_id].state != "available" and not cabin.seats[seat_id].mine]
        lost = self.trip.lose(number, gone)
        for seat in lost:
            self._propose(cabin, seat.seat_id, f"{seat.designator} was just {_word(cabin, seat.seat_id)} by another")
        if lost or self.query_one(SeatGrid).cursor in changed:
            # What stands beside the map is laid out anew then only: others' seats elsewhere do not concern it.
            self._describe()

    def _propose(self, cabin: Cabin, seat_id: str, why: str) -> None:
        chosen = self._chosen
        near = cabin.nearest_free(seat_id, chosen)
        grid = self.query_one(SeatGrid)
        self._choose(chosen)
        if near is None:
            self.notify(f"{why}; no other seat is free in this cabin", severity="warning")
            return
        grid.move_to(near)
        self.notify(f"{why}; the nearest free seat is {cabin.seats[near].designator}: Space takes it", severity="warning", timeout=8)

    # --- what is told beside the map -----------------------------------------------------------------------------------

    def _describe(self) -> None:
        legs = Text()
        for number, segment in enumerate(self.trip.segments):
            service = segment.service
            mark = "▸" if number == self.number else " "
            done = f"{len(segment.seats)}/{self.trip.party}"
            style = "bold" if number == self.number else ""
            when = show.local_time(service.departs, service.date)
            legs.append("\n" if number else "")
            legs.append(f"{mark} {number + 1}. {service.service_id} {show.route(service)} {when}  ", style)
            legs.append(f"seats {done}  ", "#009E73" if len(segment.seats) == self.trip.party else "#E69F00")
        if len(self.trip.segments) > 1:
            ready = sum(len(segment.seats) == self.trip.party for segment in self.trip.segments)
            legs.append(f"\n  {ready} of {len(self.trip.segments)} legs chosen; they are held together or not at all. n: next leg", "dim")
        self.query_one("#legs", Static).update(legs)
        chosen = Text("chosen\n", "bold")
        for segment in self.trip.segments:
            for seat in segment.seats:
                chosen.append(f"◉ {seat.designator:<6} {seat.price}\n")
        missing = sum(self.trip.party - len(segment.seats) for segment in self.trip.segments)
        chosen.append(f"\nin all  {' + '.join(str(sum_) for sum_ in self.trip.totals()) or '-'}\n")
        chosen.append(f"{missing} more to choose" if missing else "Enter holds them, all or none", "#E69F00" if missing else "bold #009E73")
        self.query_one("#chosen", Static).update(chosen)
        self.query_one(TopBar).show(f"Seats, party of {self.trip.party}")
        cabin, grid = self.cabin, self.query_one(SeatGrid)
        if cabin is not None and grid.cursor in cabin.seats:
            first, *rest = seat_words(cabin.seats[grid.cursor])
            self.query_one("#seat", Static).update(Text.assemble((first + "\n", "bold"), "\n".join(rest)))

    # --- choosing ----------------------------------------------------------------------------------------------------

    @on(SeatGrid.Moved)
    def _moved(self) -> None:
        self._describe()

    @on(DataTable.RowHighlighted, "#list")
    def _moved_in_list(self, event: DataTable.RowHighlighted) -> None:
        """The map's cursor goes along, so that what stands beside speaks of the same seat."""
        if self.query_one("#views", ContentSwitcher).current == "list":
            self.query_one(SeatGrid).move_to(str(event.row_key.value))

    @property
    def _view(self) -> SeatGrid | SeatList:
        """Return what is shown of the seats: the map or the list."""
        is_map = self.query_one("#views", ContentSwitcher).current == "grid"
        return self.query_one(SeatGrid) if is_map else self.query_one(SeatList)

    @property
    def _chosen(self) -> list[str]:
        return [seat.seat_id for seat in self.trip.segments[self.number].seats]

    def _choose(self, seat_ids: list[str]) -> None:
        """Mark exactly these seats as chosen, on the map and in the list."""
        grid, table = self.query_one(SeatGrid), self.query_one(SeatList)
        before = grid.chosen
        grid.choose(seat_ids)
        if table.cabin is grid.cabin and grid.cabin is not None:
            table.changed({one for one in (*before, *seat_ids) if one in grid.cabin.seats}, seat_ids)

    def _looked_at(self) -> str:
        """Return the cabin or section at the cursor: where no seats were offered, the best are sought where one looks."""
        cursor = self.query_one(SeatGrid).cursor
        return self.cabin.seats[cursor].cabin if self.cabin is not None and cursor in self.cabin.seats else ""

    def _wanted(self, cabin: Cabin, number: int) -> str:
        return self.trip.segments[number].cabin or cabin.cheapest()

    @on(DataTable.RowSelected, "#list")
    def _row_selected(self, event: DataTable.RowSelected) -> None:
        self._toggle(str(event.row_key.value))

    def action_choose(self) -> None:
        """Choose the seat at the cursor of what is shown, or give it up."""
        if self._view.cursor:
            self._toggle(self._view.cursor)

    def _toggle(self, seat_id: str) -> None:
        cabin = self.cabin
        if cabin is None or seat_id not in cabin.seats:
            return
        why_not = self.trip.toggle(self.number, cabin.seats[seat_id])
        self._choose(self._chosen)
        if why_not:
            self.notify(why_not, severity="warning")
        self._describe()

    @work(group="hold", exclusive=True)
    async def action_best(self) -> None:
        """Hold the best seats that are left for the party on every segment, side by side: chosen where nobody can be faster."""
        trip, request_id = self.trip, new_request_id()
        if any(segment.seats for segment in trip.segments) and len(trip.segments) > 1:
            # Some seats were chosen by hand: those stay, and only this segment's are proposed.
            self._suggest_best()
            return
        # Of one service; of several the cursor says nothing of the others.
        cabin = trip.cabin or (self._looked_at() if len(trip.segments) == 1 else "")
        await self._hold(lambda client: best_seats(client, trip, cabin, request_id))

    def _suggest_best(self) -> None:
        """Choose seats side by side on this segment, of the cabin offered or looked at; they are held with those of the others."""
        cabin = self.cabin
        wanted = self.trip.segments[self.number].cabin or self._looked_at()
        run = cabin.free_run(self.trip.party, wanted) if cabin is not None else []
        if cabin is None or not run:
            self.notify("no such block is left; choose seats apart", severity="warning")
            return
        self.trip.segments[self.number].seats = [cabin.seats[one] for one in run]
        self._choose(run)
        self.query_one(SeatGrid).move_to(run[0])
        self._describe()

    @work(group="hold", exclusive=True)
    async def action_hold(self) -> None:
        """Hold what is chosen: all seats on all segments or none."""
        open_segment = self.trip.next_open(self.number - 1)
        if open_segment is not None:
            if open_segment != self.number:
                self.number = open_segment
                self._open_segment()
            else:
                missing = self.trip.party - len(self.trip.segments[self.number].seats)
                self.notify(f"{missing} more to choose here: Space chooses, b finds the best")
            return
        legs = [(segment.service.service_id, [seat.seat_id for seat in segment.seats]) for segment in self.trip.segments]
        request_id = new_request_id()
        await self._hold(lambda client: chosen_seats(client, legs, request_id))

    async def _hold(self, question: Callable[[Client], HoldAnswer]) -> None:
        views = self.query_one("#views")
        views.loading = True
        try:
            hold = await self.holdfast.hold(question)
        except HoldfastError as error:
            self._refused(error)
            return
        finally:
            views.loading = False
            self._view.focus()
        self._held(hold)

    def _refused(self, error: HoldfastError) -> None:
        """Roll back exactly what was chosen and is gone; say why for each segment, and go to the first with what is nearest."""
        if error.code in ("price_changed", "offer_expired"):
            self.trip.offer = ""
            said = f"{error.detail}; b holds the best seats at today's price"
            self.notify(said, title="the offer is no longer true", severity="warning", timeout=10)
            return
        # Of one service the error's own fields are its only leg.
        own = {"service_id": self.trip.segments[self.number].service.service_id, **error.fields}
        conflicts = self.trip.refused(error.fields.get("legs") or [own])
        if not conflicts:
            self.holdfast.say_error(error, "nothing was held")
            return
        where = "nothing was held on any leg" if len(self.trip.segments) > 1 else "nothing was held"
        self.notify("\n".join(one.words for one in conflicts), title=where, severity="error", timeout=10)
        first = conflicts[0]
        if first.number != self.number:
            self.number = first.number
            self._open_segment()
        elif self.cabin is not None and first.lost:
            self._propose(self.cabin, first.lost[0].seat_id, f"{', '.join(seat.designator for seat in first.lost)} gone")
        self._describe()

    def _held(self, hold: HoldAnswer) -> None:
        self.holdfast.take_hold(hold)
        for segment in self.trip.segments:
            segment.seats = []
        self._choose([])
        self._describe()
        self.app.push_screen(PassengersScreen(hold, [segment.service for segment in self.trip.segments]))

    # --- going about -----------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Other legs are there to go to only where there are some."""
        return len(self.trip.segments) > 1 if action == "segment" else True

    def action_segment(self, step: int) -> None:
        if len(self.trip.segments) > 1:
            self.number = (self.number + step) % len(self.trip.segments)
            self._open_segment()

    def action_list(self) -> None:
        """Change between the map and an equal list."""
        views = self.query_one("#views", ContentSwitcher)
        views.current = "list" if views.current == "grid" else "grid"
        self.query_one(SeatList).move_to(self.query_one(SeatGrid).cursor)
        self._view.focus()

    def action_back(self) -> None:
        self.number = -1  # Nobody follows this map any more.
        self.app.pop_screen()


def chosen_seats(client: Client, legs: Sequence[tuple[str, list[str]]], request_id: str) -> HoldAnswer:
    """Hold these seats on every leg, or nothing: one basket over all operators."""
    if len(legs) > 1:
        return client.hold_trip(legs, request_id=request_id)
    ((service_id, seats),) = legs
    return client.hold(service_id, seats, request_id=request_id)


def best_seats(client: Client, trip: Trip, cabin: str, request_id: str) -> HoldAnswer:
    """Hold the best seats side by side on every leg, of `cabin` ("": any), at the price of the trip's offer where it has one."""
    ids = [segment.service.service_id for segment in trip.segments]
    if trip.offer:
        cabin = ""  # An offer says itself of which seats it is.
    if len(ids) > 1:
        legs = [(one, trip.party) for one in ids]
        return client.hold_trip(legs, together=True, cabin=cabin, request_id=request_id, offer=trip.offer)
    return client.hold_any(ids[0], trip.party, cabin=cabin, together=True, request_id=request_id, offer=trip.offer)


def _word(cabin: Cabin, seat_id: str) -> str:
    return {"held": "held", "occupied": "bought", "blocked": "taken out of sale"}.get(cabin.seats[seat_id].state, "taken")
