"""The commands that search: trips, the calendar of lowest prices, the network and its paths."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import completion, inputs
from client.commands_looking import Json
from client.terminal import Session, tell
from client.wallet import KeptOffer
from datastore.errors import ConfigInvalid, InvalidRequest

if TYPE_CHECKING:
    from datastore import messages

PLACE_HELP = "A place's code (EZE), or a city (all its airports)."
Origin = Annotated[str, typer.Argument(metavar="FROM", help=PLACE_HELP, autocompletion=completion.places)]
Destination = Annotated[str, typer.Argument(metavar="TO", help=PLACE_HELP, autocompletion=completion.places)]
Pax = Annotated[int, typer.Option("--pax", "-n", min=1, max=400, help="How many travel together.")]
Cabin = Annotated[str, typer.Option("--cabin", help="Only this cabin, e.g. Y; by default the cheapest with room for all.")]
Airlines = Annotated[str, typer.Option("--airlines", help="Only these, e.g. AR,LA.")]
Stops = Annotated[int, typer.Option("--max-stops", min=0, max=2, help="At most so many changes.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    panel = "Look"
    for command in (search, calendar, routes, paths):
        app.command(rich_help_panel=panel)(command)


def search(
    context: typer.Context,
    origin: Origin,
    destination: Destination,
    on: Annotated[str, typer.Argument(metavar="[DATE]", help="Local date: 2026-12-01, today, tomorrow, +3d.")] = "today",
    back: Annotated[str, typer.Option("--return", "-r", help="And back on this date.")] = "",
    pax: Pax = 1,
    stops_max: Stops = 2,
    cabin: Cabin = "",
    airlines: Airlines = "",
    sort: Annotated[str, typer.Option("--sort", "-s", help="price, duration, arrival, departure or stops.")] = "price",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Trips shown each way.")] = 20,
    children: Annotated[int, typer.Option("--children", min=0, help="So many of them are 2 to 11 years old.")] = 0,
    infants: Annotated[int, typer.Option("--infants", min=0, help="And so many infants on laps: they need no seat.")] = 0,
    json: Json = False,
) -> int:
    """Find trips over all airlines: those that no other beats in arrival, duration, stops and price at once."""
    session: Session = context.obj
    today = date.today()
    if children > pax or infants > pax - children:
        raise InvalidRequest(
            f"--pax {pax} has {max(0, pax - children)} adults beside {children} children: each infant on a lap needs one, {infants} were"
            " asked for; an infant with a seat counts in --pax",
            field="infants" if children <= pax else "children",
        )
    with session.connect() as client:
        answer = client.search(
            origin,
            destination,
            inputs.day(on, today),
            return_date=inputs.day(back, today) if back else "",
            passengers=pax,
            stops_max=stops_max,
            cabin=cabin.upper(),
            airlines=_codes(airlines),
            sort=sort.lower(),
            limit=limit,
        )
    session.wallet.keep_offers(kept(answer))
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_search

    if answer.outbound or answer.inbound:
        show_search.trips(session.console(), answer, children, infants)
    else:
        tell(f"no trips; see what there is on other days with: holdfast calendar {origin} {destination}")
    if answer.more:
        tell(f"{answer.more} more: add --limit {limit + answer.more}")
    return session.done(answer)


def calendar(
    context: typer.Context,
    origin: Origin,
    destination: Destination,
    month: Annotated[str, typer.Argument(metavar="[MONTH]", help="2026-12; by default this month.")] = "",
    pax: Pax = 1,
    stops_max: Stops = 2,
    cabin: Cabin = "",
    json: Json = False,
) -> int:
    """Show the lowest price of each day of a month."""
    session: Session = context.obj
    chosen = month or date.today().isoformat()[:7]
    with session.connect() as client:
        answer = client.calendar(origin, destination, chosen, passengers=pax, stops_max=stops_max, cabin=cabin.upper())
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_search

    show_search.calendar(session.console(), answer)
    return session.done(answer)


def routes(
    context: typer.Context,
    airlines: Airlines = "",
    on: Annotated[str, typer.Option("--date", "-d", help="The week from this date on.")] = "today",
    png: Annotated[Path | None, typer.Option("--png", help="Write a picture to this file.")] = None,
    as_list: Annotated[bool, typer.Option("--list", help="One route a line instead of the sketch.")] = False,
    json: Json = False,
) -> int:
    """Draw the network: which places are joined, and by how many services a week."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.routes(inputs.day(on, date.today()), airlines=_codes(airlines))
    if png is not None:
        from client import route_picture

        try:
            route_picture.write(answer, png)
        except OSError as error:
            raise ConfigInvalid(f"{png}: {error.strerror or error}", file=str(png), key="png", reason=str(error)) from error
        except ValueError as error:
            raise InvalidRequest(f"{png}: not the name of a picture: end it in .png", field="png") from error
        tell(f"wrote {png}")
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_search

    if not answer.routes:
        tell("no routes")
    elif as_list:
        show_search.route_list(session.console(), answer)
    elif png is None:
        show_search.route_sketch(session.console(), answer)
    return session.done(answer)


def paths(
    context: typer.Context,
    origin: Origin,
    destination: Destination,
    legs: Annotated[int, typer.Option("--legs", min=1, max=5, help="At most so many services after one another.")] = 3,
    airlines: Airlines = "",
    on: Annotated[str, typer.Option("--date", "-d", help="What runs in the week from this date on.")] = "today",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Paths listed; all are counted.")] = 20,
    json: Json = False,
) -> int:
    """Count and list all ways over the network from one place to another, whatever the times."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.paths(
            origin, destination, inputs.day(on, date.today()), legs=legs, airlines=_codes(airlines), limit=limit
        )
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show_search

    show_search.paths(session.console(), answer)
    return session.done(answer)


def _codes(text: str) -> list[str]:
    return [word.strip().upper() for word in text.split(",") if word.strip()]


def kept(answer: messages.TripsAnswer) -> list[KeptOffer]:
    """Return the offers of a search in the order of their numbers: out, then back."""
    return [
        KeptOffer(trip.offer, [leg.service.service_id for leg in trip.legs], answer.passengers)
        for trip in (*answer.outbound, *answer.inbound)
    ]
