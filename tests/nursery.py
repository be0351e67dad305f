"""Processes of the program as copies of one that has imported it: ten start in the time of one.

Importing is nine tenths of what a process of a small cluster costs until it serves, and most of what a command costs; a run of
all tests starts some thousand of both. So a *nursery*, a process of one thread that imports what it is told, forks for whoever asks.
A child is a process like another: its own id, session, environment, folder, sockets, files and exit code, and nothing of the
nursery's but its modules. What wants an interpreter of its own (another version's code, a shifted clock) starts as it would
in use; so does every process of `holdfast cluster up`, whose start is what is tested there.

A request is a message over a socket, with one end of another socket on which come the child's process id and, in the end, its exit
code. A nursery and all its children end with the tests that began it, also when those are killed.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from client import processes
from datastore.process import freeze_what_stays

TOP = Path(__file__).resolve().parent.parent
TIERS = ("lockstore", "datastore", "manager", "loadbalancer")
MESSAGE_BYTES_MAX = 128 * 1024
FIRST_OWN_DESCRIPTOR = 3


class Process(Protocol):
    """What the tests need of a process that they started: a part of `subprocess.Popen`."""

    returncode: int | None

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Child:
    """A process that a nursery forked."""

    def __init__(self, line: socket.socket, args: Sequence[str]) -> None:
        """Wait until it is there.

        Raises:
            OSError: The nursery is gone.
        """
        self.args = args
        self.returncode: int | None = None
        self._line = line
        self._mutex = threading.Lock()
        told = line.recv(MESSAGE_BYTES_MAX)
        if not told:
            raise OSError("the nursery of processes is gone")
        self.pid = int(told)

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(None if timeout is None else timeout * 1000)
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_ms: float | None) -> int | None:
        """Return the exit code, as soon as there is one, or None when the time is over."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._line, select.POLLIN)
            if not ended.poll(timeout_ms):
                return None
            with self._mutex:
                if self.returncode is None:
                    told = self._line.recv(MESSAGE_BYTES_MAX)
                    self.returncode = int(told) if told else -signal.SIGKILL  # The nursery ended, and its children with it.
                    self._line.close()
        return self.returncode


class Nursery:
    """A process that forks, begun with the first request, and the way to it."""

    def __init__(self, *modules: str) -> None:
        """Prepare.

        Args:
            modules: What it imports.
        """
        self._modules = modules
        self._beginning = threading.Lock()
        self._line: socket.socket | None = None

    def start(self, module: str, words: Sequence[str], environment: Mapping[str, str], folder: Path, out: Path, err: Path) -> Child:
        """Return a process that runs `main()` of a module.

        Args:
            words: Its `sys.argv`.
            environment: All of it.
            folder: Where it begins.
            out, err: The files to which its output is appended.
        """
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            wish = [module, list(words), dict(environment), *(str(path.resolve()) for path in (folder, out, err))]
            socket.send_fds(self._begun(), [json.dumps(wish).encode()], [far.fileno()])
        return Child(near, words)

    def _begun(self) -> socket.socket:
        with self._beginning:
            if self._line is None:
                self._line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with far:
                    command = [sys.executable, "-m", "tests.nursery", str(far.fileno()), *self._modules]
                    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=TOP, pass_fds=[far.fileno()])
                atexit.register(_end, self._line, process)
            return self._line


def _end(line: socket.socket, process: subprocess.Popen[bytes]) -> None:
    line.close()
    process.wait()


_servers = Nursery(*(f"{package}.__main__" for package in TIERS))


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start a server's process as `client.processes.spawn` does, as a copy where that can be: without an environment of its own."""
    ours = {"PYTHONPATH": str(TOP)}
    is_ours = tuple(command[:2]) == (sys.executable, "-m") and command[2] in TIERS
    if not is_ours or environment or not hasattr(os, "pidfd_open"):
        return processes.spawn(command, log, {**ours, **(environment or {})})
    log.parent.mkdir(parents=True, exist_ok=True)
    return _servers.start(f"{command[2]}.__main__", command[2:], {**os.environ, **ours}, Path(), log, log)


# --- in the nursery itself ------------------------------------------------------------------------------------------


def serve(line: int) -> None:
    """Fork for whoever asks on `line`, until it closes; in a child, run what was asked for.

    Descriptors are bare numbers here: a child closes all of them at once, and no object of the nursery's that is collected
    later may close a number that is the child's own by then.
    """
    freeze_what_stays()
    control = socket.socket(fileno=line)
    children: dict[int, tuple[int, int]] = {}  # descriptor of the child as a process -> its id, and the line to who asked for it
    while True:
        waiting = select.poll()
        for descriptor in (line, *children):
            waiting.register(descriptor, select.POLLIN)
        for descriptor, _ in waiting.poll():
            if descriptor != line:
                _tell_end(descriptor, *children.pop(descriptor))
                continue
            data, lines, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 1)
            if not data:
                for process, _ in children.values():
                    os.kill(process, signal.SIGKILL)
                return
            process = os.fork()
            if not process:
                control.detach()
                _become(*json.loads(data))
                return
            children[os.pidfd_open(process)] = (process, lines[0])
            with contextlib.suppress(OSError):
                os.write(lines[0], b"%d" % process)


def _become(module: str, words: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    """Leave everything of the nursery's but its modules, and run."""
    os.setsid()
    os.closerange(FIRST_OWN_DESCRIPTOR, os.sysconf("SC_OPEN_MAX"))
    for number, path in ((1, out), (2, err)):
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, number)
        os.close(output)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (it lives as long as the process)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115 (so does this)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.exit(importlib.import_module(module).main())


def _tell_end(descriptor: int, process: int, line: int) -> None:
    _, status = os.waitpid(process, 0)
    os.close(descriptor)
    with contextlib.suppress(OSError):  # Nobody may be left who wants to know.
        os.write(line, b"%d" % os.waitstatus_to_exitcode(status))
    os.close(line)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    serve(int(sys.argv[1]))
