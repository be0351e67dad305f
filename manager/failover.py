"""One operator's primary: when it may be replaced, and the steps that replace it, as a machine.

Pure: `OperatorWatch.receive(event, now_ms) -> list[Instruction]`. Events say what was seen or answered, instructions what
to ask next; the shell (`manager.watch`) carries them out for all operators at once and feeds back the answers.

    watching --nobody serves--> leasing --> naming --> configuring --+   (first start: no store has a configuration)
        ^ |                       | |                                 v
        | +--a move is wanted-----+ +------------------------------> promising --R2--> becoming --R3--> watching
        |                         |                                   ^
        |                         +--> handing over (planned) --------+

Safety rests on three things only, none of them time: the epoch is new (its counter is above everything seen and above
everything this process ever used, and the process's uuid is drawn at start), the choice is R2's, and BECOME is sent for
an epoch at most once (R3). Whatever goes wrong, the epoch is abandoned and the next attempt takes a higher one.

Everything else here is about not acting needlessly: a manager that starts finds a serving primary and changes nothing;
one that cannot reach the primary asks what the copies hear (R9); rivals keep off by a lease, by seeing each other's
epochs rise, and by backing off for random times. The lease is a courtesy: without lock servers all goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from datastore.administration import HandOverItem, HandOverReply
from datastore.errors import InvariantBroken
from datastore.model import EPOCH_NONE, Epoch
from datastore.wire import BecomeItem, BecomeReply, BootstrapReply, PartitionStatus, PromiseReply
from manager.choice import Chosen, NoChoice, choose, latest_config, majority, voters_among
from manager.failover_steps import (
    AskPromises,
    BecomeAnswered,
    Configure,
    Configured,
    Event,
    HandOver,
    HandOverAnswered,
    Instruction,
    Lease,
    LeaseSettled,
    MoveEnded,
    MoveWanted,
    NameOne,
    NameStores,
    Observed,
    Phase,
    PromisesGiven,
    Report,
    Serving,
    Sighting,
    StoresNamed,
    TakeLease,
)

# A primary that its copies hear but that does not serve (it may be catching up a long log) gets this many times the suspicion.
STUCK_FACTOR = 5
# A copy that promised a higher epoch cannot follow its primary; this many times the suspicion passes before a new epoch mends it.
DEAF_FACTOR = 2
BACKOFF_DOUBLINGS_MAX = 3
# A node that was made primary and did not come to serve is passed over for this many times the suspicion.
SHUN_FACTOR = 10
# A planned move stops the callers for no longer than this; what takes longer is given up, and the primary goes on.
HAND_OVER_PAUSE_MS = 1_500
HAND_OVER_PATIENCE_MS = 500


@dataclass
class OperatorWatch:
    """One operator under one manager's eyes.

    Attributes:
        manager_uuid: Drawn at the process's start: makes its epochs differ from those of all other processes, ever.
        by: Who this is, for the record of promotions.
        serving: The primary that serves, None while none does.
        waiting: Why none serves, for people; "" while one does.
        choose: The choice of R2; a check of the checkers gives it a wrong one.
    """

    operator: str
    manager_uuid: str
    heartbeat_ms: int
    suspicion_ms: int
    by: str = ""
    serving: Serving | None = None
    waiting: str = "not looked at yet"
    phase: Phase = Phase.WATCHING
    choose: Callable[[Mapping[str, PromiseReply], Sequence[str]], Chosen | NoChoice] = choose
    _sighting: Sighting = field(default=Sighting((), {}, frozenset()))
    _jitter: float = 0.0
    _counter: int = 0  # The highest that was seen or used.
    _named: Epoch = EPOCH_NONE  # The last epoch for which BECOME was sent.
    _epoch: Epoch = EPOCH_NONE
    _voters: dict[str, str] = field(default_factory=dict)
    _why: str = ""
    _before: str = ""  # The node that served last.
    _unserved_since_ms: int | None = None
    _deaf_since_ms: int | None = None
    _rival_until_ms: int = 0
    _newest_promise: Epoch | None = None
    _retry_at_ms: int = 0
    _failures: int = 0
    _without_lease: bool = False
    _learners: dict[str, str] = field(default_factory=dict)
    _move: MoveWanted | None = None
    _move_from: str = ""
    _handing_until_ms: int = 0
    _made: Epoch = EPOCH_NONE  # The epoch of the last primary that this machine made.
    _made_until_ms: int = 0  # So long it is believed without a report.
    _shunned: dict[str, int] = field(default_factory=dict)  # node -> until when it is not made primary again

    def receive(self, event: Event, now_ms: int) -> list[Instruction]:
        """Take in what happened and return what to do; an answer to a question that is no longer open does nothing.

        Raises:
            InvariantBroken: A second BECOME for one epoch was about to be sent (R3).
        """
        if isinstance(event, Observed):
            return self._observe(event, now_ms)
        if isinstance(event, MoveWanted):
            return self._move_wanted(event, now_ms)
        if isinstance(event, HandOverAnswered) and self.phase is Phase.HANDING:
            return self._hand_over_answered(event.reply, now_ms)
        if isinstance(event, LeaseSettled) and self.phase is Phase.LEASING:
            return self._lease_settled(event.lease, now_ms)
        if isinstance(event, StoresNamed) and self.phase is Phase.NAMING:
            return self._stores_named(event.replies, now_ms)
        if isinstance(event, Configured) and self.phase is Phase.CONFIGURING:
            return self._configured(event.replies, now_ms)
        if isinstance(event, PromisesGiven) and self.phase is Phase.PROMISING and event.epoch == self._epoch:
            return self._promises_given(event.replies, now_ms)
        if isinstance(event, BecomeAnswered) and self.phase is Phase.BECOMING and event.epoch == self._epoch:
            return self._become_answered(event.reply, now_ms)
        return []

    def nodes(self) -> list[str]:
        """Return the nodes that keep a copy: as the operator's own log says (Z16), else where it belongs."""
        placed = self._sighting.placed
        kept = sorted(set(self._voters.values()), key=lambda node: (placed.index(node) if node in placed else len(placed), node))
        return kept or list(placed)

    def voting_nodes(self) -> tuple[str, ...]:
        """Return the nodes of the voters."""
        return tuple(dict.fromkeys(self._voters.values()))

    def keeps(self, node: str) -> bool:
        """Return whether a copy on that node takes part."""
        return node in self._voters.values() or node in self._learners.values()

    # -- watching ----------------------------------------------------------------------------------------------------

    def _observe(self, event: Observed, now_ms: int) -> list[Instruction]:
        self._sighting, self._jitter = event.sighting, event.jitter
        self._watch_promises(now_ms)
        config = latest_config(self._sighting.reports.values())
        self._voters, self._learners = (dict(config.voters), dict(config.learners)) if config is not None else ({}, {})
        self.serving = serving_primary(self._sighting, self._voters)
        if self._made > (self.serving.epoch if self.serving is not None else EPOCH_NONE):
            # Reports from before the one that was made primary a moment ago: it is given the time to commit its first entry.
            settling = now_ms < self._made_until_ms and self._before in self._sighting.reports
            self.serving = Serving(self._before, self._made) if settling else None
            if not settling and now_ms >= self._made_until_ms:
                # It did not come to serve: it may reach this manager and not its fellows, and with the first entry of every
                # vain reign it is the furthest again. R2 holds for any majority, so the next one is sought without it.
                self._shunned[self._before] = now_ms + SHUN_FACTOR * self.suspicion_ms
                self._made = EPOCH_NONE
        if self.serving is not None:
            self._before, self._unserved_since_ms, self.waiting = self.serving.node, None, ""
        elif self._unserved_since_ms is None:
            self._unserved_since_ms = now_ms
        if self.phase is not Phase.WATCHING:
            return []
        instructions: list[Instruction] = []
        incomplete = self._incomplete()
        if incomplete:
            # A founding that was interrupted. The store takes it only while its log is empty and it has none.
            instructions.append(Configure(incomplete, self._voters))
        if self._reason_to_wait(now_ms):
            return instructions
        self.phase = Phase.LEASING
        if self._without_lease:
            return instructions + self._proceed(now_ms)
        return [*instructions, TakeLease()]

    def _watch_promises(self, now_ms: int) -> None:
        """Note the highest promise; one that rose and is not ours means that a rival is at work right now."""
        newest = max((Epoch(*report.promised) for report in self._reports()), default=EPOCH_NONE)
        if self._newest_promise is not None and newest > self._newest_promise and newest.manager != self.manager_uuid:
            self._rival_until_ms = now_ms + int(self.suspicion_ms * (0.5 + self._jitter))
        if self._newest_promise is None or newest > self._newest_promise:
            self._newest_promise = newest
        self._counter = max(self._counter, newest.counter)

    def _incomplete(self) -> tuple[str, ...]:
        return tuple(
            node
            for node, report in self._sighting.reports.items()
            if report is not None and not report.voters and report.last_lsn == 0 and self._voters.get(report.store_uuid) == node
        )

    def _reason_to_wait(self, now_ms: int) -> bool:
        """Decide whether to leave all as it is; sets `waiting` or the reason `_why` to act."""
        if self.serving is not None:
            return not self._is_followed_badly(self.serving, now_ms)
        reason = self._obstacle(now_ms) or self._patience(now_ms)
        self.waiting = reason or "is being promoted"
        if not reason:
            missing = f"; {self._before} was primary" if self._before else ""
            self._why = f"no copy hears a primary{missing}" if self._voters else "first start"
        return bool(reason)

    def _is_followed_badly(self, serving: Serving, now_ms: int) -> bool:
        """Return whether some voter has promised a higher epoch for so long that only a new epoch brings it back.

        That is what an attempt that died half-way leaves behind: the store refuses its primary for ever (R1), and the
        operator would stand on fewer copies than it seems.
        """
        deaf = [report for report in self._reports() if self._takes_part(report) and Epoch(*report.promised) > serving.epoch]
        if not deaf:
            self._deaf_since_ms = None
            return False
        if self._deaf_since_ms is None:
            self._deaf_since_ms = now_ms
        patient = now_ms < max(self._deaf_since_ms + DEAF_FACTOR * self.suspicion_ms, self._retry_at_ms, self._rival_until_ms)
        self._why = f"a copy promised a higher epoch than that of {serving.node} and cannot follow it"
        # PROMISE takes the role from the serving primary too: only where a majority is sure to answer.
        return not patient and not self._sighting.paused and self._voters_answering() >= majority(self._voters)

    def _obstacle(self, now_ms: int) -> str:
        """Return why a promotion could not succeed now, or ""."""
        reports, silent = self._sighting.reports, self._sighting.silent
        if self._voters:
            count, needed = self._voters_answering(), majority(self._voters)
            return "" if count >= needed else f"{count} of {len(self._voters)} copies answer, {needed} are needed"
        # Founding: never while a store with data may be among those that are not seen. All of its own nodes must answer,
        # and of the others so few may be missing that a majority of an older partition elsewhere would show.
        absent = [node for node in self._sighting.placed if node not in reports]
        if absent or len(silent) > (len(self._sighting.placed) - 1) // 2:
            return f"founded when all its nodes answer; missing: {', '.join(absent or sorted(silent))}"
        if any(report.last_lsn > 0 for report in self._reports()):
            return "a store has a log but no configuration"
        return ""

    def _patience(self, now_ms: int) -> str:
        """Return why acting now would be hasty, or ""."""
        if self._sighting.paused:
            return "automatic failover is paused"
        unserved_ms = now_ms - (self._unserved_since_ms if self._unserved_since_ms is not None else now_ms)
        if now_ms < self._retry_at_ms:
            return self.waiting or "tried a moment ago"
        if now_ms < self._rival_until_ms:
            return "another manager is promoting"
        # R9: a majority that hears a primary has one, whether this manager reaches it or not. Only where it is seen not to
        # get on with its first entry is it replaced all the same, after a long while.
        voters = [report for report in self._reports() if self._is_voter(report)]
        seen = any(report.role == "primary" for report in voters)
        hearing = [report for report in voters if report.role == "primary" or 0 <= report.heard_age_ms < self.suspicion_ms]
        if self._voters and len(hearing) >= majority(self._voters) and not (seen and unserved_ms >= STUCK_FACTOR * self.suspicion_ms):
            return "the primary does not serve yet" if seen else "the copies hear a primary that cannot be reached from here"
        # At a cold start the nodes come up one after another: without this the first two would get everything.
        missing = sorted(node for node in self._voters.values() if node not in self._sighting.reports)
        if missing and unserved_ms < self.suspicion_ms:
            return f"waiting for {', '.join(missing)} to answer"
        return ""

    def _reports(self) -> list[PartitionStatus]:
        return [report for report in self._sighting.reports.values() if report is not None]

    def _is_voter(self, report: PartitionStatus) -> bool:
        return report.store_uuid in self._voters

    def _takes_part(self, report: PartitionStatus) -> bool:
        return report.store_uuid in self._voters or report.store_uuid in self._learners

    def _voters_answering(self) -> int:
        found = ((node, report.store_uuid) for node, report in self._sighting.reports.items() if report is not None)
        return voters_among(self._voters, found)

    # -- moving ------------------------------------------------------------------------------------------------------

    def _move_wanted(self, move: MoveWanted, now_ms: int) -> list[Instruction]:
        """Begin a move that somebody asked for, or say at once why not; nothing is changed then."""
        if self.phase is not Phase.WATCHING:
            return [MoveEnded("", "", EPOCH_NONE, "its primary is being changed already")]
        self._move, self._move_from = move, self.serving.node if self.serving is not None else ""
        reason = self._why_not_move(move)
        if reason:
            return [self._end_move(reason)]
        self._why = move.why or ("forced" if move.force else "switchover")
        self.phase = Phase.LEASING
        return [TakeLease()]

    def _why_not_move(self, move: MoveWanted) -> str:
        """Return why a move cannot begin, or ""."""
        nodes = sorted(self._voters.values())
        if not self._voters:
            return "it has no copies yet"
        if self._voters_answering() < majority(self._voters):
            count, needed = self._voters_answering(), majority(self._voters)
            return f"{count} of {len(nodes)} copies answer, {needed} are needed: nothing acknowledged is risked"
        if move.node and move.node not in nodes:
            return f"{move.node} has no voting copy; {', '.join(nodes)} have"
        if move.node and move.node == self._move_from:
            return f"{move.node} leads it already"
        if move.node and move.node in self._sighting.silent:
            return f"{move.node} does not answer"
        if self.serving is None and not move.force:
            return f"no primary serves, so none can hand over ({self.waiting}); a forced failover needs none"
        return "" if move.node or move.force or self._heir() is not None else "no other copy is well enough to lead"

    def _heir(self) -> tuple[str, str] | None:
        """Return (store uuid, node) of the copy that a move is for: the one named, else the most preferred that is caught up."""
        assert self._move is not None
        followers = {}
        if self.serving is not None:
            report = self._sighting.reports.get(self.serving.node)
            followers = report.followers if report is not None else {}
        wanted = [self._move.node] if self._move.node else [node for node in self.nodes() if node != self._move_from]
        for node in wanted:
            for store_uuid, kept in self._voters.items():
                caught_up = followers.get(store_uuid, (0, 0, False))[2]
                if kept == node and (caught_up or self._move.node):
                    return store_uuid, node
        return None

    def _begin_move(self, now_ms: int) -> list[Instruction]:
        assert self._move is not None
        if self._move.force:
            return self._ask_promises(self._answering(now_ms))
        self._handing_until_ms = now_ms + HAND_OVER_PATIENCE_MS
        return self._hand_over(HAND_OVER_PAUSE_MS, again=False, now_ms=now_ms)

    def _hand_over(self, pause_ms: int, *, again: bool, now_ms: int) -> list[Instruction]:
        heir = self._heir()
        if self.serving is None or heir is None:
            return self._abandon("the primary or its heir is gone", now_ms)
        self.phase = Phase.HANDING
        return [HandOver(self.serving.node, HandOverItem(self.operator, self.serving.epoch, heir[0], pause_ms), again)]

    def _hand_over_answered(self, reply: HandOverReply | None, now_ms: int) -> list[Instruction]:
        if reply is not None and reply.status == "ready":
            return self._ask_promises(self._answering(now_ms))
        if reply is not None and reply.status == "waiting" and now_ms < self._handing_until_ms:
            return self._hand_over(HAND_OVER_PAUSE_MS, again=True, now_ms=now_ms)
        why = "no answer from the primary" if reply is None else reply.reason
        if not self._handing_until_ms:
            why = f"the other copy does not get everything within {HAND_OVER_PATIENCE_MS} ms"
        elif reply is not None and reply.status == "waiting":
            # Give it up, so that callers are served at once; the answer says "refused" and ends it.
            self._handing_until_ms = 0
            return self._hand_over(0, again=False, now_ms=now_ms)
        return self._abandon(why, now_ms)

    def _answering(self, now_ms: int) -> tuple[str, ...]:
        """Return the nodes to ask for promises: all that answer, without those that failed of late where the rest is a majority."""
        nodes = tuple(node for node, report in self._sighting.reports.items() if report is not None)
        fit = tuple(node for node in nodes if self._shunned.get(node, 0) <= now_ms)
        stores = [(node, report.store_uuid) for node, report in self._sighting.reports.items() if report is not None and node in fit]
        return fit if voters_among(self._voters, stores) >= majority(self._voters) else nodes

    def _end_move(self, error: str) -> MoveEnded:
        before, self._move = self._move_from, None
        serving = self.serving
        return MoveEnded(before, serving.node if serving else "", serving.epoch if serving else EPOCH_NONE, error)

    # -- promoting ---------------------------------------------------------------------------------------------------

    def _lease_settled(self, lease: Lease, now_ms: int) -> list[Instruction]:
        if self._move is not None and lease is not Lease.CONTENDED:
            return self._begin_move(now_ms)
        if lease is Lease.GRANTED:
            return self._proceed(now_ms)
        if self._move is not None:
            return self._abandon("another manager changes its primary", now_ms)
        self.phase = Phase.WATCHING
        self._retry_at_ms = now_ms + int(self.heartbeat_ms * (0.5 + self._jitter))
        self.waiting = "another manager holds the lease to promote"
        if lease is Lease.UNAVAILABLE:
            # R9: the lease only keeps rivals apart. After a random wait, and another look, it goes on without.
            self._without_lease = True
            self.waiting = "no lock servers to keep rivals apart; goes on without after a moment"
        return []

    def _proceed(self, now_ms: int) -> list[Instruction]:
        self._without_lease = False
        if self._voters:
            return self._ask_promises(self._answering(now_ms))
        self.phase = Phase.NAMING
        return [NameStores(self._sighting.placed)]

    def _stores_named(self, replies: Mapping[str, BootstrapReply], now_ms: int) -> list[Instruction]:
        placed = self._sighting.placed
        if any(reply.voters or reply.last_lsn for reply in replies.values()):
            return self._abandon("a store turned out to have data already", now_ms)
        stores = {replies[node].store_uuid: node for node in placed if node in replies}
        if len(stores) != len(placed):
            return self._abandon("not all its nodes made their stores", now_ms)
        self.phase, self._voters = Phase.CONFIGURING, stores
        return [Configure(placed, stores)]

    def _configured(self, replies: Mapping[str, BootstrapReply], now_ms: int) -> list[Instruction]:
        agreed = tuple(node for node, reply in replies.items() if reply.voters == self._voters)
        if len(agreed) != len(self._voters):
            # Whoever took it will show it in the next look, and the rest is completed from there.
            return self._abandon("not all its nodes took the configuration", now_ms)
        return self._ask_promises(agreed)

    def _ask_promises(self, nodes: tuple[str, ...]) -> list[Instruction]:
        self._counter += 1
        self._epoch = Epoch(self._counter, self.manager_uuid)
        self.phase = Phase.PROMISING
        return [AskPromises(nodes, self._epoch)]

    def _promises_given(self, replies: Mapping[str, PromiseReply], now_ms: int) -> list[Instruction]:
        self._counter = max([self._counter, *(reply.promised[0] for reply in replies.values())])
        first = [self._move.node] if self._move is not None and self._move.node else []
        if self._move is not None and not self._move.node:
            # "Any other": whoever led comes last among equals.
            first = [node for node in self.nodes() if node != self._move_from]
        chosen = self.choose(replies, [*first, *self._sighting.placed])
        if not isinstance(chosen, Chosen):
            return self._abandon(chosen.why, now_ms)
        if self._epoch <= self._named:
            # R3: two stores named in one epoch could both commit.
            raise InvariantBroken(f"{self.operator}: BECOME for {self._epoch} after {self._named}", operator=self.operator)
        self._named = self._epoch
        self.phase = Phase.BECOMING
        by = self._move.by if self._move is not None else self.by
        before, self._before = self._before, chosen.node
        item = BecomeItem(self.operator, self._epoch, chosen.store_uuid, chosen.log_time_base_ms, before, self._why, by)
        return [NameOne(chosen.node, item)]

    def _become_answered(self, reply: BecomeReply | None, now_ms: int) -> list[Instruction]:
        if reply is None:
            # R3: it may have become primary. The next look tells; if it did not, a higher epoch starts over.
            return self._abandon(f"no answer from {self._before} to its promotion", now_ms)
        if not reply.accepted:
            return self._abandon(f"{self._before} did not become primary: {reply.reason}", now_ms)
        self.phase, self._failures, self._deaf_since_ms = Phase.WATCHING, 0, None
        self.waiting = f"{self._before} became primary and commits its first entry"
        self._retry_at_ms = now_ms + self.suspicion_ms
        # Whoever asks is sent there at once: it keeps what it is asked until its first entry is committed.
        self._made, self._made_until_ms = self._epoch, self._retry_at_ms
        self.serving = Serving(self._before, self._epoch)
        report = Report(self._before, self._epoch, self._why)
        if self._move is None:
            return [report]
        wanted = self._move.node
        error = f"{self._before} leads it instead of {wanted}: it has more of the log" if wanted and wanted != self._before else ""
        return [report, self._end_move(error)]

    def _abandon(self, why: str, now_ms: int) -> list[Instruction]:
        """Give the attempt up and try again later, each time after a longer and random while, so that duels end."""
        self.phase = Phase.WATCHING
        self.waiting = why
        pause_ms = self.heartbeat_ms * 2 ** min(self._failures, BACKOFF_DOUBLINGS_MAX)
        self._failures += 1
        self._retry_at_ms = now_ms + int(pause_ms * (0.5 + self._jitter))
        return [self._end_move(why)] if self._move is not None else []


def serving_primary(sighting: Sighting, voters: Mapping[str, str]) -> Serving | None:
    """Return the primary that serves, of the highest epoch where two claim it.

    A majority that promised a higher epoch refuses whatever the claimant sends (R1): its report is only older than theirs.
    """
    claims = [
        Serving(node, Epoch(*report.promised))
        for node, report in sighting.reports.items()
        if report is not None and report.role == "primary" and report.serving
    ]
    if not claims:
        return None
    newest = max(claims, key=lambda claim: claim.epoch)
    refusing = voters_among(
        voters,
        (
            (node, report.store_uuid)
            for node, report in sighting.reports.items()
            if report is not None and Epoch(*report.promised) > newest.epoch
        ),
    )
    return newest if not voters or refusing < majority(voters) else None
