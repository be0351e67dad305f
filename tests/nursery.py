"""A cluster's processes as copies of one that has imported the program: seven of them start in the time of one.

Importing is nine tenths of what a process of a small cluster costs until it serves, and a run of all tests starts some hundreds.
So the first start begins a *nursery*, a process of one thread that imports every tier and then forks for whoever asks. A
child is a process like another: its own id, session, sockets, files and log, and nothing of the nursery's but its modules.
What is not a Python of ours, or wants an interpreter of its own (another version's code, a shifted clock), starts as it
would in use; so do the clusters of `holdfast cluster up`, whose start is what is tested.

The way of a request: a message over a socket with the child's end of another socket, on which come its process id and, in the end,
its exit code. The nursery and all its children end with the tests that use them.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
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

TOP = Path(__file__).resolve().parent.parent
TIERS = ("lockstore", "datastore", "manager", "loadbalancer")
MESSAGE_BYTES_MAX = 65_536
FIRST_OWN_DESCRIPTOR = 3
WORDS_BEFORE_ARGUMENTS = 3  # python -m PACKAGE


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


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start a process as `client.processes.spawn` does, as a copy of the nursery where that can be."""
    extra = dict(environment or {})
    is_ours = tuple(command[:2]) == (sys.executable, "-m") and command[2] in TIERS
    if not is_ours or set(extra) - {"PYTHONPATH"} or extra.get("PYTHONPATH", str(TOP)) != str(TOP) or not hasattr(os, "pidfd_open"):
        return processes.spawn(command, log, extra)
    log.parent.mkdir(parents=True, exist_ok=True)
    return _nursery().start(command[2], list(command[WORDS_BEFORE_ARGUMENTS:]), log)


class Child:
    """A process that the nursery forked."""

    def __init__(self, line: socket.socket, args: list[str]) -> None:
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
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
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
    """The process that forks, and the way to it."""

    def __init__(self) -> None:
        """Start it; what it imports it imports while the first request waits."""
        self._line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            command = [sys.executable, "-m", "tests.nursery", str(far.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=TOP, pass_fds=[far.fileno()])
        atexit.register(self.close)

    def start(self, package: str, arguments: list[str], log: Path) -> Child:
        """Return a process that runs `python -m PACKAGE ARGUMENTS`, its output appended to `log`."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            wish = json.dumps([package, arguments, str(log.resolve()), os.getcwd()]).encode()
            socket.send_fds(self._line, [wish], [far.fileno()])
        return Child(near, [package, *arguments])

    def close(self) -> None:
        """End it and whoever it forked."""
        self._line.close()
        self._process.wait()


_one: list[Nursery] = []
_starting = threading.Lock()


def _nursery() -> Nursery:
    with _starting:
        if not _one:
            _one.append(Nursery())
        return _one[0]


# --- in the nursery itself ------------------------------------------------------------------------------------------


def serve(line: int) -> int:
    """Fork for whoever asks on `line`, until it closes; in a child, return what the child came to.

    Descriptors are bare numbers here: a child closes all of them at once, and no object of the nursery's that is collected
    later may close a number that is the child's own by then.
    """
    mains = {package: importlib.import_module(f"{package}.__main__").main for package in TIERS}
    gc.collect()
    gc.freeze()
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
                return 0
            package, arguments, log, folder = json.loads(data)
            process = os.fork()
            if not process:
                control.detach()
                _become(log, folder)
                code: int = mains[package](arguments)
                return code
            children[os.pidfd_open(process)] = (process, lines[0])
            with contextlib.suppress(OSError):
                os.write(lines[0], b"%d" % process)


def _become(log: str, folder: str) -> None:
    """Leave everything of the nursery's but its modules."""
    os.setsid()
    os.closerange(FIRST_OWN_DESCRIPTOR, os.sysconf("SC_OPEN_MAX"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(folder)


def _tell_end(descriptor: int, process: int, line: int) -> None:
    _, status = os.waitpid(process, 0)
    os.close(descriptor)
    with contextlib.suppress(OSError):  # Nobody may be left who wants to know.
        os.write(line, b"%d" % os.waitstatus_to_exitcode(status))
    os.close(line)


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1])))
