"""What is read of SQLite's own log is what SQLite makes of it: tried on logs that SQLite wrote."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from datastore.wal import FRAME_BYTES, HEADER_BYTES, broken

FLUSHES = 12
FLIPS = 60


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (file, log) as a killed process leaves them: the first flushes are in the file, the others in a log that was begun anew."""
    path = tmp_path / "one.sqlite"
    database = apsw.Connection(str(path))
    database.execute("PRAGMA journal_mode = WAL").fetchall()
    database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, value TEXT)")
    for number in range(FLUSHES):
        database.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 3_000))
    database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    for number in range(FLUSHES, FLUSHES + FLUSHES // 2):
        database.execute("INSERT INTO t VALUES (?, ?)", (number, "y" * 3_000))
    yield path.read_bytes(), (tmp_path / "one.sqlite-wal").read_bytes()
    database.close()


def rows(folder: Path, file: bytes, log: bytes) -> int:
    """Return how many rows SQLite reads of a file with that log."""
    path = folder / "copy.sqlite"
    path.write_bytes(file)
    path.with_name("copy.sqlite-wal").write_bytes(log)
    path.with_name("copy.sqlite-shm").unlink(missing_ok=True)
    database = apsw.Connection(str(path))
    found = int(database.execute("SELECT count(*) FROM t").fetchall()[0][0])
    database.close()
    return found


def test_whatever_sqlite_passes_over_in_silence_is_said(written: tuple[bytes, bytes], tmp_path: Path) -> None:
    """A bit flipped anywhere: where SQLite reads fewer rows for it, the log is said to be broken; where it is whole, it is not."""
    file, log = written
    chance = random.Random(3)
    whole = rows(tmp_path, file, log)
    assert (FLUSHES + FLUSHES // 2, None) == (whole, broken(log))
    last = max(at for at in frames(log) if log[at + 8 : at + 16] == log[16:24])
    fewer = 0
    for _ in range(FLIPS):
        at = chance.randrange(len(log))
        changed = bytearray(log)
        changed[at] ^= 1 << chance.randrange(8)
        lost = rows(tmp_path, file, bytes(changed)) < whole
        fewer += lost
        # The header of the very last frame is what says that there is one.
        assert (broken(bytes(changed)) is not None) >= (lost and not last <= at < last + FRAME_BYTES), at
    assert fewer > FLIPS // 5


def test_a_flush_that_was_interrupted_is_no_damage(written: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Wherever a process is killed while it writes: what it wrote has no commit behind it."""
    file, log = written
    for cut in random.Random(4).sample(range(len(log)), 20):
        assert rows(tmp_path, file, log[:cut]) >= FLUSHES
        found = broken(log[:cut])
        assert found is None, f"cut at {cut}: {found}"


def frames(log: bytes) -> range:
    """Return where the frames of a log begin."""
    return range(HEADER_BYTES, len(log), FRAME_BYTES + int.from_bytes(log[8:12], "big"))
