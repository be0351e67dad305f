"""Holds in bulk through the whole balancer, over the engine itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import pytest

from datastore import messages, wire
from datastore.errors import (
    HoldfastError,
    IdempotencyKeyReused,
    InvalidRequest,
    LocksUnavailable,
    UnknownHold,
    UnknownSeat,
    UnknownService,
)
from loadbalancer.basket import Basket, BlockDraft
from loadbalancer.batching import Lane, refused_keys
from loadbalancer.identity import operator_of_hold
from loadbalancer.waiting import Waiter, now_ms
from tests.unit.loadbalancer.scenery import FLIGHT, OTHER, OWNER, Scene, scene


def each(here: Scene, *seats: Sequence[str], owner: str = OWNER, service: str = FLIGHT, **more: object) -> messages.HoldEachAnswer:
    fields = {"request_id": here.request_id(), "owner_key": owner, "service_id": service, "seats": list(map(list, seats)), **more}
    return cast(messages.HoldEachAnswer, here.ask("hold_each", messages.HoldEach(**fields)))  # type: ignore[arg-type]


def test_each_is_a_hold_of_its_own() -> None:
    """They are listed, extended and released one by one, as if each had been asked for alone."""
    with scene() as here:
        alone = here.hold("7A")
        answer = each(here, ["3A"], ["3B", "3c"], ["4A"], ttl_ms=900_000)
        holds = [result.hold for result in answer.results() if result.hold is not None]
        assert [hold.seats for hold in holds] == [["3A"], ["3B", "3C"], ["4A"]]
        assert {hold.hold_id for hold in holds} == set(answer.hold_ids) and len(set(answer.hold_ids)) == 3
        assert [hold.total.minor for hold in holds] == [sum(prices) for prices in answer.prices]
        assert [operator_of_hold(hold.hold_id) for hold in holds] == ["AR"] * 3
        like = here.hold("4B")
        assert (holds[2].refundable_percent, holds[2].prices) == (like.refundable_percent, like.prices)
        here.ask("extend", messages.ExtendHold(request_id=here.request_id(), owner_key=OWNER, hold_id=answer.hold_ids[1], ttl_ms=1_200_000))
        here.ask("release", messages.ReleaseHold(request_id=here.request_id(), owner_key=OWNER, hold_id=answer.hold_ids[0]))
        mine = here.ask("my_holds", messages.MyHolds(owner_key=OWNER))
        assert isinstance(mine, messages.HoldsAnswer)
        assert {hold.hold_id for hold in mine.holds} == {alone.hold_id, like.hold_id, *answer.hold_ids[1:]}
        assert here.hold("3A", owner=OTHER).seats == ["3A"]


def test_the_refused_stand_beside_the_others() -> None:
    with scene() as here:
        here.hold("5A", owner=OTHER)
        answer = each(here, ["5B"], ["5A", "6A"], ["5C"])
        assert [bool(hold_id) for hold_id in answer.hold_ids] == [True, False, True]
        results = answer.results()
        assert results[1].hold is None and results[1].error["code"] == "seat_unavailable"
        assert results[1].error["fields"]["seats"] == [{"seat": "5A", "state": "held"}]
        assert here.hold("6A", owner=OTHER).seats == ["6A"]


def test_one_request_is_one_command_and_its_repeat_the_first_answer() -> None:
    with scene() as here:
        before = len(here.managers.operators["AR"].batches)
        first = each(here, ["3A"], ["3B"], request_id="request-again")
        assert len(here.managers.operators["AR"].batches) - before == 1
        lsn = here.managers.operators["AR"].lsn
        again = each(here, ["3A"], ["3B"], request_id="request-again")
        assert (again.hold_ids, again.lsn, again.created_ms) == (first.hold_ids, first.lsn, first.created_ms)
        assert here.managers.operators["AR"].lsn == lsn
        with pytest.raises(IdempotencyKeyReused):
            each(here, ["3A"], ["3D"], request_id="request-again")


def test_bad_input_is_refused_whole_and_changes_nothing() -> None:
    with scene() as here:
        lsn = here.managers.operators["AR"].lsn
        cases: list[tuple[type[HoldfastError], list[list[str]], dict[str, object], str]] = [
            (UnknownSeat, [["3A"], ["8D"]], {}, "8C"),
            (UnknownService, [["3A"]], {"service": FLIGHT.replace("1140", "1141")}, FLIGHT),
            (InvalidRequest, [["3A"], ["3a"]], {}, "twice: 3A"),
            (InvalidRequest, [["3A", "3A"]], {}, "twice: 3A"),
            (InvalidRequest, [["3A"], []], {}, "without a seat"),
            (InvalidRequest, [[f"{row}{letter}" for row in range(3, 8) for letter in "AB"]], {}, "too many"),
            (InvalidRequest, [["3A"]], {"ttl_ms": 86_000_000}, "at most 30 minutes"),
        ]
        for kind, seats, arguments, words in cases:
            with pytest.raises(kind, match=".*" + words):
                each(here, *seats, **arguments)  # type: ignore[arg-type]
        assert here.managers.operators["AR"].lsn == lsn


@pytest.mark.parametrize("seats", [[], [["3A"]] * 257, [["x" * 17]], ["3A", 4]])
def test_what_is_no_such_question_is_refused_at_the_border(seats: list[object]) -> None:
    payload = messages.encode(messages.HoldEach(request_id="request-1", owner_key=OWNER, service_id=FLIGHT, seats=seats))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        messages.decode_request("hold_each", payload)


@pytest.mark.parametrize("hold_id", ["AR.short-1", "AR.abcdefghijklmnopqrst-", "AR.abcdefghijklmnopqrst-x", "-1", "AR-1"])
def test_what_is_no_id_is_told_so(hold_id: str) -> None:
    with pytest.raises(UnknownHold):
        operator_of_hold(hold_id)


def test_two_who_want_the_same_seats_share_them_out() -> None:
    """Each seat goes to one of them, none is refused to both, and nobody waits for ever for the other's locks."""
    with scene() as here:
        seats = [[f"{row}{letter}"] for row in range(3, 6) for letter in "ABC"]
        answers: list[messages.HoldEachAnswer] = []

        def buy(owner: str, wanted: list[list[str]]) -> None:
            answers.append(each(here, *wanted, owner=owner, deadline_ms=20_000))

        threads = [threading.Thread(target=buy, args=pair) for pair in ((OWNER, seats), (OTHER, seats[::-1]))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        held = [seat for answer in answers for hold_id, one in zip(answer.hold_ids, answer.seats, strict=True) if hold_id for seat in one]
        assert sorted(held) == sorted(seat for one in seats for seat in one)


@pytest.mark.parametrize("count", [2_049, 4_097])
def test_what_is_too_large_for_the_lock_servers_is_refused(count: int) -> None:
    """The handler names its bound; and whatever else comes to the locker with more than a script takes ends as a refusal."""
    with scene() as here:
        waiter = Waiter(1)
        keys = tuple(f"AR/{FLIGHT}/{number}" for number in range(count))
        draft = BlockDraft("r", b"", FLIGHT, (), "")
        here.server.balancer.pipeline.put([Basket("AR", now_ms() + 5_000, keys=keys, draft=draft, waiter=waiter)])
        (outcome,) = waiter.wait(now_ms() + 5_000)
        assert (outcome.error.get("fields", {}).get("most") == 4_096) == (count > 4_096)
    with scene(seats_per_hold_max=400) as here, pytest.raises(InvalidRequest) as refused:
        each(here, *[[f"{row}A"] * 9 for row in range(3, 9)] * 40)
    assert refused.value.fields["most"] == 2_048


def test_seats_that_a_bulk_did_not_get_count_as_wanted() -> None:
    refusal = {"code": "seat_unavailable"}
    value = {"seats": [["1A"], ["1B", "1C"], ["1D"]], "refused": [(2, refusal), (3, {"code": "hold_limit_reached"})]}
    keys = tuple(f"AR/{FLIGHT}/{seat}" for seat in ("1A", "1B", "1C", "1D"))
    assert refused_keys(wire.Outcome(1, value), keys) == keys[1:3]
    assert refused_keys(wire.Outcome(1, {**value, "refused": []}), keys) == ()
    assert refused_keys(wire.Outcome(1, {}, refusal), keys) == keys
    assert refused_keys(wire.Outcome(1, {}, {"code": "service_closed"}), keys) == ()


def test_without_lock_servers_none_is_made() -> None:
    with scene() as here:
        here.locks.down = True
        with pytest.raises(LocksUnavailable):
            each(here, ["3A"], ["3B"], deadline_ms=200)
        here.locks.down = False
        assert here.hold("3A", owner=OTHER).seats == ["3A"]


def test_a_batch_is_full_from_so_many_seats_on() -> None:
    """Large requests neither keep a lock server from its other callers nor make an entry that cannot travel."""
    lane = Lane("AR")
    sizes = [700, 700, 700, 1, 4_000, 1]
    for size in sizes:
        lane.queue.append(Basket("AR", 1, keys=tuple(map(str, range(size))), draft=BlockDraft("r", b"", FLIGHT, (), "")))
    taken: list[list[int]] = []
    while lane.queue:
        taken.append([len(basket.keys) for basket in lane.take(512)])
    assert [[700, 700, 700], [1, 4_000], [1]] == taken
