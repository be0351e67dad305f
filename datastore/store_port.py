"""The `Store` port: what a partition asks of its disk. Pure.

Two users: `store.SqliteStore`, and `memory.MemoryStore` for the simulator; both pass tests/contract/test_store.py. It leaves
room for an engine that replicates by itself, where the data node keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from datastore.ledger import SealedEntry
from datastore.model import Epoch
from datastore.replication_steps import Summary
from datastore.rows import ConfigRow
from datastore.sealing import SealingLimits, SegmentInfo
from datastore.state import StoreReader


class Store(StoreReader, Protocol):
    """One partition on one disk."""

    operator: str
    store_uuid: str

    def summary(self) -> Summary:
        """Return what the replication machine starts from."""
        ...

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        """Flushed when it returns (R1, R4)."""
        ...

    def adopt(self, store_uuid: str, promised: Epoch, led: Epoch) -> None:
        """Make a snapshot that was taken elsewhere this node's own: its identity and its promises (R13), flushed."""
        ...

    def save_config(self, config: ConfigRow) -> None:
        """Keep the first configuration, flushed; only while the log is empty and there is none."""
        ...

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        """Delete the log from `truncate_from` on (0: nothing), add entries and their side records; flushed when it returns.

        Side records of deleted entries go with them.

        Raises:
            DiskFailed: Nothing may be acknowledged; end the process.
            InvariantBroken: A gap, or an applied entry would go.
        """
        ...

    def hash_at(self, lsn: int) -> bytes: ...

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        """Return sealed entries from `from_lsn` on, wherever they are; fewer than asked for, at least one where there is one.

        Raises:
            SnapshotNeeded: The segment that has them is not here (yet).
        """
        ...

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]: ...

    # Sealing (Z13): what to seal, the file, the step that makes it the place of its entries, the log's rows of them. A crash
    # between any two leaves a store that starts and has every entry once more or in both places, never in none.

    @property
    def sealed_lsn(self) -> int:
        """The last entry that is in a sealed segment."""
        ...

    def segments(self) -> list[SegmentInfo]: ...

    def missing_segments(self) -> list[SegmentInfo]:
        """Return the segments whose files are not here: the ledger is complete here when there are none."""
        ...

    def seal_range(self, limits: SealingLimits) -> tuple[int, int] | None:
        """Return (first, last) of the next segment, None while none is full; only entries whose rows are in the tables."""
        ...

    def pack_range(self, first: int, last: int) -> SegmentInfo:
        """Write the segment's file, flushed when it returns; on any thread, as it reads only what never changes."""
        ...

    def sealed(self, segment: SegmentInfo) -> None:
        """From now on the segment is the place of its entries; flushed when it returns."""
        ...

    def trim(self, entries_max: int = ...) -> bool:
        """Drop some of the log's entries that a segment has; return whether there are more."""
        ...

    @property
    def applied_lsn(self) -> int: ...

    def stage(self, sealed: SealedEntry) -> None:
        """Apply a committed entry: visible to reads at once, in the file with a later append or flush."""
        ...

    @property
    def flushed_lsn(self) -> int:
        """Up to where a restart would find the rows applied."""
        ...

    def flush_staged(self, rows_max: int = 0) -> None:
        """Write what is staged, or about `rows_max` rows of it, without waiting for the disk: it can be had again from the log."""
        ...

    def read_ahead(self, kind: int, keys: Sequence[str]) -> None:
        """Read in one go what `get` will ask for before the next `stage`; a matter of speed alone."""
        ...

    def requests(self, request_ids: Sequence[str], now_ms: int = 0) -> dict[str, tuple[int, int]]:
        """Return request_id -> (lsn, index) of those that an applied entry answered.

        Args:
            now_ms: The log clock: answers whose time is over by then are not found (Z2), whether or not their rows are gone.
        """
        ...

    @property
    def flushed_digest(self) -> tuple[int, bytes]:
        """(lsn, set hash of all rows) as they are in the file; any thread may ask."""
        ...

    def state_digest(self) -> bytes:
        """Return the set hash of all applied rows (`digest.py`), kept as they changed: equal on every store at equal lsn."""
        ...

    def note_digest_at(self, lsn: int) -> None:
        """Keep the digest of the moment when exactly `lsn` entries are applied: busy replicas are never asked at one lsn."""
        ...

    def digests(self) -> list[tuple[int, bytes]]:
        """Return (lsn, digest) at the lsns of `note_digest_at` that were passed, and now: what replicas are compared by (I4)."""
        ...

    def scan_digest(self) -> bytes:
        """Return the digest counted from the rows themselves: another one than `state_digest` means a damaged table."""
        ...

    def scrub(self) -> bool:
        """Go on with what an applied erasure left to do on the disk (Z12); return whether nothing is left."""
        ...

    def close(self) -> None: ...
