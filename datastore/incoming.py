"""A snapshot on its way into a node: the file that grows, and the note that says what it will be.

Both lie in `incoming/`, apart from the stores. The note is on the disk before the first part, so whatever is found at a
start is either a file with its note, which goes on, or nothing worth keeping.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from datastore.recovery import Leftover, blocks_within
from datastore.segments import Disk
from datastore.snapshot_files import cut_mark, flush_file
from datastore.wire_recovery import SnapshotOffer

# The disk takes what came in slices: one flush of all of it at the end would keep every other flush waiting.
FLUSH_BYTES = 16 * 1024 * 1024


class Noted(msgspec.Struct):
    """The note: what comes, from whom, and why."""

    operator: str
    cause: str
    source: str
    offer: SnapshotOffer
    fresh_uuid: str


class Incoming:
    """One operator's snapshot on its way."""

    def __init__(self, folder: Path, operator: str) -> None:
        self._folder = folder
        self.path = folder / f"{operator}.part"
        self._note = folder / f"{operator}.json"
        self._flushed_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def found(self) -> Noted | None:
        """Return the note that was left, None where there is none that can be read."""
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=Noted)
        except (OSError, msgspec.DecodeError):
            return None

    def leftover(self) -> Leftover | None:
        """Return what an interrupted pull left."""
        noted = self.found()
        if noted is None or not self.path.exists():
            return None
        # A check that was interrupted changed the file, which was whole by then.
        size_bytes = noted.offer.size_bytes if cut_mark(self.path).exists() else self.path.stat().st_size
        return Leftover(noted.source, noted.offer, size_bytes)

    def note(self, noted: Noted) -> None:
        """Begin a file: empty it, put the note beside it."""
        self.discard()
        self.path.touch()
        self.settle(noted)
        self._flushed_bytes = 0

    def settle(self, noted: Noted) -> None:
        """Put a note beside the file, in the place of the one that there may be."""
        draft = self._note.with_name(f".{self._note.name}.new")
        draft.write_bytes(msgspec.json.encode(noted))
        flush_file(draft)
        os.replace(draft, self._note)
        Disk().flush_names(self._folder)

    def write(self, offset: int, data: bytes) -> int:
        """Write a part at its place; return where it ends."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            end = offset + len(data)
            if end - self._flushed_bytes >= FLUSH_BYTES:
                os.fdatasync(file.fileno())
                self._flushed_bytes = end
        return end

    def differing(self, offer: SnapshotOffer, size_bytes: int) -> tuple[int, ...]:
        """Return the numbers of the blocks among the file's first bytes that do not have the sums of the offer."""
        sums = offer.block_sums[: blocks_within(offer, size_bytes)]
        with self.path.open("rb") as file:
            return tuple(number for number, known in enumerate(sums) if zlib.crc32(file.read(offer.block_bytes)) != known)

    def flush(self) -> None:
        flush_file(self.path)

    def discard(self) -> None:
        """Delete the file and the note, the note first: a file without one is never used."""
        for path in (
            self._note,
            self.path,
            cut_mark(self.path),
            *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm", "-journal")),
        ):
            path.unlink(missing_ok=True)
        self._flushed_bytes = 0
