"""Recordings as files: see `client.recording` for what is in one."""

from __future__ import annotations

from pathlib import Path

from client import recording
from datastore.errors import ConfigInvalid


def opened(path: Path) -> recording.Replay:
    """Return the recording of a file, every entry checked.

    Raises:
        ConfigInvalid: There is no such file.
        InvalidRequest: It is no recording, or damaged.
    """
    try:
        with path.open("rb") as file:
            return recording.read(file.read)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}", file=str(path), key="-", reason=str(error.strerror)) from error
