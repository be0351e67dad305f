"""Jumps to a seat by typing: digits go to a row, a capital letter to a column. One way of it for the map and for the list."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from textual import events
from textual.notifications import SeverityLevel

from client.tui.cabin import Cabin

ROW_KEYS_S = 2.5  # Digits typed within this time make one row number.


class Jump(NamedTuple):
    """Where a key goes: `seat_id` is "" where there is no such place; `missing` is the row that was asked for and is not there."""

    seat_id: str = ""
    missing: str = ""


class SeatView(Protocol):
    """What the map and the list have in common: a cabin, and a cursor on one of its seats ("" without any)."""

    cabin: Cabin | None

    @property
    def cursor(self) -> str: ...
    def move_to(self, seat_id: str) -> None: ...
    def notify(self, message: str, *, severity: SeverityLevel) -> None: ...


class SeatKeys:
    """The digits typed so far."""

    def __init__(self) -> None:
        self._typed = ""
        self._typed_at = 0.0

    def jump(self, event: events.Key, cabin: Cabin, cursor: str) -> Jump | None:
        """Return where a key goes from the seat `cursor`; None where it is no key of these and goes its usual way."""
        typed, self._typed = self._typed, ""
        character = event.character or ""
        if character.isdigit():
            self._typed = typed + character if event.time - self._typed_at < ROW_KEYS_S else character
            self._typed_at = event.time
            return Jump(cabin.in_row(cursor, self._typed) or "")
        if event.key == "enter" and typed:  # However long after the digits: it must not hold what a slow hand wanted to go to.
            found = cabin.in_row(cursor, typed)
            return Jump(found or "", "" if found else typed)
        if character.isalpha() and character.isupper():
            return Jump(cabin.in_column(cursor, character) or "")
        return None

    def follow(self, event: events.Key, view: SeatView) -> None:
        """Take a view's cursor where a key goes, and keep the key from all else; one that is none of these goes its usual way."""
        if view.cabin is None or not view.cursor:
            return
        jump = self.jump(event, view.cabin, view.cursor)
        if jump is None:
            return
        event.stop()
        event.prevent_default()
        if jump.missing:
            view.notify(f"there is no row {jump.missing}", severity="warning")
        view.move_to(jump.seat_id)
