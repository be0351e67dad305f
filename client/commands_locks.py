"""The command that shows who has which seats locked at this moment: `locks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from client import exit_codes
from client.commands_looking import Json, Watch
from client.terminal import Session, tell
from client.watching import watch

if TYPE_CHECKING:
    from datastore.messages import LocksAnswer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(locks)


def locks(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most, those that stand longest first.")] = 200,
    again: Watch = False,
    json: Json = False,
) -> int:
    """Show the locks that stand now: which seats, who holds them, for how long yet, on how many lock servers.

    A lock lasts moments, and only puts buyers of a seat in order: what protects a seat is the hold.
    """
    session: Session = context.obj
    if again:
        watch(session, lambda: locks(context, limit, json=json), json=json)
    with session.connect() as client:
        answer = client.locks(limit)
    if json:
        session.print_json(answer)
    else:
        from client import show

        show.locks(session.console(), answer)
        _tell(answer)
    return exit_codes.DONE if not answer.unread else exit_codes.PARTIAL


def _tell(answer: LocksAnswer) -> None:
    if not answer.locks and len(answer.unread) < answer.asked:
        tell("nothing is locked at this moment")
    for name, reason in answer.unread.items():
        tell(f"{name} could not be read: {reason}")
    if answer.more:
        tell("there are more: see them with --limit")
