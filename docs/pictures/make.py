"""Draws the pictures of the README from a cluster that runs: python docs/pictures/make.py [NAME ...]

Without names it draws all. Runs the commands below as a person would and draws what they print, colours too, as SVG beside this file;
for `tui` it presses keys in the terminal application and draws its screens.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS = 110
PICTURES = {
    "status": ["cluster", "status"],
    "seats": ["seats", "AR1140-EZE-tomorrow"],
    "search": ["search", "Buenos Aires", "Doha", "tomorrow", "--pax", "2"],
}


SCREEN = (110, 34)
WAIT_S = 120.0


async def draw_application() -> None:
    """Search, open a seat map and choose seats in the real application, and draw both screens."""
    import tempfile

    from textual.widgets import Input, OptionList

    from client.terminal import Session
    from client.tui.app import HoldfastApp
    from client.tui.seat_grid import SeatGrid
    from client.wallet import Wallet

    data = os.environ.get("HOLDFAST_DATA")  # As the commands take it.
    app = HoldfastApp(Session(data=Path(data) if data else None).connect(), Wallet(Path(tempfile.mkdtemp()), "pictures"))
    async with app.run_test(size=SCREEN) as pilot, asyncio.timeout(WAIT_S):
        for name, value in (("origin", "Buenos Aires"), ("destination", "Doha")):
            app.screen.query_one(f"#{name}", Input).value = value
        app.screen.query_one("#destination", Input).focus()
        await pilot.press("enter")
        trips = app.screen.query_one("#trips", OptionList)
        while not (trips.option_count and trips.has_focus):
            await pilot.pause(0.1)
        save(app.export_screenshot(title="holdfast tui"), "tui-trips")
        await pilot.press("enter")
        while not (app.screen.query(SeatGrid) and app.screen.query_one(SeatGrid).cursor):
            await pilot.pause(0.1)
        await pilot.press("2", "4", "enter", "space", "right", "right")
        while not app.screen.query_one(SeatGrid).chosen:
            await pilot.pause(0.1)
        save(app.export_screenshot(title="holdfast tui"), "tui-seats")


def save(picture: str, name: str) -> None:
    (HERE / f"{name}.svg").write_text(picture, encoding="utf-8")
    print(HERE / f"{name}.svg")


def main() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    wanted = sys.argv[1:] or [*PICTURES, "routes", "tui"]
    if "tui" in wanted:
        asyncio.run(draw_application())
    if "routes" in wanted:
        subprocess.run([sys.executable, "-m", "client", "routes", "--png", str(HERE / "routes.png")], env=environment, check=True)
    for name, words in PICTURES.items():
        if name not in wanted:
            continue
        shown = subprocess.run([sys.executable, "-m", "client", *words], env=environment, capture_output=True, text=True, check=True)
        text = Text.from_ansi(shown.stdout.rstrip())
        lines = max((len(line) for line in text.plain.splitlines()), default=COLUMNS)
        console = Console(record=True, width=min(COLUMNS, lines + 2), file=io.StringIO(), force_terminal=True)
        console.print(text)
        console.save_svg(str(HERE / f"{name}.svg"), title="holdfast " + " ".join(words))
        print(HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
