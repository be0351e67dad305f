"""What is sent again, when, and what the caller hears in the end."""

from __future__ import annotations

import pytest

from datastore import wire
from datastore.errors import (
    DiskFailed,
    HoldfastError,
    InvalidRequest,
    NodeUnreachable,
    NotPrimary,
    OperatorUnavailable,
    OutcomeUnknown,
    QuorumLost,
    StaleFence,
    UnknownHold,
)
from manager.routing import Again, Delivery, error_in, innermost, opened


def delivery(writes: bool = True, deadline_ms: int = 10_000) -> Delivery:
    return Delivery("AA", deadline_ms=deadline_ms, attempt_ms=1_000, writes=writes)


@pytest.mark.parametrize("error", [UnknownHold("no"), InvalidRequest("bad"), StaleFence("old"), HoldfastError("a fault")])
def test_answers_are_passed_on(error: HoldfastError) -> None:
    """What speaks of the request itself is the answer; another place would say the same."""
    assert delivery().failed(error, "node-1", 0) is error


@pytest.mark.parametrize("error", [NodeUnreachable(), NotPrimary(), QuorumLost(), OutcomeUnknown(), DiskFailed(), OperatorUnavailable()])
def test_failures_of_the_place_are_sent_again(error: HoldfastError) -> None:
    """After a pause or a change of primary, never at once to the same node."""
    verdict = delivery().failed(error, "node-1", 0)
    assert isinstance(verdict, Again) and verdict.node == "" and verdict.pause_ms > 0


def test_a_hint_is_followed_once() -> None:
    """Two nodes that each name the other must not be asked in a circle without a pause."""
    one = delivery()
    assert one.failed(NotPrimary(primary="node-2"), "node-1", 0) == Again("node-2", 0)
    verdict = one.failed(NotPrimary(primary="node-1"), "node-2", 1)
    assert isinstance(verdict, Again) and verdict.node == "" and verdict.pause_ms > 0
    assert isinstance(one.failed(NotPrimary(primary="node-1"), "node-1", 2), Again)


def test_doubt_outlives_later_failures() -> None:
    """One attempt that may have happened makes the whole uncertain, whatever sure failures follow."""
    one = delivery()
    one.failed(OutcomeUnknown(), "node-1", 0)
    one.failed(NodeUnreachable(), "node-1", 5_000)
    final = one.failed(NotPrimary(), "node-2", 9_999)
    assert isinstance(final, OutcomeUnknown) and final.maybe_committed


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ("AA: AA: not done (AA: not done (AA: 1 of 3 copies answer, 2 are needed))", "1 of 3 copies answer, 2 are needed"),
        ("no primary is known", "no primary is known"),
        ("BB: AA: other", "BB: AA: other"),
        ("AA: not done (", "not done ("),
        ("", ""),
    ],
)
def test_a_reason_is_said_once(detail: str, reason: str) -> None:
    """Layers wrap what they pass on; the person who reads it hears the operator and the reason once."""
    assert reason == innermost("AA", detail)
    final = delivery().failed(OperatorUnavailable(detail or " "), "", 9_999)
    assert isinstance(final, HoldfastError) and final.detail == f"AA: not done ({reason or ' '})"


def test_surely_not_done() -> None:
    """No attempt was ever handed over: the caller may say so."""
    one = delivery()
    one.failed(NodeUnreachable(), "node-1", 0)
    final = one.failed(NotPrimary(), "node-2", 9_999)
    assert isinstance(final, OperatorUnavailable) and not final.maybe_committed


def test_a_read_leaves_no_doubt() -> None:
    """It changes nothing, answered or not."""
    assert isinstance(delivery(writes=False).failed(OutcomeUnknown(), "node-1", 9_999), OperatorUnavailable)


def test_attempts_get_longer_and_end_with_the_deadline() -> None:
    """A frozen node costs one attempt's time; what is merely slow gets more the next time."""
    one = delivery(deadline_ms=6_000)
    assert one.timeout_ms(0) == 1_000
    one.failed(OutcomeUnknown(), "node-1", 1_000)
    assert one.timeout_ms(1_000) == 2_000
    one.failed(OutcomeUnknown(), "node-1", 3_000)
    assert one.timeout_ms(3_000) == 3_000
    one.failed(OperatorUnavailable(), "", 3_500)  # Nobody was asked: that is no attempt.
    assert one.timeout_ms(5_900) == 100


def test_a_result_that_does_not_fit_is_a_doubt() -> None:
    """Too few results, or another operator's: nobody knows what became of the commands."""
    results = [wire.SubmitResult("AA", b"", 1, 1)]
    assert error_in(results, 0, "AA") is None
    assert isinstance(error_in(results, 1, "BB"), OutcomeUnknown)
    assert isinstance(error_in(results, 0, "BB"), OutcomeUnknown)
    refused = wire.SubmitResult("AA", b"", 0, 0, NotPrimary(primary="node-2").to_data())
    error = error_in([refused], 0, "AA")
    assert isinstance(error, NotPrimary) and error.fields["primary"] == "node-2"


BAD_ENVELOPES = [b"", b"\xc1", wire.encode([1]), wire.encode([0, []]), wire.encode([10**9, []]), wire.encode(["1", []])]


@pytest.mark.parametrize("payload", BAD_ENVELOPES)
def test_bad_envelopes(payload: bytes) -> None:
    """Bytes that are no envelope, and deadlines out of bounds, are refused before anything is done."""
    with pytest.raises(InvalidRequest):
        opened(list[wire.SubmitItem], payload)
