"""How the cluster works over time, as small curves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Sparkline, Static

from client.tui.happenings import Series
from client.tui.page import Page

CURVES: tuple[tuple[str, str, str, Callable[[Series], deque[float]]], ...] = (
    ("commands", "holds, bookings and all other commands", "/s", lambda series: series.commands),
    ("entries", "ledger entries", "/s", lambda series: series.entries),
    ("latency", "the status question, answered by every tier", "ms", lambda series: series.latency_ms),
    ("waited", "requests that stood in line for a seat", "/s", lambda series: series.waited),
    ("refused", "requests whose seats somebody else had", "/s", lambda series: series.refused),
    ("lag", "entries that the slowest copy lacks", "", lambda series: series.lag),
)


class FiguresScreen(Page[object]):
    """A curve a figure; the newest point is at the right."""

    heading = "Figures"
    HELP = """
    # Figures
    Measured by this program from the answers to its own questions, about every second, since it was opened. The number is the newest
    point, the highest stands beside it; the newest is at the right.
    """

    def content(self) -> ComposeResult:
        with VerticalScroll(id="curves"):
            for name, *_ in CURVES:
                yield Static("", id=f"said-{name}")
                yield Sparkline([0.0], id=f"curve-{name}", classes="curve")

    def on_screen_resume(self) -> None:
        self.query_one("#curves").focus()
        self._draw()

    def on_news(self) -> None:
        super().on_news()
        if self.is_current:
            self._draw()

    def _draw(self) -> None:
        width = max(10, self.size.width - 4)
        for name, what, unit, of in CURVES:
            points = list(of(self.holdfast.series))[-width:]
            now, most = (points[-1], max(points)) if points else (0.0, 0.0)
            self.query_one(f"#said-{name}", Static).update(f"{what}: {now:.0f} {unit}   highest {most:.0f} {unit}")
            self.query_one(f"#curve-{name}", Sparkline).data = [0.0] * (width - len(points)) + points
