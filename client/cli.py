"""The `holdfast` command: its global options, its commands in three groups, and how it ends.

Commands return their exit code (see `client.exit_codes`). What goes wrong arrives here as a HoldfastError and is shown
in one way, as a message or with --json as a document.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from client import (
    commands_certificates,
    commands_changing,
    commands_chaos,
    commands_checking,
    commands_cluster,
    commands_console,
    commands_demo,
    commands_doctor,
    commands_import,
    commands_locks,
    commands_log,
    commands_looking,
    commands_nodes,
    commands_operating,
    commands_operators,
    commands_payments,
    commands_primaries,
    commands_recording,
    commands_recovering,
    commands_restarting,
    commands_search,
    commands_selling,
    commands_simulate,
    commands_tickets,
    commands_tui,
    commands_verify,
    exit_codes,
)
from client.command_names import names_in
from client.sections import SectionedGroup
from client.terminal import Session, show_error, tell
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest

INTERRUPTED = 130

# Typer carries its own copy of click since 0.29 and used the real one before; these are the classes of either.
UsageError = cast("type[Any]", typer.BadParameter.__base__)

app = typer.Typer(
    name="holdfast",
    help="Search services, hold seats, book them, and run the cluster that sells them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=SectionedGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"holdfast {metadata.version('holdfast')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "--cluster", envvar="HOLDFAST_CONFIG", help="The cluster.toml; by default the one here.")
    ] = None,
    profile: Annotated[str, typer.Option("--profile", envvar="HOLDFAST_PROFILE", help="A profile of the cluster.toml.")] = "default",
    data: Annotated[Path | None, typer.Option("--data", envvar="HOLDFAST_DATA", help="The cluster's data folder.")] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", envvar="HOLDFAST_TIMEOUT", min=0, max=120, help="Seconds to wait for the cluster; 0: as configured."),
    ] = 0,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    context.obj = Session(config, profile, data, timeout, run)


commands_search.register(app)
commands_looking.register(app)
commands_selling.register(app)
commands_changing.register(app)
commands_payments.register(app)
commands_tickets.register(app)
commands_operating.register(app)
commands_import.register(app)
commands_cluster.register(app)
commands_checking.register(commands_cluster.cluster)
commands_verify.register(app)
commands_operators.register(app)
commands_restarting.register(commands_cluster.cluster)
commands_nodes.register(app)
commands_primaries.register(app, commands_operators.operator)
commands_recovering.register(app)
commands_recording.register(app)
commands_certificates.register(app)
commands_tui.register(app)
commands_demo.register(app)
commands_doctor.register(app)
commands_locks.register(app)
commands_log.register(app)
commands_console.register(app)
commands_simulate.register(app)
commands_chaos.register(app)


@cache
def command() -> Any:
    """Return the command with all its parameters. Made once: it takes a fifth of what most commands do, and the console runs many."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    as_json = "--json" in arguments
    try:
        returned = command()(list(arguments), standalone_mode=False, prog_name="holdfast")
        return returned if isinstance(returned, int) else exit_codes.DONE
    except HoldfastError as error:
        return _show(error, as_json=as_json)
    except UsageError as error:
        if as_json:
            return _show(InvalidRequest(error.format_message(), field="arguments"), as_json=True)
        error.show()
        return exit_codes.INVALID
    except UnicodeError:
        # Python reads bytes of the command line that are no UTF-8 as lone surrogates, which nothing can write again.
        reason = "the command line or a file that it names holds text that is not valid Unicode"
        return _show(InvalidRequest(reason, field="arguments"), as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _say_no_more()
        return exit_codes.DONE
    except SystemExit as ended:
        # Both libraries that write for us end a command with 1 where its reader has gone: here that is no failure.
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        _say_no_more()
        return exit_codes.DONE
    except OSError as error:
        return _show(_of_this_machine(error), as_json=as_json)


def command_names() -> set[str]:
    """Return the names of all commands, those of groups with their group: "recover", "cluster check"."""
    return set(names_in(command()))


def _show(error: HoldfastError, *, as_json: bool) -> int:
    """Show an error, on stderr at least; return its exit code."""
    try:
        return show_error(error, as_json=as_json)
    except OSError:
        _say_no_more()
        return show_error(error, as_json=False)


def _of_this_machine(error: OSError) -> ConfigInvalid:
    """Return what the system refused as an error of ours: a folder that cannot be made, a full disk, a closed terminal."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename or "this machine")
    reason = error.strerror or str(error) or type(error).__name__
    return ConfigInvalid(f"{what}: {reason}", file=what, key="-", reason=reason)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding shows "?" for a glyph that it lacks; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more()
    except OSError as error:
        # The result is lost, or the JSON of the error: stderr is what is left to say so.
        _say_no_more()
        if code == exit_codes.DONE or "--json" in sys.argv:
            tell(f"error: stdout: {error.strerror}")
        code = code or exit_codes.INVALID
    sys.exit(code)


def _say_no_more() -> None:
    """Whoever read us has seen enough (`| head`) or cannot be written to; nothing more is said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
