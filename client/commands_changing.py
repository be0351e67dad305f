"""Commands that cancel and change bookings: what it comes to first, then just that."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from client import inputs
from client.commands_looking import Json
from client.commands_selling import Reference, RequestId, reference_of
from client.terminal import Session, tell
from datastore.errors import HoldfastError, InvalidRequest, nearest, shown

if TYPE_CHECKING:
    from client import api
    from datastore.messages import OrderAnswer, QuoteAnswer

Token = Annotated[str, typer.Option("--token", help="The manage token, where it is not kept here.")]
QuoteOnly = Annotated[bool, typer.Option("--quote", help="Only say what it comes to.")]
Accept = Annotated[str, typer.Option("--accept", metavar="QUOTE", help="Do what was quoted, if it is still so.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: quote it and do it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (cancel, change, alternatives, accept, refund):
        app.command(rich_help_panel="Travel")(command)


def token_of(session: Session, reference: str, token: str) -> str:
    """Return the manage token of a booking: the one given, or the one kept here.

    Raises:
        InvalidRequest: There is none.
    """
    used = token or session.wallet.token(reference)
    if not used:
        near = nearest(reference, [one.reference for one in session.wallet.orders()])
        meant = f"; kept here {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else ""
        raise InvalidRequest(f"the manage token of {shown(reference)} is not kept here: add --token TOKEN{meant}", field="token")
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


def change(
    context: typer.Context,
    reference: Reference,
    seat: Annotated[
        list[str] | None, typer.Option("--seat", help="The seat given up and the one taken for it: 12A=14C, or with the leg, 2:12A=14C.")
    ] = None,
    leg: Annotated[int, typer.Option("--leg", min=0, help="Which leg of a trip goes to another service, counted from 1.")] = 0,
    to: Annotated[str, typer.Option("--to", metavar="SERVICE", help="Another service of the same operator for that leg.")] = "",
    seats: Annotated[str, typer.Option("--seats", help="With --to: the seats there, 12A,12B; the best that are left by default.")] = "",
    card: Annotated[str, typer.Option("--pay", help="The card that pays the difference, e.g. pm_card_visa.")] = "",
    quote: QuoteOnly = False,
    accept: Accept = "",
    yes: Yes = False,
    token: Token = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Move to other seats or to another date or service of the operator: says what it costs, asks, and does all of it or nothing."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    used = token_of(session, reference, token)
    if accept and (seat or to or leg or seats or quote):
        raise InvalidRequest("--accept does what was quoted: name nothing else with it", field="accept")
    with session.connect() as client:
        if not accept:
            numbers, swaps = _swaps(seat or [])
            service = inputs.service_id(to, date.today()) if to else ""
            named = inputs.seats(seats.split(",")) if seats else []
            found = client.quote_change(reference, used, leg=leg or numbers, swaps=swaps, service_id=service, seats=named)
            if quote:
                return show_quote(session, found, f"holdfast change {reference} --accept {found.quote}", json=json)
            agree(session, found, yes=yes, json=json)
            accept = found.quote
        return show_order(session, _changed(session, client, (reference, used, accept), card, request_id), json=json)


def _changed(session: Session, client: api.Holdfast, what: tuple[str, str, str], card: str, request_id: str) -> OrderAnswer:
    """Change a booking (reference, token, quote), saying what goes on where it is not done yet."""
    from client import bookings

    try:
        return bookings.change(client, session.wallet, *what, card=card, request_id=request_id)
    except HoldfastError as error:
        if bookings.goes_on(error):
            tell(f"then: holdfast change {what[0]} --accept {what[2]}{f' --pay {card}' if card else ''}")
        raise


def alternatives(
    context: typer.Context,
    reference: Reference,
    leg: Annotated[int, typer.Option("--leg", min=0, help="Which leg, counted from 1, where several were taken away.")] = 0,
    token: Token = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """After a service was cancelled or moved: search for other ways, and hold up to three of them at no charge."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    with session.connect() as client:
        answer = client.alternatives(reference, token_of(session, reference, token), leg=leg, request_id=request_id)
    session.wallet.keep_alternatives(reference, [(one.quote, one.hold_id) for one in answer.alternatives])
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_changes

    show_changes.alternatives(session.console(), answer)
    if answer.alternatives:
        tell(f"next: holdfast accept {reference} 1")
    tell(f"      holdfast refund {reference}")
    return session.done(answer)


def accept(
    context: typer.Context,
    reference: Reference,
    choice: Annotated[str, typer.Argument(metavar="ALTERNATIVE", help="Its number, or its quote; or: keep, as it is now.")],
    token: Token = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Take an alternative for a service that was cancelled or moved, or keep the booking as it is."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    used = token_of(session, reference, token)
    kept = session.wallet.alternatives(reference)
    quote = choice
    if choice.isascii() and choice.isdigit() and len(choice) < 4:
        if not 1 <= int(choice) <= len(kept):
            known = f"1 to {len(kept)} are held" if kept else f"search first: holdfast alternatives {reference}"
            raise InvalidRequest(f"there is no alternative {choice}; {known}", field="alternative")
        quote = kept[int(choice) - 1][0]
    with session.connect() as client:
        if choice == "keep":
            return show_order(session, client.keep(reference, used, request_id=request_id), json=json)
        from client import bookings

        answer = bookings.take_alternative(client, session.wallet, reference, used, quote, request_id=request_id)
    return show_order(session, answer, json=json)


def refund(
    context: typer.Context,
    reference: Reference,
    leg: Annotated[list[int] | None, typer.Option("--leg", help="Only this leg, counted from 1; may be repeated.")] = None,
    quote: QuoteOnly = False,
    yes: Yes = False,
    token: Token = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Have the whole price back, whatever the fare says, after a service of the booking was cancelled or moved."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    used = token_of(session, reference, token)
    with session.connect() as client:
        found = client.quote_cancel(reference, used, legs=leg or [], full=True)
        if quote:
            return show_quote(session, found, f"holdfast cancel {reference} --accept {found.quote}", json=json)
        agree(session, found, yes=yes, json=json)
        return show_order(session, client.cancel(reference, used, quote=found.quote, request_id=request_id), json=json)


def _swaps(words: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """Return the leg (0 where none is named) and the pairs of seats.

    Raises:
        InvalidRequest: Not [LEG:]OLD=NEW, or of more than one leg.
    """
    legs: set[int] = set()
    pairs: list[tuple[str, str]] = []
    for word in words:
        number, _, rest = word.rpartition(":")
        old, equals, new = rest.partition("=")
        if not equals or not old or not new or (number and not (number.isascii() and number.isdigit())):
            raise InvalidRequest(f"{word}: a seat is changed as 12A=14C, or 2:12A=14C for the second leg", field="seat")
        legs.add(int(number) if number else 0)
        pairs.append((old.upper(), new.upper()))
    if len(legs) > 1:
        raise InvalidRequest("seats of one leg are changed at a time", field="seat")
    return (legs.pop() if legs else 0), pairs


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
    from client.administering import agreed  # It speaks to managers too, and `--help` must not wait for that.

    sum_of_it = f"{answer.to_pay} to pay" if pays else f"{answer.refund} back"
    agreed(f"to be done: {answer.what}; {sum_of_it}", yes=yes, json=json)


def show_order(session: Session, answer: OrderAnswer, *, json: bool) -> int:
    """Show a booking as it is now."""
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.order(session.console(), answer)
    return session.done(answer)
