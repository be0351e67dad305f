"""How many holds a second a whole cluster sells: closed-loop callers one at a time, and bulk callers of 64.

    python -m benchmarks.seats                       # 3 lock servers, 1 balancer, 1 manager, 3 nodes, AOF off
    python -m benchmarks.seats --appendfsync always  # what durable lock servers cost
    python -m benchmarks.seats --turns 1             # a first impression
    python -m benchmarks.seats --report docs/benchmarks.md
    python -m benchmarks.seats --json

Starts its own cluster on free loopback ports in a temporary folder, imports one operator with a hall of 20,000 seats,
and holds seats of three of its services, each seat once. Callers are threads of two other processes; those of a process share a
client, unless it is said that they have one each. Everything shares the machine, so the figures are for comparison within one run.
Prints operations per second, p50 and p99 in milliseconds, the mean batch (holds in one entry of the log), and the CPU time that a
hold costs each tier and its caller in microseconds.

Beside them stands what the machine does with nothing of ours in it (`calibration.py`), measured before and after each turn, and each
goal as it would be on this machine: the goals were set on a faster one, whose yardsticks are `phases.GOAL_MACHINE`. A ratio to a yardstick
of the same turn may be compared with another machine's, a number of holds may not. Of several turns, each with a new cluster, the one with
the median of those ratios is told, and the lowest and highest: what somebody else did on the machine meanwhile is in one turn, not in all.
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
from typing import Any

import tomlkit

from benchmarks.calibration import calibrate
from benchmarks.phases import GOAL_MACHINE, PHASES, Phase, Turn, told_of
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
TURNS = 5


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
        started = subprocess.run([*command, "up", "--detach"], check=False, capture_output=True, text=True)
        if started.returncode:
            raise SystemExit(f"the cluster did not start:\n{started.stderr}")
        try:
            import_hall(addresses, data, first)
            with connect(addresses) as holdfast:

                def operator_lsn() -> int:
                    lines = {line.operator: line for line in holdfast.status().partitions}
                    return lines[OPERATOR].lsn

                return [measure(addresses, number, phase, first, operator_lsn, data) for number, phase in enumerate(PHASES)]
        finally:
            subprocess.run([*command, "down"], check=False, capture_output=True)


REPORT = """# Benchmarks

Written by `python -m benchmarks.seats --report docs/benchmarks.md` on {date}: a whole cluster of ten processes and its callers on
one machine ({machine}), seats of three services of one operator, each commit on the disks of two of three copies. The
machine is shared with others, so one column of one run may be compared with another, not a figure with another day's. Each row was
measured in {turns} turns, each with a new cluster, `no` and `always` one after the other, and is that of the turn in the middle.

| callers | lock servers | holds/s | p50 ms | p99 ms | holds an entry | holds for 1,000 of the yardstick | of the goal |
|---|---|---:|---:|---:|---:|---:|---:|
{rows}

The design asks for 600 holds/s of one caller, 5,800 of 32 and 40,000 of callers that send 64 at a time, in this shape with
lock servers that do not flush (`appendfsync no`). Those numbers were set on a faster machine, so each is measured against a
yardstick of the same turn: what this machine does with nothing of ours in it (`python -m benchmarks.calibration`). It was, before
and after each turn:

{yardsticks}

The machine of the goals: {goal_machine}. Holds that travel alone are measured against RPyC calls, those in bulk against SQLite
rows in batches. "Of the goal" is holds/s divided by the goal scaled down by that yardstick, and in parentheses the turns with the least
and the most; 100 % means that on the machine of the goals the goal would be met, as far as one yardstick can say. Yardsticks that
differ much before and after mean that somebody else used the machine meanwhile.

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


def take_turn(appendfsync: str) -> Turn:
    """Measure every phase once, between two looks at the machine."""
    before = calibrate()
    rows = run(appendfsync)
    return Turn(before, rows, calibrate())


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def report(file: Path, number: int) -> None:
    """Measure with and without flushing lock servers, in turns, and write the page."""
    ways: dict[str, list[Turn]] = {"no": [], "always": []}
    for place in range(1, number + 1):
        for appendfsync, turns in ways.items():
            print(f"turn {place} of {number}, {appendfsync}", file=sys.stderr)
            turns.append(take_turn(appendfsync))
    lines: list[str] = []
    costs: list[str] = []
    yardsticks: list[str] = []
    for appendfsync, turns in ways.items():
        for place, turn in enumerate(turns, 1):
            yardsticks += [f"- `{appendfsync}`, turn {place}, before: {turn.before.line()}; after: {turn.after.line()}"]
        for told in told_of(turns):
            row, cpu = told.row, told.row["cpu_us"]
            first = f"| {row['callers']} | `{appendfsync}` | "
            ratio = f"{told.per_thousand:,.1f}"
            cells = [f"{row['holds_per_second']:,}", row["p50_ms"], row["p99_ms"], row["mean_batch"], ratio, told.share()]
            lines.append(f"{first}{' | '.join(map(str, cells))} |")
            costs.append(f"{first}{' | '.join(map(str, cpu.values()))} | {sum(cpu.values())} |")
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    kept = re.search(r"\n## .*", before, re.S)  # Every section is written by a benchmark of its own.
    page = REPORT.format(
        date=date.today().isoformat(),
        machine=machine(),
        turns=number,
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
    parser.add_argument("--turns", type=_positive, default=TURNS, metavar="N", help=f"how often to measure each phase (default: {TURNS})")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure both ways and write the page of the docs")
    options = parser.parse_args()
    if options.report:
        report(options.report, options.turns)
        return
    turns = [take_turn(options.appendfsync) for _ in range(options.turns)]
    if options.json:
        figures = {"machine": machine(), "appendfsync": options.appendfsync, "turns": [_as_json(turn) for turn in turns]}
        print(json.dumps(figures, indent=2))
        return
    print(f"{machine()}, appendfsync {options.appendfsync}, the middle of {options.turns} turn{'s' if options.turns > 1 else ''}")
    for place, turn in enumerate(turns, 1):
        print(f"turn {place}, before: {turn.before.line()}\n{' ' * len(f'turn {place}')}   after: {turn.after.line()}")
    print(
        f"{'callers':<34}{'holds/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'batch':>8}{'refused':>9}{'CPU us':>8}{'per 1,000':>11}{'of goal':>18}"
    )
    for told in told_of(turns):
        row = told.row
        print(
            f"{row['callers']:<34}{row['holds_per_second']:>10,}{row['p50_ms']:>9}{row['p99_ms']:>9}{row['mean_batch']:>8}{row['refused']:>9}"
            f"{sum(row['cpu_us'].values()):>8}{told.per_thousand:>11,.1f}{told.share():>18}"
        )
    print("per 1,000: holds for 1,000 RPyC calls (alone) or SQLite rows (bulk) of this machine; of goal: of the goal scaled by that")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least one turn")
    return number


def _as_json(turn: Turn) -> dict[str, Any]:
    return {"before": turn.before._asdict(), "phases": turn.rows, "after": turn.after._asdict()}


if __name__ == "__main__":
    main()
