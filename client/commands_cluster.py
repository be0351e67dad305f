"""The commands that run a cluster: up, down, status."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import threading
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import exit_codes, profiles
from client.commands_looking import Json
from client.interrupts import interrupt_on
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, HoldfastError, NodeUnreachable, OutcomeUnknown

if TYPE_CHECKING:
    from client.folders import Folders
    from client.plan import ClusterPlan
    from datastore.messages import StatusAnswer

WATCH_S = 0.5
STATUS_EVERY_S = 2.0
SHIPPED = Path(__file__).resolve().parent.parent / "cluster.toml"  # What ./start-cluster takes by itself.
EXAMPLE_ROUTE = ("EZE", "MIA")

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
    host: Annotated[str, typer.Option("--host", help="Start the processes of this host only.")] = "",
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
    interrupt_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    start = clusters.Start(session.config_file, session.profile, session.data, fresh, free_ports, timetables, host)
    plan, folders = clusters.up(start, tell)
    if detach:
        _say_ready(session, plan, folders, json=json, detach=True)
        return exit_codes.DONE
    pause = threading.Event()
    stopped_elsewhere = False
    try:
        _say_ready(session, plan, folders, json=json, detach=False)
        while processes.running(folders.pid(supervisor.NAME)) is not None:
            pause.wait(WATCH_S)
        stopped_elsewhere = True
    except KeyboardInterrupt:
        return exit_codes.DONE
    finally:
        # However this ends, a terminal that takes no more words included: who stays in the foreground leaves nothing behind.
        if stopped_elsewhere:
            tell("stopped from elsewhere")
        else:
            _stop(folders)
    return exit_codes.DONE


def _stop(folders: Folders) -> None:
    """Stop the cluster and let nothing interrupt that: a closed terminal signals more than once. `stop_ms` bounds it."""
    from client import cluster as clusters

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tell("stopping")
    clusters.down(folders)
    tell("stopped")


def _say_ready(session: Session, plan: ClusterPlan, folders: Folders, *, json: bool, detach: bool) -> None:
    from client import cluster as clusters
    from client import supervisor

    running = Session(session.config, session.profile, folders.data)
    others = list(dict.fromkeys(process.host for process in supervisor.elsewhere(plan)))
    try:
        _show_status(running, json=json)
    except HoldfastError as error:
        if not others:
            raise
        tell(f"no balancer answers yet: {error.detail}")  # All of them may be on hosts that are not started.
    if json:
        return
    if clusters.brings_first_data(plan):
        _next_steps(session, running, detach=detach)
        return
    if others:
        tell(f"this host's processes run; the others are started on {', '.join(others)}")
    tell("once, when the cluster serves, with the administrator's data folder: holdfast cluster register")
    tell(f"stop it with: holdfast{_options(running, _found_here())} cluster down" if detach else "Ctrl+C stops it")


@cluster.command()
def prepare(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Where the folders are made: one a host, and the administrator's.")],
    hosts: Annotated[str, typer.Option("--hosts", help="More names and addresses of the processes, with commas between.")] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=825, help="How long the certificates are valid.")] = 90,
    config: Config = None,
    profile: Profile = "",
    json: Json = False,
) -> int:
    """Make the data folder of each host: its certificates, and the secrets that all share. Again: renew certificates."""
    from client import certificates, handover
    from client.cluster import read_config
    from client.plan import plan_of

    session = _told(context, config, profile, None)
    plan = plan_of(read_config(session.config_file, session.profile), str(session.config_file))
    found = handover.prepare(plan, out, certificates.host_names(hosts), days)
    if json:
        session.print_json({name: str(folders.data) for name, folders in found.items()})
        return exit_codes.DONE
    for name, folders in found.items():
        print(f"{name}: {folders.data}")
    tell("copy each host's folder to that host as its data folder; keep admin/ where nothing of the cluster runs")
    return exit_codes.DONE


@cluster.command("register")
def register_operators(
    context: typer.Context,
    timetables: Annotated[bool, typer.Option("--timetables/--no-timetables", help="Load the configured timetables.")] = True,
    config: Config = None,
    profile: Profile = "",
    data: Data = None,
    json: Json = False,
) -> int:
    """Make the configured operators known, with a key each, and load the configured timetables; again changes nothing."""
    from client import keys, loading
    from client.plan import plan_of

    session = _told(context, config, profile, data)
    plan = plan_of(session.mapping, str(session.config_file))
    keys.admin_key(session.folders)  # Before anything is asked: only who has it may.
    loading.first_data(plan, session.folders, session.config_file, tell, timetables=timetables)
    codes = [operator.code for operator in plan.operators]
    if json:
        session.print_json({"operators": codes, "keys": str(session.folders.keys)})
    else:
        tell(f"{len(codes)} operators known; their keys are in {session.folders.keys}")
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
    operators: Annotated[bool, typer.Option("--operators", help="A line for every copy of every operator.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl+C.")] = False,
    config: Config = None,
    profile: Profile = "",
    data: Data = None,
    json: Json = False,
) -> int:
    """Show every process and operator as the cluster sees them. The exit code is 0 when all is well, 8 degraded, 7 down."""
    session = _told(context, config, profile, data)
    pause = threading.Event()
    while watch:
        session.console().clear()
        try:
            _show_status(session, json=json, operators=operators)
        except NodeUnreachable as error:
            tell(error.detail)  # It may come back while somebody watches.
        pause.wait(STATUS_EVERY_S)
    return _show_status(session, json=json, operators=operators)


def _show_status(session: Session, *, json: bool, operators: bool = False) -> int:
    from client import health, show

    try:
        with session.connect() as client:
            answer = client.status()
    except (NodeUnreachable, OutcomeUnknown) as error:
        below = _from_below(session, error)
        if below is None:
            raise health.unreachable(session.folders, error, f"./start-cluster{_options(session, SHIPPED)}") from error
        answer = below
    code = {"ok": exit_codes.DONE, "degraded": exit_codes.PARTIAL}.get(answer.verdict, exit_codes.NO_ANSWER)
    if json:
        session.print_json(answer)
        return code
    console = session.console()
    show.status(console, answer, _addresses(session))
    if operators:
        console.print()
        show.copies(console, answer.partitions)
    console.print(f"data {session.folders.data.resolve()}   logs {session.folders.logs.resolve()}", soft_wrap=True)
    supervised = health.supervised(session.folders)
    console.print(health.verdict(answer, supervised=supervised), soft_wrap=True)
    following = health.suggestion(answer, supervised=supervised)
    if following:
        console.print(f"next: {_of_this_cluster(session, following)}", soft_wrap=True)
    return code


def _of_this_cluster(session: Session, words: str) -> str:
    """Return a suggested command with the options that make it mean this cluster: without, it might start or change another."""
    started = words.replace("./start-cluster", f"./start-cluster{_options(session, SHIPPED)}")
    return started.replace("holdfast ", f"holdfast{_options(session, _found_here())} ")


def _from_below(session: Session, error: HoldfastError) -> StatusAnswer | None:
    """Return what managers or nodes say where no balancer answers."""
    from client import bypassing
    from client.plan import plan_of

    try:
        return bypassing.status(plan_of(session.mapping, str(session.config_file)), session.folders.data, error.detail)
    except HoldfastError as other:  # No certificate of the administrator's here, say: then the balancers' silence is the news.
        tell(f"managers and nodes cannot be asked either: {other.detail}")
        return None


def _addresses(session: Session) -> dict[str, str]:
    from client.plan import plan_of

    return {process.name: process.address for process in plan_of(session.mapping, str(session.config_file)).processes}


def _options(session: Session, default: Path | None) -> str:
    """Return the options, each after a space, with which a command means this cluster from any folder.

    Args:
        default: The cluster.toml that the command would take by itself; None is for one that takes none.
    """
    words: list[str] = []
    config = session.config_file
    if default is None or config.resolve() != default.resolve():
        words += ["--config", str(config.absolute())]
    if session.profile != profiles.DEFAULT:
        words += ["--profile", session.profile]
    data = session.folders.data
    if data.resolve() != Session(config, session.profile).folders.data.resolve():
        words += ["--data", str(data.absolute())]
    return "".join(f" {shlex.quote(word)}" for word in words)


def _found_here() -> Path | None:
    """Return the cluster.toml that a command takes here when none is named."""
    try:
        return Session().config_file
    except ConfigInvalid:
        return None


def _next_steps(session: Session, running: Session, *, detach: bool) -> None:
    meant = Session(session.config, session.profile, running.data)
    options = _options(meant, _found_here())
    tell("")
    if shutil.which("holdfast") is None:
        tell(f"in a second terminal: source {Path(sys.prefix) / 'bin' / 'activate'}")
    first, *more = [f"holdfast{options} {line}" for line in _suggestions(running)]
    tell(f"next: {first}")
    for line in more:
        tell(f"      {line}")
    stop = f"stop it with: ./start-cluster{_options(meant, SHIPPED)} --stop, or: holdfast{options} cluster down"
    tell(stop if detach else "Ctrl+C stops it")


def _suggestions(session: Session) -> list[str]:
    """Return commands that find something in this cluster: of the example route where it is loaded, else of what is."""
    tomorrow = (date.today() + timedelta(days=1)).isoformat()
    for origin, destination in (EXAMPLE_ROUTE, ("", "")):
        try:
            with session.connect() as client:
                found = client.services(tomorrow, origin=origin, destination=destination).services
        except HoldfastError:
            continue  # Nobody knows the example's airports here.
        for service in found:
            if service.free >= 2:
                name = f"{service.service_id.removesuffix(tomorrow)}tomorrow"
                where = f"--from {service.origin}" + (f" --to {service.destination}" if service.destination else "")
                return [f"services {where} --date tomorrow", f"seats {name}", f"hold {name} --any 2 --together"]
    return ["operators"]
