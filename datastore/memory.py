"""A store in memory with the contract of `store.Store`: for the simulator and for tests. Pure.

It keeps apart what is durable and what is staged, so that `crashed()` can give the store that a power failure leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from datastore.errors import InvariantBroken
from datastore.ledger import CONFIG, Position, SealedEntry, entries_within, genesis, position_of
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication_steps import Summary
from datastore.rows import ConfigRow, Kind, decode_row
from datastore.staging import Flush, Staged, merged


class MemoryStore:
    """One partition's log and rows in dictionaries."""

    def __init__(self, operator: str, store_uuid: str) -> None:
        self.operator = operator
        self.store_uuid = store_uuid
        self._promised = EPOCH_NONE
        self._led = EPOCH_NONE
        self._config: ConfigRow | None = None
        self._log: list[SealedEntry] = []
        self._sides: dict[bytes, bytes] = {}
        self._rows: dict[int, dict[str, bytes]] = {}
        self._requests: dict[str, tuple[int, int]] = {}
        self._flushed_lsn = 0
        self._staged = Staged(0)

    def crashed(self) -> MemoryStore:
        """Return the store as its file would be found after a crash: without what was only staged."""
        left = MemoryStore(self.operator, self.store_uuid)
        left._promised, left._led, left._config = self._promised, self._led, self._config
        left._log = list(self._log)
        left._sides = dict(self._sides)
        left._rows = {kind: dict(rows) for kind, rows in self._rows.items()}
        left._requests = dict(self._requests)
        left._flushed_lsn = self._flushed_lsn
        left._staged = Staged(self._flushed_lsn)
        return left

    # --- what must survive ----------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        epochs: list[tuple[int, Epoch]] = []
        configs = [(0, self._config)] if self._config is not None else []
        for sealed in self._log:
            entry = sealed.entry
            if not epochs or epochs[-1][1] != entry.epoch:
                epochs.append((entry.lsn, Epoch(*entry.epoch)))
            if entry.kind == CONFIG:
                configs += [(entry.lsn, decode_row(Kind.CONFIG, value)) for kind, _, value in entry.events if kind == Kind.CONFIG]
        return Summary(self.store_uuid, self._promised, self._led, self._tail(), self.applied_lsn, epochs, configs)

    def _tail(self) -> Position:
        return position_of(self._log[-1]) if self._log else genesis(self.operator)

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        self._promised, self._led = promised, led

    def save_config(self, config: ConfigRow) -> None:
        if self._log or self._config is not None:
            raise InvariantBroken("a configuration is given once, to an empty log")
        self._config = config

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        if truncate_from:
            if truncate_from <= self.applied_lsn:
                raise InvariantBroken("an applied entry would be truncated", lsn=truncate_from)
            del self._log[truncate_from - 1 :]
        for sealed in entries:
            if sealed.entry.lsn != len(self._log) + 1:
                raise InvariantBroken("an entry would leave a gap in the log", lsn=sealed.entry.lsn)
            self._log.append(sealed)
        self._sides.update(sides or {})

    # --- the log --------------------------------------------------------------------------------------------------

    def hash_at(self, lsn: int) -> bytes:
        return self._log[lsn - 1].hash if lsn else genesis(self.operator).hash

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        found = entries_within(self._log[from_lsn - 1 : from_lsn - 1 + limit], size_bytes_max)
        return [sealed.data for sealed in found]

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return {digest: self._sides[digest] for digest in digests if digest in self._sides}

    # --- applied rows ---------------------------------------------------------------------------------------------

    @property
    def applied_lsn(self) -> int:
        return self._staged.lsn

    def stage(self, sealed: SealedEntry) -> None:
        if sealed.entry.lsn != self.applied_lsn + 1:
            raise InvariantBroken("entries are applied in order", lsn=sealed.entry.lsn, applied_lsn=self.applied_lsn)
        self._staged.add(sealed)

    @property
    def flushed_lsn(self) -> int:
        return self._flushed_lsn

    def flush_staged(self, rows_max: int = 0) -> None:
        """Write all that is staged: here a part costs no less than the whole."""
        flush = Flush(self._staged)
        while not flush.done:
            puts, deletes, requests = flush.take(rows_max or 1000)
            for kind, key, value in puts:
                self._rows.setdefault(kind, {})[key] = value
            for kind, key in deletes:
                self._rows.get(kind, {}).pop(key, None)
            self._requests.update({request_id: (lsn, index) for request_id, lsn, index in requests})
        self._flushed_lsn = self._staged.lsn
        self._staged = Staged(self._flushed_lsn)

    def read_ahead(self, kind: int, keys: Sequence[str]) -> None:
        """Nothing is faster than memory."""

    def get(self, kind: int, key: str) -> bytes | None:
        staged = self._staged.rows(kind).get(key)
        return (staged or None) if staged is not None else self._rows.get(kind, {}).get(key)

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        return {key: value for key in keys if (value := self.get(kind, key)) is not None}

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        rows = self._rows.get(kind, {}).items()
        base = sorted((key, value) for key, value in rows if key.startswith(prefix) and (not after or key > after))
        found = merged(base, self._staged.rows_under(kind, prefix), after, None)
        return found[:limit] if limit else found

    def requests(self, request_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        staged = self._staged.requests()
        known = ((request_id, staged.get(request_id) or self._requests.get(request_id)) for request_id in request_ids)
        return {request_id: place for request_id, place in known if place is not None}

    def state_digest(self) -> bytes:
        self.flush_staged()
        digest = hashlib.blake2b(digest_size=32)
        for kind in sorted(self._rows):
            for key, value in sorted(self._rows[kind].items()):
                digest.update(msgspec.msgpack.encode((kind, key, value)))
        return digest.digest()

    def close(self) -> None:
        self.flush_staged()
