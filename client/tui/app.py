"""The application: its parts, their keys, and what can be done from everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.screen import Screen

from client.api import new_request_id
from client.inputs import duration_text
from client.recordings import opened
from client.tui.ask_text import AskText
from client.tui.bookings_screen import BookingsScreen
from client.tui.cluster_screen import ClusterScreen
from client.tui.command_screen import CommandScreen
from client.tui.figures_screen import FiguresScreen
from client.tui.gateway import Client
from client.tui.help_screen import HelpScreen
from client.tui.holds_screen import HoldsScreen
from client.tui.host import EXTENSION_MS, Host
from client.tui.legs import seats_on
from client.tui.locks_screen import LocksScreen
from client.tui.log_screen import LogScreen
from client.tui.palette import HoldfastCommands
from client.tui.payments_screen import PaymentsScreen
from client.tui.question import Question
from client.tui.replay_screen import ReplayScreen
from client.tui.search_screen import SearchScreen
from client.tui.seats_screen import SeatsScreen
from client.tui.services_screen import ServicesScreen
from client.tui.start_screen import Beginning, StartScreen
from client.wallet import Wallet
from datastore.errors import HoldfastError


class HoldfastApp(Host):
    """What a traveller and an operator live in."""

    TITLE = "Holdfast"
    CSS_PATH = "holdfast.tcss"
    MODES: ClassVar[dict[str, type[Screen[object]] | str | Callable[[], Screen[object]]]] = {
        "travel": SearchScreen,
        "bookings": BookingsScreen,
        "holds": HoldsScreen,
        "cluster": ClusterScreen,
        "services": ServicesScreen,
        "locks": LocksScreen,
        "log": LogScreen,
        "figures": FiguresScreen,
        "payments": PaymentsScreen,
    }
    DEFAULT_MODE = "travel"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {HoldfastCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1,f2", "go('travel')", "Travel", show=False, id="app.travel"),
        Binding("2,f3", "go('bookings')", "Bookings", show=False, id="app.bookings"),
        Binding("3,f4", "go('holds')", "Holds", show=False, id="app.holds"),
        Binding("4,f5", "go('cluster')", "Cluster", show=False, id="app.cluster"),
        Binding("5,f8", "go('services')", "Services", show=False, id="app.services"),
        Binding("6,f9", "go('locks')", "Locks", show=False, id="app.locks"),
        Binding("7,f10", "go('log')", "Log", show=False, id="app.log"),
        Binding("8,f11", "go('figures')", "Figures", show=False, id="app.figures"),
        Binding("9", "go('payments')", "Payments", show=False, id="app.payments"),
        Binding("colon", "command", "Command", show=False, id="app.command"),
        Binding("f12", "rivals", "Rivals", id="app.rivals"),
        Binding("f1", "explain", "Help", id="app.help"),
        Binding("ctrl+e", "extend", "Extend hold", show=False, priority=True, id="app.extend"),  # In fields it would go to their end.
        Binding("ctrl+p", "command_palette", "Find", show=False, priority=True, id="app.palette"),
    ]

    def __init__(self, client: Client, wallet: Wallet, *, beginning: Beginning | None = None, **more: Any) -> None:
        """Prepare; `run` shows it.

        Args:
            beginning: A cluster that starts once the first picture is there; None where it runs already.
            more: See `Host`.
        """
        super().__init__(client, wallet, **more)
        self._beginning = beginning

    def on_mount(self) -> None:
        if self._beginning is None:
            self.begin()
        else:
            self.push_screen(StartScreen(self._beginning))

    # --- leaving ---------------------------------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """Leave. With seats held that is said first; the key once more leaves all the same."""
        if not self.holds.open() or isinstance(self.screen, Question):
            self.exit()
        else:
            self._leave()

    @work(group="quit", exclusive=True)
    async def _leave(self) -> None:
        held = "; ".join(seats_on(hold) for hold in self.holds.open())
        if self.rivals is not None:
            then = "The demonstration ends with this, and all that was held or booked in it."
        else:
            then = "They stay held until their time is over; `holdfast tui` shows them again, and `holdfast release` gives them back."
        if await self.push_screen_wait(Question(f"Held for you: {held}.\n\n{then}", "Quit", "Stay")):
            self.exit()

    # --- actions ---------------------------------------------------------------------------------------------------

    def action_go(self, mode: str) -> None:
        """Show another part; what lies behind keeps its state."""
        if self.current_mode != mode:
            self.switch_mode(mode)

    @work(group="add", exclusive=True)
    async def action_add_node(self) -> None:
        """Go to the cluster and ask for a node to add."""
        if self.current_mode != "cluster":
            await self.switch_mode("cluster")
        if isinstance(self.screen, ClusterScreen):
            self.screen.action_add()

    def action_command(self, text: str = "") -> None:
        """Run any command of `holdfast`."""
        self.push_screen(CommandScreen(text))

    @work(group="replay", exclusive=True)
    async def action_replay(self, file: str = "") -> None:
        """Show a recording's seat maps over time."""
        asked = AskText("Replay which file? (`record OPERATOR --out FILE` makes one)")
        named: str | None = file or await self.push_screen_wait(asked)
        if not named:
            return
        try:
            replay = await self.ask(lambda _: opened(Path(named)))
        except HoldfastError as error:
            self.say_error(error, "no recording")
            return
        self.push_screen(ReplayScreen(replay))

    def action_explain(self) -> None:
        """Show what the focused widget is and what its keys do."""
        self.push_screen(HelpScreen(self.screen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer rivals only where there are any, and a seat map that they can buy from."""
        return isinstance(self.screen, SeatsScreen) and self.rivals is not None if action == "rivals" else True

    @work(group="rivals", exclusive=True)
    async def action_rivals(self) -> None:
        """Let rival customers buy seats of the map on the screen before one's eyes, or send them away."""
        rivals, screen = self.rivals, self.screen
        if rivals is None or not isinstance(screen, SeatsScreen):
            return
        if rivals.running:
            await self.ask(lambda _: rivals.stop())
            self.notify(f"the rivals are gone from {rivals.service_id}")
            return
        service_id = screen.trip.segments[screen.number].service.service_id
        await self.ask(lambda _: rivals.start(service_id))
        self.notify(f"rival customers buy seats of {service_id}: look. F12 sends them away.")

    @work(group="extend", exclusive=True)
    async def action_extend(self) -> None:
        """Let the hold that ends first last longer."""
        holds = self.holds.open()
        if not holds:
            return
        hold, request_id = holds[0], new_request_id()
        try:
            longer = await self.ask(lambda client: client.extend(hold.hold_id, EXTENSION_MS, request_id=request_id))
        except HoldfastError as error:
            self.say_error(error, "not extended")
            return
        self.take_hold(longer)
        self.notify(f"{seats_on(longer)} held for {duration_text(longer.remaining_ms)} from now")
