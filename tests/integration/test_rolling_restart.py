"""A running cluster is taken onto a newer version, process by process, while writers go on: no caller gets an error.

The newer version is this program with what a next one would have: another minor version of the wire, one more field in every
message between processes, another minor version of the files. It takes the place of the older one as an installation does.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import api, cluster, exit_codes, supervisor
from client.plan import LOCK_SERVER, ClusterPlan, plan_of
from datastore.edge import Address, EdgeClient
from datastore.edge_connection import WIRE_VERSION
from datastore.errors import HoldfastError
from datastore.model import Passenger
from datastore.store_file import FORMAT
from tests.integration.harness import TOP
from tests.integration.starter import Starter
from tests.waiting import wait_until

PACKAGES = ("lockstore", "datastore", "manager", "loadbalancer", "client")
# Whose structures only travel, and are kept nowhere in the form in which they came.
MESSAGES = ("wire.py", "wire_recovery.py", "wire_ledger.py")
SERVICES = [f"AR1140-EZE-{(date.today() + timedelta(days=days)).isoformat()}" for days in (20, 21, 22)]
CALL_MS = 30_000
ANOTHER_MAJOR = 900


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    with Starter(tmp_path) as made:
        yield made


class Installed(Starter):
    """A cluster that runs from a program folder of its own, in which another version may take the place of the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.program = folder / "program"
        self.install(newer=False)
        self.environment["PYTHONPATH"] = str(self.program)

    def install(self, *, newer: bool) -> None:
        """Put this version, or one that is newer by a minor step, into the program folder."""
        draft = self.program.with_name("draft")
        for package in PACKAGES:
            shutil.copytree(TOP / package, draft / package, ignore=shutil.ignore_patterns("__pycache__"))
        (draft / "data").symlink_to(TOP / "data")
        if newer:
            replace(draft / "datastore" / "edge_connection.py", rf"^WIRE_VERSION = {WIRE_VERSION}$", f"WIRE_VERSION = {WIRE_VERSION + 1}")
            replace(draft / "datastore" / "store_file.py", rf"^FORMAT = {FORMAT}\b", f"FORMAT = {FORMAT + 1}")
            for name in MESSAGES:
                # A field more at the end of each message: a default for those of before, sent to everybody.
                pattern = r"(?m)^(class \w+\(msgspec\.Struct[^)]*array_like=True[^)]*\):\n(?:(?:[ ]{4}.*)?\n)+?)(?=\n\n?\S|\Z)"
                replace(draft / "datastore" / name, pattern, r"\1    newer: str = 'than before'\n", least=5)
        if self.program.exists():
            self.program.rename(self.program.with_name("before"))
        draft.rename(self.program)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*words)
        here = self.program.parent
        return subprocess.run(command, env=self.environment, cwd=here, capture_output=True, text=True, timeout=600, check=False)


def replace(path: Path, pattern: str, by: str, least: int = 1) -> None:
    text, count = re.subn(pattern, by, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count >= least, f"{path.name}: {pattern} found {count} times"
    path.write_text(text, encoding="utf-8")


def wire_versions(plan: ClusterPlan) -> dict[str, str]:
    """Return process -> the version of the wire that it speaks, as it says to a caller of another major version."""
    found = {}
    for process in plan.processes:
        if process.role.kind != LOCK_SERVER:
            client = EdgeClient(Address(process.host, process.port), version=ANOTHER_MAJOR)
            try:
                client.call("status", b"", CALL_MS)
            except HoldfastError as error:
                said = re.search(r"it speaks version (\S+) of the wire", error.detail)
                found[process.name] = said.group(1) if said else error.detail
            finally:
                client.close()
    return found


def file_versions(starter: Starter) -> set[int]:
    found = set()
    for path in starter.folders.data.glob("node-*/partitions/*.sqlite"):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        found.add(int(database.execute("PRAGMA user_version").fetchone()[0]))
        database.close()
    return found


@dataclass
class Writer:
    """Holds, confirms, cancels and releases until told to stop; keeps every answer and every error."""

    starter: Starter
    service: str
    stop: threading.Event
    booked: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    count: int = 0

    def run(self) -> None:
        with api.connect(self.starter.folders.config, owner_key=f"the-writer-of-{self.service}", deadline_ms=CALL_MS) as client:
            seats = client.free_seats(self.service)
            while not self.stop.is_set():
                seat = seats[self.count % len(seats)]
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
                self.count += 1
                self.stop.wait(0.02)


@pytest.mark.timeout(480)
def test_a_rolling_restart_onto_a_newer_version_costs_no_caller_an_error(tmp_path: Path) -> None:
    """Lock servers, nodes, managers and balancers: all are new processes of the new version afterwards, and every booking is there."""
    with Installed(tmp_path) as starter:
        starter.up()
        plan = plan_of(json.loads(json.dumps(cluster.read_config(starter.folders.config))))
        older = f"{WIRE_VERSION // 100}.{WIRE_VERSION % 100}"
        assert {older} == set(wire_versions(plan).values())
        before = starter.pids()
        stop = threading.Event()
        writers = [Writer(starter, service, stop) for service in SERVICES]
        threads = [threading.Thread(target=writer.run) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: all(writer.count > 5 for writer in writers), "writers to have written", 60)
            starter.install(newer=True)
            done = starter.run("cluster", "restart", "--rolling", "--json")
            counted = [writer.count for writer in writers]
            wait_until(lambda: all(writer.count > count for writer, count in zip(writers, counted, strict=True)), "them to go on", 60)
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
        assert {f"{WIRE_VERSION // 100}.{WIRE_VERSION % 100 + 1}"} == set(wire_versions(plan).values())
        assert {FORMAT + 1} == file_versions(starter)
        assert [] == [error for writer in writers for error in writer.errors]
        with starter.client() as client:
            for reference, token in [pair for writer in writers for pair in writer.booked]:
                assert "confirmed" == client.order(reference, token=token).state
        assert exit_codes.DONE == starter.run("cluster", "check", "AR").returncode
        assert [] == [*starter.folders.data.glob("node-*/partitions/*.quarantined-*")]
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
