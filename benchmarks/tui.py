"""How soon a key press is on the screen of the terminal application while others' holds arrive, and what it costs to leave it open.

    python -m benchmarks.tui                              # 100 updates a second
    python -m benchmarks.tui --report docs/benchmarks.md
    python -m benchmarks.tui --json

Runs the application in a terminal of its own (a pseudo terminal, 120x40) on a map of 500 seats, whose client answers from memory: what
is measured is the application. Seats of the rear rows are taken and given back so many times a second; in the front rows the cursor
walks. Measured is the time from writing the key to the terminal until the cursor's new place has been written to the screen, and the
processor time of the application while nothing happens, and while the cluster is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from asyncio import create_task, sleep
from asyncio import run as asyncio_run
from datetime import UTC, datetime
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

from benchmarks.pages import put_section

COLUMNS, LINES = 120, 40
KEYS = 200
PAUSE_S = 0.06  # Between two key presses; longer than a person needs who holds the key down.
SEEN_S = 20.0
IDLE_S = 20.0
START_S = 60.0
GONE_S = 8.0  # So long nobody has answered when counting begins.
TARGET_MS = 50.0
CURSOR = "[·]".encode()
HEADING = "The terminal application"
ROWS = 50
BUSY_FROM = 30  # The first row whose seats are taken and given back.


class Figures(NamedTuple):
    """Milliseconds from key to screen, `calm` without updates; and the share of one processor core in percent."""

    updates_s: int
    keys: int
    p50_ms: float
    p95_ms: float
    worst_ms: float
    calm_p50_ms: float
    calm_p95_ms: float
    calm_worst_ms: float
    busy_percent: float
    idle_percent: float
    gone_percent: float


class Application:
    """The application as a child on a pseudo terminal."""

    def __init__(self, folder: Path, mode: str, updates_s: int = 0) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        command = [sys.executable, "-m", "benchmarks.tui", "--child", mode, "--updates", str(updates_s), "--folder", str(folder)]
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        # The application draws on its stderr.
        self._child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
        os.close(slave)

    def read_until(self, wanted: bytes, limit_s: float) -> bool:
        """Read what is written to the screen until `wanted` is there; return whether it came."""
        end, seen = time.monotonic() + limit_s, b""
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._master], [], [], left)
            if not ready:
                return False
            seen = seen[-64:] + os.read(self._master, 65_536)
            if wanted in seen:
                return True
        return False

    def drain(self, seconds: float) -> None:
        """Read and forget what is written for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                os.read(self._master, 65_536)

    def press(self, key: bytes) -> float:
        """Press a key; return the milliseconds until the cursor's new place was written."""
        begun = time.perf_counter()
        os.write(self._master, key)
        if not self.read_until(CURSOR, SEEN_S):
            raise RuntimeError(f"{key!r} was not on the screen after {SEEN_S:.0f} s")
        return 1000 * (time.perf_counter() - begun)

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def share(self, seconds: float, other: Application | None = None) -> float:
        """Return what share of a core it uses over so long, in percent; what `other` writes meanwhile is read, so that it goes on."""
        before, begun = self.cpu_s(), time.monotonic()
        while time.monotonic() < begun + seconds:
            self.drain(0.2)
            if other is not None:
                other.drain(0.01)
        return 100 * (self.cpu_s() - before) / (time.monotonic() - begun)

    def end(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._master)


def measure(updates_s: int) -> Figures:
    """Run the application with updates and without at the same time, so that both meet the same machine; then the quiet ones."""
    with tempfile.TemporaryDirectory() as folder:
        busy, calm = Application(Path(folder), "map", updates_s), Application(Path(folder), "map")
        took: dict[Application, list[float]] = {busy: [], calm: []}
        try:
            for one in (busy, calm):
                if not one.read_until(CURSOR, START_S):
                    raise RuntimeError(f"the application showed no map within {START_S:.0f} s")
            busy.drain(3)
            before, begun = busy.cpu_s(), time.monotonic()
            for number in range(KEYS):
                for one in (busy, calm):
                    took[one].append(one.press(b"\x1b[C" if number % 10 < 5 else b"\x1b[D"))
                    busy.drain(PAUSE_S)
                    calm.drain(0.001)
            share = 100 * (busy.cpu_s() - before) / (time.monotonic() - begun)
            idle = calm.share(IDLE_S, busy)
        finally:
            busy.end()
            calm.end()
        gone = Application(Path(folder), "gone")
        try:
            gone.drain(GONE_S)
            lost = gone.share(IDLE_S)
        finally:
            gone.end()
    return Figures(updates_s, KEYS, *_summed(took[busy]), *_summed(took[calm]), round(share, 1), round(idle, 1), round(lost, 1))


def _summed(took: list[float]) -> tuple[float, float, float]:
    return round(statistics.median(took), 1), round(statistics.quantiles(took, n=20)[18], 1), round(max(took), 1)


def child(mode: str, updates_s: int, folder: Path) -> None:
    """Be the application: with a map open, or without anybody who answers."""
    from client import api
    from client.tui.app import HoldfastApp
    from client.tui.seats_screen import SeatsScreen
    from client.tui.trip import Trip
    from client.wallet import Wallet
    from datastore.model import LayoutSpec, Section
    from tests.client.fake import RIVAL, FakeClient

    if mode == "gone":
        # Ports of this machine where nobody listens: the real client's own work of finding that out is part of it.
        HoldfastApp(api.connect(["127.0.0.1:9", "127.0.0.1:10"], owner_key="the-benchmark-of-the-screen"), Wallet(folder, "gone")).run()
        return
    rows = tuple(str(row) for row in range(1, ROWS + 1))
    columns = ("A", "B", "C", "", "D", "E", "F", "G", "", "H", "J", "K")
    fake = FakeClient(spec=LayoutSpec("B500", "500 seats", (Section("Y", "A", rows, columns),)))
    service = next(iter(fake.found.values()))

    def rivals() -> None:
        pause, number, held = threading.Event(), 0, []
        while not pause.wait(1 / updates_s):
            if len(held) > 100:
                fake.release(held.pop(0))
            else:
                row = BUSY_FROM + number // 10 % (ROWS - BUSY_FROM)
                held.append(fake.take(RIVAL, [(service.service_id, [f"{row}{'ABCDEFGHJK'[number % 10]}"])]).hold_id)
                number += 1

    app = HoldfastApp(fake, Wallet(folder, "map"))

    async def opened() -> None:
        app.push_screen(SeatsScreen(Trip.of([service], 1)))
        if updates_s:
            threading.Thread(target=rivals, name="rivals", daemon=True).start()

    async def run() -> None:
        async def begin() -> None:
            while not app.is_running or app.cluster is None:
                await sleep(0.05)
            app.call_later(opened)

        waiting = create_task(begin())
        await app.run_async()
        waiting.cancel()

    asyncio_run(run())


def report(figures: Figures) -> str:
    """Return the figures as a part of docs/benchmarks.md."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    load = os.getloadavg()[0]
    verdict = "held" if figures.p95_ms < TARGET_MS else "missed in this run"
    return f"""## {HEADING}

Written by `python -m benchmarks.tui --report docs/benchmarks.md` on {datetime.now(UTC):%Y-%m-%d} ({machine}, shared: {load:.0f} processes
were waiting for the cores at its end): a map of 500 seats in a terminal of 120x40, {figures.updates_s} updates a second arriving,
{figures.keys} key presses, each from the key to the cursor's new place on the screen.

| key to screen | {figures.updates_s} updates a second | none |
|---|---:|---:|
| median ms | {figures.p50_ms} | {figures.calm_p50_ms} |
| 95 % ms | {figures.p95_ms} | {figures.calm_p95_ms} |
| worst ms | {figures.worst_ms} | {figures.calm_worst_ms} |

The target is less than {TARGET_MS:.0f} ms for 95 %: {verdict}. Both columns are of applications that ran at the same
time, key by key in turn: what is in both is the machine's, what is in the first alone is the updates'. Of one core the application
used {figures.busy_percent} % with updates, {figures.idle_percent} % with the map open and nothing arriving, and
{figures.gone_percent} % with a cluster that is gone: that is asked ever more rarely, up to every 8 s.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tui", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=100, help="updates a second; 100 by default")
    parser.add_argument("--report", type=Path, help="the page to write the figures into")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.updates, given.folder)
        return
    figures = measure(given.updates)
    if given.json:
        print(json.dumps(figures._asdict()))
    else:
        print(report(figures))
    if given.report:
        put_section(given.report, HEADING, report(figures))


if __name__ == "__main__":
    main()
