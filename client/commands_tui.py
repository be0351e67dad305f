"""The command that opens the terminal application."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import exit_codes
from client.cards import cards_of
from client.command_names import names_of
from client.commands_looking import Json
from client.terminal import Session
from datastore.errors import ConfigInvalid

if TYPE_CHECKING:
    from client.rivals import Rivals
    from client.tui.desk import Desk
    from client.tui.start_screen import Beginning


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Travel")(tui)


def tui(
    context: typer.Context,
    theme: Annotated[str, typer.Option("--theme", help="A theme; ansi-dark and ansi-light keep the terminal's colours.")] = "",
    keys: Annotated[bool, typer.Option("--keys", help="Only list the bindings: their ids for keys.toml, keys, meaning.")] = False,
    json: Json = False,
) -> int:
    """Open the terminal application: search, seat maps that live, bookings; and all that an operator does."""
    from client import wallet

    session: Session = context.obj
    if keys:
        return _list_keys(session, wallet.home(os.environ) / "keys.toml", json=json)
    refuse_without_terminal("tui")
    open_application(session, wallet.home(os.environ) / "keys.toml", theme=theme, command_names=names_of(context))
    return exit_codes.DONE


def _list_keys(session: Session, keys_file: Path, *, json: bool) -> int:
    from client.tables import Rows
    from client.tui import keymap

    own = keymap.read(keys_file).keys
    rows = [{"id": name, "keys": own.get(name, one.key), "meaning": one.description} for name, one in sorted(keymap.bindings().items())]
    if json:
        session.print_json(rows)
        return exit_codes.DONE
    table = Rows("ID", "KEYS", "MEANING")
    for row in rows:
        table.add_row(row["id"], row["keys"], row["meaning"])
    table.print(session.console())
    session.console().print(f"own keys: {keys_file}", soft_wrap=True)
    return exit_codes.DONE


def refuse_without_terminal(command: str) -> None:
    """Raise where there is no terminal to draw on.

    Raises:
        ConfigInvalid: Stdin or stdout is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        reason = "it needs a terminal; the same is done by the other commands, each with --json for scripts"
        raise ConfigInvalid(f"{command}: {reason}", file="-", key="-", reason=reason)


def open_application(
    session: Session,
    keys_file: Path,
    *,
    theme: str = "",
    rivals: Rivals | None = None,
    command_names: Sequence[str] = (),
    beginning: Beginning | None = None,
) -> None:
    """Show the application for a session's cluster until it is left.

    Args:
        keys_file: The user's own keys and theme; need not exist.
        rivals: Buyers to compete with, where that is wanted.
        command_names: What can be run from within, see `client.command_names`.
        beginning: What starts with the application, and is seen to.
    Raises:
        StartFailed: It did not come up.
        ConfigInvalid: The file names a binding, key or theme that there is not.
    """
    from client.tui import keymap
    from client.tui.app import HoldfastApp

    wishes = keymap.read(keys_file, theme)
    app = HoldfastApp(
        session.connect(),
        session.wallet,
        cards=cards_of(session.mapping),
        desk=desk_of(session),
        rivals=rivals,
        beginning=beginning,
        command_names=command_names,
        command_options=["--config", str(session.config_file), "--profile", session.profile, "--data", str(session.folders.data)],
    )
    keymap.apply(app, wishes)
    with _ending(app.exit):
        app.run()
    if app.not_begun is not None:
        raise app.not_begun


@contextlib.contextmanager
def _ending(leave: Callable[[], None]) -> Iterator[None]:
    """While the application is shown SIGTERM leaves it as Ctrl+Q does, and with its terminal it ends at once: there is nothing left to
    restore, and its threads would read from a terminal that is gone for ever. Who waits for its end cleans up (`client.demo`)."""
    ways: dict[signal.Signals, Any] = {signal.SIGTERM: lambda *_: leave(), signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in ways}
    for number, way in ways.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, way)
    try:
        yield
    finally:
        for number, way in before.items():
            signal.signal(number, way)


def desk_of(session: Session) -> Desk | None:
    """Return the cluster's data folder if it is on this machine."""
    from client.tui.desk import Desk

    return Desk(session) if session.folders.config.exists() else None
