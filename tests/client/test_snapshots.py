"""What the screens look like, character by character, at 80x24 and 120x40.

The texts are in `snapshots/`. `HOLDFAST_SNAPSHOTS=write` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from client.tui.app import HoldfastApp
from client.tui.passengers_screen import PassengersScreen
from client.tui.seat_grid import SeatGrid
from tests.client.fake import RIVAL, FakeClient
from tests.client.screens import here, shown, until
from tests.client.stories import open_trip, play, search

HERE = Path(__file__).parent / "snapshots"
SIZES = [(80, 24), (120, 40)]


async def same(app: HoldfastApp, pilot: Pilot[None], name: str) -> None:
    """Wait until the screen is what the snapshot says.

    Raises:
        AssertionError: It never is; says what is on the screen.
    """
    width, height = app.size
    file = HERE / f"{name}-{width}x{height}.txt"
    if os.environ.get("HOLDFAST_SNAPSHOTS") == "write":
        for _ in range(10):
            await pilot.pause(0.1)
        HERE.mkdir(exist_ok=True)
        file.write_text(shown(app) + "\n", encoding="utf-8")
    expected = file.read_text(encoding="utf-8").rstrip("\n")
    await until(pilot, lambda: shown(app).rstrip("\n") == expected, f"the screen of {file.name}:\n{expected}\n")


@pytest.mark.parametrize("size", SIZES)
def test_trips(tmp_path: Path, size: tuple[int, int]) -> None:
    """A trip as a bar over one clock, with its price and what to know."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.screen.query_one("#date", Input).value = "2026-12-01"
        await search(app, pilot)
        await same(app, pilot, "trips")

    play(tmp_path, story, size=size)


@pytest.mark.parametrize("size", SIZES)
def test_seats(tmp_path: Path, size: tuple[int, int]) -> None:
    """A map with a seat of each kind, the legend, what is known of the seat at the cursor, and of the trip."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        fake.take(RIVAL, [("AR1-EZE-2026-12-01", ["2B", "3C"])])
        screen = await open_trip(app, pilot)
        await pilot.press("5", "enter", "space", "right")
        await until(pilot, lambda: screen.query_one(SeatGrid).chosen == ["5A"], "the choice")
        await same(app, pilot, "seats")

    play(tmp_path, story, size=size)


@pytest.mark.parametrize("size", SIZES)
def test_paying(tmp_path: Path, size: tuple[int, int]) -> None:
    """Who sits where, what it costs, with which card, and what happens then."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await open_trip(app, pilot)
        await pilot.press("b")
        await until(pilot, lambda: here(app, PassengersScreen), "passengers")
        # A countdown is another every second: what it says is tested elsewhere.
        app.holds.drop(app.holds.open()[0].hold_id)
        await pilot.press(*"Ada", "space", *"Byron")
        app.clear_notifications()
        await same(app, pilot, "paying")

    play(tmp_path, story, size=size, cards=[("pm_card_visa: pays", "pm_card_visa")])


@pytest.mark.parametrize("size", SIZES)
def test_cluster(tmp_path: Path, size: tuple[int, int]) -> None:
    """The processes and the copies of each operator, with what can be done."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.action_go("cluster")
        await same(app, pilot, "cluster")

    play(tmp_path, story, size=size)
