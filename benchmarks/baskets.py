"""What a trip over three operators costs beside one over one: hold and confirm, one caller, in turns on one cluster.

    python -m benchmarks.baskets            # 3 lock servers, 1 balancer, 1 manager, 3 nodes, AOF off
    python -m benchmarks.baskets --rounds 500 --json

Starts its own cluster on free loopback ports in a temporary folder, with three operators whose primaries are on three
nodes. Every round buys one seat of one operator and one trip of a seat at each of the three, in turns, so that both meet
the same machine. Prints p50 and p99 in milliseconds of hold, confirm and both, and their ratio (aim: at most 2.5).
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import tomlkit

from client.api import Holdfast, Passenger, connect
from client.folders import Folders
from client.keys import digest, ensure_admin
from client.processes import free_ports
from datastore import messages
from datastore.edge import Address
from datastore.errors import HoldfastError
from datastore.model import LayoutSpec, Place, Schedule, Section
from datastore.wire import ImportBody, encode
from loadbalancer.stub import BalancerStub

OPERATORS = ("BENA", "BENB", "BENC")
ROWS, COLUMNS = 100, 40
WARM_UP = 20
SEEN_S = 20


def configuration() -> tuple[str, str]:
    """Return a cluster.toml and its balancer's address."""
    ports = free_ports(8)
    tables: dict[str, Any] = {
        "lockstore": {"appendfsync": "no", "server": _rows("lock", ports[:3])},
        "datastore": {
            "node": _rows("node", ports[3:6]),
            "operator": [
                {"code": code, "name": code, "kind": "theatre", "primary": f"node-{number}"} for number, code in enumerate(OPERATORS, 1)
            ],
        },
        "manager": {"manager": _rows("manager", ports[6:7])},
        "loadbalancer": {"owner_holds_max": 1_000_000, "service_holds_max": 1_000_000, "balancer": _rows("balancer", ports[7:8])},
        "client": {"timetables": []},
    }
    return tomlkit.dumps(tables), f"127.0.0.1:{ports[7]}"


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


def figures(operators: int, times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    parts = {"hold": [one for one, _ in times], "confirm": [two for _, two in times], "both": [one + two for one, two in times]}
    row: dict[str, Any] = {"operators": operators}
    for name, values in parts.items():
        row[f"{name}_p50_ms"] = round(statistics.median(values), 2)
        row[f"{name}_p99_ms"] = round(sorted(values)[int(len(values) * 0.99)], 2)
    return row


def run(rounds: int) -> list[dict[str, Any]]:
    """Start a cluster, measure, stop it."""
    first = date.today()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        data, config = Path(folder) / "data", Path(folder) / "cluster.toml"
        text, address = configuration()
        config.write_text(text)
        command = [sys.executable, "-m", "client", "--config", str(config), "--data", str(data), "cluster"]
        subprocess.run([*command, "up", "--detach"], check=True, stdout=subprocess.DEVNULL)
        try:
            import_halls(address, data, first)
            return measure(address, rounds, first)
        finally:
            subprocess.run([*command, "down"], check=False, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = run(options.rounds)
    ratios = {name: round(rows[1][f"{name}_p50_ms"] / rows[0][f"{name}_p50_ms"], 2) for name in ("hold", "confirm", "both")}
    if options.json:
        print(json.dumps({"rows": rows, "ratios": ratios}, indent=2))
        return
    print(f"{'operators':<11}{'hold p50':>10}{'p99':>8}{'confirm p50':>13}{'p99':>8}{'both p50':>10}{'p99':>8}   (ms)")
    for row in rows:
        print(
            f"{row['operators']:<11}{row['hold_p50_ms']:>10}{row['hold_p99_ms']:>8}{row['confirm_p50_ms']:>13}{row['confirm_p99_ms']:>8}"
            f"{row['both_p50_ms']:>10}{row['both_p99_ms']:>8}"
        )
    print(f"three operators cost {ratios['hold']} times one for a hold, {ratios['confirm']} for a confirm, {ratios['both']} for both (p50)")


if __name__ == "__main__":
    main()
