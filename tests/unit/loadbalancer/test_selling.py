"""Holds through the whole balancer, over the engine itself."""

from __future__ import annotations

import threading

import pytest

from datastore import messages
from datastore.errors import (
    HoldfastError,
    IdempotencyKeyReused,
    InvalidRequest,
    LocksUnavailable,
    LockTimeout,
    NoAdjacentBlock,
    OperatorUnavailable,
    SeatUnavailable,
    StaleFence,
    UnknownOperator,
    UnknownSeat,
    UnknownService,
)
from datastore.model import parse_service_id
from tests.unit.loadbalancer.local_tiers import LocalManagers
from tests.unit.loadbalancer.scenery import FLIGHT, OTHER, OWNER, scene
from tests.waiting import wait_until


def test_hold_extend_release() -> None:
    """A hold has its seats, prices and end; it can be extended, seen, and given back, and then sold to another."""
    with scene() as here:
        hold = here.hold("3A", "3b")
        assert (hold.state, hold.seats, hold.operator) == ("active", ["3A", "3B"], "AR")
        assert hold.total.minor == sum(price.minor for price in hold.prices) > 0
        assert 890_000 < hold.remaining_ms <= 900_000
        longer = here.ask(
            "extend", messages.ExtendHold(request_id=here.request_id(), owner_key=OWNER, hold_id=hold.hold_id, ttl_ms=1_200_000)
        )
        assert isinstance(longer, messages.HoldAnswer) and longer.expires_ms > hold.expires_ms
        mine = here.ask("my_holds", messages.MyHolds(owner_key=OWNER))
        assert isinstance(mine, messages.HoldsAnswer) and [one.hold_id for one in mine.holds] == [hold.hold_id]
        with pytest.raises(SeatUnavailable) as refused:
            here.hold("3A", owner=OTHER)
        assert refused.value.fields["seats"] == [{"seat": "3A", "state": "held"}]
        released = here.ask("release", messages.ReleaseHold(request_id=here.request_id(), owner_key=OWNER, hold_id=hold.hold_id))
        assert isinstance(released, messages.HoldAnswer) and released.state == "released"
        assert here.hold("3A", owner=OTHER).seats == ["3A"]


def test_a_repeat_gives_the_first_answer() -> None:
    """The same request id gives the same hold; with another question it is refused."""
    with scene() as here:
        first = here.hold("4A", request_id="request-again")
        assert here.hold("4A", request_id="request-again").hold_id == first.hold_id
        with pytest.raises(IdempotencyKeyReused):
            here.hold("4B", request_id="request-again")


def test_bad_input_is_refused_and_changes_nothing() -> None:
    """Each wrong question names what is wrong and the nearest right one; nothing reaches the operator."""
    with scene() as here:
        lsn = here.managers.operators["AR"].lsn
        cases: list[tuple[type[HoldfastError], dict[str, object], str]] = [
            (UnknownOperator, {"seats": ("1A",), "service": FLIGHT.replace("AR", "AX")}, "AR"),
            (UnknownService, {"seats": ("1A",), "service": FLIGHT.replace("1140", "1141")}, FLIGHT),
            (UnknownSeat, {"seats": ("8D",)}, "8C"),
            (InvalidRequest, {"seats": ("1A", "1A")}, "twice"),
            (InvalidRequest, {"seats": ("1A", "1a")}, "twice"),
            (InvalidRequest, {"seats": ()}, "no seat"),
            (InvalidRequest, {"seats": tuple(f"{row}{letter}" for row in range(3, 8) for letter in "AB")}, "too many"),
            (InvalidRequest, {"seats": (), "count": 10}, "too many"),
            (InvalidRequest, {"seats": ("1A",), "count": 1}, "not both"),
            (InvalidRequest, {"seats": ("1A",), "ttl_ms": 86_000_000}, "at most 30 minutes"),
            (UnknownSeat, {"seats": ("\x00\x1b",)}, "x00"),
            (InvalidRequest, {"seats": (), "count": 1, "cabin": "F"}, "no cabin"),
        ]
        for kind, arguments, words in cases:
            seats = arguments.pop("seats")
            with pytest.raises(kind, match=".*" + words):
                here.hold(*seats, **arguments)  # type: ignore[misc, arg-type]
        assert here.managers.operators["AR"].lsn == lsn


def test_many_holds_stand_or_fall_alone() -> None:
    """A bulk caller's holds come back in order, the refused with their errors, in few batches."""
    with scene() as here:
        here.hold("5A")
        holds = [
            messages.HoldSeats(
                request_id=here.request_id(), owner_key=OWNER if row % 2 else OTHER, service_id=FLIGHT, seats=[f"{row}{letter}"]
            )
            for row in range(3, 8)
            for letter in "AB"
        ]
        holds[3] = messages.HoldSeats(request_id=here.request_id(), owner_key=OWNER, service_id=FLIGHT, seats=["99Z"])
        holds[4] = messages.HoldSeats(request_id=here.request_id(), owner_key=OWNER, service_id=FLIGHT, seats=["5A"])
        holds.append(messages.HoldSeats(request_id=here.request_id(), owner_key=OTHER, service_id=FLIGHT, count=2))
        before = len(here.managers.operators["AR"].batches)
        answer = here.ask("hold_many", messages.HoldMany(holds=holds))
        assert isinstance(answer, messages.HoldManyAnswer)
        words = [result.hold.seats[0] if result.hold else result.error["code"] for result in answer.results]
        assert words[:10] == ["3A", "3B", "4A", "unknown_seat", "seat_unavailable", "5B", "6A", "6B", "7A", "7B"]
        assert answer.results[10].hold is not None and len(answer.results[10].hold.seats) == 2
        # One batch for the named, one for the proposal: what was put in together goes together.
        assert len(here.managers.operators["AR"].batches) - before <= 3


def test_one_seat_and_many_buyers() -> None:
    """Of many buyers of one seat exactly one gets it; the others hear that it is held, and the lock servers see no contest."""
    with scene() as here:
        got: list[str] = []

        def buy(number: int) -> None:
            try:
                here.hold("6A", owner=f"owner-key-of-buyer-{number}")
                got.append("held")
            except SeatUnavailable:
                got.append("refused")

        threads = [threading.Thread(target=buy, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(got) == ["held"] + ["refused"] * 15


def test_any_seats_sell_out_exactly() -> None:
    """Buyers of "any 2" at once get all seats of the cabin in pairs that never overlap; then the refusal says what is left."""
    with scene() as here:
        seats: list[str] = []
        refusals: list[HoldfastError] = []

        def buy(number: int) -> None:
            try:
                seats.extend(here.hold(owner=f"owner-key-of-buyer-{number}", count=2, cabin="Y").seats)
            except SeatUnavailable as error:
                refusals.append(error)

        threads = [threading.Thread(target=buy, args=(number,)) for number in range(14)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(seats) == len(set(seats)) == 22
        assert [error.fields["free"] for error in refusals] == [1, 1, 1]


def test_no_adjacent_block_is_proved() -> None:
    """`together` is refused only when the primary's own state has no such block, and the count of free seats is told."""
    with scene() as here:
        for row in range(3, 9):
            here.hold(f"{row}A", f"{row}C", owner=f"owner-key-of-row-{row}")
        with pytest.raises(NoAdjacentBlock) as refused:
            here.hold(count=2, cabin="Y", together=True)
        assert refused.value.fields["free"] == 11
        assert here.hold(count=2, cabin="Y").seats


def test_a_repeated_any_meets_its_hold_at_another_balancer() -> None:
    """Best available, asked again at another balancer whose view is empty of it, gives the first hold and makes no second."""
    managers = LocalManagers(["AR"])
    with scene() as one:
        managers = one.managers
        first = one.hold(count=3, request_id="request-any-3")
        with scene(managers=managers) as two:
            assert two.hold(count=3, request_id="request-any-3").hold_id == first.hold_id
            rest = [two.hold(count=1, owner=f"owner-key-of-buyer-{number}") for number in range(26)]
            assert len({seat for hold in rest for seat in hold.seats} | set(first.seats)) == 29
            # Sold out, and the repeat still finds its own hold instead of hearing so.
            assert one.hold(count=3, request_id="request-any-3").hold_id == first.hold_id


def test_stale_fence_is_lifted_unseen() -> None:
    """A lock server counter that fell behind what a seat has seen costs the caller nothing but another round (Z7)."""
    with scene() as here:
        here.locks.counter = 1_000
        hold = here.hold("7A")
        here.ask("release", messages.ReleaseHold(request_id=here.request_id(), owner_key=OWNER, hold_id=hold.hold_id))
        here.locks.counter = 5
        assert here.hold("7A", owner=OTHER).seats == ["7A"]
        assert here.locks.counter > 1_000
        wait_until(lambda: not here.locks.held, "all locks are given back", 5)


def test_contended_and_unavailable_locks() -> None:
    """A key that a rival keeps is lock_timeout at the deadline, no quorum is locks_unavailable; both changed nothing."""
    with scene() as here:
        lsn = here.managers.operators["AR"].lsn
        here.locks.held[f"seat:AR/{FLIGHT}/3C"] = "somebody else"
        with pytest.raises(LockTimeout, match="3C"):
            here.hold("3C", "3D", deadline_ms=150)
        # Behind the one that waits: its turn never comes, its answer does.
        here.locks.down = True
        with pytest.raises(LocksUnavailable):
            here.hold("4C", deadline_ms=150)
        here.locks.down = False
        del here.locks.held[f"seat:AR/{FLIGHT}/3C"]
        assert here.managers.operators["AR"].lsn == lsn
        assert here.hold("3C", "3D", "4C").seats == ["3C", "3D", "4C"]


def test_an_operator_that_is_cut_off_says_so() -> None:
    """operator_unavailable goes to the caller as such, and nothing stays locked or in line."""
    with scene(("AR", "LA")) as here:
        here.managers.cut.add("AR")
        with pytest.raises(OperatorUnavailable):
            here.hold("3A")
        assert here.hold("3A", service=FLIGHT.replace("AR", "LA")).operator == "LA"
        here.managers.cut.clear()
        assert here.hold("3A").seats == ["3A"]
        wait_until(lambda: not here.locks.held, "all locks are given back", 5)


def test_service_ids_hold_their_operator() -> None:
    """The scenery's service id means what the tests think."""
    assert parse_service_id(FLIGHT, ("AR",)).number == "1140"
    assert StaleFence.retryable
