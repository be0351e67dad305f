"""What to say of a seat that a service does not have: the nearest that it has. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from datastore.errors import UnknownSeat, nearest, shown
from datastore.model import Layout

NEAR_MAX = 3
NUMBERED = re.compile(r"(\d{1,4})([A-Z]*)", re.ASCII)


def hint(near: Sequence[str]) -> str:
    """Return the end of a sentence: what was perhaps meant."""
    if not near:
        return ""
    return f"; the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}"


def nearest_seats(layout: Layout, word: str) -> list[str]:
    """Return designators like `word`: by their letters, else ("99Z") the seats of the row whose number is nearest."""
    word = unicodedata.normalize("NFKC", word[:64]).strip().upper()  # Full-width digits of a keyboard for Chinese are digits too.
    near = nearest(word, layout.by_designator)
    parts = NUMBERED.fullmatch(word[:16])
    if near or not parts:
        return near
    number, letters = int(parts[1]), parts[2]
    rows = [seat for seat in layout.seats if seat.row.isascii() and seat.row.isdigit()]
    rows.sort(key=lambda seat: (abs(int(seat.row) - number), seat.column != letters, seat.position))
    return [seat.designator for seat in rows[:NEAR_MAX]]


def no_such_seat(service_id: str, layout: Layout, word: str) -> UnknownSeat:
    """Return the refusal of a seat that is not there."""
    near = nearest_seats(layout, word)
    return UnknownSeat(f"{service_id} has no seat {shown(word)}{hint(near)}", seat=shown(word), nearest=near, service_id=service_id)
