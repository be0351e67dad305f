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

    def save_config(self, config: ConfigRow) -> None:
        """Keep the first configuration, flushed; only while the log is empty and there is none."""
        ...

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        """Delete the log from `truncate_from` on (0: nothing), add entries and their side records; flushed when it returns.

        Raises:
            DiskFailed: Nothing may be acknowledged; end the process.
            InvariantBroken: A gap, or an applied entry would go.
        """
        ...

    def hash_at(self, lsn: int) -> bytes: ...

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        """Return sealed entries from `from_lsn` on; at least one where there is one."""
        ...

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]: ...

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

    def requests(self, request_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return request_id -> (lsn, index) of those that an applied entry answered."""
        ...

    def state_digest(self) -> bytes:
        """Return the hash over all applied rows in order: equal on every store at equal applied lsn."""
        ...

    def close(self) -> None: ...
