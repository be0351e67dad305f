"""What every screen is made on: the lines above it (where one is, the holds with their time left, how the cluster is), its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, Static

from client.tui.clock import countdown
from client.tui.gateway import now_ms
from client.tui.host import Host
from client.tui.legs import seats_line

MARKS = {"ok": ("●", "#009E73"), "degraded": ("▲", "#E69F00"), "down": ("■", "#D55E00")}
SOON_MS = 60_000
# The keys of each part (`HoldfastApp.BINDINGS`), which the user may have changed.
PARTS = (
    ("travel", "1,f2", "Travel"),
    ("bookings", "2,f3", "Bookings"),
    ("holds", "3,f4", "Holds"),
    ("cluster", "4,f5", "Cluster"),
    ("services", "5,f8", "Services"),
    ("locks", "6,f9", "Locks"),
    ("log", "7,f10", "Log"),
    ("figures", "8,f11", "Figures"),
    ("payments", "9", "Pay"),
)
HOLDS_SHOWN = 3
LOW = 30  # Lines below which a screen leaves less room between and beside its tables.
R = TypeVar("R")


class TopBar(Vertical):
    """Docked above; screens call `show` when something changed."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._shown: tuple[object, ...] | None = None

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
        parts = part_keys(app.own_keys, typing=takes_digits(self.screen.focused))
        shown = (line, str(app.current_mode), app.banner, parts, app.size.width)
        if shown == self._shown:
            return  # Most looks at the cluster bring nothing new, and an update costs a new layout.
        self._shown = shown
        self.query_one("#bar", Static).update(line)
        self.query_one("#parts", Static).update(_parts(str(app.current_mode), parts, app.size.width))
        banner = self.query_one("#banner", Static)
        banner.update(app.banner)
        banner.display = bool(app.banner)


def takes_digits(focused: Widget | None) -> bool:
    """Return whether digits are typed into what has the focus: they are no keys of the application then."""
    return isinstance(focused, Input) or getattr(focused, "TAKES_DIGITS", False)


def part_keys(own: Mapping[str, str], *, typing: bool) -> tuple[str, ...]:
    """Return for each part the key that goes there now, "" where none does.

    Args:
        own: Binding id -> keys, where the user has others than ours.
        typing: Whether characters are typed into what has the focus, so that only other keys are left.
    """
    keys = []
    for mode, ours, _ in PARTS:
        of_part = own.get(f"app.{mode}", ours).split(",")
        keys.append(next((key.capitalize() for key in of_part if len(key) > 1 or not typing), ""))
    return tuple(keys)


def _parts(current: str, keys: Sequence[str], width: int) -> Content:
    """Return the parts of the application with their keys, the current one marked; a click goes there too."""
    words = []
    # Longer keys need the room of the blank behind them, so that 80 columns hold all.
    between = " " if sum(len(key) + len(word) + 2 for key, (_, _, word) in zip(keys, PARTS, strict=True)) <= width else ""
    for key, (mode, _, word) in zip(keys, PARTS, strict=True):
        shown = Content.from_markup(f"[@click=\"app.go('{mode}')\"][b]$key[/b]{between if key else ''}$word[/]", key=key, word=word)
        words.append(shown.stylize("reverse" if mode == current else "") + Content(" "))
    return Content("").join(words)


class Page(Screen[R]):
    """A screen between the top bar and the footer with its keys."""

    heading = ""
    VERTICAL_BREAKPOINTS = [(0, "-low"), (LOW, "-high")]  # noqa: RUF012 - the base declares an instance variable

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

    def on_descendant_focus(self) -> None:
        """Which keys go to the other parts depends on what has the focus."""
        for bar in self.query(TopBar):
            bar.show()

    def on_news(self) -> None:
        if self.is_mounted:
            self.query_one(TopBar).show()
