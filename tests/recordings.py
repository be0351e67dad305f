"""Ledgers and recordings for tests, made entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from client.recording import Recorder, pieces
from datastore.ledger import BATCH, Entry, SealedEntry, genesis_hash, seal
from datastore.messages import SeatMapAnswer
from datastore.model import SeatState
from datastore.rows import Kind, SeatRow

OPERATOR = "AR"


def ledger(changes: Iterable[Mapping[str, SeatState]]) -> list[SealedEntry]:
    """Return an entry for each of `changes`: "service/seat" -> what it becomes."""
    entries, digest = [], genesis_hash(OPERATOR)
    for lsn, seats in enumerate(changes, 1):
        held = [(key, SeatRow(state, "AR.hold" if state in (1, 2) else "", lsn, "", 1, lsn, "")) for key, state in seats.items()]
        events = [(int(Kind.SEAT), key, msgspec.msgpack.encode(row)) for key, row in held]
        sealed = seal(Entry((1, "manager"), lsn, 1_000 * lsn, BATCH, events=events), digest)
        entries.append(sealed)
        digest = sealed.hash
    return entries


def recorded(entries: Iterable[SealedEntry], maps: Mapping[str, SeatMapAnswer], first: int = 1, last: int = 0) -> bytes:
    """Return a recording of a stretch of them."""
    recorder = Recorder(OPERATOR, first, last)
    recorder.take(one.data for one in entries)
    return b"".join(pieces(recorder.head(maps, 0), recorder.kept))
