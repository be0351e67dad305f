"""Broken rules of deciding, of answering and of the tiers above (Z2, Z7, B6, I9-I12)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from datastore import bulk, engine, errors, folding, taking
from datastore.open_holds import OpenHolds
from datastore.overlay import Batch
from datastore.recent import RecentEntries
from datastore.state import AppliedState
from manager import routing
from manager.failover import OperatorWatch
from tests.simulation.cluster import Parts
from tests.simulation.faults import mutation, replaced
from tests.simulation.faults_replication import with_watch


@mutation("refusals are not recorded", "Z2", "mixed", quick=True)
def _refusals_forgotten(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(engine, "COME_AGAIN", (errors.Refusal,)))


@mutation("a repeat is decided anew", "Z2, B10", "mixed", quick=True)
def _no_deduplication(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(RecentEntries, "first_answer", lambda recent, places: lambda request_id: None))


@mutation("a reply is kept under the wrong request id", "I10", "mixed", quick=True)
def _wrong_request(_: Parts, stack: ExitStack) -> None:
    whole = folding.decide

    def decide(*arguments: Any) -> engine.Decision:
        decision = whole(*arguments)
        requests = decision.requests
        return decision._replace(requests=[*requests[1:], requests[0]]) if len(requests) > 1 else decision

    stack.enter_context(replaced(folding, "decide", decide))


@mutation("a seat is taken whatever its state", "B2, I1", "mixed", quick=True)
def _takes_all(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(engine, "take", lambda batch, command: None))


@mutation("holds in bulk take seats whatever their state", "B2, I1", "mixed", quick=True)
def _bulk_takes_all(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(bulk, "look", lambda batch, claim: taking.Found([], (0, -1), True, {})))


@mutation("a hold that changes stays in its bulk", "I1, I3", "mixed", quick=True)
def _stays_in_bulk(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(Batch, "_leave_bulk", lambda batch, hold_id: False))


@mutation("the seats of a hold that leaves its bulk get no rows", "I1, Z7", "mixed", quick=True)
def _leaves_without_seats(_: Parts, stack: ExitStack) -> None:
    whole = Batch._leave_bulk

    def leave(batch: Batch, hold_id: str) -> bool:
        events = len(batch.events)
        left = whole(batch, hold_id)
        del batch.events[events:]
        return left

    stack.enter_context(replaced(Batch, "_leave_bulk", leave))


@mutation("a new primary overlooks what bulks say of seats", "I1", "mixed", quick=True)
def _overlooks_bulks(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(OpenHolds, "bulks_on", lambda holds, service_id: []))


@mutation("a stale fence is accepted", "Z7, I7", "tardy", quick=True)
def _stale_fence(_: Parts, stack: ExitStack) -> None:
    whole = taking.check_free_to_take

    def check(batch: Any, claim: Any, found: taking.Found) -> None:
        try:
            whole(batch, claim, found)
        except errors.StaleFence:
            return

    for module in (taking, bulk):
        stack.enter_context(replaced(module, "check_free_to_take", check))


@mutation("a hold ends before its time", "B6, I9", "mixed", quick=True)
def _ends_early(_: Parts, stack: ExitStack) -> None:
    whole = taking._due_hold

    class Fast:
        """The batch, with a clock of its own."""

        def __init__(self, batch: Any) -> None:
            self._batch = batch
            self.now_ms = batch.now_ms + 700

        def __getattr__(self, name: str) -> Any:
            return getattr(self._batch, name)

    stack.enter_context(replaced(taking, "_due_hold", lambda batch, row: whole(Fast(batch), row)))


@mutation("a hold is confirmed after its end", "B4, I9", "mixed", quick=True)
def _confirms_late(_: Parts, stack: ExitStack) -> None:
    def live(batch: Any, hold_id: str, owner: str) -> Any:
        hold = batch.open_hold(hold_id)
        if hold is None:
            raise engine._why_not_open(batch, hold_id, owner)
        return hold

    stack.enter_context(replaced(engine, "_live_hold", live))


@mutation("what may have happened is told as not done", "I12", "mixed")
def _doubt_denied(_: Parts, stack: ExitStack) -> None:
    def given_up(self: routing.Delivery) -> errors.HoldfastError:
        return errors.OperatorUnavailable(f"{self.operator}: not done", operator=self.operator)

    stack.enter_context(replaced(routing.Delivery, "given_up", given_up))
    stack.enter_context(replaced(routing, "MAYBE_CODES", frozenset()))


@mutation("nobody replaces a primary that is gone", "progress", "replication", quick=True)
def _no_failover(_: Parts, stack: ExitStack) -> None:
    class Idle(OperatorWatch):
        def _patience(self, now_ms: int) -> str:
            return "asleep" if self._before else super()._patience(now_ms)

    with_watch(stack, Idle)


@mutation("due holds are nobody's to end", "B6, Z5", "mixed", quick=True)
def _never_expires(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(taking, "_due_hold", lambda batch, row: None))
    stack.enter_context(replaced(AppliedState, "next_due_ms", lambda self: None))
