"""Payments as the administrator sees them: what was paid against what is booked, and the cases that a person has to look at."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import RichLog, Static

from client.tui.live_table import LiveTable, Row
from client.tui.page import Page
from datastore.errors import HoldfastError
from datastore.messages import AccountLine, AccountsAnswer
from datastore.model import Money

AMOUNTS = ("Booked", "Retained", "Captured", "Refunded", "Difference", "Share")
WRONG, GOOD, OPEN = "#D55E00", "#009E73", "#E69F00"


class PaymentsScreen(Page[object]):
    """A line for each operator and currency; below, what does not agree and what is open."""

    heading = "Payments"
    HELP = """
    # Payments
    Orders, the ledgers' rows of payments and the provider's own list are compared, which takes a moment: **r** does it again. Captured
    less refunded is booked plus retained, to the cent; `open` payments are still to be finished and in no other figure. Below stand the
    cases that a person has to look at, and whatever does not agree. It needs the administrator's key.
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "again", "Compare again", id="payments.again")]

    def __init__(self) -> None:
        super().__init__()
        self.answer: AccountsAnswer | None = None

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        yield LiveTable("Operator", "Orders", *AMOUNTS, "Open", id="operated")
        yield RichLog(id="happened", max_lines=500, wrap=True)

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
        except HoldfastError as error:
            said.update(Text(error.detail, WRONG))
            return
        finally:
            table.loading = False
        self.answer = answer
        table.bring([_row(line) for line in answer.lines])
        self._tell(answer)

    def _tell(self, answer: AccountsAnswer) -> None:
        log = self.query_one("#happened", RichLog)
        log.clear()
        for finding in answer.findings:
            log.write(Text(f"does not agree: {finding}", WRONG))
        for case in answer.cases:
            log.write(Text(f"for a person to look at: {case}", OPEN))
        open_count = sum(line.open for line in answer.lines)
        verdict = f"{len(answer.findings)} findings" if answer.findings else "the books agree, to the cent"
        words = f"{verdict}; {len(answer.cases)} cases, {open_count} payments open, {answer.intents} at the provider"
        self.query_one("#said", Static).update(Text(words, WRONG if answer.findings else OPEN if answer.cases else GOOD))


def _row(line: AccountLine) -> Row:
    amounts = (line.booked, line.retained, line.captured, line.refunded, line.difference, line.share)
    words: list[str | Text] = [str(Money(minor, line.currency)) for minor in amounts]
    return f"{line.operator} {line.currency}", [line.operator, str(line.orders), *words, str(line.open)]
