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
- R17 Stamps come from a base fixed when the reign begins plus monotonic time since.
- Z1 One entry is in flight: the next is decided from a state in which everything in the log is applied.
- Z16 A machine is built as a follower; only BECOME makes a primary.

Messages may be lost, repeated, delayed and reordered. To each follower one APPEND is under way at a time (`busy`), so what
is sent next is always what the last reply said is missing; the shell reports each as answered or as lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import dropwhile

from datastore.errors import InvariantBroken
from datastore.ledger import CONFIG, NOOP, Entry, Position, SealedEntry, check_follows, seal
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication_steps import (
    Append,
    AppendAnswer,
    Became,
    Commit,
    Confirmed,
    Follower,
    LogReader,
    Persist,
    Plan,
    Promised,
    ReplicationSettings,
    Send,
    Step,
    StepDown,
    Summary,
    Write,
)
from datastore.rows import ConfigRow, Kind, decode_row, encode_row


class Replica:
    """One partition's log on one store."""

    def __init__(self, summary: Summary, log: LogReader, settings: ReplicationSettings) -> None:
        self.store_uuid = summary.store_uuid
        self.promised = summary.promised
        self.led = summary.led
        self.tail = summary.tail
        self.commit_lsn = summary.applied_lsn
        self.epoch = EPOCH_NONE  # of the reign, while primary
        self.is_primary = False
        self.heard_ms: int | None = None
        self._log = log
        self._settings = settings
        self._epochs = list(summary.epochs)
        self._configs = list(summary.configs)
        self._followers: dict[str, Follower] = {}
        self._durable_lsn = summary.tail.lsn
        self._reign_lsn = 0
        self._seq = 0
        self._ticket_wanted = 0
        self._ticket_confirmed = 0
        self._stamp_base_ms = 0
        self._became_ms = 0

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def config(self) -> ConfigRow:
        """The latest configuration in the log, committed or not (R15)."""
        return self._configs[-1][1] if self._configs else ConfigRow({})

    @property
    def serving(self) -> bool:
        """A primary whose NOOP, and with it everything inherited, is committed (R4)."""
        return self.is_primary and self.commit_lsn >= self._reign_lsn

    @property
    def may_propose(self) -> bool:
        """Serving, and nothing is in flight (Z1)."""
        return self.is_primary and self.commit_lsn == self.tail.lsn and self.commit_lsn >= self._reign_lsn

    @property
    def role(self) -> str:
        """One of the words of `wire.PartitionStatus`."""
        if not self._configs:
            return "empty"
        if self.is_primary:
            return "primary"
        if self.store_uuid in self.config.voters:
            return "replica"
        return "learner" if self.store_uuid in self.config.learners else "outside"

    def epoch_at(self, lsn: int) -> Epoch:
        """Return the epoch of a stored entry; lsn 0 has none."""
        index = bisect_right(self._epochs, lsn, key=_first_lsn) - 1
        return self._epochs[index][1] if lsn > 0 and index >= 0 else EPOCH_NONE

    def stamp(self, now_ms: int) -> int:
        """Return the log clock of a primary (R17)."""
        return max(self.tail.stamp_ms, self._stamp_base_ms + now_ms - self._became_ms)

    def heard_age_ms(self, now_ms: int) -> int:
        """Return since when no primary was heard, or a primary no majority; -1 for never."""
        heard_ms = self._majority_heard_ms(now_ms) if self.is_primary else self.heard_ms
        return -1 if heard_ms is None else max(0, now_ms - heard_ms)

    def bootstrap(self, config: ConfigRow) -> bool:
        """Take the first configuration; False where there is one, or a log, already."""
        if self._configs or self.tail.lsn:
            return False
        self._configs = [(0, config)]
        return True

    # --- promotion ------------------------------------------------------------------------------------------------

    def promise(self, epoch: Epoch, now_ms: int) -> Plan:
        """R1. The position in the reply is of what is flushed: a primary's own unflushed tail is not counted here,
        because the shell carries out a plan, its writes too, before the next event."""
        heard_age_ms = self.heard_age_ms(now_ms)
        if epoch <= self.promised:
            return Plan([], Promised(False, self.promised, self.tail, heard_age_ms))
        self.promised = epoch
        steps: list[Step] = [Persist(epoch, self.led)]
        steps += self._step_down("another epoch was promised")
        return Plan(steps, Promised(True, epoch, self.tail, heard_age_ms))

    def become(self, epoch: Epoch, store_uuid: str, stamp_base_ms: int, now_ms: int) -> Plan:
        """R4: lead `epoch`, if it is the promised one and was never led here."""
        refusal = self._why_not_lead(epoch, store_uuid)
        if refusal:
            return Plan([], Became(False, refusal))
        self.led = self.epoch = epoch
        self.is_primary = True
        self._stamp_base_ms = max(self.tail.stamp_ms, stamp_base_ms)
        self._became_ms = now_ms
        self._reign_lsn = self.tail.lsn + 1
        self._ticket_wanted = self._ticket_confirmed = self._seq
        config = self.config
        others = {**config.learners, **config.voters}
        others.pop(self.store_uuid, None)
        next_lsn = self._reign_lsn
        self._followers = {uuid: Follower(node, 0, next_lsn, now_ms, acked_seq=self._seq) for uuid, node in others.items()}
        # The first reign writes the configuration that bootstrap gave into the log, where it stays the truth.
        first = not self._configs or self._configs[-1][0] == 0
        events = [(int(Kind.CONFIG), "", encode_row(config))] if first else []
        entry = Entry(epoch, self._reign_lsn, self.stamp(now_ms), CONFIG if first else NOOP, events=events)
        steps: list[Step] = [Persist(self.promised, epoch)]
        return Plan(steps + self._write_own(seal(entry, self.tail.hash), now_ms), Became(True))

    def _why_not_lead(self, epoch: Epoch, store_uuid: str) -> str:
        if store_uuid != self.store_uuid:
            return f"this store is {self.store_uuid}"
        if epoch != self.promised:
            return f"epoch {list(self.promised)} is promised"
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

    def _write_own(self, sealed: SealedEntry, now_ms: int) -> list[Step]:
        self.tail = check_follows(self.tail, sealed)
        self._note(sealed.entry)
        # Followers write while this disk flushes; the write is last because its end is the next event.
        return [*self._sends(now_ms, urgent=True), Write(0, (sealed,))]

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
        if answer.epoch != self.epoch or answer.store_uuid != store_uuid:
            return Plan([])
        if awaited:
            follower.heard_ms = follower.sent_ms
        follower.acked_seq = max(follower.acked_seq, seq)
        if answer.status == "ack":
            follower.match_lsn = max(follower.match_lsn, answer.match_lsn)
            follower.next_lsn = max(follower.next_lsn, follower.match_lsn + 1)
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
        if now_ms - self._majority_heard_ms(now_ms) > 2 * self._settings.suspicion_ms:
            return Plan(self._step_down("no majority has answered"))
        return Plan(self._sends(now_ms, urgent=False))

    def _sends(self, now_ms: int, urgent: bool) -> list[Step]:
        """Return an APPEND for each follower that has none under way and that misses entries, a read round or a heartbeat."""
        steps: list[Step] = []
        for store_uuid, follower in self._followers.items():
            if follower.busy:
                continue
            behind = follower.next_lsn <= self.tail.lsn
            asked = follower.acked_seq < self._ticket_wanted
            due = now_ms - follower.sent_ms >= self._settings.heartbeat_ms
            # A follower that does not answer is asked again at the heartbeat's pace, not as fast as it fails.
            if not ((urgent and (behind or asked)) or due):
                continue
            self._seq += 1
            follower.busy = self._seq
            follower.sent_ms = now_ms
            previous_lsn = follower.next_lsn - 1
            last_lsn = min(self.tail.lsn, previous_lsn + self._settings.entries_per_append)
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
        ticket = self._quorum_value([f.acked_seq for f in self._voting_followers()], self._ticket_wanted)
        ticket = min(ticket, self._ticket_wanted)
        if ticket > self._ticket_confirmed and self.serving:
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
            steps.append(Persist(self.promised, self.led))
        steps += self._step_down("a newer primary was heard")
        self.heard_ms = now_ms
        if message.previous_lsn > self.tail.lsn:
            return Plan(steps, self._answer("gap", message, self.tail.lsn + 1))
        if self.epoch_at(message.previous_lsn) != message.previous_epoch:
            return Plan(steps, self._answer("gap", message, self._conflict_from(message.previous_lsn)))
        write = self._reconcile(message.entries)
        if write is not None:
            steps.append(write)
        match_lsn = message.previous_lsn + len(message.entries)
        commit_lsn = min(message.commit_lsn, match_lsn)
        if commit_lsn > self.commit_lsn:
            self.commit_lsn = commit_lsn
            steps.append(Commit(commit_lsn))
        return Plan(steps, self._answer("ack", message, 0, match_lsn))

    def _answer(self, status: str, message: Append, first_lsn: int, match_lsn: int = 0) -> AppendAnswer:
        return AppendAnswer(status, message.epoch, match_lsn, self.store_uuid, self.promised, first_lsn)

    def _conflict_from(self, lsn: int) -> int:
        """Return the first lsn of the run of entries that disagrees at `lsn`: the primary goes back there at once."""
        if lsn <= self.commit_lsn:
            raise InvariantBroken("a primary does not have what is committed here", lsn=lsn)
        index = bisect_right(self._epochs, lsn, key=_first_lsn) - 1
        return max(self._epochs[index][0], self.commit_lsn + 1)

    def _reconcile(self, entries: Sequence[SealedEntry]) -> Write | None:
        """Return what to truncate and write, with log, epochs and configurations already as they will be then."""
        fresh = [*dropwhile(self._has, entries)]
        if not fresh:
            return None
        lsn = fresh[0].entry.lsn
        truncate_from = 0
        if lsn <= self.tail.lsn:
            truncate_from = lsn
            self._forget_from(lsn)
        for sealed in fresh:
            self.tail = check_follows(self.tail, sealed)
            self._note(sealed.entry)
        self._durable_lsn = self.tail.lsn
        return Write(truncate_from, tuple(fresh))

    def _has(self, sealed: SealedEntry) -> bool:
        """Return whether the log has this very entry: the same lsn and epoch (R5)."""
        entry = sealed.entry
        if entry.lsn > self.tail.lsn or self.epoch_at(entry.lsn) != entry.epoch:
            return False
        if self._log.hash_at(entry.lsn) != sealed.hash:
            raise InvariantBroken(f"two entries {entry.lsn} of one epoch", lsn=entry.lsn, epoch=list(entry.epoch))
        return True

    def _forget_from(self, lsn: int) -> None:
        if lsn <= self.commit_lsn:
            raise InvariantBroken("a committed entry would be truncated", lsn=lsn)
        before = lsn - 1
        # The stamp of what stays is not known without reading it; 0 only means that the next stamp is not compared.
        self.tail = Position(before, self.epoch_at(before), self._log.hash_at(before), 0)
        self._epochs = [run for run in self._epochs if run[0] < lsn]
        self._configs = [known for known in self._configs if known[0] < lsn]

    def _note(self, entry: Entry) -> None:
        """Keep the runs of epochs and the configurations beside the log's new end."""
        if not self._epochs or self._epochs[-1][1] != entry.epoch:
            self._epochs.append((entry.lsn, Epoch(*entry.epoch)))
        if entry.kind == CONFIG:
            self._configs += [(entry.lsn, decode_row(Kind.CONFIG, value)) for kind, _, value in entry.events if kind == Kind.CONFIG]


def _first_lsn(run: tuple[int, Epoch]) -> int:
    return run[0]
