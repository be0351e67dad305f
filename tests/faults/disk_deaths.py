"""A process that moves an order's seat in a real store and dies, by kill -9, just before one of its writes to the disk.

    python -m tests.faults.disk_deaths FILE WRITE

Makes the store FILE with a timetable and an order of two seats of one service, then decides, appends and applies MOVE (Z10), as a
primary does. `WRITE`: before which write or flush of that it dies, counted from 1; where there is no such write it ends by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import apsw
import msgspec

from datastore import commands, wire
from datastore.engine import decide
from datastore.ledger import BATCH, Entry, seal
from datastore.model import Leg
from datastore.state import AppliedState
from datastore.store import SqliteStore
from tests.unit.datastore.inventory import DAY_START_MS, EPOCH, SERVICE, import_command, schedule

REFERENCE, TOKEN = "ABC234", b"token"
OLD, NEW = ("1A", "1B"), ("5C", "1B")
DAY_MS = 86_400_000
BASE = "unix"  # SQLite's own way to the files of a system like this one


class Deaths:
    """Counts what goes to the disk from `begin` on; before the write of that number the process dies."""

    def __init__(self) -> None:
        self.left = 0

    def begin(self, write: int) -> None:
        self.left = write

    def write(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


DEATHS = Deaths()


class DyingFile(apsw.VFSFile):
    """A file of SQLite's whose writes are counted."""

    def xWrite(self, data: Any, offset: int) -> None:
        DEATHS.write()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        DEATHS.write()
        super().xSync(flags)


class DyingDisk(apsw.VFS):
    """The system's files, counted."""

    def __init__(self) -> None:
        super().__init__("dying", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return DyingFile(BASE, name, flags)


class Primary:
    """What a primary does with a batch, alone: decide, append, apply."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path, "AR")
        self.state = AppliedState("AR", self.store)
        self.now_ms = DAY_START_MS - 10 * DAY_MS

    def submit(self, command: wire.AnyCommand) -> dict[str, Any]:
        tail = self.store.summary().tail
        self.now_ms += 1
        decision = decide(self.state, [command], self.now_ms, tail.lsn + 1, EPOCH, lambda _: None)
        value: dict[str, Any] = decision.outcomes[0].unwrap()
        outcomes = [msgspec.Raw(wire.encode(decision.outcomes))]
        sealed = seal(Entry(EPOCH, tail.lsn + 1, self.now_ms, BATCH, decision.requests, outcomes, decision.events), tail.hash)
        self.store.append([sealed])
        self.store.stage(sealed)
        self.state.apply(decision.events)
        self.store.flush_staged()
        return value


def sold(primary: Primary) -> int:
    """Import, hold and book; return the order's version."""
    primary.submit(import_command([schedule()]))
    words = {"seats": OLD, "ttl_ms": 60_000, "currency": "USD", "prices": (10_000, 10_000), "refundable_percent": 80}
    lock = {"generation": 1, "counter": 1, "nonce": "nonce-1", "owner_holds_max": 9, "service_holds_max": 9}
    primary.submit(wire.Hold("hold", b"h", hold_id="AR.one", owner="ann", service_id=SERVICE, **words, **lock))  # type: ignore[arg-type]
    return int(primary.submit(wire.Confirm("confirm", b"c", "AR.one", "ann", (REFERENCE,), TOKEN, b""))["version"])


def move(version: int) -> commands.Move:
    """Return the move of the first of the order's two seats."""
    leg = Leg("AR", SERVICE, ("5C",), (10_000,), 80)
    named = ("move", b"m", "AR.trip.move", "ann", "AR", (leg,), (0,), "USD", 60_000, 1, 2, "nonce-2", 9, 9, REFERENCE, 10_000)
    what = (REFERENCE, TOKEN, version, ((0, (0,)),), 0, False, "moved", "AR.trip.move", "ann", (), (b"",))
    return commands.Move("move", b"m", commands.HoldLegs(*named), commands.Amend("move", b"m", *what))


def main() -> None:
    """Make the store, and die."""
    disk = DyingDisk()
    primary = Primary(Path(sys.argv[1]))
    version = sold(primary)
    DEATHS.begin(int(sys.argv[2]))
    primary.submit(move(version))
    primary.store.close()
    del disk


if __name__ == "__main__":
    main()
