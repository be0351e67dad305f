"""The commands that compare copies and propose repairs: `cluster check`, `cluster fix`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import exit_codes
from client.command_names import names_of
from client.commands_looking import Json
from client.terminal import Session, tell

if TYPE_CHECKING:
    from client.comparing import Finding, Proposal
    from datastore import messages

Operators = Annotated[list[str] | None, typer.Argument(metavar="[OPERATOR...]", help="Only these operators; all by default.")]
Deep = Annotated[bool, typer.Option("--deep", help="Also read every ledger and every row on every disk, and replay them.")]


def register(cluster: typer.Typer) -> None:
    """Add the commands to the application's group for clusters."""
    cluster.command("check")(check)
    cluster.command("fix")(fix)


def check(
    context: typer.Context,
    operators: Operators = None,
    deep: Deep = False,
    every: Annotated[bool, typer.Option("--all", help="A line for every copy, also where all is well.")] = False,
    json: Json = False,
) -> int:
    """Compare the state of all copies at one entry of their ledgers, and say which node differs."""
    from client import comparing

    session: Session = context.obj
    answer = _compared(session, operators, deep=deep, quiet=json)
    found = comparing.findings(answer)
    verdict = comparing.worst(found)
    if json:
        session.print_json({"verdict": verdict, "copies": [finding._asdict() for finding in found], "silent": answer.silent})
    else:
        _show(session, found, every=every)
    return _exit_code(verdict)


def _compared(session: Session, operators: list[str] | None, *, deep: bool, quiet: bool = False) -> messages.CheckAnswer:
    from client import auditing, keys

    admin_key = keys.admin_key(session.folders)
    if deep and not quiet:
        tell("reading every ledger on every disk; this takes a while, sales go on")
    with session.connect(deadline_ms=30_000) as client:
        return auditing.compare(client.call, admin_key, [code.upper() for code in operators or []], deep=deep)


def _exit_code(verdict: str) -> int:
    from client import comparing

    if verdict == comparing.EQUAL:
        return exit_codes.DONE
    return exit_codes.DAMAGED if verdict in (comparing.DIFFERS, comparing.DAMAGED) else exit_codes.PARTIAL


def _show(session: Session, found: list[Finding], *, every: bool) -> None:
    from client import comparing
    from client.tables import Rows

    console = session.console()
    shown = [finding for finding in found if every or finding.verdict != comparing.EQUAL]
    if shown:
        rows = Rows("OPERATOR", "NODE", "ROLE", "LSN", "STATE", "VERIFIED TO", "VERDICT", "", right=("LSN", "VERIFIED TO"), fold=("",))
        for finding in shown:
            numbers = (str(finding.lsn), finding.digest[:8], str(finding.verified_lsn))
            rows.add_row(finding.operator, finding.node, finding.role, *numbers, finding.verdict, finding.detail)
        rows.print(console)
    operators = {finding.operator for finding in found}
    amiss = {finding.operator for finding in found if finding.verdict != comparing.EQUAL}
    well = len(operators) - len(amiss)
    console.print(f"{well} of {len(operators)} operators: every copy has the same state" + ("" if not amiss else f"; {len(amiss)} not"))


def fix(
    context: typer.Context,
    operators: Operators = None,
    deep: Deep = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do all of it without asking.")] = False,
    json: Json = False,
) -> int:
    """Check, propose a repair for everything that is amiss, and carry out those that you agree to."""
    from client import comparing

    session: Session = context.obj
    answer = _compared(session, operators, deep=deep, quiet=json)
    found = comparing.findings(answer)
    made = _proposals(session, answer, found, names_of(context))
    if json:
        document: dict[str, Any] = {"verdict": comparing.worst(found), "proposals": [proposal._asdict() for proposal in made]}
        session.print_json(document)
        if not yes:
            return _exit_code(comparing.worst(found))
    elif not made:
        _show(session, found, every=False)
        left = comparing.worst(found)
        tell("nothing to repair" if left == comparing.EQUAL else "no command repairs this; it is for a person")
        return _exit_code(left)
    done = 0
    for proposal in made:
        done += _carry_out(session, proposal, yes=yes)
    tell(f"{done} of {len(made)} repairs done; look with: holdfast cluster check")
    return exit_codes.DONE if done == len(made) else exit_codes.PARTIAL


def _proposals(session: Session, answer: messages.CheckAnswer, found: list[Finding], known: list[str]) -> list[Proposal]:
    from client import comparing, health

    with session.connect() as client:
        status = client.status()
    dead = [process.name for process in status.processes if process.verdict == "down"]
    forgetful = health.forgetful(status)
    return comparing.proposals(
        found,
        answer.primaries,
        dead,
        known,
        supervised=health.supervised(session.folders),
        lost=comparing.lost_copies(status.partitions),
        forgetful=forgetful,
    )


def _carry_out(session: Session, proposal: Proposal, *, yes: bool) -> bool:
    """Ask, unless told not to, and run the command; return whether it was done."""
    tell(f"{proposal.reason}")
    words = "holdfast " + " ".join(proposal.command)
    if not yes and not typer.confirm(f"run: {words}?", err=True):
        return False
    return session.run_again(proposal.command) == exit_codes.DONE
