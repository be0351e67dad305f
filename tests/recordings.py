"""Ledgers and recordings for tests, made entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from client.recording import Recorder, pieces
from datastore.ledger import BATCH, Entry, SealedEntry, genesis_hash, seal
from datastore.messages import SeatMapAnswer
from datastore.model import SeatState
from datastore.rows import Event, Kind, SeatRow, encode_row

OPERATOR = "AR"


def ledger(changes: Iterable[Mapping[str, SeatState]]) -> list[SealedEntry]:
    """Return an entry for each of `changes`: "service/seat" -> what it becomes."""
    events: list[list[Event]] = []
    for lsn, seats in enumerate(changes, 1):
        held = [(key, SeatRow(state, "AR.hold" if state in (1, 2) else "", lsn, "", 1, lsn, "")) for key, state in seats.items()]
        events.append([Event(Kind.SEAT, key, encode_row(row)) for key, row in held])
    return sealed(events)


def sealed(events: Iterable[Sequence[Event]]) -> list[SealedEntry]:
    """Return an entry for each list of events."""
    entries, digest = [], genesis_hash(OPERATOR)
    for lsn, said in enumerate(events, 1):
        plain = [(int(kind), key, value) for kind, key, value in said]
        entries.append(seal(Entry((1, "manager"), lsn, 1_000 * lsn, BATCH, events=plain), digest))
        digest = entries[-1].hash
    return entries


def recorded(entries: Iterable[SealedEntry], maps: Mapping[str, SeatMapAnswer], first: int = 1, last: int = 0) -> bytes:
    """Return a recording of a stretch of them."""
    recorder = Recorder(OPERATOR, first, last)
    recorder.take(one.data for one in entries)
    return b"".join(pieces(recorder.head(maps, 0), recorder.kept))
