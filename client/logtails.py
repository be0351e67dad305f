"""The log files of this machine's processes, read as they grow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.loglines import LogLine, merged, parse

TAIL_BYTES = 128 * 1024  # Read of each file at first.


class Tail:
    """Reads what a log file has gained; a file that became shorter was begun anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = -1

    def more(self) -> str:
        """Return what is new since the last look, whole lines only."""
        try:
            size = self.path.stat().st_size
            if self._at < 0:
                self._at = max(0, size - TAIL_BYTES)
            elif size < self._at:
                self._at = 0
            with self.path.open("rb") as file:
                file.seek(self._at)
                read = file.read(4 * TAIL_BYTES)
        except OSError:
            return ""
        whole = read[: read.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode(errors="replace")


class Tails:
    """All files as one; files that come later are read too."""

    def __init__(self) -> None:
        self._tails: dict[Path, Tail] = {}

    def more(self, paths: Sequence[Path]) -> list[LogLine]:
        """Return the new lines of all of them, by time."""
        return merged(parse(self._tails.setdefault(path, Tail(path)).more(), path.stem) for path in paths)
