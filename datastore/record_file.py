"""The cluster's record on a node's disk: one small file, replaced as a whole and flushed before anybody is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from datastore import wire
from datastore.cluster_record import ClusterRecord, Note
from datastore.errors import DiskFailed, InvalidRequest
from datastore.segments import Disk

NAME = "cluster-record"
VERSION = 1


def read(folder: Path) -> ClusterRecord:
    """Return the record in a node's folder, {} where there is none.

    Raises:
        DiskFailed: The file cannot be read, or is of a newer version. Moved away, it is had again from the other nodes.
    """
    path = folder / NAME
    try:
        version, record = wire.decode(tuple[int, ClusterRecord], path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, InvalidRequest) as cause:
        raise DiskFailed(f"{path}: cannot be read: {cause}; moved away, the other nodes give it again", file=str(path)) from cause
    if version > VERSION:
        raise DiskFailed(f"{path}: of version {version}, this program knows {VERSION}", file=str(path))
    found: ClusterRecord = record
    return found


def write(folder: Path, record: Mapping[str, Note]) -> None:
    """Replace the record; it is flushed when this returns.

    Raises:
        DiskFailed: Nobody may be told that it is kept.
    """
    path = folder / NAME
    draft = path.with_name(f"{NAME}.new")
    try:
        with draft.open("wb") as file:
            file.write(wire.encode((VERSION, dict(record))))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        Disk().flush_names(folder)
    except OSError as cause:
        raise DiskFailed(f"{path}: cannot be written: {cause}", file=str(path)) from cause
