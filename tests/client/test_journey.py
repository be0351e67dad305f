"""The traveller's journey in the terminal application, by its keys, against a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, Static

from client.commands_tickets import read
from client.tui.app import HoldfastApp
from client.tui.ask_text import AskText
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from client.tui.quote_screen import QuoteScreen
from client.tui.search_screen import SearchScreen
from client.tui.seat_grid import SeatGrid
from client.tui.seats_screen import SeatsScreen
from client.tui.swap_screen import SwapScreen
from client.tui.ticket_screen import TicketScreen, ticket_text
from client.tui.trip import Trip
from client.wallet import Wallet
from datastore.ticket_codes import facts_of
from tests.client.screens import SIZE, here, to_row, until, wait_free
from tests.days import flown
from tests.integration.harness import ClusterUnderTest

DAY = flown("AR1130-EZE", 6).isoformat()


async def open_map(app: HoldfastApp, pilot: Pilot[None], origin: str, service: str) -> SeatGrid:
    """Search and open a service's map, as a traveller does."""
    await pilot.press("slash")
    app.screen.query_one("#origin", Input).value = origin
    app.screen.query_one("#date", Input).value = DAY
    await pilot.press("enter")
    table = cast("DataTable[str]", app.screen.query_one("#services", DataTable))
    await until(pilot, lambda: service in table.rows, f"{service} among the found")
    table.move_cursor(row=table.get_row_index(service))
    await pilot.press("enter")
    await until(pilot, lambda: here(app, SeatsScreen) and app.screen.cabin is not None, "the seat map")
    grid = app.screen.query_one(SeatGrid)
    await until(pilot, lambda: grid.cursor, "a cursor")
    return grid


def test_search_choose_hold_book_cancel(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """From the first key to a booking that the cluster knows, and back: the seat is free again."""
    service = f"AR1140-EZE-{DAY}"

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            grid = await open_map(app, pilot, "EZE", service)
            await to_row(pilot, grid, "18")
            assert "18" == grid.cabin.seats[grid.cursor].row if grid.cabin else False
            chosen = grid.cursor
            await pilot.press("space", "enter")
            await until(pilot, lambda: here(app, PassengersScreen), "passengers")
            assert [chosen] == [seat for hold in app.holds.open() for seat in hold.seats]
            await pilot.press(*"Ada", "space", *"Byron", "enter")
            await until(pilot, lambda: here(app, TicketScreen), "a ticket")
            ticket = cast(TicketScreen, app.screen)
            assert ("confirmed", [chosen]) == (ticket.order.state, ticket.order.seats)
            assert "occupied" == cluster.client().query_seat(service, chosen).seat.state
            assert ticket.order.manage_token == app.wallet.token(ticket.order.reference)
            assert [] == app.holds.open()
            other = await other_seat(app, pilot, ticket, "31")
            assert other != chosen and [other] == ticket.order.seats
            wait_free(cluster.client(), service, chosen)
            await pilot.press("c")
            await until(pilot, lambda: here(app, QuoteScreen), "the quote")
            await pilot.press("y")
            await until(pilot, lambda: ticket.order.state == "cancelled", "cancelled")
        assert {chosen, other} <= set(cluster.client().free_seats(service))

    asyncio.run(journey())


async def other_seat(app: HoldfastApp, pilot: Pilot[None], ticket: TicketScreen, row: str) -> str:
    """Change the ticket's only seat for the one of that row at its column; return it."""
    await pilot.press("s")
    await until(pilot, lambda: here(app, SwapScreen) and app.screen.cabin is not None, "the map")
    grid = app.screen.query_one(SeatGrid)
    await until(pilot, lambda: grid.cursor == ticket.order.seats[0], "the cursor on the booked seat")
    await to_row(pilot, grid, row)
    await pilot.press("space")
    wanted = grid.cursor
    await until(pilot, lambda: [wanted] == grid.chosen, "the wish")
    await pilot.press("enter")
    await until(pilot, lambda: here(app, QuoteScreen), "what it costs")
    await pilot.press("y")
    await until(pilot, lambda: app.screen is ticket and ticket.order.seats == [wanted], "the other seat")
    return wanted


def test_anothers_hold_appears_by_itself_and_a_chosen_seat_is_given_up(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """While a traveller looks, a rival holds the chosen seat: the map shows it unasked and proposes the nearest free one."""
    service = f"AR1130-EZE-{DAY}"

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            grid = await open_map(app, pilot, "EZE", service)
            await to_row(pilot, grid, "20")
            await pilot.press("space")
            wanted = grid.cursor
            assert [wanted] == grid.chosen
            rival = cluster.client("a-rival-of-the-tests")
            hold = await asyncio.to_thread(rival.hold, service, [wanted])
            await until(pilot, lambda: grid.cabin is not None and grid.cabin.seats[wanted].state == "held", "the rival's hold")
            await until(pilot, lambda: grid.chosen == [] and grid.cursor != wanted, "the next best")
            assert grid.cabin is not None and "available" == grid.cabin.seats[grid.cursor].state
            await asyncio.to_thread(rival.release, hold.hold_id)
            await until(pilot, lambda: grid.cabin is not None and grid.cabin.seats[wanted].state == "available", "it is free again")

    asyncio.run(journey())


def test_the_best_seats_are_sought_in_the_section_one_looks_at(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """In a hall nothing was offered: b holds two seats of the circle, where the cursor is, neither cheapest nor in front."""
    client = cluster.client()
    days = [(date.today() + timedelta(days=ahead)).isoformat() for ahead in range(6, 13)]
    service = next(one for day in days for one in client.services(day, operator="GRAND").services)

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            screen = SeatsScreen(Trip.of([service], 2))
            app.push_screen(screen)
            await until(pilot, lambda: here(app, SeatsScreen) and screen.cabin is not None, "the hall")
            await until(pilot, lambda: screen.query_one(SeatGrid).cursor, "a cursor")
            cabin = screen.cabin
            assert cabin is not None
            circle = [seat.seat_id for seat in cabin.seats.values() if seat.cabin == "CIRCLE" and seat.state == "available"]
            screen.query_one(SeatGrid).move_to(circle[0])
            await pilot.press("b")
            await until(pilot, lambda: here(app, PassengersScreen), "best seats held")
            (hold,) = app.holds.open()
            assert set(hold.seats) < set(circle) and "CIRCLE" != cabin.cheapest()
            client.release(hold.hold_id)

    asyncio.run(journey())


def test_leaving_the_passengers_asks_about_the_hold(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Esc keeps the hold when told so, with its countdown; given back, the seats are free at once."""
    service = f"AR1130-EZE-{DAY}"

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            await open_map(app, pilot, "EZE", service)
            await pilot.press("b")
            await until(pilot, lambda: here(app, PassengersScreen), "best seats held")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, PassengersScreen), "the question")
            await pilot.press("y")
            await until(pilot, lambda: here(app, SeatsScreen), "the map again")
            (hold,) = app.holds.open()
            assert 800_000 < app.holds.remaining_ms(hold.hold_id, 0) or hold.remaining_ms > 0
            await pilot.press("f4")
            await until(pilot, lambda: app.current_mode == "holds", "holds")
            await pilot.press("d")
            await until(pilot, lambda: here(app, Question), "the question")
            await pilot.press("y")
            await until(pilot, lambda: app.holds.open() == [], "given back")
        wait_free(cluster.client(), service, hold.seats[0])

    asyncio.run(journey())


async def search_trips(app: HoldfastApp, pilot: Pilot[None], origin: str, destination: str) -> OptionList:
    """Ask for trips, as a traveller does; return the list of those found."""
    for name, word in (("origin", origin), ("destination", destination), ("date", DAY)):
        app.screen.query_one(f"#{name}", Input).value = word
    await pilot.press("slash", "enter")
    trips = app.screen.query_one("#trips", OptionList)
    await until(pilot, lambda: trips.option_count and trips.has_focus, "trips")
    return trips


async def open_trip(app: HoldfastApp, pilot: Pilot[None], services: tuple[str, ...]) -> SeatsScreen:
    """Search from Buenos Aires to Doha and open the trip of these services."""
    trips = await search_trips(app, pilot, "Buenos Aires", "DOH")
    prompts = [str(trips.get_option_at_index(number).prompt) for number in range(trips.option_count)]
    found = next(number for number, prompt in enumerate(prompts) if all(one in prompt for one in services))
    trips.highlighted = found
    await pilot.press("enter")
    await until(pilot, lambda: here(app, SeatsScreen) and app.screen.cabin is not None, "the first map")
    return cast(SeatsScreen, app.screen)


async def choose_on_each_leg(pilot: Pilot[None], screen: SeatsScreen, rows: tuple[str, ...]) -> list[str]:
    """Choose the seat at the cursor of a row on each leg; return them in the order of travel."""
    grid, chosen = screen.query_one(SeatGrid), []
    for number, row in enumerate(rows):
        await until(pilot, lambda leg=number: screen.number == leg and screen.cabin is not None and grid.cabin is screen.cabin, "a leg")  # type: ignore[misc]
        await to_row(pilot, grid, row)
        await pilot.press("space")
        chosen.append(grid.cursor)
        if number + 1 < len(rows):
            await pilot.press("n")
    return chosen


def test_a_trip_over_two_operators_is_held_and_booked_as_one(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Search, a seat on each leg, one hold over both operators, one booking with both segments on the ticket."""
    services = trip_services(cluster)

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            screen = await open_trip(app, pilot, services)
            chosen = await choose_on_each_leg(pilot, screen, ("20", "21"))
            await pilot.press("enter")
            await until(pilot, lambda: here(app, PassengersScreen), "passengers")
            (hold,) = app.holds.open()
            assert [(one, [seat]) for one, seat in zip(services, chosen, strict=True)] == [(leg.service_id, leg.seats) for leg in hold.legs]
            await pilot.press(*"Ada", "space", *"Byron", "enter")
            await until(pilot, lambda: here(app, TicketScreen), "a ticket")
            order = cast(TicketScreen, app.screen).order
            assert "confirmed" == order.state
            text = ticket_text(order).plain
            assert all(service in text for service in services) and 2 == text.count("Ada Byron")
            await write_tickets(app, pilot, tmp_path / "trip.pdf", services)
        for service, seat in zip(services, chosen, strict=True):
            wait_free(cluster.client(), service, seat, free=False)

    asyncio.run(journey())


async def write_tickets(app: HoldfastApp, pilot: Pilot[None], file: Path, services: Sequence[str]) -> None:
    """w asks for a file and writes the tickets there: all segments, and a code that says the same. A second time it replaces nothing."""
    ticket = app.screen
    for said in ("is written", "is there already"):
        await pilot.press("w")
        await until(pilot, lambda: here(app, AskText), "the question for a file")
        app.screen.query_one(Input).value = str(file)
        await pilot.press("enter")
        await until(pilot, lambda said=said: any(said in one.message for one in app._notifications), said)  # type: ignore[misc]
        assert app.screen is ticket
    codes, wrong = read(str(file))
    assert [] == wrong and list(services) == [one.service_id for one in facts_of(codes[0]).segments]


def test_a_refused_trip_names_what_was_in_the_way_and_gives_up_only_that(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A rival takes the seat of the second leg at the last moment: nothing is held anywhere, the first leg's choice stays, and the
    screen goes to the second leg, which has lost its seat."""
    services = trip_services(cluster)

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            screen = await open_trip(app, pilot, services)
            first, second = await choose_on_each_leg(pilot, screen, ("24", "25"))
            await pilot.press("n")  # Back to the first leg, so that no live map tells of the second.
            await until(pilot, lambda: screen.number == 0, "the first leg")
            rival = cluster.client("a-rival-of-the-tests")
            await asyncio.to_thread(rival.hold, services[1], [second])
            await pilot.press("enter")
            await until(pilot, lambda: screen.number == 1, "the leg with the conflict")
            assert app.screen is screen and [] == app.holds.open()
            assert [[first], []] == [[seat.seat_id for seat in segment.seats] for segment in screen.trip.segments]
            said = [notice.message for notice in app._notifications]
            assert any(services[1] in one and second in one and "held" in one for one in said), said
        wait_free(cluster.client(), services[0], first)

    asyncio.run(journey())


def trip_services(cluster: ClusterUnderTest) -> tuple[str, ...]:
    """Return the services of a trip from Buenos Aires to Doha that changes from AR to QR."""
    answer = cluster.client().search("Buenos Aires", "DOH", DAY)
    found = [tuple(leg.service.service_id for leg in trip.legs) for trip in answer.outbound if {"AR", "QR"} == set(trip.airlines)]
    assert found, answer.outbound
    return found[0]


def test_a_search_is_given_up_and_bad_words_are_explained(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A date that is none and a place that is none are told as such; nothing is asked, nothing breaks."""

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            screen = cast(SearchScreen, app.screen)
            found = screen.query_one("#found", Static)
            for name, value, wanted in (("date", "someday", "not a date"), ("origin", "XQZ", "XQZ")):
                screen.query_one("#origin", Input).value = "EZE"
                screen.query_one("#destination", Input).value = "DOH"
                screen.query_one("#date", Input).value = DAY
                screen.query_one(f"#{name}", Input).value = value
                await pilot.press("slash", "enter")
                await until(pilot, lambda wanted=wanted: wanted in str(found.content), wanted)  # type: ignore[misc]

    asyncio.run(journey())
