"""The node's recoverer: one thread that brings back, one after another, the copies that need it.

It looks at its own copies and at what the peers say, asks `recovery.py` what to do, and carries out the instructions of a
`Pull`. What it does by itself it does for stores that are empty where the cluster's configuration expects one (a lost disk,
a file put aside at start), that are too far behind for the log (R12), or that went back behind what they acknowledged
(R11). What a person asks for goes the same way. Nothing here votes or changes who may: the managers see the new identity
in the node's status and take it in as a learner, then as a voter (R14).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from zlib import crc32

import msgspec

from datastore import recovery, wire
from datastore.errors import HoldfastError, InvalidRequest, RequestInProgress, nearest, shown
from datastore.identities import Identities
from datastore.incoming import Incoming
from datastore.installing import erased_after, install, lost_writes, requests_of
from datastore.model import OPERATOR_PATTERN
from datastore.partition import Partition
from datastore.pulling import CALL_MS, Job, PullRun
from datastore.recovery import Cause, NoSource, Source
from datastore.snapshots import Children
from datastore.store import SqliteStore
from datastore.store_port import Store
from datastore.stub import NodeStub
from datastore.wire_recovery import HashesAsk, LostWrites, RecoverAsk, RecoverReport, SnapshotOffer

SURVEY_S = 1.0
STATUS_MS = 1000
TURN_S = 60.0
RETRY_S = 2.0
INSTALL_TRIES = 60
ASKED_TRIES = 3
BUSY_TRIES = 60
SETTLE_TRIES = 10
SETTLE_S = 0.2
LOOK_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


class Host(Protocol):
    """What the recoverer needs of its node."""

    name: str

    def find(self, operator: str) -> Partition | None: ...

    def make(self, operator: str) -> Partition: ...

    def partitions(self) -> list[Partition]: ...

    def put_aside_files(self, operator: str) -> list[Path]: ...

    def was_replaced(self, operator: str) -> None: ...

    def aside_changed(self, operator: str) -> None: ...

    def erased(self, operator: str) -> list[str]: ...


class Recoverer:
    """Recovers the copies of one node."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        stubs: Mapping[str, NodeStub],
        identities: Identities,
        children: Children,
        *,
        by_itself: bool,
        bytes_per_s: int,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            folder: Where snapshots on their way are kept.
            stubs: The peers by name; not closed here.
            by_itself: Whether to recover without being asked.
        """
        self._host = host
        self._folder = folder
        self._stubs = stubs
        self._identities = identities
        self._children = children
        self._by_itself = by_itself
        self._bytes_per_s = bytes_per_s
        self._mutex = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._reports: dict[str, RecoverReport] = {}
        self._leaving: set[str] = set()
        self._made: set[str] = set()
        self._unheard = set(stubs)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recoverer", daemon=True)

    def start(self) -> None:
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []:
            self._take_up(path.stem)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        self._children.close()
        if self._thread.ident is not None:
            self._thread.join(CALL_MS / 1000)

    # --- what others ask (any thread) -----------------------------------------------------------------------------

    def report(self, operator: str) -> RecoverReport | None:
        """Return how the operator's recovery stands, None where there is and was none."""
        return self._reports.get(operator)

    def leaves(self, operator: str) -> bool:
        """Return whether the store here is about to be replaced by one with another identity."""
        return operator in self._leaving

    def made(self, store_uuid: str) -> bool:
        """Return whether this very process gave a store that came by snapshot this new identity: nobody knows it as anything else."""
        return store_uuid in self._made

    def needed(self, operator: str, cause: Cause) -> None:
        """A partition found that it cannot go on by log, or that its store went back."""
        if self._by_itself:
            self._queue(Job(operator, cause))

    def recover(self, ask: RecoverAsk) -> list[RecoverReport]:
        """Plan, start or watch what a person asks for.

        Raises:
            InvalidRequest: An operator or peer that is not there; nothing was begun.
        """
        if ask.action not in ("plan", "start", "watch"):
            raise InvalidRequest(f"{shown(ask.action)} is none of plan, start, watch", field="action")
        if ask.source and ask.source not in self._stubs and ask.source != self._host.name:
            near = nearest(ask.source, self._stubs)
            raise InvalidRequest(
                f"no node {shown(ask.source)}" + (f"; did you mean {near[0]}?" if near else ""), field="source", nearest=near
            )
        if ask.action == "watch":
            return [self._reports[operator] for operator in ask.operators or sorted(self._reports) if operator in self._reports]
        peers = self._peers()
        known = {operator for statuses in peers.values() for operator in statuses} | {part.operator for part in self._host.partitions()}
        for operator in ask.operators:
            if operator not in known:
                near = nearest(operator, known)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InvalidRequest(
                    f"{self._host.name} and its peers keep no copy of {shown(operator)}{hint}", field="operators", nearest=near
                )
        planned = [self._planned(operator, ask.source, peers) for operator in ask.operators or self._kept_here(known, peers)]
        if ask.action == "plan":
            return planned
        return [self._started(report, ask.source) for report in planned]

    def _kept_here(self, known: set[str], peers: Mapping[str, Mapping[str, wire.PartitionStatus]]) -> list[str]:
        """Return the operators whose configuration names this node, or that it keeps a store of."""
        found = []
        for operator in sorted(known):
            mine = self._mine(operator)
            truth = recovery.latest([*_of(operator, peers).values(), *([mine] if mine else [])])
            if mine is not None or (truth is not None and self._host.name in {**truth.voters, **truth.learners}.values()):
                found.append(operator)
        return found

    def _planned(self, operator: str, wanted: str, peers: Mapping[str, Mapping[str, wire.PartitionStatus]]) -> RecoverReport:
        mine, others = self._mine(operator), _of(operator, peers)
        lsn = mine.last_lsn if mine is not None else 0
        cause = Cause.ASKED if lsn else Cause.EMPTY
        # The identity of an empty store is new already, unless its empty log once voted: then too nothing is lost by another.
        report = RecoverReport(operator, "planned", cause, fresh=bool(lsn), here_lsn=lsn)
        why_not = recovery.refusal(self._host.name, mine, others)
        chosen = recovery.choose_source(self._host.name, others, wanted)
        if not why_not and isinstance(chosen, NoSource):
            why_not = chosen.why
        if why_not:
            return msgspec.structs.replace(report, state="refused", why=why_not)
        assert isinstance(chosen, Source)
        report = msgspec.structs.replace(report, source=chosen.node, why=chosen.why, source_lsn=chosen.lsn)
        partition = self._host.find(operator)
        if lsn and partition is not None:
            report.lost = self._would_lose(partition, lsn, others)
        return report

    def _started(self, planned: RecoverReport, wanted: str) -> RecoverReport:
        if planned.state == "refused":
            return planned
        running = self._reports.get(planned.operator)
        if running is not None and running.state in ("waiting", "fetching", "checking", "installing"):
            return running
        job = Job(planned.operator, Cause(planned.cause), wanted, uuid.uuid4().hex if planned.fresh else "")
        job.report = msgspec.structs.replace(planned, state="waiting")
        self._queue(job)
        return job.report

    # --- the thread -----------------------------------------------------------------------------------------------

    def _queue(self, job: Job) -> None:
        with self._mutex:
            if any(other.operator == job.operator for other in self._jobs):
                return
            if not job.report.operator:
                job.report = RecoverReport(job.operator, "waiting", job.cause, fresh=bool(job.fresh_uuid))
            self._reports[job.operator] = job.report
            self._jobs.append(job)
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            job = self._due()
            if job is None:
                if self._by_itself:
                    self._survey()
                self._wake.wait(SURVEY_S)
                self._wake.clear()
                continue
            try:
                if job.cause is Cause.ASKED and job.fresh_uuid:
                    # Said before anybody is asked, until the new identity is there: `recovery.refusal` has the reason.
                    self._leaving.add(job.operator)
                done = self._recover(job)
            except HoldfastError as error:
                log.warning("recovery stopped operator=%s reason=%s", job.operator, error.detail)
                job.report.detail, done = error.detail, False
            except OSError as error:
                log.warning("recovery stopped operator=%s reason=%s", job.operator, error)
                job.report.detail, done = str(error), False
            finally:
                self._leaving.discard(job.operator)
            self._ended(job, done)

    def _due(self) -> Job | None:
        with self._mutex:
            now = time.monotonic()
            return next((job for job in self._jobs if job.due <= now), None)

    def _ended(self, job: Job, done: bool) -> None:
        job.tries += 1
        # A person who waits is told; what the node does by itself it tries for as long as it takes.
        tries_max = BUSY_TRIES if job.busy else ASKED_TRIES
        again = not done and (job.cause is not Cause.ASKED or (job.tries < tries_max and job.report.state != "refused"))
        if not done and job.report.state != "refused":
            job.report.state = "waiting" if again else "failed"
        with self._mutex:
            self._jobs.remove(job)
            if again:
                # Two that met must not meet again.
                job.due = time.monotonic() + RETRY_S * (1 + crc32(f"{self._host.name} {job.tries}".encode()) % 8 / 8)
                self._jobs.append(job)

    def _survey(self) -> None:
        """Look for copies that the cluster expects here and that are not; ends asking once every peer was heard and all is well."""
        empty = [part.operator for part in self._host.partitions() if part.store.applied_lsn == 0]
        if not self._unheard and not empty:
            return
        peers = self._peers()
        self._unheard -= peers.keys()
        for operator in sorted({operator for statuses in peers.values() for operator in statuses}):
            if OPERATOR_PATTERN.fullmatch(operator) is None:
                continue
            cause = recovery.cause_at_node(self._host.name, self._mine(operator), _of(operator, peers))
            if cause is not None:
                log.info("recovers by itself operator=%s cause=%s", operator, cause)
                self._host.make(operator)
                self._queue(Job(operator, cause))

    def _take_up(self, operator: str) -> None:
        """Go on with what an earlier process of this node began."""
        noted = Incoming(self._folder, operator).found()
        if noted is None or noted.operator != operator or noted.cause not in list(Cause):
            return
        cause = Cause(noted.cause)
        if cause is Cause.ASKED or self._by_itself:
            self._queue(Job(operator, cause, "", noted.fresh_uuid))

    def _peers(self) -> dict[str, dict[str, wire.PartitionStatus]]:
        """Return node -> operator -> status of the peers that answer, asked all at once."""
        found: dict[str, dict[str, wire.PartitionStatus]] = {}

        def ask(name: str, stub: NodeStub) -> None:
            try:
                found[name] = {partition.operator: partition for partition in stub.status(STATUS_MS).partitions}
            except HoldfastError as error:
                log.debug("no status node=%s reason=%s", name, error.detail)

        threads = [threading.Thread(target=ask, args=item, daemon=True) for item in self._stubs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def _mine(self, operator: str) -> wire.PartitionStatus | None:
        partition = self._host.find(operator)
        return partition.status() if partition is not None else None

    # --- one recovery ---------------------------------------------------------------------------------------------

    def _recover(self, job: Job) -> bool:
        """Return whether it is done; False leaves the reason in the report."""
        report = job.report
        peers = _of(job.operator, self._peers())
        mine = self._mine(job.operator)
        if job.cause is Cause.EMPTY and mine is not None and mine.applied_lsn > 0:
            # The log brought it meanwhile.
            Incoming(self._folder, job.operator).discard()
            report.state, report.source, report.detail = "done", "", "the log brought it"
            return True
        why_not = self._why_not_give_up(job, mine, peers)
        at_least = mine.applied_lsn + 1 if mine is not None and not job.fresh_uuid and mine.last_lsn else 0
        if why_not:
            report.state, report.detail = "waiting" if job.busy else "refused", why_not
            return False
        chosen = self._chosen(job, peers, at_least)
        if isinstance(chosen, NoSource):
            report.detail = chosen.why
            return False
        if job.cause is Cause.DISTRUSTED and not job.fresh_uuid:
            job.fresh_uuid = uuid.uuid4().hex
        report.source, report.why, report.source_lsn, report.fresh = chosen.node, chosen.why, chosen.lsn, bool(job.fresh_uuid)
        report.here_lsn = mine.last_lsn if mine is not None else 0
        partition = self._host.make(job.operator)
        log.info("recovers operator=%s cause=%s from=%s because=%s", job.operator, job.cause, chosen.node, chosen.why)
        incoming = Incoming(self._folder, job.operator)
        done = PullRun(
            job,
            self._stubs[chosen.node],
            incoming,
            self._children,
            at_least_lsn=at_least,
            bytes_per_s=self._bytes_per_s,
            stop=self._stop,
            use=lambda offer: self._take_into_use(job, partition, incoming, offer),
        ).run()
        if not done:
            job.avoid = {chosen.node} if chosen.node not in job.avoid else set()
        return done

    def _why_not_give_up(self, job: Job, mine: wire.PartitionStatus | None, peers: Mapping[str, wire.PartitionStatus]) -> str:
        """Return why the store must not lose its identity now, or ""; note in the job whether that passes."""
        why_not = recovery.refusal(self._host.name, mine, peers) if job.cause is Cause.ASKED else ""
        job.busy = bool(why_not) and any(copy.leaving for copy in peers.values())
        return why_not

    def _chosen(self, job: Job, peers: Mapping[str, wire.PartitionStatus], at_least_lsn: int) -> Source | NoSource:
        """Return the source: the one a person named, else the one that much came from already, else the best."""
        noted = Incoming(self._folder, job.operator).found()
        if not job.wanted and noted is not None and noted.source not in job.avoid:
            again = recovery.choose_source(self._host.name, peers, noted.source, at_least_lsn)
            if isinstance(again, Source):
                return again._replace(why=f"part of its snapshot is here already; has everything committed up to lsn {again.lsn}")
        candidates = {name: copy for name, copy in peers.items() if name not in job.avoid} or peers
        return recovery.choose_source(self._host.name, candidates, job.wanted, at_least_lsn)

    def _take_into_use(self, job: Job, partition: Partition, incoming: Incoming, offer: SnapshotOffer) -> None:
        """Put a checked snapshot in the place of the store, in one turn of the partition.

        Raises:
            RequestInProgress, InvalidRequest: Not now; nothing changed.
        """
        aside, erased_since = "", False
        # Once more: what came took its time, and another voter may have been lost meanwhile.
        why_not = self._why_not_give_up(job, self._mine(job.operator), _of(job.operator, self._peers()))
        if why_not:
            raise RequestInProgress(why_not, operator=job.operator)

        def swap(old: Store) -> Store:
            nonlocal aside, erased_since
            assert isinstance(old, SqliteStore)
            known = self._identities.read(job.operator)
            seen_lsn = max(old.applied_lsn, known.lsn if known is not None else 0)
            new, aside = install(old, incoming.path, offer, job.fresh_uuid, self._identities)
            new.on_erased, erased_since = old.on_erased, erased_after(new, seen_lsn)
            return new

        self._install(partition, swap)
        if job.fresh_uuid:
            self._made.add(job.fresh_uuid)
        self._host.was_replaced(job.operator)
        incoming.discard()
        self._account(job, aside)
        self._host.aside_changed(job.operator)
        if erased_since and job.report.kept in self._host.erased(job.operator):
            # The log would have said so entry by entry; a snapshot just lacks the records (Z12).
            job.report.kept, job.report.detail = "", "the old file is deleted: somebody was erased since"
        log.info("recovered operator=%s store=%s lsn=%d", job.operator, partition.store.store_uuid, offer.lsn)

    def _install(self, partition: Partition, swap: Callable[[Store], Store]) -> None:
        """Swap the store in a turn of the partition that has nothing on its way.

        Raises:
            RequestInProgress, InvalidRequest: Not now; nothing changed.
        """
        for left in reversed(range(INSTALL_TRIES)):
            try:
                partition.install(swap, TURN_S)
                return
            except RequestInProgress:
                if not left or self._stop.wait(1.0):
                    raise

    def _account(self, job: Job, aside: str) -> None:
        """Say what the old file had that nobody else has; delete it where that is nothing."""
        files = self._host.put_aside_files(job.operator)
        replaced = next((path for path in files if path.name == aside), None)
        old = replaced or (files[-1] if files and job.cause is Cause.EMPTY else None)
        if old is None:
            return
        job.report.lost = lost_writes(old, lambda lsns: self._their_hashes(job.operator, lsns))
        lost = job.report.lost
        if replaced is not None and not lost.last_lsn and not lost.unreadable:
            # Reading it made SQLite's two files beside it.
            for end in ("", "-wal", "-shm"):
                replaced.with_name(replaced.name + end).unlink(missing_ok=True)
            return
        job.report.kept = old.name
        if lost.last_lsn:
            log.warning("not in the others' log operator=%s from=%d to=%d file=%s", job.operator, lost.first_lsn, lost.last_lsn, old.name)

    def _would_lose(self, partition: Partition, last_lsn: int, peers: Mapping[str, wire.PartitionStatus]) -> LostWrites:
        operator = partition.operator
        seen = [peers]  # What was just heard will do for the first look: a node keeps copies of many operators.
        try:
            agreed = recovery.agreed_lsn(
                1,
                last_lsn,
                lambda lsn: partition.in_turn(lambda: partition.store.hash_at(lsn), TURN_S),
                lambda lsns: self._their_hashes(operator, lsns, seen.pop() if seen else None),
            )
            if agreed >= last_lsn:
                return LostWrites()
            bodies = partition.in_turn(lambda: partition.store.entries(agreed + 1, recovery.REQUESTS_SHOWN, LOOK_BYTES), TURN_S)
            return LostWrites(agreed + 1, last_lsn, requests_of(bodies))
        except HoldfastError as error:
            return LostWrites(unreadable=error.detail)

    def _their_hashes(
        self, operator: str, lsns: Sequence[int], peers: Mapping[str, wire.PartitionStatus] | None = None
    ) -> list[bytes]:
        """Return the hashes at the primary, once it has committed what is asked for or has nothing more to commit.

        Args:
            peers: What they said a moment ago, None to ask them.
        Raises:
            HoldfastError: No primary can be asked.
        """
        for left in reversed(range(SETTLE_TRIES)):
            peers = peers or _of(operator, self._peers())
            primary = next((name for name, copy in peers.items() if copy.role == "primary" and copy.serving), "")
            if primary and (peers[primary].commit_lsn >= max(lsns) or not left):
                return self._stubs[primary].hashes(HashesAsk(operator, list(lsns)), CALL_MS)
            if primary and peers[primary].commit_lsn == peers[primary].last_lsn:
                return self._stubs[primary].hashes(HashesAsk(operator, list(lsns)), CALL_MS)
            if not left or self._stop.wait(SETTLE_S):
                break
            peers = None
        raise RequestInProgress(f"{operator} has no primary that answers", operator=operator)


def _of(operator: str, peers: Mapping[str, Mapping[str, wire.PartitionStatus]]) -> dict[str, wire.PartitionStatus]:
    return {name: statuses[operator] for name, statuses in peers.items() if operator in statuses}
