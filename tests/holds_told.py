"""What an event of the log says of holds, whichever row it stands in."""

from __future__ import annotations

from datastore.rows import HoldRow, Kind, decode_row


def holds_in(kind: int, value: bytes) -> list[HoldRow]:
    """Return the holds that a row image tells of, open or closed: one, those of a bulk, or none of another kind."""
    if kind == Kind.BULK:
        holds: list[HoldRow] = decode_row(kind, value).holds()
        return holds
    return [decode_row(kind, value)] if kind in (Kind.OPEN_HOLD, Kind.CLOSED_HOLD) else []
