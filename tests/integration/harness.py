"""A whole cluster of real processes for a test: free ports, its own data folder, every process by name.

The processes are started one by one, as `holdfast cluster up` starts them, but without its supervisor: a test that kills a
process does not want it back before it says so. A traceback in any log fails the test that owns the cluster.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from client import api, certificates, cluster, keys, loading, processes, profiles, readiness, supervisor
from client.folders import Folders
from client.plan import BALANCER, LOCK_SERVER, SANDBOX, ClusterPlan, plan_of, with_ports
from datastore.certificates import make
from datastore.edge import Tls
from datastore.errors import HoldfastError
from lockstore import admission, servers
from lockstore.config import from_toml
from lockstore.errors import LockError
from tests import nursery
from tests.waiting import freeze, wait_until

READY_S = 60
STOP_S = 10
TOP = nursery.TOP
# What a frame of a log may hold of a fault that nobody foresaw.
FAULT_MARKS = ("Traceback (most recent call last)", "CRITICAL", "invariant")

SMALL: dict[str, Any] = {
    "lockstore": {"server": [{"name": f"lock-{number}", "host": "127.0.0.1", "port": number} for number in (1, 2, 3)]},
    "datastore": {
        "copies": 3,
        "node": [{"name": f"node-{number}", "host": "127.0.0.1", "port": 10 + number} for number in (1, 2, 3)],
        "operator": [
            {"code": "AR", "name": "Aerolíneas Argentinas", "kind": "airline", "primary": "node-1"},
            {"code": "FO", "name": "Flybondi", "kind": "airline", "primary": "node-2"},
            {"code": "LUM", "name": "Cine Lumen", "kind": "cinema", "primary": "node-3"},
            {"code": "GRAND", "name": "Grand Theatre", "kind": "theatre", "primary": "node-1"},
        ],
    },
    "manager": {"manager": [{"name": f"manager-{number}", "host": "127.0.0.1", "port": 20 + number} for number in (1, 2)]},
    "loadbalancer": {"balancer": [{"name": f"balancer-{number}", "host": "127.0.0.1", "port": 30 + number} for number in (1, 2)]},
    "client": {"timetables": [], "timetable_days": 60},
}


class ClusterUnderTest:
    """Three lock servers, three nodes, two managers and two balancers, with four operators; use it as a context.

    Args:
        folder: The test's own folder; the data folder is made in it.
        overlay: Laid over the small configuration, as a profile is.
        datasets: Shipped datasets to load; only the operators of the configuration are taken from them.
    """

    def __init__(self, folder: Path, overlay: Mapping[str, Any] | None = None, datasets: Sequence[str] = ("brief", "venues")) -> None:
        mapping = profiles.merge(copy.deepcopy(SMALL), overlay or {})
        names = [process.name for process in plan_of(mapping).processes]
        self.mapping = with_ports(mapping, dict(zip(names, processes.free_ports(len(names)), strict=True)))
        self.plan: ClusterPlan = plan_of(self.mapping)
        self.folders = Folders(folder / "data")
        self.running: dict[str, nursery.Process] = {}
        self.faults_expected: set[str] = set()
        """Processes whose logs may hold a fault: those that a test breaks on purpose."""
        self._datasets = datasets
        self._clients: list[api.Holdfast] = []

    def __enter__(self) -> ClusterUnderTest:
        try:
            self.start_all()
            self.wait_ready()
            self.load()
        except BaseException:
            self.stop_all()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_all()
        if kind is None:
            self.check_logs()

    @property
    def tls(self) -> Tls | None:
        """The files of callers, where the configuration asks for TLS."""
        return certificates.caller_tls(self.mapping, self.folders.data)

    # --- processes by name ----------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return [process.name for process in self.plan.processes]

    def start_all(self) -> None:
        """Write the configuration and start every process, then have the lock servers admitted."""
        keys.ensure_admin(self.folders)
        if self.plan.of(SANDBOX):
            keys.ensure_secret(self.folders.sandbox_key)
        if self.tls is not None:
            make(self.folders.data / "certificates", certificates.wanted(self.plan))
        cluster.write_config(self.folders, self.mapping, Path("harness"), profiles.DEFAULT)
        for name in self.names:
            self.start(name)
        self.admit()

    def start(self, name: str) -> None:
        """Start one process that does not run."""
        assert name not in self.running, f"{name} runs already"
        command = supervisor.command_of(self.plan.process(name), self.folders)
        self.running[name] = nursery.spawn(command, self.folders.log(name))

    def admit(self) -> None:
        """Admit the lock servers to their set, as the supervisor does after a start."""
        config = from_toml(self.mapping, str(self.folders.config))
        settings = servers.admin_settings(config, self.folders.data)

        def admitted() -> bool:
            try:
                admission.initialise(servers.addresses(config), settings, config.generation)
            except LockError:
                return False
            return True

        wait_until(admitted, "the lock servers to be admitted", READY_S)

    def pid(self, name: str) -> int:
        return self.running[name].pid

    def kill(self, *names: str) -> None:
        """Kill processes with SIGKILL, all before any is waited for."""
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running.pop(name).wait(STOP_S)

    def freeze(self, name: str) -> None:
        """Stop a process in its tracks: its sockets stay open and silent."""
        freeze(self.pid(name))

    def thaw(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    def restart(self, *names: str) -> None:
        """Start killed processes again, lock servers with their admission."""
        for name in names:
            self.start(name)
        if any(self.plan.process(name).role.kind == LOCK_SERVER for name in names):
            self.admit()

    def stop_all(self) -> None:
        """End everything that runs, kind by kind, those of one kind at the same time, as the supervisor does."""
        self.close_clients()
        for kind in dict.fromkeys(process.role.kind for process in reversed(self.plan.processes)):
            ending = [self.running.pop(process.name) for process in self.plan.of(kind) if process.name in self.running]
            for process in ending:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                    process.send_signal(signal.SIGCONT)  # A frozen one could not hear it.
            for process in ending:
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        # Of a kind that a changed plan no longer names: nothing is left behind.
        for name in list(self.running):
            self.running[name].kill()
            self.running.pop(name).wait()

    # --- what it does ---------------------------------------------------------------------------------------------

    def client(self, owner_key: str = "an-owner-of-the-tests", balancers: Iterable[str] = (), deadline_ms: int = 10_000) -> api.Holdfast:
        """Return a client of the named balancers, of all by default; closed with the cluster."""
        wanted = list(balancers) or [process.name for process in self.plan.of(BALANCER)]
        addresses = [api.Address(process.host, process.port) for process in map(self.plan.process, wanted)]
        made = api.connect(addresses, owner_key=owner_key, deadline_ms=deadline_ms, tls=self.tls)
        self._clients.append(made)
        return made

    def close_clients(self) -> None:
        """Close every client that was made so far: a balancer takes a bounded number of connections."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    def operator_key(self, code: str) -> str:
        return keys.read_secret(self.folders.operator_key(code))

    def wait_ready(self) -> None:
        """Wait until every balancer sees every process and a primary for every operator."""
        clients = {process.name: self.client(balancers=[process.name], deadline_ms=2_000) for process in self.plan.of(BALANCER)}

        def ready() -> bool:
            for name, client in clients.items():
                dead = [one for one, process in self.running.items() if process.poll() is not None]
                assert not dead, f"{dead[0]} ended:\n{readiness.tail(self.folders.log(dead[0]))}"
                if name in self.running and readiness.missing(self.plan, self.plan.process(name), client):
                    return False
            return True

        self._wait(ready, "the cluster to serve", READY_S)

    def load(self) -> None:
        """Make the operators known and load their part of the datasets."""
        codes = [operator.code for operator in self.plan.operators]
        addresses = [api.Address(process.host, process.port) for process in self.plan.of(BALANCER)]
        with api.connect(addresses, deadline_ms=60_000, tls=self.tls) as client:
            admin_key = keys.ensure_admin(self.folders)
            for operator in self.plan.operators:
                loading.register(client, self.folders, admin_key, operator.code, operator.name, operator.kind)
            loaded: list[tuple[str, str]] = []
            for name in self._datasets:
                loaded += loading.load(client, self.folders, TOP / "data" / name, 60, {}, lambda _: None, only=codes)
        loading.wait_seen(addresses, codes, loaded, self.tls)

    def wait_serving(self, service_id: str, deadline_s: float = READY_S) -> None:
        """Wait until a service can be asked for again, e.g. after its primary came back."""
        client = self.client(deadline_ms=1_000)

        def answers() -> bool:
            try:
                client.seat_map(service_id)
                client.my_holds()
            except HoldfastError:
                return False
            return True

        self._wait(answers, f"{service_id} to be served", deadline_s)

    # --- evidence -------------------------------------------------------------------------------------------------

    def check_logs(self) -> None:
        """Fail where a log has a traceback or a process found itself in error."""
        for path in sorted(self.folders.logs.glob("*.log")):
            if path.stem in self.faults_expected:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            for mark in FAULT_MARKS:
                place = text.find(mark)
                assert place < 0, f"{path.name} has {mark!r}:\n{text[max(0, place - 500) : place + 3000]}"

    def evidence(self) -> str:
        """Return the last lines of every log."""
        return "\n".join(f"--- {path.name}\n{readiness.tail(path)}" for path in sorted(self.folders.logs.glob("*.log")))

    def _wait(self, condition: Any, what: str, deadline_s: float) -> None:
        try:
            wait_until(condition, what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.evidence()}") from error
