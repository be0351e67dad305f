"""Real lock servers on free loopback ports, for tests: start, kill, freeze, thaw, restart, lose a disk, stop all."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from client.processes import free_ports
from lockstore import admission, servers
from lockstore.config import LockStoreConfig, from_toml
from lockstore.seatlocks import SeatLocks, ServerAddress
from tests.waiting import freeze, wait_until

DEADLINE_S = 10.0


class LockServerSet:
    """A set of lock servers `lock-1` to `lock-N`, started and admitted when built unless told otherwise.

    Use as a context manager, or call `stop_all`; processes are ended by their ids.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        *,
        appendfsync: str = "always",
        timeout_ms: int = 300,
        suspect_ms: int = 50,
        ttl_ms: int = 5_000,
        initialise: bool = True,
        binary: str = "",
    ) -> None:
        self.data = folder
        rows = [{"name": f"lock-{number}", "port": port} for number, port in enumerate(free_ports(count), 1)]
        table = {"ttl_ms": ttl_ms, "timeout_ms": timeout_ms, "suspect_ms": suspect_ms, "appendfsync": appendfsync, "server": rows}
        table["binary"] = binary
        self.config: LockStoreConfig = from_toml({"lockstore": table}, "test.toml")
        self.names = [server.name for server in self.config.servers]
        self.pids: dict[str, int] = {}
        self._frozen: set[str] = set()
        try:
            for name in self.names:
                self.start(name)
            if initialise:
                self.initialise()
        except BaseException:
            self.stop_all()
            raise

    def __enter__(self) -> LockServerSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    @property
    def addresses(self) -> tuple[ServerAddress, ...]:
        """Where all servers listen."""
        return servers.addresses(self.config)

    def start(self, name: str) -> None:
        """Start one server and wait until it answers."""
        self.pids[name] = servers.start_server(self.config, name, self.data).pid

    def initialise(self, ttl_max_ms: int = 10_000) -> admission.Admission:
        """Admit what can be admitted."""
        settings = servers.admin_settings(self.config, self.data)
        return admission.initialise(self.addresses, settings, self.config.generation, ttl_max_ms=ttl_max_ms)

    def client(self) -> SeatLocks:
        """Return a new SeatLocks for this set."""
        return servers.lock_client(self.config, self.data)

    def plain(self, name: str, user: str = "") -> redis.Redis:
        """Return a plain client of one server, as the lock user or as `user` (default: none, the lock user)."""
        server, passwords = self.config.server(name), servers.ensure_secrets(self.data)
        return redis.Redis(
            host=server.host,
            port=server.port,
            username=user or self.config.user,
            password=passwords.admin if user == servers.ADMIN_USER else passwords.locks,
            socket_timeout=self.config.timeout_ms / 1000,
            socket_connect_timeout=self.config.timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def value(self, name: str, key: str) -> bytes | None:
        """Return what stands at a key on one server."""
        client = self.plain(name)
        try:
            return client.get(key)
        finally:
            client.close()

    def counter(self, name: str) -> int:
        """Return one server's fence counter."""
        return int(self.value(name, "{rsv}:fence") or -1)

    def kill(self, name: str) -> None:
        """Kill -9 one server and wait until it is gone."""
        pid = self.pids.pop(name)
        self._frozen.discard(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"{name} is gone", DEADLINE_S)

    def freeze(self, name: str) -> None:
        """Stop a server's execution (SIGSTOP); its sockets go on accepting."""
        self._frozen.add(name)
        freeze(self.pids[name])

    def thaw(self, name: str) -> None:
        """Let a frozen server go on."""
        os.kill(self.pids[name], signal.SIGCONT)
        self._frozen.discard(name)

    def restart(self, name: str) -> None:
        """Kill -9 one server and start it again on the same data."""
        if name in self.pids:
            self.kill(name)
        self.start(name)

    def lose_disk(self, name: str) -> None:
        """Kill one server, throw its data away, and start it empty."""
        self.kill(name)
        shutil.rmtree(self.data / name)
        self.start(name)

    def stop_all(self) -> None:
        """End every process that this set started."""
        for name in list(self.pids):
            self.kill(name)
