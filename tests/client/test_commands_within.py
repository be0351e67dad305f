"""Commands run from within the application, and recordings looked at there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from client.tui.app import HoldfastApp
from client.tui.command_screen import CommandScreen
from client.tui.question import Question
from client.tui.replay_screen import ReplayScreen
from datastore.model import SeatState
from tests.client.fake import FakeClient
from tests.client.screens import here, shown, until
from tests.client.stories import play
from tests.integration.harness import TOP
from tests.recordings import ledger, recorded

SERVICE = "AR1-EZE-2026-12-01"


def incident(folder: Path) -> Path:
    """Return a recording: 3A is held, booked and free again."""
    states = (SeatState.HELD, SeatState.BOOKED, SeatState.FREE)
    entries = ledger([{f"{SERVICE}/3A": state} for state in states])
    file = folder / "incident.rec"
    file.write_bytes(recorded(entries, {SERVICE: FakeClient().seat_map(SERVICE)}))
    return file


def test_any_command_runs_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell would say is on the screen; a wrong one is told as such; ↑ brings it back; Esc leaves."""
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    file = incident(tmp_path)

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.command_names = ["replay", "record"]
        app.action_command("replay ")
        await until(pilot, lambda: here(app, CommandScreen) and app.screen.query("#filter"), "the line")
        field, said = app.screen.query_one("#filter", Input), app.screen.query_one("#said", Static)
        await until(pilot, lambda: field.has_focus, "the cursor there")
        field.value = f"replay {file}"
        await pilot.press("enter")
        await until(pilot, lambda: "done" in str(said.content), "its end")
        assert "ENTRY" in shown(app) and "batch" in shown(app)
        await pilot.press("up")
        assert f"replay {file}" == field.value
        field.value = "tui"
        await pilot.press("enter")
        await until(pilot, lambda: "terminal of its own" in str(said.content), "the refusal")
        field.value = "replay nothing.rec"
        await pilot.press("enter")
        await until(pilot, lambda: "ended with" in str(said.content), "the error")
        assert "nothing.rec" in shown(app)
        await pilot.resize_terminal(90, 30)
        await until(pilot, lambda: app.size.width == 90 and "nothing.rec" in shown(app), "what it said, on a narrower screen too")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CommandScreen), "left")

    play(tmp_path, story)


def test_what_a_command_would_ask_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that wants --yes is run with it only after the question was answered so."""
    program = tmp_path / "client" / "__main__.py"
    program.parent.mkdir()
    program.write_text('import sys\nif "--yes" in sys.argv: print("gone for good")\nelse: sys.exit("error: all of it goes: add --yes")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert sys.executable

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        for key, told in (("n", "ended with 1"), ("y", "done")):
            app.action_command("wipe")
            await until(pilot, lambda: here(app, CommandScreen) and app.screen.query("#filter"), "the line")
            screen = app.screen
            await until(pilot, lambda: screen.query_one("#filter", Input).has_focus, "the cursor there")  # noqa: B023
            await pilot.press("enter")
            await until(pilot, lambda: here(app, Question) and "all of it goes" in shown(app), "the question")
            assert "gone for good" not in shown(app)
            await pilot.press(key)
            await until(pilot, lambda told=told: app.screen is screen and told in str(screen.query_one("#said", Static).content), told)  # type: ignore[misc]  # noqa: B023
            assert ("gone for good" in shown(app)) == (key == "y")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is not screen, "left")  # noqa: B023

    play(tmp_path, story)


def test_an_incident_is_stepped_through(tmp_path: Path) -> None:
    """The map is as it was after the marked entry, to and fro; a file that is none is explained."""
    file = incident(tmp_path)

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.action_replay(str(tmp_path / "none.rec"))
        await until(pilot, lambda: any("no recording" in one.title for one in app._notifications), "no such file")
        app.action_replay(str(file))
        await until(pilot, lambda: here(app, ReplayScreen), "the recording")
        screen = cast(ReplayScreen, app.screen)

        def state() -> str:
            return screen._cabin.seats["3A"].state if screen._cabin is not None else ""

        await until(pilot, lambda: state() == "held" and screen.query_one("#steps").has_focus, "the first entry")
        steps = (("right", "occupied"), ("full_stop", "available"), ("left", "occupied"), ("comma", "held"), ("left", "available"))
        for key, expected in steps:
            await pilot.press(key)
            await until(pilot, lambda expected=expected: state() == expected, f"{key}: {expected}")  # type: ignore[misc]
        await pilot.press("end")
        await until(pilot, lambda: state() == "available" and "3 of 3" in shown(app), "the end")
        await pilot.press("space")
        await until(pilot, lambda: screen.replay.place == 3 and not screen._playing and state() == "available", "played to the end")

    play(tmp_path, story)
