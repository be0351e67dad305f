"""How fast a lost copy comes back from a peer, what memory that takes, and what it costs those who buy meanwhile.

    python -m benchmarks.recovery                         # a copy of 200 MB
    python -m benchmarks.recovery --mb 50
    python -m benchmarks.recovery --report docs/operations.md

A whole cluster with default settings (3 lock servers, 3 nodes, 2 managers, 2 balancers) on free loopback ports. One operator's
ledger is filled with refused holds until its file has the size asked for. Buyers then hold and release its seats without a
pause: undisturbed, while `holdfast recover` replaces the copy of one node, and undisturbed again. Then nobody buys, and the copy is
replaced once more. The time is that from the
order to the moment when the new copy is in use: the snapshot taken at its source, read, verified and installed. Memory is the
peak resident set of the two nodes and of the processes that they start for it. All processes share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.failover import BUYERS, OPERATOR, OVERLAY, Buyers
from benchmarks.pages import put_section
from client import keys, recovering
from datastore import wire
from datastore.wire_recovery import RecoverAsk
from tests.faults.buyers import node_stubs, primary_of, statuses, store_of
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

UNDISTURBED_S = 20.0
COMMANDS = 500
SEATS = 9
# Targets of the project.
RATE_MB_S, MEMORY_MB, SALES_SHARE = 25.0, 200.0, 0.70


class Memory:
    """The peak resident set of some processes, and of the largest of those that they start, looked at again and again."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._over = threading.Event()
        self.children_mb = dict.fromkeys(pids, 0.0)
        self._began_s = self._children_s()
        self.before_mb = {name: _status_mb(pid, "VmRSS") for name, pid in pids.items()}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for name, pid in self._pids.items():
                for child in _children(pid):
                    self.children_mb[name] = max(self.children_mb[name], _status_mb(child, "VmHWM"))

    def _children_s(self) -> float:
        """Return the processor time of the processes that have ended."""
        words = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in self._pids.values()]
        return sum(int(word) for found in words for word in found[13:15]) / os.sysconf("SC_CLK_TCK")

    def children_s(self) -> float:
        """Return the processor time of the processes that were started and ended since the beginning."""
        return self._children_s() - self._began_s

    def stop(self) -> dict[str, float]:
        """Return each node's peak; that of the process is the system's own count."""
        self._over.set()
        self._thread.join()
        return {name: _status_mb(pid, "VmHWM") for name, pid in self._pids.items()}


def _status_mb(pid: int, key: str) -> float:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.M)
    except OSError:
        return 0.0
    return int(found[1]) / 1000 if found else 0.0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
    return found


def fill(cluster: ClusterUnderTest, service: str, seats: list[str], size_bytes: int) -> int:
    """Have an operator's primary refuse holds until a replica's file has the size; return the number of commands."""
    stubs = node_stubs(cluster)
    primary = primary_of(cluster, OPERATOR)
    replica = next(name for name in stubs if name != primary)
    number = 0
    taken = tuple(seats[-SEATS:])
    try:
        while store_of(cluster, replica, OPERATOR).stat().st_size < size_bytes:
            commands: list[wire.AnyCommand] = []
            for _ in range(COMMANDS):
                number += 1
                word = f"filling-{number:09}"
                hold_id = f"{OPERATOR}.{word}"
                fence = 2**40 + number
                prices = (1,) * SEATS
                commands.append(
                    wire.Hold(word, word.encode(), hold_id, "filler", service, taken, 1_800_000, 1, fence, word, "USD", prices, 0, 99, 99)
                )
            (result,) = stubs[primary].submit([wire.SubmitItem(OPERATOR, wire.encode(commands))], 60_000)
            if result.error:
                raise RuntimeError(result.error)
        wait_until(lambda: len({one.applied_lsn for one in statuses(stubs, OPERATOR).values()}) == 1, "the copies to be level", 120)
    finally:
        for stub in stubs.values():
            stub.close()
    return number


def _rate(buyers: Buyers) -> float:
    """Return the holds a second of some undisturbed seconds."""
    seen, began = len(buyers.done), time.monotonic()
    threading.Event().wait(UNDISTURBED_S)
    return (len(buyers.done) - seen) / (time.monotonic() - began)


def recover(ask: recovering.Ask, receiver: str, source: str) -> tuple[int, float, dict[str, float]]:
    """Replace the receiver's copy; return its bytes, the seconds from the order to its use, and what they went for."""
    planned = ask(RecoverAsk(receiver, [OPERATOR], source, "plan"))
    began = moment = time.monotonic()
    begun = recovering.started(ask, receiver, planned, source)
    phases: dict[str, float] = {}
    for (report,) in recovering.progress(ask, receiver, begun, source, poll_s=0.1):
        last, now = report, time.monotonic()
        phase = "taking" if report.state == "fetching" and not report.bytes_total else report.state
        phases[phase] = phases.get(phase, 0.0) + now - moment
        moment = now
    if last.state != "done":
        raise RuntimeError(f"{last.state}: {last.detail}")
    return last.bytes_total, time.monotonic() - began, phases


def measure(size_mb: int) -> dict[str, Any]:
    """Return what one recovery of a copy of about `size_mb` took, and what buyers had meanwhile."""
    folder = tempfile.TemporaryDirectory(prefix="holdfast-recovery-")
    with folder, ClusterUnderTest(Path(folder.name), OVERLAY, datasets=("venues",)) as cluster:
        buyers = Buyers(cluster)
        buyers.pause()
        commands = fill(cluster, buyers.service, buyers.seats, size_mb * 1_000_000)
        print(f"  filled with {commands} commands", file=sys.stderr)
        ask = recovering.asker(cluster.client(), keys.read_secret(cluster.folders.secrets / "admin.key"))
        primary = primary_of(cluster, OPERATOR)
        source, receiver = (name for name in ("node-1", "node-2", "node-3") if name != primary)
        buyers.go_on()
        wait_until(lambda: len(buyers.done) > 50, "sales", 120)
        undisturbed = [_rate(buyers)]
        memory = Memory({"source": cluster.pid(source), "receiver": cluster.pid(receiver)})
        seen = len(buyers.done)
        size_bytes, took_s, phases = recover(ask, receiver, source)
        during = (len(buyers.done) - seen) / took_s
        peaks = memory.stop()
        undisturbed.append(_rate(buyers))
        buyers.stop()
        again_bytes, again_s, _ = recover(ask, receiver, source)
        return {
            "mb": size_bytes / 1e6,
            "commands": commands,
            "seconds": took_s,
            "phases_s": phases,
            "mb_per_s": size_bytes / 1e6 / took_s,
            "mb_per_s_alone": again_bytes / 1e6 / again_s,
            "before_mb": memory.before_mb,
            "peak_mb": peaks,
            "children_mb": memory.children_mb,
            "children_s": memory.children_s(),
            "load": os.getloadavg()[0],
            "holds_per_s": undisturbed,
            "holds_per_s_meanwhile": during,
            "share": during / statistics.mean(undisturbed),
            "errors": dict(buyers.errors),
        }


SECTION = """## Recovery, measured

Written by `python -m benchmarks.recovery --report docs/operations.md` on {date} ({machine}, {cores} cores, Python {python}; ten
processes and the buyers share the machine): `holdfast recover` of a copy of {mb:.0f} MB from a replica with default settings, while
{buyers} buyers hold and release seats of the same operator without a pause. Of the time went: {phases}. The load average was {load:.0f}:
what others did on the machine is in these figures. The processor time of taking and checking the snapshot, which does not depend on
that, was {children:.1f} s.

| | seen | wanted |
|---|---:|---:|
| from the order to the new copy in use, while nobody buys | {alone:.0f} MB/s | 25 MB/s |
| the same while the buyers use all that the machine has | {seconds:.1f} s, {rate:.0f} MB/s | |
| peak memory of the source and of its process for it | {source:.0f} MB, {source_child:.0f} MB | under 200 MB |
| peak memory of the receiver and of its process for it | {receiver:.0f} MB, {receiver_child:.0f} MB | under 200 MB |
| holds a second before, meanwhile and after | {before:.0f}, {during:.0f}, {after:.0f}: {share:.0%} of undisturbed | 70 % |
| errors that buyers heard | {errors} | none |
"""


def section(found: dict[str, Any]) -> str:
    """Return the section of the docs about one measurement."""
    return SECTION.format(
        date=date.today().isoformat(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        mb=found["mb"],
        buyers=BUYERS,
        load=found["load"],
        children=found["children_s"],
        phases=", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in found["phases_s"].items()),
        seconds=found["seconds"],
        rate=found["mb_per_s"],
        alone=found["mb_per_s_alone"],
        source=found["peak_mb"]["source"],
        source_child=found["children_mb"]["source"],
        receiver=found["peak_mb"]["receiver"],
        receiver_child=found["children_mb"]["receiver"],
        before=found["holds_per_s"][0],
        after=found["holds_per_s"][1],
        during=found["holds_per_s_meanwhile"],
        share=found["share"],
        errors=", ".join(f"{count} {code}" for code, count in found["errors"].items()) or "none",
    )


def main() -> int:
    """Measure, print, and write the section where asked; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=200, help="size of the copy's file")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the section into this page of the docs")
    options = parser.parse_args()
    found = measure(options.mb)
    print(json.dumps(found) if options.json else section(found))
    if options.report:
        put_section(options.report, "Recovery, measured", section(found))
    memory = [*found["peak_mb"].values(), *found["children_mb"].values()]
    well = found["mb_per_s_alone"] >= RATE_MB_S and max(memory) < MEMORY_MB and found["share"] >= SALES_SHARE
    return 0 if well and not found["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
