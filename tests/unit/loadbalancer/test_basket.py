"""The life of one request as a dialogue: event in, next step out."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from datastore import wire
from datastore.errors import InvalidRequest, LocksUnavailable, OutcomeUnknown, StaleFence, error_from_data
from loadbalancer.basket import Basket, HoldDraft, Step

KEYS = ("seat:AR/S/1A", "seat:AR/S/1B")
DRAFT = HoldDraft("request-1", b"d", "AR.h", "owner", "S", ("1A", "1B"), 900_000, "USD", (100, 100), 80, 50, 10)


class Lock(NamedTuple):
    fence: tuple[int, int]
    nonce: str = "n"


def basket() -> Basket:
    return Basket("AR", 1_000, keys=KEYS, draft=DRAFT)


def refused(error: Any) -> wire.Outcome:
    return wire.failure(error)


def code(one: Basket) -> str:
    assert one.outcome is not None
    return str(one.outcome.error.get("code"))


def test_the_plain_way() -> None:
    """Locked, submitted with the lock's fence, answered; the lock is given back only then."""
    one = basket()
    assert one.started() is Step.LOCK
    assert one.granted(Lock((1, 7), "nonce")) is Step.SUBMIT
    assert isinstance(one.command, wire.Hold)
    assert (one.command.generation, one.command.counter, one.command.nonce) == (1, 7, "nonce")
    assert (one.command.seats, one.command.prices, one.command.service_holds_max) == (("1A", "1B"), (100, 100), 10)
    assert one.spent is None
    assert one.decided(wire.Outcome(3, {"lsn": 3}), 10) is Step.ANSWER
    assert one.outcome is not None and one.outcome.value == {"lsn": 3}
    assert one.spent == Lock((1, 7), "nonce") and one.lock is None


def test_without_keys_it_starts_at_the_operator() -> None:
    """A command that takes no free seat needs no lock."""
    one = Basket("AR", 1_000, command=wire.Release("request-1", b"d", "AR.h", "owner"))
    assert one.started() is Step.SUBMIT
    assert one.decided(wire.Outcome(3, {}), 10) is Step.ANSWER and one.spent is None


def test_stale_fence_locks_again_beyond_the_hint() -> None:
    """The old lock is given back, the new one is asked to go beyond what the seat has seen (Z7)."""
    one = basket()
    one.granted(Lock((1, 7)))
    assert one.decided(refused(StaleFence("old", fence=[1, 99])), 10) is Step.LOCK
    assert (one.hint, one.spent, one.outcome) == (99, Lock((1, 7)), None)
    assert one.granted(Lock((1, 100))) is Step.SUBMIT
    assert isinstance(one.command, wire.Hold) and one.command.counter == 100


def test_stale_fence_after_the_deadline_is_the_answer() -> None:
    """Nothing is tried for a caller who is gone."""
    one = basket()
    one.granted(Lock((1, 7)))
    assert one.decided(refused(StaleFence("old", fence=[1, 99])), 1_000) is Step.ANSWER
    assert code(one) == "stale_fence"


def test_contended_pauses_until_the_deadline() -> None:
    """Contended is never "taken": it is tried again with growing pauses, and at the end it is lock_timeout (Z9)."""
    one = basket()
    pauses = []
    for now in (10, 20, 30, 999):
        assert one.contended((KEYS[1],), now) is Step.PAUSE
        pauses.append(one.pause_ms)
    assert pauses == [4, 8, 16, 32]
    assert one.contended((KEYS[1],), 1_000) is Step.ANSWER
    assert code(one) == "lock_timeout"
    assert one.outcome is not None and one.outcome.error["fields"]["seats"] == ["1B"]
    assert not one.outcome.error["maybe_committed"]


def test_unavailable_locks_name_the_servers() -> None:
    """No quorum to the deadline is locks_unavailable, with each server's reason."""
    one = basket()
    assert one.unavailable({"lock-1": "down"}, 10) is Step.PAUSE
    assert one.overdue() is Step.ANSWER
    assert one.outcome is not None
    error = error_from_data(one.outcome.error)
    assert isinstance(error, LocksUnavailable) and error.fields["reasons"] == {"lock-1": "down"}


def test_an_import_in_the_way_is_waited_out_under_the_same_lock() -> None:
    """request_in_progress was not recorded: the same command goes into the next entry."""
    one = basket()
    one.granted(Lock((1, 7)))
    command = one.command
    busy = wire.Outcome(3, {}, {"code": "request_in_progress", "fields": {}})
    assert one.decided(busy, 10) is Step.SUBMIT
    assert one.command is command and one.lock == Lock((1, 7)) and one.spent is None


@pytest.mark.parametrize("error", [OutcomeUnknown("no answer"), InvalidRequest("no")])
def test_a_failed_submission_is_passed_on(error: Any) -> None:
    """What the submission met is what the caller hears, with its own word on whether it may have happened."""
    one = basket()
    one.granted(Lock((1, 7)))
    assert one.failed(error) is Step.ANSWER
    assert one.outcome is not None and one.outcome.error["maybe_committed"] == error.maybe_committed
    assert one.spent == Lock((1, 7))


def test_overdue_in_the_operators_queue_was_surely_not_done() -> None:
    """A deadline that comes before the command was sent is operator_unavailable, not outcome_unknown."""
    one = basket()
    one.granted(Lock((1, 7)))
    assert one.overdue() is Step.ANSWER
    assert code(one) == "operator_unavailable" and one.spent == Lock((1, 7))
