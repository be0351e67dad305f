"""The console: hold seats by typing them, and with --dev watch the protocol work."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from client import exit_codes
from client.terminal import Session, tell


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(console)


def console(
    context: typer.Context,
    dev: Annotated[bool, typer.Option("--dev", help="Also: the log, promises, a counter, kill, freeze and continue.")] = False,
) -> int:
    """Type seats to hold them, ask who leads, watch the cluster work; reads lines from a pipe too."""
    from client.console import ClusterConsole, read_lines

    session: Session = context.obj
    typed = sys.stdin.isatty()
    with session.connect() as client:
        here = ClusterConsole(session, client, session.console(), dev=dev)
        try:
            if typed:
                tell("help shows what can be typed; quit leaves")
            for line in read_lines(lambda: f"{here.service or 'holdfast'}> ", here.words) if typed else sys.stdin:
                here.do(line)
                if here.closed:
                    break
        finally:
            here.close()
    return exit_codes.DONE
