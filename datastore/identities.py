"""What a node writes down beside its stores, one small file an operator: to notice a store that went back (R11, R14).

A store's file that was lost, or put back from a backup, comes up as if nothing had happened since; but it may have promised
and acknowledged more. The record is written after the store, never before, so a store is never behind it by itself. It is
not flushed: it must survive the process, and a power failure that loses it loses no more than this check.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from datastore.errors import DiskFailed
from datastore.recovery import Remembered


class Identities:
    """The records of one node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, operator: str) -> Remembered | None:
        """Return what is remembered, None where there is nothing that can be read."""
        try:
            return msgspec.json.decode(self._path(operator).read_bytes(), type=Remembered)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, operator: str, remembered: Remembered) -> None:
        """Replace one operator's record.

        Raises:
            DiskFailed: It is as it was.
        """
        path = self._path(operator)
        draft = path.with_name(f".{path.name}.new")
        try:
            draft.write_bytes(msgspec.json.encode(remembered))
            os.replace(draft, path)
        except OSError as cause:
            raise DiskFailed(f"{path}: cannot be written: {cause}", file=str(path)) from cause

    def _path(self, operator: str) -> Path:
        return self._folder / f"{operator}.json"
