"""The commands for the cluster's nodes: add, remove, drain, list. They need the administrator's key."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from client import cluster_file, completion, exit_codes, processes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import InvalidRequest

node = typer.Typer(name="node", help="Add, remove, drain and list data nodes.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.", autocompletion=completion.nodes)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
START_S = 60.0


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(node, rich_help_panel="Run a cluster")


@node.command("list")
def list_nodes(context: typer.Context, json: Json = False) -> int:
    """Show every node: its state, how many copies and primaries it has, and what is being done."""
    from client.administering import ask_once
    from client.tables import Rows
    from datastore import administration, cluster_record

    session: Session = context.obj
    status = ask_once(session, administration.LookAtCluster())
    wishes = cluster_record.nodes_of(status.record)
    rows = []
    for name in sorted(status.addresses):
        seen = status.nodes.get(name)
        state = wishes[name].state if name in wishes else cluster_record.MEMBER
        if state == cluster_record.REMOVED:
            continue
        partitions = [one for one in (seen.partitions if seen else []) if one.role not in ("retired", "outside", "empty")]
        primaries = sum(one.role == "primary" for one in partitions)
        why = status.unreachable.get(name, "")
        counts = {"copies": len(partitions), "primaries": primaries}
        rows.append({"name": name, "address": status.addresses[name], "state": state, **counts, "why": why})
    if json:
        session.print_json(rows)
        return exit_codes.DONE
    table = Rows("NODE", "ADDRESS", "STATE", "COPIES", "PRIMARIES", "DETAIL", right=("COPIES", "PRIMARIES"), fold=("DETAIL",))
    for row in rows:
        detail = f"no answer: {row['why']}" if row["why"] else ""
        table.add_row(*(str(row[key]) for key in ("name", "address", "state", "copies", "primaries")), detail)
    table.print(session.console())
    for operator, what in sorted(status.changing.items()):
        session.console().print(f"{operator}: {what}", soft_wrap=True)
    return exit_codes.DONE


@node.command()
def add(
    context: typer.Context,
    name: Name,
    host: Annotated[str, typer.Option("--host", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Its port; 0 chooses a free one of this machine.")] = 0,
    wait: Wait = True,
    json: Json = False,
) -> int:
    """Add a node: it is written into cluster.toml, started if its host is this machine, and takes its share of the operators.

    Each copy learns first and votes later; one voter changes at a time. Interrupted, the same command goes on.
    """
    from client.administering import ask_once, wait_for_node, whoever
    from datastore.administration import ChangeNode

    session: Session = context.obj
    running = _running(session)
    known = {str(row["name"]): row for row in running["datastore"]["node"]}
    if name in known:
        host, port = _address_of(name, known[name], host, port)
    elif not port:
        (port,) = processes.free_ports(1)
    elif processes.is_local(host) and _answers(host, port):
        raise InvalidRequest(f"something listens at {host}:{port} already: choose another --port, or leave it out", field="port")
    _refuse_old_files(session, name)
    tell(f"before: {', '.join(known)}")
    _write(session, lambda text, profile: cluster_file.with_node(text, profile, name, host, port))
    _wait_started(session, name, host, port)
    report = ask_once(session, ChangeNode(action="add", name=name, host=host, port=port, by=whoever()))
    if wait:
        report = wait_for_node(session, name, ("member",))
    return _said(session, report, f"{name} at {host}:{port} is a member", json=json)


@node.command()
def remove(context: typer.Context, name: Name, yes: Yes = False, wait: Wait = True, json: Json = False) -> int:
    """Remove a node for good: primaries are handed over, its copies made elsewhere, its stores retired, cluster.toml rewritten."""
    from client.administering import agreed, ask_once, wait_for_node, whoever
    from datastore.administration import ChangeNode, LookAtCluster, LookAtNode
    from datastore.cluster_record import REMOVED

    session: Session = context.obj
    state = ask_once(session, LookAtNode(name=name)).state
    status = ask_once(session, LookAtCluster())
    if state == REMOVED and name not in _configured(session):
        raise InvalidRequest(f"{name} was removed already; there are {', '.join(_members(status))}", field="name")
    seen = status.nodes.get(name)
    roles = [one.role for one in seen.partitions] if seen else []
    kept, led = sum(role in ("primary", "replica", "learner") for role in roles), roles.count("primary")
    agreed(f"{name} keeps {kept} copies and leads {led} operators; its stores are retired for good", yes=yes, json=json)
    tell(f"before: {', '.join(_members(status))}")
    # Removed and still in cluster.toml: whoever asked was interrupted between the two.
    report = ask_once(session, ChangeNode(action="remove", name=name, by=whoever()) if state != REMOVED else LookAtNode(name=name))
    if wait:
        report = wait_for_node(session, name, ("removed",))
        heirs = {operator: place[0] for operator, place in ask_once(session, LookAtCluster()).primaries.items()}
        _write(session, lambda text, profile: cluster_file.without_node(text, profile, name, heirs))
    return _said(session, report, f"{name} is removed; its files stay where they are until a person deletes them", json=json)


@node.command()
def drain(
    context: typer.Context,
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it lead again; `operator spread` gives it primaries.")] = False,
    wait: Wait = True,
    json: Json = False,
) -> int:
    """Hand over what a node leads, so that it can be stopped without anybody noticing; it keeps its copies."""
    from client.administering import ask_once, wait_for_node, whoever
    from datastore.administration import ChangeNode, LookAtNode
    from datastore.cluster_record import DRAINING

    session: Session = context.obj
    drained = ask_once(session, LookAtNode(name=name)).state == DRAINING
    report = ask_once(session, ChangeNode(action="undrain" if undo else "drain", name=name, by=whoever()))
    leads = f"{name} {'is drained' if drained else 'may lead'}"
    tell(f"before: {leads}" if undo else f"before: {leads}, and leads {len(report.left)} operators")
    if wait:
        report = wait_for_node(session, name, ("member",) if undo else ("draining",))
    return _said(session, report, f"{name} may lead again" if undo else f"{name} leads nothing", json=json)


def _said(session: Session, report: Any, sentence: str, *, json: bool) -> int:
    if json:
        session.print_json(report)
    elif report.done:
        session.console().print(f"after: {sentence}", soft_wrap=True)
    else:
        session.console().print(f"under way: {len(report.left)} operators left; look with: holdfast node list", soft_wrap=True)
    return exit_codes.DONE


def _running(session: Session) -> Any:
    """Return the configuration of the cluster that runs.

    Raises:
        InvalidRequest: None has run in this data folder.
    """
    if not session.folders.config.exists():
        raise InvalidRequest(f"no cluster runs in {session.folders.data}; name its data folder with --data", field="data")
    return session.mapping


def _address_of(name: str, row: Any, host: str, port: int) -> tuple[str, int]:
    """Return where a node that is in the configuration listens.

    Raises:
        InvalidRequest: It was asked for at another port.
    """
    there = int(row["port"])
    if port not in (0, there):
        reason = f"{name} is in the configuration already, with port {there}: remove it first, or choose another name"
        raise InvalidRequest(reason, field="name")
    return str(row.get("host", host)), there


def _configured(session: Session) -> list[str]:
    return [str(row.get("name")) for row in session.mapping.get("datastore", {}).get("node", [])]


def _members(status: Any) -> list[str]:
    from datastore import cluster_record

    wishes = cluster_record.nodes_of(status.record)
    return sorted(name for name in status.addresses if name not in wishes or wishes[name].state != cluster_record.REMOVED)


def _refuse_old_files(session: Session, name: str) -> None:
    """Say it at once where a node that was removed would start with its old files: it would end again and again.

    Raises:
        InvalidRequest: So it is; nothing was changed.
    """
    from client.administering import ask_once
    from datastore import administration, cluster_record

    wish = cluster_record.nodes_of(ask_once(session, administration.LookAtCluster()).record).get(name)
    folder = session.folders.data / name
    if wish is not None and wish.state == cluster_record.REMOVED and any(folder.glob("partitions/*.sqlite")):
        reason = f"{name} was removed, and its old files are still in {folder}: they never vote again"
        raise InvalidRequest(f"{reason}; delete that folder or move it away, then add {name} again", field="name", folder=str(folder))


def _write(session: Session, change: Any) -> None:
    """Rewrite cluster.toml, comments kept, or print the difference; the running cluster's own configuration in any case.

    Raises:
        ConfigInvalid: What would be written is no configuration; nothing is written.
    """
    from client import profiles

    source, profile = cluster_file.source_of(session.folders.config.read_text(encoding="utf-8"))
    targets = [(session.folders.config, profiles.DEFAULT)]
    if source is not None:
        targets.append((source, profile))
    else:
        tell("the cluster.toml that this cluster was started from is not here: change it as well, or the next start forgets this")
    changed = []
    for path, name in targets:
        before = path.read_text(encoding="utf-8")
        after = change(before, name)
        if after != before:
            cluster_file.check(path, after, name)
            changed.append((path, before, after))
    for path, before, after in changed:
        if cluster_file.rewrite(path, before, after):
            if path != session.folders.config:
                tell(f"rewritten: {path}")
        else:
            tell(f"{path} cannot be written; change it so:")
            tell(cluster_file.difference(path, before, after))
    session.__dict__.pop("mapping", None)  # What was read before is old.


def _wait_started(session: Session, name: str, host: str, port: int) -> None:
    """Wait until the node answers: the supervisor of this machine starts it, or a person does on its host.

    Raises:
        InvalidRequest: It does not answer; the message says how to start it.
    """
    import threading
    import time

    from client import supervisor

    deadline, pause = time.monotonic() + START_S, threading.Event()
    elsewhere = not processes.is_local(host)
    command = " ".join(supervisor.command_of(_plan(session).process(name), session.folders)[1:])
    if elsewhere:
        tell(f"waiting for {name}; start it on {host} with the same cluster.toml: python {command}")
    while not _answers(host, port):
        if time.monotonic() >= deadline:
            raise InvalidRequest(f"{name} at {host}:{port} does not answer; start it with: python {command}", field="name")
        pause.wait(0.1)


def _plan(session: Session) -> Any:
    from client.plan import plan_of

    return plan_of(session.mapping, str(session.folders.config))


def _answers(host: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False
