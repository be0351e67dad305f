"""A hold that has left its bulk is found where it is, whatever happens to its neighbours in the same batch."""

from __future__ import annotations

import pytest

from datastore import commands, wire
from datastore.model import bulk_hold_id
from tests.unit.datastore.inventory import SERVICE, Partition
from tests.unit.datastore.test_bulk import ID, each

ONE, TWO = (bulk_hold_id(ID, number) for number in (1, 2))
LEAVE = wire.Release("neighbour", b"", TWO, "ann")
PAYING = commands.Paying("pay-1", b"", ONE, "ann", "pi_1", 100, "USD", (), 60_000, 600_000)


@pytest.fixture
def left() -> Partition:
    """1 has a row of its own (extended); 2 and 3 are still in the bulk."""
    made = Partition()
    made.submit(each(made, ("1A",), ("1B",), ("1C",)))
    made.submit(wire.Extend("extend-1", b"", ONE, "ann", 90_000, 600_000))[0].unwrap()
    return made


@pytest.mark.parametrize(
    "change",
    [
        wire.Release("r", b"", ONE, "ann"),
        wire.Extend("r", b"", ONE, "ann", 95_000, 600_000),
        wire.Confirm("r", b"", ONE, "ann", ("ABC234",), b"token", b"side"),
        PAYING,
    ],
    ids=["release", "extend", "confirm", "paying"],
)
def test_its_owner_finds_it(left: Partition, change: wire.AnyCommand) -> None:
    assert [{}, {}] == [outcome.error for outcome in left.submit(LEAVE, change)]


def test_it_is_paid_and_confirmed_beside_another_payment(left: Partition) -> None:
    left.submit(PAYING)[0].unwrap()
    outcomes = left.submit(
        commands.Paying("pay-2", b"", TWO, "ann", "pi_2", 200, "USD", (), 60_000, 600_000),
        wire.Confirm("confirm-1", b"", ONE, "ann", ("ABC234",), b"token", b"side", "pi_1"),
    )
    assert [{}, {}] == [outcome.error for outcome in outcomes]


def test_a_rival_is_refused(left: Partition) -> None:
    assert "seat_unavailable" == left.submit(LEAVE, left.hold("bob", "1A", owner="bob"))[1].error["code"]


def test_a_rival_in_bulk_is_refused_that_seat(left: Partition) -> None:
    rival = each(left, ("1A",), ("2A",), request_id="bulk-2", bulk_id="AR.bob", owner="bob")
    assert [1] == [number for number, _ in left.submit(LEAVE, rival)[1].unwrap()["refused"]]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_command_that_ends_all_meets_it_too(number: int) -> None:
    partition = Partition()
    partition.submit(each(partition, ("1A",), ("1B",), ("1C",)))
    partition.submit(wire.Extend("extend-1", b"", bulk_hold_id(ID, number), "ann", 90_000, 600_000))
    assert 3 == partition.submit(wire.SetService("cancel-1", b"", SERVICE, 2, "storm"))[0].unwrap()["holds_released"]


def test_the_limits_count_it(left: Partition) -> None:
    outcome = left.submit(LEAVE, each(left, ("2A",), request_id="bulk-2", bulk_id="AR.bulk2", owner_holds_max=2))[1]
    assert 1 == len(outcome.unwrap()["refused"])


def test_one_sweep_ends_all(left: Partition) -> None:
    left.now_ms += 100_000
    assert {"swept": 3} == left.submit(wire.Sweep("", b""))[0].unwrap()
