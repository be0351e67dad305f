"""The cluster as a balancer sees it: every process, where each operator is, what has happened; and what can be done about it."""

from __future__ import annotations

from asyncio import sleep
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from client.administering import whoever
from client.inputs import duration_text
from client.show import VERDICT_STYLES
from client.tui.add_node_screen import AddNodeScreen
from client.tui.ask_text import AskText
from client.tui.break_screen import BreakScreen
from client.tui.happenings import Happening, worst_lag
from client.tui.host import Happened
from client.tui.lines import Lines
from client.tui.live_table import LiveTable, Row
from client.tui.page import Page
from client.tui.question import Question
from client.tui.recover_screen import RecoverScreen
from datastore.administration import ChangeNode, LookAtCluster, LookAtNode, Move, MovePrimaries, NodeReport, PauseFailover
from datastore.cluster_record import DRAINING, nodes_of
from datastore.errors import HoldfastError
from datastore.messages import ProcessStatus

POLL_S = 0.3
WAIT_S = 300.0
WARN, GOOD = "#D55E00", "#009E73"


class ClusterScreen(Page[object]):
    """Two tables, kept up to date in place, and a line for each thing that happened."""

    heading = "Cluster"
    HELP = """
    # The cluster
    Every process with what it says of itself, where each operator's copies are, and below what has happened. It renews itself.
    **Tab** changes between the tables, **←** and **→** scroll them. In the upper one **d** drains a node (it hands over what it leads,
    and keeps its copies) or lets it lead again; **r** takes its copies from its peers, or lets a lock server that lost its data vote
    again; **a** adds a node. In the lower one **s** hands an operator's primary over. **p** pauses automatic failover or resumes it.
    **x** breaks something of this machine, to see what follows. Each says first what is and will be, and asks.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "switchover", "Switchover", id="cluster.switchover"),
        Binding("d", "drain", "Drain", id="cluster.drain"),
        Binding("a", "add", "Add", id="cluster.add"),
        Binding("r", "recover", "Recover", id="cluster.recover"),
        Binding("p", "pause", "Pause", id="cluster.pause"),
        Binding("x", "break", "Break", id="cluster.break"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        with Vertical():
            yield LiveTable("Name", "Kind", "State", "Verdict", "Up", "Detail", "Address", id="processes")
            yield LiveTable("Operator", "Primary", "Epoch", "Entries", "Replicas (lag)", "Verdict", "Doing", id="partitions")
        yield Lines(id="happened", max_lines=200)

    def on_mount(self) -> None:
        self.query_one("#happened", Lines).tell(Text("what happens to the cluster is told here; nothing has yet", "dim"))
        for one in self.holdfast.happened:
            self.tell(one)
        self._draw()

    def on_happened(self, event: Happened) -> None:
        self.tell(event.happening)

    def tell(self, happening: Happening) -> None:
        """Add a line about something that happened."""
        line = Text.assemble((f"{happening.at}  ", "dim"), (happening.text, GOOD if happening.good else WARN))
        lines = self.query_one("#happened", Lines)
        if not self._told:
            lines.forget()  # That nothing has happened is no longer so.
        self._told = True
        lines.tell(line)

    def on_news(self) -> None:
        super().on_news()
        if self.is_current:
            self._draw()

    def on_screen_resume(self) -> None:
        self.query_one("#processes").focus()
        self._draw()

    def _draw(self) -> None:
        status = self.holdfast.cluster
        if status is None:
            self.query_one("#said", Static).update("not heard yet")
            return
        age = f" (old: {self.holdfast.trouble})" if self.holdfast.trouble else ""
        paused = f"; automatic failover is {status.paused}" if status.paused else ""
        said = Text(f"the cluster is {status.verdict}{paused}{age}", VERDICT_STYLES.get(status.verdict, ""))
        self.query_one("#said", Static).update(said)
        processes: list[Row] = []
        for one in status.processes:
            up = duration_text(one.uptime_ms) if one.uptime_ms else "-"
            processes.append((one.name, [one.name, one.kind, one.state, _verdict(one.verdict), up, one.detail, one.address]))
        partitions: list[Row] = []
        for line in status.partitions:
            replicas = ", ".join(f"{node} ({lag})" for node, lag in sorted(line.replicas.items()))
            words: list[str | Text] = [line.operator, line.primary or "-", str(line.epoch), str(line.lsn), replicas]
            partitions.append((line.operator, [*words, _verdict(line.verdict), line.changing]))
        self.query_one("#processes", LiveTable).bring(processes)
        self.query_one("#partitions", LiveTable).bring(partitions)

    # --- doing ---------------------------------------------------------------------------------------------------------

    @work(group="administer")
    async def action_switchover(self) -> None:
        """Hand the marked operator's primary over."""
        status, operator = self.holdfast.cluster, self.query_one("#partitions", LiveTable).marked
        line = next((one for one in status.partitions if one.operator == operator), None) if status else None
        if line is None:
            return
        others = [node for node in sorted(line.replicas) if node != line.primary]
        asked = f"Hand {operator} over from {line.primary} to which node? ({', '.join(others)})"
        target = await self.app.push_screen_wait(AskText(asked, others[0] if others else ""))
        if target is None:
            return
        said = (
            f"Hand {operator} over to {target or 'whichever copy is best'}?\n\nbefore: {line.primary} leads in epoch {line.epoch}, its"
            f" worst copy is {worst_lag(line)} entries behind.\nafter: {target or 'another node'} leads in a new epoch; callers wait for a"
            " moment and see no error."
        )
        if not await self.app.push_screen_wait(Question(said, "Hand over", "Leave it")):
            return
        wish = MovePrimaries(moves=[Move(operator, target)], why="switchover", by=whoever())
        try:
            (moved,) = await self.holdfast.administer(wish)
        except HoldfastError as error:
            self.holdfast.say_error(error, "not handed over")
            return
        if moved.error:
            self.notify(moved.error, title="not handed over", severity="error", timeout=8)
            return
        self.holdfast.happens(
            Happening(f"{operator}: before {moved.before}, after {moved.after}, nothing taken for {moved.pause_ms} ms", True)
        )

    @work(group="administer")
    async def action_drain(self) -> None:
        """Have the marked node hand over what it leads, or let it lead again."""
        status, name = self.holdfast.cluster, self.query_one("#processes", LiveTable).marked
        process = next((one for one in status.processes if one.name == name), None) if status else None
        if status is None or process is None or process.kind != "node":
            self.notify("mark a node first: only nodes lead operators", severity="warning")
            return
        try:
            record = (await self.holdfast.administer(LookAtCluster())).record
        except HoldfastError as error:
            self.holdfast.say_error(error, "not drained")
            return
        wish = nodes_of(record).get(name)
        drained = wish is not None and wish.state == DRAINING
        led = [line.operator for line in status.partitions if line.primary == name]
        question = Question(_drain_words(name, led, drained=drained), "Do it", "Leave it")
        if not await self.app.push_screen_wait(question):
            return
        try:
            report = await self.holdfast.administer(ChangeNode(action="undrain" if drained else "drain", name=name, by=whoever()))
            report = await self._wait_node(name, report)
        except HoldfastError as error:
            self.holdfast.say_error(error, "not done")
            return
        left = "" if report.done else f"; {len(report.left)} operators left, it goes on by itself"
        self.holdfast.happens(Happening(f"{name}: before it led {len(led)}, after it is {report.state}{left}", True))

    async def _wait_node(self, name: str, report: NodeReport) -> NodeReport:
        """Ask until nothing is left to do with the node; at most so long."""
        said = len(report.left)
        for _ in range(int(WAIT_S / POLL_S)):
            if report.done:
                break
            await sleep(POLL_S)
            report = await self.holdfast.administer(LookAtNode(name=name))
            if len(report.left) != said:
                said = len(report.left)
                self.tell(Happening(f"{name}: {said} operators left", True))
        return report

    @work(group="administer")
    async def action_add(self) -> None:
        """Add a node, and follow it until its copies vote."""
        desk = self.holdfast.desk
        if desk is None:
            self.holdfast.say_error(self.holdfast.no_desk(), "no node is added from here")
            return
        name = await self.holdfast.ask(lambda _: desk.next_name())
        added = await self.app.push_screen_wait(AddNodeScreen(name))
        if added is None:
            return
        new, report = added
        self.tell(Happening(f"{new.name} at {new.host}:{new.port} learns; {len(report.left)} operators left", True))
        try:
            report = await self._wait_node(new.name, report)
        except HoldfastError as error:
            self.holdfast.say_error(error, f"{new.name} goes on by itself")
            return
        left = "" if report.done else f"; {len(report.left)} operators left, it goes on by itself"
        before = [one for one in new.before if one != new.name]
        words = f"before {', '.join(before)}, after {', '.join((*before, new.name))}: {new.name} is {report.state}{left}"
        self.holdfast.happens(Happening(words, True))

    def action_recover(self) -> None:
        """Take the marked node's copies from its peers, or have the marked lock server rejoin."""
        status, name = self.holdfast.cluster, self.query_one("#processes", LiveTable).marked
        process = next((one for one in status.processes if one.name == name), None) if status else None
        if process is not None and process.kind == "node":
            self.app.push_screen(RecoverScreen(name))
        elif process is not None and process.kind == "lock server":
            self._rejoin(process)
        else:
            self.notify("mark a node or a lock server first: the others keep no data", severity="warning")

    @work(group="administer")
    async def _rejoin(self, server: ProcessStatus) -> None:
        desk, name = self.holdfast.desk, server.name
        said = (
            f"Let {name} rejoin the lock servers?\n\nbefore: {server.state}; {server.detail}\nafter: it votes again, with a counter above"
            " its peers', once no attempt of before can count on what it answered (some seconds). For one that lost its data."
        )
        if not await self.app.push_screen_wait(Question(said, "Rejoin", "Leave it")):
            return
        try:
            if desk is None:
                raise self.holdfast.no_desk()
            after = await self.holdfast.ask(lambda _: desk.rejoin(name))
        except HoldfastError as error:
            self.holdfast.say_error(error, f"{name} did not rejoin")
            return
        line = next((one for one in after if one.startswith(name)), "")
        words = line.removeprefix(name).strip() or "asked to rejoin"
        self.holdfast.happens(Happening(f"{name}: before {server.state}, after {words}", True))

    @work(group="administer")
    async def action_pause(self) -> None:
        """Pause automatic failover, or resume it."""
        paused = bool(self.holdfast.cluster and self.holdfast.cluster.paused)
        why = ""
        if not paused:
            answer = await self.app.push_screen_wait(AskText("Pause automatic failover: nobody takes over for a primary that dies. Why?"))
            if answer is None:
                return
            why = answer
        try:
            await self.holdfast.administer(PauseFailover(paused=not paused, why=why, by=whoever()))
        except HoldfastError as error:
            self.holdfast.say_error(error, "nothing was changed")
            return
        self.holdfast.happens(Happening(f"automatic failover is {'on' if paused else 'paused'}", paused))

    def action_break(self) -> None:
        """Kill, freeze or continue a process of this machine."""
        if self.holdfast.desk is None:
            self.notify("the cluster's data folder is not on this machine", severity="warning")
            return
        if self.holdfast.desk.plan.client.production:
            self.notify("this cluster sells in earnest (client.production): nothing is broken from here", severity="warning")
            return
        self.app.push_screen(BreakScreen())


def _verdict(word: str) -> Text:
    return Text(word, VERDICT_STYLES.get(word, ""))


def _drain_words(name: str, led: list[str], *, drained: bool) -> str:
    """Return what is asked before a node is drained, or may lead again."""
    if drained:
        after = f"{name} may lead again; it gets primaries as others fail, or by `holdfast operator spread`"
        return f"Let {name} lead again?\n\nbefore: {name} is drained\nafter: {after}"
    some = f"{', '.join(led[:8])}{' …' if len(led) > 8 else ''}" or "none"
    after = f"{name} leads nothing and keeps its copies: it can be stopped without anybody noticing"
    return f"Drain {name}?\n\nbefore: {name} leads {len(led)} operators ({some})\nafter: {after}"
