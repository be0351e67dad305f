"""SeatLocks beside plain redlock-py, on the same lock servers in the same run.

    python -m benchmarks.locks [--seconds 2] [--servers 3]

Every row locks and releases; a key counts once for both. "calls" are batches: what one caller waits for. redlock-py has no
batches and no fences. It is given short time-outs and no retries, as its defaults would take seconds for a dead server;
with a dead server it raises after it has locked, and the row counts what it raised. Figures of one machine compare with
each other, not with those of another one.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redlock as redlock_py

from lockstore.seatlocks import Grant, LockRequest, SeatLocks
from tests.integration.lockstore.servers_fixture import LockServerSet

Call = Callable[[int], tuple[int, int]]
TIMEOUT_MS = 80


def ours(locks: SeatLocks, batch: int) -> Call:
    """Return a call that locks a batch and releases the one before, as a pipelined caller does."""
    held: list[Grant] = []
    # What the row before still holds must not stand in this one's way.
    row = secrets.token_hex(4)

    def call(number: int) -> tuple[int, int]:
        requests = [LockRequest((f"seat:AR/AR1140-EZE-2026-12-01/{row}-{number % 97}-{place}",)) for place in range(batch)]
        outcomes = locks.acquire_many(requests, held)
        held[:] = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
        return len(held), batch - len(held)

    return call


def ours_apart(locks: SeatLocks) -> Call:
    """Return a call that locks one key and releases it in a round of its own, as redlock-py's caller does."""

    def call(number: int) -> tuple[int, int]:
        (outcome,) = locks.acquire_many([LockRequest((f"seat:apart/{number % 97}",))])
        if not isinstance(outcome, Grant):
            return 0, 1
        locks.release_many([outcome])
        return 1, 0

    return call


def plain(servers: LockServerSet) -> Call:
    """Return a call that locks and unlocks one key with redlock-py."""
    manager = redlock_py.Redlock([servers.plain(name) for name in servers.names], retry_count=1, retry_delay=0.001)

    def call(number: int) -> tuple[int, int]:
        try:
            lock = manager.lock(f"seat:plain/{number}", 5_000)
        except redlock_py.MultipleRedlockException:
            return 0, 1
        if not lock:
            return 0, 1
        manager.unlock(lock)
        return 1, 0

    return call


def measure(name: str, call: Call, seconds: float) -> float:
    """Run one row, print it, and return its keys per second."""
    call(0)
    times: list[float] = []
    keys = failed = number = 0
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        number += 1
        good, bad = call(number)
        keys, failed = keys + good, failed + bad
        times.append((time.perf_counter() - began) * 1_000)
    rate = keys / sum(times) * 1_000
    times.sort()
    median, late = statistics.median(times), times[len(times) * 99 // 100]
    spread = f"{median:>9.2f} {late:>9.2f} {times[-1]:>9.1f} ms"
    print(f"  {name:<34}{rate:>10,.0f} keys/s {spread} {failed:>7} failed", flush=True)
    return rate


def compare(servers: LockServerSet, seconds: float) -> None:
    """Measure all clients on one set of servers in its present state."""
    theirs = measure("redlock-py, 1 key", plain(servers), seconds)
    locks = servers.client()
    try:
        rates = [measure("SeatLocks, 1 key, release apart", ours_apart(locks), seconds)]
        rates += [measure(f"SeatLocks, batch of {batch}", ours(locks, batch), seconds) for batch in (1, 32, 64)]
    finally:
        locks.close()
    if theirs:
        print("  ratio to redlock-py: " + ", ".join(f"{rate / theirs:.1f}" for rate in rates))
    else:
        print("  ratio to redlock-py: it obtained no lock")


def main() -> int:
    """Run the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--servers", type=int, default=3, choices=(3, 5))
    options = parser.parse_args()
    print(f"  {'':<34}{'':>17} {'p50':>9} {'p99':>9} {'max':>9}")
    for policy in ("no", "everysec", "always"):
        with tempfile.TemporaryDirectory() as folder, LockServerSet(
            Path(folder), options.servers, appendfsync=policy, timeout_ms=TIMEOUT_MS, suspect_ms=500
        ) as servers:
            print(f"appendfsync {policy}, {options.servers} servers up")
            compare(servers, options.seconds)
            if policy != "always":
                continue
            servers.kill(servers.names[-1])
            print(f"appendfsync {policy}, one of {options.servers} dead")
            compare(servers, options.seconds)
            servers.start(servers.names[-1])
            servers.freeze(servers.names[-1])
            print(f"appendfsync {policy}, one of {options.servers} frozen")
            compare(servers, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
