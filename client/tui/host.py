"""What every screen shares: the cluster as it was last heard, the holds with their time, the ways to ask and to tell.

`client.tui.app` is made on it; the screens know this half alone, and the application knows the screens.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, ensure_future, shield, sleep
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from textual import work
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.message import Message
from textual.worker import active_worker

from client.api import new_request_id
from client.inputs import duration_text
from client.rivals import Rivals
from client.tui.clock import Holds
from client.tui.desk import Desk
from client.tui.gateway import Client, Gateway, now_ms
from client.tui.happenings import Happening, Series, between
from client.tui.legs import seats_on
from client.wallet import Wallet
from datastore.administration import AnyWish
from datastore.errors import HoldfastError, NotAuthorised
from datastore.messages import HoldAnswer, StatusAnswer

TICK_S = 0.5
STATUS_S = 1.0
SILENT_MAX_S = 8.0  # The longest pause between two questions to a cluster that does not answer.
HAPPENED_MAX = 100
STATUS_MS = 3_000
EXTENSION_MS = 15 * 60_000  # What extending a hold asks for.
T = TypeVar("T")


class News(Message):
    """Holds came, went or have less time; or the cluster was heard."""


class Happened(Message):
    """Something happened to the cluster, or was done to it."""

    def __init__(self, happening: Happening) -> None:
        super().__init__()
        self.happening = happening


class Host(App[None]):
    """The application without its screens and keys."""

    def __init__(
        self,
        client: Client,
        wallet: Wallet,
        *,
        cards: Sequence[tuple[str, str]] = (),
        desk: Desk | None = None,
        rivals: Rivals | None = None,
        command_names: Sequence[str] = (),
        command_options: Sequence[str] = (),
    ) -> None:
        """Prepare; `run` shows it.

        Args:
            client: Is closed at the end.
            cards: (what people read, what the provider knows) of the cards offered; none where no payments are taken.
            rivals: Buyers to compete with, in a demonstration.
            desk: The cluster's data folder, where it is on this machine: keys, logs, processes.
            command_names: Of all commands of `holdfast`, which can be run from here too.
            command_options: What stands in front of a command so that it means this cluster.
        """
        super().__init__()
        self.cards = list(cards)
        self.desk = desk
        self.rivals = rivals
        self.own_keys: Mapping[str, str] = {}  # Binding id -> keys, where the user's own file says so.
        self.command_names = list(command_names)
        self.command_options = list(command_options)
        self.commands_typed: list[str] = []
        self.series = Series()
        self.happened: deque[Happening] = deque(maxlen=HAPPENED_MAX)
        self.frozen: set[str] = set()  # Processes that were frozen here and not continued yet.
        self.gateway = Gateway(client)
        self.wallet = wallet
        self.holds = Holds()
        self.cluster: StatusAnswer | None = None
        self._looking = False
        self._quitting = False
        self._silent = 0  # Questions in a row that nobody answered.
        self._look_at_ms = 0  # No question about the cluster before this.
        self.trouble = ""  # Why the cluster gave no answer when last asked.
        self.not_begun: HoldfastError | None = None  # Why a cluster that was to start with the application did not.

    def begin(self) -> None:
        """Look at the cluster and at the holds from now on."""
        self.set_interval(TICK_S, self._tick)
        self.set_interval(STATUS_S, self.look_at_cluster)
        self.look_at_cluster()
        self.find_holds()

    def on_unmount(self) -> None:
        if self.rivals is not None:
            self.rivals.stop()
        self.gateway.close()

    # --- leaving -----------------------------------------------------------------------------------------------------

    def pop_screen(self) -> AwaitComplete:
        """Leave a screen. Its work ends first: news of a live map that came while its widgets go would find none to stand in."""
        leaving, own = self.screen, active_worker.get(None)
        for worker in list(self.workers):
            if worker is not own and (worker.node is leaving or leaving in worker.node.ancestors):
                worker.cancel()
        return super().pop_screen()

    async def _shutdown(self) -> None:
        self._quitting = True
        self.workers.cancel_all()  # As in `pop_screen`, for all screens at once.
        await super()._shutdown()

    # --- shared by the screens -------------------------------------------------------------------------------------

    async def ask(self, question: Callable[[Client], T]) -> T:
        """Return the cluster's answer; see `Gateway.ask`."""
        return await self.gateway.ask(question)

    async def kept(self, question: Callable[[Wallet], T]) -> T:
        """Return what the wallet says; its files are read on another thread, as a disk may be slow or its lock taken."""
        return await self.gateway.ask(lambda _: question(self.wallet))

    async def hold(self, question: Callable[[Client], HoldAnswer]) -> HoldAnswer:
        """Return a hold that is asked for. Who leaves the screen meanwhile has it all the same, and is told of it.

        Raises:
            HoldfastError: Nothing is held, or nobody knows yet.
        """
        asked = ensure_future(self.ask(question))
        try:
            return await shield(asked)
        except CancelledError:
            # The question is on its way and seats may be held by it: they must not be held without anybody knowing.
            if not self._quitting:
                self._hear_late(asked)
            raise

    @work(group="late")
    async def _hear_late(self, asked: Future[HoldAnswer]) -> None:
        """Take in a hold whose screen was left before the answer."""
        try:
            hold = await asked
        except HoldfastError as error:
            self.say_error(error, "nothing was held")
            return
        self.take_hold(hold)
        said = f"{seats_on(hold)} held for {duration_text(hold.remaining_ms)}: the answer came when you had left."
        self.notify(f"{said} Holds keeps or gives back.", title="held for you", severity="warning", timeout=15)

    async def renew(self, hold: HoldAnswer) -> HoldAnswer | None:
        """Take the seats of an ended hold again, all or none; None where that was refused, which has been said."""
        request_id = new_request_id()
        try:
            renewed = await self.hold(lambda client: client.renew(hold.hold_id, request_id=request_id))
        except HoldfastError as error:
            self.say_error(error, "not held again")
            return None
        self.holds.drop(hold.hold_id)
        self.take_hold(renewed)
        self.notify(f"{seats_on(renewed)} held for {duration_text(renewed.remaining_ms)}")
        return renewed

    async def administer(self, wish: AnyWish) -> Any:
        """Have the managers do what is wished, as the administrator.

        Raises:
            HoldfastError: It was not done; also where the administrator's key is not on this machine.
        """
        desk = self.desk
        if desk is None:
            raise self.no_desk()
        return await self.ask(lambda client: desk.administer(client, wish))

    def no_desk(self) -> HoldfastError:
        """Return what to say where something needs the cluster's data folder."""
        return NotAuthorised("this needs a key, and the cluster's data folder is not on this machine")

    def happens(self, happening: Happening) -> None:
        """Keep and tell that something happened to the cluster, or was done to it."""
        happening = happening._replace(at=datetime.now().strftime("%H:%M:%S"))
        self.happened.append(happening)
        if self.current_mode != "cluster":  # There it stands below, and a failover's many notes would cover what they are about.
            self.notify(happening.text, severity="information" if happening.good else "warning", timeout=6)
        for screens in self._screen_stacks.values():
            for screen in screens:
                screen.post_message(Happened(happening))

    def say_error(self, error: HoldfastError, what: str = "") -> None:
        """Tell the traveller that something was refused or failed, and what that means."""
        sure = "it may have happened; the same again asks, nothing happens twice" if error.maybe_committed else ""
        said = ". ".join(word for word in (error.detail, sure) if word)
        self.notify(said, title=what or error.title, severity="error" if not error.retryable else "warning", timeout=8)

    def take_hold(self, hold: HoldAnswer) -> None:
        """Keep what an answer says of a hold."""
        self.holds.put(hold, now_ms())
        self._show_holds()

    @property
    def banner(self) -> str:
        """What is out of order and what works all the same; "" where nothing is."""
        if self.trouble:
            return f"no answer from the cluster: {self.trouble}. What is shown is old; holds and bookings are kept."
        silent = [line.operator for line in self.cluster.partitions if line.verdict == "down"] if self.cluster else []
        if silent and self.cluster and len(silent) == len(self.cluster.partitions):
            return "no quorum anywhere: look, but neither hold nor book until enough nodes answer. What is held or booked is kept."
        if silent:
            names = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
            return f"no quorum at {names}: look, but neither hold nor book there. All other operators sell."
        if self.cluster and self.cluster.verdict == "down":
            voting = sum(one.kind == "lock server" and one.verdict == "ok" for one in self.cluster.processes)
            servers = sum(one.kind == "lock server" for one in self.cluster.processes)
            if 2 * voting <= servers:
                return f"{voting} of {servers} lock servers vote: no new holds; confirming, extending and cancelling work."
        return ""

    async def until_heard(self, pause_s: float) -> None:
        """Wait before a question that failed is asked again; while nobody answers at all, until somebody does."""
        await sleep(pause_s)
        while self.trouble:
            await sleep(pause_s)

    # --- what goes on by itself --------------------------------------------------------------------------------------

    @work(group="holds", exclusive=True)
    async def find_holds(self) -> None:
        """Learn of the holds made before, here or in another terminal."""
        asked = self.holds.moment
        try:
            answer = await self.ask(lambda client: client.my_holds())
        except HoldfastError as error:
            self.log(f"my holds: {error.detail}")
            return
        self.holds.found(answer.holds, asked, now_ms())
        self._show_holds()

    @work(group="status")
    async def look_at_cluster(self) -> None:
        """Learn how the cluster is; a question under way is waited for, as a slow answer is news too."""
        if self._looking or now_ms() < self._look_at_ms:
            return
        self._looking = True
        try:
            await self._look_at_cluster()
        finally:
            self._looking = False

    async def _look_at_cluster(self) -> None:
        before, asked_ms = self.cluster, now_ms()
        try:
            self.cluster, trouble = await self.ask(lambda client: client.status(deadline_ms=STATUS_MS)), ""
        except HoldfastError as error:
            trouble = error.detail
        if trouble and not self.trouble:
            self.happens(Happening(f"no answer from the cluster: {trouble}", False))
        elif self.trouble and not trouble:
            self.happens(Happening("the cluster answers again", True))
            self.find_holds()
        self.trouble = trouble
        # A cluster that is away is asked ever more rarely: looking for it must not keep this machine busy.
        self._silent = self._silent + 1 if trouble else 0
        pause_s = min(SILENT_MAX_S, STATUS_S * 2 ** min(self._silent, 10)) if trouble else 0.0
        self._look_at_ms = now_ms() + round(1000 * pause_s)
        if not trouble and self.cluster is not None:
            self.series.take(self.cluster, now_ms(), now_ms() - asked_ms)
            for happening in between(before, self.cluster) if before is not None else ():
                self.happens(happening)
        for screen in self.screen_stack:
            screen.post_message(News())

    def _tick(self) -> None:
        for notice in self.holds.tick(now_ms()):
            seats = seats_on(notice.hold)
            if notice.seconds:
                said = f"{seats}: {notice.seconds} seconds left. {self._key('extend', 'ctrl+e')} extends."
                self.notify(said, title="your hold ends soon", severity="warning", timeout=10)
            else:
                are, them = ("are", "them") if notice.hold.legs or len(notice.hold.seats) > 1 else ("is", "it")
                said = f"{seats} {are} for sale again. Holds ({self._key('holds', '3')}) takes {them} once more."
                self.notify(said, title="your hold has ended", severity="error", timeout=15)
                self._show_holds()
        if self.holds.open():
            self._show_holds()

    def _key(self, action: str, ours: str) -> str:
        """Return the key of a binding of the application as people read it: the user's own, else `ours`."""
        return self.own_keys.get(f"app.{action}", ours).split(",")[0].title()

    def _show_holds(self) -> None:
        for screen in self.screen_stack:
            screen.post_message(News())
