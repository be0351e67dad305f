"""Payments as the administrator sees them: what was paid against what is booked, and the cases that a person has to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Static

from client.show import clock
from client.tui.close_case_screen import CloseCaseScreen
from client.tui.happenings import Happening
from client.tui.lines import Lines
from client.tui.live_table import LiveTable, Row
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import AccountLine, AccountsAnswer, CaseInfo
from datastore.model import Money

AMOUNTS = ("Difference", "Booked", "Captured", "Refunded", "Retained", "By hand", "Share")
WRONG, GOOD, OPEN = "#D55E00", "#009E73", "#E69F00"


class PaymentsScreen(Page[object]):
    """A line for each operator and currency; below, what does not agree and what is open."""

    heading = "Payments"
    HELP = """
    # Payments
    Orders, the ledgers' rows of payments and the provider's own list are compared, which takes a moment: **r** does it again. Captured
    less refunded is booked plus retained, to the cent; `open` payments are still to be finished and in no other figure. Below stand the
    cases that a person has to look at: **Tab** goes there, **c** or **Enter** closes the marked one once it was seen to without the
    provider. Last come whatever does not agree and what people closed. It needs the administrator's key.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "Compare again", id="payments.again"),
        Binding("c", "close_case", "Close a case", id="payments.close"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.answer: AccountsAnswer | None = None
        self.cases: dict[str, CaseInfo] = {}

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        yield LiveTable("Operator", "Orders", "Open", *AMOUNTS, id="operated")
        yield LiveTable("Since", "Operator", "Booking", "Due", "Amount", "Why", "Payment", id="cases")
        yield Lines(id="happened", max_lines=500)

    def on_screen_resume(self) -> None:
        self.query_one("#operated").focus()
        if self.answer is None:
            self.action_again()

    @work(group="accounts", exclusive=True)
    async def action_again(self) -> None:
        """Compare the books."""
        said, table, desk = self.query_one("#said", Static), self.query_one("#operated", LiveTable), self.holdfast.desk
        said.update("orders, ledgers and the provider's list are compared …")
        table.loading = self.answer is None
        try:
            if desk is None:
                raise self.holdfast.no_desk()
            answer = await self.holdfast.ask(lambda client: client.accounts(desk.admin_key()))
            found = await self.holdfast.ask(lambda client: client.payment_cases(desk.admin_key()))
        except HoldfastError as error:
            said.update(Text(error.detail, WRONG))
            return
        finally:
            table.loading = False
        self.answer = answer
        table.bring([_row(line) for line in answer.lines])
        self.cases = {case.intent: case for case in found.cases if case.due}
        cases = self.query_one("#cases", LiveTable)
        cases.bring([_case_row(case) for case in self.cases.values()])
        cases.display = bool(self.cases)
        self._tell(answer, {**answer.partial, **found.partial})

    @on(DataTable.RowSelected, "#cases")
    def _chosen(self) -> None:
        self.action_close_case()

    @work(group="close")
    async def action_close_case(self) -> None:
        """Close the marked case after what is and what will be was agreed to."""
        case = self.cases.get(self.query_one("#cases", LiveTable).marked)
        if case is None:
            self.notify("no payment is left for a person to look at")
            return
        closed = await self.app.push_screen_wait(CloseCaseScreen(case))
        if closed is None:
            return
        hand = f"{case.amount} by hand, entry {closed.lsn}" if closed.closed else "the provider has done what was due"
        self.holdfast.happens(Happening(f"{case.intent}: before {case.due} of {case.amount} due, after {hand}", True))
        self.action_again()

    def _tell(self, answer: AccountsAnswer, partial: Mapping[str, str]) -> None:
        log = self.query_one("#happened", Lines)
        log.forget()
        for finding in answer.findings:
            log.tell(Text(f"does not agree: {finding}", WRONG))
        for operator, why in partial.items():
            log.tell(Text(f"incomplete: {operator}: {why}", OPEN))
        for closing in answer.closings:
            log.tell(Text(closing))
        open_count = sum(line.open for line in answer.lines)
        verdict = f"{len(answer.findings)} findings" if answer.findings else "the books agree, to the cent"
        words = f"{verdict}; {len(answer.cases)} cases, {open_count} payments open, {answer.intents} at the provider"
        self.query_one("#said", Static).update(Text(words, WRONG if answer.findings else OPEN if answer.cases else GOOD))


def _case_row(case: CaseInfo) -> Row:
    words = (clock(case.since_ms), case.operator, case.reference or "-", case.due, str(case.amount), case.why, case.intent)
    return case.intent, list(words)


def _row(line: AccountLine) -> Row:
    amounts = (line.difference, line.booked, line.captured, line.refunded, line.retained, line.by_hand, line.share)
    words: list[str | Text] = [str(Money(minor, line.currency)) for minor in amounts]
    return f"{line.operator} {line.currency}", [line.operator, str(line.orders), str(line.open), *words]
