"""Broken rules of locks and fences (PROTOCOL 2.3, Redlock's conditions)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lockstore import redlock, scripts
from tests.simulation import lockservers
from tests.simulation.balancers import Balancer
from tests.simulation.cluster import Parts
from tests.simulation.faults import mutation, replaced
from tests.simulation.lockclients import SimulatedLocks
from tests.simulation.lockservers import Administrator, Edits, LockServer


def with_edits(parts: Parts, *edits: tuple[str, str]) -> None:
    """Run other scripts on the lock servers; an edit that finds nothing would be no mutation at all."""
    texts = "".join(text for text in vars(scripts).values() if isinstance(text, str))
    for old, _ in edits:
        assert old in texts, f"no script has {old!r} any more"
    chosen: Edits = edits
    parts.lock_server = type("BrokenLockServer", (LockServer,), {"edits": chosen})


def with_locks(parts: Parts, locks: type[SimulatedLocks]) -> None:
    parts.balancer = type("BrokenBalancer", (Balancer,), {"locks_type": locks})


@mutation("a lock is counted without a quorum", "Redlock", "locks", quick=True)
def _no_quorum(parts: Parts, _: ExitStack) -> None:
    class OneIsEnough(SimulatedLocks):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.quorum = 1

    with_locks(parts, OneIsEnough)


@mutation("the quorum is of those that answer", "2.3 (all configured)", "locks", quick=True)
def _quorum_of_answers(_: Parts, stack: ExitStack) -> None:
    whole = redlock.judge

    def judge(replies: Any, request: int, needed: int) -> Any:
        return whole(replies, request, redlock.quorum(sum(isinstance(reply, redlock.Granted) for reply in replies)))

    stack.enter_context(replaced(redlock, "judge", judge))


@mutation("the token is the greatest of the grants, and not written back", "2.3", "locks", quick=True)
def _no_write_back(_: Parts, stack: ExitStack) -> None:
    whole = redlock.judge

    def judge(replies: Any, request: int, needed: int) -> Any:
        verdict = whole(replies, request, needed)
        return redlock.Certified(verdict.token) if isinstance(verdict, redlock.Uncertain) else verdict

    stack.enter_context(replaced(redlock, "judge", judge))


@mutation("the write-back does not ask whether the lock is still held", "2.3", "lapses", quick=True)
def _write_back_unheld(parts: Parts, _: ExitStack) -> None:
    with_edits(
        parts, ("if ok == '1' and token > top then top = token end\n  held[i] = ok", "if token > top then top = token end\n  held[i] = '1'")
    )


@mutation("a nonce is used again", "2.3", "locks", quick=True)
def _same_nonce(parts: Parts, _: ExitStack) -> None:
    class SameNonce(SimulatedLocks):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._draw_hex = lambda count: "ab" * count

    with_locks(parts, SameNonce)


@mutation("the token is not compared on release", "Redlock", "locks", quick=True)
def _release_any(parts: Parts, _: ExitStack) -> None:
    with_edits(
        parts,
        ("if values[at - base] == nonce then", "if values[at - base] then"),
        ("if redis.call('get', KEYS[i]) == ARGV[i] then", "if redis.call('get', KEYS[i]) then"),
    )


@mutation("a taken key is granted", "Redlock", "locks", quick=True)
def _grants_taken(parts: Parts, _: ExitStack) -> None:
    with_edits(parts, ("'PX', ttl, 'NX')", "'PX', ttl)"))


@mutation("drift is not allowed for", "Redlock", "adverse", quick=True)
def _no_drift(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(redlock, "drift_ms", lambda ttl_ms: 0))


@mutation("a lock whose validity is used up counts as held", "Redlock", "asleep", quick=True)
def _no_validity(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(redlock, "has_time", lambda valid_until, now_ms: True))


@mutation("a lock server that forgot rejoins with an empty counter", "2.3 (rejoin)", "locks")
def _rejoins_empty(parts: Parts, _: ExitStack) -> None:
    class Careless(Administrator):
        rejoin_waits = False
        rejoin_peers_all = False

    parts.administrator = Careless


@mutation("a lock server that forgot rejoins after reading one peer", "2.3 (rejoin)", "lagging", quick=True)
def _rejoins_by_one(_: Parts, stack: ExitStack) -> None:
    def counter(peer_counters: Any, needed: int) -> int | None:
        return min(peer_counters) if peer_counters else None

    stack.enter_context(replaced(lockservers, "rejoin_counter", counter))


@mutation("a lock server that forgot rejoins at once", "2.3 (rejoin)", "locks")
def _rejoins_at_once(parts: Parts, _: ExitStack) -> None:
    class Impatient(Administrator):
        rejoin_waits = False

    parts.administrator = Impatient


@mutation("the counter does not rise with every grant", "2.3", "locks", quick=True)
def _counter_stays(parts: Parts, _: ExitStack) -> None:
    with_edits(parts, ("string.format('%.0f', top + 1)", "string.format('%.0f', top)"))
