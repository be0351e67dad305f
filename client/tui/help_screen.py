"""What the focused widget is, what its screen is, and every key that does something there; over the screen, whole at any size."""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Markdown, Static

EDITING = "Input"  # The many keys of a line that is typed are everybody's.


class HelpScreen(ModalScreen[None]):
    """Made for the screen that is shown; Esc or F1 goes back to it, with its focus where it was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q", "dismiss(None)", "Back", id="help.back")]

    def __init__(self, explained: Screen[object]) -> None:
        super().__init__()
        self._texts = texts_of(explained)
        self._keys = keys_of(explained)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help-box"):
            for text in self._texts or ["# Keys"]:
                yield Markdown(text)
            keys = Table.grid(padding=(0, 2))
            for key, what in self._keys:
                keys.add_row(Text(key, "bold"), what)
            yield Static(keys, id="help-keys")
            yield Static("↑ and ↓ scroll, Esc goes back", classes="dim")

    def on_mount(self) -> None:
        self.query_one("#help-box").focus()


def texts_of(screen: Screen[object]) -> list[str]:
    """Return what is said of the focused widget, then of what it stands in, the screen last; each once."""
    node: DOMNode | None = screen.focused or screen
    texts: list[str] = []
    while node is not None:
        text = cleandoc(node.HELP or "")
        if text and text not in texts:
            texts.append(text)
        node = node.parent if node is not screen else None
    return texts


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """Return (keys, what they do) of all that works now, the focused widget's first; several keys of one action together."""
    found: dict[tuple[str, str], list[str]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if not binding.description or not active.enabled or (type(active.node).__name__ == EDITING and binding.key != "enter"):
            continue
        shown = found.setdefault((binding.action, binding.description), [])
        key = screen.app.get_key_display(binding)
        if key not in shown:
            shown.append(key)
    return [(" ".join(keys), what) for (_, what), keys in found.items()]
