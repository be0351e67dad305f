"""How long an import takes and how much memory, step by step, and through a running cluster where one is named.

    python benchmarks/importing.py data/nyc-2013
    python benchmarks/importing.py ../shared/data/us-2008 --config cluster.toml

Without --config: reading and checking the dataset, making the messages, and the partition's decision over an empty state, all
in this process. With it: the whole `holdfast import` into that running cluster, twice (the second must change nothing), with
the peak memory of every process of the cluster before and after.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from client.importing import body_of, load_dataset
from client.timetables import Dataset


def timed(what: str, step: Callable[[], object]) -> object:
    """Run a step; print its seconds and this process's peak memory so far."""
    begun = time.monotonic()
    value = step()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:<44} {time.monotonic() - begun:8.2f} s   peak {peak_mb:6.0f} MB", flush=True)
    return value


def decide(dataset: Dataset, bodies: dict[str, bytes]) -> int:
    """Return how many events the partitions' decisions give, each over an empty state."""
    from datastore import wire
    from datastore.importing import decide_import
    from datastore.memory import MemoryStore
    from datastore.state import AppliedState

    events = 0
    for code, body in bodies.items():
        command = wire.Import("benchmark-1", b"", dataset.name, body)
        found, _ = decide_import(AppliedState(code, MemoryStore(code, code)), command, 1_796_083_200_000)
        events += len(found)
    return events


def peaks_of_processes() -> dict[str, float]:
    """Return process name -> peak resident MB of every node, manager and balancer of this machine."""
    peaks: dict[str, float] = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            status = (folder / "status").read_text()
        except (OSError, ValueError):
            continue
        command = b" ".join(words).decode(errors="replace")
        if any(f"-m {package}" in command for package in ("datastore", "manager", "loadbalancer")):
            peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
            peaks[f"{command.split('-m ', 1)[1][:60]} [{folder.name}]"] = int(peak) / 1024
    return peaks


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--config", type=Path, help="cluster.toml of a running cluster")
    parser.add_argument("--data", type=Path, help="its data folder")
    options = parser.parse_args()
    print(f"{platform.python_version()} on {platform.machine()}, {options.path}")
    dataset = timed("read and check", lambda: load_dataset(options.path, valid_from=date.today(), days=330))
    assert isinstance(dataset, Dataset)
    schedules = sum(len(part.schedules) for part in dataset.operators.values())
    print(f"  {dataset.rows} rows, {len(dataset.operators)} operators, {schedules} schedules, {len(dataset.problems)} bad rows")
    bodies = {code: body_of(dataset, part) for code, part in dataset.operators.items()}
    timed("make the messages", lambda: [body_of(dataset, part) for part in dataset.operators.values()])
    print(f"  {sum(map(len, bodies.values())) / 1024:.0f} kB in all, the largest {max(map(len, bodies.values())) / 1024:.0f} kB")
    timed("decide (all partitions, in memory)", lambda: decide(dataset, bodies))
    if options.config:
        command = [sys.executable, "-m", "client", "--config", str(options.config)]
        command += ["--data", str(options.data)] if options.data else []
        for what in ("import into the cluster", "import again"):
            timed(what, lambda: subprocess.run([*command, "import", str(options.path)], check=False, stdout=subprocess.DEVNULL))
        child_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"  the importing command: peak {child_mb:.0f} MB")
        for name, peak_mb in sorted(peaks_of_processes().items()):
            print(f"  {name}: peak {peak_mb:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
