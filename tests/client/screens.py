"""What the tests of the terminal application share: waiting while it runs, and what is on the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from client.api import Holdfast
from client.terminal import Session
from client.tui.app import HoldfastApp
from client.tui.desk import Desk
from client.tui.seat_grid import SeatGrid
from client.wallet import Wallet
from tests.integration.harness import ClusterUnderTest
from tests.waiting import pause_s, wait_until

WAIT_S = 60.0
SIZE = (110, 40)
CARD, DECLINED = "pm_card_visa", "pm_card_chargeDeclined"


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    """Let the application run until `condition`.

    Raises:
        AssertionError: It did not come true; says `what`, and what was on the screen.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await pilot.pause(pause_s(time.monotonic() - began))  # A look draws the whole screen.
    except TimeoutError:
        raise AssertionError(f"still waiting for {what}; on the screen:\n{shown(pilot.app)}") from None  # type: ignore[arg-type]


def shown(app: HoldfastApp) -> str:
    """Return the characters that are on the screen, without blanks at the ends of lines."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line)[:width].rstrip() for line in lines[:height])


def here(app: HoldfastApp, kind: type[object]) -> bool:
    """Return whether a screen of this kind is shown, drawn, and has the focus that it gives itself: keys and looks find it whole."""
    screen = app.screen
    if not isinstance(screen, kind) or not shown(app).strip():
        return False
    return screen.focused is not None or not screen.focus_chain


def wait_free(client: Holdfast, service_id: str, seat: str, *, free: bool = True) -> None:
    """Wait until another client sees a seat free, or taken: its balancer's view follows what was done through another's."""
    wait_until(lambda: (seat in client.free_seats(service_id)) == free, f"{seat} to be {'free' if free else 'taken'}", 10)


async def to_row(pilot: Pilot[None], grid: SeatGrid, row: str) -> None:
    """Go to a row by its digits and Enter; digits that come too slowly on a busy machine are typed again."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await pilot.press(*row, "enter")
            if grid.cabin is not None and grid.cabin.seats[grid.cursor].row == row:
                return


def operators_app(cluster: ClusterUnderTest, folder: Path) -> HoldfastApp:
    """Return the application as it is on a machine with the cluster's data folder."""
    desk = Desk(Session(config=cluster.folders.config, data=cluster.folders.data))
    return HoldfastApp(cluster.client(), Wallet(folder, "test"), desk=desk)


def paying_app(cluster: ClusterUnderTest, folder: Path) -> HoldfastApp:
    """Return the application as it is where a cluster takes payments: with a card to pay with."""
    desk = Desk(Session(config=cluster.folders.config, data=cluster.folders.data))
    return HoldfastApp(cluster.client(), Wallet(folder, "test"), desk=desk, cards=[("pays", CARD), ("declined", DECLINED)])
