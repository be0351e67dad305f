"""The commands that make and show the cluster's certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell

if TYPE_CHECKING:
    from datastore.certificates import Certificate

certificates = typer.Typer(name="certificates", help="Make and show the certificates of a cluster.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--out", help="The folder; by default the data folder's certificates.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(certificates, rich_help_panel="Run a cluster")


@certificates.command()
def make(
    context: typer.Context,
    out: Folder = None,
    hosts: Annotated[str, typer.Option("--hosts", help="More names and addresses of the processes, with commas between.")] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=825, help="How long they are valid.")] = 90,
    new_authority: Annotated[bool, typer.Option("--new-authority", help="Replace the authority too: every host needs new files.")] = False,
    json: Json = False,
) -> int:
    """Make one certificate for each process of the configuration, one for callers and one for administration."""
    from client import certificates as ours
    from client import claiming
    from client import cluster as clusters
    from client.plan import plan_of
    from datastore import certificates as made

    session: Session = context.obj
    plan = plan_of(clusters.read_config(session.config_file, session.profile), str(session.config_file))
    extra = ours.host_names(hosts)
    folder = out or _folder(session)
    if out is None:
        claiming.claim(session.folders)
    found = made.make(folder, ours.wanted(plan, extra), days=days, new_authority=new_authority)
    if not json:
        tell(f"keep {folder / 'authority.key'} where nothing of the cluster runs: whoever has it can make a process of any role")
    return _print(session, folder, found, json=json)


@certificates.command()
def show(context: typer.Context, out: Folder = None, json: Json = False) -> int:
    """Show whose certificates are there and until when they are valid."""
    from datastore import certificates as made

    session: Session = context.obj
    folder = out or _folder(session)
    return _print(session, folder, made.look(folder), json=json)


def _folder(session: Session) -> Path:
    from datastore import config
    from datastore.edge import certificate_folder

    return certificate_folder(config.link_security(session.mapping, str(session.config_file)), session.folders.data)


def _print(session: Session, folder: Path, found: list[Certificate], *, json: bool) -> int:
    faulty = any(one.fault for one in found)
    if json:
        session.print_json({"folder": str(folder), "certificates": [_as_document(one) for one in found]})
    else:
        from client.tables import Rows

        rows = Rows("CERTIFICATE", "ROLE", "SERVES AT", "EXPIRES", "DAYS LEFT", "", right=("DAYS LEFT",), fold=("SERVES AT", ""))
        for one in found:
            rows.add_row(one.name, one.identity, ", ".join(one.hosts) or "-", f"{one.expires:%Y-%m-%d}", str(one.days_left), one.fault)
        console = session.console()
        rows.print(console)
        console.print(f"in {folder}", soft_wrap=True)
    return exit_codes.INVALID if faulty else exit_codes.DONE


def _as_document(one: Certificate) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.identity,
        "hosts": list(one.hosts),
        "expires": one.expires.isoformat(),
        "days_left": one.days_left,
        "fault": one.fault,
    }
