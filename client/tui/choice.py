"""One of several things, chosen over the screen from a list. Esc chooses none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class Choice(ModalScreen[int | None]):
    """Dismissed with the place of what was chosen, None for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Nothing", id="choice.none")]

    def __init__(self, question: str, choices: Sequence[str | Text]) -> None:
        super().__init__()
        self._question, self._choices = question, choices

    def compose(self) -> ComposeResult:
        with Vertical(id="choice-box"):
            yield Static(self._question, markup=False)
            yield OptionList(*(Option(one if isinstance(one, Text) else Text(one)) for one in self._choices), id="choices", compact=True)
            yield Static("Enter takes it, Esc goes back", classes="dim")

    def on_mount(self) -> None:
        choices = self.query_one("#choices", OptionList)
        choices.focus()
        choices.highlighted = 0  # Enter takes something from the start, as it says.

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)
