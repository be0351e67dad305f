"""The lock servers, the locks that stand on them, and which seats many want at once."""

from __future__ import annotations

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from client.show import VERDICT_STYLES, lock_words
from client.tui.happenings import hot_seats
from client.tui.live_table import LiveTable, Row
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import LocksAnswer

HOT_SHOWN = 40
LOCKS_SHOWN = 200
EVERY_S = 0.5
LOCK_SERVER, BALANCER = "lock server", "balancer"


class LocksScreen(Page[object]):
    """Who votes, who has what, who waits, and for what."""

    heading = "Locks and hot seats"
    HELP = """
    # Locks and hot seats
    A lock lasts moments and only puts buyers of a seat in order; what protects a seat is the hold. First come the servers that vote on
    locks, then those that stand at this moment, asked for twice a second: `seat:` while seats are being held for somebody, `promote:`
    while a manager looks after an operator; a lock on fewer servers than a quorum is being taken or given back, or its holder died.
    Below stands how often requests had to stand in line (in one balancer, or because another balancer's request had the lock) or came
    too late, and last the seats that this was about. Counts of seats fade.
    """

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        with Vertical():
            yield LiveTable("Server", "Address", "Votes", "Detail", id="servers")
            yield LiveTable("Locked now", "By", "Left", "On servers", id="locks", nothing="nothing at this moment")
            yield LiveTable("Balancer", "Commands", "Batches", "Waited in line", "Lock taken elsewhere", "Refused", id="waiting")
            yield LiveTable("Hot seat", "Operator", "Service", "Wanted at once", id="hot", nothing="none lately")

    def on_mount(self) -> None:
        self.set_interval(EVERY_S, self._look)

    def on_screen_resume(self) -> None:
        self.query_one("#hot").focus()
        self._draw()

    def _look(self) -> None:
        # One under way is waited for: a slow answer is news too.
        if self.is_current and not self.at_work("locks"):
            self._look_at_locks()

    @work(group="locks")
    async def _look_at_locks(self) -> None:
        try:
            answer = await self.holdfast.ask(lambda client: client.locks(LOCKS_SHOWN))
        except HoldfastError:
            return  # The banner says that the cluster does not answer.
        self.query_one("#locks", LiveTable).bring(_lock_rows(answer))

    def on_news(self) -> None:
        super().on_news()
        if self.is_current:
            self._draw()

    def _draw(self) -> None:
        status = self.holdfast.cluster
        if status is None:
            return
        servers = [one for one in status.processes if one.kind == LOCK_SERVER]
        votes = sum(one.verdict == "ok" for one in servers)
        quorum = len(servers) // 2 + 1
        said = f"{votes} of {len(servers)} lock servers vote, {quorum} are a quorum"
        self.query_one("#said", Static).update(
            Text(
                said if votes >= quorum else f"{said}: no new holds; confirming, extending and cancelling work",
                "" if votes >= quorum else "#D55E00",
            )
        )
        rows: list[Row] = [
            (
                one.name,
                [
                    one.name,
                    one.address,
                    Text("yes" if one.verdict == "ok" else f"no, {one.state}", VERDICT_STYLES[one.verdict]),
                    one.detail,
                ],
            )
            for one in servers
        ]
        self.query_one("#servers", LiveTable).bring(rows)
        names = ("commands", "batches", "waited", "contended", "refused")
        self.query_one("#waiting", LiveTable).bring(
            [
                (one.name, [one.name, *(str(one.figures.get(name, "-")) for name in names)])
                for one in status.processes
                if one.kind == BALANCER
            ]
        )
        hot: list[Row] = []
        for key, times in hot_seats(status, HOT_SHOWN):
            operator, _, rest = key.partition("/")
            service, _, seat = rest.partition("/")
            hot.append((key, [seat, operator, service, str(times)]))
        self.query_one("#hot", LiveTable).bring(hot)


def _lock_rows(answer: LocksAnswer) -> list[Row]:
    return [
        (f"{lock.key} {lock.holder}", [lock.key, lock.holder, *lock_words(lock, answer)])
        for lock in answer.locks
    ]
