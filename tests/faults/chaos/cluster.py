"""The cluster that the nemesis hurts: every line between two processes can be cut, every wall clock shifted, disks are small."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from client import api, profiles, supervisor
from client.plan import BALANCER, LOCK_SERVER, NODE, SANDBOX, with_ports
from datastore.wire import PartitionStatus
from lockstore.binaries import find_binary
from tests import nursery
from tests.faults.buyers import node_stubs, statuses
from tests.faults.chaos import machine
from tests.faults.chaos.links import Links
from tests.integration.harness import TOP, ClusterUnderTest
from tests.integration.provider_trouble import SANDBOX_NAME

CALLERS = "callers"
PAYING_MS = 4_000
DISK_BYTES = 64 * 1024 * 1024
EXIT_DISK = 74
ADMISSION_S = 60
ADMISSION_PAUSE_S = 0.5
# Locks end soon enough to be slept through, and nobody runs into a limit of holds.
OVERLAY: dict[str, Any] = {
    "lockstore": {"ttl_ms": 2_000},
    "loadbalancer": {"owner_holds_max": 10_000, "service_holds_max": 10_000},
    # Whatever is booked is paid for, at a test provider that is a process like the others.
    "payments": {
        "provider": "sandbox",
        "timeout_ms": 1_500,
        "paying_ms": PAYING_MS,
        "sandbox": [{"name": SANDBOX_NAME, "host": "127.0.0.1", "port": 41}],
    },
}


class HurtCluster(ClusterUnderTest):
    """A cluster of real processes with its own lines.

    Args:
        clocks: Whether each process reads its wall clock through a file of shifts (it costs a little at every look).
        small_disk: The node whose folder is a file system of its own, small enough to be filled; "" for none.
    """

    def __init__(self, folder: Path, seed: int, *, clocks: bool = False, small_disk: str = "") -> None:
        super().__init__(folder, OVERLAY, datasets=("venues",))
        self.links = Links(seed)
        self._clocks = clocks
        self.small_disk = small_disk
        self._mounted: list[Path] = []
        self._ending = threading.Event()
        self._admission_due = threading.Event()
        self._admitting = threading.Thread(target=self._admit_when_due, name="admission", daemon=True)

    def __enter__(self) -> HurtCluster:
        try:
            super().__enter__()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._ending.set()
        self._admission_due.set()
        try:
            super().__exit__(*error)
        finally:
            self._clean()

    def _clean(self) -> None:
        """Give back what outlives processes: lines, threads, file systems."""
        self._ending.set()
        self._admission_due.set()
        if self._admitting.is_alive():
            self._admitting.join(ADMISSION_S)
        self.links.close()
        for path in self._mounted:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, timeout=20, check=False)

    def names_of(self, kind: str) -> list[str]:
        return [process.name for process in self.plan.of(kind)]

    # --- starting --------------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        if self.small_disk:
            path = self.folders.data / self.small_disk
            path.mkdir(parents=True)
            size = f"size={DISK_BYTES}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], capture_output=True, timeout=20, check=True)
            self._mounted.append(path)
        for name in self.names:
            self.shift_clock(name, 0)
        if self._clocks:
            self.mapping = profiles.merge(self.mapping, {"lockstore": {"binary": str(self._shifted_binary())}})
        super().start_all()
        self._admitting.start()

    def start(self, name: str) -> None:
        """Start a process with a configuration of its own: it finds every other one at a line's port."""
        process = self.plan.process(name)
        environment = {}
        if self._clocks:
            environment = machine.clock_environment(machine.libfaketime(), str(self._clock_file(name)))
        if process.role.kind == LOCK_SERVER:
            # It begins as a Python that asks the server for its version, with a time limit: that sleeps, which shifted clocks forbid.
            environment.pop("LD_PRELOAD", None)
        command = supervisor.command_of(process, self.folders)
        if process.role.kind not in (LOCK_SERVER, SANDBOX):
            file = self.folders.run / f"{name}.toml"
            ports = {one.name: self._port(name, one.name) for one in self.plan.processes if one.name != name}
            file.write_text(tomlkit.dumps(with_ports(self.mapping, ports)), encoding="utf-8")
            command[command.index("--config") + 1] = str(file)
        assert name not in self.running, f"{name} runs already"
        self.running[name] = nursery.spawn(command, self.folders.log(name), environment)

    def _shifted_binary(self) -> Path:
        """Write a program that becomes the lock server's with a shifted clock, and return it."""
        self.folders.run.mkdir(parents=True, exist_ok=True)
        program = self.folders.run / "shifted-lock-server"
        binary, library = shlex.quote(str(find_binary().path)), shlex.quote(machine.libfaketime())
        program.write_text(f'#!/bin/sh\nexec env LD_PRELOAD={library} {binary} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        return program

    def _admit_when_due(self) -> None:
        """Have lock servers that were started again admitted, as the supervisor does: again and again until it succeeds."""
        files = ["--config", str(self.folders.config), "--data", str(self.folders.data)]
        command = [sys.executable, "-m", "lockstore", "initialise", *files]
        while not self._ending.is_set():
            self._admission_due.wait()
            self._admission_due.clear()
            try:
                failed = subprocess.run(command, cwd=TOP, capture_output=True, timeout=ADMISSION_S, check=False).returncode != 0
            except subprocess.TimeoutExpired:
                failed = True
            if failed and not self._ending.wait(ADMISSION_PAUSE_S):
                self._admission_due.set()

    def _port(self, source: str, target: str) -> int:
        process = self.plan.process(target)
        return self.links.port(source, target, (process.host, process.port))

    def caller(self, owner_key: str, balancers: Iterable[str] = (), deadline_ms: int = 4_000) -> api.Holdfast:
        """Return a client over lines that can be hurt, unlike `client`."""
        wanted = list(balancers) or self.names_of(BALANCER)
        addresses = [api.Address("127.0.0.1", self._port(CALLERS, name)) for name in wanted]
        made = api.connect(addresses, owner_key=owner_key, deadline_ms=deadline_ms)
        self._clients.append(made)
        return made

    # --- hurting ---------------------------------------------------------------------------------------------------

    def _clock_file(self, name: str) -> Path:
        return self.folders.run / f"{name}.clock"

    def shift_clock(self, name: str, seconds: float) -> None:
        """Let a process's wall clock jump to so far from the machine's."""
        self.folders.run.mkdir(parents=True, exist_ok=True)
        draft = self._clock_file(name).with_suffix(".draft")
        draft.write_text(f"{seconds:+.3f}\n", encoding="ascii")
        os.replace(draft, self._clock_file(name))

    def revive(self, name: str) -> None:
        """Start a process that is dead, however it died; one that runs goes on."""
        process = self.running.get(name)
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            return
        self.running.pop(name, None)
        self.start(name)
        if self.plan.process(name).role.kind == LOCK_SERVER:
            self._admission_due.set()

    def kill_hard(self, names: Sequence[str]) -> None:
        """Kill what still runs of them, all before any is waited for."""
        there = [name for name in names if name in self.running]
        self.kill(*there)

    # --- looking ---------------------------------------------------------------------------------------------------

    def unequal(self) -> str:
        """Return what keeps the copies from being whole and equally long, "" where nothing does.

        A node that found its disk full may end a good while after there is room again, as when it was just starting: it is started.
        """
        if EXIT_DISK == self.dead().get(self.small_disk):
            self.revive(self.small_disk)
        stubs = node_stubs(self)
        try:
            for operator in [one.code for one in self.plan.operators]:
                found = statuses(stubs, operator)
                reason = _unequal(found, len(stubs))
                if reason:
                    return f"{operator}: {reason}"
        finally:
            for stub in stubs.values():
                stub.close()
        return ""

    def dead(self) -> Mapping[str, int]:
        """Return the processes that ended by themselves, with their exit codes."""
        return {name: process.returncode for name, process in self.running.items() if process.poll() is not None}

    @property
    def nodes(self) -> list[str]:
        return self.names_of(NODE)


def _unequal(found: Mapping[str, PartitionStatus], nodes: int) -> str:
    if len(found) < nodes:
        return f"{sorted(found)} of {nodes} nodes answer with a copy"
    if sum(one.serving for one in found.values()) != 1:
        return f"served by {[name for name, one in found.items() if one.serving]}"
    roles = {name: one.role for name, one in found.items()}
    if set(roles.values()) != {"primary", "replica"}:
        return f"not all vote: {roles}"
    ends = {name: (one.last_lsn, one.commit_lsn, one.applied_lsn) for name, one in found.items()}
    if len({number for end in ends.values() for number in end}) != 1:
        return f"not equally long: {ends}"
    return ""
