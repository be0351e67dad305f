"""A yes-or-no question over the screen; what is asked for is said in full, and Esc means no, or neither where both do something."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Question(ModalScreen[bool | None]):
    """Dismissed with True for yes, False for no, None for neither."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="question.yes"),
        Binding("n", "answer(False)", "No", id="question.no"),
        Binding("escape", "back", "Back", id="question.back"),
    ]

    def __init__(self, text: str, yes: str = "Yes", no: str = "No", neither: str = "") -> None:
        """Ask. `neither`: what Esc does where "no" changes something too; that is then what a hasty Enter does as well."""
        super().__init__()
        self._text, self._yes, self._no, self._neither = text, yes, no, neither

    def compose(self) -> ComposeResult:
        with Vertical(id="question-box"):
            with VerticalScroll(id="question-text"):
                yield Static(self._text, markup=False)
            with Horizontal():
                yield Button(f"{self._yes} (y)", variant="warning", id="yes")
                yield Button(f"{self._no} (n)", id="no")
                if self._neither:
                    yield Button(f"{self._neither} (Esc)", id="neither")

    def on_mount(self) -> None:
        self.query_one("#neither" if self._neither else "#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss({"yes": True, "no": False}.get(event.button.id or ""))

    def action_back(self) -> None:
        self.dismiss(None if self._neither else False)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
