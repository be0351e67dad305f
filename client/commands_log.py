"""The command that reads the logs of this machine's processes as one: `log`."""

from __future__ import annotations

from typing import Annotated

import typer

from client import completion, exit_codes
from client.commands_looking import Json, Watch
from client.terminal import Session, tell
from datastore.errors import InvalidRequest, nearest, shown

EVERY_S = 0.5
LEVELS = ("debug", "info", "warning", "error", "critical")
STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(log)


def log(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD...]", help="Only lines with all of these, e.g. a request id or operator=AR.", autocompletion=completion.processes
        ),
    ] = None,
    level: Annotated[str, typer.Option("--level", help=f"Only lines as grave as this: {', '.join(LEVELS)}.")] = "info",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="So many of the newest lines.")] = 200,
    watch: Watch = False,
    json: Json = False,
) -> int:
    """Show the logs of this machine's processes as one, by time; a request is followed through the tiers by its id.

    With --watch what comes is added below, until Ctrl+C. With --json each look is a document.
    """
    import threading

    from rich.markup import escape

    from client.loglines import matching
    from client.logtails import Tails

    session: Session = context.obj
    if level.lower() not in LEVELS:
        raise InvalidRequest(_no_level(level), field="level", nearest=nearest(level.lower(), LEVELS))
    paths = sorted(session.folders.logs.glob("*.log"))
    if not paths and not watch:
        raise InvalidRequest(f"no process has written a log in {session.folders.logs}; name the data folder with --data", field="data")
    tails, wanted, pause, console = Tails(), " ".join(words or []), threading.Event(), session.console()
    first = True
    while True:
        found = matching(tails.more(paths), wanted, level.upper())
        found = found[-limit:] if first else found
        if json and (found or first):
            session.print_json({"lines": [{**one._asdict(), "fields": one.fields} for one in found]})
        for one in () if json else found:
            style = STYLES.get(one.level)
            text = f"[{style}]{escape(one.text)}[/]" if style else escape(one.text)
            console.print(f"{one.stamp} {one.level:<8} {one.process:<12} {text}", soft_wrap=True)
        if first and not found:
            tell("no line has all of that" if wanted else "no line is so grave")
        if not watch:
            return exit_codes.DONE
        first = False
        pause.wait(EVERY_S)
        paths = sorted(session.folders.logs.glob("*.log"))


def _no_level(word: str) -> str:
    near = nearest(word.lower(), LEVELS)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(LEVELS)}"
    return f"{shown(word)} is no level{hint}"
