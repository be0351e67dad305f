"""Every process of a running cluster is restarted one after another while writers go on: no caller gets an error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import api, cluster, exit_codes, supervisor
from datastore.errors import HoldfastError
from datastore.model import Passenger
from tests.integration.test_cluster_up import Starter

WRITERS = 3
SERVICES = [f"AR1140-EZE-{(date.today() + timedelta(days=days)).isoformat()}" for days in (20, 21, 22)]


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    made = Starter(tmp_path)
    yield made
    cluster.down(made.folders)
    assert {} == made.pids()


@dataclass
class Writer:
    """Holds, confirms, cancels and releases until told to stop; keeps every answer and every error."""

    starter: Starter
    service: str
    stop: threading.Event
    booked: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    count: int = 0

    def run(self) -> None:
        with api.connect(self.starter.folders.config, owner_key=f"the-writer-of-{self.service}") as client:
            seats = client.free_seats(self.service)
            while not self.stop.is_set():
                seat = seats[self.count % len(seats)]
                began = time.monotonic()
                try:
                    hold = client.hold(self.service, [seat])
                    if self.count % 10 == 9:
                        order = client.confirm(hold.hold_id, [Passenger("Writer", "Rolling")])
                        self.booked.append((order.reference, order.manage_token))
                        seats = [one for one in seats if one != seat]
                    else:
                        client.release(hold.hold_id)
                except HoldfastError as error:
                    self.errors.append(f"{seat}: {error.code}: {error.detail}")
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.count += 1
                self.stop.wait(0.02)


def test_a_rolling_restart_under_load_costs_no_caller_an_error(starter: Starter) -> None:
    """Lock servers, nodes, managers and balancers: all are new processes afterwards, and every booking is there."""
    starter.up()
    before = starter.pids()
    stop = threading.Event()
    writers = [Writer(starter, service, stop) for service in SERVICES[:WRITERS]]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        done = starter.run("cluster", "restart", "--rolling", "--json")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert exit_codes.DONE == done.returncode, done.stdout + done.stderr
    after = starter.pids()
    names = [name for name in before if name != supervisor.NAME]
    assert sorted(names) == sorted(one["name"] for one in json.loads(done.stdout)["restarted"])
    assert before.keys() == after.keys() and before[supervisor.NAME] == after[supervisor.NAME]
    assert [] == [name for name in names if before[name] == after[name]]
    assert [] == [error for writer in writers for error in writer.errors]
    assert all(writer.count > 20 for writer in writers)
    with starter.client() as client:
        for reference, token in [pair for writer in writers for pair in writer.booked]:
            assert "confirmed" == client.order(reference, token=token).state
    assert exit_codes.DONE == starter.run("cluster", "check", "AR").returncode
    starter.check_logs()


def test_a_restart_that_cannot_be_done_changes_nothing(starter: Starter) -> None:
    """No supervisor, no such process, no --rolling: one line each, and every process is the one of before."""
    starter.up("--no-timetables")
    before = starter.pids()
    done = starter.run("cluster", "restart", "--rolling", "node-9")
    assert (exit_codes.INVALID, True) == (done.returncode, "did you mean node-" in done.stderr)
    assert exit_codes.INVALID == starter.run("cluster", "restart").returncode
    assert before == starter.pids()
    cluster.down(starter.folders)
    done = starter.run("cluster", "restart", "--rolling")
    assert (exit_codes.INVALID, True) == (done.returncode, "no supervisor" in done.stderr)
