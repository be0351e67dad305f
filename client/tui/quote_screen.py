"""What a change or a cancellation comes to, over the screen: agreed to with a card where there is something to pay, or left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Select, Static

from client.tui.amends import pays, quote_words
from datastore.messages import QuoteAnswer


class QuoteScreen(ModalScreen[str | None]):
    """Dismissed with the card that pays ("" where nothing is paid), None where it is left as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Do it", id="quote.yes"),
        Binding("n,escape", "dismiss(None)", "Leave it", id="quote.no"),
    ]

    def __init__(self, quote: QuoteAnswer, cards: Sequence[tuple[str, str]] = (), said: str = "", card: str = "") -> None:
        """Show a quote.

        Args:
            cards: What is offered to pay with; used only where something is to be paid.
            said: Why the last attempt was not done.
            card: The one chosen at the last attempt.
        """
        super().__init__()
        self._quote, self._said = quote, said
        self._cards = list(cards) if pays(quote) else []
        self._card = card or (self._cards[0][1] if self._cards else "")

    def compose(self) -> ComposeResult:
        with Vertical(id="question-box", classes="wide"):
            yield Static(f"{self._quote.reference}: {self._quote.what}", classes="title", markup=False)
            with VerticalScroll(id="quote-lines"):
                yield Static(quote_words(self._quote), markup=False)
            if self._said:
                yield Static(Text(self._said, "#D55E00"))
            if self._cards:
                with Horizontal(id="paying"):
                    yield Label(f"Pay {self._quote.to_pay} with  ")
                    yield Select(self._cards, value=self._card, allow_blank=False, id="card", compact=True)
            with Horizontal():
                yield Button("Do it (y)", variant="warning", id="yes")
                yield Button("Leave it (n)", id="no")

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_agree()
        else:
            self.dismiss(None)

    def action_agree(self) -> None:
        self.dismiss(str(self.query_one("#card", Select).value) if self._cards else "")
