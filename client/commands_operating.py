"""The operator's commands: block and unblock seats, close, open and cancel a service, its manifest. They need the operator's key."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from client import inputs
from client.commands_looking import Json, ServiceId
from client.commands_selling import RequestId
from client.terminal import Session, tell
from datastore.errors import InvalidRequest

Key = Annotated[Path | None, typer.Option("--key", help="The file with the operator's key; by default the one in the data folder.")]
Seats = Annotated[list[str], typer.Argument(metavar="SEAT...", help="The seats, e.g. 12A 12B.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; travellers may read it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    panel = "Operate"
    for command in (block, unblock, close, open_service, cancel_service, manifest):
        name = {"open_service": "open"}.get(command.__name__, command.__name__.replace("_", "-"))
        app.command(name, rich_help_panel=panel)(command)


def _key(session: Session, key: Path | None, service: str) -> str:
    from client import keys

    return keys.read_secret(key) if key is not None else keys.operator_key(session.folders, service)


def block(
    context: typer.Context,
    service: ServiceId,
    seats: Seats,
    reason: Reason = "blocked by the operator",
    key: Key = None,
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Take free seats out of sale."""
    session: Session = context.obj
    with session.connect() as client:
        secret = _key(session, key, service)
        answer = client.block(secret, inputs.service_id(service, date.today()), inputs.seats(seats), reason, request_id=request_id)
    if json:
        session.print_json(answer)
    else:
        session.console().print(f"blocked {', '.join(answer.seats)} on {answer.service_id}")
    return session.done(answer)


def unblock(
    context: typer.Context, service: ServiceId, seats: Seats, key: Key = None, request_id: RequestId = "", json: Json = False
) -> int:
    """Put blocked seats back into sale."""
    session: Session = context.obj
    with session.connect() as client:
        secret = _key(session, key, service)
        answer = client.unblock(secret, inputs.service_id(service, date.today()), inputs.seats(seats), request_id=request_id)
    if json:
        session.print_json(answer)
    else:
        session.console().print(f"for sale again: {', '.join(answer.seats)} on {answer.service_id}")
    return session.done(answer)


def close(
    context: typer.Context, service: ServiceId, reason: Reason = "", key: Key = None, request_id: RequestId = "", json: Json = False
) -> int:
    """Stop selling a service; what is booked stays."""
    return _change(context, service, "closed", reason, key, request_id, json)


def open_service(
    context: typer.Context, service: ServiceId, reason: Reason = "", key: Key = None, request_id: RequestId = "", json: Json = False
) -> int:
    """Sell a closed service again."""
    return _change(context, service, "open", reason, key, request_id, json)


def cancel_service(
    context: typer.Context,
    service: ServiceId,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Cancels every booking of the service: say that you mean it.")] = False,
    ask: Annotated[
        bool, typer.Option("--ask-travellers", help="Bookings stand until their travellers take an alternative or the money.")
    ] = False,
    key: Key = None,
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Cancel a service with all its bookings and holds, or with its travellers asked what now."""
    if not yes:
        raise InvalidRequest("a cancelled service cannot be opened again: add --yes", field="yes")
    return _change(context, service, "cancelled", reason, key, request_id, json, ask=ask)


def _change(
    context: typer.Context, service: str, state: str, reason: str, key: Path | None, request_id: str, json: bool, *, ask: bool = False
) -> int:
    session: Session = context.obj
    with session.connect() as client:
        secret = _key(session, key, service)
        service_id = inputs.service_id(service, date.today())
        answer = client.change_service(secret, service_id, state, reason, ask_travellers=ask, request_id=request_id)
    if json:
        session.print_json(answer)
        return session.done(answer)
    session.console().print(f"{answer.service_id} is {answer.state}")
    if answer.orders_cancelled:
        session.console().print(f"bookings cancelled: {', '.join(answer.orders_cancelled)}", soft_wrap=True)
    if answer.orders_asked:
        session.console().print(f"travellers asked: {', '.join(answer.orders_asked)}", soft_wrap=True)
    if answer.holds_released:
        tell(f"holds released: {answer.holds_released}")
    return session.done(answer)


def manifest(context: typer.Context, service: ServiceId, key: Key = None, json: Json = False) -> int:
    """List who sits where on a service."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.manifest(_key(session, key, service), inputs.service_id(service, date.today()))
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.manifest(session.console(), answer)
    return session.done(answer)
