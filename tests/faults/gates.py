"""Gates between the load balancers and what they speak to: a message can be kept at a gate, and what it waits for killed meanwhile.

A gate changes nothing of what passes. A message kept *before* has not reached its receiver; one kept *after* was received, and its
answer has come back to the gate, but to nobody. When the gates open, what was kept goes on, however late, or is lost with its connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from client import profiles, supervisor
from client.plan import BALANCER
from client.processes import spawn
from tests.integration.harness import TOP, ClusterUnderTest

CHUNK_BYTES = 65_536
CONNECT_S = 1.0
BEFORE, AFTER = "before", "after"


@dataclass
class Watch:
    """What the gates look for. `caught`: a message is kept now; `at`: whom it is, or was, for; `passing`: so many pass before."""

    matches: Callable[[bytes], bool]
    side: str
    passing: int = 0
    caught: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    at: str = ""
    lost: bool = False

    def wants(self, data: bytes) -> bool:
        """Return whether these bytes are of the message that is looked for."""
        if not self.matches(data):
            return False
        self.passing -= 1
        return self.passing < 0

    def keep(self, receiver: str) -> bool:
        """Keep a message here until the gates open; return whether it goes on."""
        self.at = self.at or receiver
        self.caught.set()
        self.opened.wait()
        return not self.lost


class Gates:
    """The gates of one cluster; each line through them has two threads of its own."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._listening: list[socket.socket] = []

    def port(self, receiver: str, address: tuple[str, int]) -> int:
        """Return the port of a new gate before the receiver at `address`."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listening.append(listening)
        threading.Thread(target=self._accept, args=(listening, receiver, address), daemon=True).start()
        return int(listening.getsockname()[1])

    def shut(self, side: str, matches: Callable[[bytes], bool], passing: int = 0) -> Watch:
        """Keep every message that matches but the first `passing`, on that side of its receiver, until `open`."""
        assert self._watch is None, "the gates are shut already"
        self._watch = Watch(matches, side, passing)
        return self._watch

    def open(self, *, lost: bool) -> None:
        """Let everything pass from now on; what was kept is lost, or goes on."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.lost = lost
            watch.opened.set()

    def close(self) -> None:
        self.open(lost=True)
        for listening in self._listening:
            listening.close()

    def _accept(self, listening: socket.socket, receiver: str, address: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listening.accept()
                threading.Thread(target=self._carry, args=(caller, receiver, address), daemon=True).start()

    def _carry(self, caller: socket.socket, receiver: str, address: tuple[str, int]) -> None:
        try:
            callee = socket.create_connection(address, CONNECT_S)
        except OSError:
            caller.close()  # As whoever is not there would.
            return
        for sock in (caller, callee):
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = _Line(caller, callee, receiver)
        threading.Thread(target=line.back, daemon=True).start()
        line.forth(lambda: self._watch)


@dataclass
class _Line:
    """One connection through a gate. `asked`: what keeps the answer that comes next."""

    caller: socket.socket
    callee: socket.socket
    receiver: str
    asked: Watch | None = None

    def forth(self, watching: Callable[[], Watch | None]) -> None:
        """Carry requests."""
        with contextlib.suppress(OSError):
            while data := self.caller.recv(CHUNK_BYTES):
                watch = watching()
                if watch is not None and watch.wants(data):
                    if watch.side == AFTER:
                        self.asked = watch
                    elif not watch.keep(self.receiver):
                        break
                self.callee.sendall(data)
        self._end()

    def back(self) -> None:
        """Carry answers."""
        with contextlib.suppress(OSError):
            while data := self.callee.recv(CHUNK_BYTES):
                watch, self.asked = self.asked, None
                if watch is not None and not watch.keep(self.receiver):
                    break
                self.caller.sendall(data)
        self._end()

    def _end(self) -> None:
        for sock in (self.caller, self.callee):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class GatedCluster(ClusterUnderTest):
    """A cluster whose load balancers reach the managers and the payment sandbox through gates."""

    def __init__(self, folder: Path, overlay: dict[str, Any], datasets: tuple[str, ...]) -> None:
        super().__init__(folder, overlay, datasets)
        self.gates = Gates()
        self._gated = self.folders.run / "gated.toml"

    def start_all(self) -> None:
        """Start everything, the balancers with a configuration in which others are where their gates are."""
        mapping = profiles.merge(self.mapping, {})
        for one in (*mapping["manager"]["manager"], *mapping["payments"]["sandbox"]):
            address = self.plan.process(one["name"])
            one["port"] = self.gates.port(address.name, (address.host, address.port))
        self._gated.parent.mkdir(parents=True, exist_ok=True)
        self._gated.write_text(tomlkit.dumps(mapping), encoding="utf-8")
        super().start_all()

    def start(self, name: str) -> None:
        process = self.plan.process(name)
        if process.role.kind != BALANCER:
            super().start(name)
            return
        command = supervisor.command_of(process, self.folders)
        command[command.index("--config") + 1] = str(self._gated.resolve())
        self.running[name] = spawn(command, self.folders.log(name), {"PYTHONPATH": str(TOP)})

    def stop_all(self) -> None:
        self.gates.close()
        super().stop_all()
