"""What a node does for its ledgers when nobody asks: seal old entries, check everything in the background, back-fill segments.

One thread for all partitions, at a low priority, that rests after each step for longer than the step took: it may use a
quarter of one core, however large the ledgers. Long work (reading, compressing, checking) needs no partition's turn.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from datastore import wire_ledger
from datastore.checking import FullCheck
from datastore.errors import DiskFailed, HoldfastError
from datastore.ledger import LedgerDamaged
from datastore.partition import Partition
from datastore.sealing import SealingLimits, SegmentInfo
from datastore.store import SqliteStore
from datastore.store_port import Store
from datastore.stub import NodeStub

ROUND_S = 1.0
REST_FACTOR = 3
REST_MAX_S = 2.0
NICE = 10
TURN_S = 10.0
SEGMENT_PART_BYTES = 1024 * 1024
SEGMENT_TIMEOUT_MS = 5000
DAMAGED = ".damaged"

log = logging.getLogger(__name__)


@dataclass
class Kept:
    """What is known of one partition's ledger on this disk.

    Attributes:
        asked, done: Numbers of full checks that were asked for and that have ended; one that is asked for while another runs is
            the next.
        missing: Names of segments whose files are not here, as last looked.
        verified_lsn: Up to where the last full check found everything in order.
        damage: What it found instead, "" for nothing.
    """

    asked: int = 1
    done: int = 0
    running: int = 0
    verified_lsn: int = 0
    damage_lsn: int = 0
    damage_file: str = ""
    damage: str = ""
    missing: list[str] = field(default_factory=list)
    check: FullCheck | None = None
    steps: Iterator[None] | None = field(default=None, repr=False)


class Keeper:
    """The keeper of one node's ledgers."""

    def __init__(
        self,
        partitions: Callable[[], list[Partition]],
        peers: Mapping[str, NodeStub],
        limits: SealingLimits,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._partitions = partitions
        self._peers = peers
        self._limits = limits
        self._on_fatal = on_fatal
        self._mutex = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            # A check that was interrupted still reads its file, and a file that is read keeps its WAL when its store is closed.
            for kept in self._kept.values():
                if isinstance(kept.steps, Generator):
                    kept.steps.close()

    def ask_check(self, operator: str) -> int:
        """Ask for a full check; return its number: it has ended when `report` says that as many are done."""
        with self._mutex:
            kept = self._kept.setdefault(operator, Kept())
            number = (kept.running if kept.steps is not None else kept.done) + 1
            kept.asked = max(kept.asked, number)
        self._wake.set()
        return number

    def forget(self, operator: str) -> None:
        """Begin anew with a partition whose store was replaced: what was known was of another file."""
        with self._mutex:
            self._kept.pop(operator, None)
        self._wake.set()

    def report(self, partition: Partition) -> wire_ledger.LedgerReport:
        """Return what is known of a partition's ledger here."""
        with self._mutex:
            kept = self._kept.setdefault(partition.operator, Kept())
            store = partition.store
            return wire_ledger.LedgerReport(
                sealed_lsn=store.sealed_lsn,
                segments=len(store.segments()),
                missing=kept.missing,
                verified_lsn=kept.verified_lsn,
                checks_done=kept.done,
                damage_lsn=kept.damage_lsn,
                damage_file=kept.damage_file,
                damage=kept.damage,
            )

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # Linux gives each thread a priority of its own; elsewhere this would slow the whole node, which must not be.
        if os.uname().sysname == "Linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._closing.is_set():
            busy = False
            try:
                for partition in self._partitions():
                    busy = self._look_after(partition) or busy
            except HoldfastError as error:
                # At the end the stores are closed after some patience, whatever is still read of them here.
                if isinstance(error, DiskFailed) and not self._closing.is_set():
                    self._on_fatal(error)
                log.warning("keeping was interrupted reason=%s", error.detail)
            except BaseException as error:
                self._on_fatal(error)
                raise
            if not busy:
                self._wake.wait(ROUND_S)
                self._wake.clear()

    def _look_after(self, partition: Partition) -> bool:
        """Do one step of each thing that is due for a partition; return whether there is more to do at once."""
        busy = False
        for work in (self._seal, self._backfill, self._check):
            if self._closing.is_set():
                return False
            began = time.monotonic()
            if work(partition):
                busy = True
                self._closing.wait(min(REST_FACTOR * (time.monotonic() - began), REST_MAX_S))
        return busy

    def _seal(self, partition: Partition) -> bool:
        found = partition.in_turn(lambda: partition.store.seal_range(self._limits), TURN_S)
        if found is None:
            return partition.in_turn(lambda: partition.store.trim(), TURN_S)
        store = partition.store
        try:
            segment = store.pack_range(*found)
        except LedgerDamaged as error:
            if partition.store is store:
                self._note_damage(partition.operator, int(error.fields.get("lsn") or found[0]), "", error.detail)
            return False
        # A store that was replaced meanwhile has its own segments.
        if not partition.in_turn(partial(_note, partition, store, segment), TURN_S):
            return False
        log.info("sealed operator=%s file=%s size_bytes=%d", partition.operator, segment.name, segment.size_bytes)
        return True

    def _check(self, partition: Partition) -> bool:
        with self._mutex:
            kept = self._kept.setdefault(partition.operator, Kept())
            if kept.steps is None and kept.asked <= kept.done:
                return False
        if kept.steps is None:
            store = partition.store
            if not isinstance(store, SqliteStore):
                return False
            target = partition.in_turn(lambda: partition.store.digests()[-1], TURN_S)
            kept.check = FullCheck(store.path, partition.operator, target)
            kept.steps, kept.running = kept.check.steps(), kept.done + 1
        if next(kept.steps, self) is not self:
            return True
        check = kept.check
        assert check is not None
        with self._mutex:
            kept.steps = kept.check = None
            kept.verified_lsn = check.position.lsn if check.damage is None else max(0, check.damage.lsn - 1)
            kept.damage_lsn, kept.damage_file, kept.damage = check.damage or (0, "", "")
            kept.done = kept.running
        if check.damage is None:
            log.info("ledger verified operator=%s lsn=%d", partition.operator, check.position.lsn)
        else:
            log.error("ledger damaged operator=%s lsn=%d file=%s reason=%s", partition.operator, *check.damage)
            self._put_damaged_aside(partition, check.damage.file)
        return False

    def _note_damage(self, operator: str, lsn: int, file: str, what: str) -> None:
        with self._mutex:
            kept = self._kept.setdefault(operator, Kept())
            if kept.damage != what:
                log.error("ledger damaged operator=%s lsn=%d reason=%s", operator, lsn, what)
            kept.damage_lsn, kept.damage_file, kept.damage = lsn, file, what

    # --- segments from peers --------------------------------------------------------------------------------------

    def _put_damaged_aside(self, partition: Partition, file: str) -> None:
        """Put a damaged segment aside, kept for whoever wants to look: it is then missing, and comes from a peer."""
        store = partition.store
        if isinstance(store, SqliteStore) and any(segment.name == file for segment in store.segments()):
            path = store.folder.path / file
            if path.exists():
                os.replace(path, path.with_name(file + DAMAGED))

    def _backfill(self, partition: Partition) -> bool:
        """Fetch one missing segment from whichever peer has it; return whether one came."""
        store = partition.store
        missing = store.missing_segments()
        with self._mutex:
            self._kept.setdefault(partition.operator, Kept()).missing = [segment.name for segment in missing]
        if not missing or not isinstance(store, SqliteStore):
            return False
        segment = missing[0]
        for name, peer in list(self._peers.items()):
            try:
                data = _fetched(peer, partition.operator, segment)
                store.folder.install(segment, data)
            except (HoldfastError, OSError) as error:
                log.info("segment not from node=%s operator=%s file=%s reason=%s", name, partition.operator, segment.name, error)
                continue
            log.info("segment back-filled operator=%s file=%s node=%s", partition.operator, segment.name, name)
            self.ask_check(partition.operator)
            return True
        return False


def _fetched(peer: NodeStub, operator: str, segment: SegmentInfo) -> bytes:
    """Return a segment file of a peer, part by part; whether it is the right one is for `install` to say."""
    parts: list[bytes] = []
    size_bytes = 0
    while size_bytes < segment.size_bytes:
        request = wire_ledger.SegmentRequest(operator, segment.first_lsn, segment.last_lsn, size_bytes, SEGMENT_PART_BYTES)
        part = peer.segment(request, SEGMENT_TIMEOUT_MS)
        if not part:
            break
        parts.append(part)
        size_bytes += len(part)
    return b"".join(parts)


def _note(partition: Partition, store: Store, segment: SegmentInfo) -> bool:
    """Make a segment the place of its entries; False where the partition has another store by now."""
    if partition.store is not store:
        return False
    store.sealed(segment)
    return True
