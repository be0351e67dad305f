"""The command that looks for what is wrong with this machine and its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"ok": "#009E73", "warning": "#E69F00", "wrong": "#D55E00"}
MARKS = {"ok": "●", "warning": "▲", "wrong": "■"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(doctor)


def doctor(context: typer.Context, json: Json = False) -> int:
    """Look for what is wrong: Python, libraries, lock server, disk, rights, ports, clock, cluster; each with what to do.

    The exit code is 0 when all is well, 8 with warnings only, 7 when something has to be mended.
    """
    from rich.text import Text

    from client import doctor as examining

    session: Session = context.obj
    found = []
    console = None if json else session.console() if _readable(session) else _plain()
    for finding in examining.examine(session):
        found.append(finding)
        if console is not None:
            line = Text.assemble((f"{MARKS[finding.level]} ", STYLES[finding.level]), f"{finding.what:<14} {finding.said}")
            console.print(line, soft_wrap=True)
            if finding.todo:
                console.print(Text(f"  {'':<14} do: {finding.todo}"), soft_wrap=True)
    if json:
        session.print_json([one._asdict() for one in found])
    levels = {one.level for one in found}
    return exit_codes.NO_ANSWER if examining.WRONG in levels else exit_codes.PARTIAL if examining.WARNING in levels else exit_codes.DONE


def _readable(session: Session) -> bool:
    """Return whether the settings say how to print; a doctor must speak where they are what is wrong."""
    from datastore.errors import HoldfastError

    try:
        return bool(session.settings)
    except HoldfastError:
        return False


def _plain() -> Console:
    from rich.console import Console

    return Console(highlight=False)
