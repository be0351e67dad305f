"""A cluster over three hosts: a supervisor, a data folder and an address each; it sells when one host is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from client import api, exit_codes, processes, profiles
from client.cluster import read_config
from client.folders import Folders
from client.plan import plan_of, with_ports
from datastore.edge import tls_files
from datastore.errors import HoldfastError
from datastore.model import Passenger
from tests.integration.harness import FAULT_MARKS, SMALL, TOP
from tests.integration.test_tls import lock_servers_can
from tests.waiting import wait_until

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
PROFILE = "several-hosts"
SERVICE = f"AR1140-EZE-{(date.today() + timedelta(days=2)).isoformat()}"
SERVES_S = 60


class Hosts:
    """The commands of three hosts that share one cluster.toml; every host's data folder is its own."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "cluster.toml"
        self.out = folder / "hosts"
        self.environment = {**os.environ, "HOLDFAST_HOME": str(folder / "home"), "PYTHONPATH": str(TOP)}
        self.environment.pop("HOLDFAST_CONFIG", None)
        mapping = _three_hosts()
        mapping["client"] |= {"timetables": [str(TOP / "data" / "brief")], "restart_pause_ms": 50}
        self.config.write_text(tomlkit.dumps(mapping))
        self.mapping = read_config(self.config, PROFILE)

    def folders(self, host: str) -> Folders:
        return Folders(self.out / host)

    def run(self, data: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client", "--config", str(self.config), "--profile", PROFILE, "--data", str(data), *words]
        return subprocess.run(command, env=self.environment, cwd=TOP, capture_output=True, text=True, timeout=120, check=False)

    def done(self, data: Path, *words: str) -> str:
        done = self.run(data, *words)
        assert exit_codes.DONE == done.returncode, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self, host: str) -> None:
        self.done(self.folders(host).data, "cluster", "up", "--detach", "--host", host, "--json")

    def client(self) -> api.Holdfast:
        addresses = [api.Address(process.host, process.port) for process in plan_of(self.mapping).of("balancer")]
        tls = tls_files(self.folders("admin").data / "certificates", "client")
        return api.connect(addresses, owner_key="an-owner-of-the-tests", tls=tls)

    def pids(self, host: str) -> dict[str, int]:
        """Return name -> process id of everything that runs on a host."""
        found = {path.stem: processes.running(path) for path in self.folders(host).run.glob("*.pid")}
        return {name: process.pid for name, process in found.items() if process is not None}


def _three_hosts() -> dict[str, Any]:
    """Return the small configuration with the shipped profile's three hosts, on free ports."""
    shipped = tomlkit.parse((TOP / "cluster.toml").read_text(encoding="utf-8")).unwrap()["profile"][PROFILE]
    names = [row["name"] for table, key in _LISTS for row in shipped[table][key]]
    ports = dict(zip(names, processes.free_ports(len(names)), strict=True))
    overlay = with_ports(shipped, ports)
    overlay["lockstore"]["tls"] = lock_servers_can()
    return {**profiles.merge(SMALL, {}), "profile": {PROFILE: overlay}}


_LISTS = (("lockstore", "server"), ("datastore", "node"), ("manager", "manager"), ("loadbalancer", "balancer"))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    try:
        yield made
        for path in made.out.glob("*/logs/*.log"):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [mark for mark in FAULT_MARKS if mark in text], f"{path}: {text[-3000:]}"
    finally:
        for host in HOSTS:
            made.run(made.folders(host).data, "cluster", "down")
            for pid in made.pids(host).values():
                os.kill(pid, signal.SIGKILL)


def test_three_hosts_sell_and_one_may_die(hosts: Hosts) -> None:
    """Prepared once, started host by host, it sells; with a whole host gone it goes on, and the host comes back to it."""
    hosts.done(hosts.out, "cluster", "prepare", "--out", str(hosts.out))
    admin, second = hosts.folders("admin"), hosts.folders("127.0.0.2")
    assert {"authority", "client", "node-2", "manager-2", "balancer-2", "lock-2"} == {
        path.stem for path in second.data.glob("certificates/*.pem")
    }
    assert not (second.data / "certificates" / "authority.key").exists()
    assert not (second.secrets / "admin.key").exists()
    for host in HOSTS:
        hosts.up(host)
    assert {"supervisor", "lock-2", "node-2", "manager-2", "balancer-2"} == set(hosts.pids("127.0.0.2"))
    hosts.done(admin.data, "cluster", "register")
    with hosts.client() as client:
        first = client.confirm(client.hold(SERVICE, ["12A"]).hold_id, [Passenger("Byron", "Ada")])
        assert "ok" == client.status().verdict
        for pid in hosts.pids("127.0.0.2").values():
            os.kill(pid, signal.SIGKILL)

        def sells() -> bool:
            try:
                return client.hold(SERVICE, ["12C"], request_id="after-the-death").seats == ["12C"]
            except HoldfastError:
                return False

        wait_until(sells, "two of three hosts to sell", SERVES_S)
        again = client.order(first.reference, token=first.manage_token)
        assert ("confirmed", first.seats, first.receipt) == (again.state, again.seats, again.receipt)
        hosts.up("127.0.0.2")
        amiss: list[object] = []

        def back() -> bool:
            answer = client.status()
            amiss[:] = [line for line in (*answer.processes, *answer.partitions) if line.verdict != "ok"]
            return answer.verdict == "ok"

        try:
            wait_until(back, "the host to be back", SERVES_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {amiss}") from error


def test_a_host_without_its_folder_says_what_is_missing(hosts: Hosts) -> None:
    """Secrets made on one host would be strangers to the others: nothing is started, and the command to run is named."""
    refused = hosts.run(hosts.folders("127.0.0.3").data, "cluster", "up", "--detach", "--host", "127.0.0.3")
    assert exit_codes.INVALID == refused.returncode
    for word in ("locks.password", "admin.digest", "holdfast cluster prepare"):
        assert word in refused.stderr
    unknown = hosts.run(hosts.out / "x", "cluster", "up", "--detach", "--host", "127.0.0.33")
    assert exit_codes.INVALID == unknown.returncode
    assert "did you mean 127.0.0.3?" in unknown.stderr
    assert {} == hosts.pids("127.0.0.3")
