"""How long an import takes and how much memory, step by step, and through a whole cluster.

    python -m benchmarks.importing data/nyc-2013
    python -m benchmarks.importing ../shared/data/us-2008 --cluster

Reading and checking the dataset, making the messages, and the partitions' decision over an empty state, all in this process.
With --cluster: a cluster of real processes is started on free ports and the dataset imported twice; the second must change
nothing. Everything shares the machine.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import tempfile
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


def through_a_cluster(dataset: Dataset) -> None:
    """Import twice into a cluster of real processes on free ports, in a folder of its own; print the processes' peak memory."""
    from client import keys
    from client.importing import OperatorReport, send
    from tests.integration.harness import ClusterUnderTest

    with tempfile.TemporaryDirectory() as folder, ClusterUnderTest(Path(folder), datasets=()) as cluster:
        admin_key = keys.ensure_admin(cluster.folders)
        call = cluster.client(deadline_ms=60_000).call
        for what in ("import into a cluster of 10 processes", "import again"):
            reports = timed(what, lambda: send(dataset, call, admin_key=admin_key, operator_keys={}))
            assert isinstance(reports, list)
            added, unchanged, errors = 0, 0, []
            for report in reports:
                assert isinstance(report, OperatorReport)
                added, unchanged = added + report.added, unchanged + report.unchanged
                errors += [report.error] if report.error else []
            print(f"  added {added}, unchanged {unchanged}, errors {errors}")
        for name in cluster.names:
            lines = Path(f"/proc/{cluster.pid(name)}/status").read_text("ascii", "replace").splitlines()
            peak_kb = int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
            print(f"  {name:<12} peak {peak_kb / 1024:4.0f} MB")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--cluster", action="store_true", help="also import into a cluster started for it")
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
    if options.cluster:
        through_a_cluster(dataset)
    return 0


if __name__ == "__main__":
    sys.exit(main())
