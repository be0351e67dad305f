"""A field for a place: while one types, the balancers' own list of what is meant opens below it, typing slips forgiven."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, cast

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from client.tui.host import Host
from datastore.errors import HoldfastError
from datastore.messages import PlaceInfo

SHOWN = 8
LETTERS_MIN = 2  # One letter fits half of the world.


class PlaceField(Vertical):
    """An input with the places that fit below it; its id is the input's, with "-field" behind."""

    HELP = """
    # A place
    A code (EZE), a city (Buenos Aires) or a name; slips are forgiven. **↓** goes into the list, **Enter** takes what is marked,
    **Esc** closes it. Empty means any place.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "into_list", "Suggestions", show=False, id="place.list"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=f"{id}-field", classes="place")
        self._name = id
        self._known: dict[str, PlaceInfo] = {}
        self._taken = ""  # What was put in by a choice: nothing to suggest about that.

    def compose(self) -> ComposeResult:
        yield Input(placeholder="any", id=self._name, compact=True, max_length=60)
        places = OptionList(id=f"{self._name}-places", compact=True)
        places.display = False
        yield places

    @property
    def text(self) -> str:
        return self._input.value.strip()

    @property
    def place(self) -> str:
        """Return what is meant: a place's code where one was chosen or typed, else the words as they are."""
        known = self._known.get(self.text.casefold())
        return known.code if known is not None else self.text

    @property
    def code(self) -> str:
        """Return one place's code for what asks for nothing wider: of a city the first of its places."""
        wanted = self.text.casefold()
        city = next((place.code for place in self._known.values() if place.city.casefold() == wanted), "")
        return self.place if self.place != self.text or not city else city

    @property
    def _input(self) -> Input:
        return self.query_one(Input)

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        word = event.value.strip()
        if len(word) < LETTERS_MIN or word == self._taken or not self._input.has_focus:
            self._list.display = False
            return
        self._suggest(word)

    @work(group="suggest", exclusive=True)
    async def _suggest(self, word: str) -> None:
        try:
            found = await cast(Host, self.app).ask(lambda client: client.places(word))
        except HoldfastError as error:
            self.log(f"places: {error.detail}")  # The search itself says so where it matters.
            return
        for place in found:
            for name in (place.code, place.name):
                self._known[name.casefold()] = place
        options = self._list
        options.clear_options()
        cities = Counter((place.city, place.country) for place in found if place.city)
        for (city, country), places in cities.items():
            if places > 1 and city.casefold().startswith(word.casefold()):
                # A search takes a city for all its places.
                count = "both places" if places == 2 else f"all {places} places"
                options.add_option(Option(Text.assemble((city, "bold"), f", {country}: {count}"), id=city))
        for place in found[:SHOWN]:
            where = f"{place.city or place.name}, {place.country}" if place.country else place.name
            options.add_option(Option(Text.assemble((f"{place.code:<7}", "bold"), where), id=place.code))
        options.display = bool(found) and self._input.has_focus and [place.code.casefold() for place in found] != [word.casefold()]

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._list.display = False

    def action_into_list(self) -> None:
        if self._list.display:
            self._list.focus()
            self._list.highlighted = 0

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._taken = str(event.option.id)
        self._input.value = self._taken
        self.screen.set_focus(self._input)
        self._list.display = False
        self.screen.focus_next()  # The list is hidden, so this is the next field.

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and self._list.display:
            event.stop()
            self._list.display = False
            self._input.focus()
        elif event.key in ("tab", "shift+tab") and self._input.has_focus:
            self._list.display = False  # The next field is meant, not the list.

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self._close_unless_focused)

    def _close_unless_focused(self) -> None:
        if not self.has_focus_within:
            self._list.display = False
