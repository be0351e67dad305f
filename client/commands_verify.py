"""The command that proves: an export of an operator, or a history of what callers were told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest, InvariantBroken

if TYPE_CHECKING:
    from client.judging import Judgement

FAULTS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("verify", rich_help_panel="Run a cluster")(verify)


def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="What `holdfast operator export` wrote.")] = None,
    history: Annotated[Path | None, typer.Option("--history", help="What callers were told, as `holdfast chaos` writes it.")] = None,
    json: Json = False,
) -> int:
    """Prove an export offline (its chain is whole, no seat had two owners, its state follows from its ledger), or judge a history."""
    session: Session = context.obj
    if history is not None and file is None:
        return _verify_history(session, history, json=json)
    if file is None or history is not None:
        raise InvalidRequest("name one of: a FILE that `holdfast operator export` wrote, --history FILE", field="FILE")
    return _verify_export(session, file, json=json)


def _verify_history(session: Session, file: Path, *, json: bool) -> int:
    """Judge a history: is there an order of everything that explains every answer?"""
    from client.history import read
    from client.judging import judge

    try:
        with file.open("rb") as lines:
            told = read(lines)
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{file}: no such file", file=str(file), reason="not found") from error
    judgement = judge(told)
    counts = [{"kind": kind, "outcome": outcome, "count": count} for (kind, outcome), count in sorted(judgement.counts.items())]
    if json:
        session.print_json(
            {
                "file": str(file),
                "scenario": told.header.scenario,
                "seed": told.header.seed,
                "records": len(told.records),
                "counts": counts,
                "seats": judgement.seats,
                "undecided": judgement.undecided,
                "longest_gap_ms": judgement.gap_us // 1000,
                "violations": judgement.faults,
            }
        )
    else:
        _show_judgement(session, judgement, len(told.records))
    if judgement.faults:
        return exit_codes.DAMAGED
    return exit_codes.PARTIAL if judgement.undecided else exit_codes.DONE


def _show_judgement(session: Session, judgement: Judgement, records: int) -> None:
    from client.tables import Rows

    console = session.console()
    rows = Rows("OPERATION", "DONE", "REFUSED", "UNKNOWN", right=("DONE", "REFUSED", "UNKNOWN"))
    for kind in dict.fromkeys(kind for kind, _ in sorted(judgement.counts)):
        rows.add_row(kind, *(f"{judgement.counts.get((kind, outcome), 0):,}" for outcome in ("done", "refused", "unknown")))
    rows.print(console)
    console.print(f"{records:,} records; the longest time in which nothing was done: {judgement.gap_us / 1e6:.1f} s", soft_wrap=True)
    for fault in judgement.faults[:FAULTS_SHOWN]:
        tell(fault)
    if judgement.undecided:
        tell(f"given up, neither right nor wrong: {', '.join(judgement.undecided[:FAULTS_SHOWN])}")
    if judgement.faults:
        console.print(f"{len(judgement.faults)} violations")
    elif not judgement.undecided:
        console.print(f"every answer can be explained by one order of everything, on each of {judgement.seats} seats", soft_wrap=True)


def _verify_export(session: Session, file: Path, *, json: bool) -> int:
    """Prove an export offline: its chain is whole, no seat had two owners, its state follows from its ledger."""
    from datastore.exporting import verify_export

    try:
        with file.open("rb") as content:
            proof = verify_export(content.read)
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{file}: no such file", file=str(file), reason="not found") from error
    except (HoldfastError, InvariantBroken) as error:
        if json:
            session.print_json(error.to_data())
        else:
            tell(f"damaged: {file}: {error.detail}")
        return exit_codes.DAMAGED
    report = proof.report
    document = {
        "file": str(file),
        "operator": proof.operator,
        "exported_ms": proof.exported_ms,
        "entries": report.entries,
        "seats": report.seats,
        "orders": report.orders,
        "rows": proof.rows,
        "last_lsn": report.end.lsn,
        "last_hash": report.end.hash.hex(),
        "state_digest": proof.state_digest.hex(),
        "violations": report.violations,
    }
    if json:
        session.print_json(document)
    else:
        console = session.console()
        heading = f"operator {proof.operator}: {report.entries} entries, {report.seats} seats touched, {report.orders} orders"
        console.print(heading, soft_wrap=True)
        console.print(f"chain whole up to lsn {report.end.lsn}, hash {report.end.hash.hex()}", soft_wrap=True)
        console.print(f"its {proof.rows} rows follow from it, state {proof.state_digest.hex()}", soft_wrap=True)
        for violation in report.violations:
            tell(violation)
        console.print("no seat ever had two owners" if not report.violations else f"{len(report.violations)} violations")
    return exit_codes.DAMAGED if report.violations else exit_codes.DONE
