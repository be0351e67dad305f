"""One partition on one node: the shell around the replication machine and the engine.

Everything that happens to a partition is an event of its `Actor`, one at a time: messages of the other stores, of the
managers, of callers, and the tick. An event is given to the machine, whose plan is carried out in order before the next.
When no event is left and nothing is in flight, all that waits is decided and becomes one entry (Z1).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from datastore import administration, shipping, wire
from datastore.actor import FATAL_CODES, Actor
from datastore.configuration import ConfigChange
from datastore.errors import CallerBehind, HoldfastError, InvalidRequest, NotPrimary, OutcomeUnknown, SnapshotNeeded
from datastore.feed import news_after, page_of
from datastore.folding import fold
from datastore.ledger import KEEP_SHORT_MS, Position, SealedEntry
from datastore.links import Links, Outgoing
from datastore.model import Epoch
from datastore.reading import Reader
from datastore.recent import RecentEntries
from datastore.recovery import Cause
from datastore.remembered import Remembered
from datastore.replication import Replica
from datastore.replication_steps import (
    Append,
    AppendAnswer,
    Became,
    Commit,
    Confirmed,
    Distrust,
    NeedSnapshot,
    Persist,
    Plan,
    Promised,
    Reason,
    Reconfigured,
    ReplicationSettings,
    Send,
    StepDown,
    Write,
)
from datastore.reporting import partition_status
from datastore.rows import ConfigRow, Kind
from datastore.state import AppliedState
from datastore.store_port import Store
from datastore.submission import Question, Reconfiguration, Submission, SubmissionQueue

T = TypeVar("T")

APPEND_BYTES_MAX = 1024 * 1024
COMMANDS_PER_ENTRY = 2000
# Rows written at a tick: a request that comes meanwhile waits for a few milliseconds, not for all of them. And how long rows
# are kept in memory by a partition that is never quiet and never busy enough to fill a generation.
FLUSH_ROWS = 2_048
FLUSH_LATEST_MS = 5_000
WRITE_DOWN_MS = 500  # So often under constant load: whatever is put back from a backup is older than this.

log = logging.getLogger(__name__)


class Partition:
    """One operator's log, state and callers at this node."""

    def __init__(
        self,
        store: Store,
        node: str,
        links: Links,
        settings: ReplicationSettings,
        *,
        now_ms: Callable[[], int],
        on_commit: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        remember: Callable[[str, Remembered, bool], None] = lambda _operator, _remembered, _has_log: None,
        on_need: Callable[[str, Cause], None] = lambda _operator, _cause: None,
        flush_ms: int = 500,
    ) -> None:
        """Start as a follower (Z16).

        Args:
            now_ms: Monotonic milliseconds.
            on_commit: Called on any thread after entries were applied. on_fatal: Must end the process: see `Actor`.
            remember: Called after what a store may not forget is on the disk, with whether it has any entry (see `identities.py`).
            on_need: Called when the store cannot go on without a snapshot.
        """
        self.operator = store.operator
        self._settings = settings
        self._remember_at = remember
        self._on_need = on_need
        self._node = node
        self._links = links
        self._now_ms = now_ms
        self._on_commit = on_commit
        self._flush_ms = flush_ms
        self._actor = Actor(self._settle, on_fatal)
        self._state: AppliedState | None = None
        self._primary_hint = ""
        self._waiting = SubmissionQueue()
        self._changes: deque[Reconfiguration] = deque()
        self._in_flight: list[tuple[Submission, bytes]] = []
        self._in_flight_sides: dict[bytes, bytes] = {}
        self._questions: deque[tuple[int, Question]] = deque()
        self._quiet_since_ms = self._flushed_ms = now_ms()
        self._take_up(store)

    def _take_up(self, store: Store) -> None:
        """Go on with this store, as a follower."""
        self.store = store
        self.machine = Replica(store.summary(), store, self._settings)
        self._recent = RecentEntries(store)
        self._flushed_lsn = 0
        tail = store.summary().tail
        applied = store.applied_lsn
        self.committed = tail if tail.lsn == applied else Position(applied, self.machine.epoch_at(applied), store.hash_at(applied), 0)
        self._remembered_lsn, self._has_log = -1, tail.lsn > 0
        self._write_down()

    def _write_down(self, lsn: int = 0) -> None:
        """Write down beside the store what it may never go back behind (R11); after the store, never before."""
        machine, applied_lsn = self.machine, self.committed.lsn
        self._remembered_lsn, self._written_down_ms = applied_lsn, self._now_ms()
        told = Remembered(machine.store_uuid, "", machine.promised, machine.led, max(applied_lsn, lsn))
        self._remember_at(self.operator, told, self._has_log)

    # --- callers (any thread) -------------------------------------------------------------------------------------

    def submit(self, item: wire.SubmitItem) -> Submission:
        """Queue commands to be decided; wait on the result.

        Raises:
            InvalidRequest: The bytes are no commands.
        """
        submission = Submission(self.operator, wire.decode(wire.COMMANDS, item.commands), item.sides, item.seen_ms)
        self._actor.post(partial(self._submitted, submission))
        return submission

    def ask(self, item: wire.ReadItem) -> Question:
        """Queue a linearizable question; wait on the answer."""
        question = Question(item)
        self._actor.post(partial(self._asked, question))
        return question

    def append(self, item: wire.AppendItem, timeout_s: float) -> wire.AppendReply:
        """Take in what the primary sends (R5).

        Raises:
            InvalidRequest, LedgerDamaged: The message is not one; nothing was done.
        """
        if item.store_uuid not in ("", self.machine.store_uuid):  # R14: it is for the store that was here before.
            return wire.AppendReply(self.operator, "refused", item.epoch, 0, self.machine.store_uuid)
        message = shipping.opened(item)
        answer = self._actor.call(partial(self._appended, message, item), timeout_s)
        return shipping.reply_of(self.operator, answer)

    def promise(self, epoch: Epoch, wall_ms: int, timeout_s: float) -> wire.PromiseReply:
        return self._actor.call(partial(self._promised, epoch, wall_ms), timeout_s)

    def become(self, item: wire.BecomeItem, timeout_s: float) -> wire.BecomeReply:
        return self._actor.call(partial(self._becoming, item), timeout_s)

    def bootstrap(self, voters: dict[str, str], timeout_s: float) -> wire.BootstrapReply:
        return self._actor.call(partial(self._bootstrapped, voters), timeout_s)

    def configure(self, item: administration.ConfigureItem) -> Reconfiguration:
        """Queue a step of a change of the configuration (R15); wait on the result."""
        change = Reconfiguration(item)
        self._actor.post(partial(self._reconfigured, change))
        return change

    def hand_over(self, item: administration.HandOverItem, timeout_s: float) -> administration.HandOverReply:
        """Prepare to give the role away; asked again until it is ready."""
        hand_over = partial(self.machine.hand_over, Epoch(*item.epoch), item.store_uuid, item.pause_ms)
        found = self.in_turn(lambda: hand_over(self._now_ms()), timeout_s)
        return administration.HandOverReply(item.operator, found.status, found.lsn, found.reason)

    def tick(self) -> None:
        self._actor.post(self._ticked)

    def sweep(self) -> None:
        """Let a primary abort what is due, if anything is."""
        self._actor.post(self._swept)

    def feed(self, lsn: int, digest: bytes, timeout_s: float) -> wire.FeedPart | None:
        """Return what is committed after (lsn, hash), or None where there is no news."""
        committed = self.committed
        if lsn == committed.lsn and (not lsn or digest == committed.hash):
            return None
        return self._actor.call(lambda: news_after(self.store, self._recent, self.committed, lsn, digest), timeout_s)

    def alone(self) -> wire.FeedPart | None:
        """Return what a view must hear where there is no news: that others may have some. None for a copy that keeps up."""
        if not self.machine.is_cut_off(self._now_ms()):
            return None
        committed = self.committed
        return wire.FeedPart(self.store.operator, "alone", committed.lsn, committed.hash, committed.stamp_ms)

    def snapshot(self, request: wire.SnapshotRequest, timeout_s: float) -> wire.SnapshotPage:
        return self._actor.call(lambda: page_of(self.store, self.committed, request.after, request.limit), timeout_s)

    def entries(self, from_lsn: int, limit: int, timeout_s: float) -> list[bytes]:
        """Return committed entries, sealed."""
        last = min(self.committed.lsn, from_lsn + limit - 1)
        found = self._actor.call(lambda: self._recent.between(max(1, from_lsn), last, APPEND_BYTES_MAX), timeout_s)
        return [sealed.data for sealed in found]

    def install(self, swap: Callable[[Store], Store], timeout_s: float) -> None:
        """Replace the store within one turn (R13); refused while it leads. `swap` closes the old one, or raises and leaves it in use."""
        self._actor.call(partial(self._installed, swap), timeout_s)

    def in_turn(self, work: Callable[[], T], timeout_s: float) -> T:
        """Return what `work` does with the store, in the partition's turn: for whoever looks after the files."""
        return self._actor.call(work, timeout_s)

    def status(self) -> wire.PartitionStatus:
        """Return what is known without waiting for a turn: a disk that is slow must not make a node look dead."""
        return partition_status(self.store, self.machine, self.committed.lsn, self._state is not None, self._now_ms())

    def close(self, timeout_s: float) -> None:
        """Flush and close the store; what is still asked of it is dropped, as if the process had ended before."""
        if not self._actor.finish(lambda: self.store.close(), timeout_s):
            # Nothing is lost: what was acknowledged is flushed, and the file is taken up from its WAL.
            log.warning("store not closed in time operator=%s", self.operator)

    # --- events (one at a time) -----------------------------------------------------------------------------------

    def _submitted(self, submission: Submission) -> None:
        if not self.machine.is_primary:
            submission.fail(self._not_primary())
            return
        stamp_ms = self.machine.stamp(self._now_ms())
        if submission.seen_ms and stamp_ms - submission.seen_ms > KEEP_SHORT_MS:
            # Z2: the first answer to one of these may be forgotten already, so that it would be decided anew.
            submission.fail(CallerBehind(f"{self.operator}: sent when the log clock was over an hour back", stamp_ms=stamp_ms))
            return
        self._waiting.add(submission)

    def _asked(self, question: Question) -> None:
        # R10 and 5.4: a primary that has not committed in its own epoch does not know what is committed.
        if self._state is None or not self.machine.serving:
            question.fail(self._not_primary())
            return
        ticket, plan = self.machine.read(self._now_ms())
        self._questions.append((ticket, question))
        self._carry_out(plan)

    def _appended(self, message: Append, item: wire.AppendItem) -> AppendAnswer:
        missing = {digest for sealed in message.entries for digest in sealed.entry.sides} - item.sides.keys()
        missing -= set(item.erased)
        if missing - self.store.sides(sorted(missing)).keys():
            raise InvalidRequest("an entry came without its side records", field="sides")
        self._in_flight_sides = item.sides
        plan = self.machine.append(message, self._now_ms())
        if plan.reply is not None and message.epoch == self.machine.promised:
            self._primary_hint = item.primary
        self._carry_out(plan)
        assert isinstance(plan.reply, AppendAnswer)
        return plan.reply

    def _answered(self, send: Send, reply: wire.AppendReply | None) -> None:
        """An APPEND of ours was answered, refused or lost."""
        if reply is None or reply.status not in ("ack", "gap", "epoch", "snapshot"):
            self._carry_out(self.machine.lost(send.store_uuid, send.seq))
            return
        self._carry_out(self.machine.answered(send.store_uuid, send.seq, shipping.answer_of(reply), self._now_ms()))

    def _promised(self, epoch: Epoch, wall_ms: int) -> wire.PromiseReply:
        plan = self.machine.promise(epoch, self._now_ms())
        self._carry_out(plan)
        assert isinstance(plan.reply, Promised)
        return shipping.promise_of(self.operator, plan.reply, self.machine, wall_ms)

    def _becoming(self, item: wire.BecomeItem) -> wire.BecomeReply:
        reason = Reason(item.before, item.why, item.by)
        plan = self.machine.become(Epoch(*item.epoch), item.store_uuid, item.log_time_base_ms, self._now_ms(), reason)
        self._carry_out(plan)
        reply = plan.reply
        assert isinstance(reply, Became)
        if reply.accepted:
            self._primary_hint = self._node
            log.info("leads operator=%s epoch=%d lsn=%d", self.operator, item.epoch[0], self.machine.tail.lsn)
        return wire.BecomeReply(self.operator, reply.accepted, reply.reason)

    def _bootstrapped(self, voters: dict[str, str]) -> wire.BootstrapReply:
        if voters and self.machine.store_uuid not in voters:
            raise InvalidRequest(f"{self.operator}: this store is {self.machine.store_uuid}, not among the voters", field="voters")
        if voters and self.machine.bootstrap(ConfigRow(voters)):
            self.store.save_config(ConfigRow(voters))
        return wire.BootstrapReply(self.operator, self.machine.store_uuid, dict(self.machine.config.voters), self.machine.tail.lsn)

    def _reconfigured(self, change: Reconfiguration) -> None:
        if not self.machine.is_primary:
            return change.answer(False, "this store is not the primary")
        self._changes.append(change)

    def _ticked(self) -> None:
        now_ms = self._now_ms()
        self._carry_out(self.machine.tick(now_ms))
        if self.store.flushed_lsn != self._flushed_lsn:
            self._flushed_lsn, self._flushed_ms = self.store.flushed_lsn, now_ms
        if now_ms - self._quiet_since_ms > self._flush_ms or now_ms - self._flushed_ms > FLUSH_LATEST_MS:
            self.store.flush_staged(FLUSH_ROWS)
        if self.committed.lsn != self._remembered_lsn and now_ms - self._written_down_ms > WRITE_DOWN_MS:
            self._write_down()
        self.store.scrub()

    def _swept(self) -> None:
        due_ms = self._state.next_due_ms() if self._state is not None else None
        if due_ms is not None and due_ms <= self.machine.stamp(self._now_ms()):
            self._submitted(Submission(self.operator, [wire.Sweep("", b"")], {}))

    def _installed(self, swap: Callable[[Store], Store]) -> None:
        if self.machine.is_primary:
            raise InvalidRequest(f"{self.operator}: {self._node} is its primary", field="node")
        self._take_up(swap(self.store))
        self._primary_hint = ""
        self._on_commit()

    def _distrust(self, lsn: int) -> None:
        """R11: it went back. The record beside it says so from now on, also to the next process."""
        log.error("went back behind what it acknowledged operator=%s lsn=%d acknowledged=%d", self.operator, self.machine.tail.lsn, lsn)
        self._write_down(lsn)
        self._on_need(self.operator, Cause.DISTRUSTED)

    # --- plans ----------------------------------------------------------------------------------------------------

    def _carry_out(self, plan: Plan) -> None:
        """Carry out the steps in order; what a step brings about is carried out after the last."""
        later: list[Plan] = []
        for step in plan.steps:
            if isinstance(step, Write):
                self._recent.follow(step.truncate_from, step.entries)  # Before the steps ahead of it: they ship what it is about to write.
        for step in plan.steps:
            match step:
                case Send():
                    self._send(step)
                case Write(truncate_from, entries):
                    self._write(truncate_from, entries)
                    if self.machine.is_primary:
                        later.append(self.machine.wrote(entries[-1].entry.lsn, self._now_ms()))
                case Commit(lsn):
                    self._apply(lsn)
                case Persist(promised, led):
                    self.store.save_epochs(promised, led)
                    self._write_down()
                case Confirmed(ticket):
                    self._answer_questions(ticket)
                case StepDown(reason):
                    self._stepped_down(reason)
                case NeedSnapshot():
                    self._on_need(self.operator, Cause.EMPTY if self.store.applied_lsn == 0 else Cause.BEHIND)
                case Distrust(lsn):
                    self._distrust(lsn)
        for plan_after in later:
            self._carry_out(plan_after)

    def _write(self, truncate_from: int, entries: Sequence[SealedEntry]) -> None:
        wanted = [digest for sealed in entries for digest in sealed.entry.sides]
        sides = {digest: self._in_flight_sides[digest] for digest in wanted if digest in self._in_flight_sides}
        self.store.append(entries, truncate_from, sides)
        if not self._has_log:  # R11: before anybody counts on this store its record names it, not the one in whose place it is.
            self._has_log = True
            self._write_down()

    def _send(self, step: Send) -> None:
        try:
            entries, needs_snapshot = self._recent.between(step.previous_lsn + 1, step.last_lsn, APPEND_BYTES_MAX), False
        except SnapshotNeeded:
            entries, needs_snapshot = [], True  # R12: they are not at this node.
        digests = [digest for sealed in entries for digest in sealed.entry.sides]
        sides: dict[bytes, bytes] = {}
        if digests:
            sides = self.store.sides(digests)
            sides.update({digest: self._in_flight_sides[digest] for digest in digests if digest in self._in_flight_sides})
        erased = [digest for digest in digests if digest not in sides and self.store.get(Kind.ERASED, digest.hex())]
        item, size_bytes = shipping.item_of(self.operator, step, entries, sides, self._node, erased, needs_snapshot=needs_snapshot)
        self._links.send(step.node, Outgoing(item, size_bytes, partial(self._reply_came, step)), step.urgent)

    def _reply_came(self, send: Send, reply: wire.AppendReply | None) -> None:
        self._actor.post(partial(self._answered, send, reply))

    def _apply(self, lsn: int) -> None:
        """R7: in order, and the answers leave after."""
        for number in range(self.store.applied_lsn + 1, lsn + 1):
            sealed = self._recent.entry(number)
            self.store.stage(sealed)
            if self._state is not None:
                self._state.apply(sealed.entry.events)
        self.committed = Position(lsn, Epoch(*sealed.entry.epoch), sealed.hash, sealed.entry.stamp_ms)
        if self.machine.serving and self._state is None:
            # R4: the NOOP is committed and everything inherited is applied, so from here on commands can be decided.
            self._state = AppliedState(self.operator, self.store)
        answered, self._in_flight = self._in_flight, []
        for submission, outcomes in answered:
            submission.answer(outcomes, self.machine.epoch.counter, self.committed)
        self._quiet_since_ms = self._now_ms()
        self._on_commit()

    def _stepped_down(self, reason: str) -> None:
        log.info("leads no more operator=%s lsn=%d reason=%s", self.operator, self.machine.tail.lsn, reason)
        self._state = None
        self._primary_hint = ""
        in_flight, self._in_flight = self._in_flight, []
        for submission, _ in in_flight:
            submission.fail(OutcomeUnknown(f"{self.operator}: the primary changed while this was on its way", operator=self.operator))
        self._waiting.fail_all(self._not_primary())
        while self._changes:
            self._changes.popleft().answer(False, "the primary changed")
        for _, question in self._questions:
            question.fail(self._not_primary())
        self._questions.clear()

    def _not_primary(self) -> HoldfastError:
        if self.machine.is_primary:
            return NotPrimary(f"{self.operator}: the primary is not ready yet", operator=self.operator, primary=self._node)
        hint = self._primary_hint if self._primary_hint != self._node else ""
        return NotPrimary(f"{self.operator}: {self._node} is not the primary", operator=self.operator, primary=hint)

    # --- deciding -------------------------------------------------------------------------------------------------

    def _settle(self) -> bool:
        """Decide what waits, if nothing is in flight; return whether to look again."""
        if self._changes and self.machine.may_propose:
            self._change(self._changes.popleft())
            return True
        if not self._waiting or self._state is None or not self.machine.may_propose:
            return False
        submissions = self._waiting.take(COMMANDS_PER_ENTRY)
        if not submissions:
            return False
        try:
            self._decide(self._state, submissions)
        except HoldfastError as error:
            if error.code in FATAL_CODES:
                raise
            self._waiting.could_not_decide(submissions, error)
        except Exception:
            # The engine changes nothing until an entry is applied, so a fault in deciding costs its commands alone.
            log.exception("a fault while deciding operator=%s", self.operator)
            self._waiting.could_not_decide(submissions, HoldfastError())
        return True

    def _change(self, change: Reconfiguration) -> None:
        item = change.item
        step = ConfigChange(item.kind, item.store_uuid, item.node)
        plan = self.machine.configure(step, item.config_lsn, self._now_ms())
        reply = plan.reply
        assert isinstance(reply, Reconfigured)
        if reply.accepted:
            log.info("configuration operator=%s lsn=%d step=%s store=%s node=%s", self.operator, reply.lsn, *step)
        self._carry_out(plan)
        change.answer(*reply)

    def _decide(self, state: AppliedState, submissions: list[Submission]) -> None:
        """Fold all submissions into one entry and propose it; answer at once where nothing is to be recorded."""
        now_ms = self._now_ms()
        machine = self.machine
        commands = [command for submission in submissions for command in submission.commands]
        stamp_ms = machine.stamp(now_ms)
        places = self.store.requests([command.request_id for command in commands if command.request_id], stamp_ms)
        # The engine looks for each new hold's id among the closed ones: 5 us when asked one by one, 0.5 us together.
        self.store.read_ahead(Kind.CLOSED_HOLD, [command.hold_id for command in commands if isinstance(command, wire.Hold)])
        folded = fold(state, submissions, machine.tail, machine.epoch, stamp_ms, self._recent.first_answer(places), machine.rows_form)
        if folded.sealed is None:
            for submission, outcomes in folded.answers:
                submission.answer(outcomes, machine.epoch.counter, machine.tail._replace(stamp_ms=stamp_ms))
            return
        self._in_flight = folded.answers
        self._in_flight_sides = folded.sides
        self._carry_out(machine.propose(folded.sealed, now_ms))

    def _evidence(self, lsn: int) -> tuple[int, int, bytes]:
        return self.machine.epoch_at(lsn).counter, lsn, self.store.hash_at(lsn)

    def _answer_questions(self, ticket: int) -> None:
        """Answer what a majority has confirmed, from applied state."""
        while self._questions and self._questions[0][0] <= ticket:
            question = self._questions.popleft()[1]
            if self._state is None:
                question.fail(self._not_primary())
                continue
            arguments = question.item.arguments
            request_id = str(arguments.get("request_id", ""))
            stamp_ms = self.machine.stamp(self._now_ms())
            places = self.store.requests([request_id], stamp_ms) if request_id else {}
            reader = Reader(self._state, self.store.sides, self._recent.first_answer(places), self._evidence)
            try:
                question.answer(self.committed.lsn, stamp_ms, reader.answer(question.item.query, arguments, stamp_ms))
            except HoldfastError as error:
                if error.code in FATAL_CODES:
                    raise
                question.fail(error)
            except Exception:
                log.exception("a fault while reading operator=%s query=%s", self.operator, question.item.query[:32])
                question.fail(HoldfastError())
