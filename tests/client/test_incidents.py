"""Timetables imported, an incident replayed, a lock server that forgot, a hold that gets more time: by keys, on a real cluster."""

from __future__ import annotations

import asyncio
import csv
import shutil
from pathlib import Path
from typing import cast

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Input, Static

from client.terminal import Session
from client.tui.app import HoldfastApp
from client.tui.ask_text import AskText
from client.tui.command_screen import CommandScreen
from client.tui.desk import Desk
from client.tui.live_table import LiveTable
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from client.tui.replay_screen import ReplayScreen
from client.wallet import Wallet
from datastore.model import Passenger
from tests.client.screens import SIZE, here, operators_app, shown, until
from tests.days import flown
from tests.integration.harness import TOP, ClusterUnderTest

DAY = flown("AR1130-EZE", 13).isoformat()
HEADING = "operator,number,from,to,departs,days,block_min,aircraft\n"


def commanding_app(cluster: ClusterUnderTest, folder: Path) -> HoldfastApp:
    """Return the application as `holdfast tui` makes it: commands that are typed within mean this cluster."""
    files = ["--config", str(cluster.folders.config), "--data", str(cluster.folders.data)]
    desk = Desk(Session(config=cluster.folders.config, data=cluster.folders.data))
    return HoldfastApp(cluster.client(), Wallet(folder, "test"), desk=desk, command_names=["import", "record"], command_options=files)


async def by_palette(app: HoldfastApp, pilot: Pilot[None], words: str, wanted: str) -> None:
    """Choose an action by another word for it."""
    await pilot.press("ctrl+p")
    await until(pilot, lambda: here(app, CommandPalette), "the palette")
    await pilot.press(*(("space" if letter == " " else letter) for letter in words))
    await until(pilot, lambda: wanted in shown(app), wanted)
    await pilot.press("down", "enter")


async def command(app: HoldfastApp, pilot: Pilot[None], text: str) -> str:
    """Type a command on the line that is open; return all that is on the screen when it is done."""
    field, said = app.screen.query_one("#filter", Input), app.screen.query_one("#said", Static)
    await until(pilot, lambda: field.has_focus, "the cursor on the line")
    field.value = text
    await pilot.press("enter")
    await until(pilot, lambda: str(said.content).endswith(": done"), f"{text} to be done")
    return " ".join(shown(app).split())


# --- a timetable ----------------------------------------------------------------------------------------------------------


def written(folder: Path, rows: str) -> Path:
    """Write a dataset of Aerolíneas between two towns; a row is NUMBER,DEPARTS,MINUTES."""
    folder.mkdir(exist_ok=True)
    with (TOP / "data" / "brief" / "places.csv").open(encoding="utf-8", newline="") as file:
        head, *places = csv.reader(file)
    with (folder / "places.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *(row for row in places if row[0] in ("COR", "MDZ"))])
    parts = [row.split(",") for row in rows.split()]
    lines = [f"AR,{number},COR,MDZ,{departs},1234567,{minutes},E90" for number, departs, minutes in parts]
    (folder / "timetable.csv").write_text(HEADING + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_timetable_is_imported_after_its_difference_was_seen(
    cluster: ClusterUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The palette leads to a dry run that names each row that would come, change or go, and changes nothing; then it is done, and sold."""
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    folder = written(tmp_path / "towns", "9801,08:00,70 9802,12:00,70")
    options = "--dataset towns --operator AR --days 40"

    def sold() -> set[str]:
        found = client.services(DAY, operator="AR", origin="COR", destination="MDZ").services
        ours = [one for one in found if one.service_id.startswith("AR98")]
        return {f"{one.service_id.removesuffix(f'-COR-{DAY}')} {one.departs[11:16]}-{one.arrives[11:16]}" for one in ours}

    client, before = cluster.client(), {"AR9801 08:00-09:10", "AR9802 12:00-13:10"}

    async def work() -> None:
        app = commanding_app(cluster, tmp_path)
        async with app.run_test(size=(160, 50)) as pilot:
            await by_palette(app, pilot, "diff", "Import a timetable")
            await until(pilot, lambda: here(app, CommandScreen), "the line")
            assert "import --dry-run " == app.screen.query_one("#filter", Input).value
            said = await command(app, pilot, f"import --dry-run {folder} {options}")
            assert "nothing was changed" in said and "+ AR 9801" in said and "+ AR 9802" in said, said
            assert set() == sold()
            await command(app, pilot, f"import {folder} {options}")
            await until(pilot, lambda: sold() == before, "both flights to be sold")
            written(folder, "9801,08:00,80 9803,15:00,70")
            said = await command(app, pilot, f"import --dry-run {folder} {options}")
            assert all(word in said for word in ("~ AR 9801", "09:10 → 09:20", "- AR 9802", "+ AR 9803")), said
            assert sold() == before
            await command(app, pilot, f"import {folder} {options}")
            await until(pilot, lambda: sold() == {"AR9801 08:00-09:20", "AR9803 15:00-16:10"}, "the new timetable")

    asyncio.run(work())


# --- an incident ----------------------------------------------------------------------------------------------------------


def test_an_incident_is_recorded_and_replayed(cluster: ClusterUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of a seat (held, booked, given back) is recorded from the ledger by a command, and looked at again on the map."""
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    service, seat, client, file = f"AR1130-EZE-{DAY}", "22A", cluster.client("a-traveller-of-the-tests"), tmp_path / "incident.rec"
    hold = client.hold(service, [seat])
    order = client.confirm(hold.hold_id, [Passenger("Byron", "Ada")])
    quote = client.quote_cancel(order.reference, order.manage_token)
    client.cancel(order.reference, order.manage_token, quote=quote.quote)

    async def work() -> None:
        app = commanding_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await by_palette(app, pilot, "copy entries", "Record an incident")
            await until(pilot, lambda: here(app, CommandScreen), "the line")
            await command(app, pilot, f"record AR --last 30m --out {file}")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, CommandScreen), "the line is left")
            await by_palette(app, pilot, "step through", "Replay a recording")
            await until(pilot, lambda: here(app, AskText), "which file")
            app.screen.query_one(Input).value = str(file)
            await pilot.press("enter")
            await until(pilot, lambda: here(app, ReplayScreen), "the recording")
            assert ["held", "occupied", "available"] == await states(app, pilot, service, seat)

    asyncio.run(work())


async def states(app: HoldfastApp, pilot: Pilot[None], service: str, seat: str) -> list[str]:
    """Step through a recording by its keys; return what became of a seat, one word for each change."""
    screen = cast(ReplayScreen, app.screen)
    for _ in screen.replay.services():
        if f"of {service} (" in shown(app):
            break
        await pilot.press("n")
    assert f"of {service} (" in shown(app)
    await until(pilot, lambda: screen.query_one("#steps").has_focus, "the entries")
    await pilot.press("home")
    await until(pilot, lambda: screen.replay.place == 1, "the first entry")
    found = [word for word in (state_of(screen, seat),) if word != "available"]
    for place in range(2, len(screen.replay.steps) + 1):
        await pilot.press("full_stop")
        await until(pilot, lambda place=place: screen.replay.place == place, f"entry {place}")  # type: ignore[misc]
        if state_of(screen, seat) != (found[-1] if found else "available"):
            found.append(state_of(screen, seat))
    return found


def state_of(screen: ReplayScreen, seat: str) -> str:
    assert screen._cabin is not None
    return screen._cabin.seats[seat].state


# --- a lock server --------------------------------------------------------------------------------------------------------


def test_a_lock_server_that_lost_its_data_votes_again(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Killed, its folder deleted, started again it does not vote; r on its line says what is and will be, and then it does."""
    cluster.kill("lock-2")
    shutil.rmtree(cluster.folders.data / "lock-2")
    cluster.start("lock-2")

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:

            def verdict() -> str:
                found = app.cluster.processes if app.cluster is not None else []
                return next((one.verdict for one in found if one.name == "lock-2"), "")

            await pilot.press("f5")
            table = app.screen.query_one("#processes", LiveTable)
            await until(pilot, lambda: "lock-2" in table.rows and verdict() not in ("", "ok"), "one that does not vote")
            table.move_cursor(row=table.get_row_index("lock-2"))
            await pilot.press("r")
            await until(pilot, lambda: here(app, Question), "the question")
            assert "Let lock-2 rejoin" in shown(app) and "before:" in shown(app) and "after: it votes again" in " ".join(shown(app).split())
            await pilot.press("y")
            await until(pilot, lambda: any(one.text.startswith("lock-2: before") and one.good for one in app.happened), "it is done")
            await until(pilot, lambda: verdict() == "ok", "its vote")

    try:
        asyncio.run(work())
    finally:
        cluster.admit()


# --- a hold ---------------------------------------------------------------------------------------------------------------


def test_a_hold_of_another_terminal_is_announced_extended_and_left_with_a_question(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A hold with less than a minute left is announced; Ctrl+E gives it more time, which the cluster knows; Esc beside its passengers
    asks, stays when told nothing, and gives the seats back when told so."""
    service, seat = f"AR1130-EZE-{DAY}", "24A"
    client = cluster.client()
    hold = client.hold(service, [seat], ttl_ms=55_000)

    async def journey() -> None:
        app = HoldfastApp(cluster.client(), Wallet(tmp_path, "test"))
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: app.screen.query_one("#origin", Input).has_focus, "the cursor in a field")
            await until(pilot, lambda: any("seconds left" in one.message for one in app._notifications), "it ends soon")
            await pilot.press("ctrl+e")
            await until(pilot, lambda: app.holds.open() and app.holds.open()[0].remaining_ms > 600_000, "more time")
            (known,) = [one for one in client.my_holds().holds if one.hold_id == hold.hold_id]
            assert known.expires_ms > hold.expires_ms + 600_000
            await pilot.press("f4")
            table = cast("DataTable[str]", app.screen.query_one("#holds", DataTable))
            await until(pilot, lambda: app.current_mode == "holds" and hold.hold_id in table.rows and table.has_focus, "the list")
            table.move_cursor(row=table.get_row_index(hold.hold_id))
            await pilot.press("enter")
            await until(pilot, lambda: here(app, PassengersScreen), "the passengers")
            screen = app.screen
            await pilot.press("escape")
            await until(pilot, lambda: here(app, Question) and f"{seat} is held for you" in shown(app), "the question")
            assert "Give back" in str(app.screen.query_one("#no", Button).label)
            await pilot.press("n")
            await until(pilot, lambda: app.screen is not screen and not isinstance(app.screen, Question), "it is left")
            assert [] == [one for one in app.holds.open() if one.hold_id == hold.hold_id]
        assert seat in client.free_seats(service)

    asyncio.run(journey())
