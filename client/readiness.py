"""Waiting for a cluster that is being started, and saying who is at fault where it does not come up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client import certificates, processes, supervisor
from client.folders import Folders
from client.plan import BALANCER, ClusterPlan, ProcessPlan
from datastore.errors import HoldfastError, WorldFailure

POLL_S = 0.05
STATUS_MS = 2_000
LOG_TAIL_LINES = 8


class StartFailed(WorldFailure):
    """The cluster did not come up; the detail has the reason and the last log lines of who is at fault."""

    code = "start_failed"
    title = "The cluster did not start"


def wait_listening(plan: ClusterPlan, folders: Folders, alive: Callable[[], bool]) -> None:
    """Wait until every process of this host listens; what the cluster as a whole can do, the other hosts decide with it.

    Raises:
        StartFailed: Not within `start_ms`, or `alive` said no.
    """
    deadline = time.monotonic() + plan.client.start_ms / 1000
    pause = threading.Event()
    while True:
        deaf = [process.name for process in supervisor.here(plan) if processes.port_is_free(process.host, process.port)]
        if not deaf:
            return
        if not alive() or time.monotonic() >= deadline:
            raise StartFailed(f"does not listen: {', '.join(deaf)}\n{_evidence(plan, folders)}", log=str(folders.logs))
        pause.wait(POLL_S)


def wait_serving(plan: ClusterPlan, folders: Folders, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until every balancer answers that every process is there and every operator has a primary.

    Raises:
        StartFailed: Not within `start_ms`, or `alive` said no.
    """
    from client import api

    deadline = time.monotonic() + plan.client.start_ms / 1000
    pause = threading.Event()
    waiting = "no answer yet"
    tls = certificates.caller_tls(plan.mapping, folders.data)
    clients = [(process, api.connect([api.Address(process.host, process.port)], tls=tls)) for process in plan.of(BALANCER)]
    try:
        for process, client in clients:
            while True:
                if not alive():
                    raise StartFailed(f"the supervisor ended\n{tail(folders.log(supervisor.NAME))}", log=str(folders.logs))
                waiting = missing(plan, process, client)
                if not waiting:
                    break
                if time.monotonic() >= deadline:
                    detail = f"not ready after {plan.client.start_ms} ms: {waiting}\n{_evidence(plan, folders)}"
                    raise StartFailed(detail, waiting=waiting, log=str(folders.logs))
                pause.wait(POLL_S)
    finally:
        for _, client in clients:
            client.close()


def missing(plan: ClusterPlan, process: ProcessPlan, client: Any) -> str:
    """Return what one balancer still lacks, or ""."""
    try:
        answer = client.status(deadline_ms=STATUS_MS)
    except HoldfastError as error:
        return f"{process.name}: {error.detail}"
    primaries = {line.operator for line in answer.partitions if line.primary}
    lacking = [operator.code for operator in plan.operators if operator.code not in primaries]
    if lacking:
        return f"{process.name}: no primary yet for {', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}"
    late = [f"{line.name} ({line.state or line.verdict})" for line in answer.processes if line.verdict != "ok"]
    if late:
        return f"{process.name}: {', '.join(late)}"
    try:
        client.operators()  # Its views: until they have begun it can answer nobody.
    except HoldfastError as error:
        return f"{process.name}: {error.detail}"
    return ""


def _evidence(plan: ClusterPlan, folders: Folders) -> str:
    """Return the last log lines of the processes that do not run, or of the supervisor."""
    dead = [process.name for process in supervisor.here(plan) if processes.running(folders.pid(process.name)) is None]
    names = dead or [process.name for process in plan.of(BALANCER)[:1]]
    return "\n".join(f"--- {folders.log(name)}\n{tail(folders.log(name))}" for name in names)


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
