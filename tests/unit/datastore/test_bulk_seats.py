"""Who has the seats of holds in bulk: the bulk's row says it, until a hold leaves and its seats get rows of their own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from datastore import errors, wire
from datastore.commands import Paying
from datastore.events import makes_bulk, seats_in
from datastore.feed import BULKS_READ, page_of
from datastore.ledger import genesis
from datastore.model import SeatState, bulk_hold_id
from datastore.overlay import Batch
from datastore.rows import BULKS_SPEAK, ROWS_FORM, BulkRow, Event, Kind, SeatRow, decode_row, encode_row
from datastore.state import AppliedState
from tests.unit.datastore.inventory import SERVICE, Partition
from tests.unit.datastore.test_bulk import ID, bulk_row, each

CHANGES: dict[str, Callable[[str], wire.AnyCommand]] = {
    "release": lambda hold_id: wire.Release("change", b"", hold_id, "ann"),
    "extend": lambda hold_id: wire.Extend("change", b"", hold_id, "ann", 90_000, 600_000),
    "confirm": lambda hold_id: wire.Confirm("change", b"", hold_id, "ann", ("ABC234",), b"token", b"side"),
    "pay": lambda hold_id: Paying("change", b"", hold_id, "ann", "pi1", 200, "USD", (), 4_000, 20_000),
}


@pytest.fixture
def partition() -> Partition:
    return Partition()


def own_row(partition: Partition, seat_id: str) -> SeatRow | None:
    """Return the row of its own that a seat has."""
    value = partition.rows.get(Kind.SEAT, f"{SERVICE}/{seat_id}")
    return None if value is None else decode_row(Kind.SEAT, value)


def both(partition: Partition) -> list[AppliedState]:
    """Return the state that followed, and the one that a new primary builds."""
    return [partition.state, AppliedState("AR", partition.rows)]


@pytest.mark.parametrize("generation", [0, 1])
def test_one_row_says_it_for_all(partition: Partition, generation: int) -> None:
    command = each(partition, ("1A",), ("1B", "1C"), generation=generation)
    decision = partition.decide(command)
    assert [event.kind for event in decision.events] == [Kind.BULK]
    fence = (generation, command.counter, command.nonce)
    held = {
        seat: SeatRow(SeatState.HELD, bulk_hold_id(ID, number), partition.lsn, "ann", *fence)
        for number, seat in [(1, "1A"), (2, "1B"), (2, "1C")]
    }
    for state in both(partition):
        assert state.seats(SERVICE) == held
        assert state.services_with_taken_seats() == {SERVICE: {"1A", "1B", "1C"}}


@pytest.mark.parametrize("change", CHANGES)
def test_who_leaves_takes_the_seats_along(partition: Partition, change: str) -> None:
    """Their rows have the fence under which the bulk took them; those of the neighbours are still nobody's matter."""
    command = each(partition, ("1A", "1B"), ("1C",))
    partition.submit(command)
    assert not partition.submit(CHANGES[change](bulk_hold_id(ID, 1)))[0].error
    assert own_row(partition, "1C") is None
    state = {"release": SeatState.FREE, "confirm": SeatState.BOOKED}.get(change, SeatState.HELD)
    for seat_id in ("1A", "1B"):
        row = own_row(partition, seat_id)
        assert row is not None and (row.state, row.generation, row.counter, row.nonce) == (state, 1, command.counter, command.nonce)
        assert row.hold_id == ("" if change == "release" else bulk_hold_id(ID, 1))
    followed, built = both(partition)
    assert followed.seats(SERVICE) == built.seats(SERVICE)


@pytest.mark.parametrize("change", CHANGES)
def test_made_and_left_in_one_entry(partition: Partition, change: str) -> None:
    outcomes = partition.submit(each(partition, ("1A", "1C"), ("1B",)), CHANGES[change](bulk_hold_id(ID, 1)))
    assert not any(outcome.error for outcome in outcomes)
    followed, built = both(partition)
    assert followed.seats(SERVICE) == built.seats(SERVICE)
    assert (own_row(partition, "1A") is not None, own_row(partition, "1B")) == (True, None)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_nobody_else_gets_a_seat_that_a_bulk_names(partition: Partition, rebuilt: bool) -> None:
    partition.submit(each(partition, ("1A",), ("1B",)))
    if rebuilt:
        partition.state = AppliedState("AR", partition.rows)
    assert partition.submit(partition.hold("two", "1A", owner="bob"))[0].error["code"] == "seat_unavailable"
    refused = partition.submit(each(partition, ("1B",), ("1C",), request_id="bulk-2", bulk_id="AR.two"))[0].unwrap()["refused"]
    assert [number for number, _ in refused] == [1]
    assert partition.submit(wire.Block("block", b"", SERVICE, ("1A",), "crew", 1, 90, "b"))[0].error["code"] == "seat_unavailable"


def test_a_bulk_stands_over_the_row_of_before_and_its_fence_counts(partition: Partition) -> None:
    """A seat that was held and released has a row that says "free" all the time that a bulk has it; a stale lock stays stale."""
    partition.submit(partition.hold("old", "1A", owner="bob", counter=5), wire.Release("r", b"", "AR.old", "bob"))
    partition.submit(each(partition, ("1A",), counter=9))
    before = own_row(partition, "1A")
    assert before is not None and (before.state, before.counter) == (SeatState.FREE, 5)
    for state in both(partition):
        assert (state.seats(SERVICE)["1A"].state, state.seats(SERVICE)["1A"].counter) == (SeatState.HELD, 9)
    partition.now_ms += 60_000
    assert partition.submit(partition.hold("stale", "1A", owner="bob", counter=8))[0].error["code"] == "stale_fence"
    assert not partition.submit(partition.hold("new", "1A", owner="bob", counter=10))[0].error


def test_a_negative_fence_is_refused(partition: Partition) -> None:
    with pytest.raises(errors.InvalidRequest):
        partition.submit(each(partition, ("1A",), generation=-1))[0].unwrap()
    assert bulk_row(partition) is None


def test_bulks_of_format_3_2_leave_their_seats_to_rows_of_their_own(partition: Partition) -> None:
    """Such a store goes on: nobody gets the seats, and who leaves leaves as it always did."""
    partition.submit(each(partition, ("1A",), ("1B",)))
    row = bulk_row(partition)
    assert row is not None
    old = encode_row([getattr(row, name) for name in BulkRow.__struct_fields__[: BulkRow.__struct_fields__.index("generation")]])
    events = [Event(Kind.SEAT, f"{SERVICE}/{seat_id}", encode_row(seat)) for seat_id, seat in row.seat_rows().items()]
    partition.rows.store([*events, Event(Kind.BULK, ID, old)])
    partition.state = AppliedState("AR", partition.rows)
    read = bulk_row(partition)
    assert read is not None and read.numbers == (1, 2) and read.seat_rows() == {}
    assert partition.state.seats(SERVICE) == row.seat_rows()
    assert partition.submit(partition.hold("two", "1A", owner="bob"))[0].error["code"] == "seat_unavailable"
    partition.submit(wire.Release("r", b"", bulk_hold_id(ID, 1), "ann"), wire.Extend("x", b"", bulk_hold_id(ID, 2), "ann", 90_000, 600_000))
    assert bulk_row(partition) is None
    for state in both(partition):
        assert [state.seats(SERVICE)[seat_id].state for seat_id in ("1A", "1B")] == [SeatState.FREE, SeatState.HELD]


def test_a_copy_that_does_not_read_such_rows_gets_rows_of_seats(partition: Partition) -> None:
    """What an older program would have written, so that it may lead; the row that it makes of the bulk is the same."""
    partition.rows_form = BULKS_SPEAK - 1
    command = each(partition, ("1A",), ("1B",))
    assert sorted(event.kind for event in partition.decide(command).events) == [Kind.SEAT, Kind.SEAT, Kind.BULK]
    row = bulk_row(partition)
    assert row is not None and row.seat_rows() == {}
    for state in both(partition):
        seats = state.seats(SERVICE)
        assert [(seats[seat_id].state, seats[seat_id].counter) for seat_id in ("1A", "1B")] == [(SeatState.HELD, command.counter)] * 2
    partition.rows_form = ROWS_FORM
    partition.submit(wire.Release("r", b"", bulk_hold_id(ID, 1), "ann"))
    assert [both(partition)[1].seats(SERVICE)[seat_id].state for seat_id in ("1A", "1B")] == [SeatState.FREE, SeatState.HELD]


@pytest.mark.parametrize("adopted", [False, True])
def test_a_trial_and_what_is_adopted_keep_the_form_of_rows(partition: Partition, adopted: bool) -> None:
    partition.submit(each(partition, ("1A",)))
    row = bulk_row(partition)
    assert row is not None
    batch = Batch(partition.state, partition.now_ms, partition.lsn + 1, BULKS_SPEAK - 1)
    trial = batch.trial()
    trial.put_bulk(msgspec.structs.replace(row, bulk_id="AR.two", lsn=partition.lsn + 1, seats=(("2A",),)))
    if adopted:
        batch.adopt(trial)
    assert [event.kind for event in (batch if adopted else trial).finish()] == [Kind.SEAT, Kind.BULK]


def test_an_event_tells_of_seats_when_its_bulk_is_made(partition: Partition) -> None:
    """... and not when some have left: by then others may have said more of the seats that are named."""
    made = partition.decide(each(partition, ("1A",), ("1B",))).events[0]
    assert seats_in(*made, partition.lsn).keys() == {f"{SERVICE}/1A", f"{SERVICE}/1B"}
    left = partition.decide(wire.Release("r", b"", bulk_hold_id(ID, 1), "ann")).events
    bulk = next(event for event in left if event.kind == Kind.BULK)
    assert seats_in(*bulk, partition.lsn) == {} and not makes_bulk(b"", partition.lsn)
    assert [key for event in left for key in seats_in(*event, partition.lsn)] == [f"{SERVICE}/1A"]
    assert seats_in(Kind.SEAT, "S/1", b"", 1) == {}


def test_pages_read_few_bulks_at_once(partition: Partition) -> None:
    """One may be large, so they are not read by the thousand; none is left out."""
    partition.rows.store(
        [Event(Kind.BULK, f"AR.{number:04}", encode_row(_bulk(f"AR.{number:04}", number))) for number in range(3 * BULKS_READ)]
    )
    asked: list[int] = []
    scan = partition.rows.scan

    def noted(kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        if kind == Kind.BULK:
            asked.append(limit)
        return scan(kind, prefix, after, limit)

    partition.rows.scan = noted  # type: ignore[method-assign]
    page = page_of(partition.rows, genesis("AR"), (0, ""), 5_000)
    assert page.next is None and sum(kind == Kind.BULK for kind, _, _ in page.rows) == 3 * BULKS_READ
    assert max(asked) == BULKS_READ


def _bulk(bulk_id: str, number: int) -> BulkRow:
    return BulkRow(bulk_id, "ann", SERVICE, 1, 0, 9, "USD", (1,), ((f"{number}A",),), ((100,),), (0,), 1, number, "n")
