"""The commands that run a cluster: up, down, status."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell

WATCH_S = 0.5

cluster = typer.Typer(name="cluster", help="Start, stop and look at a cluster.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", help="The cluster.toml.")]
Profile = Annotated[str, typer.Option("--profile", help="A profile of the cluster.toml.")]
Data = Annotated[Path | None, typer.Option("--data", help="The data folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(cluster, rich_help_panel="Run a cluster")


def _told(context: typer.Context, config: Path | None, profile: str, data: Path | None) -> Session:
    """Return the session with the options that stand behind the command laid over the global ones."""
    before: Session = context.obj
    return Session(config or before.config, profile or before.profile, data or before.data)


@cluster.command()
def up(
    context: typer.Context,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready, and leave it running.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data folder first.")] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Choose free ports instead of the configured ones.")] = False,
    timetables: Annotated[bool, typer.Option("--timetables/--no-timetables", help="Load the configured timetables.")] = True,
    config: Config = None,
    profile: Profile = "",
    data: Data = None,
    json: Json = False,
) -> int:
    """Start the cluster and wait until it serves; without --detach it runs until Ctrl+C."""
    from client import cluster as clusters
    from client import processes, supervisor

    session = _told(context, config, profile, data)
    # From here on a closed terminal is a Ctrl+C: nothing may be left running that nobody sees.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    start = clusters.Start(session.config_file, session.profile, session.data, fresh, free_ports, timetables)
    _, folders = clusters.up(start, tell)
    running = Session(session.config, session.profile, folders.data)
    _show_status(running, json=json)
    if not json:
        _next_steps(detach)
    if detach:
        return exit_codes.DONE
    pause = threading.Event()
    try:
        while processes.running(folders.pid(supervisor.NAME)) is not None:
            pause.wait(WATCH_S)
    except KeyboardInterrupt:
        tell("stopping")
        clusters.down(folders)
        tell("stopped")
        return exit_codes.DONE
    tell("stopped from elsewhere")
    return exit_codes.DONE


@cluster.command()
def down(context: typer.Context, config: Config = None, profile: Profile = "", data: Data = None, json: Json = False) -> int:
    """Stop the cluster; its data stays."""
    from client import cluster as clusters

    session = _told(context, config, profile, data)
    was_running = clusters.down(session.folders, tell)
    if json:
        session.print_json({"stopped": was_running, "data": str(session.folders.data)})
    else:
        tell("stopped" if was_running else f"nothing runs in {session.folders.data}")
    return exit_codes.DONE


@cluster.command()
def status(
    context: typer.Context,
    operators: Annotated[bool, typer.Option("--operators", help="A line for every operator, with primary and replicas.")] = False,
    config: Config = None,
    profile: Profile = "",
    data: Data = None,
    json: Json = False,
) -> int:
    """Show every process and operator as the cluster sees them."""
    session = _told(context, config, profile, data)
    return _show_status(session, json=json, operators=operators)


def _show_status(session: Session, *, json: bool, operators: bool = False) -> int:
    from client import show

    with session.connect() as client:
        answer = client.status()
    if json:
        session.print_json(answer)
        return session.done(answer)
    console = session.console()
    show.status(console, answer, _addresses(session))
    if operators:
        console.print()
        show.partitions(console, answer.partitions)
    console.print(f"data {session.folders.data.resolve()}   logs {session.folders.logs.resolve()}", soft_wrap=True)
    return exit_codes.DONE if answer.verdict != "down" else exit_codes.NO_ANSWER


def _addresses(session: Session) -> dict[str, str]:
    from client.plan import plan_of

    return {process.name: process.address for process in plan_of(session.mapping, str(session.config_file)).processes}


def _next_steps(detach: bool) -> None:
    tell("")
    if shutil.which("holdfast") is None:
        tell(f"in a second terminal: source {Path(sys.prefix) / 'bin' / 'activate'}")
    tell("next: holdfast services --from EZE --to MIA --date tomorrow")
    tell("      holdfast seats AR1140-EZE-tomorrow")
    tell("      holdfast hold AR1140-EZE-tomorrow --any 2 --together")
    tell("stop it with: ./start-cluster --stop, or: holdfast cluster down" if detach else "Ctrl+C stops it")
