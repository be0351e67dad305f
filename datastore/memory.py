"""A store in memory with the contract of `store.Store`: for the simulator and for tests. Pure.

It keeps apart what is durable and what is staged, so that `crashed()` can give the store that a power failure leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datastore.digest import DIGESTS_KEPT, EMPTY, as_bytes, digest_of, replaced
from datastore.errors import InvariantBroken
from datastore.ledger import CONFIG, ERASE, Position, SealedEntry, entries_within, erased_sides, genesis, position_of, unseal
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication_steps import Summary
from datastore.rows import ConfigRow, Kind, decode_row
from datastore.sealing import SealingLimits, SegmentInfo, opened, pack, segment_end
from datastore.staging import Flush, Staged, merged

NEVER_MS = 1 << 62


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
        self._requests: dict[str, tuple[int, int, int]] = {}
        self._first_end_ms = NEVER_MS  # Of the answers kept: none is to be dropped before.
        self._digest = EMPTY
        self._digests: list[tuple[int, bytes]] = []
        self._digests_wanted: set[int] = set()
        self._segments: list[SegmentInfo] = []
        self._files: dict[str, bytes] = {}
        self._first_lsn = 1  # of the log: what is before it is in segments alone
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
        left._first_end_ms = self._first_end_ms
        left._digest, left._digests = self._digest, list(self._digests)
        left._segments, left._files, left._first_lsn = list(self._segments), dict(self._files), self._first_lsn
        left._flushed_lsn = self._flushed_lsn
        left._staged = Staged(self._flushed_lsn)
        return left

    # --- what must survive ----------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        epochs: list[tuple[int, Epoch]] = []
        configs = [(0, self._config)] if self._config is not None else []
        for sealed in [*self._sealed_entries(), *self._log]:
            entry = sealed.entry
            if not epochs or epochs[-1][1] != entry.epoch:
                epochs.append((entry.lsn, Epoch(*entry.epoch)))
            if entry.kind == CONFIG:
                configs += [(entry.lsn, decode_row(Kind.CONFIG, value)) for kind, _, value in entry.events if kind == Kind.CONFIG]
        return Summary(self.store_uuid, self._promised, self._led, self._tail(), self.applied_lsn, epochs, configs)

    def _tail(self) -> Position:
        if self._log:
            return position_of(self._log[-1])
        return self._segments[-1].end if self._segments else genesis(self.operator)

    def _sealed_entries(self) -> list[SealedEntry]:
        """Return the entries that are in segments alone."""
        found = [unseal(data) for segment in self._segments for data in opened(self._files[segment.name], segment, self.operator)]
        return [sealed for sealed in found if sealed.entry.lsn < self._first_lsn]

    def save_epochs(self, promised: Epoch, led: Epoch) -> None:
        self._promised, self._led = promised, led

    def adopt(self, store_uuid: str, promised: Epoch, led: Epoch) -> None:
        self.store_uuid = store_uuid
        self.save_epochs(max(promised, self._tail().epoch), led)

    def snapshot(self, lsn: int) -> MemoryStore:
        """Return what `snapshot_files.take` and `check` give of a file: what is durable, the log cut at a committed `lsn`."""
        taken = self.crashed()
        taken.append([], truncate_from=lsn + 1)
        return taken

    def save_config(self, config: ConfigRow) -> None:
        if self._log or self._config is not None:
            raise InvariantBroken("a configuration is given once, to an empty log")
        self._config = config

    def append(self, entries: Sequence[SealedEntry], truncate_from: int = 0, sides: Mapping[bytes, bytes] | None = None) -> None:
        if truncate_from:
            if truncate_from <= self.applied_lsn:
                raise InvariantBroken("an applied entry would be truncated", lsn=truncate_from)
            gone = self._log[truncate_from - self._first_lsn :]
            del self._log[truncate_from - self._first_lsn :]
            for sealed in gone:
                for digest in sealed.entry.sides:
                    self._sides.pop(digest, None)
        for sealed in entries:
            if sealed.entry.lsn != self._first_lsn + len(self._log):
                raise InvariantBroken("an entry would leave a gap in the log", lsn=sealed.entry.lsn)
            self._log.append(sealed)
        self._sides.update(sides or {})

    # --- the log --------------------------------------------------------------------------------------------------

    def hash_at(self, lsn: int) -> bytes:
        return unseal(self.entries(lsn, 1, 0)[0]).hash if lsn else genesis(self.operator).hash

    def entries(self, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        if from_lsn < self._first_lsn:
            segment = next(segment for segment in self._segments if segment.last_lsn >= from_lsn)
            entries = opened(self._files[segment.name], segment, self.operator)[from_lsn - segment.first_lsn :]
            return [sealed.data for sealed in entries_within([unseal(data) for data in entries[:limit]], size_bytes_max)]
        start = from_lsn - self._first_lsn
        return [sealed.data for sealed in entries_within(self._log[start : start + limit], size_bytes_max)]

    # --- sealing --------------------------------------------------------------------------------------------------

    @property
    def sealed_lsn(self) -> int:
        return self._segments[-1].last_lsn if self._segments else 0

    def segments(self) -> list[SegmentInfo]:
        return list(self._segments)

    def missing_segments(self) -> list[SegmentInfo]:
        return [segment for segment in self._segments if segment.name not in self._files]

    def seal_range(self, limits: SealingLimits) -> tuple[int, int] | None:
        last_lsn = min(self._flushed_lsn, self._tail().lsn - limits.tail_entries)
        if self.sealed_lsn >= last_lsn:
            return None
        start = self.sealed_lsn + 1 - self._first_lsn
        waiting = [(sealed.entry.lsn, len(sealed.data)) for sealed in self._log[start : start + limits.entries]]
        last = segment_end(waiting, limits)
        return (waiting[0][0], last) if last and last <= last_lsn else None

    def pack_range(self, first: int, last: int) -> SegmentInfo:
        before = self._segments[-1].end if self._segments else genesis(self.operator)
        entries = [sealed.data for sealed in self._log if first <= sealed.entry.lsn <= last]
        segment, data = pack(self.operator, entries, before)
        self._files[segment.name] = data
        return segment

    def sealed(self, segment: SegmentInfo) -> None:
        if segment.first_lsn != self.sealed_lsn + 1:
            raise InvariantBroken("a segment would leave a gap", lsn=segment.first_lsn, sealed_lsn=self.sealed_lsn)
        self._segments.append(segment)

    def trim(self, entries_max: int = 256) -> bool:
        count = max(0, min(entries_max, self.sealed_lsn + 1 - self._first_lsn))
        del self._log[:count]
        self._first_lsn += count
        return self._first_lsn <= self.sealed_lsn

    def sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return {digest: self._sides[digest] for digest in digests if digest in self._sides}

    # --- applied rows ---------------------------------------------------------------------------------------------

    @property
    def applied_lsn(self) -> int:
        return self._staged.lsn

    def stage(self, sealed: SealedEntry) -> None:
        if sealed.entry.lsn != self.applied_lsn + 1:
            raise InvariantBroken("entries are applied in order", lsn=sealed.entry.lsn, applied_lsn=self.applied_lsn)
        if sealed.entry.kind == ERASE:
            for digest in erased_sides(sealed.entry):
                self._sides.pop(digest, None)
        self._staged.add(sealed)
        if sealed.entry.lsn in self._digests_wanted:
            self._digests_wanted.discard(sealed.entry.lsn)
            self._digests.append((sealed.entry.lsn, self.state_digest()))

    def scrub(self) -> bool:
        return True

    @property
    def flushed_lsn(self) -> int:
        return self._flushed_lsn

    def flush_staged(self, rows_max: int = 0) -> None:
        """Write all that is staged: here a part costs no less than the whole."""
        flush = Flush(self._staged)
        while not flush.done:
            puts, deletes, requests = flush.take(rows_max or 1000)
            for kind, key, value in [*puts, *((kind, key, b"") for kind, key in deletes)]:
                rows = self._rows.setdefault(kind, {})
                self._digest = replaced(self._digest, kind, key, rows.pop(key, b""), value)
                if value:
                    rows[key] = value
            self._requests.update({request_id: (lsn, index, ends_ms) for request_id, lsn, index, ends_ms in requests})
            self._first_end_ms = min([self._first_end_ms, *[ends_ms for _, _, _, ends_ms in requests if ends_ms]])
        now_ms = self._staged.stamp_ms
        if self._first_end_ms <= now_ms:
            self._requests = {request_id: place for request_id, place in self._requests.items() if not place[2] or place[2] > now_ms}
            self._first_end_ms = min([NEVER_MS, *[place[2] for place in self._requests.values() if place[2]]])
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

    def requests(self, request_ids: Sequence[str], now_ms: int = 0) -> dict[str, tuple[int, int]]:
        staged = self._staged.requests()
        known = ((request_id, staged.get(request_id) or self._requests.get(request_id)) for request_id in request_ids)
        return {request_id: place[:2] for request_id, place in known if place is not None and (not place[2] or place[2] > now_ms)}

    @property
    def flushed_digest(self) -> tuple[int, bytes]:
        return self._flushed_lsn, as_bytes(self._digest)

    def state_digest(self) -> bytes:
        self.flush_staged()
        return as_bytes(self._digest)

    def note_digest_at(self, lsn: int) -> None:
        self._digests_wanted.add(lsn)

    def digests(self) -> list[tuple[int, bytes]]:
        return [*self._digests[-DIGESTS_KEPT:], (self.applied_lsn, self.state_digest())]

    def scan_digest(self) -> bytes:
        self.flush_staged()
        return as_bytes(digest_of((kind, key, value) for kind, rows in self._rows.items() for key, value in rows.items()))

    def close(self) -> None:
        self.flush_staged()
