"""The commands for the cluster's nodes: add, remove, drain, list. They need the administrator's key."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from client import completion, exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import InvalidRequest

node = typer.Typer(name="node", help="Add, remove, drain and list data nodes.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.", autocompletion=completion.nodes)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


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
    from client import members
    from client.administering import wait_for_node

    session: Session = context.obj
    new = members.newcomer(session, name, host, port)
    tell(f"before: {', '.join(new.before)}")
    report = members.join(session, new, tell)
    if wait:
        report = wait_for_node(session, name, ("member",))
    return _said(session, report, f"{name} at {new.host}:{new.port} is a member", json=json)


@node.command()
def remove(context: typer.Context, name: Name, yes: Yes = False, wait: Wait = True, json: Json = False) -> int:
    """Remove a node for good: primaries are handed over, its copies made elsewhere, its stores retired, cluster.toml rewritten."""
    from client import cluster_file, members
    from client.administering import agreed, ask_once, wait_for_node, whoever
    from datastore.administration import ChangeNode, LookAtCluster, LookAtNode
    from datastore.cluster_record import REMOVED

    session: Session = context.obj
    state = ask_once(session, LookAtNode(name=name)).state
    status = ask_once(session, LookAtCluster())
    if state == REMOVED and name not in members.configured(session):
        raise InvalidRequest(f"{name} was removed already; there are {', '.join(members.members(status))}", field="name")
    seen = status.nodes.get(name)
    roles = [one.role for one in seen.partitions] if seen else []
    kept, led = sum(role in ("primary", "replica", "learner") for role in roles), roles.count("primary")
    agreed(f"{name} keeps {kept} copies and leads {led} operators; its stores are retired for good", yes=yes, json=json)
    tell(f"before: {', '.join(members.members(status))}")
    # Removed and still in cluster.toml: whoever asked was interrupted between the two.
    report = ask_once(session, ChangeNode(action="remove", name=name, by=whoever()) if state != REMOVED else LookAtNode(name=name))
    if wait:
        report = wait_for_node(session, name, ("removed",))
        heirs = {operator: place[0] for operator, place in ask_once(session, LookAtCluster()).primaries.items()}
        members.write(session, lambda text, profile: cluster_file.without_node(text, profile, name, heirs), tell)
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
