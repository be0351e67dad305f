"""Where to, when, how many: the services that fit, each with its price and seats left."""

from __future__ import annotations

from datetime import date, timedelta
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.suggester import Suggester
from textual.widgets import DataTable, Input, Label, Select, Static

from client import inputs, show
from client.tui.page import Page
from client.tui.seats_screen import SeatsScreen
from client.tui.trip import Trip
from datastore.errors import HoldfastError
from datastore.messages import PlaceInfo, ServiceInfo

PARTY_MAX = 9
PAGE = 200


class PlaceSuggester(Suggester):
    """Completes a code, a city or a name to a place's code and city."""

    def __init__(self, places: list[PlaceInfo]) -> None:
        super().__init__(case_sensitive=False)
        self._places = places

    async def get_suggestion(self, value: str) -> str | None:
        wanted = value.casefold()
        for place in self._places:
            for word in (place.code, place.city, place.name):
                if word.casefold().startswith(wanted):
                    return value + word[len(value) :]
        return None


class SearchScreen(Page[object]):
    """Search, and the services found."""

    heading = "Travel"
    HELP = """
    # Search
    Places are codes (EZE), cities (Buenos Aires) or names; **→** takes the suggestion. Dates are 2026-12-01, today, tomorrow
    or +3d; **Ctrl+↑** and **Ctrl+↓** in the date go a day on or back. Leave the origin empty to see halls and cinemas too.
    **Enter** in a field searches, **Enter** on a service opens its seat map.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "focus_field('origin')", "Search", id="search.focus"),
        Binding("ctrl+up", "day(1)", "Next day", id="search.next_day"),
        Binding("ctrl+down", "day(-1)", "Day before", id="search.previous_day"),
        Binding("escape", "stop", "Stop", show=False, id="search.stop"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._places: list[PlaceInfo] = []
        self._found: dict[str, ServiceInfo] = {}

    def content(self) -> ComposeResult:
        with Horizontal(id="question"):
            with Vertical(classes="field"):
                yield Label("From")
                yield Input(placeholder="any", id="origin")
            with Vertical(classes="field"):
                yield Label("To")
                yield Input(placeholder="any", id="destination")
            with Vertical(classes="field"):
                yield Label("Date")
                yield Input(value="tomorrow", id="date")
            with Vertical(classes="field"):
                yield Label("Operator")
                yield Input(placeholder="any", id="operator", max_length=8)
            with Vertical(classes="field"):
                yield Label("Party")
                numbers = [(str(number), number) for number in range(1, PARTY_MAX + 1)]
                yield Select(numbers, value=1, allow_blank=False, id="party", compact=True)
        yield Static("", id="found")
        table: DataTable[str | Text] = DataTable(id="services", cursor_type="row", zebra_stripes=True)
        yield table

    def on_mount(self) -> None:
        table = self.query_one("#services", DataTable)
        for name in ("Departs", "Arrives", "Service", "Route", "Time", "Operator / title", "Free", "From"):
            table.add_column(name, key=name)
        self.query_one("#origin", Input).focus()
        self._learn_places()

    @work(group="places")
    async def _learn_places(self) -> None:
        try:
            self._places = await self.holdfast.ask(lambda client: client.places())
        except HoldfastError as error:
            self.log(f"places: {error.detail}")
            return
        for field in ("origin", "destination"):
            self.query_one(f"#{field}", Input).suggester = PlaceSuggester(self._places)

    # --- asking ------------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.search()

    @work(group="search", exclusive=True)
    async def search(self) -> None:
        """Find the services that fit what the fields say."""
        table = self.query_one("#services", DataTable)
        said = self.query_one("#found", Static)
        table.loading = True
        try:
            day = inputs.day(self._value("date"), date.today())
            origin, destination = self._place("origin"), self._place("destination")
            operator = self._value("operator").upper()
            answer = await self.holdfast.ask(
                lambda client: client.services(day, operator=operator, origin=origin, destination=destination, limit=PAGE)
            )
        except HoldfastError as error:
            said.update(Text(error.detail, "#D55E00"))
            return
        finally:
            table.loading = False
        table.clear()
        self._found = {service.service_id: service for service in answer.services}
        for service in answer.services:
            table.add_row(*_row(service), key=service.service_id)
        silent = f"   incomplete: {', '.join(sorted(answer.partial))} did not answer" if answer.partial else ""
        more = f"the first {PAGE}" if answer.next else str(len(answer.services))
        said.update(f"{more} services on {day}{silent}" if answer.services else f"no services on {day}{silent}")
        if answer.services:
            table.focus()

    def _value(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()

    def _place(self, field: str) -> str:
        """Return the code of what was typed: a city or a name stands for its place."""
        word = self._value(field)
        wanted = word.casefold()
        exact = (place.code for place in self._places if wanted in (place.code.casefold(), place.city.casefold(), place.name.casefold()))
        return next(exact, word.upper())

    # --- actions -----------------------------------------------------------------------------------------------------

    def action_focus_field(self, field: str) -> None:
        self.query_one(f"#{field}", Input).focus()

    def action_day(self, days: int) -> None:
        """Move the date and search again."""
        field = self.query_one("#date", Input)
        try:
            day = date.fromisoformat(inputs.day(field.value, date.today()))
        except HoldfastError as error:
            self.query_one("#found", Static).update(Text(error.detail, "#D55E00"))
            return
        field.value = (day + timedelta(days)).isoformat()
        self.search()

    def action_stop(self) -> None:
        """Give a search up, or go back to the fields."""
        self.workers.cancel_group(self, "search")
        self.query_one("#origin", Input).focus()

    @on(DataTable.RowSelected, "#services")
    def _open(self, event: DataTable.RowSelected) -> None:
        service = self._found.get(str(event.row_key.value))
        party = self.query_one("#party", Select).value
        if service is not None and isinstance(party, int):
            self.app.push_screen(SeatsScreen(Trip.of([service], party)))


def _row(service: ServiceInfo) -> list[str | Text]:
    closed = service.state != "open"
    free = Text(service.state if closed else f"{service.free}/{service.capacity}", "#D55E00" if closed or not service.free else "")
    hours, minutes = divmod(service.duration_min, 60)
    return [
        show.local_time(service.departs, service.date),
        show.local_time(service.arrives, service.date),
        service.service_id,
        show.route(service),
        f"{hours}h{minutes:02d}",
        service.title or service.operator_name,
        free,
        str(service.from_price) if service.from_price is not None else "-",
    ]
