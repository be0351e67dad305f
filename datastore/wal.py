"""SQLite's own log beside a store's file, read as SQLite reads it, to see what it passes over in silence. Pure.

After a crash SQLite takes the log's frames into use up to the first whose checksum fails, and says nothing: that is how a flush that
was interrupted is left out. A frame that was damaged later ends the log in the same way, and takes with it what was acknowledged after
it. The two can be told apart: a flush ends with its commit frame, so behind an interrupted one there is none.

Form (SQLite documentation, "WAL-mode File Format"): a header of 32 bytes, then frames of 24 bytes and a page. A frame belongs to the log
if its salts are the header's; its checksum goes on from that of the frame before.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_BYTES, FRAME_BYTES = 32, 24
MAGIC_LITTLE, MAGIC_BIG = 0x377F0682, 0x377F0683
PAGE_BYTES_MIN, PAGE_BYTES_MAX = 512, 65_536
MASK = 0xFFFFFFFF


class Broken(NamedTuple):
    """The first frame (from 1) that SQLite does not take, though a commit stands in it or behind it; 0 is the header."""

    frame: int
    salts: tuple[int, int]

    def __str__(self) -> str:
        where = f"breaks off at frame {self.frame}, with whole flushes behind it" if self.frame else "has a header that is not whole"
        return f"SQLite's log beside it {where}: they were written, and are lost by damage, or by a power failure in the last of them"


def broken(log: bytes) -> Broken | None:
    """Return where a log lost what had been written to it, None where it did not."""
    if len(log) < HEADER_BYTES + FRAME_BYTES + PAGE_BYTES_MIN:
        return None
    magic, _, page_bytes, _, salt_1, salt_2, *header_sums = struct.unpack(">8I", log[:HEADER_BYTES])
    salts, order = (salt_1, salt_2), ">" if magic == MAGIC_BIG else "<"
    sums = _sums(log[:24], (0, 0), order)
    sized = PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX and page_bytes & (page_bytes - 1) == 0
    if magic not in (MAGIC_LITTLE, MAGIC_BIG) or not sized or sums != tuple(header_sums):
        return Broken(0, salts)
    step = FRAME_BYTES + page_bytes
    starts = range(HEADER_BYTES, len(log) - step + 1, step)
    for number, start in enumerate(starts, 1):
        _, _, *frame_salts, first, second = struct.unpack(">6I", log[start : start + FRAME_BYTES])
        sums = _sums(log[start + FRAME_BYTES : start + step], _sums(log[start : start + 8], sums, order), order)
        if tuple(frame_salts) == salts and sums == (first, second):
            continue
        # What follows is of an older round, or of a flush that never ended, unless a commit of this round is among it.
        later = (struct.unpack(">4I", log[at : at + 16]) for at in starts[number - 1 :])
        lost = any(pages and (one, two) == salts for _, pages, one, two in later)
        return Broken(number, salts) if lost else None
    return None


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """Return the running checksum after `data`, whose length is a multiple of 8."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & MASK
        second = (second + odd + first) & MASK
    return first, second
