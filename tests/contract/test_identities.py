"""The record beside a store: on the disk before anybody counts on a store that it did not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore.identities import Identities
from datastore.ledger import LedgerDamaged
from datastore.model import EPOCH_NONE, Epoch
from datastore.remembered import Remembered
from datastore.segments import Disk


class Noting(Disk):
    """A disk that tells what was done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def write(self, path: Path, data: bytes) -> None:
        self.done.append("write")
        super().write(path, data)

    def flush(self, path: Path) -> None:
        self.done.append("flush")
        super().flush(path)

    def rename(self, path: Path, to: Path) -> None:
        self.done.append("rename")
        super().rename(path, to)

    def flush_names(self, folder: Path) -> None:
        self.done.append("flush names")
        super().flush_names(folder)


ONE, TWO = Epoch(1, "m"), Epoch(2, "m")


def record(store_uuid: str, next_uuid: str = "", lsn: int = 0, promised: Epoch = ONE, led: Epoch = EPOCH_NONE) -> Remembered:
    return Remembered(store_uuid, next_uuid, promised, led, lsn)


@pytest.mark.parametrize(
    ("before", "now", "flushed"),
    [
        (None, record("one"), True),
        (None, record("one", "two"), True),
        (record("one"), record("one", promised=TWO, lsn=7), True),
        (record("one"), record("one", led=ONE), True),
        (record("one", led=ONE), record("one", led=ONE, lsn=7), False),
        (record("one"), record("one", lsn=7), False),
        (record("one"), record("two"), True),
        (record("one"), record("one", "two"), True),
        (record("one", "two"), record("two", lsn=7), False),
        (record("one", "two"), record("one", lsn=7), False),
        (record("two"), record("two", "two"), False),
        (record("one", "two"), record("two", "three"), True),
    ],
)
def test_a_record_of_another_store_or_promise_is_flushed(tmp_path: Path, before: Remembered | None, now: Remembered, flushed: bool) -> None:
    """A power failure may take a rename back: then an older record is there, whole, of the same store and promise, never of another's."""
    disk = Noting()
    identities = Identities(tmp_path, disk)
    if before is not None:
        identities.write("AR", before)
    disk.done.clear()
    identities.write("AR", now)
    assert disk.done == ["write", "flush", "rename", *(["flush names"] if flushed else [])]
    assert identities.read_whole("AR") == now


def test_the_first_record_of_a_process_is_flushed(tmp_path: Path) -> None:
    """The one before may have ended between the rename and the flush of the names: what is read need not be there for good."""
    Identities(tmp_path, Noting()).write("AR", record("one"))
    disk = Noting()
    identities = Identities(tmp_path, disk)
    for operator, flushed in (("AR", True), ("AR", False), ("LA", True)):
        disk.done.clear()
        identities.write(operator, record("one"))
        assert flushed == ("flush names" in disk.done)


def test_a_record_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    identities = Identities(tmp_path)
    (tmp_path / "AR.json").write_bytes(b'["one", ')
    with pytest.raises(LedgerDamaged):
        identities.read_whole("AR")
    identities.write("AR", record("one"))
    assert identities.read_whole("AR") == record("one")
