"""Real processes of a small cluster on free ports: lock servers, nodes, managers; ended by the ids they were started with."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from client.processes import free_ports
from datastore.edge import Address
from lockstore.admission import initialise
from lockstore.config import from_toml
from lockstore.servers import addresses, admin_settings, start_server, stop_server
from tests import nursery

NODES = ("node-1", "node-2", "node-3")
MANAGERS = ("manager-1", "manager-2")
LOCKS = ("lock-1", "lock-2", "lock-3")


class Processes:
    """A cluster's processes; `end` kills whatever of it still runs."""

    def __init__(self, folder: Path, operators: dict[str, str], suspicion_ms: int) -> None:
        self.folder = folder
        ports = dict(zip((*LOCKS, *NODES, *MANAGERS), free_ports(len(LOCKS) + len(NODES) + len(MANAGERS)), strict=True))
        self.addresses = {name: Address("127.0.0.1", port) for name, port in ports.items()}
        lines = ["[manager]", "heartbeat_ms = 100", f"suspicion_ms = {suspicion_ms}", "[datastore]", "copies = 3"]
        for table, names in (("lockstore.server", LOCKS), ("manager.manager", MANAGERS), ("datastore.node", NODES)):
            for name in names:
                lines += [f"[[{table}]]", f'name = "{name}"', 'host = "127.0.0.1"', f"port = {ports[name]}"]
        for code, primary in operators.items():
            lines += ["[[datastore.operator]]", f'code = "{code}"', f'name = "{code}"', 'kind = "airline"', f'primary = "{primary}"']
        self.config = folder / "cluster.toml"
        self.config.write_text("\n".join(lines) + "\n")
        self._running: dict[str, nursery.Process] = {}

    def start_locks(self) -> None:
        config = from_toml(tomllib.loads(self.config.read_text()))
        for name in LOCKS:
            start_server(config, name, self.folder)
        initialise(addresses(config), admin_settings(config, self.folder), config.generation)

    def stop_locks(self) -> None:
        config = from_toml(tomllib.loads(self.config.read_text()))
        for name in LOCKS:
            stop_server(config, name, self.folder)

    def start(self, name: str) -> nursery.Process:
        package, option = ("manager", "--manager") if name in MANAGERS else ("datastore", "--node")
        command = [sys.executable, "-m", package, "serve", option, name, "--config", str(self.config), "--data", str(self.folder)]
        process = nursery.spawn(command, self.folder / f"{name}.log")
        self._running[name] = process
        return process

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait(10)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def logs(self) -> str:
        """Return every process's last lines, for a message about what went wrong."""
        tails = [(path.name, path.read_text().splitlines()[-15:]) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join("\n".join((f"--- {name}", *lines)) for name, lines in tails)

    def end(self) -> None:
        for name in list(self._running):
            self.kill(name)
        tracebacks = [path.name for path in self.folder.glob("*.log") if "Traceback" in path.read_text()]
        if tracebacks:
            pytest.fail(f"a traceback in {', '.join(tracebacks)}\n{self.logs()}")
