"""Broken rules of the log and of promotion (R1-R17, Z1, Z16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from datastore.errors import DiskFailed
from datastore.ledger import SealedEntry
from datastore.memory import MemoryStore
from datastore.model import EPOCH_NONE, Epoch
from datastore.partition import Partition
from datastore.replication import Replica
from datastore.replication_steps import NO_REASON, Append, AppendAnswer, Commit, Confirmed, Follower, Plan, Promised, Reason, Step, Summary
from datastore.rows import ConfigRow
from datastore.state import AppliedState
from datastore.wire import BecomeItem, BecomeReply, PromiseReply
from manager import failover_steps
from manager import watch as watch_module
from manager.choice import Chosen, NoChoice, choose, majority, voters_among
from manager.failover import OperatorWatch
from tests.simulation.cluster import Parts
from tests.simulation.disk import SimulatedStore
from tests.simulation.faults import mutation, replaced
from tests.simulation.managers import Manager
from tests.simulation.nodes import DataNode

FAR_MS = 10**12  # A time at which nothing is overdue.


def with_machine(parts: Parts, machine: type[Replica]) -> None:
    parts.node = type("BrokenNode", (DataNode,), {"machine_type": machine})


def with_store(parts: Parts, store: type[SimulatedStore]) -> None:
    parts.node = type("BrokenNode", (DataNode,), {"store_type": store})


def with_partition(parts: Parts, partition: type[Partition], **more: Any) -> None:
    parts.node = type("BrokenNode", (DataNode,), {"partition_type": partition, **more})


def with_watch(stack: ExitStack, machine: Any) -> None:
    stack.enter_context(replaced(watch_module, "OperatorWatch", machine))


# --- R1 ---------------------------------------------------------------------------------------------------------------


@mutation("the promise is not on disk", "R1", quick=True)
def _promise_forgotten(parts: Parts, _: ExitStack) -> None:
    class Forgets(SimulatedStore):
        def save_epochs(self, promised: Epoch, led: Epoch) -> None:
            super().save_epochs(EPOCH_NONE, led)

    with_store(parts, Forgets)


@mutation("a promise is given twice", "R1", quick=True)
def _promise_twice(parts: Parts, _: ExitStack) -> None:
    class GrantsAgain(Replica):
        def promise(self, epoch: Epoch, now_ms: int) -> Plan:
            self.promised = min(self.promised, Epoch(max(0, epoch.counter - 1), ""))
            return super().promise(epoch, now_ms)

    with_machine(parts, GrantsAgain)


@mutation("an older epoch is accepted", "R1", "bridged", quick=True)
def _older_epoch(parts: Parts, _: ExitStack) -> None:
    class AcceptsOlder(Replica):
        def append(self, message: Append, now_ms: int) -> Plan:
            if message.epoch >= self.promised or self.is_primary:
                return super().append(message, now_ms)
            plan = super().append(message._replace(epoch=self.promised), now_ms)
            assert isinstance(plan.reply, AppendAnswer)
            return Plan(plan.steps, plan.reply._replace(epoch=message.epoch))

    with_machine(parts, AcceptsOlder)


# --- R2, R3 -----------------------------------------------------------------------------------------------------------


def _eligible(replies: Mapping[str, PromiseReply]) -> list[str]:
    promised = {node: reply for node, reply in replies.items() if reply.granted}
    stores = [(node, reply.store_uuid) for node, reply in promised.items()]
    return [
        node
        for node, reply in promised.items()
        if reply.voters.get(reply.store_uuid) == node and voters_among(reply.voters, stores) >= majority(reply.voters)
    ]


def _watch_that_chooses(pick: Any) -> Any:
    def make(*arguments: Any, **named: Any) -> OperatorWatch:
        def chosen(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
            nodes = sorted(_eligible(replies))
            if not nodes:
                return NoChoice("none")
            node = pick(nodes, replies)
            return Chosen(node, replies[node].store_uuid, max(reply.wall_ms for reply in replies.values()))

        return OperatorWatch(*arguments, choose=chosen, **named)

    return make


@mutation("any responder is chosen", "R2", quick=True)
def _any_responder(_: Parts, stack: ExitStack) -> None:
    with_watch(stack, _watch_that_chooses(lambda nodes, replies: nodes[0]))


@mutation("the shorter log is promoted", "R2", quick=True)
def _shorter_log(_: Parts, stack: ExitStack) -> None:
    with_watch(
        stack,
        _watch_that_chooses(lambda nodes, replies: min(nodes, key=lambda node: (replies[node].last_epoch, replies[node].last_lsn))),
    )


@mutation("the longest log is chosen, whatever its epoch", "R2", "duel")
def _by_lsn_only(_: Parts, stack: ExitStack) -> None:
    with_watch(stack, _watch_that_chooses(lambda nodes, replies: max(nodes, key=lambda node: replies[node].last_lsn)))


@mutation("promises are not counted", "R2", "duel", quick=True)
def _no_majority(_: Parts, stack: ExitStack) -> None:
    def pick(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
        chosen = choose(replies, preferred)
        promised = [node for node, reply in replies.items() if reply.granted and reply.voters]
        if isinstance(chosen, Chosen) or not promised:
            return chosen
        node = max(promised, key=lambda name: (replies[name].last_epoch, replies[name].last_lsn))
        return Chosen(node, replies[node].store_uuid, 0)

    class Lonely(OperatorWatch):
        def _obstacle(self, now_ms: int) -> str:
            return "" if self._voters else super()._obstacle(now_ms)

    with_watch(stack, lambda *arguments, **named: Lonely(*arguments, choose=pick, **named))


@mutation("two stores are named in one epoch", "R3", "duel", quick=True)
def _names_twice(_: Parts, stack: ExitStack) -> None:
    class NamesTwice(OperatorWatch):
        _others: list[tuple[str, str]]

        def _promises_given(self, replies: Mapping[str, PromiseReply], now_ms: int) -> list[failover_steps.Instruction]:
            instructions = super()._promises_given(replies, now_ms)
            self._others = [(node, reply.store_uuid) for node, reply in replies.items() if reply.granted and node != self._before]
            return instructions

        def _become_answered(self, reply: BecomeReply | None, now_ms: int) -> list[failover_steps.Instruction]:
            if reply is None and self._others:
                node, store_uuid = self._others.pop()
                return [failover_steps.NameOne(node, BecomeItem(self.operator, self._epoch, store_uuid, 0))]
            return super()._become_answered(reply, now_ms)

    with_watch(stack, NamesTwice)


@mutation("all managers use one identity, and a promise that is asked for again is given again", "R3", "rivals", quick=True)
def _one_identity(parts: Parts, _: ExitStack) -> None:
    class GrantsSame(Replica):
        """Answers a repeat as it answered first: harmless as long as no two managers ask for the same epoch."""

        def promise(self, epoch: Epoch, now_ms: int) -> Plan:
            if epoch == self.promised and self.led < epoch and not self.distrusted:
                return Plan([], Promised(True, epoch, self.tail, self.heard_age_ms(now_ms)))
            return super().promise(epoch, now_ms)

    class Nameless(Manager):
        def draw_uuid(self) -> str:
            return "m"

    with_machine(parts, GrantsSame)
    parts.manager = Nameless


# --- R4, Z16 ----------------------------------------------------------------------------------------------------------


@mutation("a role is resumed after a restart", "R4, Z16", "duel", quick=True)
def _resumes(parts: Parts, _: ExitStack) -> None:
    class Resumes(Replica):
        def __init__(self, summary: Summary, log: Any, settings: Any) -> None:
            super().__init__(summary, log, settings)
            if self.led != EPOCH_NONE and self.led == self.promised:
                self.is_primary, self.epoch = True, self.led
                others = {uuid: node for uuid, node in self.config.voters.items() if uuid != self.store_uuid}
                next_lsn = self.tail.lsn + 1
                self._followers = {uuid: Follower(node, 0, next_lsn, FAR_MS) for uuid, node in others.items()}

    with_machine(parts, Resumes)


@mutation("an epoch may be led twice", "R4", "duel")
def _leads_twice(parts: Parts, _: ExitStack) -> None:
    class LeadsAgain(Replica):
        def _why_not_lead(self, epoch: Epoch, store_uuid: str) -> str:
            self.led = min(self.led, Epoch(max(0, epoch.counter - 1), ""))
            return super()._why_not_lead(epoch, store_uuid)

    with_machine(parts, LeadsAgain)


@mutation("reads are served before the reign's first entry is committed", "R4", "duel")
def _serves_at_once(parts: Parts, _: ExitStack) -> None:
    class Eager(Replica):
        @property
        def serving(self) -> bool:
            return self.is_primary

    class ServesAtOnce(Partition):
        def _becoming(self, item: BecomeItem) -> BecomeReply:
            reply = super()._becoming(item)
            if reply.accepted:
                self._state = AppliedState(self.operator, self.store)
            return reply

    with_partition(parts, ServesAtOnce, machine_type=Eager)


# --- R5 ---------------------------------------------------------------------------------------------------------------


@mutation("every overlap is truncated", "R5", quick=True)
def _truncates(parts: Parts, _: ExitStack) -> None:
    class Truncates(Replica):
        def _has(self, sealed: SealedEntry) -> bool:
            return False

    with_machine(parts, Truncates)


@mutation("the entry before is not compared", "R5", "duel")
def _no_matching(parts: Parts, _: ExitStack) -> None:
    class Trusts(Replica):
        def append(self, message: Append, now_ms: int) -> Plan:
            if message.previous_lsn <= self.tail.lsn:
                message = message._replace(previous_epoch=self.epoch_at(message.previous_lsn))
            return super().append(message, now_ms)

    with_machine(parts, Trusts)


@mutation("a gap is acknowledged", "R5", quick=True)
def _acks_gap(parts: Parts, _: ExitStack) -> None:
    class AcksGaps(Replica):
        def append(self, message: Append, now_ms: int) -> Plan:
            plan = super().append(message, now_ms)
            reply = plan.reply
            if isinstance(reply, AppendAnswer) and reply.status == "gap":
                lsn = message.previous_lsn + len(message.entries)
                return Plan(plan.steps, reply._replace(status="ack", match_lsn=lsn))
            return plan

    with_machine(parts, AcksGaps)


@mutation("what the primary committed is taken as committed, whatever is here", "R5, R7", "duel")
def _commits_blindly(parts: Parts, _: ExitStack) -> None:
    class CommitsBlindly(Replica):
        def append(self, message: Append, now_ms: int) -> Plan:
            plan = super().append(message, now_ms)
            lsn = min(message.commit_lsn, self.tail.lsn)
            if message.epoch == self.promised and lsn > self.commit_lsn:
                self.commit_lsn = lsn
                steps: list[Step] = [*plan.steps, Commit(lsn)]
                return Plan(steps, plan.reply)
            return plan

    with_machine(parts, CommitsBlindly)


# --- R6, R7, Z1 -------------------------------------------------------------------------------------------------------


@mutation("one copy short of a majority commits", "R6", "duel", quick=True)
def _commits_early(parts: Parts, _: ExitStack) -> None:
    class CommitsEarly(Replica):
        def _quorum_value(self, theirs: list[int], own: int) -> int:
            reached = sorted([*theirs, own], reverse=True)
            return reached[len(self.config.voters) // 2 - 1] if len(self.config.voters) > 1 else own

    with_machine(parts, CommitsEarly)


@mutation("an entry is acknowledged before it is flushed", "R5, R6", "duel", quick=True)
def _unflushed(parts: Parts, _: ExitStack) -> None:
    class Unflushed(SimulatedStore):
        """Keeps the last append in memory only."""

        last = 0

        def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
            super().append(entries, truncate_from, sides)
            self.last = len(entries)

        def reopened(self) -> SimulatedStore:
            found = super().reopened()
            kept = max(found.applied_lsn, found.summary().tail.lsn - self.last)
            MemoryStore.append(found, [], kept + 1)
            return found

    with_store(parts, Unflushed)


@mutation("callers are answered before the commit", "R7", "duel", quick=True)
def _answers_early(parts: Parts, _: ExitStack) -> None:
    class AnswersEarly(Partition):
        def _decide(self, state: AppliedState, submissions: Any) -> None:
            super()._decide(state, submissions)
            for submission, outcomes in self._in_flight:
                submission.answer(outcomes, self.machine.epoch.counter, self.machine.tail.lsn)

    with_partition(parts, AnswersEarly)


@mutation("the next entry is decided while one is in flight", "Z1, R8", quick=True)
def _two_in_flight(parts: Parts, _: ExitStack) -> None:
    class Hasty(Replica):
        @property
        def may_propose(self) -> bool:
            return self.serving

    with_machine(parts, Hasty)


@mutation("reads are answered without asking a majority", "5.4", "apart", quick=True)
def _reads_alone(parts: Parts, _: ExitStack) -> None:
    class ReadsAlone(Replica):
        def read(self, now_ms: int) -> tuple[int, Plan]:
            ticket, plan = super().read(now_ms)
            return ticket, Plan([*plan.steps, Confirmed(ticket)], plan.reply)

    with_machine(parts, ReadsAlone)


# --- R10, R11, R14, R17 -----------------------------------------------------------------------------------------------


@mutation("a primary that nobody answers stays", "R10", quick=True)
def _stays(parts: Parts, _: ExitStack) -> None:
    class Stays(Replica):
        def tick(self, now_ms: int) -> Plan:
            return Plan(self._sends(now_ms, urgent=False)) if self.is_primary else Plan([])

    with_machine(parts, Stays)


@mutation("a failed write is acknowledged", "R11", quick=True)
def _swallows(parts: Parts, _: ExitStack) -> None:
    class Swallows(SimulatedStore):
        def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
            try:
                super().append(entries, truncate_from, sides)
            except DiskFailed:
                return

        def save_epochs(self, promised: Epoch, led: Epoch) -> None:
            try:
                super().save_epochs(promised, led)
            except DiskFailed:
                return

    with_store(parts, Swallows)


@mutation("a lost disk comes back under its old identity", "R14", "mixed")
def _same_identity(parts: Parts, _: ExitStack) -> None:
    class Impostor(DataNode):
        def lose_disk(self) -> None:
            lost = dict(self.stores)
            super().lose_disk()
            for operator, store in lost.items():
                configs = store.summary().configs
                self.stores[operator] = SimulatedStore(operator, store.store_uuid, self.disk)
                if configs:
                    MemoryStore.save_config(self.stores[operator], ConfigRow(dict(configs[-1][1].voters)))

    parts.node = Impostor


@mutation("a reign's clock does not go on from the last stamp", "R17", "mixed")
def _clock_goes_back(parts: Parts, _: ExitStack) -> None:
    class GoesBack(Replica):
        def become(self, epoch: Epoch, store_uuid: str, stamp_base_ms: int, now_ms: int, reason: Reason = NO_REASON) -> Plan:
            tail = self.tail
            self.tail = tail._replace(stamp_ms=0)
            plan = super().become(epoch, store_uuid, stamp_base_ms, now_ms, reason)
            if plan.reply is None or not getattr(plan.reply, "accepted", False):
                self.tail = tail
            return plan

        def stamp(self, now_ms: int) -> int:
            return self._stamp_base_ms + now_ms - self._became_ms

    with_machine(parts, GoesBack)
