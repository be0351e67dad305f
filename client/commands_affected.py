"""`holdfast operator moved` and `holdfast operator affected`: whom a change of a service concerns."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from client import inputs, keys
from client.commands_looking import Json, ServiceId
from client.terminal import Session

Key = Annotated[Path | None, typer.Option("--key", help="The file with the operator's key; by default the one in the data folder.")]


def register(operator: typer.Typer) -> None:
    """Add the commands to the group `holdfast operator`."""
    operator.command("affected")(affected)
    operator.command("moved")(moved)


def _key(session: Session, key: Path | None, service: str) -> str:
    return keys.read_secret(key) if key is not None else keys.operator_key(session.folders, service)


def moved(
    context: typer.Context,
    service: ServiceId,
    reason: Annotated[str, typer.Argument(help="What has changed, for the travellers to read: leaves at 14:20.")],
    key: Key = None,
    json: Json = False,
) -> int:
    """Ask every traveller of a service that goes at another time: keep the booking, take an alternative, or have the money back."""
    session: Session = context.obj
    service_id = inputs.service_id(service, date.today())
    with session.connect() as client:
        answer = client.change_service(_key(session, key, service_id), service_id, "moved", reason)
    if json:
        session.print_json(answer)
        return session.done(answer)
    session.console().print(f"travellers asked: {', '.join(answer.orders_asked) or 'none'}", soft_wrap=True)
    return session.done(answer)


def affected(context: typer.Context, service: ServiceId, key: Key = None, json: Json = False) -> int:
    """List the bookings of a service, and whose travellers are asked what now."""
    session: Session = context.obj
    service_id = inputs.service_id(service, date.today())
    with session.connect() as client:
        answer = client.affected(_key(session, key, service_id), service_id)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client.tables import Rows

    rows = Rows("BOOKING", "SEATS", "DECIDED BY", "ASKED", "WHY", fold=("WHY",))
    for line in answer.lines:
        rows.add_row(line.reference, " ".join(line.seats), line.decided_by, "yes" if line.asked else "no", line.why)
    rows.print(session.console())
    return session.done(answer)
