"""Redlock's decisions: quorum and validity arithmetic, the two paths of the token, the three outcomes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstore import redlock
from lockstore.redlock import Certified, Grant, Granted, Missing, Refused, Uncertain, judge

DEAD = Missing("connection refused", sent=False)
LATE = Missing("no answer in time", sent=True)
TAKEN = Granted(0, (1,))


def grant(**changes: object) -> Grant:
    values: dict[str, object] = {"keys": ("seat:a",), "nonce": "n" * 32, "fence": (1, 7), "valid_until_ms": 1_000, "fast": True}
    return Grant(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("servers", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_quorum_is_the_majority_of_all_configured_servers(servers: int, needed: int) -> None:
    """Two quorums of one set must always share a server."""
    assert redlock.quorum(servers) == needed
    assert 2 * needed > servers


def test_validity_counts_from_before_the_first_request_and_gives_up_the_drift() -> None:
    """validity = ttl - elapsed - drift, with 1 % and 2 ms of drift, rounded against the holder."""
    assert redlock.drift_ms(5_000) == 52
    assert redlock.drift_ms(2_001) == 23
    until = redlock.valid_until_ms(5_000, started_ms=10_000)
    assert until == 10_000 + 5_000 - 52
    assert redlock.has_time(until, until - 1)
    assert not redlock.has_time(until, until)


def test_a_common_value_of_a_majority_is_the_token_even_if_others_returned_more() -> None:
    """The fast path."""
    assert judge([Granted(5), Granted(9), Granted(5)], 0, 2) == Certified(5)
    assert judge([Granted(5), DEAD, Granted(5)], 0, 2) == Certified(5)


def test_different_values_need_a_write_back_of_the_greatest_to_those_that_granted() -> None:
    """The slow path."""
    assert judge([Granted(5), Granted(9), LATE], 0, 2) == Uncertain(9, frozenset({0, 1}))


def test_a_write_back_counts_only_where_the_grant_was_received() -> None:
    """A server whose grant never arrived may have returned more than the token, so its consent proves nothing."""
    uncertain = Uncertain(9, frozenset({0, 1}))
    assert redlock.certify(uncertain, {0, 1}, 2)
    assert not redlock.certify(uncertain, {0, 2}, 2)
    assert not redlock.certify(uncertain, {2}, 2)


def test_a_minority_of_failures_does_not_spoil_a_granted_lock() -> None:
    """Two dead of five cost nothing."""
    assert judge([Granted(3), DEAD, Granted(3), LATE, Granted(3)], 0, 3) == Certified(3)


def test_contended_means_that_a_majority_answered() -> None:
    """Trying again helps; the keys found taken are told, and what was set is released."""
    verdict = judge([TAKEN, Granted(4), DEAD], 0, 2)
    assert verdict == Refused(
        contended=True, taken=(0,), reasons={0: "taken", 2: "connection refused"}, maybe_held=frozenset({1})
    )


def test_unavailable_means_that_no_majority_could_be_used() -> None:
    """Each server's reason is kept."""
    verdict = judge([TAKEN, LATE, DEAD], 0, 2)
    assert isinstance(verdict, Refused)
    assert not verdict.contended
    assert verdict.reasons == {0: "taken", 1: "no answer in time", 2: "connection refused"}


def test_a_failed_request_may_stand_where_the_answer_is_missing() -> None:
    """A paused server still carries out what it was sent; one that was never asked, or said no, has nothing."""
    verdict = judge([LATE, DEAD, TAKEN], 0, 2)
    assert isinstance(verdict, Refused)
    assert verdict.maybe_held == frozenset({0})


def test_nobody_is_contended_by_servers_that_all_granted_too_few() -> None:
    """A minority of grants without any refusal is unavailability, not contention."""
    verdict = judge([Granted(4), DEAD, DEAD], 0, 2)
    assert isinstance(verdict, Refused)
    assert not verdict.contended


def test_requests_of_a_batch_are_judged_apart() -> None:
    """One refused request takes nothing from its neighbours."""
    replies = [Granted(8, (0, 2, -1)), Granted(8, (0, 2, -1)), Granted(8, (0, 0, 0))]
    assert judge(replies, 0, 2) == Certified(8)
    second, third = judge(replies, 1, 2), judge(replies, 2, 2)
    assert isinstance(second, Refused) and second.contended and second.taken == (1,)
    assert isinstance(third, Refused) and not third.contended
    assert "hint" in third.reasons[0]


def test_the_batch_short_cut_wants_one_value_from_a_majority_for_everything() -> None:
    """Where it says nothing, requests are judged one by one."""
    assert redlock.unanimous_counter([Granted(4), Granted(5), Granted(4)], 2) == 4
    assert redlock.unanimous_counter([Granted(4), Granted(5), DEAD], 2) is None
    assert redlock.unanimous_counter([Granted(4), Granted(4, (0, 1)), DEAD], 2) is None


reply = st.one_of(
    st.just(DEAD), st.just(LATE), st.just(TAKEN), st.integers(1, 4).map(Granted), st.integers(1, 4).map(lambda c: Granted(c, (0,)))
)


@given(st.sampled_from([1, 3, 5]).flatmap(lambda n: st.lists(reply, min_size=n, max_size=n)))
def test_judging_agrees_with_its_plain_twin(replies: list[redlock.AcquireReply]) -> None:
    """The twin tries every subset of servers that is a majority."""
    needed = redlock.quorum(len(replies))
    values = {i: r.counter for i, r in enumerate(replies) if isinstance(r, Granted) and r.codes != (1,)}
    majorities = [set(c) for size in range(needed, len(replies) + 1) for c in itertools.combinations(values, size)]
    common = {values[min(m)] for m in majorities if len({values[s] for s in m}) == 1}
    verdict = judge(replies, 0, needed)
    if not majorities:
        assert isinstance(verdict, Refused)
    elif common:
        assert {verdict} == {Certified(value) for value in common}
    else:
        assert verdict == Uncertain(max(values.values()), frozenset(values))
    short = redlock.unanimous_counter(replies, needed)
    assert short is None or verdict == Certified(short)


def test_replies_of_the_script_are_read() -> None:
    """One number when all was granted, else a code for each request."""
    assert redlock.parse_acquire(b"12", 3) == Granted(12)
    assert redlock.parse_acquire(b"12,0,2,-1", 3) == Granted(12, (0, 2, -1))
    assert redlock.parse_acquire(b"0,1", 1) == Granted(0, (1,))


@pytest.mark.parametrize(
    ("text", "part"),
    [(b"-2", "not initialised"), (b"-3,7", "generation 7"), (b"-4", "no room left"), (b"-9", "unknown refusal"), (b"12,0", "1 of 3")],
)
def test_refusals_of_a_whole_call_never_count_as_votes(text: bytes, part: str) -> None:
    """The reason names what to mend."""
    parsed = redlock.parse_acquire(text, 3)
    assert isinstance(parsed, Missing)
    assert part in parsed.reason


def test_an_extension_needs_a_majority_that_still_held_the_keys() -> None:
    """Silence is not consent."""
    assert redlock.held_by_quorum([b"11", b"10", None], 0, 2)
    assert not redlock.held_by_quorum([b"11", b"10", None], 1, 2)


def test_a_lock_is_extended_only_while_valid_and_not_for_ever() -> None:
    """Past its validity it may be another's; without a bound a holder starves the rest."""
    assert redlock.may_extend(grant(), now_ms=999, extensions_max=3)
    assert not redlock.may_extend(grant(), now_ms=1_000, extensions_max=3)
    assert not redlock.may_extend(grant(extensions=3), now_ms=0, extensions_max=3)
