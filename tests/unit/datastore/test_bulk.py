"""Holds in bulk: each stands or falls alone, and is a hold like any other from then on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datastore import errors, wire
from datastore.commands import HoldEach, Retire
from datastore.model import HoldState, SeatState, bulk_hold_id, place_in_bulk
from datastore.reading import Reader
from datastore.rows import ROWS_FORM, BulkRow, HoldRow, Kind, decode_row
from datastore.state import AppliedState
from tests.unit.datastore.inventory import SERVICE, Partition, import_command, schedule

ID = "AR.bulk"


@pytest.fixture
def partition() -> Partition:
    return Partition()


def each(partition: Partition, *seats: tuple[str, ...], request_id: str = "bulk-1", bulk_id: str = ID, **changes: object) -> HoldEach:
    partition.counter += 1
    fields = {
        "request_id": request_id,
        "digest": b"each",
        "bulk_id": bulk_id,
        "owner": "ann",
        "service_id": SERVICE,
        "seats": seats,
        "ttl_ms": 60_000,
        "generation": 1,
        "counter": partition.counter,
        "nonce": f"nonce-{partition.counter}",
        "currency": "USD",
        "prices": tuple(tuple(100 * number for _ in held) for number, held in enumerate(seats, 1)),
        "refundable_percents": tuple(range(1, len(seats) + 1)),
        "owner_holds_max": 50,
        "service_holds_max": 50,
        **changes,
    }
    return HoldEach(**fields)  # type: ignore[arg-type]


def bulk_row(partition: Partition) -> BulkRow | None:
    value = partition.rows.get(Kind.BULK, ID)
    return None if value is None else decode_row(Kind.BULK, value)


def seat_state(partition: Partition, seat_id: str) -> tuple[int, str]:
    row = partition.state.seats(SERVICE).get(seat_id)
    return (SeatState.FREE, "") if row is None else (row.state, row.hold_id)


def hold_of(partition: Partition, number: int) -> HoldRow | None:
    hold_id = bulk_hold_id(ID, number)
    return partition.state.open_holds.get(hold_id) or partition.state.closed_hold(hold_id)


def test_ids_lead_back_to_the_bulk() -> None:
    assert place_in_bulk(bulk_hold_id("AR.abc", 12)) == ("AR.abc", 12)
    for other in ("AR.abc", "AR.abc-", "AR.abc-x", "AR.abc-0", "AR.abc-01", "-1", "AR.trip.abc", "AR.abc-²", "AR.abc-" + "1" * 5000):
        assert place_in_bulk(other) is None


def test_every_hold_has_its_own_id_price_and_conditions(partition: Partition) -> None:
    value = partition.submit(each(partition, ("1A",), ("1B", "1C"), ("2A",)))[0].unwrap()
    assert value["refused"] == [] and value["expires_ms"] == partition.now_ms + 60_000
    for number, seats in enumerate([("1A",), ("1B", "1C"), ("2A",)], 1):
        hold = hold_of(partition, number)
        assert hold is not None and (hold.seats, hold.state, hold.owner) == (seats, HoldState.ACTIVE, "ann")
        assert (hold.prices, hold.refundable_percent) == (tuple(100 * number for _ in seats), number)
        assert {seat_state(partition, seat_id) for seat_id in seats} == {(SeatState.HELD, bulk_hold_id(ID, number))}
    assert sum(event.kind == Kind.BULK for event in partition.history) == 1
    assert not any(event.kind == Kind.OPEN_HOLD for event in partition.history)


def test_the_refused_do_not_hinder_the_others(partition: Partition) -> None:
    """Each refusal names what is in its own way, and the answer is the same when it is asked again."""
    partition.submit(partition.hold("one", "1B", owner="bob"), wire.Block("block-1", b"", SERVICE, ("2A",), "crew", 1, 90, "b"))
    partition.counter = 90
    command = each(partition, ("1A",), ("1B", "1C"), ("1D",), ("2A",))
    outcome = partition.submit(command)[0]
    assert [(number, error["code"]) for number, error in outcome.unwrap()["refused"]] == [(2, "seat_unavailable"), (4, "seat_blocked")]
    assert outcome.unwrap()["refused"][0][1]["fields"]["seats"] == [{"seat": "1B", "state": "held"}]
    assert seat_state(partition, "1C") == (SeatState.FREE, "")
    row = bulk_row(partition)
    assert row is not None and row.numbers == (1, 3)
    partition.submit(wire.Release("release-1", b"", "AR.one", "bob"))
    assert partition.submit(command)[0] == outcome


def test_all_refused_leaves_no_row(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", "1B", owner="bob"))
    value = partition.submit(each(partition, ("1A",), ("1B",)))[0].unwrap()
    assert len(value["refused"]) == 2 and bulk_row(partition) is None
    assert len(partition.state.open_holds) == 1


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda hold_id: wire.Release("change-1", b"", hold_id, "ann"), HoldState.RELEASED),
        (lambda hold_id: wire.Extend("change-1", b"", hold_id, "ann", 90_000, 600_000), HoldState.ACTIVE),
        (lambda hold_id: wire.Confirm("change-1", b"", hold_id, "ann", ("ABC234",), b"token", b"side"), HoldState.CONVERTED),
    ],
    ids=["release", "extend", "confirm"],
)
@pytest.mark.parametrize("together", [False, True], ids=["later", "same batch"])
def test_one_that_changes_leaves_the_bulk(
    partition: Partition, change: Callable[[str], wire.AnyCommand], state: HoldState, together: bool
) -> None:
    """It has a row of its own from then on; its neighbours stay as they were; the row goes when the last has left."""
    command = each(partition, ("1A",), ("1B",))
    if together:
        outcomes = partition.submit(command, change(bulk_hold_id(ID, 1)))
    else:
        outcomes = [*partition.submit(command), *partition.submit(change(bulk_hold_id(ID, 1)))]
    assert not any(outcome.error for outcome in outcomes)
    row = bulk_row(partition)
    assert row is not None and row.numbers == (2,) and row.seats == (("1B",),)
    changed = hold_of(partition, 1)
    assert changed is not None and changed.state == state and changed.seats == ("1A",)
    neighbour = hold_of(partition, 2)
    assert neighbour is not None and neighbour.state == HoldState.ACTIVE
    partition.submit(wire.Release("change-2", b"", bulk_hold_id(ID, 2), "ann"))
    assert bulk_row(partition) is None and seat_state(partition, "1B") == (SeatState.FREE, "")


def test_extended_it_is_released_like_any_other(partition: Partition) -> None:
    partition.submit(each(partition, ("1A",)))
    hold_id = bulk_hold_id(ID, 1)
    partition.submit(wire.Extend("extend-1", b"", hold_id, "ann", 90_000, 600_000))
    assert bulk_row(partition) is None and partition.state.open_holds.count_of("ann") == 1
    partition.now_ms += 80_000
    assert not partition.submit(wire.Release("release-1", b"", hold_id, "ann"))[0].error
    assert len(partition.state.open_holds) == 0


def test_all_come_back_when_their_time_is_over(partition: Partition) -> None:
    """The sweeper takes as many as fit one entry; a buyer in the way of one takes that one."""
    partition.submit(each(partition, ("1A",), ("1B",), ("1C",)))
    partition.now_ms += 60_000
    assert partition.state.next_due_ms() == partition.now_ms
    assert len(partition.state.open_holds.due(partition.now_ms, 2)) == 2
    assert partition.submit(partition.hold("two", "1B", owner="bob"))[0].unwrap()["seats"] == ("1B",)
    row = bulk_row(partition)
    assert row is not None and row.numbers == (1, 3)
    assert partition.submit(wire.Sweep("", b""))[0].unwrap() == {"swept": 2}
    assert bulk_row(partition) is None
    assert [seat_state(partition, seat_id)[0] for seat_id in ("1A", "1B", "1C")] == [SeatState.FREE, SeatState.HELD, SeatState.FREE]


def test_a_due_hold_over_two_of_them_is_ended_once(partition: Partition) -> None:
    partition.submit(partition.hold("old", "1A", "1B", owner="bob"))
    partition.now_ms += 60_000
    assert partition.submit(each(partition, ("1A",), ("1B",)))[0].unwrap()["refused"] == []
    assert [event.key for event in partition.history if event.kind == Kind.CLOSED_HOLD] == ["AR.old"]


def test_a_stale_fence_refuses_all_and_changes_nothing(partition: Partition) -> None:
    """Not even a hold whose time was over is ended: the same command comes again under a newer lock."""
    partition.submit(partition.hold("old", "1A", owner="bob", counter=5))
    partition.submit(partition.hold("new", "1B", owner="bob", counter=9))
    partition.submit(wire.Release("release-1", b"", "AR.new", "bob"))
    partition.now_ms += 60_000
    decision = partition.decide(each(partition, ("1A",), ("1B",), counter=7))
    assert decision.outcomes[0].error["code"] == "stale_fence" and not decision.changed
    assert partition.submit(each(partition, ("1A",), ("1B",), counter=10))[0].unwrap()["refused"] == []


def test_a_stale_fence_on_a_seat_that_is_taken_is_no_obstacle(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", owner="bob", counter=9))
    value = partition.submit(each(partition, ("1A",), ("1B",), counter=7))[0].unwrap()
    assert [number for number, _ in value["refused"]] == [1]


@pytest.mark.parametrize(("owner_max", "service_max"), [(3, 50), (50, 3)])
def test_the_limits_count_them_one_by_one(partition: Partition, owner_max: int, service_max: int) -> None:
    partition.submit(partition.hold("one", "5A"))
    limits = {"owner_holds_max": owner_max, "service_holds_max": service_max}
    value = partition.submit(each(partition, ("1A",), ("1B",), ("1C",), ("1D",), **limits))[0].unwrap()
    assert [(number, error["code"], error["fields"]["limit"]) for number, error in value["refused"]] == [
        (3, "hold_limit_reached", 3),
        (4, "hold_limit_reached", 3),
    ]
    again = each(partition, ("2A",), request_id="bulk-2", bulk_id="AR.bulk2", **limits)
    assert len(partition.submit(again)[0].unwrap()["refused"]) == 1
    partition.submit(wire.Release("release-1", b"", bulk_hold_id(ID, 2), "ann"))
    third = each(partition, ("2A",), request_id="bulk-3", bulk_id="AR.bulk3", **limits)
    assert partition.submit(third)[0].unwrap()["refused"] == []


def test_the_limits_count_what_the_same_batch_made(partition: Partition) -> None:
    limits = {"owner_holds_max": 3}
    first = each(partition, ("1A",), ("1B",), **limits)
    second = each(partition, ("2A",), ("2B",), request_id="bulk-2", bulk_id="AR.bulk2", **limits)
    refused = [outcome.unwrap()["refused"] for outcome in partition.submit(first, second)]
    assert [len(one) for one in refused] == [0, 1]


@pytest.mark.parametrize("how", ["open", "extended", "closed"])
def test_ids_are_given_once(partition: Partition, how: str) -> None:
    """A request whose answer is forgotten, and that comes again, must not make holds under ids that are known."""
    partition.submit(each(partition, ("1A",), ("1B",)))
    for number in (1, 2):
        if how == "extended":
            partition.submit(wire.Extend(f"change-{number}", b"", bulk_hold_id(ID, number), "ann", 90_000, 600_000))
        elif how == "closed":
            partition.submit(wire.Release(f"change-{number}", b"", bulk_hold_id(ID, number), "ann"))
    again = each(partition, ("2A",), ("2B",), request_id="bulk-2")
    assert partition.submit(again)[0].error["code"] == "idempotency_key_reused"
    assert seat_state(partition, "2A") == (SeatState.FREE, "")


def test_an_id_is_not_given_again_in_the_entry_that_empties_its_bulk(partition: Partition) -> None:
    """The bulk's row would be written once for both; whoever follows the entries took it for the old one with a hold less."""
    partition.submit(partition.hold("one", "1A", owner="bob"))
    assert len(partition.submit(each(partition, ("1A",), ("1B",)))[0].unwrap()["refused"]) == 1
    release = wire.Release("release-1", b"", bulk_hold_id(ID, 2), "ann")
    outcomes = partition.submit(release, each(partition, ("2A",), request_id="bulk-2"))
    assert [outcome.error.get("code") for outcome in outcomes] == [None, "idempotency_key_reused"]
    assert partition.state.seats(SERVICE) == AppliedState("AR", partition.rows).seats(SERVICE)
    assert not partition.submit(partition.hold("two", "2A", owner="bob"))[0].error


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"seats": (("1A",), ("1A",))}, errors.InvalidRequest),
        ({"seats": (("1A",), ()), "prices": ((100,), ())}, errors.InvalidRequest),
        ({"seats": ()}, errors.InvalidRequest),
        ({"seats": (("1A",), ("9Z",))}, errors.UnknownSeat),
        ({"prices": ((100,),)}, errors.InvalidRequest),
        ({"prices": ((100,), (100, 100))}, errors.InvalidRequest),
        ({"refundable_percents": (1, 2, 3)}, errors.InvalidRequest),
        ({"ttl_ms": 0}, errors.InvalidRequest),
        ({"service_id": SERVICE.replace("1140", "1141")}, errors.UnknownService),
    ],
)
def test_what_can_never_be_held_is_refused_whole(
    partition: Partition, changes: dict[str, object], kind: type[errors.HoldfastError]
) -> None:
    with pytest.raises(kind):
        partition.submit(each(partition, ("1A",), ("1B",), **changes))[0].unwrap()
    assert len(partition.state.open_holds) == 0 and partition.state.seats(SERVICE) == {}


def test_a_closed_service_sells_none(partition: Partition) -> None:
    partition.submit(wire.SetService("close-1", b"", SERVICE, 1, "test"))
    assert partition.submit(each(partition, ("1A",)))[0].error["code"] == "service_closed"


@pytest.mark.parametrize("rows_form", range(ROWS_FORM + 1))
def test_what_is_decided_on_applied_state_alone_waits_for_them(partition: Partition, rows_form: int) -> None:
    """An import behind them in one batch would take the service from under them, and an operator be retired that has open holds."""
    partition.rows_form = rows_form
    assert not partition.submit(wire.SetOperator("operator", b"", "AR", "Air", "airline", b"k" * 32))[0].error
    others = (import_command([schedule("999")], request_id="import"), Retire("retire", b""))
    outcomes = partition.submit(each(partition, ("1A",), ("1B",)), *others)
    assert [outcome.error.get("code") for outcome in outcomes] == [None, "request_in_progress", "request_in_progress"]
    confirm = wire.Confirm("confirm", b"", bulk_hold_id(ID, 1), "ann", ("R00001",), b"token", b"side")
    assert not partition.submit(confirm)[0].error
    assert partition.submit(Retire("retire", b""))[0].error["code"] == "invalid_request"


def test_a_cancelled_service_releases_all(partition: Partition) -> None:
    partition.submit(each(partition, ("1A",), ("1B",)))
    assert partition.submit(wire.SetService("cancel-1", b"", SERVICE, 2, "storm"))[0].unwrap()["holds_released"] == 2
    assert bulk_row(partition) is None and len(partition.state.open_holds) == 0


def test_they_are_found_by_id_and_by_owner(partition: Partition) -> None:
    """Also by the next primary, which has only the rows."""
    partition.submit(each(partition, ("1A",), ("1B",)))
    partition.submit(wire.Extend("extend-1", b"", bulk_hold_id(ID, 2), "ann", 90_000, 600_000))
    for state in (partition.state, AppliedState("AR", partition.rows)):
        reader = Reader(state, lambda digests: {}, lambda request_id: None, lambda lsn: (1, lsn, b""))
        listed = reader.answer("holds", {"owner": "ann"}, partition.now_ms)
        assert [one["hold_id"] for one in listed] == [bulk_hold_id(ID, 1), bulk_hold_id(ID, 2)]
        assert reader.answer("hold", {"hold_id": bulk_hold_id(ID, 1)}, partition.now_ms)["seats"] == ("1A",)
        for wrong in (bulk_hold_id(ID, 3), bulk_hold_id("AR.other", 1), ID):
            with pytest.raises(errors.UnknownHold):
                reader.answer("hold", {"hold_id": wrong}, partition.now_ms)
