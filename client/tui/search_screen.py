"""Where to, when, how many: trips over all operators as bars over one clock, or the plain list of what a place has that day."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, DataTable, Input, Label, OptionList, Select, Static
from textual.widgets.option_list import Option

from client import inputs, show
from client.tui import timeline
from client.tui.calendar_screen import CalendarScreen
from client.tui.gateway import Client
from client.tui.page import Page
from client.tui.place_field import PlaceField
from client.tui.seats_screen import SeatsScreen
from client.tui.trip import Trip
from datastore import messages
from datastore.errors import HoldfastError, InvalidRequest
from datastore.messages import ServiceInfo
from datastore.wording import counted

PARTY_MAX = 9
PAGE = 200
TRIPS = 30
LIST_FRAME = 8  # Characters that the list keeps for its edges and the scroll bar.
STOPS = (("any", 2), ("1 at most", 1), ("direct", 0))
CABINS = (("any", ""), ("economy", "Y"), ("premium", "W"), ("business", "J"), ("first", "F"))
SORTS = tuple((word, word) for word in ("price", "duration", "departure", "arrival", "stops"))
EMPTY = {"back": "one way", "date": "today"}  # What a field means with nothing in it, where that is not any.
STYLES = {
    timeline.FLYING: "#56B4E9",
    timeline.CHANGED: "#E69F00",
    timeline.WAITING: "#999999",
    timeline.NIGHT: "#999999 reverse",
    timeline.EMPTY: "",
}
PARTIES = tuple((str(number), number) for number in range(1, PARTY_MAX + 1))
CHOICES = (("party", "Party", PARTIES), ("stops", "Stops", STOPS), ("cabin", "Cabin", CABINS), ("sort", "Sort by", SORTS))


class SearchScreen(Page[object]):
    """Search, and what was found."""

    heading = "Travel"
    HELP = """
    # Search
    Places are codes (EZE), cities (Buenos Aires) or names; suggestions open below, **↓** goes into them. Dates are 2026-12-01,
    today, tomorrow or +3d; **Ctrl+↑** and **Ctrl+↓** go a day on or back, **F6** opens a calendar with the lowest prices. With
    **Back** the way back is chosen after the way there.

    **Enter** in a field searches: with From and To trips over all operators, each a bar over one clock (━ in the air, ┄ waiting,
    another colour after a change of airline); with one of them empty the plain list of services, halls and cinemas too. **F7**
    changes between both. **Enter** on a result opens the seat maps. **Esc** gives a search up, or leaves the fields.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_field('origin')", "Search", priority=True, id="search.focus"),  # No field has a use for "/".
        Binding("ctrl+up", "day(1)", "Next day", show=False, id="search.next_day"),
        Binding("ctrl+down", "day(-1)", "Day before", show=False, id="search.previous_day"),
        Binding("f6", "calendar", "Calendar", id="search.calendar"),
        Binding("f7", "plain", "Trips/services", id="search.plain"),
        Binding("escape", "stop", "Stop", show=False, id="search.stop"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, ServiceInfo] = {}
        self._trips: list[messages.Trip] = []
        self._answer: messages.TripsAnswer | None = None
        self._outbound: messages.Trip | None = None  # Chosen; the way back is being chosen now.
        self._plain = False

    def content(self) -> ComposeResult:
        with Horizontal(classes="fields"):
            for name, label in (("origin", "From"), ("destination", "To")):
                with Vertical(classes="field"):
                    yield Label(label)
                    yield PlaceField(name)
            for name, label, value in (("date", "Date", "tomorrow"), ("back", "Back", ""), ("operator", "Airlines", "")):
                with Vertical(classes="field short"):
                    yield Label(label)
                    yield Input(value=value, placeholder=EMPTY.get(name, "any"), id=name, compact=True, max_length=60)
        with Horizontal(classes="fields"):
            for name, label, choices in CHOICES:
                with Vertical(classes="field"):
                    yield Label(label)
                    yield Select[object](choices, value=choices[0][1], allow_blank=False, id=name, compact=True)
        yield Static("Where to? Enter searches; with one end empty it lists what there is that day.", id="found")
        yield Static("", id="clock")
        with ContentSwitcher(initial="trips", id="results"):
            yield OptionList(id="trips")
            table: DataTable[str | Text] = DataTable(id="services", cursor_type="row", zebra_stripes=True)
            yield table

    def on_mount(self) -> None:
        table = self.query_one("#services", DataTable)
        for name in ("Departs", "Arrives", "Service", "Route", "Time", "Operator / title", "Free", "From"):
            table.add_column(name, key=name)
        self.query_one("#origin", Input).focus()

    # --- asking ------------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.search()

    @property
    def _party(self) -> int:
        party = self.query_one("#party", Select).value
        return party if isinstance(party, int) else 1

    def search(self) -> None:
        """Find what fits the fields: trips where both ends are given, the plain list of services otherwise."""
        origin, destination = self._field("origin").place, self._field("destination").place
        if origin and destination and not self._plain:
            self._search_trips(origin, destination)
        else:
            self._list_services(self._field("origin").code, self._field("destination").code)

    def _field(self, name: str) -> PlaceField:
        return self.query_one(f"#{name}-field", PlaceField)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self.query_one("#found", Static).update(Text(text, "#D55E00" if wrong else ""))
        self.query_one("#clock", Static).display = False

    @work(group="search", exclusive=True)
    async def _search_trips(self, origin: str, destination: str) -> None:
        results, options = self.query_one("#results", ContentSwitcher), self.query_one("#trips", OptionList)
        results.current = "trips"
        options.loading = True
        self._say("searching …   Esc gives it up")
        try:
            question = self._question(origin, destination)
            answer = await self.holdfast.ask(question)
        except HoldfastError as error:
            self._say(error.detail, wrong=True)
            return
        finally:
            options.loading = False
        self._answer, self._outbound = answer, None
        self._show_trips(answer.outbound)

    def _question(self, origin: str, destination: str) -> Callable[[Client], messages.TripsAnswer]:
        """Return what the fields ask.

        Raises:
            InvalidRequest: A date cannot be read.
        """
        today = date.today()
        back, airlines = self._value("back"), self._value("operator")
        day, return_day, party = inputs.day(self._value("date"), today), inputs.day(back, today) if back else "", self._party
        stops, cabin, sort = (self.query_one(f"#{name}", Select).value for name in ("stops", "cabin", "sort"))
        return lambda client: client.search(
            origin,
            destination,
            day,
            return_date=return_day,
            passengers=party,
            stops_max=int(str(stops)),
            cabin=str(cabin),
            airlines=airlines.upper().replace(",", " ").split(),
            sort=str(sort),
            limit=TRIPS,
        )

    def _show_trips(self, trips: list[messages.Trip]) -> None:
        answer, options = self._answer, self.query_one("#trips", OptionList)
        self._trips = trips
        options.clear_options()
        width = self._bar_width
        span_ms = timeline.stretch(trips)
        for number, trip in enumerate(trips):
            options.add_option(Option(trip_text(trip, span_ms, width), id=str(number)))
        if answer is None:
            return
        silent = f"   incomplete: {', '.join(sorted(answer.partial))} did not answer" if answer.partial else ""
        more = f", {answer.more} more" if answer.more else ""
        count = counted(len(trips), "way back", "ways back") if self._outbound else counted(len(trips), "trip")
        there = "; Esc: another way there" if self._outbound else ""
        none = "no trips that day; F6 shows other days, F7 what flies at all"
        found = f"{count} for {answer.passengers}{there}{more}{silent}. None is beaten in price, time and changes at once"
        self._say(found if trips else f"{none}{silent}")
        self._draw_clock()
        if trips:
            options.highlighted = 0
            options.focus()

    def _draw_clock(self) -> None:
        """Show the clock that all bars are drawn over, in the time of the place where the first trip begins."""
        clock = self.query_one("#clock", Static)
        clock.display = bool(self._trips)
        if self._trips:
            clock.update(Text(timeline.clock(self._trips, self._bar_width), "dim"))

    def on_resize(self, event: events.Resize) -> None:
        """Bars are as wide as the screen."""
        if self._trips:
            marked = self.query_one("#trips", OptionList).highlighted
            self.call_after_refresh(self._redraw_trips, marked)

    @property
    def _bar_width(self) -> int:
        return max(timeline.WIDTH_MIN, self.size.width - LIST_FRAME)

    def _redraw_trips(self, marked: int | None) -> None:
        options = self.query_one("#trips", OptionList)
        width, span_ms = self._bar_width, timeline.stretch(self._trips)
        for number, trip in enumerate(self._trips):
            options.replace_option_prompt(str(number), trip_text(trip, span_ms, width))
        options.highlighted = marked
        self._draw_clock()

    @work(group="search", exclusive=True)
    async def _list_services(self, origin: str, destination: str) -> None:
        table = self.query_one("#services", DataTable)
        self.query_one("#results", ContentSwitcher).current = "services"
        table.loading = True
        self._say("searching …   Esc gives it up")
        try:
            day = inputs.day(self._value("date"), date.today())
            operator = self._value("operator").upper()
            answer = await self.holdfast.ask(
                lambda client: client.services(day, operator=operator, origin=origin.upper(), destination=destination.upper(), limit=PAGE)
            )
        except HoldfastError as error:
            self._say(error.detail, wrong=True)
            return
        finally:
            table.loading = False
        table.clear()
        self._found = {service.service_id: service for service in answer.services}
        for service in answer.services:
            table.add_row(*_row(service), key=service.service_id)
        silent = f"   incomplete: {', '.join(sorted(answer.partial))} did not answer" if answer.partial else ""
        listed = f"the first {PAGE} services" if answer.next else counted(len(answer.services), "service")
        self._say(f"{listed if answer.services else 'no services'} on {day}{silent}")
        if answer.services:
            table.focus()

    def _value(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()

    # --- actions -----------------------------------------------------------------------------------------------------

    def action_focus_field(self, field: str) -> None:
        """Go to a field; what is typed replaces what was there."""
        self.query_one(f"#{field}", Input).focus().action_select_all()

    def action_day(self, days: int) -> None:
        """Move the date and search again."""
        field = self.query_one("#date", Input)
        try:
            day = date.fromisoformat(inputs.day(field.value, date.today()))
        except InvalidRequest as error:
            self._say(error.detail, wrong=True)
            return
        field.value = (day + timedelta(days)).isoformat()
        self.search()

    @work(group="calendar", exclusive=True)
    async def action_calendar(self) -> None:
        """Choose a day; in the field Back the day of return."""
        focused = self.focused.id if self.focused is not None and self.focused.id in ("date", "back") else "date"
        try:
            day = date.fromisoformat(inputs.day(self._value(focused) or self._value("date"), date.today()))
        except InvalidRequest:
            day = date.today()
        ends = self._field("origin").place, self._field("destination").place
        origin, destination = ends if focused == "date" else ends[::-1]
        chosen = await self.app.push_screen_wait(CalendarScreen(day, origin, destination, self._party))
        if chosen is not None:
            self.query_one(f"#{focused}", Input).value = chosen
            self.search()

    def action_plain(self) -> None:
        """Change between trips and the plain list of services."""
        self._plain = not self._plain
        self.search()

    def action_stop(self) -> None:
        """Give a search up, choose another way there, or go back to the fields."""
        if self.at_work("search"):
            self.workers.cancel_group(self, "search")
            self._say("given up")
        elif self._outbound is not None and self._answer is not None:
            self._outbound = None
            self._show_trips(self._answer.outbound)
        else:
            # Out of the fields, so that digits are keys again: 4 is the cluster.
            found = self.query_one(f"#{self.query_one('#results', ContentSwitcher).current}")
            self.set_focus(found if self._trips or self._found else None)

    @on(OptionList.OptionSelected, "#trips")
    def _take_trip(self, event: OptionList.OptionSelected) -> None:
        trip = self._trips[event.option_index]
        if self._answer is not None and self._outbound is None and self._answer.inbound:
            self._outbound = trip
            self._show_trips(self._answer.inbound)
            return
        legs = [leg.service for way in (self._outbound, trip) if way is not None for leg in way.legs]
        # An offer is of one way; over both ways the maps say what each seat costs.
        offer = trip.offer if self._outbound is None else ""
        cabins = [leg.parts[0].cabin if leg.parts else "" for way in (self._outbound, trip) if way is not None for leg in way.legs]
        self.app.push_screen(SeatsScreen(Trip.of(legs, self._party, offer=offer, cabins=cabins)))

    @on(DataTable.RowSelected, "#services")
    def _open(self, event: DataTable.RowSelected) -> None:
        service = self._found.get(str(event.row_key.value))
        if service is not None:
            self.app.push_screen(SeatsScreen(Trip.of([service], self._party)))


def trip_text(trip: messages.Trip, span_ms: tuple[int, int], width: int) -> Text:
    """Return a trip in three lines: what it is, when one is where, what to know."""
    day = trip.legs[0].service.date
    left = "#D55E00" if not trip.seats_left else ""
    first = Text.assemble(
        (f"{show.local_time(trip.departs, day)} → {show.local_time(trip.arrives, day):<7}", "bold"),
        f" {timeline.hours(trip.duration_min):>6}  {timeline.stops_words(trip):<8} {timeline.route_words(trip)}",
    )
    price = Text.assemble((f"{trip.seats_left} left  ", left), (str(trip.total), "bold #009E73"))
    first.append(" " * max(2, width - first.cell_len - price.cell_len))
    first.append_text(price)
    first.append("\n")
    for piece in timeline.bar(trip, span_ms, width):
        first.append(piece.text, STYLES[piece.role])
    services = " ".join(leg.service.service_id for leg in trip.legs)
    return first.append(f"\n{services}   {timeline.terms_words(trip)}\n", "dim")


def _row(service: ServiceInfo) -> list[str | Text]:
    gone = 0 < service.departs_ms < time.time() * 1000
    state = "departed" if gone else service.state if service.state != "open" else ""
    free = Text(state or f"{service.free}/{service.capacity}", "#D55E00" if state or not service.free else "")
    return [
        show.local_time(service.departs, service.date),
        show.local_time(service.arrives, service.date),
        service.service_id,
        show.route(service),
        timeline.hours(service.duration_min),
        service.title or service.operator_name,
        free,
        str(service.from_price) if service.from_price is not None else "-",
    ]
