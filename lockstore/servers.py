"""Lock servers as processes: start, wait until ready, stop; and the clients of a whole set (their files: `preparing`).

The bundled server's own Python class turns persistence off; it is never used. A lock server that forgets breaks fencing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from lockstore.config import LockStoreConfig
from lockstore.errors import LockServerRefused
from lockstore.links import LinkSettings, ServerAddress, call, open_connection
from lockstore.preparing import ADMIN, ADMIN_USER, LockServerFiles, ensure_secrets, link_tls, prepare_server
from lockstore.seatlocks import SeatLocks

READY_DEADLINE_MS: Final = 10_000
STOP_DEADLINE_MS: Final = 5_000
ADMIN_TIMEOUT_MS: Final = 2_000
POLL_S: Final = 0.005
LOG_TAIL_LINES: Final = 5


@dataclass(frozen=True)
class RunningServer:
    """A lock server that answered after its start."""

    name: str
    pid: int
    address: ServerAddress


def lock_client(config: LockStoreConfig, data: Path, name: str = ADMIN) -> SeatLocks:
    """Return a SeatLocks for all servers of the configuration, with the lock user's password.

    Args:
        name: The process that calls: whose locks they are, and whose certificate is shown under TLS.
    """
    return SeatLocks(
        addresses(config),
        ttl_ms=config.ttl_ms,
        timeout_ms=config.timeout_ms,
        suspect_ms=config.suspect_ms,
        generation=config.generation,
        username=config.user,
        password=ensure_secrets(data).locks,
        tls=link_tls(config, data, name),
        name=name,
    )


def addresses(config: LockStoreConfig) -> tuple[ServerAddress, ...]:
    """Return where all configured servers listen, in their order."""
    return tuple(ServerAddress(server.name, server.host, server.port) for server in config.servers)


def admin_settings(config: LockStoreConfig, data: Path, timeout_ms: int = ADMIN_TIMEOUT_MS) -> LinkSettings:
    """Return the connection settings of the administration, which may admit, inspect and shut down a server."""
    return LinkSettings(
        timeout_ms=timeout_ms,
        suspect_ms=timeout_ms,
        username=ADMIN_USER,
        password=ensure_secrets(data).admin,
        tls=link_tls(config, data, _administration(config, data)),
    )


def _administration(config: LockStoreConfig, data: Path) -> str:
    """Return whose certificate the administration shows: its own where it is, on a host of several that of a lock server there."""
    folder = Path(config.certificates) if config.certificates else data / "certificates"
    names = (ADMIN, *(server.name for server in config.servers))
    return next((name for name in names if (folder / f"{name}.pem").exists()), ADMIN)


def start_server(config: LockStoreConfig, name: str, data: Path, deadline_ms: int = READY_DEADLINE_MS) -> RunningServer:
    """Start one managed lock server as a process of its own and wait until it is usable.

    The process outlives this one; stop it with `stop_server`. A new server still has to be admitted to the set
    (`lockstore.admission`) before it grants anything.

    Raises:
        PortInUse: Something listens there already.
        BinaryNotFound: No usable server binary.
        LockServerRefused: It did not become ready in time or its clock stands still; the detail has its last log lines.
    """
    command = prepare_server(config, name, data)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    server = config.server(name)
    # Reaping in the background: a server that ends must not stay behind as a zombie that looks alive.
    threading.Thread(target=process.wait, name=f"reap-{name}", daemon=True).start()
    try:
        wait_ready(config, name, data, alive=lambda: process.poll() is None, deadline_ms=deadline_ms)
    except LockServerRefused:
        process.kill()
        raise
    return RunningServer(name, process.pid, ServerAddress(server.name, server.host, server.port))


def wait_ready(
    config: LockStoreConfig, name: str, data: Path, alive: Callable[[], bool] = lambda: True, deadline_ms: int = READY_DEADLINE_MS
) -> None:
    """Wait until a lock server answers and its clock moves.

    Raises:
        LockServerRefused: It ended, did not answer in time, or its clock stands still.
    """
    server = config.server(name)
    address, settings = ServerAddress(server.name, server.host, server.port), admin_settings(config, data)
    deadline = time.monotonic() + deadline_ms / 1000
    pause = threading.Event()
    reason = "no answer"
    while time.monotonic() < deadline:
        if not alive():
            reason = "the process ended"
            break
        try:
            connection = open_connection(address, settings, settings.timeout_ms)
            try:
                information = call(connection, "INFO", "server")
                first = call(connection, "TIME")
                pause.wait(POLL_S)
                advances = call(connection, "TIME") != first
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            reason = str(error)
            pause.wait(POLL_S)
            continue
        if not advances or _clock_is_broken(information):
            # Seen with an unsynchronised time stamp counter: the clock freezes at boot and no lock ever expires.
            raise LockServerRefused(f'lock server "{name}": its clock stands still, locks would never expire', server=name)
        return
    tail = _log_tail(LockServerFiles(data / name).log)
    raise LockServerRefused(f'lock server "{name}" on {server.host}:{server.port} is not ready: {reason}\n{tail}', server=name)


def stop_server(config: LockStoreConfig, name: str, data: Path, deadline_ms: int = STOP_DEADLINE_MS) -> bool:
    """Stop one managed lock server; return whether it was running.

    Raises:
        LockServerRefused: It did not end by the deadline, not even when killed.
    """
    pid = running_pid(config, name, data)
    if pid is None:
        return False
    for sign, share in ((signal.SIGTERM, 0.6), (signal.SIGKILL, 0.4)):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + share * deadline_ms / 1000
        pause = threading.Event()
        while time.monotonic() < deadline:
            if running_pid(config, name, data) != pid:
                return True
            pause.wait(POLL_S)
    raise LockServerRefused(f'lock server "{name}" (process {pid}) does not end', server=name, pid=pid)


def running_pid(config: LockStoreConfig, name: str, data: Path) -> int | None:
    """Return the process id of a managed lock server, or None if it does not run."""
    try:
        pid = int(LockServerFiles(data / name).pid.read_text().strip())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # No /proc on this system: the process exists, and its pid file says that it is ours.
        return None if Path("/proc/self").exists() else pid
    # A pid file survives a crash, and the number may be another's by now. A zombie has no command line. The server shows its
    # address there once it is up, and its configuration file before.
    place, folder = f":{config.server(name).port}", str(LockServerFiles(data.resolve() / name).folder)
    words = command.decode(errors="replace").replace("\0", " ").split(" ")
    return pid if any(word.endswith(place) for word in words) or folder in " ".join(words) else None


def _clock_is_broken(information: bytes) -> bool:
    return any(line.startswith(b"monotonic_clock:") and b" inf" in line for line in information.splitlines())


def _log_tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    except OSError:
        return "(no log)"
