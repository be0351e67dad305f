"""Lines of text, the newest below, that are broken anew when the terminal becomes narrower or wider."""

from __future__ import annotations

from collections import deque

from rich.text import Text
from textual import events
from textual.widgets import RichLog


class Lines(RichLog):
    """What was told stays as text: a log that keeps only what it has drawn would cut its lines off on a narrower screen."""

    def __init__(self, *, id: str, max_lines: int) -> None:
        super().__init__(id=id, max_lines=max_lines, min_width=20, wrap=True)
        self._told: deque[Text] = deque(maxlen=max_lines)
        self._width = 0

    def tell(self, text: Text) -> None:
        """Add a line."""
        self._told.append(text)
        self.write(text)

    def forget(self) -> None:
        """Begin with none."""
        self._told.clear()
        self.clear()

    def on_resize(self, event: events.Resize) -> None:
        before, self._width = self._width, event.size.width
        if before and before != self._width:
            self.call_after_refresh(self._tell_again)

    def _tell_again(self) -> None:
        self.clear()
        for text in self._told:
            self.write(text)
