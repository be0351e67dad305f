"""The command for the first five minutes: a cluster in a temporary folder, the terminal application on it, nothing left afterwards."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from client import exit_codes
from client.command_names import names_of
from client.commands_tui import open_application, refuse_without_terminal
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
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    keys_file = wallet.home(os.environ) / "keys.toml"
    if not wait:
        # The screens are loaded while the cluster starts: what waits there is other processes' work.
        threading.Thread(target=importlib.import_module, args=("client.tui.keymap",), name="load", daemon=True).start()
    try:
        tell("a cluster of real processes starts in a temporary folder; nothing of it is left at the end")
        with demos.running(session.config_file, session.profile, tell) as running:
            os.environ[wallet.HOME_VARIABLE] = str(running.home)
            folders = running.session.folders
            tell(f"it runs in {folders.data.parent}; in another terminal: holdfast --data {folders.data} cluster status")
            for row in running.session.mapping["loadbalancer"]["balancer"]:
                tell(f"{row['name']}: {row['host']}:{row['port']}")
            if wait:
                tell("Ctrl+C ends it and leaves nothing")
                signal.pause()
            else:
                from client.rivals import Rivals

                open_application(running.session, keys_file, rivals=Rivals(folders.config), command_names=names_of(context))
    except KeyboardInterrupt:
        pass
    tell("gone: the cluster, its folder and all that was in it")
    sys.stderr.flush()
    return exit_codes.DONE
