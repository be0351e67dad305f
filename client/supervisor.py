"""The process that keeps a cluster running: starts every process, starts again what ends, and stops all in order.

`holdfast cluster up` starts it in the background with `python -m client.supervisor`; it lives on when the terminal goes.
One supervisor a data folder: it holds a lock on `run/supervisor.lock`, which the system gives back however it dies.
What a killed supervisor left running is ended before anything is started: two processes must never share a store.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client import processes
from client.folders import Folders
from client.plan import LOCK_SERVER, ClusterPlan, ProcessPlan, plan_of
from datastore.errors import ConfigInvalid

NAME = "supervisor"
EXIT_OK = 0
EXIT_OTHER_RUNS = 3
EXIT_NOTHING = 4
TICK_S = 0.05
RESTART_PAUSE_MAX_MS = 10_000
STEADY_MS = 10_000  # Who ran this long starts again without delay when it ends.


@dataclass
class Child:
    """A process that we look after."""

    plan: ProcessPlan
    process: subprocess.Popen[bytes] | None = None
    identity: processes.Identity | None = None
    started_ms: int = 0
    pause_ms: int = 0
    due_ms: int = 0
    starts: int = 0


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def log(message: str, **fields: object) -> None:
    """Write one line to stderr, in the form that every process here uses."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    words = "".join(f" {name}={value}" for name, value in fields.items())
    print(f"{stamp} INFO {NAME} {message}{words}", file=sys.stderr, flush=True)


def command_of(process: ProcessPlan, folders: Folders) -> list[str]:
    """Return the command that serves one process."""
    role = process.role
    # Files are given by whole paths: `ps` then shows which cluster a process belongs to.
    files = ["--config", str(folders.config.resolve()), "--data", str(folders.data.resolve())]
    return [sys.executable, "-m", role.package, "serve", role.flag, process.name, *files]


def here(plan: ClusterPlan) -> list[ProcessPlan]:
    """Return the processes that this machine, or the host that was named, runs, in the order of starting."""
    ours = [process for process in plan.processes if process.managed]
    if plan.client.host:
        return [process for process in ours if process.host == plan.client.host]
    return [process for process in ours if processes.is_local(process.host)]


def elsewhere(plan: ClusterPlan) -> list[ProcessPlan]:
    """Return the processes of this cluster that other hosts run."""
    ours = {process.name for process in here(plan)}
    return [process for process in plan.processes if process.managed and process.name not in ours]


def end_leftovers(plan: ClusterPlan, folders: Folders) -> list[str]:
    """End what runs under this folder's pid files, last started first; return the names."""
    ended = []
    planned = [process.name for process in plan.processes]
    strays = sorted(path.stem for path in folders.run.glob("*.pid") if path.stem not in planned and path.stem != NAME)
    for name in [*reversed(planned), *strays]:
        found = processes.running(folders.pid(name))
        if found is not None:
            processes.end(found, plan.client.stop_ms)
            ended.append(name)
        folders.pid(name).unlink(missing_ok=True)
    return ended


@dataclass
class Supervisor:
    """Runs the processes of one plan until told to stop."""

    plan: ClusterPlan
    folders: Folders
    stopping: threading.Event = field(default_factory=threading.Event)
    children: list[Child] = field(default_factory=list)
    admission: subprocess.Popen[bytes] | None = None
    admission_due_ms: int | None = None
    config_seen: tuple[int, int] = (0, 0)

    def run(self) -> None:
        """Start everything, watch it, and stop it in order once `stopping` is set."""
        self.children = [Child(process) for process in here(self.plan)]
        try:
            for child in self.children:
                self.start(child)
            self.admission_due_ms = 0 if any(child.plan.role.kind == LOCK_SERVER for child in self.children) else None
            while not self.stopping.wait(TICK_S):
                self.watch()
        finally:
            self.stop()

    def start(self, child: Child) -> None:
        """Start one process and write its pid file."""
        child.process = processes.spawn(command_of(child.plan, self.folders), self.folders.log(child.plan.name))
        child.identity = processes.identity(child.process.pid)
        processes.write_pid(self.folders.pid(child.plan.name), child.identity)
        child.started_ms = now_ms()
        child.starts += 1
        log("started", process=child.plan.name, pid=child.process.pid, start=child.starts)

    def watch(self) -> None:
        """Notice who ended, and start again who is due; follow a configuration that a command has changed."""
        now = now_ms()
        self._follow_config()
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                code = child.process.returncode
                child.process = None
                lived_ms = now - child.started_ms
                least = self.plan.client.restart_pause_ms
                child.pause_ms = least if lived_ms >= STEADY_MS or not child.pause_ms else min(2 * child.pause_ms, RESTART_PAUSE_MAX_MS)
                child.due_ms = now + child.pause_ms
                log("ended", process=child.plan.name, code=code, lived_ms=lived_ms, again_in_ms=child.pause_ms)
            elif child.process is None and now >= child.due_ms:
                self.start(child)
                if child.plan.role.kind == LOCK_SERVER:
                    # One that lost its data votes again only after it was admitted (docs/redlock.md, rejoin rule).
                    self.admission_due_ms = now
        self._admit(now)

    def _follow_config(self) -> None:
        """Start the processes that the configuration names newly, and end those that it names no more."""
        try:
            found = self.folders.config.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if not self.config_seen[0]:
                self.config_seen = seen
            if seen == self.config_seen:
                return
            self.config_seen = seen
            plan = plan_of(tomllib.loads(self.folders.config.read_text(encoding="utf-8")), str(self.folders.config))
        except (OSError, ValueError, ConfigInvalid) as error:
            log("configuration not followed", reason=error)
            return
        self.plan = plan
        wanted = {process.name: process for process in here(plan)}
        known = {child.plan.name for child in self.children}
        for child in [child for child in self.children if child.plan.name not in wanted]:
            log("no more in the configuration", process=child.plan.name)
            self._end(child)
            self.children.remove(child)
        for name, process in wanted.items():
            if name not in known:
                self.children.append(Child(process))
                self.start(self.children[-1])

    def _admit(self, now: int) -> None:
        """Have the lock servers admitted to their set; repeated until it succeeds, as some may not be up yet."""
        if self.admission is not None:
            code = self.admission.poll()
            if code is None:
                return
            self.admission = None
            if code == 0:
                log("lock servers admitted")
            else:
                self.admission_due_ms = now + self.plan.client.restart_pause_ms
        elif self.admission_due_ms is not None and now >= self.admission_due_ms:
            self.admission_due_ms = None
            files = ["--config", str(self.folders.config.resolve()), "--data", str(self.folders.data.resolve())]
            command = [sys.executable, "-m", "lockstore", "initialise", *files]
            self.admission = processes.spawn(command, self.folders.log("admission"))

    def stop(self) -> None:
        """Stop balancers, then managers, nodes and lock servers: kind by kind, those of one kind at the same time."""
        if self.admission is not None and self.admission.poll() is None:
            self.admission.kill()
            self.admission.wait()
        kinds = list(dict.fromkeys(child.plan.role.kind for child in reversed(self.children)))
        for kind in kinds:
            threads = []
            for child in self.children:
                if child.plan.role.kind == kind and child.process is not None:
                    threads.append(threading.Thread(target=self._end, args=(child,), name=f"end-{child.plan.name}"))
                    threads[-1].start()
            for thread in threads:
                thread.join()
        log("stopped")

    def _end(self, child: Child) -> None:
        if child.identity is None or child.process is None:
            return
        # Wait in this thread too, or the ended process stays a zombie.
        reaper = threading.Thread(target=child.process.wait, name=f"reap-{child.plan.name}", daemon=True)
        reaper.start()
        if not processes.end(child.identity, self.plan.client.stop_ms):
            log("killed", process=child.plan.name)
        reaper.join()
        self.folders.pid(child.plan.name).unlink(missing_ok=True)


@contextlib.contextmanager
def sole(folders: Folders) -> Iterator[bool]:
    """Hold the supervisor's lock; yields False where another supervisor has it.

    Raises:
        FileNotFoundError: The folder for it is gone: no cluster is there any more, and none is made by looking.
    """
    with folders.supervisor_lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the supervisor of one data folder until SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m client.supervisor", description="Keep the processes of one cluster running.")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args(arguments)
    folders = Folders(options.data)
    with contextlib.ExitStack() as stack:
        try:
            alone = stack.enter_context(sole(folders))
        except FileNotFoundError:
            return EXIT_NOTHING  # Deleted since we were started, as a demonstration may be: nothing is made anew.
        if not alone:
            log("another supervisor runs here", data=folders.data)
            return EXIT_OTHER_RUNS
        plan = plan_of(tomllib.loads(folders.config.read_text(encoding="utf-8")), str(folders.config))
        supervisor = Supervisor(plan, folders)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        processes.write_pid(folders.pid(NAME), processes.identity(os.getpid()))
        log("begins", data=folders.data, processes=len(here(plan)))
        ended = end_leftovers(plan, folders)
        if ended:
            log("ended what an earlier start left running", processes=",".join(ended))
        supervisor.run()
        folders.pid(NAME).unlink(missing_ok=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
