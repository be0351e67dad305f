"""Recordings of a ledger: what is shown at any place is what the ledger says, and a damaged file is refused."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.recording import Replay, read
from datastore.errors import InvalidRequest, TooNew
from datastore.model import SeatState
from datastore.rows import BulkRow, Event, Kind, SeatRow, encode_row
from tests.recordings import ledger, recorded, sealed

SERVICE = "AR1-EZE-2026-12-01"
SEATS = [f"{SERVICE}/{number}A" for number in range(1, 5)]
CHANGES = st.lists(st.dictionaries(st.sampled_from(SEATS), st.sampled_from(list(SeatState)), max_size=3), min_size=1, max_size=12)
WORDS = {SeatState.HELD: "held", SeatState.BOOKED: "occupied", SeatState.BLOCKED: "blocked"}


def opened(data: bytes) -> Replay:
    return read(io.BytesIO(data).read)


def plain(changes: list[dict[str, SeatState]]) -> dict[str, str]:
    """Return what is not free after all these: the slow, plain twin."""
    now: dict[str, SeatState] = {}
    for one in changes:
        now.update(one)
    return {key.partition("/")[2]: WORDS[state] for key, state in now.items() if state != SeatState.FREE}


@given(CHANGES, st.data())
def test_every_place_shows_what_the_ledger_says(changes: list[dict[str, SeatState]], data: st.DataObject) -> None:
    """Whatever stretch was recorded, and however one steps to and fro, the map is that of the entry."""
    first = data.draw(st.integers(1, len(changes)))
    last = data.draw(st.integers(first, len(changes)))
    replay = opened(recorded(ledger(changes), {}, first, last))
    touched = any(changes[number] for number in range(first - 1, last))
    for lsn in data.draw(st.lists(st.integers(first - 1, last), max_size=6)):
        replay.go_to_lsn(lsn)
        shown = {seat: state for seat, state, _, _ in replay.taken(SERVICE)}
        assert (plain(changes[:lsn]) if touched else {}) == shown


def test_seats_of_holds_in_bulk_are_shown() -> None:
    """Their bulk's row says that they are taken, when it is made; of one that leaves its own row tells."""
    bulk = BulkRow("AR.b", "ann", SERVICE, 1, 0, 9, "USD", (1, 2), (("1A",), ("2A", "3A")), ((1,), (1, 1)), (0, 0), 1, 1, "n")
    left = msgspec.structs.replace(bulk, numbers=(1,), seats=(("1A",),), prices=((1,),), refundable_percents=(0,))
    free = [Event(Kind.SEAT, f"{SERVICE}/{seat}", encode_row(SeatRow(SeatState.FREE, "", 0, "", 1, 1, "n"))) for seat in ("2A", "3A")]
    events = [[Event(Kind.BULK, "AR.b", encode_row(bulk))], [*free, Event(Kind.BULK, "AR.b", encode_row(left))]]
    replay = opened(recorded(sealed(events), {}))
    shown = []
    for lsn in (0, 1, 2, 1):
        replay.go_to_lsn(lsn)
        shown.append({seat for seat, state, _, _ in replay.taken(SERVICE) if state == "held"})
    assert shown == [set(), {"1A", "2A", "3A"}, {"1A"}, {"1A", "2A", "3A"}]
    assert replay.steps[0].words == f"2 holds AR.b: 1A 2A 3A on {SERVICE}"


@given(st.data())
def test_a_damaged_recording_is_refused(data: st.DataObject) -> None:
    """A byte that is another, or an end that is missing, is never shown as what happened."""
    whole = recorded(ledger([{SEATS[0]: SeatState.HELD}, {SEATS[0]: SeatState.BOOKED}]), {})
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    try:
        replay = opened(damaged)
    except (InvalidRequest, TooNew):
        return
    # What the head says of before is the recorder's word; the entries that are shown are the ledger's.
    assert [step.lsn for step in replay.steps] in ([1, 2], [])
    assert [step.words for step in replay.steps] == ["batch"] * len(replay.steps)


def test_what_is_not_in_it_is_said() -> None:
    """A place or a service that the recording does not have is named, with what there is."""
    replay = opened(recorded(ledger([{SEATS[0]: SeatState.HELD}]), {}))
    with pytest.raises(InvalidRequest, match="it has 1 to 1"):
        replay.go_to_lsn(7)
    with pytest.raises(InvalidRequest, match="no map of AR9"):
        replay.map_of("AR9")
    assert ["AR1-EZE-2026-12-01"] == replay.services()
