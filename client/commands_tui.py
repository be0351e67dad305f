"""The command that opens the terminal application."""

from __future__ import annotations

import sys

import typer

from client import exit_codes
from client.terminal import Session
from datastore.errors import ConfigInvalid


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Travel")(tui)


def tui(context: typer.Context) -> int:
    """Open the terminal application: search, seat maps that live, bookings, the cluster."""
    session: Session = context.obj
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        reason = "it needs a terminal; the same is done by the other commands, each with --json for scripts"
        raise ConfigInvalid(f"tui: {reason}", file="-", key="-", reason=reason)
    from client.tui.app import HoldfastApp

    HoldfastApp(session.connect(), session.wallet).run()
    return exit_codes.DONE
