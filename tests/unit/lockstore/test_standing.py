"""What a person is told of locks: one line for each key and holder, whose it is by name, and on which servers it stands."""

from __future__ import annotations

from lockstore import redlock
from lockstore.standing import Seen, StandingLock, merged

OURS = redlock.mark("balancer-1") + "0" * 24
OTHERS = redlock.mark("balancer-2") + "0" * 24
STRANGER = "f" * 32
KEY = "seat:AR/AR1-EZE-2026-12-01/1A"


def test_marks_tell_names_apart() -> None:
    """A mark is short, the same in every process, and another for another name; without a name there is none."""
    marks = {redlock.mark(f"balancer-{number}") for number in range(100)}
    assert (100, {redlock.MARK_LENGTH}) == (len(marks), {len(mark) for mark in marks})
    assert "" == redlock.mark("")


def test_a_line_for_each_key_and_holder() -> None:
    """One key may have two holders for a moment, each on some servers; what stands the longest comes first."""
    seen = {
        "lock-1": [Seen(KEY, OURS, 400)],
        "lock-2": [Seen(KEY, OURS, 500), Seen("promote:AR", STRANGER, 900)],
        "lock-3": [Seen(KEY, OTHERS, 700)],
    }
    assert [
        StandingLock("promote:AR", "ffffffff", 900, ("lock-2",)),
        StandingLock(KEY, "balancer-2", 700, ("lock-3",)),
        StandingLock(KEY, "balancer-1", 500, ("lock-1", "lock-2")),
    ] == merged(seen, ["balancer-1", "balancer-2"])


def test_no_nonce_is_shown_whole() -> None:
    """Who knows a nonce could release the lock: not even a stranger's is told."""
    assert [8] == [len(lock.holder) for lock in merged({"lock-1": [Seen(KEY, STRANGER, 1)]}, [])]
