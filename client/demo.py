"""A cluster to play with: made in a temporary folder on free ports, with data, and gone without a trace however its user goes.

Who started it may be killed, its terminal closed; so the taking down is the work of a process of its own (`python -m client.demo`), which
waits for the end of a pipe that only the starter holds, then stops the cluster and deletes the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from client import cluster, processes, profiles, supervisor
from client.folders import Folders
from client.plan import ClusterPlan
from client.readiness import StartFailed
from client.terminal import Session

# What the demonstration sells: enough for trips over several operators, halls and cinemas, and loaded in a moment.
DATASETS = ("data/brief", "data/venues")
OPERATORS = ("AA", "AR", "FO", "LA", "QR", "GRAND", "LUM")
# Its bookings are paid for, with test cards at the provider that ships.
PAYMENTS = {"provider": "sandbox", "sandbox": [{"name": "payments-1", "host": "127.0.0.1", "port": 7501}]}
PREFIX = "holdfast-demo-"
GONE_S = 60.0
AGAIN_S = 0.1


class Demo:
    """A demonstration in its folder: prepared when it is made, running once it was brought up."""

    def __init__(self, folder: Path, start: cluster.Start, plan: ClusterPlan, folders: Folders) -> None:
        self.where = str(folder)
        self.session = Session(config=start.config, data=folders.data)
        self.home = folder / "wallet"
        self._start, self._plan, self._folders = start, plan, folders
        self._over = threading.Event()
        self._busy = threading.Lock()

    def bring_up(self, tell: Callable[[str], None]) -> None:
        """Start it and return when it sells.

        Raises:
            StartFailed: It did not come up, or was given up; what was started is stopped again.
        """
        with self._busy:
            if self._over.is_set():
                raise StartFailed("given up before it began", log=str(self._folders.logs))
            cluster.launch(self._plan, self._folders, self._start, tell, lambda: not self._over.is_set())

    def look(self) -> list[tuple[str, list[tuple[str, bool]]]]:
        """Return (kind, its processes with whether each listens) in the order of starting."""
        here = supervisor.here(self._plan)
        open_ports = processes.listening([process.port for process in here])
        kinds: dict[str, list[tuple[str, bool]]] = {}
        for process in here:
            kinds.setdefault(process.role.kind, []).append((process.name, process.port in open_ports))
        return list(kinds.items())

    def give_up(self) -> None:
        """Have a start that is under way stop, and wait until it has."""
        self._over.set()
        with self._busy:
            pass


def demo_mapping(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration cut down to the demonstration: its operators and datasets, the default profile alone."""
    operators = [row for row in mapping.get("datastore", {}).get("operator", []) if row.get("code") in OPERATORS]
    small = {"datastore": {"operator": operators}, "client": {"timetables": list(DATASETS), "timetable_days": 120, "data": "data"}}
    small["payments"] = PAYMENTS
    return profiles.merge({key: value for key, value in mapping.items() if key != profiles.TABLE}, small)


@contextlib.contextmanager
def prepared(config: Path, profile: str, tell: Callable[[str], None]) -> Iterator[Demo]:
    """Prepare a demonstration, and take down at the end what came of it.

    Args:
        config: The cluster.toml to take processes and settings from.
    Raises:
        ConfigInvalid: It cannot be started so; nothing is left.
    """
    import tomlkit

    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    guard = subprocess.Popen(
        [sys.executable, "-m", "client.demo", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        file = folder / "cluster.toml"
        file.write_text(tomlkit.dumps(demo_mapping(cluster.read_config(config, profile))), encoding="utf-8")
        start = cluster.Start(file, data=folder / "data", free_ports=True)
        demo = Demo(folder, start, *cluster.prepare(start, tell))
        try:
            yield demo
        finally:
            demo.give_up()
    finally:
        assert guard.stdin is not None, "it was made with a pipe"
        guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(GONE_S)  # It goes on by itself if that takes longer.


def take_down(folder: Path) -> None:
    """Stop what runs there and delete the folder.

    Raises:
        ValueError: The folder is none of ours.
    """
    if not folder.name.startswith(PREFIX):
        raise ValueError(f"{folder} is no demonstration's folder")
    folders = Folders(folder / "data")
    pause, deadline = threading.Event(), time.monotonic() + GONE_S
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            cluster.down(folders)
            with supervisor.sole(folders) as alone:
                if alone:
                    # Moved away under the supervisor's lock: one that was being started when its starter died finds it taken, or gone.
                    folder = folder.rename(folder.with_name(f"{folder.name}.gone"))
                    break
            pause.wait(AGAIN_S)
    shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Wait for the end of stdin, then take the demonstration down."""
    parser = argparse.ArgumentParser(prog="python -m client.demo", description="Take a demonstration down when its starter is gone.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # What ends the starter closes the pipe; that alone counts.
    sys.stdin.buffer.read()
    take_down(folder)


if __name__ == "__main__":
    main()
