"""The command for the first five minutes: a cluster in a temporary folder, the terminal application on it, nothing left afterwards."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from client import exit_codes
from client.command_names import names_of
from client.commands_tui import open_application, refuse_without_terminal
from client.interrupts import interrupt_on
from client.terminal import Session, tell


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Travel")(demo)


def demo(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--no-tui", help="Only run the cluster, until Ctrl+C: for other terminals.")] = False,
) -> int:
    """Try everything: a cluster of real processes in a temporary folder, the terminal application on it, and nothing left at the end.

    In the application F12 sends rival customers to the seat map that is open, and `x` on the cluster's screen breaks something.
    """
    from client import demo as demos
    from client import wallet

    session: Session = context.obj
    if not wait:
        refuse_without_terminal("demo")
    interrupt_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    keys_file = wallet.home(os.environ) / "keys.toml"
    try:
        tell("a cluster of real processes starts in a temporary folder; nothing of it is left at the end")
        with demos.prepared(session.config_file, session.profile, tell) as demonstration:
            meant = demonstration.session
            os.environ[wallet.HOME_VARIABLE] = str(demonstration.home)
            tell(f"it runs in {demonstration.where}; in another terminal: holdfast --data {meant.folders.data} cluster status")
            for row in meant.mapping["loadbalancer"]["balancer"]:
                tell(f"{row['name']}: {row['host']}:{row['port']}")
            if wait:
                demonstration.bring_up(tell)
                tell("Ctrl+C ends it and leaves nothing")
                signal.pause()
            else:
                from client.rivals import Rivals

                rivals = Rivals(meant.folders.config)
                open_application(meant, keys_file, rivals=rivals, command_names=names_of(context), beginning=demonstration)
    except KeyboardInterrupt:
        pass
    tell("gone: the cluster, its folder and all that was in it")
    sys.stderr.flush()
    return exit_codes.DONE
