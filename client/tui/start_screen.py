"""A cluster that starts for this application alone: which of its processes listen already, until it can be asked."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import ClassVar, Protocol, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from client.tui.host import Host
from datastore.errors import HoldfastError

LOOK_S = 0.2
LISTENS, AWAITED = ("●", "#009E73"), ("○", "#999999")


class Beginning(Protocol):
    """What is started (see `client.demo`). All is called on another thread than the screen's.

    Attributes:
        where: The folder that holds all of it.
    """

    where: str

    def bring_up(self, tell: Callable[[str], None]) -> None: ...
    def look(self) -> list[tuple[str, list[tuple[str, bool]]]]: ...


class StartScreen(ModalScreen[None]):
    """Goes by itself when the cluster serves; where it does not come up, the application ends and says why."""

    HELP = "# The cluster starts\nEach process with ● once it listens. **Ctrl+Q** gives it up: what was started ends with the application."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.quit", "Give it up", id="start.stop")]

    def __init__(self, beginning: Beginning) -> None:
        super().__init__()
        self._beginning = beginning
        self._began = monotonic()
        self._found: list[tuple[str, list[tuple[str, bool]]]] = []
        self._said: list[str] = []
        self._looking = False

    def compose(self) -> ComposeResult:
        with Vertical(id="start-box"):
            yield Static("Holdfast: a cluster of real processes starts", classes="title")
            yield Static(f"in {self._beginning.where}; nothing of it is left when you leave\n", classes="dim", markup=False)
            yield Static("", id="starting")
            yield Static("\nEsc or Ctrl+Q gives it up", classes="dim")

    def on_mount(self) -> None:
        self._draw()
        self.set_interval(LOOK_S, self._tick)
        self._bring_up()

    @work(group="start")
    async def _bring_up(self) -> None:
        host = cast(Host, self.app)
        try:
            await host.ask(lambda _: self._beginning.bring_up(self._said.append))
        except HoldfastError as error:
            host.not_begun = error
            host.exit()
            return
        self.dismiss()
        host.begin()

    def _tick(self) -> None:
        self._draw()
        if not self._looking:  # On a machine that is busy with the start, a look may take longer than the pause.
            self._looking = True
            self._look()

    @work(group="look")
    async def _look(self) -> None:
        try:
            self._found = await cast(Host, self.app).ask(lambda _: self._beginning.look())
        finally:
            self._looking = False

    def _draw(self) -> None:
        text = Text()
        for kind, names in self._found:
            text.append(f"{kind:<17}", "bold")
            for name, listens in names:
                glyph, colour = LISTENS if listens else AWAITED
                text.append(f"{glyph} ", colour)
                text.append(f"{name}  ")
            text.append("\n")
        waits = sum(not listens for _, names in self._found for _, listens in names)
        step = "they agree on who leads which operator" if self._found and not waits else f"{waits} do not listen yet" if waits else "…"
        text.append(f"\n{monotonic() - self._began:.0f} s: {'; '.join(self._said) or step}")
        self.query_one("#starting", Static).update(text)
