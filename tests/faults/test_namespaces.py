"""Three hosts, each a network namespace with an address of its own: cables that are pulled, and routes that swallow one direction.

The kernel's own network, not a proxy: packets are lost, connections hang until TCP gives up. Needs root and iproute2.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from client import processes, profiles, supervisor
from client.plan import plan_of
from datastore.errors import HoldfastError
from tests.checkers import History
from tests.faults.buyers import (
    OVERLAY,
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
)
from tests.faults.chaos import machine
from tests.integration.harness import SMALL, TOP, ClusterUnderTest
from tests.waiting import wait_until

HOSTS = 3
SELLS_S = 60
TAG = f"hf{os.getpid() % 100_000}"  # Interfaces have names of 15 characters at most, and every run its own.


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Network:
    """A bridge with one namespace for each host; this machine's own end is the callers'."""

    def __init__(self) -> None:
        # Out of the way of what machines mostly use, and of other runs.
        self._net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"

    def address(self, host: int) -> str:
        return f"{self._net}.{10 + host}"

    @staticmethod
    def namespace(host: int) -> str:
        return f"{TAG}-{host}"

    def make(self) -> None:
        ip("link", "add", f"{TAG}b", "type", "bridge")
        ip("address", "add", f"{self._net}.1/24", "dev", f"{TAG}b")
        ip("link", "set", f"{TAG}b", "up")
        for host in range(1, HOSTS + 1):
            name = self.namespace(host)
            ip("netns", "add", name)
            ip("link", "add", f"{TAG}v{host}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{TAG}v{host}", "master", f"{TAG}b", "up")
            ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for host in range(1, HOSTS + 1):
            subprocess.run(["ip", "netns", "del", self.namespace(host)], capture_output=True, timeout=30, check=False)
        subprocess.run(["ip", "link", "del", f"{TAG}b"], capture_output=True, timeout=30, check=False)

    def pull(self, host: int) -> None:
        """Pull a host's cable."""
        ip("link", "set", f"{TAG}v{host}", "down")

    def plug(self, host: int) -> None:
        ip("link", "set", f"{TAG}v{host}", "up")

    def swallow(self, source: int, target: int) -> None:
        """Lose what one host sends to another; the other direction stays."""
        ip("-n", self.namespace(source), "route", "add", "blackhole", f"{self.address(target)}/32")

    def restore(self, source: int, target: int) -> None:
        ip("-n", self.namespace(source), "route", "del", "blackhole", f"{self.address(target)}/32")


class HostsCluster(ClusterUnderTest):
    """Every process on its host: number 1 to 3 by the number in its name."""

    def __init__(self, folder: Path, network: Network) -> None:
        super().__init__(folder, OVERLAY, datasets=("venues",))
        self._network = network
        self.mapping = profiles.merge(self.mapping, _on_hosts(self.mapping, network))
        self.plan = plan_of(self.mapping)

    def start(self, name: str) -> None:
        command = supervisor.command_of(self.plan.process(name), self.folders)
        inside = ["ip", "netns", "exec", self._network.namespace(host_of(name)), *command]
        self.running[name] = processes.spawn(inside, self.folders.log(name), {"PYTHONPATH": str(TOP)})


def host_of(name: str) -> int:
    return int(name.rpartition("-")[2])


def _on_hosts(mapping: dict[str, Any], network: Network) -> dict[str, Any]:
    """Return the lists of processes with the address of each one's host."""
    overlay: dict[str, Any] = {}
    for table, key in (("lockstore", "server"), ("datastore", "node"), ("manager", "manager"), ("loadbalancer", "balancer")):
        assert key in SMALL[table]
        overlay[table] = {key: [{**row, "host": network.address(host_of(row["name"]))} for row in mapping[table][key]]}
    return overlay


@contextmanager
def _hosts(folder: Path) -> Iterator[tuple[HostsCluster, Network]]:
    network = Network()
    try:
        network.make()
        with HostsCluster(folder, network) as cluster:
            yield cluster, network
    finally:
        network.remove()


def sells(buyer: Buyer, service: str, seats: list[str]) -> None:
    """Wait until a seat of the list is held and booked."""

    def sold() -> bool:
        for seat in seats:
            try:
                buyer.confirm(buyer.hold(service, [seat]))
            except HoldfastError:
                continue
            return True
        return False

    wait_until(sold, f"a sale of {service}", SELLS_S)


@pytest.mark.timeout(600)
def test_hosts_lose_their_cables(tmp_path: Path) -> None:
    """The primary's host is unplugged: others sell on. One direction between two hosts is lost: sales go on. In the end all copies
    are equal, every seat had one owner at a time, and what was acknowledged is there."""
    reason = machine.require(machine.NAMESPACES)
    if reason:
        pytest.skip(reason)
    with _hosts(tmp_path) as (cluster, network):
        service = services_of(cluster, "GRAND", 3)[0].service_id
        seats = seats_of(cluster, service)
        history = History()
        buyer = Buyer(cluster, history, "hosts", deadline_ms=8_000)
        sells(buyer, service, seats[:5])
        lonely = host_of(primary_of(cluster, "GRAND"))
        network.pull(lonely)
        sells(buyer, service, seats[5:25])
        network.plug(lonely)
        cluster.wait_ready()
        assert_replicas_equal(cluster, "GRAND", SELLS_S)
        source = host_of(primary_of(cluster, "GRAND"))
        target = source % HOSTS + 1
        network.swallow(source, target)
        sells(buyer, service, seats[25:45])
        network.restore(source, target)
        cluster.wait_ready()
        sells(buyer, service, seats[45:55])
        assert_replicas_equal(cluster, "GRAND", SELLS_S)
        assert_sound(cluster, history, service)
        assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))
        assert all(process.poll() is None for process in cluster.running.values())
