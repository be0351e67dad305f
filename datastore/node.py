"""A data node: its partitions on its disk, the links to its peers, and the one clock that ticks for all of them."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datastore import cluster_record, record_file, wire
from datastore.actor import Bell
from datastore.cluster_record import ClusterRecord
from datastore.config import DatastoreConfig
from datastore.edge import Address, Tls
from datastore.erasing import drop_put_aside
from datastore.errors import ConfigInvalid, DiskFailed, InvalidRequest
from datastore.identities import Identities
from datastore.incoming import Incoming
from datastore.keeping import Keeper
from datastore.ledger_file import SUFFIX
from datastore.links import Links
from datastore.model import OPERATOR_PATTERN
from datastore.partition import Partition
from datastore.recoverer import Recoverer
from datastore.recovery import LOG_ENTRIES_MAX, progress
from datastore.remembered import Remembered, went_back
from datastore.replication_steps import ReplicationSettings
from datastore.sealing import SealingLimits
from datastore.snapshots import Children, SnapshotOffers
from datastore.store import PUT_ASIDE, RETIRED, SqliteStore, open_store, put_aside
from datastore.stub import NodeStub

CLOSE_S = 5.0

log = logging.getLogger(__name__)


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Node:
    """Everything of one data node but its server. Every partition starts as a follower (Z16)."""

    def __init__(
        self,
        name: str,
        config: DatastoreConfig,
        data: Path,
        *,
        on_fatal: Callable[[BaseException], None],
        on_removed: Callable[[str], None] = lambda _reason: None,
        tls: Tls | None = None,
        configured_ms: int = 0,
    ) -> None:
        """Take the folder, open and verify every store in it.

        Args:
            data: The data folder; this node's files are in `data/name/`.
            on_fatal: Must end the process: called when a disk failed or an invariant is broken.
            on_removed: Must end the process too, in order: called when the cluster's record says that this node was removed.
            configured_ms: When the configuration was written, by the wall clock; see `cluster_record.nodes_of`.
        Raises:
            ConfigInvalid: The configuration has no such node, another process has its folder, or the node was removed.
            DiskFailed: The folder or a store cannot be read or written.
        """
        config.node(name)
        self.name = name
        self.boot_id = uuid.uuid4().hex
        self.started_ms = monotonic_ms()
        self.config = config
        self.bell = Bell()
        self._folder = data / name / "partitions"
        self._incoming = data / name / "incoming"
        self._settings = ReplicationSettings(
            config.heartbeat_ms, config.suspicion_ms, log_entries_max=LOG_ENTRIES_MAX if config.auto_recover else 0
        )
        self._on_fatal = on_fatal
        self._on_removed = on_removed
        self._tls = tls
        self._configured, self._configured_ms = {peer.name: (peer.host, peer.port) for peer in config.nodes}, configured_ms
        self._mutex = threading.Lock()
        self._record_mutex = threading.Lock()
        self._partitions: dict[str, Partition] = {}
        self._aside: dict[str, str] = {}
        self._replaced: set[str] = set()  # Operators of which another store was in use here before.
        self._stop = threading.Event()
        others = [peer for peer in config.nodes if peer.name != name]
        # Grows with the nodes that are added; who reads it on another thread finds a node or does not.
        self._stubs = {peer.name: NodeStub(Address(peer.host, peer.port), name=peer.name, tls=tls) for peer in others}
        self._links = Links(self._stubs, config.append_timeout_ms, config.retry_ms)
        self._children = Children()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _take_folder(self._folder.parent)
            found = sorted(path for path in self._folder.iterdir() if path.suffix == SUFFIX and OPERATOR_PATTERN.fullmatch(path.stem))
            self._identities = Identities(data / name / "identities")
        except OSError as cause:
            raise DiskFailed(f"{self._folder}: {cause}", node=name) from cause
        self.record = record_file.read(self._folder.parent)
        removed = self._why_removed()
        if removed:
            raise ConfigInvalid(removed, node=name)
        self._meet(self.record)
        self.offers = SnapshotOffers(data / name / "outgoing", self._children, config.recovery_bytes_per_s)
        self.recoverer = Recoverer(
            self,
            self._incoming,
            self._stubs,
            self._identities,
            self._children,
            by_itself=config.auto_recover,
            bytes_per_s=config.recovery_bytes_per_s,
        )
        for path in found:
            self._open(path.stem)
        limits = SealingLimits(config.segment_entries, config.segment_bytes, config.tail_entries)
        self.keeper = Keeper(self.partitions, self._stubs, limits, on_fatal)
        self._clock = threading.Thread(target=self._tick_all, name="clock", daemon=True)

    def start(self) -> None:
        self._links.start()
        self._clock.start()
        self.keeper.start()
        self.recoverer.start()

    def close(self) -> None:
        """Stop ticking, flush and close every store."""
        self._stop.set()
        self.recoverer.close()
        self.offers.close()
        self._clock.join(CLOSE_S)
        self.keeper.close(CLOSE_S)
        self._links.close()
        for partition in self.partitions():
            partition.close(CLOSE_S)
        os.close(self._lock)

    def partitions(self) -> list[Partition]:
        with self._mutex:
            return list(self._partitions.values())

    def find(self, operator: str) -> Partition | None:
        return self._partitions.get(operator)

    def make(self, operator: str) -> Partition:
        """Return the operator's partition, with a new empty store where there is none.

        Raises:
            InvalidRequest: The code is not one.
        """
        if not OPERATOR_PATTERN.fullmatch(operator):
            raise InvalidRequest("not an operator code", field="operator")
        with self._mutex:
            found = self._partitions.get(operator)
            return found if found is not None else self._open(operator)

    def renew(self, operator: str, store_uuid: str) -> Partition:
        """Put a store aside that never takes part again and return an empty one in its place, with a new identity (R14, R15).

        Asked again, it changes nothing: the store has another identity by then.

        Raises:
            InvalidRequest: The store leads or takes part, or there is none.
        """
        with self._mutex:
            partition = self._partitions.get(operator)
            if partition is None:
                raise InvalidRequest(f"{self.name} has no store of {operator}", field="operator")
            if partition.machine.store_uuid != store_uuid:
                return partition
            why_not = partition.machine.why_not_put_aside(monotonic_ms())
            if why_not:
                raise InvalidRequest(f"the store of {operator} on {self.name} stays: {why_not}", field="store_uuid")
            del self._partitions[operator]
            partition.close(CLOSE_S)
            aside = put_aside(self.store_path(operator), RETIRED)
            log.info("store retired operator=%s store=%s kept_as=%s", operator, store_uuid, aside.name)
            return self._open(operator)

    def take_record(self, record: ClusterRecord) -> ClusterRecord:
        """Take in the newer lines of the cluster's record, on disk when this returns; return the whole of it."""
        with self._record_mutex:
            if cluster_record.is_behind(self.record, record):
                merged = cluster_record.merged(self.record, record)
                record_file.write(self._folder.parent, merged)
                self.record = merged
                self._meet(merged)
                removed = self._why_removed()
                if removed:
                    log.error("removed reason=%s", removed)
                    self._on_removed(removed)
            return self.record

    def _why_removed(self) -> str:
        wish = cluster_record.nodes_of(self.record).get(self.name)
        if wish is None or wish.state != cluster_record.REMOVED:
            return ""
        return (
            f"{self.name} was removed from the cluster: its stores are retired and never vote again; to take part anew it needs"
            f" an empty folder in place of {self._folder.parent}, and: holdfast node add {self.name}"
        )

    def _meet(self, record: ClusterRecord) -> None:
        """Know the nodes that were added since the configuration was written, and forget those that were removed."""
        for name, wish in cluster_record.nodes_of(record, self._configured, self._configured_ms).items():
            address = Address(wish.host, wish.port)
            if name == self.name:
                continue
            if wish.state == cluster_record.REMOVED:
                self._links.drop(name)
                self._stubs.pop(name, None)
            elif self._links.address(name) != address:
                self._stubs[name] = NodeStub(address, name=name, tls=self._tls)
                self._links.put(self._stubs[name])

    def was_here(self, operator: str) -> bool:
        """Return whether another store of the operator was in use here: it may have held what was sold."""
        return operator in self._replaced or bool(self.put_aside_files(operator))

    def store_path(self, operator: str) -> Path:
        return self._folder / f"{operator}{SUFFIX}"

    def put_aside_files(self, operator: str) -> list[Path]:
        """Return the operator's files that are used no more, oldest first; their names say when and why."""
        found = self._folder.glob(f"{operator}{SUFFIX}{PUT_ASIDE}*")
        return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))

    def was_replaced(self, operator: str) -> None:
        """Take notice that a snapshot took the place of the operator's store."""
        self._replaced.discard(operator)
        self.keeper.forget(operator)

    def erased(self, operator: str) -> list[str]:
        """Delete what holds the operator's side records besides its store; return the names of files that were put aside (Z12, Z13)."""
        self.offers.forget(operator)
        Incoming(self._incoming, operator).discard()
        gone = drop_put_aside(self.store_path(operator))
        self.aside_changed(operator)
        return gone

    def aside_changed(self, operator: str) -> None:
        """Look again which of the operator's files were put aside."""
        files = self.put_aside_files(operator)
        self._aside[operator] = files[-1].name if files else ""

    def _open(self, operator: str) -> Partition:
        partition = Partition(
            self._store(operator),
            self.name,
            self._links,
            self._settings,
            now_ms=monotonic_ms,
            on_commit=self.bell.ring,
            on_fatal=self._on_fatal,
            remember=self._remember,
            on_need=self.recoverer.needed,
            flush_ms=self.config.flush_ms,
        )
        self._partitions[operator] = partition
        return partition

    def _store(self, operator: str) -> SqliteStore:
        """Return the operator's store; one that is not the one last used here is put aside for an empty one (R11, R14)."""
        path = self.store_path(operator)
        known = self._identities.read(operator)
        store, _ = open_store(path, operator)
        summary = store.summary()
        reason = went_back(known, store.store_uuid, summary.promised, summary.led, summary.tail.lsn)
        if reason and summary.tail.lsn:
            store.close()
            log.error("store put aside operator=%s file=%s reason=%s", operator, put_aside(path, PUT_ASIDE, "went-back").name, reason)
            store = SqliteStore(path, operator)
        if reason:
            self._replaced.add(operator)
        store.on_erased = partial(self.erased, operator)
        self.aside_changed(operator)
        return store

    def _remember(self, operator: str, remembered: Remembered, has_log: bool) -> None:
        # An empty store in the place of another must not cover up, at the next start, that there was one.
        if has_log or operator not in self._replaced:
            self._identities.write(operator, remembered)

    def status(self) -> wire.NodeStatus:
        partitions = [self._noted(partition) for partition in self.partitions()]
        return wire.NodeStatus(self.name, self.boot_id, monotonic_ms() - self.started_ms, wall_ms(), partitions, self.record)

    def _noted(self, partition: Partition) -> wire.PartitionStatus:
        """Return a partition's status with what is known of its ledger and its recovery."""
        status = partition.status()
        status.ledger = self.keeper.report(partition)
        report = self.recoverer.report(status.operator)
        if report is not None:
            status.recovery = progress(report)
        status.leaving = self.recoverer.leaves(status.operator)
        status.fresh = self.recoverer.made(status.store_uuid)
        status.aside = self._aside.get(status.operator, "")
        return status

    def _tick_all(self) -> None:
        """Tick every partition, then let each link send its heartbeats as one message."""
        sweep_due_ms = monotonic_ms() + self.config.sweep_ms
        while not self._stop.wait(self.config.heartbeat_ms / 1000):
            partitions = self.partitions()
            for partition in partitions:
                partition.tick()
            self._links.wake()
            if monotonic_ms() >= sweep_due_ms:
                sweep_due_ms = monotonic_ms() + self.config.sweep_ms
                for partition in partitions:
                    partition.sweep()


def wall_ms() -> int:
    """Return the wall clock: it only ever proposes the base of a reign's log clock (R17)."""
    return time.time_ns() // 1_000_000


def _take_folder(folder: Path) -> int:
    """Return a descriptor that holds the folder: two processes on one store could both acknowledge."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        os.close(descriptor)
        raise ConfigInvalid(f"{folder} is used by another process", folder=str(folder)) from cause
    return descriptor
