"""Copies that are lost, damaged, put back from a backup or left behind come back by snapshot, as `datastore.recoverer` brings them.

The recoverer, the run of a pull and the rules of `datastore.recovery` are production code on simulated threads. Simulated are the
files: what a snapshot's bytes stand for is kept in a table by their digest, and their bytes travel in parts like any others. As
on a real disk, a file on its way is there again after a stop, and what a node offers is not; when the power goes, what was not
flushed of it is lost or torn.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zlib import crc32

from msgspec.structs import replace

from datastore import recovery
from datastore.errors import HoldfastError, InvalidRequest, NodeUnreachable
from datastore.incoming import Noted
from datastore.ledger import Position
from datastore.model import Epoch
from datastore.partition import Partition
from datastore.pulling import Job
from datastore.recoverer import Recoverer
from datastore.remembered import Remembered
from datastore.wire_recovery import SnapshotAsk, SnapshotOffer, SnapshotPart, SnapshotRead
from tests.simulation.disk import Disk, SimulatedStore
from tests.simulation.threads import STAND_INS, Event, Guard, Thread
from tests.simulation.world import Ask, Violation

if TYPE_CHECKING:
    from tests.simulation.nodes import DataNode

FILE_BYTES = 4_000
PART_BYTES = 1_000
# As `datastore.incoming.FLUSH_BYTES`, of so small a file.
FLUSH_BYTES = 2_000


@dataclass
class Arriving:
    """A snapshot on its way: its note, what came of it, and how much of that is flushed."""

    noted: Noted
    data: bytes = b""
    flushed_bytes: int = 0


class Arrivals(dict[str, Arriving]):
    """A node's folder of snapshots on their way, on its disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.disk = disk

    def tear(self) -> None:
        """The power went: of what was not flushed a part is there, and some of that is not what was written."""
        chance = self.disk.random
        for one in self.values():
            kept = chance.randint(one.flushed_bytes, len(one.data))
            torn = chance.randint(one.flushed_bytes, kept)
            one.data = one.data[:torn] + bytes(kept - torn)
            one.flushed_bytes = kept


class SimulatedIncoming:
    """What `datastore.incoming.Incoming` is to the recoverer: a file on its way and its note, both on the node's disk."""

    def __init__(self, folder: Arrivals, operator: str) -> None:
        self._folder = folder
        self.path = operator

    def found(self) -> Noted | None:
        return self._folder[self.path].noted if self.path in self._folder else None

    def leftover(self) -> recovery.Leftover | None:
        found = self._folder.get(self.path)
        return None if found is None else recovery.Leftover(found.noted.source, found.noted.offer, len(found.data))

    def note(self, noted: Noted) -> None:
        self._folder.disk.write(lambda: self._folder.__setitem__(self.path, Arriving(noted)))

    def settle(self, noted: Noted) -> None:
        found = self._folder[self.path]
        self._folder.disk.write(lambda: setattr(found, "noted", noted))

    def write(self, offset: int, data: bytes) -> int:
        found = self._folder[self.path]

        def act() -> None:
            found.data = found.data[:offset] + data + found.data[offset + len(data) :]

        found.flushed_bytes = min(found.flushed_bytes, offset)
        self._folder.disk.write(act)
        if len(found.data) - found.flushed_bytes >= FLUSH_BYTES:
            self.flush()
        return offset + len(data)

    def differing(self, offer: SnapshotOffer, size_bytes: int) -> tuple[int, ...]:
        sums = block_sums(self._folder[self.path].data)[: recovery.blocks_within(offer, size_bytes)]
        return tuple(number for number, found in enumerate(sums) if found != offer.block_sums[number])

    def flush(self) -> None:
        found = self._folder[self.path]
        self._folder.disk.write(lambda: setattr(found, "flushed_bytes", len(found.data)))

    def discard(self) -> None:
        self._folder.pop(self.path, None)


STAND_INS["Incoming"] = SimulatedIncoming


class Offers:
    """What `datastore.snapshots.SnapshotOffers` is to a node: gone with its process."""

    def __init__(self, node: DataNode) -> None:
        self._node = node
        self._ready: dict[str, SnapshotOffer] = {}
        self._asked: dict[str, int] = {}  # How often, from the second time on what it will be is told, from the third it is ready.

    def ask(self, ask: SnapshotAsk) -> SnapshotOffer:
        partition = self._node.partitions.get(ask.operator)
        if ask.snapshot_id:
            offer = self._ready.get(ask.snapshot_id)
            if offer is None:
                return SnapshotOffer("gone")
            self._asked[ask.snapshot_id] += 1
            grown = self._asked[ask.snapshot_id] > 2
            return offer if grown else replace(offer, state="preparing", sha256="", block_bytes=0, block_sums=())
        if partition is None:
            return SnapshotOffer("refused", reason="no store of this operator")
        snapshot_id = f"{self._node.boot_id}-{ask.operator}-{len(self._ready)}"
        self._ready[snapshot_id] = offer_of(partition, snapshot_id, self._node.world.files)
        self._asked[snapshot_id] = 1
        return SnapshotOffer("preparing", snapshot_id)

    def read(self, read: SnapshotRead) -> SnapshotPart:
        offer = self._ready.get(read.snapshot_id)
        if offer is None:
            return SnapshotPart(False)
        data = file_bytes(read.snapshot_id)
        if self._asked[read.snapshot_id] <= 2:
            # Not all of it is there yet, and the beginning will be written once more.
            data = bytes(PART_BYTES // 2) + data[PART_BYTES // 2 : FILE_BYTES // 2 + PART_BYTES // 2]
        return SnapshotPart(True, data[read.offset : read.offset + min(read.length, PART_BYTES)])


def block_sums(data: bytes) -> tuple[int, ...]:
    """Return the sums of a file's blocks."""
    return tuple(crc32(data[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES))


def file_bytes(snapshot_id: str) -> bytes:
    """Return the bytes that stand for a snapshot."""
    return random.Random(snapshot_id).randbytes(FILE_BYTES)


def offer_of(partition: Partition, snapshot_id: str, files: dict[str, object]) -> SnapshotOffer:
    """Take a snapshot of what is committed; keep what its bytes stand for."""
    at: Position = partition.committed
    store = partition.store
    assert isinstance(store, SimulatedStore)
    data = file_bytes(snapshot_id)
    digest = sha256(data).hexdigest()
    files[digest] = store.taken(at.lsn)
    epoch = (at.epoch.counter, at.epoch.manager)
    return SnapshotOffer("ready", snapshot_id, len(data), digest, at.lsn, epoch, at.hash, "", PART_BYTES, block_sums(data))


def made_own(old: SimulatedStore, taken: SimulatedStore, offer: SnapshotOffer, fresh_uuid: str) -> SimulatedStore:
    """Return the store that a snapshot becomes here, as `datastore.installing` makes it: R13.

    Raises:
        InvalidRequest: It is behind what is here.
    """
    before = old.summary()
    if not fresh_uuid and offer.lsn < before.applied_lsn:
        raise InvalidRequest(f"the snapshot of lsn {offer.lsn} is behind lsn {before.applied_lsn} here", field="lsn")
    new = taken.copied(old.disk)
    new.apply_up_to(offer.lsn)
    own = [epoch for first_lsn, epoch in before.epochs if first_lsn <= offer.lsn]
    keeps = bool(own) and recovery.keeps_suffix(own[-1], before.tail.lsn, offer.lsn, Epoch(*offer.epoch))
    if not fresh_uuid and keeps:
        new.take_suffix(old, offer.lsn)
    new.adopt(fresh_uuid or before.store_uuid, before.promised, before.led)
    return new


class _Peer:
    """What `NodeStub` is to the recoverer: another node."""

    def __init__(self, node: DataNode, name: str) -> None:
        self._node = node
        self.name = name

    def _call(self, method: str, payload: Any, timeout_ms: int) -> Any:
        answer = self._node.ask(Ask(self.name, method, payload, timeout_ms))
        if answer is None:
            raise NodeUnreachable(f"no answer from {self.name}", node=self.name)
        if isinstance(answer, HoldfastError):
            raise answer
        return answer

    def status(self, timeout_ms: int) -> Any:
        return self._call("status", None, timeout_ms)

    def snapshot_ask(self, ask: SnapshotAsk, timeout_ms: int) -> SnapshotOffer:
        offer: SnapshotOffer = self._call("snapshot_ask", ask, timeout_ms)
        return offer

    def snapshot_read(self, read: SnapshotRead, timeout_ms: int) -> SnapshotPart:
        part: SnapshotPart = self._call("snapshot_read", read, timeout_ms)
        return part

    def snapshot_done(self, snapshot_id: str, timeout_ms: int) -> None:
        """The source keeps it until it ends."""


class _Checks:
    """What `Children` is to a pull: looks at a file that came whole."""

    def __init__(self, node: DataNode) -> None:
        self._node = node

    def run(self, action: str, arguments: list[str], size_bytes: int) -> dict[str, Any]:
        operator, digest = arguments[0], arguments[2]
        data = self._node.incoming[operator].data
        if len(data) != size_bytes or sha256(data).hexdigest() != digest:
            return {"reason": "its bytes are not what was offered"}
        taken = self._node.world.files[digest]
        assert isinstance(taken, SimulatedStore)
        taken.verify()
        return {"reason": ""}

    def close(self) -> None:
        pass


class _Host:
    """What `Node` is to the recoverer."""

    def __init__(self, node: DataNode) -> None:
        self._node = node
        self.name = node.name

    def find(self, operator: str) -> Partition | None:
        return self._node.partitions.get(operator)

    def make(self, operator: str) -> Partition:
        return self._node.make(operator)

    def partitions(self) -> list[Partition]:
        return list(self._node.partitions.values())

    def was_replaced(self, operator: str) -> None:
        self._node.replaced.discard(operator)


class SimulatedRecoverer(Recoverer):
    """The production recoverer, whose files are the simulator's."""

    def __init__(self, node: DataNode, peers: list[str]) -> None:
        self._node = node
        self._host = _Host(node)  # type: ignore[assignment]
        self._folder = node.incoming  # type: ignore[assignment]
        self._stubs: Mapping[str, Any] = {name: _Peer(node, name) for name in peers}
        self._identities = None  # type: ignore[assignment]  # Only what is overridden below asks for it.
        self._children = _Checks(node)  # type: ignore[assignment]
        self._by_itself = True
        self._bytes_per_s = 1 << 40
        self._mutex = Guard()  # type: ignore[assignment]
        self._jobs = deque()
        self._leaving = set()
        self._reports = {}
        self._unheard = set(self._stubs)
        self._wake = Event()  # type: ignore[assignment]
        self._stop = Event()  # type: ignore[assignment]
        self._thread = Thread(target=self._run, name="recoverer")  # type: ignore[assignment]

    def start(self) -> None:
        for operator in sorted(self._node.incoming):
            self._take_up(operator)
        self._thread.start()

    def _take_into_use(self, job: Job, partition: Partition, incoming: Any, offer: SnapshotOffer) -> None:
        node = self._node

        def swap(old: Any) -> Any:
            taken = node.world.files.get(sha256(node.incoming[job.operator].data).hexdigest())
            if not isinstance(taken, SimulatedStore):
                raise Violation("a snapshot is whole", f"{node.name} takes a file of {job.operator} into use whose bytes nobody offered")
            new = made_own(old, taken, offer, job.fresh_uuid)
            before = old.summary()
            applied_lsn = before.applied_lsn
            node.write_identity(job.operator, Remembered(before.store_uuid, new.store_uuid, before.promised, before.led, applied_lsn))
            node.disk.write(lambda: node.stores.__setitem__(job.operator, new))
            return new

        self._install(partition, swap)
        self._host.was_replaced(job.operator)
        incoming.discard()
        node.installs += 1
        node.tell("recovers {} from {} by a snapshot of entry {}: {}", job.operator, job.report.source, offer.lsn, job.cause)
