"""The folder of a partition's sealed segments: writes them in the order that a crash cannot hurt, reads entries back.

`sealing.py` has the files' form and the order of writes. Files are never changed and never deleted. Any thread may use a
folder: the one thing that changes, the block that was opened last, is replaced as a whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from datastore.errors import SnapshotNeeded
from datastore.ledger import LedgerDamaged
from datastore.sealing import (
    HEADER_AT,
    SEGMENT_SUFFIX,
    SegmentHeader,
    SegmentInfo,
    block_of,
    header_bytes,
    info_of,
    open_block,
    opened,
    read_header,
)

DRAFT = ".new"


class Disk:
    """The few things done to the disk, one method each: the tests stop a process between any two of them."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file, not flushed."""
        path.write_bytes(data)

    def flush(self, path: Path) -> None:
        """Return when a file's content is on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, to: Path) -> None:
        os.replace(path, to)

    def flush_names(self, folder: Path) -> None:
        """Flush a folder, so that names made in it survive a power failure."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Opened(NamedTuple):
    """The block opened last: readers go along the ledger, so the next entry is mostly in it."""

    name: str
    first_lsn: int
    entries: list[bytes]


class SegmentFolder:
    """The segment files of one operator at one node."""

    def __init__(self, path: Path, operator: str, disk: Disk | None = None) -> None:
        self.path = path
        self._operator = operator
        self._disk = disk or Disk()
        self._opened = _Opened("", 0, [])

    def write(self, segment: SegmentInfo, data: bytes) -> None:
        """Put a segment's file in place, flushed under its final name when this returns. A repeat writes the same bytes.

        Raises:
            OSError: The disk refuses; whatever was left behind has a draft's name.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        final = self.path / segment.name
        draft = final.with_name(final.name + DRAFT)
        self._disk.write(draft, data)
        self._disk.flush(draft)
        self._disk.rename(draft, final)
        self._disk.flush_names(self.path)
        self._disk.flush_names(self.path.parent)

    def install(self, segment: SegmentInfo, data: bytes) -> None:
        """Take in a segment file that came from a peer, once it is proved to be the one named.

        Raises:
            LedgerDamaged: It is not; nothing was written.
        """
        opened(data, segment, self._operator)
        self.write(segment, data)

    def names(self) -> set[str]:
        """Return the names of the segment files that are there."""
        try:
            return {path.name for path in self.path.iterdir() if path.name.endswith(SEGMENT_SUFFIX)}
        except FileNotFoundError:
            return set()

    def missing(self, segments: list[SegmentInfo]) -> list[SegmentInfo]:
        """Return those of `segments` without a file: the ledger here is complete only when they are back-filled."""
        there = self.names()
        return [segment for segment in segments if segment.name not in there]

    def drop_drafts(self) -> None:
        """Remove what an interrupted write left; its entries are still in the log."""
        if self.path.is_dir():
            for path in self.path.glob(f"*{DRAFT}"):
                path.unlink()

    def entries(self, segment: SegmentInfo, from_lsn: int, limit: int, size_bytes_max: int) -> list[bytes]:
        """Return sealed entries from `from_lsn` on, at least one, at most to the end of its block.

        Raises:
            SnapshotNeeded: The file is not here (yet).
            LedgerDamaged: It is not what was sealed.
        """
        last = self._opened
        if last.name != segment.name or not last.first_lsn <= from_lsn < last.first_lsn + len(last.entries):
            last = self._opened = self._open_block(segment, from_lsn)
        found: list[bytes] = []
        size_bytes = 0
        for entry in last.entries[from_lsn - last.first_lsn :][:limit]:
            size_bytes += len(entry)
            if found and size_bytes > size_bytes_max:
                break
            found.append(entry)
        return found

    def read(self, segment: SegmentInfo) -> bytes:
        """Return a whole segment file.

        Raises:
            SnapshotNeeded: It is not here.
        """
        try:
            return (self.path / segment.name).read_bytes()
        except FileNotFoundError as error:
            raise self._missing(segment) from error

    def part(self, segment: SegmentInfo, offset: int, size_bytes_max: int) -> bytes:
        """Return a part of a segment file, for streaming it to another node; b"" at its end.

        Raises:
            SnapshotNeeded: It is not here.
        """
        try:
            with (self.path / segment.name).open("rb") as file:
                file.seek(offset)
                return file.read(size_bytes_max)
        except FileNotFoundError as error:
            raise self._missing(segment) from error

    def verify(self, segment: SegmentInfo) -> list[bytes]:
        """Return all entries of a segment whose file is the one that was sealed.

        Raises:
            SnapshotNeeded, LedgerDamaged: It is not here, or not whole.
        """
        return opened(self.read(segment), segment, self._operator)

    def _open_block(self, segment: SegmentInfo, lsn: int) -> _Opened:
        try:
            with (self.path / segment.name).open("rb") as file:
                length = header_bytes(file.read(HEADER_AT), segment.name)
                header: SegmentHeader = read_header(file.read(length), segment.name)
                if info_of(header, segment.size_bytes) != segment:
                    raise LedgerDamaged(f"{segment.name} is another segment than the one that was sealed", file=segment.name, lsn=lsn)
                block = block_of(header, lsn)
                file.seek(HEADER_AT + length + block.offset)
                data = file.read(block.size_bytes)
        except FileNotFoundError as error:
            raise self._missing(segment) from error
        return _Opened(segment.name, block.first_lsn, open_block(block, data, segment.name))

    def _missing(self, segment: SegmentInfo) -> SnapshotNeeded:
        detail = f"{self._operator}: entries {segment.first_lsn} to {segment.last_lsn} are not at this node: {segment.name} is missing"
        return SnapshotNeeded(detail, operator=self._operator, file=segment.name, lsn=segment.first_lsn)
