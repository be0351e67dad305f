"""The command that imports timetables: all rows of an operator or none, every bad row named, a bar while it works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import exit_codes, inputs
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console

    from client.importing import OperatorReport
    from client.timetables import Dataset

IMPORT_MS = 60_000
PROBLEMS_SHOWN = 50
ROWS_SHOWN = 20

Progress = Callable[[str, int, int], None]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("import", rich_help_panel="Run a cluster")(import_timetables)


def import_timetables(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Timetables: see docs/timetable-format.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    dataset: Annotated[str, typer.Option("--dataset", help="Import under this name instead of the file's own.")] = "",
    operator: Annotated[list[str] | None, typer.Option("--operator", help="Only this operator's rows; may be repeated.")] = None,
    valid_from: Annotated[str, typer.Option("--from", help="First day on sale: 2026-12-01, today, +3d.")] = "today",
    days: Annotated[int | None, typer.Option("--days", min=1, max=3660, help="Days on sale; by default the dataset's own, or 330.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The operator's key; by default those in the data folder.")] = None,
    create: Annotated[bool, typer.Option("--create-operators", help="Make operators that the cluster does not know, unasked.")] = False,
    json: Json = False,
) -> int:
    """Replace operators' rows of a dataset: all rows of an operator or none, every bad row named."""
    from client import importing

    session: Session = context.obj
    if dataset and len(paths) > 1:
        raise InvalidRequest("--dataset names one dataset: import one path at a time with it", field="dataset")
    first = date.fromisoformat(inputs.day(valid_from, date.today()))
    only = [code.upper() for code in operator or []]
    documents: list[dict[str, Any]] = []
    code = exit_codes.DONE
    for path in paths:
        if not path.exists():
            raise ConfigInvalid(f"{path}: no such file or folder", file=str(path), reason="not found")
        with progress_bar(quiet=json) as progress:
            read = importing.load_dataset(path, valid_from=first, days=days or 0, dataset=dataset, progress=progress)
        make = create or (not dry_run and key is None and _offered(session, read, only, json=json))
        with progress_bar(quiet=json) as progress:
            reports = _send(session, read, only, key, dry_run, make, progress)
        documents.append(as_document(path, read, reports, dry_run))
        if not json:
            show(session, path, read, reports, dry_run)
        if read.problems or any(report.error for report in reports):
            refused_all = not any(not report.error for report in reports)
            code = max(code, exit_codes.INVALID if refused_all else exit_codes.PARTIAL)
    if json:
        session.print_json(documents[0] if len(documents) == 1 else {"imports": documents})
    return code


def _offered(session: Session, read: Dataset, only: list[str], *, json: bool) -> bool:
    """Return whether operators that the cluster does not know are to be made: asked where somebody can answer."""
    import sys

    if json or not sys.stdin.isatty():
        return False
    with session.connect() as client:
        known = {one.code for one in client.operators() if one.kind}
    unknown = [code for code in (only or read.operators) if code in read.operators and code not in known]
    if not unknown:
        return False
    return typer.confirm(f"the cluster does not know {', '.join(unknown)}; make their partitions?", err=True)


def _send(
    session: Session, read: Dataset, only: list[str], key: Path | None, dry_run: bool, create: bool, progress: Progress
) -> list[OperatorReport]:
    """Send a dataset: with the key named, else with the keys of the data folder, new operators' keys made there."""
    from client import importing, keys

    folders = session.folders
    admin = folders.secrets / "admin.key"
    admin_key = keys.read_secret(admin) if key is None and admin.exists() else ""
    codes = only or list(read.operators)
    if key is not None:
        held = {code: keys.read_secret(key) for code in codes}
    elif admin_key and not dry_run:
        held = {code: keys.ensure_secret(folders.operator_key(code))[0] for code in codes if code in read.operators}
    else:
        held = {code: keys.read_secret(folders.operator_key(code)) for code in codes if folders.operator_key(code).exists()}
    with session.connect(deadline_ms=IMPORT_MS) as client:
        before = {one.code for one in client.operators() if one.kind} if create and not dry_run else set(codes)
        reports = importing.send(
            read,
            client.call,
            admin_key=admin_key,
            operator_keys=held,
            operator_key_digests={code: keys.digest(secret) for code, secret in held.items()},
            dry_run=dry_run,
            only=only,
            create=create,
            progress=progress,
        )
    session.wait_listed([report.operator for report in reports if not report.error and report.operator not in before])
    return reports


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr while something is sent; without a terminal nothing is shown."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


def as_document(path: Path, read: Dataset, reports: list[OperatorReport], dry_run: bool) -> dict[str, Any]:
    """Return the import as plain data for --json."""
    return {
        "path": str(path),
        "dataset": read.name,
        "dry_run": dry_run,
        "operators": [
            {
                "operator": report.operator,
                "added": report.added,
                "changed": report.changed,
                "removed": report.removed,
                "unchanged": report.unchanged,
                "error": str(report.error or ""),
                "rows": [
                    {"mark": row.mark, "what": row.what, "fields": {one.field: [one.before, one.after] for one in row.fields}}
                    for row in report.rows
                ],
                "rows_left_off": report.rows_left_off,
            }
            for report in reports
        ],
        "problems": [problem._asdict() for problem in read.problems],
        "warnings": [warning._asdict() for warning in read.warnings],
    }


def show(session: Session, path: Path, read: Dataset, reports: list[OperatorReport], dry_run: bool) -> None:
    """Print one line for each operator, and each bad row on stderr."""
    from client.tables import Rows

    numbers = ("ADDED", "CHANGED", "REMOVED", "UNCHANGED")
    rows = Rows("OPERATOR", *numbers, "", right=numbers, fold=("",))
    for report in reports:
        counts = (report.added, report.changed, report.removed, report.unchanged)
        rows.add_row(report.operator, *(str(count) for count in counts), str(report.error or ""))
    console = session.console()
    console.print(f"{path}: dataset {read.name}" + (" (dry run: nothing was changed)" if dry_run else ""), soft_wrap=True)
    rows.print(console)
    for report in reports:
        _show_rows(console, report)
    for problem in read.problems[:PROBLEMS_SHOWN]:
        tell(f"{problem.file}:{problem.line}: {problem.reason}")
    if len(read.problems) > PROBLEMS_SHOWN:
        tell(f"… and {len(read.problems) - PROBLEMS_SHOWN} more; --json has them all")
    if read.warnings:
        tell(f"{len(read.warnings)} rows were understood by a guess, the first: {read.warnings[0].reason}; --json has them all")


def _show_rows(console: Console, report: OperatorReport) -> None:
    """Print the first rows that a dry run would change, with what is different in each."""
    for row in report.rows[:ROWS_SHOWN]:
        fields = "; ".join(f"{field.field} {field.before or 'none'} → {field.after or 'none'}" for field in row.fields)
        console.print(f"{row.mark} {report.operator} {row.what}" + (f": {fields}" if fields else ""), soft_wrap=True, markup=False)
    left_off = len(report.rows) - ROWS_SHOWN + report.rows_left_off
    if left_off > 0:
        which = f"the first {len(report.rows)}" if report.rows_left_off else "them all"
        tell(f"… and {left_off} more of {report.operator}; --json has {which}")
