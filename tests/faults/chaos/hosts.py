"""A cluster over several hosts, each a network namespace with an address of its own: cables are pulled, routes swallow one direction.

The kernel's own network, not a proxy: packets are lost, connections hang until TCP gives up. Needs root and iproute2.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from client import api, processes, profiles, supervisor
from client.plan import BALANCER, plan_of
from tests.faults.chaos.cluster import HurtCluster
from tests.integration.harness import TOP
from tests.integration.provider_trouble import SANDBOX_NAME

HOSTS = 3
OUTSIDE = 0
TAG = f"hf{os.getpid() % 100_000}"  # Interfaces have names of 15 characters at most, and every run its own.
LISTS = (("lockstore", "server"), ("datastore", "node"), ("manager", "manager"), ("loadbalancer", "balancer"), ("payments", "sandbox"))


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Network:
    """A bridge with one namespace for each host; this machine's own end is the callers'."""

    def __init__(self) -> None:
        # Out of the way of what machines mostly use, and of other runs.
        self._net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"

    def address(self, host: int) -> str:
        return f"{self._net}.{10 + host if host else 1}"

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


class HostsCluster(HurtCluster):
    """Every process on its host, by the number in its name. Callers and the payment provider are beside the hosts, which no fault hurts."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.network = Network()
        self.mapping = profiles.merge(self.mapping, _on_hosts(self.mapping, self.network))
        self.plan = plan_of(self.mapping)

    def start_all(self) -> None:
        self.network.make()
        super().start_all()

    def _clean(self) -> None:
        super()._clean()
        self.network.remove()

    def start(self, name: str) -> None:
        assert name not in self.running, f"{name} runs already"
        command = supervisor.command_of(self.plan.process(name), self.folders)
        if host_of(name) != OUTSIDE:
            command = ["ip", "netns", "exec", self.network.namespace(host_of(name)), *command]
        self.running[name] = processes.spawn(command, self.folders.log(name), {"PYTHONPATH": str(TOP)})

    def caller(self, owner_key: str, balancers: Iterable[str] = (), deadline_ms: int = 4_000) -> api.Holdfast:
        return self.client(owner_key, list(balancers) or self.names_of(BALANCER), deadline_ms)


def host_of(name: str) -> int:
    return OUTSIDE if name == SANDBOX_NAME else int(name.rpartition("-")[2])


def _on_hosts(mapping: dict[str, Any], network: Network) -> dict[str, Any]:
    """Return the lists of processes with the address of each one's host."""
    overlay: dict[str, Any] = {}
    for table, key in LISTS:
        overlay[table] = {key: [{**row, "host": network.address(host_of(row["name"]))} for row in mapping[table][key]]}
    return overlay
