"""`holdfast verify` proves: the ledgers of a cluster that runs or is stopped, receipts, an export, a history of what callers were told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest, InvariantBroken

if TYPE_CHECKING:
    from client.judging import Judgement

FAULTS_SHOWN = 20
ReceiptWords = Annotated[
    list[str] | None,
    typer.Option("--receipt", metavar="FILE|REF|TEXT", help="Also prove this receipt: a file, that of a booking kept here, or its text."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("verify", rich_help_panel="Run a cluster")(verify)


def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[EXPORT]", help="What `holdfast operator export` wrote, proved offline.")] = None,
    history: Annotated[Path | None, typer.Option("--history", help="What callers were told, as `holdfast chaos` writes it.")] = None,
    receipt: ReceiptWords = None,
    operator: Annotated[list[str] | None, typer.Option("--operator", help="Only the ledgers of these operators.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the running cluster, also where its files are on this machine.")] = False,
    json: Json = False,
) -> int:
    """Prove ledgers: the chain is whole, no seat had two owners, the counts and the payments agree, receipts hold.

    Without an export or a history: every copy of every operator in the data folder, whether the cluster runs or not; where there is none,
    the running cluster through its balancers. With --receipt alone and no copies here, only the receipts are asked about: no key is needed.
    """
    session: Session = context.obj
    of_cluster = bool(receipt or operator or live)
    if (file is not None) + (history is not None) + of_cluster > 1:
        raise InvalidRequest("name one of: an EXPORT, --history FILE, or of a cluster --receipt, --operator, --live", field="FILE")
    if history is not None:
        return _verify_history(session, history, json=json)
    if file is not None:
        return _verify_export(session, file, json=json)
    return _verify_cluster(session, receipt or [], operator or [], live=live, json=json)


def _verify_cluster(session: Session, receipts: list[str], operators: list[str], *, live: bool, json: bool) -> int:
    """Prove the copies on this disk, or the ledgers of the running cluster."""
    from client import proofs

    wanted = [proofs.receipt_named(session, word) for word in receipts]
    operators = list(dict.fromkeys(code.upper() for code in operators))
    if not live and proofs.stores_here(session):
        if not operators and wanted:
            operators = sorted({one.operator for one in wanted})
        document = proofs.on_this_disk(session, operators, wanted)
        _add_missing(session, document, operators)
    else:
        with session.connect(deadline_ms=30_000) as client:
            document = proofs.receipts_live(client, wanted) if wanted and not operators else proofs.live(session, client, operators, wanted)
    if json:
        session.print_json(document)
    else:
        _show_proof(session, document)
    return {"proved": exit_codes.DONE, "incomplete": exit_codes.PARTIAL}.get(document["state"], exit_codes.DAMAGED)


def _add_missing(session: Session, document: dict[str, Any], operators: list[str]) -> None:
    """Say which nodes' copies are not on this machine, and which operators have no copy here at all."""
    names = [str(row.get("name", "")) for row in session.mapping.get("datastore", {}).get("node", [])]
    absent = [name for name in names if not (session.folders.data / name).is_dir()]
    there = {copy["operator"] for copy in document["copies"]}
    document["missing"] += [f"{name}: its copies are not in {session.folders.data}" for name in absent]
    document["missing"] += [f"{code}: no copy of it is in {session.folders.data}" for code in operators if code not in there]
    if document["missing"] and document["state"] == "proved":
        document["state"] = "incomplete"


def _show_proof(session: Session, document: dict[str, Any]) -> None:
    """Print a verdict with a line for every copy."""
    from client.tables import Rows

    console = session.console()
    if document["copies"]:
        numbered = ("ENTRIES", "BOOKED", "ORDERS", "PAYMENTS")
        rows = Rows("OPERATOR", "NODE", *numbered, "VERDICT", right=numbered)
        for copy in document["copies"]:
            counts = copy["counts"]
            orders = counts.get("orders_confirmed", 0) + counts.get("orders_cancelled", 0)
            verdict = "damaged" if copy["damage"] else "wrong" if copy["violations"] else "whole"
            numbers = (str(copy["entries"]), str(counts.get("seats_booked", 0)), str(orders), str(counts.get("payments", 0)))
            rows.add_row(copy["operator"], copy["node"] or "-", *numbers, verdict)
        rows.print(console)
    for word, why in document["receipts"].items():
        console.print(f"receipt {word}: {why}", soft_wrap=True)
    for line in document["findings"]:
        tell(line)
    for line in document["missing"]:
        tell(f"not looked at: {line}")
    if document["state"] == "damaged":
        console.print(f"{len(document['findings'])} findings: this is not what was written, or not what should be")
    elif document["copies"]:
        console.print("every chain is whole, no seat ever had two owners, counts and payments agree")


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
