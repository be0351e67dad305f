"""Trips, calendars, routes and paths as tables and sketches for a terminal."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from rich.text import Text

from client import inputs, routemap
from client.show import clock, local_time
from client.tables import STAYS, Rows
from datastore import messages
from datastore.model import Money

if TYPE_CHECKING:
    from rich.console import Console

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
CHEAPEST = "#009E73"
SKETCH_LINES = 24
NARROW = 100  # Columns below which a reason stands under its trip.


def trips(console: Console, answer: messages.TripsAnswer, children: int = 0, infants: int = 0) -> None:
    """Print the trips of a search, numbered, each with its reason; then how to hold one.

    Args:
        children: So many of the party; `infants`: so many more on laps. What they pay is said beside the adults' price.
    """
    number = 1
    for found, ends in ((answer.outbound, (answer.origins, answer.destinations)), (answer.inbound, (answer.destinations, answer.origins))):
        if found:
            console.print(Text(f"{named(ends[0])} to {named(ends[1])}, {counted_people(answer.passengers)}"), soft_wrap=True)
            _table(console, found, number, (answer.passengers, children, infants))
            number += len(found)
    first = next(iter((*answer.outbound, *answer.inbound)))
    minutes = inputs.duration_text(first.expires_ms - answer.as_of_ms)
    console.print(f"\nprices of {clock(answer.as_of_ms)}, offered for {minutes}; hold one with: holdfast hold --offer 1", soft_wrap=True)


def _table(console: Console, found: list[messages.Trip], number: int, party: tuple[int, int, int]) -> None:
    # Where a trip's services are too long for one line each has its own, whole; a reason beside them would be a column of single words.
    narrow = console.width < NARROW
    rows = Rows(
        "#", "DEPARTS", "ARRIVES", "TIME", "ROUTE", "SERVICES", "LEFT", "PRICE", "BACK", "WHY",
        right=("#", "LEFT", "PRICE", "BACK"),
        fold=("SERVICES",) if narrow else ("WHY",),
        drop=("WHY", "LEFT", "BACK", "ROUTE") if narrow else ("LEFT", "BACK", "ROUTE", "WHY"),
        below="WHY",
    )  # fmt: skip
    for place, trip in enumerate(found, number):
        day = trip.legs[0].service.date
        rows.add_row(
            str(place),
            local_time(trip.departs, day),
            local_time(trip.arrives, day),
            hours(trip.duration_min),
            _route(trip),
            " ".join(leg.service.service_id for leg in trip.legs),
            str(trip.seats_left),
            str(trip.total),
            f"{trip.refundable_percent}{STAYS}%",
            trip.why + _details(trip, *party),
        )
    rows.print(console)


def _route(trip: messages.Trip) -> str:
    """Return "EZE → GRU 2h05 → MIA", "!" where the airline changes, "☾" where the night is between."""
    words = [trip.origin]
    for wait in trip.layovers:
        words += ["→", f"{wait.place}{STAYS}{hours(wait.minutes)}{'!' * wait.changes_airline}{'☾' * wait.overnight}"]
    return " ".join([*words, "→", trip.destination])


def _details(trip: messages.Trip, passengers: int, children: int, infants: int) -> str:
    words = []
    if trip.changes_airline:
        changes = [wait.place for wait in trip.layovers if wait.changes_airline]
        words.append(f"changes airline in {' and '.join(changes)}")
    if len(trip.legs) > 1 or passengers > 1:
        words.append(" + ".join(f"{part.count} × {part.each} {part.cabin}" for leg in trip.legs for part in leg.parts))
    if children or infants:
        words.append(party_words(trip, passengers, children, infants))
    return "".join(f"; {word}" for word in words)


def party_words(trip: messages.Trip, passengers: int, children: int, infants: int) -> str:
    """Return what a party pays by its types, the adults in the seats that are listed first: "together 664.40 USD: ..."."""
    minor = {"ADT": 0, "CHD": 0, "INF": 0}
    for leg in trip.legs:
        seats = [part for part in leg.parts for _ in range(part.count)]
        adults, rest = seats[: passengers - children], seats[passengers - children :]
        minor["ADT"] += sum(part.each.minor for part in adults)
        minor["CHD"] += sum(part.types["CHD"].minor for part in rest)
        minor["INF"] += sum(part.types["INF"].minor for part in adults[:infants])
    counts = {"ADT": passengers - children, "CHD": children, "INF": infants}
    currency = trip.total.currency
    parts = " + ".join(f"{count} {kind} {Money(minor[kind], currency)}" for kind, count in counts.items() if count)
    return f"together {Money(sum(minor.values()), currency)}: {parts}"


def hours(minutes: int) -> str:
    """Return "2h05"."""
    return f"{minutes // 60}h{minutes % 60:02d}"


def named(places: list[messages.PlaceInfo]) -> str:
    """Return places for people: "Buenos Aires (EZE, AEP)"."""
    cities = list(dict.fromkeys(place.city or place.name for place in places))
    return f"{' and '.join(cities)} ({', '.join(place.code for place in places)})"


def counted_people(count: int) -> str:
    return "1 traveller" if count == 1 else f"{count} travellers"


def calendar(console: Console, answer: messages.CalendarAnswer) -> None:
    """Print a month, a week a line, with the lowest price of each day."""
    ends = f"{named(answer.origins)} to {named(answer.destinations)}"
    console.print(Text(f"{ends}, {answer.days[0].date[:7]}, {counted_people(answer.passengers)}"), soft_wrap=True)
    for currency in sorted({line.lowest.currency for line in answer.days if line.lowest is not None}):
        prices = {line.date: line.lowest.minor for line in answer.days if line.lowest is not None and line.lowest.currency == currency}
        least = min(prices.values())
        rows = Rows(*DAYS, right=DAYS)
        week: list[Text] = [Text("")] * date.fromisoformat(answer.days[0].date).weekday()
        for day in dict.fromkeys(line.date for line in answer.days):
            price = prices.get(day)
            text = f"{int(day[8:])}{STAYS}{'·' if price is None else _units(price)}"
            week.append(Text(text, CHEAPEST if price == least else ""))
            if len(week) == len(DAYS):
                rows.add_row(*week)
                week = []
        if week:
            rows.add_row(*week, *[Text("")] * (len(DAYS) - len(week)))
        rows.print(console)
        console.print(f"lowest price of each day in {currency}; the lowest of all is {_units(least)}")
    if not any(line.lowest for line in answer.days):
        console.print("nothing is on sale on any day")


def _units(minor: int) -> str:
    return f"{minor // 100}" if minor % 100 == 0 else f"{minor // 100}.{minor % 100:02d}"


def route_sketch(console: Console, answer: messages.RoutesAnswer) -> None:
    """Print the network as a sketch as wide as the console."""
    for line in routemap.sketch(answer, min(console.width, 160), SKETCH_LINES):
        console.print(Text(line), soft_wrap=True)
    weekly = sum(route.weekly for route in answer.routes)
    airlines = {code for route in answer.routes for code in route.airlines}
    console.print(f"{len(answer.places)} places, {len(answer.routes)} routes, {weekly} services a week of {len(airlines)} operators")


def route_list(console: Console, answer: messages.RoutesAnswer) -> None:
    """Print routes one a line."""
    rows = Rows("FROM", "TO", "A WEEK", "MILES", "OPERATORS", right=("A WEEK", "MILES"), fold=("OPERATORS",))
    for route in answer.routes:
        rows.add_row(route.origin, route.destination, str(route.weekly), str(route.miles or "-"), ", ".join(route.airlines))
    rows.print(console)


def paths(console: Console, answer: messages.PathsAnswer) -> None:
    """Print how many paths there are, and the first of them."""
    headings = ("PATH", "LEGS", "MILES", "A WEEK", "WAYS", "OPERATORS")
    rows = Rows(*headings, right=("LEGS", "MILES", "WAYS"), fold=("OPERATORS",), drop=("OPERATORS",))
    for path in answer.paths:
        weekly = " × ".join(str(number) for number in path.weekly)
        operators = " / ".join(",".join(codes) for codes in path.airlines)
        rows.add_row(" → ".join(path.places), str(len(path.weekly)), str(path.miles or "-"), weekly, str(path.combinations), operators)
    if answer.paths:
        rows.print(console)
    least = "" if answer.complete else "at least "
    by_legs = ", ".join(f"{count} of {legs} leg{'s' * (legs > 1)}" for legs, count in answer.by_legs.items())
    shown = f", {len(answer.paths)} shown" if len(answer.paths) < answer.count else ""
    ways = f"{answer.combinations} ways to combine a week's services"
    console.print(f"{least}{answer.count} paths{shown}{': ' + by_legs if by_legs else ''}; {least}{ways}", soft_wrap=True)
