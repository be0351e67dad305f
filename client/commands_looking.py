"""The commands that look: operators, places, services, seats, seat. They change nothing, so they may be repeated freely."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from client import completion, inputs
from client.terminal import Session, tell
from client.watching import watch

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
ServiceId = Annotated[
    str, typer.Argument(metavar="SERVICE", help="A service, e.g. AR1140-EZE-2026-12-01.", autocompletion=completion.services)
]
Watch = Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl+C.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Lines of a page.")]
After = Annotated[str, typer.Option("--after", help="Go on after this one: the last of the page before.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    panel = "Look"
    for command in (operators, places, services, seats, seat):
        app.command(rich_help_panel=panel)(command)


def operators(
    context: typer.Context,
    like: Annotated[str, typer.Argument(metavar="[WORD]", help="Part of a code or name.")] = "",
    json: Json = False,
) -> int:
    """List who sells seats here."""
    session: Session = context.obj
    with session.connect() as client:
        found = client.operators(like)
    if json:
        session.print_json({"operators": found})
        return 0
    if not found:
        tell("no operators")
        return 0
    from client.tables import Rows

    rows = Rows("CODE", "NAME", "KIND", "SCHEDULES", "DATASETS", right=("SCHEDULES",), shorten=("NAME",), drop=("DATASETS", "SCHEDULES"))
    for one in found:
        rows.add_row(one.code, one.name, one.kind, str(one.schedules), ", ".join(one.datasets))
    rows.print(session.console())
    return 0


def places(
    context: typer.Context,
    like: Annotated[str, typer.Argument(metavar="[WORD]", help="Part of a code, name or city.")] = "",
    json: Json = False,
) -> int:
    """List airports and halls."""
    session: Session = context.obj
    with session.connect() as client:
        found = client.places(like)
    if json:
        session.print_json({"places": found})
        return 0
    if not found:
        tell("no places")
        return 0
    from client.tables import Rows

    rows = Rows("CODE", "NAME", "CITY", "COUNTRY", "TIME ZONE", shorten=("NAME",), drop=("TIME ZONE", "CITY"))
    for one in found:
        rows.add_row(one.code, one.name, one.city, one.country, one.zone)
    rows.print(session.console())
    return 0


def services(
    context: typer.Context,
    operator: Annotated[
        str, typer.Option("--operator", "-o", help="Only this operator's, e.g. AR.", autocompletion=completion.operators)
    ] = "",
    origin: Annotated[str, typer.Option("--from", "-f", help="Only from this place, e.g. EZE.", autocompletion=completion.places)] = "",
    destination: Annotated[str, typer.Option("--to", "-t", help="Only to this place, e.g. COR.", autocompletion=completion.places)] = "",
    on: Annotated[str, typer.Option("--date", "-d", help="Local date: 2026-12-01, yesterday, today, tomorrow, +3d.")] = "today",
    limit: Limit = 50,
    after: After = "",
    json: Json = False,
) -> int:
    """List the services of a day with their free seats."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.services(
            inputs.day(on, date.today()),
            operator=operator.upper(),
            origin=origin.upper(),
            destination=destination.upper(),
            limit=limit,
            after=after,
        )
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    if answer.services:
        show.services(session.console(), answer)
    else:
        tell("no services")
    if answer.next:
        tell(f"there are more: add --after {answer.next}")
    return session.done(answer)


def seats(
    context: typer.Context,
    service: ServiceId,
    as_list: Annotated[bool, typer.Option("--list", help="One seat a line instead of the map.")] = False,
    cabin: Annotated[str, typer.Option("--cabin", help="With --list: only this cabin, e.g. Y.")] = "",
    state: Annotated[str, typer.Option("--state", help="With --list: available, held, occupied or blocked.")] = "",
    limit: Limit = 100,
    after: After = "",
    again: Watch = False,
    json: Json = False,
) -> int:
    """Draw the seat map of a service, or list its seats."""
    session: Session = context.obj
    if again:
        watch(session, lambda: seats(context, service, as_list, cabin, state, limit, after, json=json), json=json)
    with session.connect() as client:
        if as_list or cabin or state or after:
            page = client.list_seats(inputs.service_id(service, date.today()), cabin=cabin.upper(), state=state, limit=limit, after=after)
        else:
            drawn = client.seat_map(inputs.service_id(service, date.today()))
            if json:
                session.print_json(drawn)
            else:
                from client import show

                show.seat_map(session.console(), drawn)
            return session.done(drawn)
    if json:
        session.print_json(page)
        return session.done(page)
    from client import show

    if page.seats:
        show.seats(session.console(), page.seats)
    else:
        tell("no seats")
    if page.next:
        tell(f"there are more: add --after {page.next}")
    return session.done(page)


def seat(
    context: typer.Context,
    service: ServiceId,
    designator: Annotated[str, typer.Argument(metavar="SEAT", help="A seat, e.g. 12A.")],
    json: Json = False,
) -> int:
    """Show one seat: its state and its price."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.query_seat(inputs.service_id(service, date.today()), designator.upper())
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    console = session.console()
    show.heading(console, show.service_line(answer.service))
    show.seats(console, [answer.seat])
    return session.done(answer)
