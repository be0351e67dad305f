"""The command that brings back what was lost or is not to be trusted: `recover NODE`, `recover lock-server NAME`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import InvalidRequest, nearest, shown

if TYPE_CHECKING:
    from datastore.wire_recovery import RecoverReport

LOCK_SERVER, ALL = "lock-server", "all"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("recover", rich_help_panel="Run a cluster")(recover)


def recover(
    context: typer.Context,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A data node, or: lock-server NAME.")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The lock server, or `all`, after `lock-server`.")] = "",
    operators: Annotated[
        list[str] | None, typer.Option("--operator", metavar="CODE", help="Only this operator's copy; may stand several times.")
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="NODE", help="The peer to take from; by default the best one.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the copies are back and vote.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json: Json = False,
) -> int:
    """Replace a node's copies by snapshots of its peers: after a lost, old or damaged disk. Sales go on.

    Nothing is replaced before the snapshot is whole and verified. It is refused where the node leads, and while the other
    copies are too few to be sure. Interrupted, the same command goes on. A lock server that lost its data votes again after
    the rejoin rule of docs/redlock.md; `recover lock-server all` admits whatever can be, a set that was lost as a whole too.
    """
    session: Session = context.obj
    locks = [str(row["name"]) for row in session.mapping.get("lockstore", {}).get("server", [])]
    if node == LOCK_SERVER or node in locks:
        return _recover_lock_server(session, name if node == LOCK_SERVER else node, locks, dry_run=dry_run, json=json)
    _recoverable(session, node, locks)
    if name:
        raise InvalidRequest(f"{shown(name)} is one word too many: operators are named with --operator", field="name")
    return _recover_copies(session, node, [one.upper() for one in operators or []], source, wait=wait, dry_run=dry_run, json=json)


def _recoverable(session: Session, name: str, locks: list[str]) -> None:
    """Refuse what is neither a data node nor a lock server; a node that is not in this configuration may have been added since.

    Raises:
        InvalidRequest: The message says what it is, or what is nearest.
    """
    from client.plan import NODE, plan_of

    kinds = {one.name: one.role.kind for one in plan_of(session.mapping, str(session.config_file)).processes}
    nodes = [one for one, kind in kinds.items() if kind == NODE]
    if name in kinds and kinds[name] != NODE:
        raise InvalidRequest(f"{name} is a {kinds[name]} and keeps no data; there are {', '.join([*nodes, *locks])}", field="node")
    near = nearest(name, [*nodes, *locks])
    if name not in kinds and near and near[0] in locks:
        raise InvalidRequest(f"no lock server {shown(name)}; did you mean {near[0]}?", field="node", nearest=near)


def _recover_copies(
    session: Session, node: str, operators: list[str], source: str, *, wait: bool, dry_run: bool, json: bool
) -> int:
    from client import recovering
    from client.administering import admin_key, ask
    from datastore.administration import LookAtCluster
    from datastore.wire_recovery import RecoverAsk

    key = admin_key(session)
    with session.connect() as client:
        question = recovering.asker(client, key)
        planned = question(RecoverAsk(node, operators, source, "plan"))
        if not planned:
            raise InvalidRequest(f"{node} keeps no copy of any operator, and none is expected there", field="node")
        for one in planned:
            tell(recovering.plan_words(one))
        if dry_run:
            return _said(session, node, planned, json=json, dry_run=True)
        status = ask(client, key, LookAtCluster())
        awaited, before = recovering.expected(status, node, [one.operator for one in planned]), recovering.identities(status, node)
        reports = recovering.started(question, node, planned, source)
        left: list[str] = []
        if wait:
            reports = _shown(recovering.progress(question, node, reports, source), quiet=json)
            done = [one for one in reports if one.state == "done" and one.operator in awaited]
            replaced = {one.operator: before.get(one.operator, "") if one.fresh else "" for one in done}
            left = recovering.wait_votes(lambda: ask(client, key, LookAtCluster()), node, replaced)
    if left:
        tell(f"not voting yet, the managers take them in one after the other: {', '.join(left)}; look with: holdfast cluster status")
    return _said(session, node, reports, json=json, wait=wait)


def _shown(steps: Iterable[list[RecoverReport]], *, quiet: bool) -> list[RecoverReport]:
    """Show how far it is, as bars at a terminal and as lines elsewhere; return the final reports."""
    reports: list[RecoverReport] = []
    if quiet or not sys.stderr.isatty():
        said: dict[str, str] = {}
        for reports in steps:
            for one in reports:
                words = f"{one.operator}: {one.state}" + (f": {one.detail}" if one.detail else "")
                if said.get(one.operator) != words and not quiet:
                    tell(words)
                said[one.operator] = words
        return reports
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}
        for reports in steps:
            for one in reports:
                if one.state == "refused":
                    continue
                if one.operator not in tasks:
                    tasks[one.operator] = bars.add_task(one.operator, total=None)
                words = f"{one.operator} {one.state}" + (f" from {one.source}" if one.source else "")
                bars.update(tasks[one.operator], description=words, completed=one.bytes_done, total=one.bytes_total or None)
    return reports


def _said(session: Session, node: str, reports: list[RecoverReport], *, json: bool, dry_run: bool = False, wait: bool = True) -> int:
    from client import recovering

    if json:
        session.print_json({"node": node, "dry_run": dry_run, "copies": [recovering.plain(one) for one in reports]})
    elif dry_run:
        tell("nothing was changed")
    elif not wait:
        session.console().print(f"under way at {node}; look with: holdfast cluster status --operators", soft_wrap=True)
    else:
        for one in reports:
            session.console().print(f"after: {recovering.end_words(one)}", soft_wrap=True)
    refused = sum(one.state == "refused" for one in reports)
    if any(one.state == "failed" for one in reports):
        return exit_codes.NO_ANSWER
    if refused:
        return exit_codes.DECLINED if refused == len(reports) else exit_codes.PARTIAL
    return exit_codes.DONE


def _recover_lock_server(session: Session, name: str, known: list[str], *, dry_run: bool, json: bool) -> int:
    """Have a lock server that lost its data rejoin.

    Raises:
        InvalidRequest: No such lock server, or it was refused; the reason is the administration's.
    """
    if name not in (*known, ALL):
        near = nearest(name, known)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
        raise InvalidRequest(f"no lock server {shown(name)}{hint}", field="name", nearest=near)
    from client import rejoining

    before = rejoining.standing(session)
    tell("before:")
    for line in before:
        tell(f"  {line}")
    if dry_run:
        tell("nothing was changed: it would refuse for longer than the longest ttl, then take a counter above those of its peers")
        if json:
            session.print_json({"server": name, "dry_run": True, "before": before})
        return exit_codes.DONE
    if name != ALL:
        tell(f"{name}: waits until no attempt of before can count on what it answered (some seconds)")
    rejoining.rejoin(session, name)
    after = rejoining.standing(session)
    if json:
        session.print_json({"server": name, "dry_run": False, "before": before, "after": after})
        return exit_codes.DONE
    session.console().print("after:", soft_wrap=True)
    for line in after:
        session.console().print(f"  {line}", soft_wrap=True)
    return exit_codes.DONE
