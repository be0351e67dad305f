"""Something that is asked for in fields over the screen, and done only after what is and what will be was read and agreed to.

Enter in a field checks what was written; what is wrong with it is said below the fields, with them still open. Where nothing is wrong
"before" and "after" stand there, and `y` or the button does it. A refusal while it is done is said in the same place.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, TypeVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from client.tui.desk import Desk
from client.tui.host import Host
from datastore.errors import HoldfastError

WRONG = "#D55E00"
T = TypeVar("T")


class Asked(NamedTuple):
    """A field: its name, what stands before it, what is in it at first, and what an empty one means."""

    name: str
    label: str
    value: str = ""
    empty: str = ""


class Form(ModalScreen[T | None]):
    """Dismissed with what `act` returned; None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Do it", id="form.yes"),
        Binding("n,escape", "leave", "Leave it", id="form.leave"),
    ]
    heading = ""
    yes = "Do it"

    @property
    def host(self) -> Host:
        return cast(Host, self.app)

    @property
    def desk(self) -> Desk:
        """The cluster's data folder.

        Raises:
            HoldfastError: It is not on this machine.
        """
        desk = self.host.desk
        if desk is None:
            raise self.host.no_desk()
        return desk

    def asked(self) -> list[Asked]:
        """Return the fields."""
        raise NotImplementedError

    async def check(self) -> str:
        """Return what is and what will be with what the fields say now.

        Raises:
            HoldfastError: It cannot be done; why.
        """
        raise NotImplementedError

    async def act(self) -> T:
        """Do what was checked last.

        Raises:
            HoldfastError: It was refused or failed; why.
        """
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="question-box", classes="wide"):
            yield Static(self.heading, classes="title", markup=False)
            for one in self.asked():
                with Horizontal(classes="asked"):
                    yield Label(one.label)
                    yield Input(one.value, placeholder=one.empty, id=one.name, compact=True, max_length=200)
            yield Static("Enter says what will be; nothing is done before you agree to that. Esc leaves it.", id="about", markup=False)
            yield Static("", id="wrong")
            with Horizontal(id="agreeing"):
                yield Button(f"{self.yes} (y)", variant="warning", id="yes", disabled=True)
                yield Button("Leave it (n)", id="no")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def value(self, name: str) -> str:
        """Return what is written in a field."""
        return self.query_one(f"#{name}", Input).value.strip()

    def say(self, text: str, *, wrong: bool = False) -> None:
        """Say what will be, or what is wrong."""
        if not wrong:
            self.query_one("#about", Static).update(text)
        self.query_one("#wrong", Static).update(Text(text if wrong else "", WRONG))

    def hint(self, text: str) -> None:
        """Say what goes on, below what will be."""
        self.query_one("#wrong", Static).update(text)

    @on(Input.Changed)
    def _changed(self) -> None:
        self.query_one("#yes", Button).disabled = True  # What was checked is not what stands there now.

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._check()

    @work(group="form", exclusive=True)
    async def _check(self) -> None:
        yes = self.query_one("#yes", Button)
        yes.disabled = True
        try:
            words = await self.check()
        except HoldfastError as error:
            self.say(error.detail, wrong=True)
            return
        self.say(words)
        yes.disabled = False
        self.query_one("#no", Button).focus()
        self.query_one("#agreeing").scroll_visible()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_agree()
        else:
            self.action_leave()

    def action_agree(self) -> None:
        if not self.query_one("#yes", Button).disabled:
            self._act()

    def action_leave(self) -> None:
        self.dismiss(None)

    @work(group="form", exclusive=True)
    async def _act(self) -> None:
        yes = self.query_one("#yes", Button)
        yes.disabled = True
        try:
            done = await self.act()
        except HoldfastError as error:
            sure = ". It may have happened: the same again asks, nothing happens twice" if error.maybe_committed else ""
            self.say(f"{error.detail}{sure}", wrong=True)
            yes.disabled = False
            return
        self.dismiss(done)
