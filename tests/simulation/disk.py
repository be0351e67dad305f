"""A machine's disk, and stores on it: the power may go before or after any write, writes may fail, everything may be lost.

`SimulatedStore` is the production fake (`datastore.memory`) with the same contract; it only lets the disk have its say at
each write. An append is one transaction, as it is in SQLite: after a crash it is there whole or not at all. What is only
staged may or may not be found again, since a store applies from its log what is missing. A segment is sealed in three writes: its
file, its row, and the end of its entries in the log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from datastore.errors import DiskFailed, SnapshotNeeded
from datastore.ledger import SealedEntry, check_follows, genesis, position_of, unseal
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.rows import ConfigRow
from datastore.sealing import SegmentInfo


class Crashed(BaseException):
    """The process ended in the middle of what it did. Not an Exception: nobody may go on after it."""


class Disk:
    """One machine's disk."""

    def __init__(self, seed: str, machine: str) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        self.writes = 0
        self.fails = False  # Every write fails: an error of the device, or no space left.
        self._trap_in = 0
        self._trap_after = False

    def arm(self, writes: int, *, after: bool) -> None:
        """End the process at its `writes`-th write from now on, before it reaches the disk or just after."""
        self._trap_in, self._trap_after = writes, after

    def disarm(self) -> None:
        self._trap_in = 0

    def write(self, act: Callable[[], None]) -> None:
        """Carry a write out, flushed, or not.

        Raises:
            Crashed: The trap went off.
            DiskFailed: The disk is full or broken.
        """
        if self.fails:
            raise DiskFailed("no space left on the simulated device")
        self.writes += 1
        if self._trap_in:
            self._trap_in -= 1
            if not self._trap_in:
                if self._trap_after:
                    act()
                raise Crashed
        act()


class SimulatedStore(MemoryStore):
    """One partition on a simulated disk."""

    disk: Disk

    def __init__(self, operator: str, store_uuid: str, disk: Disk) -> None:
        super().__init__(operator, store_uuid)
        self.disk = disk
        # Of entries that are in segments alone a store keeps where epochs and configurations begin; the checkers look here too.
        self.index: list[SealedEntry] = []

    def reopened(self) -> SimulatedStore:
        """Return the store as a new process finds it, its chain verified as `datastore.store` verifies it (R11).

        Raises:
            LedgerDamaged: It must not be used; an empty store of a new identity takes its place.
        """
        found = self.copied(self.disk)
        found.verify()
        return found

    def copied(self, disk: Disk) -> SimulatedStore:
        """Return what is durable of it, on a disk."""
        found = type(self).__new__(type(self))
        found.__dict__.update(self.crashed().__dict__)
        found.disk, found.index = disk, list(self.index)
        return found

    def taken(self, lsn: int) -> SimulatedStore:
        """Return a snapshot: the log up to a committed entry, and the list of segments without their files."""
        found = self.copied(Disk("", "none"))
        MemoryStore.append(found, [], truncate_from=lsn + 1)
        found._files = {}
        return found

    def apply_up_to(self, lsn: int) -> None:
        """Apply and write what the log has up to `lsn`, of which the caller knows that it is committed."""
        for number in range(self.applied_lsn + 1, lsn + 1):
            self.stage(self._log[number - self._first_lsn])
        MemoryStore.flush_staged(self)

    def take_suffix(self, other: SimulatedStore, lsn: int) -> None:
        """Append what another store has beyond an entry."""
        entries = [sealed for sealed in other._log if sealed.entry.lsn > lsn]
        MemoryStore.append(self, entries, 0, other._sides)

    def hash_of(self, lsn: int) -> bytes:
        """Return the hash of any entry, for checkers."""
        return self.entry_of(lsn).hash

    def entry_of(self, lsn: int) -> SealedEntry:
        return self.index[lsn - 1] if lsn < self._first_lsn else self._log[lsn - self._first_lsn]

    def _sealed_entries(self) -> list[SealedEntry]:
        return self.index

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        if from_lsn < self._first_lsn:
            segment = next(segment for segment in self._segments if segment.last_lsn >= from_lsn)
            if segment.name not in self._files:
                raise SnapshotNeeded("a segment is not here", operator=self.operator, lsn=from_lsn)
        return super().entries(from_lsn, limit, size_bytes_max)

    def pack_range(self, first: int, last: int) -> SegmentInfo:
        # A file gets its name when all of it is flushed: after a crash it is there whole or not at all. (What is torn is a draft,
        # which nobody reads: `tests/contract/test_sealing.py` has that on real files.)
        made: list[SegmentInfo] = []
        self.disk.write(lambda: made.append(MemoryStore.pack_range(self, first, last)))
        return made[0]

    def sealed(self, segment: SegmentInfo) -> None:
        self.disk.write(lambda: MemoryStore.sealed(self, segment))

    def trim(self, entries_max: int = 256) -> bool:
        more: list[bool] = []
        if self._first_lsn <= self.sealed_lsn:
            self.disk.write(lambda: more.append(self._trimmed(entries_max)))
        return bool(more and more[0])

    def _trimmed(self, entries_max: int) -> bool:
        before, first_lsn = list(self._log), self._first_lsn
        more = super().trim(entries_max)
        self.index += before[: self._first_lsn - first_lsn]
        return more

    def verify(self) -> None:
        """Read every entry of the log from the disk."""
        place = position_of(self.index[-1]) if self.index else genesis(self.operator)
        for sealed in self._log:
            place = check_follows(place, unseal(sealed.data))

    def rot(self, number: int) -> None:
        """Let the disk lie about one sector: a bit of one entry is another when it is read again."""
        if self._log:
            index = number % len(self._log)
            data = bytearray(self._log[index].data)
            data[number * 7919 % len(data)] ^= 1 << number % 8
            self._log[index] = self._log[index]._replace(data=bytes(data))

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        self.disk.write(lambda: MemoryStore.save_epochs(self, promised, led))

    def save_config(self, config: ConfigRow) -> None:
        self.disk.write(lambda: MemoryStore.save_config(self, config))

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        self.disk.write(lambda: MemoryStore.append(self, entries, truncate_from, sides))

    def flush_staged(self, rows_max: int = 0) -> None:
        # Written without waiting for the disk. One that will be lost and one that was not done cannot be told apart, as
        # staged rows are visible in any case: so it is decided here.
        if self.disk.random.random() < 0.5:
            super().flush_staged(rows_max)

    def state_digest(self) -> bytes:
        """Return the digest; what is staged counts."""
        MemoryStore.flush_staged(self)
        return super().state_digest()
