"""A node's copies taken from its peers: what would be done with each and what only the old file had, then how far each is."""

from __future__ import annotations

from asyncio import get_running_loop, sleep
from typing import ClassVar

from rich.filesize import decimal
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from client import recovering
from client.tui.happenings import Happening
from client.tui.live_table import LiveTable, Row
from client.tui.page import Page
from client.tui.question import Question
from datastore.administration import LookAtCluster
from datastore.errors import HoldfastError, InvalidRequest
from datastore.wire import ManagerStatus
from datastore.wire_recovery import RecoverAsk, RecoverReport

WRONG, GOOD, BUSY = "#D55E00", "#009E73", "#E69F00"
BAR = 12  # Characters of a bar.
NAMED = 6  # Copies that the question names; all of them are in the table behind it.


class RecoverScreen(Page[object]):
    """A line for each copy of the node."""

    heading = "Recover"
    HELP = """
    # Recover a node
    Each copy of the node with where it would come from, and what only the old file has: nothing that was acknowledged to anybody. **y**
    does it after a question: nothing is replaced before a peer's snapshot is whole and verified, and sales go on. **r** plans anew.
    **Esc** leaves; a recovery under way goes on by itself, and shows here again when it is asked for again.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "recover", "Recover", id="recover.yes"),
        Binding("r", "plan", "Plan again", id="recover.plan"),
        Binding("escape", "app.pop_screen", "Back", id="recover.back"),
    ]

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node
        self.planned: list[RecoverReport] = []
        self.busy = False

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        yield LiveTable("Operator", "From", "State", "Done", "What", id="operated")

    def on_mount(self) -> None:
        self.query_one("#operated").focus()
        self.action_plan()

    def _say(self, text: str, colour: str = "") -> None:
        self.query_one("#said", Static).update(Text(text, colour))

    @property
    def _ask(self) -> recovering.Ask:
        desk = self.holdfast.desk
        if desk is None:
            raise self.holdfast.no_desk()
        return desk.recovery(self.holdfast.gateway.client)

    # --- the plan ------------------------------------------------------------------------------------------------------

    @work(group="plan", exclusive=True)
    async def action_plan(self) -> None:
        """Ask the node what it would do."""
        if self.busy:
            self.notify("a recovery is under way here", severity="warning")
            return
        table = self.query_one("#operated", LiveTable)
        table.loading = True
        self._say(f"{self.node} compares its copies with its peers' …   Esc gives it up")
        try:
            self.planned = await self.holdfast.ask(lambda _: self._ask(RecoverAsk(self.node, [], "", "plan")))
            if not self.planned:
                raise InvalidRequest(f"{self.node} keeps no copy of any operator, and none is expected there", field="node")
        except HoldfastError as error:
            self._say(error.detail, WRONG)
            return
        finally:
            table.loading = False
        self._bring(self.planned, planned=True)
        refused = sum(one.state == "refused" for one in self.planned)
        can = len(self.planned) - refused
        self._say(f"{can} of {len(self.planned)} copies can be taken from peers" + ("; y does it" if can else ""), GOOD if can else WRONG)

    def _bring(self, reports: list[RecoverReport], *, planned: bool = False) -> None:
        self.query_one("#operated", LiveTable).bring([_row(one, planned=planned) for one in reports])

    # --- doing it ------------------------------------------------------------------------------------------------------

    @work(group="recover")
    async def action_recover(self) -> None:
        """Replace the copies after a question, and follow it until they vote."""
        wanted = [one for one in self.planned if one.state != "refused"]
        if self.busy or not wanted:
            self.notify("a recovery is under way here" if self.busy else "there is no copy that could be taken", severity="warning")
            return
        if not await self.app.push_screen_wait(Question(_question(self.node, wanted), "Recover", "Leave it")):
            return
        self.busy = True
        try:
            reports, left = await self._recovered()
        except HoldfastError as error:
            self._say(error.detail, WRONG)
            self.holdfast.say_error(error, "not recovered")
            return
        finally:
            self.busy = False
        done = [one for one in reports if one.state == "done"]
        failed = [one.operator for one in reports if one.state == "failed"]
        words = f"{self.node}: before {len(wanted)} copies to recover, after {len(done)} are there again"
        words += f"; failed: {', '.join(failed)}" if failed else ""
        words += f"; not voting yet, the managers take them in: {', '.join(left)}" if left else " and vote" if done else ""
        self._say(words, WRONG if failed else GOOD)
        self.holdfast.happens(Happening(words, not failed))

    async def _recovered(self) -> tuple[list[RecoverReport], list[str]]:
        """Return how each copy ended, and those that do not vote yet.

        Raises:
            HoldfastError: It could not be started, or takes longer than a person waits.
        """
        app, node, planned = self.holdfast, self.node, self.planned
        status: ManagerStatus = await app.administer(LookAtCluster())
        awaited, before = recovering.expected(status, node, [one.operator for one in planned]), recovering.identities(status, node)
        ask = await app.ask(lambda _: self._ask)
        begun = await app.ask(lambda _: recovering.started(ask, node, planned))
        steps, reports = recovering.progress(ask, node, begun), begun
        self._say(f"{node} takes its copies from its peers; sales go on")
        while (step := await app.ask(lambda _: next(steps, None))) is not None:
            reports = step
            self._bring(reports)
        done = [one for one in reports if one.state == "done" and one.operator in awaited]
        left = {one.operator: before.get(one.operator, "") if one.fresh else "" for one in done}
        self._say("the copies are there; the managers let them vote, one after the other")
        return reports, await self._voting(left)

    async def _voting(self, left: dict[str, str]) -> list[str]:
        """Return the operators whose recovered copy does not vote when the wait is over; `left` as in `still_learning`."""
        clock, waiting = get_running_loop().time, list(left)
        deadline = clock() + recovering.JOIN_S
        while waiting and clock() < deadline:
            await sleep(recovering.POLL_S)
            try:
                waiting = recovering.still_learning(await self.holdfast.administer(LookAtCluster()), self.node, left)
            except recovering.SILENCES:
                continue  # Whoever is silent is back before the time is over, or the managers go on without us.
        return waiting


def _question(node: str, wanted: list[RecoverReport]) -> str:
    some = "\n".join(f"  {one.operator}: {_here(one)}, {recovering.lost_words(one.lost)}" for one in wanted[:NAMED])
    more = f"\n  and {len(wanted) - NAMED} more" if len(wanted) > NAMED else ""
    peers = ", ".join(sorted({one.source for one in wanted if one.source}))
    after = f"each is a verified snapshot of its peer ({peers}) and votes again; an old file is kept beside it"
    return f"Recover {node}?\n\nbefore:\n{some}{more}\nafter: {after}"


def _here(report: RecoverReport) -> str:
    return f"entry {report.here_lsn} is here" if report.here_lsn else "nothing is here"


def _row(report: RecoverReport, *, planned: bool) -> Row:
    colour = {"refused": WRONG, "failed": WRONG, "done": GOOD}.get(report.state, BUSY)
    share = report.bytes_done / report.bytes_total if report.bytes_total else float(report.state == "done")
    filled = round(BAR * share)
    bar = Text("-") if planned or report.state == "refused" else Text("█" * filled + "░" * (BAR - filled), colour)
    if report.bytes_total and not planned:
        bar.append(f" {decimal(report.bytes_done)} of {decimal(report.bytes_total)}")
    what = report.why if planned else report.detail or report.why
    words = f"{_here(report)}, {recovering.lost_words(report.lost)}; {what}" if report.state != "refused" else what
    state = "planned" if planned and report.state != "refused" else report.state
    return report.operator, [report.operator, report.source or "-", Text(state, colour), bar, words]
