"""One operator's ledger and state in one file that proves itself offline: its form, its writer, its verification. Pure.

    magic (8) | version (2) | then parts: kind (1) | length (4) | zlib of MessagePack

Parts: one `ExportHead`, the sealed entries in pages (`list[bytes]`), the rows that follow from them in pages
(`list[(kind, key, value)]`), one `ExportEnd` with the state digest and the SHA-256 of everything before it. The state follows
from the ledger; it is there for whoever wants to read it without replaying, and a reader checks that it does follow.
Entries hold digests of personal data and never the data, so no export carries a name (Z12).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from datastore.audit import Audit
from datastore.audit import Report as Report
from datastore.digest import as_bytes, digest_of
from datastore.errors import TooNew
from datastore.ledger import LedgerDamaged, SealedEntry, genesis, unseal
from datastore.wire import UNREADABLE

EXPORT_MAGIC = b"HFEXPRT\n"
EXPORT_VERSION = 101  # major * 100 + minor; 101: the row of holds in bulk speaks for their seats
PART_AT = 10
HEAD, ENTRIES, ROWS, END = b"H", b"L", b"R", b"E"
ROWS_PAGE = 5000
PART_BYTES_MAX = 64 * 1024 * 1024

Write = Callable[[bytes], object]
Read = Callable[[int], bytes]
Rows = dict[tuple[int, str], bytes]


class ExportHead(msgspec.Struct, array_like=True):
    operator: str
    exported_ms: int  # UTC, for people


class ExportEnd(msgspec.Struct, array_like=True):
    last_lsn: int
    last_hash: bytes
    rows: int
    state_digest: bytes
    sha256: bytes


class Proof(NamedTuple):
    """What an export proves. `rows`: how many the state has."""

    operator: str
    exported_ms: int
    rows: int
    state_digest: bytes
    report: Report


class Exporter:
    """Writes an export: `take` each page of the ledger, then `finish`."""

    def __init__(self, operator: str, exported_ms: int, write: Write) -> None:
        self._write = write
        self._sha = hashlib.sha256()
        self._rows: Rows = {}
        self._audit = Audit(operator, genesis(operator))
        self._put(EXPORT_MAGIC + EXPORT_VERSION.to_bytes(2, "big"))
        self._part(HEAD, ExportHead(operator, exported_ms))

    def take(self, page: list[bytes]) -> None:
        """Take in the next sealed entries.

        Raises:
            LedgerDamaged, InvariantBroken: They are not whole, or do not follow the ones before.
        """
        entries = [unseal(data) for data in page]
        self._audit.take(entries)
        _fold(self._rows, entries)
        self._part(ENTRIES, page)

    def finish(self) -> Report:
        """Write the state and the end; return what the ledger proves."""
        rows = [(kind, key, value) for (kind, key), value in sorted(self._rows.items())]
        for start in range(0, len(rows), ROWS_PAGE):
            self._part(ROWS, rows[start : start + ROWS_PAGE])
        report = self._audit.report()
        digest = as_bytes(digest_of(rows))
        self._part(END, ExportEnd(report.end.lsn, report.end.hash, len(rows), digest, self._sha.digest()))
        return report

    def _part(self, kind: bytes, value: Any) -> None:
        data = zlib.compress(msgspec.msgpack.encode(value), 6)
        self._put(kind + len(data).to_bytes(4, "big") + data)

    def _put(self, data: bytes) -> None:
        self._sha.update(data)
        self._write(data)


def verify_export(read: Read) -> Proof:
    """Return what an export proves: its chain is whole, no seat had two owners, its state follows from its ledger.

    Args:
        read: Returns the next so many bytes, fewer at the end.
    Raises:
        LedgerDamaged, InvariantBroken: It is no export, or not whole; the detail says where.
        TooNew: A newer program wrote it.
    """
    sha = hashlib.sha256()
    opening = read(PART_AT)
    if opening[:8] != EXPORT_MAGIC or len(opening) < PART_AT:
        raise LedgerDamaged("this is no export of a ledger")
    version = int.from_bytes(opening[8:PART_AT], "big")
    if version // 100 != EXPORT_VERSION // 100 or version > EXPORT_VERSION:
        raise TooNew.of("the export", version, EXPORT_VERSION)
    sha.update(opening)
    head: ExportHead | None = None
    audit: Audit | None = None
    derived: Rows = {}
    stated: Rows = {}
    for kind, value, before in _parts(read, sha):
        if kind == HEAD and head is None:
            head = value
            audit = Audit(head.operator, genesis(head.operator))
        elif head is None or audit is None:
            raise LedgerDamaged("the export does not say whose it is")
        elif kind == ENTRIES:
            entries = [unseal(data) for data in value]
            audit.take(entries)
            _fold(derived, entries)
        elif kind == ROWS:
            stated.update({(number, key): row for number, key, row in value})
        else:
            if read(1):
                raise LedgerDamaged("there is more behind the export's end: this is not the file that was written")
            return _proof(head, audit.report(), value, before, derived, stated)
    raise LedgerDamaged("the export ends in the middle")


def _proof(head: ExportHead, report: Report, end: ExportEnd, sha256: bytes, derived: Rows, stated: Rows) -> Proof:
    if end.sha256 != sha256:
        raise LedgerDamaged("the export's bytes are not the ones that were written")
    if (end.last_lsn, end.last_hash) != (report.end.lsn, report.end.hash):
        raise LedgerDamaged(f"the export's ledger ends at entry {report.end.lsn}, and should at {end.last_lsn}", lsn=report.end.lsn)
    digest = as_bytes(digest_of((kind, key, value) for (kind, key), value in derived.items()))
    if derived != stated or digest != end.state_digest:
        raise LedgerDamaged("the export's state does not follow from its ledger")
    return Proof(head.operator, head.exported_ms, len(stated), digest, report)


_TYPES: dict[bytes, Any] = {HEAD: ExportHead, ENTRIES: list[bytes], ROWS: list[tuple[int, str, bytes]], END: ExportEnd}


def _parts(read: Read, sha: Any) -> Iterator[tuple[bytes, Any, bytes]]:
    """Yield (kind, value, SHA-256 of all before) of each part up to the end of the file.

    Raises:
        LedgerDamaged: A part cannot be read.
    """
    place = PART_AT
    while head := read(5):
        before = sha.digest()
        kind, length = head[:1], int.from_bytes(head[1:5], "big")
        if kind not in _TYPES or len(head) < 5 or length > PART_BYTES_MAX:
            raise LedgerDamaged(f"at byte {place} is no part of an export")
        data = read(length)
        sha.update(head + data)
        try:
            value = msgspec.msgpack.decode(zlib.decompress(data), type=_TYPES[kind])
        except (zlib.error, *UNREADABLE) as error:
            raise LedgerDamaged(f"the part at byte {place} cannot be read: {error}") from error
        yield kind, value, before
        place += 5 + length


def _fold(rows: Rows, entries: Iterable[SealedEntry]) -> None:
    for sealed in entries:
        for kind, key, value in sealed.entry.events:
            if value:
                rows[kind, key] = value
            else:
                rows.pop((kind, key), None)
