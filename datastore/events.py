"""What an event of the log says of seats, whichever row it stands in. Pure.

A seat's row says who has it, and so does the row of a bulk, once, for all seats of its holds: see `rows.BulkRow`.
"""

from __future__ import annotations

import msgspec

from datastore.rows import BulkRow, Kind, SeatRow, decode_row


def seats_in(kind: int, key: str, value: bytes, lsn: int) -> dict[str, SeatRow]:
    """Return what an event of entry `lsn` says of seats: "service/seat" -> the row, as it is or as the seat would have it.

    A bulk tells of its seats when it is made. Later its row only loses holds, and rows of their own tell of the seats of those.
    """
    if kind == Kind.SEAT:
        return {key: decode_row(kind, value)} if value else {}
    if kind != Kind.BULK or not makes_bulk(value, lsn):
        return {}
    bulk: BulkRow = decode_row(kind, value)
    return {f"{bulk.service_id}/{seat_id}": row for seat_id, row in bulk.seat_rows().items()}


class _Born(msgspec.Struct, array_like=True):
    """The first fields of a BulkRow: which entry made it, without opening the rest."""

    bulk_id: str
    owner: str
    service_id: str
    lsn: int


_decode_born = msgspec.msgpack.Decoder(_Born).decode


def makes_bulk(value: bytes, lsn: int) -> bool:
    """Return whether a bulk's row image in entry `lsn` is the one that made its holds, not one that some have left."""
    return bool(value) and _decode_born(value).lsn == lsn
