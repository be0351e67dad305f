"""A cluster's nodes as its cluster.toml names them: what is checked before one more is written there, and waiting until it runs.

    new = newcomer(session, "node-4")      # refused here, with the reason, before anything is changed
    join(session, new, tell)               # written, started, and the managers told: its copies learn first and vote later

A command and a screen both do it so; whoever is interrupted does the same again, and it goes on from where it was.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import cluster_file, processes, profiles, supervisor
from client.administering import ask_once, whoever
from client.plan import plan_of
from client.terminal import Session
from datastore import cluster_record
from datastore.administration import ChangeNode, LookAtCluster, NodeReport
from datastore.errors import InvalidRequest
from datastore.wire import ManagerStatus

START_S = 60.0
POLL_S = 0.1
THIS_MACHINE = "127.0.0.1"

Tell = Callable[[str], None]
Change = Callable[[str, str], str]
"""(text of a cluster.toml, profile) -> the text that it is to have."""


@dataclass(frozen=True)
class Newcomer:
    """A node that may be added. `before`: the nodes that cluster.toml names now, in its order; it may be among them already."""

    name: str
    host: str
    port: int
    before: tuple[str, ...]


def newcomer(session: Session, name: str, host: str = THIS_MACHINE, port: int = 0) -> Newcomer:
    """Return what would be added; changes nothing.

    Args:
        port: 0 takes the one that the configuration names for it already, else a free one of this machine.
    Raises:
        InvalidRequest: No cluster runs here, the address is taken or another than the configuration's, or the node's old files are there.
        ConfigInvalid: cluster.toml with it would be no configuration; names the key.
    """
    if not session.folders.config.exists():
        raise InvalidRequest(f"no cluster runs in {session.folders.data}; name its data folder with --data", field="data")
    session.reread()
    rows = {str(row["name"]): row for row in session.mapping["datastore"]["node"]}
    if name in rows:
        host, port = _address_of(name, rows[name], host, port)
    elif not port:
        (port,) = processes.free_ports(1)
    elif processes.is_local(host) and answers(host, port):
        raise InvalidRequest(f"something listens at {host}:{port} already: choose another port, or leave it out", field="port")
    _refuse_old_files(session, name)
    new = Newcomer(name, host, port, tuple(rows))
    _changes(session, _with(new))
    return new


def next_name(session: Session) -> str:
    """Return a name for one node more: the last one's with the next number."""
    session.reread()
    numbered = [re.fullmatch(r"(.*?)(\d+)", name) for name in configured(session)]
    found = [(one[1], int(one[2])) for one in numbered if one]
    return f"{found[-1][0]}{max(number for _, number in found) + 1}" if found else "node-1"


def join(session: Session, new: Newcomer, tell: Tell) -> NodeReport:
    """Write a newcomer down, wait until it answers, and have the managers take it in; return what is left to do, which goes on by itself.

    Raises:
        InvalidRequest: It does not start; the message says how to start it by hand.
        ConfigInvalid: cluster.toml was changed by somebody else meanwhile.
    """
    write(session, _with(new), tell)
    _wait_started(session, new, tell)
    report: NodeReport = ask_once(session, ChangeNode(action="add", name=new.name, host=new.host, port=new.port, by=whoever()))
    return report


def configured(session: Session) -> list[str]:
    """Return the names of the nodes in cluster.toml."""
    return [str(row.get("name")) for row in session.mapping.get("datastore", {}).get("node", [])]


def members(status: ManagerStatus) -> list[str]:
    """Return the names of the nodes that were not removed, sorted."""
    wishes = cluster_record.nodes_of(status.record)
    return sorted(name for name in status.addresses if name not in wishes or wishes[name].state != cluster_record.REMOVED)


def write(session: Session, change: Change, tell: Tell) -> None:
    """Rewrite cluster.toml, comments kept, or tell the difference; the running cluster's own configuration in any case.

    Raises:
        ConfigInvalid: What would be written is no configuration; nothing is written.
    """
    if cluster_file.source_of(session.folders.config.read_text(encoding="utf-8"))[0] is None:
        tell("the cluster.toml that this cluster was started from is not here: change it as well, or the next start forgets this")
    for path, before, after in _changes(session, change):
        if cluster_file.rewrite(path, before, after):
            if path != session.folders.config:
                tell(f"rewritten: {path}")
        else:
            tell(f"{path} cannot be written; change it so:")
            tell(cluster_file.difference(path, before, after))
    session.reread()


def answers(host: str, port: int) -> bool:
    """Return whether something listens there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _with(new: Newcomer) -> Change:
    return lambda text, profile: cluster_file.with_node(text, profile, new.name, new.host, new.port)


def _changes(session: Session, change: Change) -> list[tuple[Path, str, str]]:
    """Return (file, text, new text) of what a change means, the source that a person keeps last.

    Raises:
        ConfigInvalid: A file would be no configuration any more.
    """
    source, profile = cluster_file.source_of(session.folders.config.read_text(encoding="utf-8"))
    targets = [(session.folders.config, profiles.DEFAULT)]
    if source is not None:
        targets.append((source, profile))
    changed = []
    for path, name in targets:
        before = path.read_text(encoding="utf-8")
        after = change(before, name)
        if after != before:
            cluster_file.check(path, after, name)
            changed.append((path, before, after))
    return changed


def _address_of(name: str, row: Mapping[str, Any], host: str, port: int) -> tuple[str, int]:
    """Return where a node that is in the configuration listens.

    Raises:
        InvalidRequest: It was asked for at another port.
    """
    there = int(row["port"])
    if port not in (0, there):
        reason = f"{name} is in the configuration already, with port {there}: remove it first, or choose another name"
        raise InvalidRequest(reason, field="name")
    return str(row.get("host", host)), there


def _refuse_old_files(session: Session, name: str) -> None:
    """Say it at once where a node that was removed would start with its old files: it would end again and again.

    Raises:
        InvalidRequest: So it is; nothing was changed.
    """
    wish = cluster_record.nodes_of(ask_once(session, LookAtCluster()).record).get(name)
    folder = session.folders.data / name
    if wish is not None and wish.state == cluster_record.REMOVED and any(folder.glob("partitions/*.sqlite")):
        reason = f"{name} was removed, and its old files are still in {folder}: they never vote again"
        raise InvalidRequest(f"{reason}; delete that folder or move it away, then add {name} again", field="name", folder=str(folder))


def _wait_started(session: Session, new: Newcomer, tell: Tell) -> None:
    """Wait until the node answers: the supervisor of this machine starts it, or a person does on its host.

    Raises:
        InvalidRequest: It does not answer; the message says how to start it.
    """
    deadline, pause = time.monotonic() + START_S, threading.Event()
    plan = plan_of(session.mapping, str(session.folders.config))
    command = " ".join(supervisor.command_of(plan.process(new.name), session.folders)[1:])
    if not processes.is_local(new.host):
        tell(f"waiting for {new.name}; start it on {new.host} with the same cluster.toml: python {command}")
    while not answers(new.host, new.port):
        if time.monotonic() >= deadline:
            raise InvalidRequest(f"{new.name} at {new.host}:{new.port} does not answer; start it with: python {command}", field="name")
        pause.wait(POLL_S)
