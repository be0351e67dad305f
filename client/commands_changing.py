"""Commands that cancel and change bookings: what it comes to first, then just that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from client.administering import agreed
from client.commands_looking import Json
from client.commands_selling import Reference, RequestId, reference_of
from client.terminal import Session, tell
from datastore.errors import InvalidRequest

if TYPE_CHECKING:
    from datastore.messages import OrderAnswer, QuoteAnswer

Token = Annotated[str, typer.Option("--token", help="The manage token, where it is not kept here.")]
QuoteOnly = Annotated[bool, typer.Option("--quote", help="Only say what it comes to.")]
Accept = Annotated[str, typer.Option("--accept", metavar="QUOTE", help="Do what was quoted, if it is still so.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: quote it and do it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(rich_help_panel="Travel")(cancel)


def token_of(session: Session, reference: str, token: str) -> str:
    """Return the manage token of a booking: the one given, or the one kept here.

    Raises:
        InvalidRequest: There is none.
    """
    used = token or session.wallet.token(reference)
    if not used:
        raise InvalidRequest("this booking's manage token is not kept here: add --token TOKEN", field="token")
    return used


def cancel(
    context: typer.Context,
    reference: Reference,
    leg: Annotated[list[int] | None, typer.Option("--leg", help="Only this leg of the trip, counted from 1; may be repeated.")] = None,
    passenger: Annotated[
        list[int] | None, typer.Option("--passenger", "-p", help="Only this passenger, counted from 1; may be repeated.")
    ] = None,
    quote: QuoteOnly = False,
    accept: Accept = "",
    yes: Yes = False,
    token: Token = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Cancel a booking, or a leg or a passenger of it: says what is refunded, asks, and does just that."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    used = token_of(session, reference, token)
    if accept and (leg or passenger or quote):
        raise InvalidRequest("--accept does what was quoted: name nothing else with it", field="accept")
    with session.connect() as client:
        if not accept:
            found = client.quote_cancel(reference, used, legs=leg or [], passengers=passenger or [])
            if quote:
                return show_quote(session, found, f"holdfast cancel {reference} --accept {found.quote}", json=json)
            agree(session, found, yes=yes, json=json)
            accept = found.quote
        return show_order(session, client.cancel(reference, used, quote=accept, request_id=request_id), json=json)


def show_quote(session: Session, answer: QuoteAnswer, following: str, *, json: bool) -> int:
    """Show a quote, and the command that accepts it."""
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_changes

    show_changes.quote(session.console(), answer)
    tell(f"next: {following}")
    return session.done(answer)


def agree(session: Session, answer: QuoteAnswer, *, yes: bool, json: bool) -> None:
    """Show a person what it comes to, and go on if that is agreed.

    Raises:
        InvalidRequest: It is not, or nobody can be asked and --yes was not said.
    """
    if not json and not yes:
        from client import show_changes

        show_changes.quote(session.console(), answer)
    pays = answer.to_pay is not None and answer.to_pay.minor
    agreed(f"{answer.what}: {answer.to_pay} to pay" if pays else f"{answer.what}: {answer.refund} back", yes=yes, json=json)


def show_order(session: Session, answer: OrderAnswer, *, json: bool) -> int:
    """Show a booking as it is now."""
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.order(session.console(), answer)
    return session.done(answer)
