"""Sealed segments: old entries of a ledger in compressed files. What to seal, the files' form, their verification. Pure.

The ledger is never deleted (Z13), but it need not stay in the file that every sale writes to. Committed entries whose rows
are in the tables move, oldest first, into files that never change again:

    magic (8) | version (2) | length of the header (4) | header | blocks

The header is MessagePack of `SegmentHeader`: which entries, the chain's hash before and after them, where each block is, and
the SHA-256 of that and of all blocks. A block is zlib of MessagePack `list[bytes]`, the sealed entries as they were shipped; one block
is what must be opened to read any entry of it.

Where a segment ends follows from the ledger and the limits alone, so replicas with equal limits write equal files. Side
records (personal data) are never in a segment: an entry holds their digests only (Z12).

Order of writes (`segments.py` carries it out; a crash between any two leaves a store that starts):

1. the file under a temporary name, flushed; 2. its final name, the folder flushed; 3. one transaction: the segment's row,
which makes it the place of these entries; 4. the entries' rows in the log go, a few at a time. Before 3 the entries are
read from the log, from then on from the segment; a file without its row is written again to the same bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from datastore.errors import TooNew
from datastore.ledger import LedgerDamaged, Position, genesis, verify_chain
from datastore.model import Epoch
from datastore.wire import UNREADABLE

SEGMENT_SUFFIX = ".segment"
MAGIC = b"HFSEGMT\n"
# Major * 100 + minor: a reader takes every minor up to its own, and no other major.
SEGMENT_VERSION = 100
VERSION_AT, LENGTH_AT, HEADER_AT = 8, 10, 14
BLOCK_BYTES = 256 * 1024
COMPRESSION = 6  # 16 MiB in half a second; higher levels cost twice as much for 3 % less.


@dataclass(frozen=True)
class SealingLimits:
    """When entries are sealed.

    Attributes:
        entries: Of one segment at most.
        size_bytes: A segment ends with the entry that brings it to this many bytes, before compression.
        tail_entries: How many of the newest entries stay in the log: what followers ask for.
    """

    entries: int = 4096
    size_bytes: int = 16 * 1024 * 1024
    tail_entries: int = 1024


class SegmentInfo(NamedTuple):
    """What a store keeps of a segment: enough to go on with the chain after it without opening it."""

    first_lsn: int
    last_lsn: int
    hash_before: bytes
    end: Position
    size_bytes: int
    sha256: bytes  # as in the header

    @property
    def name(self) -> str:
        return segment_name(self.first_lsn, self.last_lsn)


class Block(msgspec.Struct, array_like=True, frozen=True):
    """Where one block is: `offset` counts from the end of the header."""

    first_lsn: int
    entries: int
    offset: int
    size_bytes: int


class SegmentHeader(msgspec.Struct, array_like=True, frozen=True):
    """The head of a segment file. `hash_before` and `hash_after` tie it into the chain."""

    operator: str
    first_lsn: int
    last_lsn: int
    hash_before: bytes
    hash_after: bytes
    epoch_after: tuple[int, str]
    stamp_after_ms: int
    sha256: bytes
    blocks: list[Block]


_encoder = msgspec.msgpack.Encoder()
_headers = msgspec.msgpack.Decoder(SegmentHeader)
_blocks = msgspec.msgpack.Decoder(list[bytes])


def segment_name(first_lsn: int, last_lsn: int) -> str:
    """Return the file's name: sorted by name, segments stand in the order of the ledger."""
    return f"{first_lsn:012d}-{last_lsn:012d}{SEGMENT_SUFFIX}"


def segment_end(sizes: Iterable[tuple[int, int]], limits: SealingLimits) -> int:
    """Return the last lsn of the segment that begins with the first of `sizes`, or 0 where it is not full yet.

    Args:
        sizes: (lsn, bytes) of the entries that are in no segment, ascending, as many as there are.
    """
    size_bytes = 0
    for count, (lsn, entry_bytes) in enumerate(sizes, 1):
        size_bytes += entry_bytes
        if count >= limits.entries or size_bytes >= limits.size_bytes:
            return lsn
    return 0


def pack(operator: str, entries: Sequence[bytes], before: Position) -> tuple[SegmentInfo, bytes]:
    """Return a segment of sealed entries and the bytes of its file.

    Args:
        before: The position that the first entry follows.
    Raises:
        LedgerDamaged: The entries are not one whole piece of the chain: nothing damaged is ever sealed.
    """
    end = verify_chain(entries, before)
    blocks: list[Block] = []
    parts: list[bytes] = []
    offset, lsn = 0, before.lsn + 1
    for group in _groups(entries):
        part = zlib.compress(_encoder.encode(group), COMPRESSION)
        blocks.append(Block(lsn, len(group), offset, len(part)))
        parts.append(part)
        offset += len(part)
        lsn += len(group)
    body = b"".join(parts)
    digest = _digest(blocks, body)
    head = SegmentHeader(operator, before.lsn + 1, end.lsn, before.hash, end.hash, end.epoch, end.stamp_ms, digest, blocks)
    header = _encoder.encode(head)
    data = b"".join((MAGIC, SEGMENT_VERSION.to_bytes(2, "big"), len(header).to_bytes(4, "big"), header, body))
    return SegmentInfo(before.lsn + 1, end.lsn, before.hash, end, len(data), digest), data


def _groups(entries: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    start = size_bytes = 0
    for index, entry in enumerate(entries):
        size_bytes += len(entry)
        if size_bytes >= BLOCK_BYTES:
            yield entries[start : index + 1]
            start, size_bytes = index + 1, 0
    if start < len(entries):
        yield entries[start:]


def header_bytes(head: bytes, name: str) -> int:
    """Return how many bytes the header has, from the first `HEADER_AT` bytes of a file.

    Raises:
        LedgerDamaged: No segment begins so. TooNew: A newer version wrote it.
    """
    if head[:VERSION_AT] != MAGIC or len(head) < HEADER_AT:
        raise LedgerDamaged(f"{name} is no ledger segment", file=name)
    version = int.from_bytes(head[VERSION_AT:LENGTH_AT], "big")
    if version // 100 != SEGMENT_VERSION // 100 or version > SEGMENT_VERSION:
        raise TooNew.of(name, version, SEGMENT_VERSION)
    return int.from_bytes(head[LENGTH_AT:HEADER_AT], "big")


def read_header(header: bytes, name: str) -> SegmentHeader:
    """Return the header of a segment file.

    Raises:
        LedgerDamaged: It cannot be read.
    """
    try:
        return _headers.decode(header)
    except UNREADABLE as error:
        raise LedgerDamaged(f"{name}: the header cannot be read: {error}", file=name) from error


def info_of(header: SegmentHeader, size_bytes: int) -> SegmentInfo:
    """Return what a store keeps of a segment of that header."""
    end = Position(header.last_lsn, Epoch(*header.epoch_after), header.hash_after, header.stamp_after_ms)
    return SegmentInfo(header.first_lsn, header.last_lsn, header.hash_before, end, size_bytes, header.sha256)


def block_of(header: SegmentHeader, lsn: int) -> Block:
    """Return the block that has the entry.

    Raises:
        LedgerDamaged: None has: the header contradicts itself.
    """
    for block in header.blocks:
        if block.first_lsn <= lsn < block.first_lsn + block.entries:
            return block
    raise LedgerDamaged(f"segment {segment_name(header.first_lsn, header.last_lsn)} has no block with entry {lsn}", lsn=lsn)


def open_block(block: Block, data: bytes, name: str) -> list[bytes]:
    """Return the sealed entries of a block.

    Raises:
        LedgerDamaged: The bytes are not such a block.
    """
    lsn = block.first_lsn
    try:
        entries = _blocks.decode(zlib.decompress(data))
    except (zlib.error, *UNREADABLE) as error:
        raise LedgerDamaged(f"{name}: the block of entry {lsn} cannot be read: {error}", file=name, lsn=lsn) from error
    if len(entries) != block.entries:
        raise LedgerDamaged(f"{name}: the block of entry {lsn} has {len(entries)} entries", file=name, lsn=lsn)
    return entries


def opened(data: bytes, info: SegmentInfo, operator: str) -> list[bytes]:
    """Return all entries of a segment file, which must be the very one that `info` tells of.

    Raises:
        LedgerDamaged: It is not; the message names the file and, where it can be told, the entry.
    """
    name = info.name
    length = header_bytes(data[:HEADER_AT], name)
    body_at = HEADER_AT + length
    header = read_header(data[HEADER_AT:body_at], name)
    if info_of(header, len(data)) != info or header.operator != operator:
        raise LedgerDamaged(f"{name} is another segment than the one that was sealed", file=name, lsn=info.first_lsn)
    if _digest(header.blocks, data[body_at:]) != info.sha256:
        raise LedgerDamaged(f"{name}: the bytes are not the ones that were sealed", file=name, lsn=_first_bad_lsn(header, data, body_at))
    entries: list[bytes] = []
    for block in header.blocks:
        start = body_at + block.offset
        entries += open_block(block, data[start : start + block.size_bytes], name)
    return entries


def _digest(blocks: Sequence[Block], body: bytes) -> bytes:
    """Return the SHA-256 of where the blocks are and of the blocks."""
    return hashlib.sha256(_encoder.encode(blocks) + body).digest()


def _first_bad_lsn(header: SegmentHeader, data: bytes, body_at: int) -> int:
    """Return the first entry of the first block that cannot be opened, or the segment's first."""
    for block in header.blocks:
        start = body_at + block.offset
        try:
            open_block(block, data[start : start + block.size_bytes], "")
        except LedgerDamaged:
            return block.first_lsn
    return header.first_lsn


def chain_of(segments: Sequence[SegmentInfo], operator: str) -> Position:
    """Return the position after the last of `segments`, which must join without a gap from the first entry on.

    Raises:
        LedgerDamaged: They do not.
    """
    end = genesis(operator)
    for segment in segments:
        if segment.first_lsn != end.lsn + 1 or segment.hash_before != end.hash:
            raise LedgerDamaged(f"segment {segment.name} does not follow entry {end.lsn}", lsn=segment.first_lsn, file=segment.name)
        end = segment.end
    return end
