"""The commands about payments: pay, transaction, audit, payments cases, payments close."""

from __future__ import annotations

from typing import Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.commands_selling import LAST, HoldId, PassengersFile, RequestId, confirm_hold, people_of, reference_of
from client.terminal import Session, tell
from datastore.model import Money

AUDIT_MS = 60_000
CASES_MS = 30_000

payments = typer.Typer(name="payments", help="List and close the payments that a person has to look at.", no_args_is_help=True)

Operators = Annotated[list[str] | None, typer.Argument(metavar="[OPERATOR...]", help="Only these; all by default.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(rich_help_panel="Travel")(pay)
    app.command(rich_help_panel="Travel")(transaction)
    app.command(rich_help_panel="Run a cluster")(audit)
    app.add_typer(payments, rich_help_panel="Run a cluster")


def pay(
    context: typer.Context,
    hold_id: HoldId,
    card: Annotated[str, typer.Argument(metavar="CARD", help="The card, as the provider knows it, e.g. pm_card_visa.")],
    passenger: Annotated[
        list[str] | None, typer.Option("--passenger", "-p", help='Who sits there, in the order of the seats: "Given Surname".')
    ] = None,
    passengers: PassengersFile = None,
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Pay for a hold and book it: the same as confirm with --pay."""
    return confirm_hold(context.obj, hold_id, people_of(passenger, passengers), request_id, card, json=json)


def transaction(
    context: typer.Context,
    word: Annotated[str, typer.Argument(metavar="HOLD|REF", help="A hold, a booking kept here, or: last (the hold made last).")],
    token: Annotated[str, typer.Option("--token", help="The manage token, where the booking is not kept here.")] = "",
    json: Json = False,
) -> int:
    """Say what became of a payment."""
    session: Session = context.obj
    with session.connect() as client:
        if "." in word:
            answer = client.query_transaction(word)
        elif word.lower() == LAST and session.wallet.last_hold():
            # A payment that is not done yet has no booking: what was held last is what was paid last.
            answer = client.query_transaction(session.wallet.last_hold())
        else:
            reference = reference_of(session, word)
            answer = client.query_transaction(reference=reference, token=token or session.wallet.token(reference))
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client.show import pairs

    rows = pairs()
    rows.add_row("payment", answer.state)
    rows.add_row("hold", answer.hold_id)
    if answer.intent:
        rows.add_row("booking", answer.reference or "-")
        rows.add_row("amount", str(answer.amount))
        rows.add_row("captured", str(answer.captured))
        rows.add_row("refunded", str(answer.refunded))
        rows.add_row("provider", f"{answer.intent} {answer.provider_state or 'does not answer'}")
    if answer.case:
        rows.add_row("case", answer.case)
    for one in answer.changes:
        rows.add_row("change", f"{one.state}: {one.captured} of {one.amount} captured, {one.refunded} refunded")
        rows.add_row("provider", f"{one.intent} {one.provider_state or 'does not answer'}")
        if one.case:
            rows.add_row("case", one.case)
    rows.print(session.console())
    return session.done(answer)


def audit(
    context: typer.Context,
    operators: Operators = None,
    json: Json = False,
) -> int:
    """Check that what was paid is what is booked, to the cent: orders, ledgers and the provider's own list are compared."""
    from client import keys

    session: Session = context.obj
    admin_key = keys.admin_key(session.folders)
    with session.connect(deadline_ms=AUDIT_MS) as client:
        answer = client.accounts(admin_key, [code.upper() for code in operators or []])
    unfinished = sum(line.open for line in answer.lines)
    if json:
        session.print_json(answer)
    else:
        from client.tables import Rows

        console = session.console()
        right = ("ORDERS", "BOOKED", "RETAINED", "CAPTURED", "REFUNDED", "BY HAND", "DIFFERENCE", "SHARE", "OPEN")
        rows = Rows("OPERATOR", *right, right=right)
        for line in answer.lines:
            amounts = (line.booked, line.retained, line.captured, line.refunded, line.by_hand, line.difference, line.share)
            rows.add_row(line.operator, str(line.orders), *(str(Money(minor, line.currency)) for minor in amounts), str(line.open))
        rows.print(console)
        for case in answer.cases:
            tell(f"for a person to look at: {case}")
        for closing in answer.closings:
            tell(closing)
        for finding in answer.findings:
            tell(f"does not agree: {finding}")
        hand = ", and by hand," if any(line.by_hand for line in answer.lines) else ""
        agree = f"captured less refunded{hand} is booked plus retained, to the cent; {answer.intents} payments at the provider"
        console.print(agree if not answer.findings else f"{len(answer.findings)} findings", soft_wrap=True)
        if unfinished:
            tell(f"{unfinished} payments are still to be finished and in no figure")
    if answer.findings:
        return exit_codes.DAMAGED
    return exit_codes.PARTIAL if answer.cases or unfinished else session.done(answer)


@payments.command()
def cases(
    context: typer.Context,
    operators: Operators = None,
    closed: Annotated[bool, typer.Option("--closed", help="Also those that people have closed.")] = False,
    json: Json = False,
) -> int:
    """List the payments that a person has to look at: what the provider will not do, and why."""
    from client import keys

    session: Session = context.obj
    admin_key = keys.admin_key(session.folders)
    with session.connect(deadline_ms=CASES_MS) as client:
        answer = client.payment_cases(admin_key, [code.upper() for code in operators or []], closed=closed)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client.show import clock
    from client.tables import Rows

    rows = Rows("SINCE", "OPERATOR", "BOOKING", "PAYMENT", "DUE", "AMOUNT", "WHY", right=("AMOUNT",), fold=("WHY",))
    for case in answer.cases:
        what = (case.operator, case.reference or case.hold_id, case.intent)
        if case.due:
            rows.add_row(clock(case.since_ms), *what, case.due, str(case.amount), case.why)
        for one in case.closings if closed else ():
            rows.add_row(clock(one.stamp_ms), *what, "closed", str(one.amount), f"{one.who}: {one.why}")
    if answer.cases:
        rows.print(session.console())
    else:
        tell("no payment is left for a person to look at")
    return session.done(answer)


@payments.command()
def close(
    context: typer.Context,
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="The payment, as `holdfast payments cases` names it.")],
    why: Annotated[str, typer.Option("--why", help="What was done about it; stays in the ledger, so name no traveller.")],
    by: Annotated[str, typer.Option("--by", help="Who says so; who runs the command by default.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Close a payment's case that was seen to without the provider: what is due counts as done by hand."""
    from client import keys
    from client.administering import agreed, whoever

    session: Session = context.obj
    agreed(f"{payment}: what is due counts as done by hand from now on, and the provider is not asked any more", yes=yes, json=json)
    admin_key = keys.admin_key(session.folders)
    with session.connect(deadline_ms=CASES_MS) as client:
        answer = client.close_payment_case(admin_key, payment, by or whoever(), why, request_id=request_id)
    if json:
        session.print_json(answer)
    elif answer.closed:
        made = answer.case.closings[-1]
        session.console().print(f"{payment} closed by {made.who}, {made.amount} by hand, entry {answer.lsn}", soft_wrap=True)
    else:
        session.console().print(f"{payment} needs nobody: the provider has done what was due", soft_wrap=True)
    return session.done(answer)
