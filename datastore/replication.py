"""One partition on one node as a machine: what to write, what to ship, what is committed, who may lead. Pure.

Events are methods; each returns a `Plan`: steps to carry out in exactly that order, then the reply, if any, to send. The
shell (`partition.py`, and the simulator of the tests) runs one event at a time and carries out a plan before the next.

The rules are those of docs/replication.md, by their numbers:

- R1 A promise is on disk before it is answered; nothing of a lower epoch is accepted from then on.
- R4 A store leads an epoch that it promised and never led before (`led`, on disk first). It opens the reign with a NOOP
  and serves nothing until that is committed and applied.
- R5 A replica keeps what agrees, truncates from the first entry whose epoch differs, and never because a message is
  merely shorter. Never at or below what is committed here: that stops the node.
- R6 Only an entry of the own epoch is committed by counting voters; what came before commits with it. The primary counts
  itself only after its own flush (`wrote`).
- R10 A primary that no majority has answered for twice the suspicion window steps down.
- R15 The configuration changes by one voter an entry, in force when appended; only after an entry of the own epoch and the
  previous change are committed, and never by a primary that removes itself (`configure`). A planned hand-over
  (`hand_over`) stops taking, waits until the named store has everything, and leaves the rest to promise and become.
- R17 Stamps come from a base read with the promises plus monotonic time since.
- Z1 One entry is in flight: the next is decided from a state in which everything in the log is applied.
- Z16 A machine is built as a follower; only BECOME makes a primary.

Messages may be lost, repeated, delayed and reordered. To each follower one APPEND is under way at a time (`busy`), so what
is sent next is always what the last reply said is missing; the shell reports each as answered or as lost.
"""

from __future__ import annotations

from datastore.configuration import ADD_VOTER, REMOVE_VOTER, ConfigChange, changed, role_in
from datastore.errors import InvariantBroken
from datastore.ledger import CONFIG, NOOP, Entry, SealedEntry, check_follows, seal
from datastore.model import EPOCH_NONE, Epoch
from datastore.replicated_log import ReplicatedLog
from datastore.replication_steps import (
    CAUGHT_UP_ENTRIES,
    NO_REASON,
    Append,
    AppendAnswer,
    Became,
    Commit,
    Confirmed,
    Distrust,
    Follower,
    HandedOver,
    LogReader,
    NeedSnapshot,
    Persist,
    Plan,
    Promised,
    Reason,
    Reconfigured,
    ReplicationSettings,
    Send,
    Step,
    StepDown,
    Summary,
    Write,
)
from datastore.rows import ROWS_FORM, Kind, ReignRow, encode_row


class Replica(ReplicatedLog):
    """One partition's log on one store."""

    def __init__(self, summary: Summary, log: LogReader, settings: ReplicationSettings) -> None:
        super().__init__(summary, log)
        self.promised = summary.promised
        self.led = summary.led
        self.epoch = EPOCH_NONE  # of the reign, while primary
        self.is_primary = False
        self.heard_ms: int | None = None
        self.distrusted = False  # It lost what it acknowledged: it follows nobody, promises nothing (R11).
        self._settings = settings
        self._followers: dict[str, Follower] = {}
        self._durable_lsn = summary.tail.lsn
        self._reign_lsn = 0
        self._seq = 0
        self._ticket_wanted = 0
        self._ticket_confirmed = 0
        self._stamp_base_ms = 0
        self._became_ms = 0
        self._heir = ""  # Whom a hand-over is for; until it is done or given up, nothing new is taken.
        self._heir_until_ms = 0
        self._promised_ms: int | None = None  # When the promise was given that a BECOME may answer; None if it was learnt otherwise.

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """A primary whose NOOP, and with it everything inherited, is committed (R4)."""
        return self.is_primary and self.commit_lsn >= self._reign_lsn

    @property
    def may_propose(self) -> bool:
        """Serving, nothing is in flight (Z1), and the role is not being handed over."""
        return self.is_primary and self.commit_lsn == self.tail.lsn and self.commit_lsn >= self._reign_lsn and not self._heir

    @property
    def role(self) -> str:
        """One of the words of `wire.PartitionStatus`."""
        if not self._configs:
            return "empty"
        return "primary" if self.is_primary else role_in(self.config, self.store_uuid)

    def stamp(self, now_ms: int) -> int:
        """Return the log clock of a primary (R17)."""
        return max(self.tail.stamp_ms, self._stamp_base_ms + now_ms - self._became_ms)

    def heard_age_ms(self, now_ms: int) -> int:
        """Return since when no primary was heard, or a primary no majority; -1 for never."""
        heard_ms = self._majority_heard_ms(now_ms) if self.is_primary else self.heard_ms
        return -1 if heard_ms is None else max(0, now_ms - heard_ms)

    def is_cut_off(self, now_ms: int) -> bool:
        """Return whether others may sell on without this store's knowledge: so long no primary was heard, or no majority (R10)."""
        heard_age_ms = self.heard_age_ms(now_ms)
        return heard_age_ms < 0 or heard_age_ms > 2 * self._settings.suspicion_ms

    def why_not_put_aside(self, now_ms: int) -> str:
        """Return why this store may not make room for an empty one, or "" where it may.

        Whoever asks may have looked at the primary before this store began to learn (R14): then it takes part, whatever
        they believe, and would be counted though it is gone. A store that no primary has spoken to for a while does not.
        """
        if self.is_primary:
            return "it leads"
        heard = self.heard_ms is not None and now_ms - self.heard_ms < self._settings.suspicion_ms
        return "it hears a primary" if heard else ""

    @property
    def rows_form(self) -> int:
        """The newest form of rows that every copy reads, for all that is known: one not heard in this reign may be of an older program."""
        return min([ROWS_FORM, *(one.rows_form for one in self._followers.values() if not one.leaving_lsn)])

    def followers(self, now_ms: int) -> dict[str, tuple[int, int, bool]]:
        """Return store uuid -> (lsn up to which it has the log, ms since it was heard, whether it is caught up).

        A learner of an older program is never caught up: it may not become a voter.
        """
        voters = self.config.voters
        return {
            uuid: (
                one.match_lsn,
                max(0, now_ms - one.heard_ms),
                one.is_caught_up(self.tail.lsn, now_ms) and (uuid in voters or one.rows_form >= ROWS_FORM),
            )
            for uuid, one in self._followers.items()
            if not one.leaving_lsn
        }

    # --- promotion ------------------------------------------------------------------------------------------------

    def promise(self, epoch: Epoch, now_ms: int) -> Plan:
        """R1. The position in the reply is of what is flushed: a primary's own unflushed tail is not counted here,
        because the shell carries out a plan, its writes too, before the next event."""
        heard_age_ms = self.heard_age_ms(now_ms)
        if epoch <= self.promised or self.distrusted:
            return Plan([], Promised(False, self.promised, self.tail, heard_age_ms))
        self.promised = epoch
        self._promised_ms = now_ms
        steps: list[Step] = [Persist(epoch, self.led)]
        steps += self._step_down("another epoch was promised")
        return Plan(steps, Promised(True, epoch, self.tail, heard_age_ms))

    def become(self, epoch: Epoch, store_uuid: str, stamp_base_ms: int, now_ms: int, reason: Reason = NO_REASON) -> Plan:
        """R4: lead `epoch`, if it is the promised one and was never led here. `reason` goes into the entry that opens the reign."""
        refusal = self._why_not_lead(epoch, store_uuid)
        if refusal:
            return Plan([], Became(False, refusal))
        self.led = self.epoch = epoch
        self.is_primary = True
        # The base is of when the promises were given. The manager may have waited since, for a store that is silent: without
        # that time this reign's clock would lag, the next one would leap, and holds made meanwhile would end early.
        waited_ms = 0 if self._promised_ms is None else now_ms - self._promised_ms
        self._stamp_base_ms = max(self.tail.stamp_ms, stamp_base_ms + waited_ms)
        self._became_ms = now_ms
        self._reign_lsn = self.tail.lsn + 1
        self._ticket_wanted = self._ticket_confirmed = self._seq
        self._heir = ""
        config, stamp_ms = self.config, self.stamp(now_ms)
        self._followers = {}
        self._follow(self._reign_lsn, now_ms)
        node = config.voters[self.store_uuid]
        row = ReignRow(epoch, self._reign_lsn, stamp_ms, node, self.store_uuid, reason.before, reason.why, reason.by)
        events = [(int(Kind.REIGN), f"{self._reign_lsn:016d}", encode_row(row))]
        # The first reign writes the configuration that bootstrap gave into the log, where it stays the truth.
        first = self.config_lsn == 0
        if first:
            events.append((int(Kind.CONFIG), "", encode_row(config)))
        entry = Entry(epoch, self._reign_lsn, stamp_ms, CONFIG if first else NOOP, events=events)
        steps: list[Step] = [Persist(self.promised, epoch)]
        return Plan(steps + self._write_own(seal(entry, self.tail.hash), now_ms), Became(True))

    def _why_not_lead(self, epoch: Epoch, store_uuid: str) -> str:
        if store_uuid != self.store_uuid:
            return f"this store is {self.store_uuid}"
        if epoch != self.promised:
            return f"epoch {list(self.promised)} is promised"
        if self.distrusted:
            return "this store went back behind what it acknowledged"
        if self.led >= epoch:
            return "this epoch was led here before"
        if self.store_uuid not in self.config.voters:
            return "this store is no voter"
        return ""

    def _step_down(self, reason: str) -> list[Step]:
        if not self.is_primary:
            return []
        self.is_primary = False
        self.epoch = EPOCH_NONE
        self._followers = {}
        self._heir = ""
        return [StepDown(reason)]

    # --- the primary's side ---------------------------------------------------------------------------------------

    def propose(self, sealed: SealedEntry, now_ms: int) -> Plan:
        """Take the one entry that may be in flight: ship it and write it.

        Raises:
            InvariantBroken: Another is in flight, or this store does not lead.
        """
        if not self.may_propose or sealed.entry.epoch != self.epoch:
            raise InvariantBroken("an entry was proposed while it may not be", lsn=sealed.entry.lsn)
        return Plan(self._write_own(sealed, now_ms))

    def configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> Plan:
        """R15: take one step of a change of the configuration, or say why not now.

        Args:
            config_lsn: Where the configuration stands that the change was thought of for: a change that was overtaken is refused.
        """
        reason = self._why_not_configure(change, config_lsn, now_ms)
        config = changed(self.config, change)
        if reason or isinstance(config, str):
            return Plan([], Reconfigured(False, reason or str(config)))
        event = (int(Kind.CONFIG), "", encode_row(config))
        entry = Entry(self.epoch, self.tail.lsn + 1, self.stamp(now_ms), CONFIG, events=[event])
        return Plan(self._write_own(seal(entry, self.tail.hash), now_ms), Reconfigured(True, "", entry.lsn))

    def _why_not_configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> str:
        if not self.is_primary:
            return "this store is not the primary"
        if not self.serving:
            return "no entry of its own epoch is committed yet"
        if self.config_lsn > self.commit_lsn:
            return "the previous change is not committed yet"
        if not self.may_propose:
            return "an entry is in flight"
        if config_lsn != self.config_lsn:
            return f"the configuration is that of lsn {self.config_lsn}, not of {config_lsn}"
        if change.kind == REMOVE_VOTER and change.store_uuid == self.store_uuid:
            return "a primary never removes itself: hand over first"
        follower = self._followers.get(change.store_uuid)
        if change.kind == ADD_VOTER and follower is not None and not follower.is_caught_up(self.tail.lsn, now_ms):
            return f"the learner on {follower.node} has {follower.match_lsn} of {self.tail.lsn} entries, it is not caught up"
        if change.kind == ADD_VOTER and follower is not None and follower.rows_form < ROWS_FORM:
            return f"the program on {follower.node} is an older one, which does not read every row"
        return ""

    def hand_over(self, epoch: Epoch, store_uuid: str, pause_ms: int, now_ms: int) -> HandedOver:
        """Prepare to give the role to `store_uuid`: take nothing new for up to `pause_ms`, and say when it has everything.

        Asked again and again by a manager until "ready"; a `pause_ms` of 0 gives it up. Safety rests on promise and become
        alone; this only makes the named store one of the most advanced, and callers wait instead of being refused.
        """
        follower = self._followers.get(store_uuid)
        if not self.serving or epoch != self.epoch:
            return HandedOver("refused", 0, "this store does not lead that epoch")
        if follower is None or store_uuid not in self.config.voters:
            return HandedOver("refused", 0, f"store {store_uuid} is none of the other voters")
        if pause_ms <= 0:
            self._heir = ""
            return HandedOver("refused", 0, "given up")
        if self._heir != store_uuid:
            missing = self.tail.lsn - follower.match_lsn
            if missing >= CAUGHT_UP_ENTRIES or now_ms - follower.heard_ms > self._settings.suspicion_ms:
                return HandedOver("refused", 0, f"{follower.node} is {missing} entries behind, heard {now_ms - follower.heard_ms} ms ago")
            self._heir, self._heir_until_ms = store_uuid, now_ms + pause_ms
        ready = self.commit_lsn == self.tail.lsn == follower.match_lsn
        return HandedOver("ready" if ready else "waiting", self.tail.lsn)

    def _write_own(self, sealed: SealedEntry, now_ms: int) -> list[Step]:
        self.tail = check_follows(self.tail, sealed)
        self._note(sealed.entry)
        if sealed.entry.kind == CONFIG:
            self._follow(sealed.entry.lsn, now_ms)
        # Followers write while this disk flushes; the write is last because its end is the next event.
        return [*self._sends(now_ms, urgent=True), Write(0, (sealed,))]

    def _follow(self, next_lsn: int, now_ms: int) -> None:
        """Follow the latest configuration with whom is shipped to; it is in force as soon as it is appended (R15).

        Args:
            next_lsn: What a new follower is sent first; what it lacks before that, its answer says.
        """
        others = {**self.config.learners, **self.config.voters}
        others.pop(self.store_uuid, None)
        for uuid, follower in self._followers.items():
            follower.leaving_lsn = 0 if uuid in others else (follower.leaving_lsn or self.config_lsn)
        for uuid, node in others.items():
            if uuid not in self._followers:
                self._followers[uuid] = Follower(
                    node, 0, next_lsn, now_ms, acked_seq=self._seq, round_end_lsn=self.tail.lsn, round_began_ms=now_ms
                )

    def wrote(self, lsn: int, now_ms: int) -> Plan:
        """The primary's own entries up to `lsn` are flushed: only now it counts itself (R6)."""
        self._durable_lsn = max(self._durable_lsn, lsn)
        return Plan(self._advance(now_ms))

    def answered(self, store_uuid: str, seq: int, answer: AppendAnswer, now_ms: int) -> Plan:
        """An APPEND of this reign was answered."""
        follower = self._followers.get(store_uuid)
        if not self.is_primary or follower is None:
            return Plan([])
        if answer.status == "epoch" and answer.promised > self.epoch:
            return Plan(self._step_down(f"epoch {list(answer.promised)} is promised elsewhere"))
        awaited = follower.busy == seq
        if awaited:
            follower.busy = 0
        # A node that lost its disk answers with another identity: it never counts as the old one (R14).
        follower.holding = answer.store_uuid != store_uuid or answer.status == "snapshot"
        if awaited and answer.store_uuid == store_uuid:
            follower.rows_form = answer.rows_form  # Also while it takes a snapshot. It cannot fall: an older program leaves its file alone.
        if answer.epoch != self.epoch or follower.holding:
            return Plan([])
        if awaited:
            follower.heard_ms = follower.sent_ms
        follower.acked_seq = max(follower.acked_seq, seq)
        if answer.status == "ack":
            follower.match_lsn = max(follower.match_lsn, answer.match_lsn)
            follower.next_lsn = max(follower.next_lsn, follower.match_lsn + 1)
            follower.acknowledged(self.tail.lsn, now_ms)
            if follower.leaving_lsn and follower.match_lsn >= follower.leaving_lsn:
                del self._followers[store_uuid]  # It knows that it is retired.
        elif answer.status == "gap" and awaited:
            # Below match_lsn only where a store lost what it acknowledged (a restored disk): count it no more for that.
            follower.next_lsn = max(1, min(answer.first_lsn, follower.next_lsn))
            follower.match_lsn = min(follower.match_lsn, follower.next_lsn - 1)
        steps = self._advance(now_ms)
        return Plan(steps + self._sends(now_ms, urgent=True))

    def lost(self, store_uuid: str, seq: int) -> Plan:
        """No answer will come to that APPEND; it may have arrived. The next heartbeat sends what is missing."""
        follower = self._followers.get(store_uuid)
        if follower is not None and follower.busy == seq:
            follower.busy = 0
        return Plan([])

    def read(self, now_ms: int) -> tuple[int, Plan]:
        """A linearizable read arrived: return its ticket, confirmed by acknowledgements of what is sent from now on."""
        self._seq += 1
        self._ticket_wanted = self._seq
        return self._ticket_wanted, Plan(self._advance(now_ms) + self._sends(now_ms, urgent=True))

    def tick(self, now_ms: int) -> Plan:
        """Time passed: heartbeats that are due, and R10."""
        if not self.is_primary:
            return Plan([])
        if self.is_cut_off(now_ms):
            return Plan(self._step_down("no majority has answered"))
        if self._heir and now_ms > self._heir_until_ms:
            self._heir = ""  # Nobody promoted the other in time: callers have waited long enough.
        silent_ms = now_ms - 2 * self._settings.suspicion_ms
        for uuid in [uuid for uuid, one in self._followers.items() if one.leaving_lsn and one.heard_ms < silent_ms]:
            del self._followers[uuid]
        return Plan(self._sends(now_ms, urgent=False))

    def _sends(self, now_ms: int, urgent: bool) -> list[Step]:
        """Return an APPEND for each follower that has none under way and that misses entries, a read round or a heartbeat."""
        steps: list[Step] = []
        for store_uuid, follower in self._followers.items():
            if follower.busy:
                continue
            behind = follower.next_lsn <= self.tail.lsn and not follower.holding
            asked = follower.acked_seq < self._ticket_wanted
            due = now_ms - follower.sent_ms >= self._settings.heartbeat_ms
            # A follower that does not answer is asked again at the heartbeat's pace, not as fast as it fails.
            if not ((urgent and (behind or asked)) or due):
                continue
            self._seq += 1
            follower.busy = self._seq
            follower.sent_ms = now_ms
            previous_lsn = follower.next_lsn - 1
            last_lsn = min(self.tail.lsn, previous_lsn + self._settings.entries_per_append) if behind else previous_lsn
            steps.append(
                Send(
                    store_uuid,
                    follower.node,
                    self._seq,
                    self.epoch,
                    previous_lsn,
                    self.epoch_at(previous_lsn),
                    last_lsn,
                    self.commit_lsn,
                    urgent or behind,
                    follower.match_lsn,
                )
            )
        return steps

    def _advance(self, now_ms: int) -> list[Step]:
        """R6, and the reads that a majority has confirmed."""
        if not self.is_primary:
            return []
        steps: list[Step] = []
        lsn = self._quorum_value([f.match_lsn for f in self._voting_followers()], self._durable_lsn)
        if lsn > self.commit_lsn and self._may_commit(lsn):
            self.commit_lsn = lsn
            steps.append(Commit(lsn))
        if self._ticket_wanted > self._ticket_confirmed and self.serving:
            ticket = self._quorum_value([f.acked_seq for f in self._voting_followers()], self._ticket_wanted)
            ticket = min(ticket, self._ticket_wanted)
            if ticket > self._ticket_confirmed:
                self._ticket_confirmed = ticket
                steps.append(Confirmed(ticket))
        return steps

    def _may_commit(self, lsn: int) -> bool:
        """R6: an entry of an older epoch is never committed by counting; it may yet be replaced."""
        return lsn >= self._reign_lsn

    def _voting_followers(self) -> list[Follower]:
        voters = self.config.voters
        return [follower for store_uuid, follower in self._followers.items() if store_uuid in voters]

    def _quorum_value(self, theirs: list[int], own: int) -> int:
        """Return the greatest value that a majority of the voters has reached."""
        reached = sorted([*theirs, own] if self.store_uuid in self.config.voters else theirs, reverse=True)
        majority = len(self.config.voters) // 2 + 1
        return reached[majority - 1] if len(reached) >= majority else 0

    def _majority_heard_ms(self, now_ms: int) -> int:
        return self._quorum_value([f.heard_ms for f in self._voting_followers()], now_ms)

    # --- the follower's side --------------------------------------------------------------------------------------

    def append(self, message: Append, now_ms: int) -> Plan:
        """R5.

        Raises:
            InvariantBroken: What the message says cannot be true together with what is committed here.
        """
        if message.epoch < self.promised:
            return Plan([], self._answer("epoch", message, 0))
        if self.is_primary and message.epoch == self.epoch:
            raise InvariantBroken("two stores lead one epoch", epoch=list(message.epoch))
        steps: list[Step] = []
        if message.epoch > self.promised:
            self.promised = message.epoch
            self._promised_ms = None
            steps.append(Persist(self.promised, self.led))
        steps += self._step_down("a newer primary was heard")
        self.heard_ms = now_ms
        if message.store_uuid == self.store_uuid and message.acked_lsn > self.tail.lsn:
            # R11: within one reign nothing that was acknowledged to it is ever truncated, so this disk went back.
            self.distrusted = True
        if self.distrusted:
            return Plan([*steps, Distrust(message.acked_lsn)], self._answer("snapshot", message, 0))
        if self._needs_snapshot(message):
            return Plan([*steps, NeedSnapshot()], self._answer("snapshot", message, 0))
        if message.previous_lsn > self.tail.lsn:
            return Plan(steps, self._answer("gap", message, self.tail.lsn + 1))
        if self.epoch_at(message.previous_lsn) != message.previous_epoch:
            return Plan(steps, self._answer("gap", message, self._conflict_from(message.previous_lsn)))
        write = self._reconcile(message.entries)
        if write is not None:
            self._durable_lsn = self.tail.lsn
            steps.append(write)
        match_lsn = message.previous_lsn + len(message.entries)
        commit_lsn = min(message.commit_lsn, match_lsn)
        if commit_lsn > self.commit_lsn:
            self.commit_lsn = commit_lsn
            steps.append(Commit(commit_lsn))
        # What is committed here is in the log of every later primary (R2). Who got it by a snapshot is asked from further back, maybe
        # from where the primary's log does not reach any more, and would never be sent what comes next if it did not say so.
        return Plan(steps, self._answer("ack", message, 0, max(match_lsn, self.commit_lsn)))

    def _needs_snapshot(self, message: Append) -> bool:
        """R12: the entry that comes next is not in the primary's log; or all of a long log would come."""
        if message.previous_lsn < self.commit_lsn:
            return False
        if message.needs_snapshot and message.previous_lsn <= self.tail.lsn:
            # With entries of its own beyond, it was its own answer that led back so far: they part from the primary's before
            # the place where that one's log begins. A message that is merely late knows of no commit that is news here.
            return message.previous_lsn == self.tail.lsn or message.commit_lsn > self.commit_lsn
        return self.tail.lsn == 0 < self._settings.log_entries_max < message.commit_lsn

    def _answer(self, status: str, message: Append, first_lsn: int, match_lsn: int = 0) -> AppendAnswer:
        return AppendAnswer(status, message.epoch, match_lsn, self.store_uuid, self.promised, first_lsn)
