"""What can be broken on this machine, to see that nobody loses a seat: kill, freeze, continue. Each names what it will do."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from client.tui.happenings import Happening
from client.tui.host import Host
from datastore.errors import HoldfastError
from datastore.messages import ProcessStatus, StatusAnswer
from datastore.wording import counted

MEANING = {
    "node": "it leads {led}: another node takes over within seconds, and nothing acknowledged is lost",
    "lock server": "the others are a quorum and go on alone",
    "balancer": "its twin takes the same requests with the same ids",
    "manager": "the other one goes on; sales do not need either for what runs",
    "payment sandbox": "nothing can be paid meanwhile; nobody is charged without a seat",
}
# What follows where those that are left are no majority, or none at all.
TOO_FEW = {
    "node": "those left are no majority: look, but neither hold nor book until one is back",
    "lock server": "those left are no quorum: no new holds; confirming, extending and cancelling work",
    "balancer": "it is the last one: nobody is answered until one is back",
    "manager": "it is the last one: no other node takes over until one is back",
}
MAJORITY = ("node", "lock server")


class Breakage(NamedTuple):
    """One thing that can be done: the signal's word, the process, what follows."""

    word: str
    name: str
    meaning: str


def breakages(status: StatusAnswer, running: list[str], frozen: set[str]) -> list[Breakage]:
    """Return what can be done with the processes that run here, the primary of most operators first; what is frozen is continued."""
    led: dict[str, int] = {}
    for line in status.partitions:
        led[line.primary] = led.get(line.primary, 0) + 1
    found = [Breakage("continue", name, "it goes on where it stood; others may have taken over") for name in sorted(frozen)]
    kinds = list(MEANING)
    here = [process for process in status.processes if process.name in running and process.name not in frozen]
    for process in sorted(here, key=lambda one: (kinds.index(one.kind) if one.kind in kinds else len(kinds), -led.get(one.name, 0))):
        meaning = _meaning(status, process, led.get(process.name, 0), frozen)
        found += [Breakage(word, process.name, meaning) for word in ("kill", "freeze")]
    return found


def _meaning(status: StatusAnswer, process: ProcessStatus, led: int, frozen: set[str]) -> str:
    """Return what follows where a process is broken now, with all that is broken already."""
    kind = process.kind
    same = [one for one in status.processes if one.kind == kind]
    left = sum(one.verdict != "down" and one.name not in frozen and one.name != process.name for one in same)
    needed = len(same) // 2 + 1 if kind in MAJORITY else 1
    return TOO_FEW[kind] if left < needed and kind in TOO_FEW else MEANING.get(kind, "").format(led=counted(led, "operator"))


class BreakScreen(ModalScreen[None]):
    """The list; what is chosen is done at once."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Nothing", id="break.none")]

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Breakage] = []

    @property
    def _holdfast(self) -> Host:
        return cast(Host, self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="break-box"):
            yield Static("Break something of this machine: ↓ chooses, Enter does it, Esc leaves all as it is", classes="dim")
            yield OptionList(id="breakages", compact=True)

    def on_mount(self) -> None:
        self._fill()

    @work
    async def _fill(self) -> None:
        app = self._holdfast
        desk, status = app.desk, app.cluster
        if desk is None or status is None:
            self.dismiss(None)
            return
        running = await app.ask(lambda _: desk.running())
        self._found = breakages(status, running, app.frozen)
        options = self.query_one("#breakages", OptionList)
        options.add_options(
            [
                Option(Text.assemble((f"{one.word:<9}", "bold"), f"{one.name:<12}", (one.meaning, "dim")), id=str(number))
                for number, one in enumerate(self._found)
            ]
        )
        options.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self._break(self._found[event.option_index])

    @work
    async def _break(self, one: Breakage) -> None:
        app = self._holdfast
        desk = app.desk
        assert desk is not None, "the list is empty without a desk"
        try:
            said = await app.ask(lambda _: desk.send(one.name, one.word))
        except HoldfastError as error:
            app.say_error(error, "nothing was broken")
            return
        if one.word == "freeze":
            app.frozen.add(one.name)
        else:
            app.frozen.discard(one.name)
        app.happens(Happening(said, one.word == "continue"))
        self.dismiss(None)
