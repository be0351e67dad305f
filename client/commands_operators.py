"""The `holdfast operator` commands: list, add, export, erase a person."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import commands_affected, exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest, nearest

if TYPE_CHECKING:
    from datastore import messages
    from datastore.exporting import Report

operator = typer.Typer(name="operator", help="Make, export and look at operators; erase a person.", no_args_is_help=True)

Code = Annotated[str, typer.Argument(metavar="CODE", help="The operator's code, e.g. AR.")]
Key = Annotated[Path | None, typer.Option("--key", help="The file with the operator's key; by default the one in the data folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
EXPORT_MS = 30_000


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands_affected.register(operator)
    app.add_typer(operator, rich_help_panel="Run a cluster")


@operator.command("list")
def list_operators(context: typer.Context, json: Json = False) -> int:
    """List the operators with their kinds, timetables and copies."""
    session: Session = context.obj
    with session.connect() as client:
        operators = client.operators()
        places = {line.operator: line for line in client.status().partitions}
    if json:
        session.print_json([{"operator": one, "partition": places.get(one.code)} for one in operators])
        return exit_codes.DONE
    from client.tables import Rows

    rows = Rows("OPERATOR", "NAME", "KIND", "SCHEDULES", "PRIMARY", "COPIES", right=("SCHEDULES",), shorten=("NAME",))
    for one in operators:
        line = places.get(one.code)
        copies = ", ".join(line.replicas) if line is not None else "-"
        kind = f"{one.kind} (removed)" if one.retired else one.kind
        primary = (line.primary if line is not None else "") or "-"
        rows.add_row(one.code, one.name, kind, str(one.schedules), primary, copies)
    rows.print(session.console())
    return exit_codes.DONE


@operator.command()
def add(
    context: typer.Context,
    code: Code,
    name: Annotated[str, typer.Option("--name", help="Who it is, as travellers read it.")],
    kind: Annotated[str, typer.Option("--kind", help="airline, cinema, theatre, concert or rail.")],
    nodes: Annotated[str, typer.Option("--nodes", help="Nodes of its own for its copies, e.g. node-1,node-2,node-3.")] = "",
    accounting: Annotated[str, typer.Option("--accounting-code", help="Three digits with which its tickets' numbers begin.")] = "",
    json: Json = False,
) -> int:
    """Make an operator: its partition on its nodes, and its key in the data folder."""
    from client import keys, loading

    session: Session = context.obj
    code = code.upper()
    admin_key = keys.ensure_admin(session.folders)
    with session.connect(deadline_ms=EXPORT_MS) as client:
        known = {one.code for one in client.operators() if one.kind and not one.retired}
        if code in known:
            raise InvalidRequest(f"operator {code} exists already; see: holdfast operator list", field="code")
        places = [node.strip() for node in nodes.split(",") if node.strip()]
        loading.register(client, session.folders, admin_key, code, name, kind, places, accounting)
        session.wait_listed([code])
        lines = [line for line in client.status().partitions if line.operator == code]
    where = [lines[0].primary, *lines[0].replicas] if lines else []
    document = {"operator": code, "name": name, "kind": kind, "nodes": where, "key": str(session.folders.operator_key(code))}
    if json:
        session.print_json(document)
    else:
        session.console().print(f"{code} ({name}) is on {', '.join(where) or 'its nodes'}; its key: {document['key']}", soft_wrap=True)
        tell(f"next: holdfast import FOLDER --operator {code}")
    return exit_codes.DONE


@operator.command()
def remove(
    context: typer.Context,
    code: Code,
    out: Annotated[Path | None, typer.Option("--out", help="Where its export is written first; CODE.holdfast by default.")] = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Take an operator out of sale for good, once it is exported; refused while anything of it is open.

    Its ledger stays on its nodes: what was sold can be proved for as long as a disk lasts. Names go with `erase-person`.
    """
    from client import api, keys
    from datastore import messages

    session: Session = context.obj
    code = code.upper()
    admin_key = keys.admin_key(session.folders)
    file = out or Path(f"{code}.holdfast")
    with session.connect() as client:
        _known(client.operators(), code)
        lines = [line for line in client.status().partitions if line.operator == code]
    kept = sorted({copy.node for line in lines for copy in line.copies})
    stays = f"its files stay on {', '.join(kept) or 'its nodes'} (partitions/{code}.sqlite in each node's folder): no ledger is deleted"
    tell(f"before: {stays}")
    if not yes and not typer.confirm(f"export {code} to {file}, then take it out of sale for good?", err=True):
        tell("nothing was changed")
        return exit_codes.DECLINED
    _write_export(session, code, file, admin_key)
    with session.connect(deadline_ms=EXPORT_MS) as client:
        request = messages.RemoveOperator(request_id=api.new_request_id(), admin_key=admin_key, code=code)
        try:
            client.call("remove_operator", request)
        except HoldfastError as error:
            if not error.maybe_committed:
                file.unlink()  # A refusal changes nothing, here neither; the next try writes it anew.
            raise
    if json:
        session.print_json({"operator": code, "removed": True, "export": str(file), "nodes": kept})
    else:
        session.console().print(f"after: {code} sells nothing any more; its ledger is in {file}, and {stays}", soft_wrap=True)
    return exit_codes.DONE


@operator.command()
def export(
    context: typer.Context,
    code: Code,
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")],
    key: Key = None,
    json: Json = False,
) -> int:
    """Write an operator's ledger and state to one file, which `holdfast verify` proves offline. No names are in it."""
    session: Session = context.obj
    code = code.upper()
    report = _write_export(session, code, out, _key(session, code, key, admin=True))
    size_bytes = out.stat().st_size
    if json:
        session.print_json({"operator": code, "file": str(out), "bytes": size_bytes, "last_lsn": report.end.lsn, "orders": report.orders})
    else:
        session.console().print(f"{out}: {report.entries} entries, {report.orders} orders, {size_bytes} bytes", soft_wrap=True)
        tell(f"prove it with: holdfast verify {out}")
    return exit_codes.DONE


def _write_export(session: Session, code: str, out: Path, secret: str) -> Report:
    """Write an operator's export, whole or not at all; return what its ledger proves."""
    from client import auditing
    from datastore.exporting import Exporter

    if out.exists():
        raise ConfigInvalid(f"{out}: exists already; name another file", file=str(out), reason="exists")
    draft = out.with_name(out.name + ".new")
    try:
        with session.connect(deadline_ms=EXPORT_MS) as client, draft.open("wb") as file:
            _known(client.operators(), code)
            exporter = Exporter(code, time.time_ns() // 1_000_000, file.write)
            for page in auditing.ledger_pages(client.call, secret, code):
                exporter.take(page)
            report = exporter.finish()
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return report


@operator.command("erase-person")
def erase_person(
    context: typer.Context,
    code: Annotated[str, typer.Option("--operator", help="The operator whose bookings name the person.")],
    order: Annotated[str, typer.Option("--order", help="Erase all passengers of this booking.")] = "",
    name: Annotated[str, typer.Option("--name", help="Erase whoever has this surname, or surname and given name.")] = "",
    key: Key = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Erase a person's data from every copy, file and free page; bookings stay, without the name. It cannot be undone."""
    from client import auditing

    session: Session = context.obj
    code = code.upper()
    if bool(order) == bool(name.strip()):
        raise InvalidRequest("say whom to erase: with --order REFERENCE or with --name NAME", field="name")
    secret = _key(session, code, key)
    with session.connect(deadline_ms=EXPORT_MS) as client:
        found = auditing.persons(client.call, secret, code, reference=order, name=name)
        if not json:
            for one in found:
                tell(f"{one.reference}  {one.service_id}  seats {' '.join(one.seats)} of {one.passengers} passengers")
        if found and not yes and not typer.confirm(f"erase the names in {len(found)} bookings, for good?", err=True):
            tell("nothing was erased")
            return exit_codes.DECLINED
        erased = [auditing.erase(client.call, secret, code, one, name) for one in found]
    if json:
        session.print_json({"operator": code, "erased": erased})
    else:
        nobody = f"no booking {order.upper()} of {code} has a name in it" if order else "nobody of that name is in any booking"
        session.console().print(f"erased in {len(erased)} bookings" if erased else nobody)
    return exit_codes.DONE if erased else exit_codes.NOT_FOUND


def _key(session: Session, code: str, key: Path | None, *, admin: bool = False) -> str:
    """Return the key to act with: the file named, else the operator's in the data folder, else the administrator's where it may."""
    from client import keys

    if key is not None:
        return keys.read_secret(key)
    return keys.operator_or_admin_key(session.folders, code) if admin else keys.operator_key(session.folders, code)


def _known(operators: list[messages.OperatorInfo], code: str) -> None:
    codes = [one.code for one in operators]
    if code not in codes:
        near = nearest(code, codes)
        raise InvalidRequest(f"no operator {code}" + (f"; did you mean {' or '.join(near)}?" if near else ""), field="code", nearest=near)
