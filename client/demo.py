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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import cluster, profiles
from client.folders import Folders
from client.terminal import Session

# What the demonstration sells: enough for trips over several operators, halls and cinemas, and loaded in a moment.
DATASETS = ("data/brief", "data/venues")
OPERATORS = ("AA", "AR", "FO", "LA", "QR", "GRAND", "LUM")
# Its bookings are paid for, with test cards at the provider that ships.
PAYMENTS = {"provider": "sandbox", "sandbox": [{"name": "payments-1", "host": "127.0.0.1", "port": 7501}]}
PREFIX = "holdfast-demo-"
GONE_S = 60.0


@dataclass(frozen=True)
class Demo:
    """A running demonstration: the session that means its cluster, and the wallet's folder in it."""

    session: Session
    home: Path


def demo_mapping(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration cut down to the demonstration: its operators and datasets, the default profile alone."""
    operators = [row for row in mapping.get("datastore", {}).get("operator", []) if row.get("code") in OPERATORS]
    small = {"datastore": {"operator": operators}, "client": {"timetables": list(DATASETS), "timetable_days": 120, "data": "data"}}
    small["payments"] = PAYMENTS
    return profiles.merge({key: value for key, value in mapping.items() if key != profiles.TABLE}, small)


@contextlib.contextmanager
def running(config: Path, profile: str, tell: Callable[[str], None]) -> Iterator[Demo]:
    """Start a demonstration and take it down at the end.

    Args:
        config: The cluster.toml to take processes and settings from.
    Raises:
        StartFailed: It did not come up; nothing is left.
    """
    import tomlkit

    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    guard = subprocess.Popen(
        [sys.executable, "-m", "client.demo", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        file = folder / "cluster.toml"
        file.write_text(tomlkit.dumps(demo_mapping(cluster.read_config(config, profile))), encoding="utf-8")
        cluster.up(cluster.Start(file, free_ports=True), tell)
        yield Demo(Session(config=file, data=folder / "data"), folder / "wallet")
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
    with contextlib.suppress(OSError):
        cluster.down(Folders(folder / "data"))
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
