"""An incident from a recording: the seat map over time, stepped through or played; nothing of it touches the cluster."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from client import show
from client.recording import Replay
from client.tui.cabin import Cabin
from client.tui.page import Page, TopBar
from client.tui.seat_grid import SeatGrid

PLAY_S = 0.4
LONG = 25


class ReplayScreen(Page[object]):
    """The map as it was after the marked entry; below it the entries."""

    heading = "Replay"
    HELP = """
    # A recording
    **,** and **.** step an entry back and on, **PageUp** and **PageDown** many, **Home** and **End** to the ends; in the list ↑ and ↓ do.
    **Space** plays and stops. **n** shows the next service that changed. The map is as it was after the marked entry.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("full_stop,right", "step(1)", "On", id="replay.on"),
        Binding("comma,left", "step(-1)", "Back", id="replay.back"),
        Binding("space", "play", "Play/stop", id="replay.play"),
        Binding("n", "service(1)", "Next service", id="replay.service"),
        Binding("escape", "app.pop_screen", "Leave", id="replay.leave"),
    ]

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self.replay = replay
        self._services = [one for one in replay.services() if one in replay.head.maps]
        self._number = 0
        self._cabin: Cabin | None = None
        self._playing = False

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        with Horizontal():
            yield SeatGrid(id="grid")
            with Vertical(id="beside", classes="replayed"):
                yield Static(id="seat")
                steps = (Option(_line(step.lsn, step.stamp_ms, step.words)) for step in self.replay.steps)
                yield OptionList(*steps, id="steps", compact=True)

    def on_mount(self) -> None:
        self.set_interval(PLAY_S, self._tick)
        self._open()
        self._go(1)
        self.query_one("#steps").focus()

    def _open(self) -> None:
        """Show the map of another service, as it was."""
        if self._services:
            self._cabin = Cabin(self.replay.map_of(self._services[self._number]))
            self.query_one(SeatGrid).show(self._cabin)
        self._draw()

    def _draw(self) -> None:
        replay, cabin = self.replay, self._cabin
        if cabin is not None:
            changed = cabin.take(replay.taken(cabin.service.service_id))
            grid = self.query_one(SeatGrid)
            grid.changed(changed)
            if changed and len(changed) < LONG:
                grid.move_to(changed[0])
        head = replay.head
        lsn = head.position[0] + replay.place
        what = f"{head.operator}: after entry {lsn}, {show.clock(replay.stamp_ms)}   {replay.place} of {len(replay.steps)}"
        self.query_one("#said", Static).update(Text(what, "bold"))
        step = replay.steps[replay.place - 1] if replay.place else None
        self.query_one("#seat", Static).update(step.words if step else "before the first entry")
        service = f" of {cabin.service.service_id} ({self._number + 1} of {len(self._services)})" if cabin else ", without a map"
        self.query_one(TopBar).show(f"Replay{service}")

    def _go(self, place: int) -> None:
        self.replay.go(place)
        steps = self.query_one("#steps", OptionList)
        if self.replay.place:
            steps.highlighted = self.replay.place - 1
        self._draw()

    @on(OptionList.OptionHighlighted)
    def _marked(self, event: OptionList.OptionHighlighted) -> None:
        # While it plays on a busy machine, word of an entry may come when another is marked already: that one counts.
        if event.option_index == event.option_list.highlighted and event.option_index + 1 != self.replay.place:
            self._go(event.option_index + 1)

    def action_step(self, step: int) -> None:
        self._go(self.replay.place + step)

    def action_play(self) -> None:
        """Play on from here; from the beginning where the end is reached."""
        self._playing = not self._playing
        if self._playing and self.replay.place == len(self.replay.steps):
            self._go(0)

    def _tick(self) -> None:
        if self._playing:
            self._go(self.replay.place + 1)
            self._playing = self.replay.place < len(self.replay.steps)

    def action_service(self, step: int) -> None:
        if self._services:
            self._number = (self._number + step) % len(self._services)
            self._open()


def _line(lsn: int, stamp_ms: int, words: str) -> Text:
    return Text.assemble((f"{lsn} {show.clock(stamp_ms)[11:]} ", "dim"), words, no_wrap=True, overflow="ellipsis")
