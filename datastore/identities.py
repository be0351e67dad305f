"""What a node writes down beside its stores, one small file an operator: to notice a store that went back (R11, R14).

A store's file that was lost, or put back from a backup, comes up as if nothing had happened since; but it may have promised
and acknowledged more. The record is written after the store, never before, so a store is never behind it by itself. It must
survive the process: a power failure may put an older one in its place, and loses no more than that check. But one that names another
store, or tells of a new promise, is there for good before anybody counts on it (`remembered.must_last` says why). The bytes of each are
flushed before they take the record's name, so that none is torn: a third of a millisecond, twice a second while an operator sells.

A record is JSON: the fields of `Remembered` and a sum over them (none in those of before); one that fails it is as good as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from datastore.errors import DiskFailed
from datastore.ledger import LedgerDamaged
from datastore.remembered import Remembered, must_last
from datastore.segments import Disk


class Identities:
    """The records of one node."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk or Disk()
        self._lasting: set[str] = set()  # operators whose record this process has put on the disk for good
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, operator: str) -> Remembered | None:
        """Return what is remembered, None where there is nothing that can be read."""
        try:
            return self.read_whole(operator)
        except LedgerDamaged:
            return None

    def read_whole(self, operator: str) -> Remembered | None:
        """Return what is remembered, None where there is no record.

        Raises:
            LedgerDamaged: There is one, and it is not what was written.
        """
        path = self._path(operator)
        try:
            *fields, last = msgspec.json.decode(path.read_bytes(), type=list[Any])
            summed = len(fields) == len(Remembered._fields)
            if summed and last != _sum(fields):
                raise LedgerDamaged(f"the record of {operator} is not what the node wrote: its sum differs", file=path.name)
            return msgspec.convert(fields if summed else [*fields, last], Remembered)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerDamaged(f"the record of {operator} cannot be read: {error}", file=path.name) from error

    def write(self, operator: str, remembered: Remembered) -> None:
        """Replace one operator's record; one that has to last (`must_last`) is on the disk when this returns.

        Raises:
            DiskFailed: It is as it was.
        """
        path = self._path(operator)
        # The process before may have ended between a rename and the flush of the names: then what is read may not be there for good.
        lasts = operator not in self._lasting or must_last(self.read(operator), remembered)
        draft = path.with_name(f".{path.name}.new")
        try:
            fields = msgspec.to_builtins(remembered)
            self._disk.write(draft, msgspec.json.encode([*fields, _sum(fields)]))
            self._disk.flush(draft)  # Not every file system keeps what a rename replaced until the new bytes are there.
            self._disk.rename(draft, path)
            if lasts:
                self._lasting.discard(operator)
                self._disk.flush_names(self._folder)
                self._lasting.add(operator)
        except OSError as cause:
            raise DiskFailed(f"{path}: cannot be written: {cause}", file=str(path)) from cause

    def _path(self, operator: str) -> Path:
        return self._folder / f"{operator}.json"


def _sum(fields: Sequence[Any]) -> str:
    return blake2b(msgspec.json.encode(fields), digest_size=8).hexdigest()
