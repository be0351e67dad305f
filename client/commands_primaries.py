"""The commands about who leads: switchover, failover, history, pause, resume; `operator move|spread|place`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from client import completion, exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import OperatorUnavailable

Operator = Annotated[str, typer.Argument(metavar="OPERATOR", help="The operator's code.", autocompletion=completion.operators)]
To = Annotated[
    str,
    typer.Option("--to", metavar="NODE", help="Who shall lead; by default whichever other copy is best.", autocompletion=completion.nodes),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the history.")]
MOVE_MS = 20_000


def register(app: typer.Typer, operators: typer.Typer) -> None:
    """Add the commands to the application, and those about one operator to its group."""
    panel = "Run a cluster"
    app.command("switchover", rich_help_panel=panel)(switchover)
    app.command("failover", rich_help_panel=panel)(failover)
    app.command("history", rich_help_panel=panel)(history)
    app.command("pause", rich_help_panel=panel)(pause)
    app.command("resume", rich_help_panel=panel)(resume)
    operators.command("move")(move)
    operators.command("spread")(spread)
    operators.command("place")(place)


def switchover(context: typer.Context, operator: Operator, to: To = "", why: Why = "", json: Json = False) -> int:
    """Hand an operator's primary over, planned: callers wait for a moment and see no error."""
    from datastore.administration import Move

    return _moved(context.obj, [Move(operator.upper(), to)], why or "switchover", json=json)


def failover(
    context: typer.Context,
    operator: Operator,
    force: Annotated[bool, typer.Option("--force", help="Say that you mean it: `switchover` is the gentle way.")] = False,
    to: To = "",
    why: Why = "",
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Give an operator another primary now, without the old one's help, also while automatic failover is paused."""
    from client.administering import agreed
    from datastore.administration import Move
    from datastore.errors import InvalidRequest

    if not force:
        raise InvalidRequest("a failover takes the role without asking: add --force, or use switchover", field="force")
    said = (
        f"{operator.upper()}: nothing acknowledged is lost, as a majority of its copies must promise; what is on its way to the old"
        " primary gets outcome_unknown, and the same request id asks what became of it"
    )
    agreed(said, yes=yes, json=json)
    return _moved(context.obj, [Move(operator.upper(), to, True)], why or "forced failover", json=json)


def move(context: typer.Context, operator: Operator, node: Annotated[str, typer.Argument(metavar="NODE")], json: Json = False) -> int:
    """Move an operator's primary to a node, and prefer it there from now on."""
    from datastore.administration import Move

    return _moved(context.obj, [Move(operator.upper(), node)], "moved", json=json, prefers=True)


def spread(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    json: Json = False,
) -> int:
    """Move primaries to where they are preferred, and spread the others evenly over the nodes."""
    from client.administering import ask_once
    from datastore.administration import PlanSpread

    session: Session = context.obj
    moves = ask_once(session, PlanSpread())
    if dry_run or not moves:
        if json:
            session.print_json(moves)
        else:
            for one in moves:
                session.console().print(f"{one.operator} to {one.node}")
            tell("nothing was moved" if moves else "all primaries are where they should be")
        return exit_codes.DONE
    return _moved(session, moves, "spread", json=json)


def place(
    context: typer.Context, operator: Operator, nodes: Annotated[list[str], typer.Argument(metavar="NODE...")], json: Json = False
) -> int:
    """Say on which three or five nodes an operator's copies are kept; they move there one voter at a time, while it sells."""
    from client.administering import ask_once, whoever
    from datastore.administration import PlaceCopies

    session: Session = context.obj
    ask_once(session, PlaceCopies(operator=operator.upper(), nodes=nodes, by=whoever()))
    if json:
        session.print_json({"operator": operator.upper(), "nodes": nodes})
    else:
        session.console().print(f"{operator.upper()} is to be kept on {', '.join(nodes)}; look with: holdfast node list")
    return exit_codes.DONE


def history(
    context: typer.Context,
    operator: Annotated[str, typer.Option("--operator", metavar="CODE", help="Only this operator's.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many of each operator.")] = 20,
    json: Json = False,
) -> int:
    """List the promotions: when, from whom, to whom, in which epoch, why, and by whom."""
    from client.administering import ask_once
    from client.tables import Rows
    from datastore.administration import AskHistory

    session: Session = context.obj
    found = ask_once(session, AskHistory(operator=operator.upper(), limit=limit))
    rows = sorted(((row.stamp_ms, code, row) for code, rows in found.items() for row in rows), key=lambda one: one[:2])
    if json:
        plain = [{"operator": code, "when_ms": when, "epoch": row.epoch[0], "lsn": row.lsn, **_names(row)} for when, code, row in rows]
        session.print_json(plain)
        return exit_codes.DONE
    table = Rows("WHEN", "OPERATOR", "FROM", "TO", "EPOCH", "LSN", "WHY", "BY", right=("EPOCH", "LSN"), fold=("WHY", "BY"), drop=("LSN",))
    for when, code, row in rows:
        moment = datetime.fromtimestamp(when / 1000).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(moment, code, row.before or "-", row.node, str(row.epoch[0]), str(row.lsn), row.why, row.by)
    table.print(session.console())
    return exit_codes.DONE


def _names(row: Any) -> dict[str, str]:
    return {"from": row.before, "to": row.node, "why": row.why, "by": row.by}


def pause(context: typer.Context, why: Why = "", json: Json = False) -> int:
    """Pause automatic failover: nobody is promoted unless a person says so. It survives every restart."""
    return _pause(context.obj, True, why, json=json)


def resume(context: typer.Context, json: Json = False) -> int:
    """Let managers promote by themselves again."""
    return _pause(context.obj, False, "", json=json)


def _pause(session: Session, paused: bool, why: str, *, json: bool) -> int:
    from client.administering import ask_once, whoever
    from datastore.administration import LookAtCluster, PauseFailover
    from datastore.cluster_record import pause_of

    before = pause_of(ask_once(session, LookAtCluster()).record)
    after = pause_of(ask_once(session, PauseFailover(paused=paused, why=why, by=whoever())))
    if json:
        session.print_json({"paused": after is not None, "was": before is not None})
        return exit_codes.DONE
    words = {True: "paused", False: "automatic"}
    tell(f"before: failover was {words[before is not None]}")
    session.console().print(f"after: failover is {words[after is not None]}")
    return exit_codes.DONE


def _moved(session: Session, moves: list[Any], why: str, *, json: bool, prefers: bool = False) -> int:
    """Ask for moves and show what became of each.

    Raises:
        OperatorUnavailable: Not all were made; each says why.
    """
    from client.administering import ask_once, whoever
    from datastore.administration import MovePrimaries

    found = ask_once(session, MovePrimaries(moves=moves, why=why, by=whoever(), prefers=prefers), MOVE_MS)
    failed = [one for one in found if one.error]
    if json:
        session.print_json(found)
        return exit_codes.NO_ANSWER if failed else exit_codes.DONE
    for one in found:
        if not one.error:
            paused = f", callers waited {one.pause_ms} ms" if one.pause_ms else ""
            session.console().print(f"{one.operator}: before {one.before or 'nobody'}, after {one.after}, epoch {one.epoch}{paused}")
    if failed:
        raise OperatorUnavailable("; ".join(f"{one.operator}: {one.error}" for one in failed), operators=[one.operator for one in failed])
    return exit_codes.DONE
