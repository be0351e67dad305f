"""Processes of this machine: start them, know them again, end them; ports, and who has them.

A process is known by its id *and* the moment when it started: ids are used again, and a pid file survives a crash, so
an id alone could make us kill a stranger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("lockstore", "datastore", "manager", "loadbalancer", "client")
NAME_FLAGS = ("--name", "--node", "--manager", "--balancer", "--sandbox")
POLL_S = 0.02
PORTS = range(15_000, 32_000)  # Where free ones are sought: Linux gives outgoing connections 32768 and above.
STATE_ZOMBIE = "Z"


@dataclass(frozen=True)
class Identity:
    """A process for certain: its id and its start in clock ticks since the machine's boot (0 where /proc is missing)."""

    pid: int
    started: int

    def is_alive(self) -> bool:
        """Return whether this very process still runs; a zombie does not."""
        if not Path("/proc/self/stat").exists():
            try:
                os.kill(self.pid, 0)
            except OSError:
                return False
            return True
        state, started = _stat(self.pid)
        return started == self.started and state not in ("", STATE_ZOMBIE)


def identity(pid: int) -> Identity:
    """Return who has this process id now."""
    return Identity(pid, _stat(pid)[1])


def write_pid(path: Path, process: Identity) -> None:
    """Write a pid file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(f"{process.pid} {process.started}\n", encoding="ascii")
    os.replace(draft, path)


def read_pid(path: Path) -> Identity | None:
    """Return the process that a pid file names, dead or alive, or None where there is no usable file."""
    try:
        pid, started = path.read_text(encoding="ascii").split()
        return Identity(int(pid), int(started))
    except (OSError, ValueError):
        return None


def running(path: Path) -> Identity | None:
    """Return the process that a pid file names if it still runs."""
    found = read_pid(path)
    return found if found is not None and found.is_alive() else None


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl+C in our terminal does not reach it; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )


def end(process: Identity, deadline_ms: int) -> bool:
    """End a process: SIGTERM, and SIGKILL when the deadline passes; return whether it ended by itself.

    A frozen process is woken first, or it could not hear the SIGTERM.
    """
    deadline = time.monotonic() + deadline_ms / 1000
    if not _signal(process, signal.SIGTERM):
        return True
    _signal(process, signal.SIGCONT)
    pause = threading.Event()
    while time.monotonic() < deadline:
        if not process.is_alive():
            return True
        pause.wait(POLL_S)
    _signal(process, signal.SIGKILL)
    while process.is_alive():  # Nothing survives SIGKILL; only its moment is not ours.
        pause.wait(POLL_S)
    return False


def _signal(process: Identity, number: int) -> bool:
    if not process.is_alive():
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether this machine can listen at `host`: what is elsewhere is started there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return `count` different ports that nobody listens at.

    They are below those that the kernel gives to outgoing connections, of which a busy machine may open one at such a port
    between our looking and the server's start; and drawn, so that two who look at once hardly meet.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if port_is_free(host, port):
            found.append(port)
    return found


def listening(ports: Collection[int]) -> set[int]:
    """Return those of the ports that somebody listens at on this machine; nobody notices that it was looked at."""
    return {port for port, _ in _listening()} & set(ports)


def listener(port: int) -> tuple[int, list[str]] | None:
    """Return (process id, command) of who listens at a port of this machine, or None where that cannot be seen."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            descriptors = os.listdir(folder / "fd")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # Ended meanwhile, or another user's.
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # Closed meanwhile.
                if os.readlink(folder / "fd" / descriptor) in inodes:
                    return int(folder.name), [part.decode(errors="replace") for part in command.split(b"\0") if part]
    return None


def who_listens(port: int) -> str:
    """Return a phrase for who has a port: our own process by its name and data folder, a stranger by its command, or ""."""
    found = listener(port)
    if found is None:
        return ""
    pid, command = found
    if any(package in command for package in PACKAGES) and "serve" in command and "--data" in command:
        data = command[command.index("--data") + 1] if command.index("--data") + 1 < len(command) else "?"
        name = next((command[index + 1] for index, word in enumerate(command[:-1]) if word in NAME_FLAGS), "a process")
        return f"{name} of the cluster in {data} (process {pid})"
    # A lock server replaced its Python by the server binary, which shows only a title; it works in <data>/<name>/.
    folder = _working_folder(pid)
    if folder is not None and (folder / "lock-server.conf").exists():
        return f"{folder.name} of the cluster in {folder.parent} (process {pid})"
    return f"process {pid} ({Path(command[0]).name if command else '?'})"


def _working_folder(pid: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def _listening_inodes(port: int) -> set[str]:
    return {f"socket:[{inode}]" for one, inode in _listening() if one == port}


def _listening() -> list[tuple[int, str]]:
    """Return (port, inode) of every socket that listens."""
    found: list[tuple[int, str]] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        rows = [line.split() for line in lines]
        found += [(int(words[1].rpartition(":")[2], 16), words[9]) for words in rows if words[3] == "0A"]
    return found


def _stat(pid: int) -> tuple[str, int]:
    """Return (state, start in ticks) of a process; ("", 0) where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "", 0
    # The command's name stands in brackets and may hold anything; the fields count from the last one.
    words = text.rpartition(")")[2].split()
    return words[0], int(words[19])
