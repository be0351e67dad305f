"""How many holds a second a whole cluster sells: closed-loop callers one at a time, and bulk callers of 64.

    python -m benchmarks.seats                       # 3 lock servers, 1 balancer, 1 manager, 3 nodes, AOF off
    python -m benchmarks.seats --appendfsync always  # what durable lock servers cost
    python -m benchmarks.seats --report docs/benchmarks.md
    python -m benchmarks.seats --json

Starts its own cluster on free loopback ports in a temporary folder, imports one operator with a hall of 20,000 seats,
and holds seats of three of its services, each seat once. Callers are threads of two other processes; those of a process share a
client, unless it is said that they have one each. Everything shares the machine, so the figures are for comparison within one run.
Prints operations per second, p50 and p99 in milliseconds, the mean batch (holds in one entry of the log), and the CPU time that a
hold costs each tier and its caller in microseconds.

Beside them stands what the machine does with nothing of ours in it (`calibration.py`), measured before and after, and each goal
as it would be on this machine: the goals were set on a faster one, whose yardsticks are `GOAL_MACHINE`. A ratio to a yardstick
of the same run may be compared with another machine's, a number of holds may not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit

from benchmarks.calibration import Calibration, calibrate, mean_of
from client.api import connect
from client.folders import Folders
from client.keys import digest, ensure_admin
from client.processes import free_ports
from datastore import messages
from datastore.edge import Address
from datastore.model import LayoutSpec, Place, Schedule, Section
from datastore.wire import ImportBody, encode
from loadbalancer.stub import BalancerStub

OPERATOR = "BEN"
ROWS, COLUMNS = 200, 100
SERVICES = 3
TIERS = ("balancer", "lock", "manager", "primary", "followers")
TIER_OF_NAME = {"node-1": "primary", "node-2": "followers", "node-3": "followers"}


# The yardsticks of the machine on which the goals were set, measured with its prototype.
GOAL_MACHINE = Calibration(rpyc_calls=12_600, sqlite_commits=8_000, sqlite_rows=277_000)


class Phase(NamedTuple):
    """One measurement: `processes` × `threads` callers, `size` holds a call, `calls` calls of each.

    Attributes:
        method: "hold", "hold_many" (each hold a request of its own) or "hold_each" (one request for holds of one service).
        goal: Holds a second on the machine of the goals; 0 for none.
        is_apart: Whether each caller has a client of its own; else the callers of a process share one, which gathers what they ask at the
            same time.
    """

    name: str
    processes: int
    threads: int
    size: int
    calls: int
    method: str = "hold"
    goal: int = 0
    is_apart: bool = False

    @property
    def yardstick(self) -> str:
        """Which field of `Calibration` bounds it: calls where each hold travels alone, rows in batches where many do."""
        return "rpyc_calls" if self.size == 1 else "sqlite_rows"

    def goal_on(self, machine: Calibration) -> float:
        """Return the goal as it would be on a machine with those yardsticks."""
        return self.goal * float(getattr(machine, self.yardstick)) / float(getattr(GOAL_MACHINE, self.yardstick))


PHASES = (
    Phase("1 caller", 1, 1, 1, 1500, goal=600),
    Phase("32 callers", 2, 16, 1, 600, goal=5_800),
    Phase("32 callers, a client each", 2, 16, 1, 600, goal=5_800, is_apart=True),
    Phase("1 caller, 64 requests a message", 1, 1, 64, 300, "hold_many"),
    Phase("16 callers, 64 requests a message", 2, 8, 64, 50, "hold_many", goal=40_000),
    Phase("1 caller, 64 holds a request", 1, 1, 64, 600, "hold_each"),
    Phase("16 callers, 64 holds a request", 2, 8, 64, 58, "hold_each", goal=40_000),
)


def configuration(appendfsync: str) -> str:
    """Return a cluster.toml in the shape of the prototype: 3 lock servers, 3 nodes, 1 manager, 1 balancer."""
    ports = free_ports(8)
    tables: dict[str, Any] = {
        "lockstore": {"appendfsync": appendfsync, "server": _rows("lock", ports[:3])},
        "datastore": {
            "node": _rows("node", ports[3:6]),
            "operator": [{"code": OPERATOR, "name": "Benchmark", "kind": "theatre", "primary": "node-1"}],
        },
        "manager": {"manager": _rows("manager", ports[6:7])},
        "loadbalancer": {
            "owner_holds_max": 1_000_000,
            "service_holds_max": 1_000_000,
            "balancer": _rows("balancer", ports[7:8]),
        },
        "client": {"timetables": []},
    }
    return tomlkit.dumps(tables)


def _rows(name: str, ports: Sequence[int]) -> list[dict[str, Any]]:
    return [{"name": f"{name}-{number}", "host": "127.0.0.1", "port": port} for number, port in enumerate(ports, 1)]


def import_hall(addresses: list[str], data: Path, first: date) -> None:
    """Give the operator one daily show in a hall of 20,000 seats."""
    section = Section("STALLS", "A", tuple(f"R{row}" for row in range(1, ROWS + 1)), tuple(f"S{seat}" for seat in range(1, COLUMNS + 1)))
    body = ImportBody(
        "Benchmark",
        "none",
        [Schedule("SHOW", "HALL", "", 1200, 1320, 0, "1234567", first.isoformat(), (first + timedelta(days=60)).isoformat(), "HALL")],
        [LayoutSpec("HALL", "Hall", (section,))],
        [Place("HALL", "Hall", "Nowhere", "XX", "UTC")],
    )
    key = ensure_admin(Folders(data))
    with connect(addresses) as holdfast:
        holdfast.call(
            "create_operator",
            messages.CreateOperator(
                request_id=secrets.token_hex(8),
                admin_key=key,
                code=OPERATOR,
                name="Benchmark",
                kind="theatre",
                operator_key_digest=digest("benchmark-operator-key"),
                deadline_ms=20_000,
            ),
        )
        holdfast.call(
            "import",
            messages.ImportTimetable(
                request_id=secrets.token_hex(8),
                key=key,
                operator=OPERATOR,
                dataset="bench",
                body=zlib.compress(encode(body)),
                deadline_ms=20_000,
            ),
        )


def seats_of(phase: int, total: int, first: date) -> list[tuple[str, str]]:
    """Return `total` seats (service id, seat id) over three services that no other phase uses."""
    services = [f"{OPERATOR}SHOW-HALL-{(first + timedelta(days=2 + phase * SERVICES + number)).isoformat()}" for number in range(SERVICES)]
    found = [
        (services[number % SERVICES], f"R{1 + number // SERVICES // COLUMNS}S{1 + number // SERVICES % COLUMNS}") for number in range(total)
    ]
    if total > SERVICES * ROWS * COLUMNS:
        raise SystemExit(f"{total} holds do not fit {SERVICES} services of {ROWS * COLUMNS} seats")
    return found


def requests_of(seats: list[tuple[str, str]], phase: Phase, key: str) -> Iterator[messages.Request]:
    """Give a caller's requests: a hold each, or so many in one."""
    if phase.method == "hold_each":
        rows: dict[str, list[str]] = {}
        for service, seat in seats:
            rows.setdefault(service, []).append(seat)
        for start in range(0, max(map(len, rows.values())), phase.size):
            for service, mine in rows.items():
                some = [[seat] for seat in mine[start : start + phase.size]]
                if some:
                    yield messages.HoldEach(
                        request_id=secrets.token_hex(12), owner_key=key, service_id=service, seats=some, ttl_ms=900_000
                    )
        return
    for start in range(0, len(seats), phase.size):
        holds = [
            messages.HoldSeats(request_id=secrets.token_hex(12), owner_key=key, service_id=service, seats=[seat], ttl_ms=900_000)
            for service, seat in seats[start : start + phase.size]
        ]
        yield holds[0] if phase.method == "hold" else messages.HoldMany(holds=holds)


def call_all(addresses: list[str], seats: list[tuple[str, str]], phase: Phase, gate: Any, results: Any) -> None:
    """One process of callers: wait at the gate, hold every seat, report each call's seconds."""
    listening = [Address(address.rpartition(":")[0], int(address.rpartition(":")[2])) for address in addresses]
    shared = BalancerStub(listening)
    durations: list[float] = []
    refused = 0
    mutex = threading.Lock()

    def caller(mine: list[tuple[str, str]]) -> None:
        nonlocal refused
        key = secrets.token_urlsafe(24)
        stub = BalancerStub(listening) if phase.is_apart else shared
        took: list[float] = []
        wrong = 0
        for request in requests_of(mine, phase, key):
            began = time.perf_counter()
            answer = stub.call(phase.method, request)
            took.append(time.perf_counter() - began)
            if isinstance(answer, messages.HoldManyAnswer):
                wrong += sum(result.hold is None for result in answer.results)
            elif isinstance(answer, messages.HoldEachAnswer):
                wrong += len(answer.refused)
        with mutex:
            durations.extend(took)
            refused += wrong

    share = phase.size * phase.calls
    threads = [threading.Thread(target=caller, args=(seats[number * share : (number + 1) * share],)) for number in range(phase.threads)]
    for service in {service for service, _ in seats}:  # What is worked out once for a service is not what is measured.
        shared.call("query_seat", messages.QuerySeat(service_id=service, seat="R1S1"))
    gate.wait()
    cpu_before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((durations, refused, time.process_time() - cpu_before))


def cpu_seconds(data: Path) -> dict[str, float]:
    """Return the CPU time so far of each tier's processes, user and system (proc(5), fields 14 and 15 of stat)."""
    tiers = dict.fromkeys(TIERS, 0.0)
    for file in (data / "run").glob("*.pid"):
        tier = TIER_OF_NAME.get(file.stem, file.stem.partition("-")[0])
        if tier in tiers:
            fields = Path(f"/proc/{file.read_text().split()[0]}/stat").read_text().rpartition(")")[2].split()
            tiers[tier] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return tiers


def measure(addresses: list[str], number: int, phase: Phase, first: date, operator_lsn: Any, data: Path) -> dict[str, Any]:
    """Run one phase and return its figures."""
    context = multiprocessing.get_context("spawn")
    total = phase.processes * phase.threads * phase.size * phase.calls
    seats = seats_of(number, total, first)
    gate = context.Barrier(phase.processes + 1)
    results = context.Queue()
    share = total // phase.processes
    workers = [
        context.Process(target=call_all, args=(addresses, seats[place * share : (place + 1) * share], phase, gate, results))
        for place in range(phase.processes)
    ]
    for worker in workers:
        worker.start()
    before = operator_lsn()
    cpu_before = cpu_seconds(data)
    gate.wait()
    began = time.perf_counter()
    reports = [results.get(timeout=300) for _ in workers]
    took = time.perf_counter() - began
    cpu_after = cpu_seconds(data)
    for worker in workers:
        worker.join()
    entries = operator_lsn() - before
    durations = sorted(seconds for report, _, _ in reports for seconds in report)
    return {
        "callers": phase.name,
        "holds": total,
        "refused": sum(refused for _, refused, _ in reports),
        "holds_per_second": round(total / took),
        "p50_ms": round(1000 * statistics.median(durations), 2),
        "p99_ms": round(1000 * durations[int(len(durations) * 0.99)], 2),
        "mean_batch": round(total / max(1, entries), 1),
        "cpu_us": {tier: round((cpu_after[tier] - cpu_before[tier]) / total * 1e6) for tier in TIERS}
        | {"callers": round(sum(cpu for _, _, cpu in reports) / total * 1e6)},
    }


def run(appendfsync: str) -> list[dict[str, Any]]:
    """Start a cluster, measure every phase, stop it."""
    first = date.today()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        data, config = Path(folder) / "data", Path(folder) / "cluster.toml"
        text = configuration(appendfsync)
        config.write_text(text)
        addresses = [f"127.0.0.1:{tomlkit.parse(text)['loadbalancer']['balancer'][0]['port']}"]  # type: ignore[index]
        command = [sys.executable, "-m", "client", "--config", str(config), "--data", str(data), "cluster"]
        subprocess.run([*command, "up", "--detach"], check=True, stdout=subprocess.DEVNULL)
        try:
            import_hall(addresses, data, first)
            with connect(addresses) as holdfast:

                def operator_lsn() -> int:
                    lines = {line.operator: line for line in holdfast.status().partitions}
                    return lines[OPERATOR].lsn

                return [measure(addresses, number, phase, first, operator_lsn, data) for number, phase in enumerate(PHASES)]
        finally:
            subprocess.run([*command, "down"], check=False, stdout=subprocess.DEVNULL)


REPORT = """# Benchmarks

Written by `python -m benchmarks.seats --report docs/benchmarks.md` on {date}: a whole cluster of ten processes and its callers on
one machine ({machine}), seats of three services of one operator, each commit on the disks of two of three copies. The
machine is shared with others, so one column of one run may be compared with another, not a figure with another day's.

| callers | lock servers | holds/s | p50 ms | p99 ms | holds an entry | holds for 1,000 of the yardstick | of the goal |
|---|---|---:|---:|---:|---:|---:|---:|
{rows}

The design asks for 600 holds/s of one caller, 5,800 of 32 and 40,000 of callers that send 64 at a time, in this shape with
lock servers that do not flush (`appendfsync no`). Those numbers were set on a faster machine, so each is measured against a
yardstick of the same run: what this machine does with nothing of ours in it (`python -m benchmarks.calibration`). It was, before
and after each half of the table:

{yardsticks}

The machine of the goals: {goal_machine}. Holds that travel alone are measured against RPyC calls, those in bulk against SQLite
rows in batches. "Of the goal" is holds/s divided by the goal scaled down by that yardstick; 100 % means that on the machine of
the goals the goal would be met, as far as one yardstick can say. Yardsticks that differ much before and after mean that
somebody else used the machine meanwhile.

Callers are threads of two processes. Those of a process share a client, as a web server's threads do, and what they ask while a message
is under way goes together in the next one (docs/decisions/0007); callers with "a client each" send every hold by itself.

The shipped configuration flushes every write (`always`), because a lock
server that forgets breaks the order of buyers; the rows beside each other say what that costs.

What one hold costs in CPU time, in microseconds, by tier (all lock servers and both followers together) and at its caller, in the
same runs. On a machine of {cores} cores the sum is what bounds the bulk rows.

| callers | lock servers | balancer | lock servers' | manager | primary | followers' | caller | sum |
|---|---|---:|---:|---:|---:|---:|---:|---:|
{costs}

Other measurements: `python -m benchmarks.locks` (SeatLocks beside plain redlock-py), `python -m benchmarks.edge` (our RPyC
edge beside plain RPyC), `python -m benchmarks.importing FOLDER --cluster` (a large timetable).
"""


def of_goal(row: dict[str, Any], phase: Phase, machine: Calibration) -> tuple[str, str]:
    """Return what to print of a row beside the yardstick: holds for 1,000 of it, and the share of the scaled goal or "-"."""
    ratio = 1000 * row["holds_per_second"] / getattr(machine, phase.yardstick)
    return f"{ratio:,.1f}", f"{row['holds_per_second'] / phase.goal_on(machine):.0%}" if phase.goal else "-"


def calibrated(appendfsync: str) -> tuple[list[dict[str, Any]], list[Calibration]]:
    """Return the figures of a run, and the machine's yardsticks from before and after it."""
    before = calibrate()
    figures = run(appendfsync)
    return figures, [before, calibrate()]


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def report(file: Path) -> None:
    """Measure with and without flushing lock servers and write the page."""
    lines: list[str] = []
    costs: list[str] = []
    yardsticks: list[str] = []
    for appendfsync in ("no", "always"):
        figures, runs = calibrated(appendfsync)
        yardsticks += [f"- `{appendfsync}`, {when}: {one.line()}" for when, one in zip(("before", "after"), runs, strict=True)]
        for phase, row in zip(PHASES, figures, strict=True):
            first = f"| {row['callers']} | `{appendfsync}` | "
            told = [f"{row['holds_per_second']:,}", row["p50_ms"], row["p99_ms"], row["mean_batch"], *of_goal(row, phase, mean_of(runs))]
            lines.append(f"{first}{' | '.join(map(str, told))} |")
            cpu = row["cpu_us"]
            costs.append(f"{first}{' | '.join(map(str, cpu.values()))} | {sum(cpu.values())} |")
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    kept = re.search(r"\n## .*", before, re.S)  # Every section is written by a benchmark of its own.
    page = REPORT.format(
        date=date.today().isoformat(),
        machine=machine(),
        rows="\n".join(lines),
        costs="\n".join(costs),
        yardsticks="\n".join(yardsticks),
        goal_machine=GOAL_MACHINE.line(),
        cores=os.cpu_count(),
    )
    file.write_text(page + (kept.group() if kept else ""), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--appendfsync", choices=("no", "everysec", "always"), default="no")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure both ways and write the page of the docs")
    options = parser.parse_args()
    if options.report:
        report(options.report)
        return
    figures, runs = calibrated(options.appendfsync)
    if options.json:
        yardsticks = [one._asdict() for one in runs]
        told = {"machine": machine(), "appendfsync": options.appendfsync, "yardsticks": yardsticks, "phases": figures}
        print(json.dumps(told, indent=2))
        return
    print(f"{machine()}, appendfsync {options.appendfsync}")
    for when, one in zip(("before", "after"), runs, strict=True):
        print(f"{when}: {one.line()}")
    print(
        f"{'callers':<34}{'holds/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'batch':>8}{'refused':>9}{'CPU us':>8}{'per 1,000':>11}{'of goal':>9}"
    )
    for phase, row in zip(PHASES, figures, strict=True):
        ratio, share = of_goal(row, phase, mean_of(runs))
        print(
            f"{row['callers']:<34}{row['holds_per_second']:>10,}{row['p50_ms']:>9}{row['p99_ms']:>9}{row['mean_batch']:>8}{row['refused']:>9}"
            f"{sum(row['cpu_us'].values()):>8}{ratio:>11}{share:>9}"
        )
    print("per 1,000: holds for 1,000 RPyC calls (alone) or SQLite rows (bulk) of this machine; of goal: of the goal scaled by that")


if __name__ == "__main__":
    main()
