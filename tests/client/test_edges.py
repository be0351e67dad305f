"""What cannot be waited for with a real cluster: holds that end on the screen, refusals, lost and found again, own keys, small screens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from client.readiness import StartFailed
from client.tui import keymap
from client.tui.app import HoldfastApp
from client.tui.ask_text import AskText
from client.tui.calendar_screen import CalendarScreen
from client.tui.choice import Choice
from client.tui.help_screen import HelpScreen
from client.tui.passengers_screen import PassengersScreen
from client.tui.question import Question
from client.tui.seat_grid import SeatGrid
from client.tui.start_screen import StartScreen
from client.tui.swap_screen import SwapScreen
from client.tui.ticket_screen import TicketScreen
from client.wallet import Wallet
from datastore.errors import HoldfastError, NodeUnreachable
from datastore.messages import PartitionLine, ProcessStatus, StatusAnswer
from tests.client.fake import RIVAL, FakeClient
from tests.client.screens import here, shown, until
from tests.client.stories import hold_best, open_trip, play, search

FIRST, SECOND = "AR1-EZE-2026-12-01", "QR2-GRU-2026-12-01"


def test_a_hold_that_ends_on_the_screen_is_taken_again_with_one_key(tmp_path: Path) -> None:
    """The end is told where one types, what was typed stays, Ctrl+R holds the same seats again, and they are booked."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await hold_best(app, pilot)
        await pilot.press(*"Ada", "space", *"Byron")
        (hold,) = app.holds.open()
        fake.end(hold.hold_id)
        hold.state, hold.remaining_ms = "expired", 0
        app.take_hold(hold)
        await until(pilot, lambda: "the hold has ended" in shown(app), "the end on the screen")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.hold.hold_id != hold.hold_id and app.holds.open(), "held again")
        assert [leg.seats for leg in hold.legs] == [leg.seats for leg in screen.hold.legs]
        assert "the hold has ended" not in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: here(app, TicketScreen), "a ticket")

    play(tmp_path, story)


def test_the_countdown_warns_and_an_ended_hold_stays_in_the_list(tmp_path: Path) -> None:
    """A hold of some seconds is announced as ending soon, then as ended; r in the list takes its seats again."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await hold_best(app, pilot)
        await until(pilot, lambda: any("seconds left" in one.message for one in app._notifications), "a warning")
        (hold,) = app.holds.open()
        fake.end(hold.hold_id)
        hold.remaining_ms = 1  # Told with a moment left: its countdown ends it, however busy the machine is.
        app.take_hold(hold)
        await until(pilot, lambda: not app.holds.open() and app.holds.ended(), "the end")
        await pilot.press("f4")
        await until(pilot, lambda: "1 ended" in shown(app), "the list")
        fake.ttl_ms = 900_000
        await pilot.press("r")
        await until(pilot, lambda: app.holds.open() and not app.holds.ended(), "held again")

    play(tmp_path, story, FakeClient(ttl_ms=14_000))


def test_an_ended_hold_whose_seats_are_gone_says_who_has_them(tmp_path: Path) -> None:
    """A rival was faster: nothing is held, and the reason is told."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await hold_best(app, pilot)
        (hold,) = app.holds.open()
        fake.end(hold.hold_id)
        fake.take(RIVAL, [(hold.legs[1].service_id, hold.legs[1].seats)])
        app.holds.expire(hold)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: any("not held again" in one.title for one in app._notifications), "the refusal")
        assert screen.hold is hold and [] == app.holds.open()

    play(tmp_path, story)


def test_a_click_chooses_the_seat_under_it(tmp_path: Path) -> None:
    """On the map a click is the cursor's way there and Space in one; the same again gives the seat up."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        grid = (await open_trip(app, pilot)).query_one(SeatGrid)
        assert grid.cabin is not None
        await pilot.press("7", "enter")
        wanted, line = grid.cursor, grid.cabin.line_of[grid.cabin.seats[grid.cursor].y]
        left = next(cell.left for cell in grid.cabin.lines[line].cells if cell.seat_id == wanted)
        await pilot.press("1", "enter")
        at = (left + 1 + grid._margin - grid.scroll_offset.x, line - grid.scroll_offset.y)
        for chosen in ([wanted], []):
            await pilot.click(SeatGrid, offset=at)
            await until(pilot, lambda chosen=chosen: chosen == grid.chosen and wanted == grid.cursor, "the click")  # type: ignore[misc]

    play(tmp_path, story)


def test_keys_that_come_at_once_are_taken_in_their_order(tmp_path: Path) -> None:
    """Whoever types faster than the screen follows, on the map or in the list, gets what was typed: the seat, then the next leg."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        grid = screen.query_one(SeatGrid)
        for number, row in enumerate("56"):
            await until(pilot, lambda number=number: screen.number == number and grid.cabin is screen.cabin is not None, "a leg")  # type: ignore[misc]
            if number:
                await pilot.press("tab")
            for key, character in ((row, row), ("enter", None), ("space", " "), ("enter", None)):
                app.post_message(events.Key(key, character))
        await until(pilot, lambda: here(app, PassengersScreen), "held")
        (hold,) = app.holds.open()
        assert [["5"], ["6"]] == [[seat[:-1] for seat in leg.seats] for leg in hold.legs]

    play(tmp_path, story)


def test_a_refusal_rolls_back_the_leg_that_lost_and_keeps_the_other(tmp_path: Path) -> None:
    """The conflict names service and seat; the choice on the other leg stays."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        grid = screen.query_one(SeatGrid)
        await pilot.press("5", "enter", "space", "n")
        await until(pilot, lambda: screen.number == 1 and screen.cabin is not None and grid.cabin is screen.cabin, "the second leg")
        await pilot.press("6", "enter", "space", "left_square_bracket")
        await until(pilot, lambda: screen.number == 0 and grid.cabin is screen.cabin, "the first leg")
        chosen = screen.trip.segments[1].seats[0].seat_id
        fake.take(RIVAL, [(SECOND, [chosen])])
        await pilot.press("enter")
        await until(pilot, lambda: screen.number == 1, "the leg with the conflict")
        assert [1, 0] == [len(segment.seats) for segment in screen.trip.segments]
        assert any(SECOND in one.message and chosen in one.message for one in app._notifications)

    play(tmp_path, story)


def test_the_banner_comes_and_goes_with_the_cluster(tmp_path: Path) -> None:
    """No answer: it says that what is shown is old. No quorum of one operator: look but not book. Then it is gone, which is told."""
    failure = NodeUnreachable("no balancer answers")

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        well = fake.cluster
        fake.failure = failure
        await until(pilot, lambda: "no answer from the cluster" in shown(app), "the banner")
        fake.failure = None
        await until(pilot, lambda: "no answer from the cluster:" not in app.banner, "it is gone")
        assert any("answers again" in one.text for one in app.happened)
        fake.cluster = StatusAnswer(
            processes=well.processes, partitions=[PartitionLine("AR", "", 1, 5, {}, "down")], verdict="down", as_of_ms=0
        )
        await until(pilot, lambda: "look, but neither hold nor book" in app.banner, "degraded")
        locks = [ProcessStatus(f"lock-{number}", "lock server", "h:1", "no answer", "down") for number in (1, 2)]
        fake.cluster = StatusAnswer(processes=locks, partitions=well.partitions, verdict="down", as_of_ms=0)
        await until(pilot, lambda: "0 of 2 lock servers vote" in shown(app), "no locks")
        fake.cluster = well
        await until(pilot, lambda: app.banner == "", "all is well")

    play(tmp_path, story)


def test_a_search_that_hangs_is_given_up_with_escape(tmp_path: Path) -> None:
    """The screen goes on while nobody answers, and Esc ends the waiting."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        released = asyncio.Event()
        loop = asyncio.get_running_loop()
        answer = fake.search

        def slow(*words: str, **wanted: object) -> Any:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
            return answer(*words, **wanted)

        fake.search = slow  # type: ignore[method-assign]
        app.screen.query_one("#origin", Input).value = "EZE"
        app.screen.query_one("#destination", Input).value = "MIA"
        await pilot.press("slash", "enter")
        found = app.screen.query_one("#found", Static)
        await until(pilot, lambda: "searching" in str(found.content), "it searches")
        await pilot.press("escape")
        await until(pilot, lambda: "given up" in str(found.content), "given up")
        released.set()
        assert 0 == app.screen.query_one("#trips", OptionList).option_count

    play(tmp_path, story)


def keep_back(fake: FakeClient, method: str) -> tuple[threading.Event, threading.Event]:
    """Have a method's answer kept back; return what is set once it is asked, and what lets the answer go."""
    asked, released = threading.Event(), threading.Event()
    answer = getattr(fake, method)

    def slow(*words: Any, **wanted: Any) -> Any:
        asked.set()
        assert released.wait(60)
        return answer(*words, **wanted)

    setattr(fake, method, slow)
    return asked, released


def test_who_leaves_while_a_hold_is_under_way_is_told_of_it(tmp_path: Path) -> None:
    """The answer comes when its screen is gone: the hold is in the header all the same, a notice says so, and Holds lists it."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        asked, released = keep_back(fake, "hold_trip")
        screen = await open_trip(app, pilot)
        await pilot.press("b")
        await until(pilot, asked.is_set, "the hold is asked for")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen, "the map was left")
        assert not app.holds.open()
        released.set()
        await until(pilot, lambda: app.holds.open() and "◷" in shown(app), "the hold in the header")
        await until(pilot, lambda: any("when you had left" in one.message for one in app._notifications), "a notice")
        (hold,) = app.holds.open()
        await pilot.press("f4")
        await until(pilot, lambda: hold.hold_id in shown(app), "the list")

    play(tmp_path, story)


def test_a_booking_under_way_is_not_left(tmp_path: Path) -> None:
    """Whether the seats are held or booked is not known before the answer: Esc waits for it, and the ticket follows."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        asked, released = keep_back(fake, "confirm")
        await hold_best(app, pilot)
        await pilot.press(*"Ada", "space", *"Byron", "enter")
        await until(pilot, asked.is_set, "the booking is asked for")
        await pilot.press("escape")
        await until(pilot, lambda: any("under way" in one.message for one in app._notifications), "a notice")
        assert isinstance(app.screen, PassengersScreen)
        released.set()
        await until(pilot, lambda: here(app, TicketScreen), "a ticket")
        assert not app.holds.open()

    play(tmp_path, story)


@pytest.mark.parametrize("asking", [lambda: AskText("The reason?"), lambda: Question("Sure?")])
def test_what_is_asked_stands_in_the_middle(tmp_path: Path, asking: Callable[[], AskText | Question]) -> None:
    """A box in a corner is overlooked, and it covers what the question is about."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = asking()
        app.push_screen(screen)
        await until(pilot, lambda: here(app, type(screen)) and screen.query_one("#question-box").region.height > 1, "the question")
        box = screen.query_one("#question-box").region
        assert abs(box.x - (app.size.width - box.right)) <= 1
        assert abs(box.y - (app.size.height - box.bottom)) <= 1

    play(tmp_path, story)


def test_own_keys_work_and_the_old_ones_do_not(tmp_path: Path) -> None:
    """A binding that was given another key answers to that one alone."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        grid = screen.query_one(SeatGrid)
        await pilot.press("space")
        assert [] == grid.chosen
        await pilot.press("v")
        assert [grid.cursor] == grid.chosen

    play(tmp_path, story, wishes=keymap.Wishes({"seats.choose": "v"}, "ansi-dark"))


def test_the_palette_knows_what_others_call_things(tmp_path: Path) -> None:
    """An alias leads to its part: "redlock" to the locks."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: here(app, CommandPalette), "the palette")
        await pilot.press(*"redlock")
        await until(pilot, lambda: "Locks and hot seats" in shown(app), "the hit")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "locks", "the locks")

    play(tmp_path, story)


def test_a_day_is_taken_from_the_calendar(tmp_path: Path) -> None:
    """F6 shows a month with prices; arrows walk, Enter takes the day and searches."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await search(app, pilot)
        app.screen.query_one("#date", Input).value = "2026-12-01"
        await pilot.press("f6")
        await until(pilot, lambda: here(app, CalendarScreen) and "123.00 USD" in shown(app), "prices")
        await pilot.press("right", "down", "enter")
        await until(pilot, lambda: app.screen.query("#date") and app.screen.query_one("#date", Input).value == "2026-12-09", "the day")

    play(tmp_path, story)


SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.mark.parametrize("size", SIZES)
def test_every_part_fits_every_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    """At each size the parts, the keys and the holds can be read, and a changed size is drawn anew."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        # Digits are rows of the map here, so other keys go to the parts.
        for word in ("F2", "F11", "Travel", "Figures", "[·]", "chosen", "space Pick"):
            await until(pilot, lambda word=word: word in shown(app), word)  # type: ignore[misc]
        for number in ("2", "3", "4", "5", "6", "7", "8"):
            app.action_go(
                {"2": "bookings", "3": "holds", "4": "cluster", "5": "services", "6": "locks", "7": "log", "8": "figures"}[number]
            )
            words = ("Figures", "^p Find", "f1 Help")  # The last key of the footer: all before it can be read too.
            await until(pilot, lambda words=words: app.screen is not screen and all(word in shown(app) for word in words), f"part {number}")  # type: ignore[misc]
        app.action_go("travel")
        await until(pilot, lambda: app.screen is screen, "the map again")
        await pilot.resize_terminal(size[0] - 10, size[1] - 4)
        await until(pilot, lambda: "[·]" in shown(app), "drawn anew")

    play(tmp_path, story, size=size)


def test_without_colours_everything_is_still_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: no colour reaches the screen; chosen, held and mine differ by their glyphs."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        fake.take(RIVAL, [(FIRST, ["3A"])])
        await open_trip(app, pilot)
        await pilot.press("5", "enter", "space", "6", "enter")
        await until(pilot, lambda: "◉" in shown(app) and "◐" in shown(app), "glyphs")
        svg = app.export_screenshot()
        colours = {word for word in svg.replace('"', " ").replace(";", " ").split() if word.startswith("#") and len(word) == 7}
        assert [] == [colour for colour in colours - FRAME_COLOURS if not colour[1:3] == colour[3:5] == colour[5:7]]

    play(tmp_path, story)


FRAME_COLOURS = {"#ff5f57", "#febc2e", "#28c840", "#c5c8c6"}  # Of the window that the picture is drawn in: its buttons, its title.


def test_help_is_whole_at_any_size_and_gives_the_focus_back(tmp_path: Path) -> None:
    """F1 says what is focused, what its screen is and what each key does, scrolled to its end; Esc goes back to where one was."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        await pilot.press("f1")
        await until(pilot, lambda: here(app, HelpScreen) and "The seat map" in shown(app), "what is focused")
        await pilot.press("end")
        await until(pilot, lambda: "Extend hold" in shown(app) and "Esc goes back" in shown(app), "the last key")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen and screen.query_one(SeatGrid).has_focus, "the map again")

    play(tmp_path, story, size=(80, 24))


def test_a_live_map_that_is_left_learns_nothing_more(tmp_path: Path) -> None:
    """Its work has ended when its widgets go, however much happens there at that moment; the application goes on."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await open_trip(app, pilot)
        await until(pilot, lambda: "watch_seats" in fake.asked, "the live map")
        fake.take(RIVAL, [(FIRST, ["2B", "3C"])])
        app.pop_screen()
        assert [] == [worker for worker in app.workers if worker.node is screen and not worker.is_cancelled]
        await until(pilot, lambda: app.screen is not screen, "the search again")
        assert "1 trip" in shown(app)

    play(tmp_path, story)


def test_the_keys_of_a_booking_and_its_seats_fit_a_small_screen(tmp_path: Path) -> None:
    """All of the footer can be read at 80 columns where there is most to do: seats, passengers, a ticket, other seats."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        def whole() -> bool:
            return "f1 Help" in shown(app).splitlines()[-1]

        await hold_best(app, pilot)
        await until(pilot, whole, "the keys of the passengers")
        await pilot.press(*"Ada", "space", *"Byron", "enter")
        await until(pilot, lambda: here(app, TicketScreen) and whole(), "the keys of the ticket")
        await pilot.press("s")
        await until(pilot, lambda: here(app, Choice), "which leg")
        await pilot.press("enter")
        await until(pilot, lambda: here(app, SwapScreen) and whole(), "the keys of other seats")

    play(tmp_path, story, size=(80, 24))


def test_slash_searches_from_within_a_field(tmp_path: Path) -> None:
    """The key goes to the first field and is no letter of it; what is typed then replaces what was there."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        field = app.screen.query_one("#origin", Input)
        await until(pilot, lambda: field.has_focus, "the cursor in the first field")
        await pilot.press(*"GRU", "slash", *"EZE")
        await until(pilot, lambda: field.value == "EZE", "another place")

    play(tmp_path, story)


@dataclass
class FakeBeginning:
    """A cluster that starts when told to, or fails as told to."""

    failure: HoldfastError | None = None
    where: str = "/a/folder"
    go: threading.Event = field(default_factory=threading.Event)

    def bring_up(self, tell: Callable[[str], None]) -> None:
        self.go.wait(60)
        if self.failure is not None:
            raise self.failure
        tell("loading brief")

    def look(self) -> list[tuple[str, list[tuple[str, bool]]]]:
        return [("lock server", [("lock-1", True), ("lock-2", False)])]


@pytest.mark.parametrize("failure", [None, StartFailed("the supervisor ended", log="supervisor.log")], ids=["comes up", "does not"])
def test_a_cluster_that_starts_with_the_application_is_seen_to(tmp_path: Path, failure: HoldfastError | None) -> None:
    """Who listens is on the screen, nobody asks the cluster before it is there; then the search has the cursor. Where it does not come
    up, the application ends with the reason."""
    beginning, fake = FakeBeginning(failure), FakeClient()

    async def run() -> None:
        app = HoldfastApp(fake, Wallet(tmp_path, "test"), beginning=beginning)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: here(app, StartScreen) and "● lock-1" in shown(app) and "○ lock-2" in shown(app), "who listens")
            assert [] == fake.asked and "1 do not listen yet" in shown(app)
            beginning.go.set()
            if failure is None:
                await until(pilot, lambda: app.cluster is not None and not isinstance(app.screen, StartScreen), "the cluster")
                await until(pilot, lambda: app.screen.query_one("#origin", Input).has_focus, "the search")
            else:
                await until(pilot, lambda: app.not_begun is not None, "the reason")
                assert [] == fake.asked
        assert app.not_begun is failure

    asyncio.run(run())
