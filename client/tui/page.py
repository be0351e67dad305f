"""What every screen is made on: the lines above it (where one is, the holds with their time left, how the cluster is), its keys."""

from __future__ import annotations

from typing import TypeVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from client.tui.clock import countdown
from client.tui.gateway import now_ms
from client.tui.host import Host
from client.tui.legs import seats_line

MARKS = {"ok": ("●", "#009E73"), "degraded": ("▲", "#E69F00"), "down": ("■", "#D55E00")}
SOON_MS = 60_000
PARTS = (
    ("1", "travel", "Travel"),
    ("2", "bookings", "Bookings"),
    ("3", "holds", "Holds"),
    ("4", "cluster", "Cluster"),
    ("5", "services", "Services"),
    ("6", "locks", "Locks"),
    ("7", "log", "Log"),
    ("8", "figures", "Figures"),
    ("9", "payments", "Pay"),
)
HOLDS_SHOWN = 3
R = TypeVar("R")


class TopBar(Vertical):
    """Docked above; screens call `show` when something changed."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._shown: tuple[Text, str, str] | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="bar")
        yield Static(id="parts")
        yield Static(id="banner")

    def on_mount(self) -> None:
        self.show()

    def show(self, title: str = "") -> None:
        """Draw what is known now."""
        self._title = title or self._title
        app = cast(Host, self.app)
        line = Text.assemble((" Holdfast ", "bold reverse"), f"  {self._title}   ")
        holds = app.holds.open()
        for hold in holds[:HOLDS_SHOWN]:
            left_ms = app.holds.remaining_ms(hold.hold_id, now_ms())
            style = "bold #D55E00" if left_ms <= SOON_MS else "#E69F00"
            line.append(f"◷ {countdown(left_ms)} ", style)
            line.append(f"{seats_line(hold).replace(', ', ',')}  ")
        if len(holds) > HOLDS_SHOWN:
            line.append(f"+{len(holds) - HOLDS_SHOWN} ")
        verdict = "down" if app.trouble else app.cluster.verdict if app.cluster else ""
        mark, colour = MARKS.get(verdict, ("…", ""))
        line.append(f" {mark} {verdict or 'connecting'}", colour)
        shown = (line, str(app.current_mode), app.banner)
        if shown == self._shown:
            return  # Most looks at the cluster bring nothing new, and an update costs a new layout.
        self._shown = shown
        self.query_one("#bar", Static).update(line)
        self.query_one("#parts", Static).update(_parts(str(app.current_mode)))
        banner = self.query_one("#banner", Static)
        banner.update(app.banner)
        banner.display = bool(app.banner)


def _parts(current: str) -> Content:
    """Return the parts of the application with their keys, the current one marked; a click goes there too."""
    words = []
    for key, mode, word in PARTS:
        style = "reverse bold" if mode == current else ""
        words.append(Content.from_markup(f"[@click=\"app.go('{mode}')\"]$key $word[/] ", key=key, word=word).stylize(style))
    return Content("").join(words)


class Page(Screen[R]):
    """A screen between the top bar and the footer with its keys."""

    heading = ""

    @property
    def holdfast(self) -> Host:
        return cast(Host, self.app)

    def compose(self) -> ComposeResult:
        yield TopBar(self.heading)
        yield from self.content()
        yield Footer(compact=True)  # 80 columns hold the longest screen's keys so

    def content(self) -> ComposeResult:
        """Yield what is between the bars."""
        yield from ()

    def at_work(self, group: str) -> bool:
        """Return whether a worker of this group is under way here."""
        return any(worker.group == group and worker.is_running for worker in self.workers)

    def on_news(self) -> None:
        if self.is_mounted:
            self.query_one(TopBar).show()
