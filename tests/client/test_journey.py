"""The traveller's journey in the terminal application, by its keys, against a real cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from client.tui.app import HoldfastApp
from client.tui.passengers_screen import PassengersScreen
from client.tui.seat_grid import SeatGrid
from client.tui.seats_screen import SeatsScreen
from client.tui.ticket_screen import TicketScreen
from client.wallet import Wallet
from tests.integration.harness import ClusterUnderTest

DAY = (date.today() + timedelta(days=6)).isoformat()
WAIT_S = 20.0
SIZE = (110, 40)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster")) as running:
        yield running


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    """Let the application run until `condition`."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await pilot.pause(0.02)
    assert condition(), what


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
    await until(pilot, lambda: isinstance(app.screen, SeatsScreen) and app.screen.cabin is not None, "the seat map")
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
            await pilot.press("1", "8", "enter")
            assert "18" == grid.cabin.seats[grid.cursor].row if grid.cabin else False
            chosen = grid.cursor
            await pilot.press("space", "enter")
            await until(pilot, lambda: isinstance(app.screen, PassengersScreen), "passengers")
            assert [chosen] == [seat for hold in app.holds.open() for seat in hold.seats]
            await pilot.press(*"Ada", "space", *"Byron", "enter")
            await until(pilot, lambda: isinstance(app.screen, TicketScreen), "a ticket")
            ticket = cast(TicketScreen, app.screen)
            assert ("confirmed", [chosen]) == (ticket.order.state, ticket.order.seats)
            assert "occupied" == cluster.client().query_seat(service, chosen).seat.state
            assert ticket.order.manage_token == app.wallet.token(ticket.order.reference)
            assert [] == app.holds.open()
            await pilot.press("c")
            await until(pilot, lambda: app.screen is not ticket, "the question")
            await pilot.press("y")
            await until(pilot, lambda: ticket.order.state == "cancelled", "cancelled")
        assert chosen in cluster.client().free_seats(service)

    asyncio.run(journey())


def test_anothers_hold_appears_by_itself_and_a_chosen_seat_is_given_up(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """While a traveller looks, a rival holds the chosen seat: the map shows it unasked and proposes the nearest free one."""
    service = f"AR1130-EZE-{DAY}"

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            grid = await open_map(app, pilot, "EZE", service)
            await pilot.press("2", "0", "enter", "space")
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


def test_leaving_the_passengers_asks_about_the_hold(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Esc keeps the hold when told so, with its countdown; given back, the seats are free at once."""
    service = f"AR1130-EZE-{DAY}"

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            await open_map(app, pilot, "EZE", service)
            await pilot.press("b")
            await until(pilot, lambda: isinstance(app.screen, PassengersScreen), "best seats held")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, PassengersScreen), "the question")
            await pilot.press("y")
            await until(pilot, lambda: isinstance(app.screen, SeatsScreen), "the map again")
            (hold,) = app.holds.open()
            assert 800_000 < app.holds.remaining_ms(hold.hold_id, 0) or hold.remaining_ms > 0
            await pilot.press("f4")
            await until(pilot, lambda: app.current_mode == "holds", "holds")
            await pilot.press("d")
            await pilot.pause(0.2)
            await pilot.press("y")
            await until(pilot, lambda: app.holds.open() == [], "given back")
        assert hold.seats[0] in cluster.client().free_seats(service)

    asyncio.run(journey())
