"""What a trip over three operators costs beside one over one, and what a fight over A+B and B+A leaves of the rate.

    python -m benchmarks.baskets            # 3 lock servers, 2 balancers, 1 manager, 3 nodes, AOF off
    python -m benchmarks.baskets --rounds 500 --json
    python -m benchmarks.baskets --report docs/benchmarks.md

Starts its own cluster on free loopback ports in a temporary folder, with three operators whose primaries are on three
nodes. Every round buys one seat of one operator and one trip of a seat at each of the three, in turns, so that both meet
the same machine: p50 and p99 in milliseconds of hold, confirm and both, and their ratio (aim: at most 2.5).

Then one buyer holds and releases a seat at A and one at B, alone; and two buyers, each at a balancer of his own, want the same two seats,
one as A+B and the other as B+A. Both in turns of a few seconds. The trips that are held a second in the fight are compared with those
of the buyer alone (aim: at least half), and nobody may win nothing.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import tomlkit

from benchmarks.pages import machine, put_section
from client.api import Holdfast, Passenger, connect
from client.folders import Folders
from client.keys import digest, ensure_admin
from client.processes import free_ports
from datastore import messages
from datastore.edge import Address
from datastore.errors import HoldfastError, LockTimeout, SeatUnavailable
from datastore.model import LayoutSpec, Place, Schedule, Section
from datastore.wire import ImportBody, encode
from loadbalancer.stub import BalancerStub

OPERATORS = ("BENA", "BENB", "BENC")
ROWS, COLUMNS = 100, 40
WARM_UP = 20
SEEN_S = 20
TURN_S = 3.0
RATIO_MOST, PROGRESS_LEAST = 2.5, 0.5


def configuration() -> tuple[str, list[str]]:
    """Return a cluster.toml and its balancers' addresses."""
    ports = free_ports(9)
    tables: dict[str, Any] = {
        "lockstore": {"appendfsync": "no", "server": _rows("lock", ports[:3])},
        "datastore": {
            "node": _rows("node", ports[3:6]),
            "operator": [
                {"code": code, "name": code, "kind": "theatre", "primary": f"node-{number}"} for number, code in enumerate(OPERATORS, 1)
            ],
        },
        "manager": {"manager": _rows("manager", ports[6:7])},
        "loadbalancer": {"owner_holds_max": 1_000_000, "service_holds_max": 1_000_000, "balancer": _rows("balancer", ports[7:9])},
        "client": {"timetables": []},
    }
    return tomlkit.dumps(tables), [f"127.0.0.1:{port}" for port in ports[7:9]]


def _rows(name: str, ports: Sequence[int]) -> list[dict[str, Any]]:
    return [{"name": f"{name}-{number}", "host": "127.0.0.1", "port": port} for number, port in enumerate(ports, 1)]


def import_halls(address: str, data: Path, first: date) -> None:
    """Give every operator one daily show in a hall of 4,000 seats."""
    section = Section("STALLS", "A", tuple(f"R{row}" for row in range(1, ROWS + 1)), tuple(f"S{seat}" for seat in range(1, COLUMNS + 1)))
    last = (first + timedelta(days=60)).isoformat()
    body = ImportBody(
        "Benchmark",
        "none",
        [Schedule("SHOW", "HALL", "", 1200, 1320, 0, "1234567", first.isoformat(), last, "HALL")],
        [LayoutSpec("HALL", "Hall", (section,))],
        [Place("HALL", "Hall", "Nowhere", "XX", "UTC")],
    )
    key = ensure_admin(Folders(data))
    host, _, port = address.rpartition(":")
    stub = BalancerStub([Address(host, int(port))])
    for code in OPERATORS:
        for method, request in (
            (
                "create_operator",
                messages.CreateOperator(
                    request_id=secrets.token_hex(8),
                    admin_key=key,
                    code=code,
                    name=code,
                    kind="theatre",
                    operator_key_digest=digest(secrets.token_hex(16)),
                    deadline_ms=60_000,
                ),
            ),
            (
                "import",
                messages.ImportTimetable(
                    request_id=secrets.token_hex(8),
                    key=key,
                    operator=code,
                    dataset="bench",
                    body=zlib.compress(encode(body)),
                    deadline_ms=60_000,
                ),
            ),
        ):
            stub.call(method, request)
    stub.close()


def wait_seen(holdfast: Holdfast, services: Sequence[str]) -> None:
    """Wait until the balancer's view has every service."""
    end = time.monotonic() + SEEN_S
    for service in services:
        while True:
            try:
                holdfast.seat_map(service)
                break
            except HoldfastError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)


def buy(holdfast: Holdfast, services: Sequence[str], seat: str) -> tuple[float, float]:
    """Hold and confirm one seat on every service; return how long each took, in milliseconds."""
    started = time.perf_counter()
    held = holdfast.hold_trip([(service, [seat]) for service in services]) if len(services) > 1 else holdfast.hold(services[0], [seat])
    between = time.perf_counter()
    holdfast.confirm(held.hold_id, [Passenger("Benchmark")])
    return (between - started) * 1000, (time.perf_counter() - between) * 1000


def measure(address: str, rounds: int, first: date) -> list[dict[str, Any]]:
    """Return the figures of one operator and of three."""
    day = (first + timedelta(days=30)).isoformat()
    services = [f"{code}SHOW-HALL-{day}" for code in OPERATORS]
    alone = [f"{code}SHOW-HALL-{(first + timedelta(days=31)).isoformat()}" for code in OPERATORS]
    taken: dict[int, list[tuple[float, float]]] = {1: [], 3: []}
    with connect([address]) as holdfast:
        wait_seen(holdfast, [*services, *alone])
        for number in range(rounds + WARM_UP):
            seat = f"R{number // COLUMNS + 1}S{number % COLUMNS + 1}"
            one, three = buy(holdfast, [alone[number % 3]], seat), buy(holdfast, services, seat)
            if number >= WARM_UP:
                taken[1].append(one)
                taken[3].append(three)
    return [figures(operators, times) for operators, times in taken.items()]


class Fight:
    """Buyers of one seat at A and one at B, who hold and release: one alone, or two who want the same in either order."""

    def __init__(self, addresses: Sequence[str], first: date) -> None:
        """Prepare; `addresses` are the balancers'."""
        day = (first + timedelta(days=32)).isoformat()
        self._legs = [(f"{code}SHOW-HALL-{day}", ["R1S1"]) for code in OPERATORS[:2]]
        self._addresses = addresses

    def turn(self, buyers: int) -> list[int]:
        """Return how many trips each of one or two buyers held in a turn."""
        won = [0] * buyers
        gate = threading.Barrier(buyers)

        def want(number: int) -> None:
            legs = self._legs if number % 2 == 0 else self._legs[::-1]
            with connect([self._addresses[number]], owner_key=f"owner-key-of-fighter-{number}") as holdfast:
                wait_seen(holdfast, [service for service, _ in legs])
                gate.wait(SEEN_S)
                end = time.monotonic() + TURN_S
                while time.monotonic() < end:
                    try:
                        held = holdfast.hold_trip(legs)
                    except (SeatUnavailable, LockTimeout):
                        continue
                    won[number] += 1
                    holdfast.release(held.hold_id)

        threads = [threading.Thread(target=want, args=(number,)) for number in range(buyers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won


def fight(addresses: Sequence[str], seconds: float, first: date) -> dict[str, Any]:
    """Return trips a second of one buyer alone and of two who cross, in turns, for about so many seconds each."""
    scene = Fight(addresses, first)
    scene.turn(2)  # Not counted: connections and views.
    turns = max(1, round(seconds / TURN_S))
    alone, crossing = [], []
    for _ in range(turns):
        alone += scene.turn(1)
        crossing.append(scene.turn(2))
    return {
        "seconds": turns * TURN_S,
        "alone_per_s": round(sum(alone) / (turns * TURN_S), 1),
        "crossing_per_s": round(sum(map(sum, crossing)) / (turns * TURN_S), 1),
        "won": [sum(one) for one in zip(*crossing, strict=True)],
        "progress": round(sum(map(sum, crossing)) / max(1, sum(alone)), 2),
    }


def figures(operators: int, times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    parts = {"hold": [one for one, _ in times], "confirm": [two for _, two in times], "both": [one + two for one, two in times]}
    row: dict[str, Any] = {"operators": operators}
    for name, values in parts.items():
        row[f"{name}_p50_ms"] = round(statistics.median(values), 2)
        row[f"{name}_p99_ms"] = round(sorted(values)[int(len(values) * 0.99)], 2)
    return row


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Start a cluster, measure, stop it."""
    first = date.today()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        data, config = Path(folder) / "data", Path(folder) / "cluster.toml"
        text, addresses = configuration()
        config.write_text(text)
        command = [sys.executable, "-m", "client", "--config", str(config), "--data", str(data), "cluster"]
        subprocess.run([*command, "up", "--detach"], check=True, stdout=subprocess.DEVNULL)
        try:
            import_halls(addresses[0], data, first)
            rows = measure(addresses[0], rounds, first)
            ratios = {name: round(rows[1][f"{name}_p50_ms"] / rows[0][f"{name}_p50_ms"], 2) for name in ("hold", "confirm", "both")}
            return {"rows": rows, "ratios": ratios, "fight": fight(addresses, seconds, first)}
        finally:
            subprocess.run([*command, "down"], check=False, stdout=subprocess.DEVNULL)


HEADING = "Trips over several operators"


def section(found: dict[str, Any]) -> str:
    """Return the section of the docs about one measurement."""
    ratios, fought = found["ratios"], found["fight"]
    lines = [
        f"| {row['operators']} | {row['hold_p50_ms']} | {row['hold_p99_ms']} | {row['confirm_p50_ms']} | {row['confirm_p99_ms']}"
        f" | {row['both_p50_ms']} | {row['both_p99_ms']} |"
        for row in found["rows"]
    ]
    won = " and ".join(f"{one:,}" for one in fought["won"])
    return "\n".join(
        [
            f"## {HEADING}\n",
            f"Written by `python -m benchmarks.baskets --report docs/benchmarks.md` on {machine()}, the machine shared with others:",
            "one caller buys a seat of one operator, then a trip of a seat at each of three, in turns; milliseconds.\n",
            "| operators | hold p50 | p99 | confirm p50 | p99 | both p50 | p99 |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
            f"Three operators cost {ratios['hold']} times one for a hold, {ratios['confirm']} for a confirm and {ratios['both']} for"
            f" both (p50); the aim is {RATIO_MOST} at most.\n",
            f"A fight: one buyer who holds and releases a seat at A and one at B makes {fought['alone_per_s']} trips a second alone. Two"
            " buyers at two balancers who want",
            f"the same two seats, one as A+B and the other as B+A, make {fought['crossing_per_s']} together, in turns with the first,"
            f" {fought['seconds']:.0f} s each: {fought['progress']} of the",
            f"undisturbed rate (the aim is {PROGRESS_LEAST} at least). They won {won}.\n",
        ]
    )


def main() -> int:
    """Measure, print, and write the section where asked; return 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60, help="of the fight, and as long again of one buyer alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the section into this page of the docs")
    options = parser.parse_args()
    found = run(options.rounds, options.seconds)
    print(json.dumps(found, indent=2) if options.json else section(found))
    if options.report:
        put_section(options.report, HEADING, section(found))
    fought = found["fight"]
    return 0 if found["ratios"]["both"] <= RATIO_MOST and fought["progress"] >= PROGRESS_LEAST and all(fought["won"]) else 1


if __name__ == "__main__":
    sys.exit(main())
