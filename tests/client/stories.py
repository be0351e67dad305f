"""Stories on the application with a fake cluster: how one is told, and the beginnings that many share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from client.tui import keymap
from client.tui.app import HoldfastApp
from client.tui.passengers_screen import PassengersScreen
from client.tui.seat_grid import SeatGrid
from client.tui.seats_screen import SeatsScreen
from client.wallet import Wallet
from tests.client.fake import FakeClient
from tests.client.screens import SIZE, here, until

Story = Callable[[HoldfastApp, Pilot[None], FakeClient], Coroutine[Any, Any, None]]


def play(
    folder: Path,
    story: Story,
    client: FakeClient | None = None,
    size: tuple[int, int] = SIZE,
    wishes: keymap.Wishes | None = None,
    cards: Sequence[tuple[str, str]] = (),
) -> None:
    """Run a story on the application with a fake cluster."""
    fake = client or FakeClient()

    async def run() -> None:
        app = HoldfastApp(fake, Wallet(folder, "test"), cards=cards)
        keymap.apply(app, wishes or keymap.Wishes())
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.cluster is not None or fake.failure is not None, "the first status")
            await story(app, pilot, fake)

    asyncio.run(run())


async def search(app: HoldfastApp, pilot: Pilot[None]) -> None:
    app.screen.query_one("#origin", Input).value = "EZE"
    app.screen.query_one("#destination", Input).value = "MIA"
    app.screen.query_one("#origin", Input).focus()
    await pilot.press("enter")
    trips = app.screen.query_one("#trips", OptionList)
    await until(pilot, lambda: trips.option_count and trips.has_focus, "a trip")


async def open_trip(app: HoldfastApp, pilot: Pilot[None]) -> SeatsScreen:
    await search(app, pilot)
    await pilot.press("enter")
    await until(pilot, lambda: here(app, SeatsScreen) and app.screen.cabin is not None, "the first map")
    screen = cast(SeatsScreen, app.screen)
    await until(pilot, lambda: screen.query_one(SeatGrid).cursor and screen.query_one(SeatGrid).has_focus, "a cursor")
    return screen


async def hold_best(app: HoldfastApp, pilot: Pilot[None]) -> PassengersScreen:
    await open_trip(app, pilot)
    await pilot.press("b")
    await until(pilot, lambda: here(app, PassengersScreen), "passengers")
    return cast(PassengersScreen, app.screen)
