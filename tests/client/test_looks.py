"""What a demanding user stumbles over: nothing held is lost by haste, what is shown as a key works, nothing is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import Input

from client.tui.app import HoldfastApp
from client.tui.keymap import Wishes
from client.tui.lines import Lines
from client.tui.log_screen import LogScreen
from client.tui.page import part_keys
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from client.tui.seat_grid import SeatGrid
from client.tui.seat_list import SeatList
from client.tui.seats_screen import SeatsScreen
from client.tui.services_screen import ServicesScreen
from tests.client.fake import FakeClient
from tests.client.screens import here, shown, until
from tests.client.stories import hold_best, open_trip, play

LINE = "a line longer than a narrow terminal is wide, to its last word: THEEND"


def test_haste_never_gives_seats_back(tmp_path: Path) -> None:
    """Esc on the question what becomes of a hold goes back to the passengers, and so does Enter: giving back has a key of its own."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await hold_best(app, pilot)
        for key in ("escape", "enter"):
            await pilot.press("escape")
            await until(pilot, lambda: here(app, Question), "the question")
            await pilot.press(key)
            await until(pilot, lambda: here(app, PassengersScreen), "the passengers again")
        assert 1 == len(app.holds.open()) and 1 == len(fake.held)
        await pilot.press("escape")
        await until(pilot, lambda: here(app, Question), "the question")
        await pilot.press("n")
        await until(pilot, lambda: here(app, SeatsScreen) and not fake.held, "the seats given back")

    play(tmp_path, story)


def test_a_hold_is_extended_from_within_a_field(tmp_path: Path) -> None:
    """Ctrl+E lets the hold last longer while a name is typed, as its button says: it is no key of the field there."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await hold_best(app, pilot)
        assert isinstance(app.focused, Input) and "^e Extend" in shown(app) and "Hold again" not in shown(app)
        await pilot.press(*"Ada", "ctrl+e")
        await until(pilot, lambda: "extend" in fake.asked, "more time")

    play(tmp_path, story)


def test_leaving_the_program_with_seats_held_is_asked_first(tmp_path: Path) -> None:
    """Ctrl+Q names what is held and stays where one does not mean it; the key once more leaves."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await hold_best(app, pilot)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: here(app, Question) and screen.hold.service_id in shown(app), "what is held")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen, "the passengers again")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: here(app, Question), "the question")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running, "the end")

    play(tmp_path, story)


def test_the_list_does_all_that_the_map_does(tmp_path: Path) -> None:
    """Digits, a letter, Space and Enter in the list: a seat on each leg is chosen and held; both views stand on the same seat."""

    async def choose(screen: SeatsScreen, pilot: Pilot[None], row: str, letter: str) -> None:
        table, grid = screen.query_one(SeatList), screen.query_one(SeatGrid)
        await until(pilot, lambda: table.cabin is screen.cabin and table.row_count and table.has_focus, "a leg's list")
        await pilot.press(row, letter)
        await until(pilot, lambda: table.cursor == grid.cursor == row + letter, "the seat in both")
        await pilot.press("space")
        await until(pilot, lambda: [row + letter] == grid.chosen, "the choice")
        await until(pilot, lambda: "chosen" == table.get_cell(row + letter, "State"), "its word")
        await pilot.press("enter")

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        await pilot.press("tab")
        await choose(screen, pilot, "7", "C")
        await until(pilot, lambda: screen.number == 1 and screen.cabin is not None, "the next leg")
        await choose(screen, pilot, "9", "A")
        await until(pilot, lambda: here(app, PassengersScreen), "passengers")
        (hold,) = app.holds.open()
        assert [["7C"], ["9A"]] == [leg.seats for leg in hold.legs]

    play(tmp_path, story)


def test_the_keys_shown_for_the_parts_are_those_that_work(tmp_path: Path) -> None:
    """Digits where they are free; where they are typed (a field, rows of a map) other keys, the user's own among them."""
    assert ("1", "2", "F6") == tuple(part_keys({"app.holds": "f6"}, typing=False)[:3])
    assert ("F2", "", "F4") == tuple(part_keys({"app.bookings": "u"}, typing=True)[:3])

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await until(pilot, lambda: isinstance(app.focused, Input) and "F3" in shown(app), "keys beside a field")
        await pilot.press("ctrl+y")
        await until(pilot, lambda: app.current_mode == "holds" and "2 Bookings" in shown(app), "digits in a table")
        assert "Ctrl+y" in shown(app).splitlines()[1]
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "travel", "what was shown")

    play(tmp_path, story, wishes=Wishes({"app.holds": "ctrl+y"}))


def test_what_is_typed_for_an_operator_can_be_read(tmp_path: Path) -> None:
    """The field of the operator's services shows its code: a ticket's code on another screen has an id and a room of its own."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.action_go("services")
        await until(pilot, lambda: here(app, ServicesScreen) and isinstance(app.focused, Input), "the field")
        await pilot.press("Q", "R", "X")
        await until(pilot, lambda: "QRX" in shown(app), "what was typed")

    play(tmp_path, story)


def test_lines_are_broken_anew_on_a_narrower_screen(tmp_path: Path) -> None:
    """A line that was told on a wide screen can be read to its end on a narrow one, and is one line again on a wide one."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        app.action_go("log")
        await until(pilot, lambda: here(app, LogScreen), "the log")
        app.screen.query_one("#lines", Lines).tell(Text(LINE))
        await until(pilot, lambda: LINE in shown(app), "the line")
        await pilot.resize_terminal(50, 24)
        await until(pilot, lambda: LINE not in shown(app) and "THEEND" in shown(app), "its end on a narrow screen")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: LINE in shown(app), "the line again")

    play(tmp_path, story, size=(80, 24))


def test_the_cursor_stays_in_sight_on_a_smaller_screen(tmp_path: Path) -> None:
    """A map that was whole shows the part with the cursor when there is less room."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        grid = cast(SeatGrid, screen.query_one(SeatGrid))
        await pilot.press("2", "0")
        await until(pilot, lambda: grid.cursor == "20A" and "[·]" in shown(app), "the last row")
        await pilot.resize_terminal(80, 20)
        await until(pilot, lambda: app.size.height == 20 and "[·]" in shown(app), "the cursor")

    play(tmp_path, story, size=(200, 60))
