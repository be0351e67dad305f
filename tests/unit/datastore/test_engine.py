"""The engine: who may take which seat, and what an answer is worth."""

from __future__ import annotations

import pytest

from datastore import commands, errors, wire
from datastore.model import HoldState, Layout, LayoutSpec, OrderState, SeatState, Section
from datastore.reading import Reader
from datastore.rows import Kind, SeatRow, decode_row
from tests.unit.datastore.inventory import DAY_START_MS, LAYOUT, SERVICE, Partition, import_command, schedule

SEATS = [seat.seat_id for seat in Layout(LAYOUT).seats]


@pytest.fixture
def partition() -> Partition:
    return Partition()


def confirm(name: str, owner: str = "ann", references: tuple[str, ...] = ("ABC234",), request: str = "") -> wire.Confirm:
    return wire.Confirm(f"confirm-{request or name}", b"c", f"AR.{name}", owner, references, b"token", b"side")


def seat(partition: Partition, seat_id: str) -> SeatRow | None:
    value = partition.rows.get(Kind.SEAT, f"{SERVICE}/{seat_id}")
    return None if value is None else decode_row(Kind.SEAT, value)


def test_hold_takes_all_its_seats(partition: Partition) -> None:
    value = partition.submit(partition.hold("one", "1A", "1B"))[0].unwrap()
    assert (value["seats"], value["state"]) == (("1A", "1B"), HoldState.ACTIVE)
    assert value["expires_ms"] == partition.now_ms + 60_000
    for seat_id in ("1A", "1B"):
        row = seat(partition, seat_id)
        assert row is not None and (row.state, row.hold_id, row.owner) == (SeatState.HELD, "AR.one", "ann")


def test_two_buyers_in_one_batch_first_wins(partition: Partition) -> None:
    """Later commands of a batch see what earlier ones did, and a refusal names every seat in the way and what it is."""
    first, second = partition.submit(partition.hold("one", "1A"), partition.hold("two", "1B", "1A", owner="bob"))
    assert first.unwrap()["seats"] == ("1A",)
    with pytest.raises(errors.SeatUnavailable) as refusal:
        second.unwrap()
    assert refusal.value.fields["seats"] == [{"seat": "1A", "state": "held"}]
    assert seat(partition, "1B") is None


def test_repeat_gives_first_answer_even_after_the_world_changed(partition: Partition) -> None:
    command = partition.hold("one", "1A")
    first = partition.submit(command)[0]
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    assert partition.submit(command)[0] == first
    row = seat(partition, "1A")
    assert row is not None and row.state == SeatState.FREE


def test_a_counter_adds_each_request_once(partition: Partition) -> None:
    """Within a batch and over batches; a refused one changes nothing."""
    first, again, second = wire.Count("c-1", b"1", "hits", 5), wire.Count("c-1", b"1", "hits", 5), wire.Count("c-2", b"2", "hits", -2)
    assert [5, 5, 3] == [outcome.unwrap()["value"] for outcome in partition.submit(first, again, second)]
    assert 5 == partition.submit(first)[0].unwrap()["value"]
    for wrong in (wire.Count("c-3", b"3", "No Name", 1), wire.Count("c-4", b"4", "hits", 2**53)):
        with pytest.raises(errors.InvalidRequest):
            partition.submit(wrong)[0].unwrap()
    assert 3 == partition.submit(wire.Count("c-5", b"5", "hits", 0))[0].unwrap()["value"]


def test_repeat_of_a_refusal_is_the_refusal(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"))
    late = partition.hold("two", "1A", owner="bob")
    first = partition.submit(late)[0]
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    assert partition.submit(late)[0] == first
    assert first.error["code"] == "seat_unavailable"


def test_a_refusal_that_a_balancer_proved_is_the_answer_to_the_attempt(partition: Partition) -> None:
    """Another try of the request, under way since before, does not get the seats; one that was faster keeps them (Z3)."""
    late = partition.hold("late", "1A")
    refuse = commands.Refuse(late.request_id, late.digest, "seat_unavailable", "sold out", {"free": 0, "lsn": 7, "seats": []})
    (refused,) = partition.submit(refuse)
    assert refused.error["code"] == "seat_unavailable" and refused.error["fields"] == {"free": 0, "lsn": 7, "seats": []}
    assert partition.submit(late, refuse) == [refused, refused]
    assert partition.state.seats(SERVICE) == {}

    first = partition.hold("first", "1A")
    (held,) = partition.submit(first)
    assert partition.submit(commands.Refuse(first.request_id, first.digest, "no_adjacent_block", "none together", {})) == [held]
    other = partition.submit(commands.Refuse(first.request_id, b"another", "no_adjacent_block", "none together", {}))[0]
    assert other.error["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("code", ["invariant_broken", "request_in_progress", "stale_fence", "rate_limited", "no such code", ""])
def test_nothing_but_that_there_is_no_room_can_be_written_down(partition: Partition, code: str) -> None:
    (outcome,) = partition.submit(commands.Refuse("request-odd", b"odd", code, "as you say", {}))
    assert outcome.error["code"] == "invalid_request"


def test_a_refusal_whose_fields_are_odd_can_be_told(partition: Partition) -> None:
    odd = {"self": 1, "detail": 2, "request_id": 3, "": 4, "free": 0}
    (outcome,) = partition.submit(commands.Refuse("request-odd", b"odd", "seat_unavailable", "sold out", odd))
    with pytest.raises(errors.SeatUnavailable, match="sold out") as caught:
        outcome.unwrap()
    assert caught.value.fields["free"] == 0


def test_repeat_within_one_batch(partition: Partition) -> None:
    command = partition.hold("one", "1A")
    first, second = partition.submit(command, command)
    assert first == second
    assert sum(event.kind == Kind.OPEN_HOLD for event in partition.history) == 1


def test_same_request_id_with_another_body_is_refused(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"))
    with pytest.raises(errors.IdempotencyKeyReused):
        partition.submit(partition.hold("one", "1B", digest=b"other"))[0].unwrap()
    assert seat(partition, "1B") is None


def test_stale_fence_is_refused_and_not_recorded(partition: Partition) -> None:
    """A holder that slept through its lock is refused even though the seat is free again; with a newer lock it is served."""
    partition.submit(partition.hold("one", "1A", counter=7))
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    with pytest.raises(errors.StaleFence) as refusal:
        partition.submit(partition.hold("two", "1A", owner="bob", counter=5))[0].unwrap()
    assert refusal.value.fields["fence"] == [1, 7]
    assert partition.submit(partition.hold("two", "1A", owner="bob", counter=8))[0].unwrap()["seats"] == ("1A",)


def test_equal_fence_of_another_nonce_is_refused(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", counter=7))
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    assert partition.submit(partition.hold("two", "1A", counter=7, nonce="other"))[0].error["code"] == "stale_fence"


def test_newer_generation_beats_a_higher_counter(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", counter=1000))
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    assert not partition.submit(partition.hold("two", "1A", counter=3, generation=2))[0].error


def test_due_hold_is_aborted_by_the_next_taker_in_the_same_entry(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", "1B", ttl_ms=1000))
    partition.now_ms += 1000
    lsn = partition.lsn
    assert partition.submit(partition.hold("two", "1A", owner="bob"))[0].unwrap()["seats"] == ("1A",)
    assert partition.lsn == lsn + 1
    with pytest.raises(errors.HoldExpired):
        partition.submit(confirm("one"))[0].unwrap()
    assert seat(partition, "1B").state == SeatState.FREE  # type: ignore[union-attr]


def test_the_best_available_is_taken_only_while_it_is_that(partition: Partition) -> None:
    """Seats chosen from an older state are refused with what is taken now; the refusal is recorded and changes nothing."""
    partition.submit(partition.hold("end", "2A"), partition.hold("other", "1D"))
    before = dict(partition.rows.rows)
    orphan = partition.hold("one", "3A", "2B", "2C", chosen=commands.Chosen(1))
    given_back = partition.hold("two", "3A", "3B", chosen=commands.Chosen(1, ("Y",), tuple(sorted({*SEATS} - {"1D", "2A", "2B"}))))
    exact_fit = partition.hold("three", "3A", chosen=commands.Chosen(1, ("Y",), tuple(sorted({*SEATS} - {"2A", "2B"})), ("2B",)))
    first = partition.submit(orphan, given_back, exact_fit)
    told = [([], ["2A"], ["2D", "3B"]), ([], [], ["2B"]), ([], ["1D"], [])]  # the seats around; what was given back; what is gone
    for outcome, (seats, taken, freed) in zip(first, told, strict=True):
        assert outcome.error["code"] == "seat_unavailable" and "not the best" in outcome.error["detail"]
        fields = outcome.error["fields"]
        assert (fields["seats"], fields["taken"], fields["freed"], fields["lsn"]) == (seats, taken, freed, partition.lsn - 1)
    assert partition.rows.rows == before
    partition.submit(wire.Release("release", b"r", "AR.end", "ann"))
    assert partition.submit(orphan, given_back, exact_fit) == first
    stands = partition.hold("four", "1A", chosen=commands.Chosen(1, ("Y",), tuple(sorted({*SEATS} - {"1D", "2B"})), ("2B",)))
    gone = partition.hold("five", "3A", "3B", chosen=commands.Chosen(0, ("W",), ("9Z",)))  # of a layout before this one
    assert not any(outcome.error for outcome in partition.submit(stands, gone))


def test_a_released_hold_is_said_to_be_released(partition: Partition) -> None:
    """Its time may not be over at all: the sentence says what happened, and `state` says it to programs."""
    partition.submit(partition.hold("one", "1A"))
    partition.submit(wire.Release("release-1", b"r", "AR.one", "ann"))
    with pytest.raises(errors.HoldExpired, match="was released") as caught:
        partition.submit(confirm("one"))[0].unwrap()
    assert ("released", "hold_expired") == (caught.value.fields["state"], caught.value.code)
    assert "expired" not in caught.value.title + caught.value.detail


def test_sweep_frees_what_is_due_and_only_that(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", ttl_ms=1000), partition.hold("two", "2A", ttl_ms=9000))
    partition.now_ms += 1500
    assert partition.submit(wire.Sweep("", b""))[0].unwrap() == {"swept": 1}
    assert seat(partition, "1A").state == SeatState.FREE  # type: ignore[union-attr]
    assert seat(partition, "2A").state == SeatState.HELD  # type: ignore[union-attr]
    assert not partition.decide(wire.Sweep("", b"")).changed


@pytest.mark.parametrize(
    ("seats", "code"),
    [((), "invalid_request"), (("1A", "1A"), "invalid_request"), (("9Z",), "unknown_seat"), (("1A\x00",), "unknown_seat")],
)
def test_bad_seats_change_nothing(partition: Partition, seats: tuple[str, ...], code: str) -> None:
    decision = partition.decide(partition.hold("one", *seats))
    assert (decision.outcomes[0].error["code"], decision.events) == (code, [])


def test_unknown_service_departed_service(partition: Partition) -> None:
    assert partition.submit(partition.hold("one", "1A", service_id="AR9-EZE-2026-12-01"))[0].error["code"] == "unknown_service"
    partition.now_ms = DAY_START_MS + 86_400_000
    assert partition.submit(partition.hold("two", "1A"))[0].error["fields"]["state"] == "departed"


def test_limits_count_open_holds_only(partition: Partition) -> None:
    limits = {"service_holds_max": 2}
    for name, place in (("a", "1A"), ("b", "1B")):
        assert not partition.submit(partition.hold(name, place, ttl_ms=1000, **limits))[0].error
    assert partition.submit(partition.hold("c", "1C", **limits))[0].error["code"] == "hold_limit_reached"
    assert not partition.submit(partition.hold("d", "1C", owner="bob", **limits))[0].error
    partition.now_ms += 1000
    assert not partition.submit(partition.hold("e", "1D", **limits))[0].error


def test_extend_goes_to_the_limit_and_never_back(partition: Partition) -> None:
    created = partition.now_ms
    partition.submit(partition.hold("one", "1A", ttl_ms=60_000))
    partition.now_ms += 30_000
    extend = wire.Extend("extend-1", b"e", "AR.one", "ann", 100_000, 90_000)
    assert partition.submit(extend)[0].unwrap()["expires_ms"] == created + 90_000
    shorter = wire.Extend("extend-2", b"e", "AR.one", "ann", 1_000, 90_000)
    assert partition.submit(shorter)[0].unwrap()["expires_ms"] == created + 90_000


def test_another_owner_can_do_nothing(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"))
    for command in (
        wire.Extend("x-extend", b"", "AR.one", "eve", 1000, 90_000),
        wire.Release("x-release", b"", "AR.one", "eve"),
        confirm("one", owner="eve"),
    ):
        assert partition.submit(command)[0].error["code"] == "hold_not_yours"
    assert seat(partition, "1A").state == SeatState.HELD  # type: ignore[union-attr]


def test_confirm_then_cancel(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", "1B"))
    order = partition.submit(confirm("one"))[0].unwrap()
    assert (order["reference"], order["state"]) == ("ABC234", OrderState.CONFIRMED)
    assert seat(partition, "1A").state == SeatState.BOOKED  # type: ignore[union-attr]
    again = partition.submit(confirm("one", request="again"))[0]
    assert (again.error["code"], again.error["fields"]["reference"]) == ("already_confirmed", "ABC234")
    wrong = partition.submit(wire.Cancel("cancel-0", b"", "ABC234", b"guess"))[0]
    assert wrong.error["code"] == "unknown_order"
    cancelled = partition.submit(wire.Cancel("cancel-1", b"", "ABC234", b"token"))[0].unwrap()
    assert (cancelled["state"], cancelled["refund_minor"]) == (OrderState.CANCELLED, 16_000)
    assert seat(partition, "1A").state == SeatState.FREE  # type: ignore[union-attr]
    assert partition.submit(wire.Cancel("cancel-2", b"", "ABC234", b"token"))[0].error["code"] == "already_cancelled"


def test_a_taken_reference_is_passed_over(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"), partition.hold("two", "1B"))
    partition.submit(confirm("one"))
    assert partition.submit(confirm("two", references=("ABC234", "XYZ789")))[0].unwrap()["reference"] == "XYZ789"
    partition.submit(partition.hold("three", "1C"))
    outcome = partition.submit(confirm("three", references=("ABC234",)))[0]
    assert outcome.error["retryable"]
    assert not partition.submit(confirm("three", references=("QQQ222",)))[0].error


def test_block_and_unblock(partition: Partition) -> None:
    partition.submit(wire.Block("block-1", b"", SERVICE, ("1A",), "crew rest", 1, 50, "n"))
    outcome = partition.submit(partition.hold("one", "1A", counter=60))[0]
    assert (outcome.error["code"], outcome.error["fields"]["seats"]) == ("seat_blocked", [{"seat": "1A", "state": "blocked"}])
    assert partition.submit(wire.Unblock("unblock-0", b"", SERVICE, ("1B",)))[0].error["code"] == "invalid_request"
    partition.submit(wire.Unblock("unblock-1", b"", SERVICE, ("1A",)))
    assert not partition.submit(partition.hold("two", "1A", counter=61))[0].error


def test_cancelled_service_gives_everything_back(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"), partition.hold("two", "2A", "2B", owner="bob"))
    partition.submit(confirm("one"))
    value = partition.submit(wire.SetService("service-1", b"", SERVICE, 2, "strike"))[0].unwrap()
    assert (value["orders_cancelled"], value["holds_released"]) == (["ABC234"], 1)
    order = partition.state.order("ABC234")
    assert order is not None and (order.state, order.refund_minor) == (OrderState.CANCELLED, 10_000)
    assert all(row.state == SeatState.FREE for row in partition.state.seats(SERVICE).values())
    assert partition.submit(partition.hold("three", "1A"))[0].error["code"] == "service_closed"
    assert partition.submit(wire.SetService("service-2", b"", SERVICE, 0, ""))[0].error["code"] == "already_cancelled"


def test_closed_service_sells_nothing_new_but_keeps_its_word(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A"))
    partition.submit(wire.SetService("service-1", b"", SERVICE, 1, "full"))
    assert partition.submit(partition.hold("two", "1B"))[0].error["code"] == "service_closed"
    assert partition.submit(confirm("one"))[0].unwrap()["reference"] == "ABC234"


def test_import_again_changes_nothing(partition: Partition) -> None:
    decision = partition.decide(import_command([schedule()]))
    assert decision.events == []
    assert decision.outcomes[0].unwrap()["unchanged"] == 1


def test_import_replaces_its_own_dataset_only(partition: Partition) -> None:
    partition.submit(import_command([schedule("77")], dataset="other"))
    value = partition.submit(import_command([schedule("78")], dataset="other"))[0].unwrap()
    assert (value["added"], value["removed"]) == (1, 1)
    assert partition.state.facts(SERVICE) is not None


def test_import_may_not_give_one_id_two_meanings(partition: Partition) -> None:
    decision = partition.decide(import_command([schedule()], dataset="other"))
    assert (decision.outcomes[0].error["code"], decision.events) == ("invalid_request", [])


def test_import_may_not_take_away_what_is_sold(partition: Partition) -> None:
    partition.submit(partition.hold("one", "5D"))
    gone = partition.submit(import_command([schedule("2")]))[0]
    assert gone.error["fields"]["lost"] == [SERVICE]
    smaller = LayoutSpec("T20", "Fewer", (Section("Y", "A", tuple("1234"), ("A", "B", "", "C", "D")),))
    cut = partition.submit(import_command([schedule()], layout=smaller))[0]
    assert cut.error["fields"]["lost"] == [f"{SERVICE}/5D"]


def test_commands_behind_an_import_wait_for_the_new_timetable(partition: Partition) -> None:
    imported, held = partition.submit(import_command([schedule("2")]), partition.hold("one", "1A"))
    assert imported.unwrap()["removed"] == 1
    assert held.error["code"] == "request_in_progress"
    assert partition.submit(partition.hold("one", "1A"))[0].error["code"] == "unknown_service"


def test_a_row_across_the_date_line_arrives_the_day_before() -> None:
    """An arrival day of -1 is a real timetable row, worked out as an instant after the departure."""
    partition = Partition(schedules=[schedule(departs_min=600, arrives_min=1380, arrives_day=-1)])
    facts = partition.state.facts(SERVICE)
    assert facts is not None and facts.service.arrives_ms < facts.service.departs_ms + 86_400_000
    refused = partition.submit(import_command([schedule(arrives_day=-2)]))[0]
    assert refused.error["code"] == "invalid_request"


def test_one_stale_seat_among_several_is_enough(partition: Partition) -> None:
    """Of two seats with one newest fence, a single other nonce shows that a lock server lied, whichever seat comes last."""
    for name, place in (("one", "1A"), ("two", "1B")):
        partition.submit(partition.hold(name, place, counter=7, nonce=f"nonce-{name}"))
        partition.submit(wire.Release(f"release-{name}", b"r", f"AR.{name}", "ann"))
    for number, seats in enumerate((("1A", "1B"), ("1B", "1A"))):
        again = partition.hold(f"again-{number}", *seats, counter=7, nonce="nonce-two")
        assert partition.submit(again)[0].error["code"] == "stale_fence"


def test_closing_again_without_a_reason_keeps_the_first(partition: Partition) -> None:
    partition.submit(wire.SetService("service-1", b"", SERVICE, 1, "weather"))
    partition.submit(wire.SetService("service-2", b"", SERVICE, 1, ""))
    assert "weather" in partition.submit(partition.hold("one", "1A"))[0].error["detail"]
    partition.submit(wire.SetService("service-3", b"", SERVICE, 0, ""))
    assert partition.state.services[SERVICE].reason == ""


def test_a_hold_whose_time_is_over_reads_as_expired_before_any_entry_says_so(partition: Partition) -> None:
    partition.submit(partition.hold("one", "1A", ttl_ms=1000), partition.hold("two", "1B", ttl_ms=9000))
    reader = Reader(partition.state, lambda _: {}, partition.answers.get)
    now_ms = partition.now_ms + 1000
    assert reader.answer("hold", {"hold_id": "AR.one"}, now_ms)["state"] == HoldState.EXPIRED
    assert [hold["hold_id"] for hold in reader.answer("holds", {"owner": "ann"}, now_ms)] == ["AR.two"]
