"""Ticket numbers out of the ledger, and what becomes of their coupons."""

from __future__ import annotations

from typing import Any

import pytest

from datastore import wire
from datastore.conditions import leg_from
from datastore.engine import decide
from datastore.errors import InvalidRequest
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.rows import OrderRow
from datastore.state import AppliedState
from datastore.store import SqliteStore
from datastore.store_port import Store
from datastore.tickets import CouponStatus, accounting_code, check_digit, given_up, number_of, tickets_of
from tests.unit.datastore.inventory import import_command, schedule
from tests.unit.datastore.test_audit import Ledger, hold

EPOCH = Epoch(1, "m")


def confirm(number: int, reference: str, laps: tuple[int, ...] = ()) -> wire.Confirm:
    named = (f"request-c{number:03}", b"d", f"hold-{number:04}", "owner", (reference,))
    return wire.Confirm(*named, b"t" * 32, b"", "", (), laps)


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Any) -> Ledger:
    """A ledger in memory and on disk: both count alike."""
    made = Ledger()
    store: Store = MemoryStore("AR", "uuid") if request.param == "memory" else SqliteStore(tmp_path / "AR.sqlite", "AR")
    made.store = store  # type: ignore[assignment]
    made.state = AppliedState("AR", store)
    made.decide(import_command([schedule()]))
    return made


def order(ledger: Ledger, reference: str) -> OrderRow:
    row = ledger.state.order(reference)
    assert row is not None and row.ticketed is not None
    return row


def test_no_two_tickets_share_a_number(ledger: Ledger) -> None:
    """Within a batch and over batches, infants on laps too; a repeat of the sale has the numbers of the first."""
    ledger.decide(hold(1, "1A", "1B"), hold(2, "2A"), hold(3, "2B"))
    ledger.decide(confirm(1, "AAAAAA", (1,)), confirm(2, "BBBBBB"))
    ledger.decide(confirm(3, "CCCCCC"))
    assert (1, 3) == (order(ledger, "AAAAAA").ticketed.first, len(tickets(ledger, "AAAAAA")))  # type: ignore[union-attr]
    numbers = [ticket.number for reference in ("AAAAAA", "BBBBBB", "CCCCCC") for ticket in tickets(ledger, reference)]
    assert 5 == len(set(numbers)) and all(len(number) == 13 and number.isdigit() for number in numbers)
    assert [number[3:] for number in numbers] == [f"{serial:010}" for serial in range(1, 6)]
    assert [False, False, True] == [ticket.on_lap for ticket in tickets(ledger, "AAAAAA")]
    assert "1B" == tickets(ledger, "AAAAAA")[2].coupons[0].seat_id, "an infant's coupon names its adult's seat"


def tickets(ledger: Ledger, reference: str) -> list[Any]:
    from datastore.outcomes import order_value

    return tickets_of(order_value(order(ledger, reference), ledger.now_ms), "AR")


def test_infants_are_on_laps_that_are_there(ledger: Ledger) -> None:
    """Two on one lap, or on the lap of nobody, are refused, and no number is used up."""
    ledger.decide(hold(1, "1A"))
    for laps in ((0, 0), (1,)):
        decision = decide(ledger.state, [confirm(1, "AAAAAA", laps)], ledger.now_ms, ledger.tail().lsn + 1, EPOCH, lambda _: None)
        with pytest.raises(InvalidRequest, match="one passenger with a seat"):
            decision.outcomes[0].unwrap()
        assert not decision.events
    ledger.decide(confirm(1, "AAAAAA"))
    assert 1 == order(ledger, "AAAAAA").ticketed.first  # type: ignore[union-attr]


def test_the_operators_code_begins_the_numbers(ledger: Ledger) -> None:
    """Stated, or the default; a change is for what is sold afterwards."""
    ledger.decide(hold(1, "1A"), hold(2, "1B"))
    ledger.decide(confirm(1, "AAAAAA"))
    ledger.decide(wire.SetOperator("request-op", b"d", "AR", "Aerolíneas", "airline", b"", "044"))
    ledger.state = AppliedState("AR", ledger.store)
    ledger.decide(confirm(2, "BBBBBB"))
    assert (accounting_code("AR", ""), "044") == (tickets(ledger, "AAAAAA")[0].number[:3], tickets(ledger, "BBBBBB")[0].number[:3])
    assert 900 <= int(accounting_code("AR", "")) <= 999


def test_a_cancelled_order_has_no_open_coupon(ledger: Ledger) -> None:
    """Refunded where something came back."""
    ledger.decide(hold(1, "1A"))
    ledger.decide(confirm(1, "AAAAAA"))
    assert [CouponStatus.OPEN] == [one.status for one in tickets(ledger, "AAAAAA")[0].coupons]
    ledger.decide(wire.Cancel("request-x", b"d", "AAAAAA", b"t" * 32))
    expected = CouponStatus.REFUNDED if order(ledger, "AAAAAA").refund_minor else CouponStatus.VOID
    assert [expected] == [one.status for one in tickets(ledger, "AAAAAA")[0].coupons]


def value(**changes: Any) -> dict[str, Any]:
    """Return an order of three with an infant, over two legs, as the ledger tells of it."""
    legs = [["AR", "S1", ["1A", "1B", "1C"], [1, 1, 1], 80], ["QR", "S2", ["2A", "2B", "2C"], [1, 1, 1], 80]]
    made = {"ticketed": ["044", 7, 3, [1], []], "legs": legs, "travellers": (), "state": 0, "refund_minor": 0}
    return {**made, "service_id": "", "seats": (), "prices": (), "refundable_percent": 0, **changes}


def test_coupons_follow_what_is_given_up() -> None:
    """A passenger who was cancelled has refunded coupons, the infant on that lap too; an exchanged leg keeps its old coupon."""
    whole = [leg_from(one) for one in value()["legs"]]
    gone = given_up((0, 1, 2), whole, {0: (1,), 1: (1,)}, CouponStatus.REFUNDED)
    left = [["AR", "S1", ["1A", "1C"], [1, 1], 80], ["QR", "S2", ["2A", "2C"], [1, 1], 80]]
    found = tickets_of(value(legs=left, travellers=(0, 2), ticketed=["044", 7, 3, [1], [list(one) for one in gone]]), "AR")
    statuses = [[CouponStatus(one.status).name for one in ticket.coupons] for ticket in found]
    assert [["OPEN"] * 2, ["REFUNDED"] * 2, ["OPEN"] * 2, ["REFUNDED"] * 2] == statuses
    assert [0, -1, 1, -1] == [ticket.traveller for ticket in found]
    assert ["2A", "2C"] == [found[0].coupons[1].seat_id, found[2].coupons[1].seat_id]
    moved = given_up((0, 1, 2), whole, {1: (0, 1, 2)}, CouponStatus.EXCHANGED)
    onward = [left[0], ["QR", "S3", ["9A", "9B", "9C"], [1, 1, 1], 80]]
    onward[0] = value()["legs"][0]
    found = tickets_of(value(legs=onward, ticketed=["044", 7, 3, [1], [list(one) for one in moved]]), "AR")
    assert [("S2", "EXCHANGED"), ("S1", "OPEN"), ("S3", "OPEN")] == [
        (one.service_id, CouponStatus(one.status).name) for one in found[0].coupons
    ]
    assert [] == tickets_of(value(ticketed=[]), "AR"), "sold before there were tickets"


def test_the_check_digit() -> None:
    """The remainder by 7: a worked example."""
    assert ("0440000000012", 440000000012 % 7) == (number_of("044", 12), check_digit("0440000000012"))
