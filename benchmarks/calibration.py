"""What this machine does with nothing of ours in it, so that figures of different machines can be compared as ratios.

    python -m benchmarks.calibration

Three yardsticks, one after the other, a few seconds each, in a temporary folder of the disk that `TMPDIR` names:

* bound calls of plain RPyC a second: 200 bytes there and back between two processes, one caller. A hold of one caller is a
  chain of such calls.
* commits a second of SQLite in WAL mode, `synchronous = FULL`, one row of 200 bytes each: what a flush costs.
* rows a second in such commits of 64 rows: what a batch costs.

They stand beside the figures of `benchmarks.seats`, taken before and after it: if the two differ much, somebody else used
the machine meanwhile and the figures between them say little.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import rpyc
from rpyc.core.stream import SocketStream
from rpyc.utils.factory import connect_stream

from benchmarks.edge import EchoService, NoDelayServer

PAYLOAD = b"x" * 200
ROWS_TOGETHER = 64
SECONDS = 2.0
WARM_UP_CALLS = 500
CONNECT_S = 30.0


class Calibration(NamedTuple):
    """The three yardsticks, each a number a second."""

    rpyc_calls: float
    sqlite_commits: float
    sqlite_rows: float

    def line(self) -> str:
        """Return them for a person to read."""
        return (
            f"bound RPyC calls/s {self.rpyc_calls:,.0f}, SQLite FULL commits/s {self.sqlite_commits:,.0f}, "
            f"rows/s in commits of {ROWS_TOGETHER} {self.sqlite_rows:,.0f}"
        )


def calibrate(seconds: float = SECONDS) -> Calibration:
    """Measure all three, `seconds` each."""
    return Calibration(_rpyc_calls(seconds), _sqlite_rows(seconds, 1), _sqlite_rows(seconds, ROWS_TOGETHER))


def mean_of(runs: list[Calibration]) -> Calibration:
    """Return the mean of each yardstick."""
    return Calibration(*(sum(values) / len(values) for values in zip(*runs, strict=True)))


def _rate(step: Callable[[], int], seconds: float) -> float:
    """Return how many a second, where each step does as many as it returns."""
    done = 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        done += step()
    return done / took


def _rpyc_calls(seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    server = context.Process(target=_serve, args=(sending,), daemon=True)
    server.start()
    try:
        connection = connect_stream(_connected(receiving.recv()))
        bound = connection.root.call

        def call() -> int:
            bound("echo", PAYLOAD)
            return 1

        for _ in range(WARM_UP_CALLS):
            call()
        found = _rate(call, seconds)
        connection.close()
        return found
    finally:
        server.terminate()
        server.join()


def _connected(port: int) -> SocketStream:
    """Return a connection to the server, which says its port a moment before it listens."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return SocketStream.connect("127.0.0.1", port, nodelay=True)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _serve(ready: Connection) -> None:
    server = NoDelayServer(EchoService, hostname="127.0.0.1", port=0)
    ready.send(server.port)
    server.start()


def _sqlite_rows(seconds: float, together: int) -> float:
    rows = [(PAYLOAD,)] * together
    with tempfile.TemporaryDirectory(prefix="holdfast-calibration-") as folder:
        database = sqlite3.connect(Path(folder) / "rows.sqlite", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("CREATE TABLE entry (lsn INTEGER PRIMARY KEY, body BLOB)")

            def commit() -> int:
                database.execute("BEGIN")
                database.executemany("INSERT INTO entry (body) VALUES (?)", rows)
                database.execute("COMMIT")
                return together

            return _rate(commit, seconds)
        finally:
            database.close()


if __name__ == "__main__":
    print(f"RPyC {rpyc.__version__}, SQLite {sqlite3.sqlite_version}: {calibrate().line()}")
