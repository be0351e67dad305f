"""A seat moved at its anchor is one entry (Z10): whoever dies between any two writes to the disk leaves the old seat, or the new one."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

from datastore import wire
from datastore.engine import decide
from datastore.ledger import unseal
from datastore.model import SeatState
from datastore.rows import Kind, decode_row
from datastore.store import SqliteStore
from tests.faults.disk_deaths import NEW, OLD, REFERENCE, SERVICE, TOKEN, move
from tests.integration.harness import TOP
from tests.unit.datastore.inventory import EPOCH, Partition

WRITES_MAX = 60
FILE_BYTES = 1 << 24


def die_before(path: Path, write: int) -> bool:
    """Have another process move the seat and die before its write of that number; return whether it came to it."""
    command = [sys.executable, "-m", "tests.faults.disk_deaths", str(path), str(write)]
    ended = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr[-2000:]
    return ended.returncode != 0


def at_every_entry(path: Path) -> list[tuple[tuple[str, ...], list[str], list[str]]]:
    """Return (the order's seats, those booked, those held) after each entry of a ledger that has an order."""
    store = SqliteStore(path, "AR")
    try:
        entries = [unseal(data) for data in store.entries(1, 100, FILE_BYTES)]
    finally:
        store.close()
    found = []
    rows: dict[tuple[int, str], bytes] = {}
    for sealed in entries:
        rows.update({(kind, key): value for kind, key, value in sealed.entry.events})
        seats = {key.partition("/")[2]: decode_row(Kind.SEAT, value).state for (kind, key), value in rows.items() if kind == Kind.SEAT}
        if (Kind.ORDER, REFERENCE) in rows:
            order = decode_row(Kind.ORDER, rows[Kind.ORDER, REFERENCE])
            booked = sorted(seat for seat, state in seats.items() if state == SeatState.BOOKED)
            held = sorted(seat for seat, state in seats.items() if state == SeatState.HELD)
            found.append((order.seats, booked, held))
    return found


def test_a_death_between_any_two_writes_leaves_one_seat(tmp_path: Path) -> None:
    """At every entry of the ledger that is left, the order has just the seats that are booked, nothing is held, and both ends occur."""
    ends = set()
    for write in itertools.count(1):
        path = tmp_path / f"{write}.sqlite"
        came = die_before(path, write)
        steps = at_every_entry(path)
        wrong = [step for step in steps if (sorted(step[0]), []) != step[1:]]
        assert wrong == [], f"killed before write {write}"
        ends.add(steps[-1][0])
        if not came:
            break
        assert write < WRITES_MAX
    assert write > 5 and ends == {OLD, NEW} and steps[-1][0] == NEW
    # What the check would see if it were two entries: seats that are held for an order which does not have them.
    inventory = two_entries()
    assert inventory == ["5C"]


def two_entries() -> list[str]:
    """Return what is held between HOLD_LEGS and AMEND where they are two entries, as where a card is asked in between."""
    partition = Partition()
    partition.submit(partition.hold("one", *OLD))[0].unwrap()
    held = move(0).hold
    partition.submit(wire.Confirm("confirm", b"c", "AR.one", "ann", (REFERENCE,), TOKEN, b""))[0].unwrap()
    outcome = decide(partition.state, [held], partition.now_ms, partition.lsn + 1, EPOCH, lambda _: None)
    assert not outcome.outcomes[0].error
    rows = {key: decode_row(kind, value) for kind, key, value in outcome.events if kind == Kind.SEAT}
    return [key.partition("/")[2] for key, row in rows.items() if row.state == SeatState.HELD and key.startswith(SERVICE)]
