"""What the audit says of bulks, "made by the entry that it says, and from then on only loses holds", against forged ledgers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from datastore import wire
from datastore.commands import HoldEach
from datastore.engine import decide
from datastore.model import HoldState, SeatState
from datastore.rows import BULKS_SPEAK, BulkRow, Event, Kind, SeatRow, decode_row, encode_row
from tests.unit.datastore.inventory import SERVICE
from tests.unit.datastore.test_audit import EPOCH, Ledger, sold


def made() -> tuple[Ledger, BulkRow]:
    ledger = sold()
    seats = (("2A", "2B"), ("2C",), ("2D",))
    prices = ((1, 1), (1,), (1,))
    ledger.decide(HoldEach("e", b"d", "AR.e", "owner", SERVICE, seats, 60_000, 1, 50, "n50", "USD", prices, (0, 0, 0), 50, 50))
    assert ledger.violations() == []
    return ledger, decode_row(Kind.BULK, ledger.store.get(Kind.BULK, "AR.e") or b"")


def seat(seat_id: str, *fields: Any) -> Event:
    return Event(Kind.SEAT, f"{SERVICE}/{seat_id}", encode_row(SeatRow(*fields)))


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": -1, "counter": -1, "nonce": ""},
        {"counter": 7},
        {"counter": 99},
        {"seats": (("2A",), ("2C",), ("2D",)), "prices": ((1,), (1,), (1,))},
        {"owner": "thief"},
        {"prices": ((0, 0), (0,), (0,))},
        {"expires_ms": 9**15},
    ],
    ids=["no fence", "older fence", "newer fence", "fewer seats", "owner", "prices", "end"],
)
def test_a_bulk_that_changes_otherwise_than_by_losing_holds_is_seen(changes: dict[str, Any]) -> None:
    ledger, bulk = made()
    ledger.forge(Event(Kind.BULK, "AR.e", encode_row(replace(bulk, **changes))))
    assert ledger.violations()


def test_a_hold_that_comes_back_into_its_bulk_is_seen() -> None:
    ledger, bulk = made()
    gone = bulk.hold(2)
    assert gone is not None
    ledger.forge(
        seat("2C", SeatState.FREE, "", 0, "", 1, 50, "n50"),
        Event(Kind.CLOSED_HOLD, "AR.e-2", encode_row(replace(gone, state=HoldState.RELEASED))),
        Event(Kind.BULK, "AR.e", encode_row(bulk.without(2))),
    )
    assert ledger.violations() == []
    ledger.forge(seat("2C", SeatState.HELD, "AR.e-2", bulk.lsn, "owner", 1, 50, "n50"), Event(Kind.BULK, "AR.e", encode_row(bulk)))
    assert ledger.violations()


def test_a_row_of_a_seat_that_its_bulk_still_names_is_seen() -> None:
    """The primary that follows takes it for the seat's; one that is built from the rows takes the bulk's."""
    ledger, bulk = made()
    ledger.forge(seat("2C", SeatState.HELD, "AR.e-2", bulk.lsn, "owner", 0, 1, "other"))
    assert ledger.violations()


def test_a_seat_that_leaves_its_bulk_with_another_fence_is_seen() -> None:
    ledger, bulk = made()
    ledger.forge(
        seat("2C", SeatState.HELD, "AR.e-2", bulk.lsn, "owner", 0, 1, "other"),
        Event(Kind.OPEN_HOLD, "AR.e-2", encode_row(bulk.hold(2))),
        Event(Kind.BULK, "AR.e", encode_row(bulk.without(2))),
    )
    assert ledger.violations()


def test_a_bulk_under_anothers_key_is_seen() -> None:
    ledger, bulk = made()
    row = replace(bulk, lsn=ledger.tail().lsn + 1, bulk_id="AR.x", numbers=(1,), seats=(("3A",),), prices=((1,),), refundable_percents=(0,))
    ledger.forge(Event(Kind.BULK, "AR.y", encode_row(row)))
    assert ledger.violations()


@pytest.mark.parametrize("state", [SeatState.FREE, SeatState.HELD])
def test_a_bulk_and_a_row_of_its_seat_with_another_fence_in_one_entry_are_seen(state: SeatState) -> None:
    """Whoever follows the entries takes the later word, one who reads the rows the bulk's."""
    ledger, bulk = made()
    row = another(bulk, ledger.tail().lsn + 1, "3A")
    hold_id, owner = ("", "") if state == SeatState.FREE else ("AR.f-1", "owner")
    ledger.forge(Event(Kind.BULK, "AR.f", encode_row(row)), seat("3A", state, hold_id, 0, owner, 1, 5, "other"))
    assert ledger.violations()


def test_a_bulk_with_an_older_fence_than_its_seat_had_is_seen() -> None:
    ledger, bulk = made()
    ledger.forge(seat("3A", SeatState.FREE, "", 0, "", 9, 1, "n"))
    assert ledger.violations() == []
    ledger.forge(Event(Kind.BULK, "AR.f", encode_row(another(bulk, ledger.tail().lsn + 1, "3A"))))
    assert any("takes an older fence" in sentence for sentence in ledger.violations())


def test_a_bulk_that_is_written_twice_is_seen() -> None:
    ledger, bulk = made()
    row = another(bulk, ledger.tail().lsn + 1, "3A")
    ledger.forge(Event(Kind.BULK, "AR.f", encode_row(row)), Event(Kind.BULK, "AR.f", encode_row(row)))
    assert any("is written twice" in sentence for sentence in ledger.violations())


def test_what_leaves_a_silent_bulk_as_programs_of_format_3_2_let_it_is_no_violation() -> None:
    """Extended: its seat had a row of its own all the time, and those programs wrote none again."""
    ledger = sold()
    each = HoldEach("e", b"d", "AR.e", "owner", SERVICE, (("2A",), ("2B",)), 60_000, 1, 50, "n", "USD", ((1,), (1,)), (0, 0), 50, 50)
    for command in (each, wire.Extend("x", b"", "AR.e-2", "owner", 9_000, 90_000)):
        lsn = ledger.tail().lsn + 1
        events = decide(ledger.state, [command], ledger.now_ms, lsn, EPOCH, lambda _: None, BULKS_SPEAK - 1).events
        ledger.forge(*[event for event in events if event.kind != Kind.SEAT or command is each])
    assert ledger.violations() == []


def another(bulk: BulkRow, lsn: int, seat_id: str) -> BulkRow:
    """Return the row of a new bulk over one seat."""
    return replace(
        bulk, lsn=lsn, bulk_id="AR.f", numbers=(1,), seats=((seat_id,),), prices=((1,),), refundable_percents=(0,), counter=60
    )
