"""The command that restarts a running cluster process by process: `cluster restart --rolling`."""

from __future__ import annotations

from typing import Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import HoldfastError, InvalidRequest


def register(cluster: typer.Typer) -> None:
    """Add the command to the group for clusters."""
    cluster.command("restart")(restart)


def restart(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[PROCESS...]", help="Only these; all of this machine by default.")] = None,
    rolling: Annotated[bool, typer.Option("--rolling", help="One after another, each when the cluster is whole again.")] = False,
    json: Json = False,
) -> int:
    """Restart processes one after another while sales go on: how a newer version is taken into use."""
    from client import restarting
    from client.plan import plan_of

    session: Session = context.obj
    if not rolling:
        raise InvalidRequest(
            "say --rolling: one process after another, sales go on; to stop everything: holdfast cluster down, then up", field="rolling"
        )
    plan = plan_of(session.mapping, str(session.config_file))
    done = restarting.rolling(plan, session.folders, names or [], tell, lambda node: _hand_over(session, node))
    if json:
        session.print_json({"restarted": done})
        return exit_codes.DONE
    from client.tables import Rows

    rows = Rows("PROCESS", "KIND", "AWAY", "WHOLE AGAIN AFTER", right=("AWAY", "WHOLE AGAIN AFTER"))
    for one in done:
        rows.add_row(one.name, one.kind, f"{one.away_ms} ms", f"{one.whole_ms} ms")
    rows.print(session.console())
    return exit_codes.DONE


def _hand_over(session: Session, node: str) -> None:
    """Move the node's primaries to other copies; where that fails, managers promote others when the node is gone."""
    from client.administering import ask_once, whoever
    from datastore.administration import Move, MovePrimaries

    try:
        with session.connect() as client:
            led = [line.operator for line in client.status().partitions if line.primary == node]
        if not led:
            return
        wish = MovePrimaries(moves=[Move(operator) for operator in led], why=f"rolling restart of {node}", by=whoever())
        for moved in ask_once(session, wish):
            if moved.error:
                tell(f"{moved.operator} stays at {node}: {moved.error}")
    except HoldfastError as error:
        tell(f"{node}: its primaries are not handed over: {error.detail}")
