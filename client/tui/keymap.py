"""The user's own keys: `keys.toml` in the wallet's folder.

    theme = "ansi-dark"

    [keys]
    "seats.choose" = "space,x"
    "trip.hold" = "ctrl+h"

A binding keeps its id whatever its key is; a word that names no binding, no key or no theme is refused with the nearest that there is,
before anything is shown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textual.binding import Binding
from textual.keys import Keys
from textual.screen import ModalScreen
from textual.theme import BUILTIN_THEMES

from client.tui import app as application
from client.tui import (
    ask_text,
    block_screen,
    bookings_screen,
    break_screen,
    calendar_screen,
    choice,
    cluster_screen,
    command_screen,
    form,
    help_screen,
    holds_screen,
    log_screen,
    manifest_screen,
    passengers_screen,
    payments_screen,
    place_field,
    question,
    quote_screen,
    rebook_screen,
    recover_screen,
    replay_screen,
    search_screen,
    seat_grid,
    seat_list,
    seats_screen,
    services_screen,
    start_screen,
    swap_screen,
    ticket_screen,
)
from datastore.settings import refuse

OWNERS: tuple[Any, ...] = (
    application.HoldfastApp,
    ask_text.AskText,
    block_screen.BlockScreen,
    bookings_screen.BookingsScreen,
    break_screen.BreakScreen,
    calendar_screen.CalendarScreen,
    choice.Choice,
    cluster_screen.ClusterScreen,
    command_screen.CommandScreen,
    form.Form,
    help_screen.HelpScreen,
    holds_screen.HoldsScreen,
    log_screen.LogScreen,
    manifest_screen.ManifestScreen,
    passengers_screen.PassengersScreen,
    payments_screen.PaymentsScreen,
    place_field.PlaceField,
    question.Question,
    quote_screen.QuoteScreen,
    rebook_screen.RebookScreen,
    recover_screen.RecoverScreen,
    replay_screen.ReplayScreen,
    search_screen.SearchScreen,
    seat_grid.SeatGrid,
    seat_list.SeatList,
    seats_screen.SeatsScreen,
    services_screen.ServicesScreen,
    start_screen.StartScreen,
    swap_screen.SwapScreen,
    ticket_screen.TicketScreen,
)
# What is on the screen together, so that one key cannot mean two things: a page, what is focused on it, and what works everywhere.
PLACES: tuple[tuple[Any, ...], ...] = (
    *((owner,) if issubclass(owner, ModalScreen) else (owner, application.HoldfastApp) for owner in OWNERS),
    (block_screen.BlockScreen, seat_grid.SeatGrid),
    (replay_screen.ReplayScreen, seat_grid.SeatGrid),
    (seats_screen.SeatsScreen, seat_grid.SeatGrid),
    (seats_screen.SeatsScreen, seat_list.SeatList),
    (swap_screen.SwapScreen, seat_grid.SeatGrid),
    (search_screen.SearchScreen, place_field.PlaceField),
)
MODIFIERS = ("ctrl", "shift", "alt")
NAMED = frozenset(key.value for key in Keys if re.fullmatch(r"[a-z][a-z0-9_]*", key.value))
# Names of printable keys as the framework spells them.
PUNCTUATION = frozenset(
    (
        "space",
        "slash",
        "comma",
        "full_stop",
        "minus",
        "plus",
        "equals_sign",
        "question_mark",
        "colon",
        "semicolon",
        "underscore",
        "tab",
        "left_square_bracket",
        "right_square_bracket",
    )
)


@dataclass(frozen=True)
class Wishes:
    """What the file says. `keys`: binding id -> keys with commas between."""

    keys: dict[str, str] = field(default_factory=dict)
    theme: str = ""


def bindings() -> dict[str, Binding]:
    """Return every binding that can be given another key, by its id."""
    found = {}
    for owner in OWNERS:
        for binding in owner.BINDINGS:
            if isinstance(binding, Binding) and binding.id:
                found[binding.id] = binding
    return found


def read(path: Path, theme: str = "") -> Wishes:
    """Return the wishes of a file, none where there is no file.

    Args:
        theme: One that was asked for otherwise, and goes first.
    Raises:
        ConfigInvalid: It cannot be read, or names something that there is not: the file, the name and the nearest right one.
    """
    content: Mapping[str, Any] = {}
    if path.exists():
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            refuse(str(path), "-", str(error))
    file = str(path)
    for name in content:
        if name not in ("keys", "theme"):
            refuse(file, name, "there is only theme, and the table keys", name, ("keys", "theme"))
    chosen = theme or content.get("theme", "")
    if chosen and (not isinstance(chosen, str) or chosen not in BUILTIN_THEMES):
        where = "--theme" if theme else file
        refuse(where, "theme", f"there is no theme {chosen!r}; there are {', '.join(BUILTIN_THEMES)}", str(chosen), BUILTIN_THEMES)
    table = content.get("keys", {})
    if not isinstance(table, Mapping):
        refuse(file, "keys", "must be a table: [keys]")
    known = bindings()
    for name, keys in table.items():
        if name not in known:
            refuse(file, f"keys.{name}", "no binding has this id; `holdfast tui --keys` lists them", name, known)
        if not isinstance(keys, str) or not keys:
            refuse(file, f"keys.{name}", 'must be a key, or several with commas between: "ctrl+h" or "space,x"')
        for key in keys.split(","):
            _check_key(file, name, key.strip())
    wished = {name: ",".join(key.strip() for key in keys.split(",")) for name, keys in table.items()}
    _check_places(file, wished)
    return Wishes(wished, str(chosen))


def _check_key(file: str, name: str, word: str) -> None:
    *modifiers, key = word.split("+")
    wrong = next((one for one in modifiers if one not in MODIFIERS), "")
    if wrong:
        refuse(file, f"keys.{name}", f"{word!r}: {wrong!r} is no modifier; there are {', '.join(MODIFIERS)}", wrong, MODIFIERS)
    if len(key) == 1 and key.isprintable():
        return
    if word not in NAMED and key not in NAMED | PUNCTUATION:
        near = sorted(NAMED | PUNCTUATION)
        refuse(file, f"keys.{name}", f"{word!r} is no key: write a character, or a name such as space, f6, ctrl+h, pageup", key, near)


def _check_places(file: str, wished: Mapping[str, str]) -> None:
    """Refuse a wish for a key that does something else in the same place."""
    for place in PLACES:
        does: dict[str, str] = {}
        # The user's own first, so that they are what a key is found to clash with.
        ours = [one for owner in place for one in owner.BINDINGS if isinstance(one, Binding) and one.id]
        for binding in sorted(ours, key=lambda one: one.id not in wished):
            name = str(binding.id)
            shipped = {one.key for one in Binding.make_bindings([binding])}
            for one in Binding.make_bindings([replace(binding, key=wished.get(name, binding.key))]):
                # A key of its own that a binding keeps is as it was shipped, whatever page has it too.
                other = does.setdefault(one.key, "" if name in wished and one.key in shipped else name)
                if other != name and other in wished:
                    refuse(file, f"keys.{other}", f"{one.key!r} does {name} there ({binding.description}); give that another key too")


def apply(app: application.HoldfastApp, wishes: Wishes) -> None:
    """Give an application that is not running yet the user's keys and theme."""
    app.set_keymap(wishes.keys)
    app.own_keys = wishes.keys
    if wishes.theme:
        app.theme = wishes.theme
