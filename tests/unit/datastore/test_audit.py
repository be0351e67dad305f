"""The proof from the ledger: it accepts what the engine does and sees what no engine should."""

from __future__ import annotations

import msgspec
import pytest

from datastore import wire
from datastore.audit import Audit
from datastore.commands import HoldEach
from datastore.engine import decide
from datastore.feed import KINDS_HIDDEN, page_of, part_of
from datastore.ledger import BATCH, Entry, Position, SealedEntry, genesis, seal
from datastore.memory import MemoryStore
from datastore.model import Epoch, HoldState, SeatState, bulk_hold_id
from datastore.overlay import Batch
from datastore.rows import BulkRow, Event, HoldRow, Kind, SeatRow, decode_row, encode_row
from datastore.state import AppliedState
from tests.unit.datastore.inventory import DAY_START_MS, SERVICE, import_command, schedule

EPOCH = Epoch(1, "m")


class Ledger:
    """A log in memory, decided by the engine or forged."""

    def __init__(self) -> None:
        self.store = MemoryStore("AR", "uuid")
        self.state = AppliedState("AR", self.store)
        self.entries: list[SealedEntry] = []
        self.now_ms = DAY_START_MS - 10 * 86_400_000

    def tail(self) -> Position:
        return self.store.summary().tail

    def forge(self, *events: Event) -> None:
        tail = self.tail()
        sealed = seal(Entry(EPOCH, tail.lsn + 1, self.now_ms, BATCH, events=list(events)), tail.hash)
        self.store.append([sealed])
        self.store.stage(sealed)
        self.state.apply(sealed.entry.events)
        self.entries.append(sealed)

    def decide(self, *commands: wire.AnyCommand) -> None:
        decision = decide(self.state, commands, self.now_ms, self.tail().lsn + 1, EPOCH, lambda _: None)
        self.forge(*decision.events)

    def violations(self) -> list[str]:
        audit = Audit("AR", genesis("AR"))
        audit.take(self.entries)
        return audit.report().violations


def hold(number: int, *seats: str, ttl_ms: int = 60_000) -> wire.Hold:
    fields = (f"hold-{number:04}", "owner", SERVICE, seats, ttl_ms, 1, number, f"n{number}", "USD", (1,) * len(seats), 50, 99, 99)
    return wire.Hold(f"request-{number:04}", b"d", *fields)


def sold() -> Ledger:
    """Return a ledger with a hold that expired under the next buyer, an order, and a cancelled order whose seat was sold again."""
    ledger = Ledger()
    ledger.decide(import_command([schedule()]))
    ledger.decide(hold(1, "1A", "1B"), hold(2, "2A"))
    ledger.now_ms += 120_000
    ledger.decide(hold(3, "1A"))
    ledger.decide(wire.Confirm("c", b"d", "hold-0003", "owner", ("ABCDEF",), b"t", b""))
    ledger.decide(wire.Cancel("x", b"d", "ABCDEF", b"t"), hold(4, "1A"))
    return ledger


def test_what_the_engine_does_is_proved() -> None:
    """Expiry under the next buyer and selling again after a cancellation are no second owners."""
    assert [] == sold().violations()


def test_a_seat_that_changes_hands_while_its_hold_stands_is_seen() -> None:
    """Both halves of the proof see it: the seat's row and the holds' claims."""
    ledger = sold()
    row = SeatRow(SeatState.HELD, "thief", ledger.tail().lsn + 1, "thief", 1, 99, "n")
    thief = HoldRow("thief", "thief", SERVICE, ("1A",), HoldState.ACTIVE, ledger.tail().lsn + 1, 0, 9, "USD", (1,), 0)
    ledger.forge(
        Event(Kind.SEAT, f"{SERVICE}/1A", encode_row(row)),
        Event(Kind.OPEN_HOLD, "thief", encode_row(thief)),
    )
    found = ledger.violations()
    assert any("left hold-0004, which stands" in sentence for sentence in found)
    assert any("belongs to hold-0004 and to thief" in sentence for sentence in found)


def test_a_hold_whose_seat_says_otherwise_is_seen() -> None:
    """A claim without the row is a claim on somebody else's seat."""
    ledger = sold()
    ghost = HoldRow("ghost", "g", SERVICE, ("5A",), HoldState.ACTIVE, 1, 0, 9, "USD", (1,), 0)
    ledger.forge(Event(Kind.OPEN_HOLD, "ghost", encode_row(ghost)))
    assert any("ghost claims" in sentence for sentence in ledger.violations())


def sold_in_bulk() -> Ledger:
    """... and two holds in bulk, of 2A and of 2B."""
    ledger = sold()
    seats = (("2A",), ("2B",))
    ledger.decide(HoldEach("e", b"d", "AR.e", "owner", SERVICE, seats, 60_000, 1, 50, "n50", "USD", ((1,), (1,)), (0, 0), 50, 50))
    assert [] == ledger.violations()
    return ledger


def test_seats_that_a_bulk_leaves_to_nobody_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the entry in which a hold leaves its bulk nobody would say any more that its seats are taken."""
    ledger = sold_in_bulk()
    put_seat = Batch.put_seat
    monkeypatch.setattr(Batch, "put_seat", lambda batch, service_id, seat_id, row: None)
    ledger.decide(wire.Extend("x", b"", "AR.e-1", "owner", 90_000, 600_000))
    monkeypatch.setattr(Batch, "put_seat", put_seat)
    assert [f"entry {ledger.tail().lsn}: AR.e-1 left its bulk and seat {SERVICE}/2A has no row"] == ledger.violations()


def test_a_bulk_over_a_seat_of_another_is_seen() -> None:
    ledger = sold_in_bulk()
    bulk: BulkRow = decode_row(Kind.BULK, ledger.store.get(Kind.BULK, "AR.e") or b"")
    ledger.forge(Event(Kind.BULK, "AR.f", encode_row(msgspec.structs.replace(bulk, bulk_id="AR.f", lsn=ledger.tail().lsn + 1))))
    found = ledger.violations()
    assert any(f"seat {SERVICE}/2A left AR.e-1, which stands" in sentence for sentence in found)
    assert any("2B belongs to AR.e-2 and to AR.f-2" in sentence for sentence in found)


@pytest.mark.parametrize("again", [False, True])
def test_a_bulk_that_says_another_entry_made_it_is_seen(again: bool) -> None:
    """Views are told of a bulk's seats by the entry that it names, and by no other."""
    ledger = sold_in_bulk()
    bulk: BulkRow = decode_row(Kind.BULK, ledger.store.get(Kind.BULK, "AR.e") or b"")
    lsn = ledger.tail().lsn + 1
    if again:
        ledger.forge(Event(Kind.BULK, "AR.e", encode_row(msgspec.structs.replace(bulk, lsn=lsn))))
    else:
        other = msgspec.structs.replace(bulk, bulk_id="AR.f", seats=(("3A",), ("3B",)))
        ledger.forge(Event(Kind.BULK, "AR.f", encode_row(other)))
    assert any(f"entry {lsn}: bulk AR.{'e' if again else 'f'} says that it is" in sentence for sentence in ledger.violations())


def test_a_seat_whose_row_is_deleted_is_seen() -> None:
    ledger = sold()
    key = f"{SERVICE}/1B"
    audit = Audit("AR", genesis("AR"))
    tail = ledger.tail()
    gone = Event(Kind.SEAT, key, b"")
    audit.take([*ledger.entries, seal(Entry(EPOCH, tail.lsn + 1, ledger.now_ms, BATCH, events=[gone]), tail.hash)])
    assert [f"entry {tail.lsn + 1}: the row of seat {key} is deleted, and its fence with it"] == audit.report().violations


def test_holds_in_bulk_leave_their_row_one_by_one() -> None:
    """One that goes without a row of its own is seen, as is one that stays behind while it is released."""
    ledger = sold_in_bulk()
    ledger.decide(wire.Release("r", b"d", bulk_hold_id("AR.e", 1), "owner"))
    assert [] == ledger.violations()
    seats = (("2A",), ("2B",))
    left: BulkRow = decode_row(Kind.BULK, ledger.store.get(Kind.BULK, "AR.e") or b"")
    ledger.forge(Event(Kind.BULK, "AR.e", b""))
    assert any("AR.e-2 left its bulk without a row of its own" in sentence for sentence in ledger.violations())
    ledger.forge(Event(Kind.BULK, "AR.e", encode_row(msgspec.structs.replace(left, numbers=(1, 2), seats=seats, prices=((1,), (1,)),
        refundable_percents=(0, 0)))))  # fmt: skip
    assert any("AR.e-1 claims" in sentence for sentence in ledger.violations())


@pytest.mark.parametrize("old_image", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        wire.Extend("x", b"", "AR.e-1", "owner", 90_000, 600_000),
        wire.Confirm("x", b"", "AR.e-1", "owner", ("ABC234",), b"t", b"side"),
        wire.Release("x", b"", "AR.e-1", "owner"),
    ],
    ids=["extend", "confirm", "release"],
)
def test_a_hold_that_stays_behind_in_its_bulk_is_seen(change: wire.AnyCommand, old_image: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a row of its own by then; whether the bulk was not written at all or as it was, it is in two places."""
    ledger = sold_in_bulk()

    def finish(batch: Batch) -> list[Event]:
        old = ledger.store.get(Kind.BULK, "AR.e") or b""
        return [*batch.events, Event(Kind.BULK, "AR.e", old)] if old_image else batch.events

    monkeypatch.setattr(Batch, "finish", finish)
    ledger.decide(change)
    assert any("still in its bulk" in sentence for sentence in ledger.violations())


def test_the_feed_and_the_snapshot_carry_no_holds_or_orders() -> None:
    """A view from the feed and one from pages have the same seats; free ones are left out of pages."""
    ledger = sold()
    part = part_of("AR", ledger.entries)
    assert part is not None
    assert not {event[0] for event in part.events} & KINDS_HIDDEN
    assert (ledger.tail().lsn, ledger.tail().hash) == (part.lsn, part.hash)
    view = {(kind, key): value for kind, key, value in part.events}
    free = {key for key, value in view.items() if key[0] == Kind.SEAT and value[1] == SeatState.FREE}
    pages: dict[tuple[int, str], bytes] = {}
    after: tuple[int, str] | None = (0, "")
    while after is not None:
        page = page_of(ledger.store, ledger.tail(), after, 3)
        pages.update({(kind, key): value for kind, key, value in page.rows})
        after = page.next
    assert {key: value for key, value in view.items() if key not in free} == pages
    assert free
