"""The engine of `holdfast import`: reads a dataset, asks what other datasets of its operators have, sends one import each.

One message an operator, all of its rows or none: a partition applies it as one entry of its log. What was sent and not
answered is sent again with the same request_id, so it happens once. Sending the same dataset again changes nothing.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

from client.dataset_files import DatasetFiles, read_aircraft
from client.numbering import apart_from
from client.timetables import Dataset, OperatorRows, TimetableReader
from datastore import messages, wire
from datastore.errors import HoldfastError, InvalidRequest

PATIENCE_MS = 60_000  # A new operator's partition is placed and promoted meanwhile; a balancer may be replaced.
PAUSE_MS = 200
DEADLINE_MS = 60_000
Call = Callable[[str, messages.Request], messages.Answer]
Progress = Callable[[str, int, int], None]


class OperatorReport(NamedTuple):
    """What an import did, or would do, to one operator's schedules. `error` "" is success; else nothing was changed."""

    operator: str
    added: int
    changed: int
    removed: int
    unchanged: int
    error: str


def shipped_data(name: str) -> Path:
    """Return the folder of data that comes with Holdfast: in the source checkout, or where the wheel put it.

    Raises:
        InvalidRequest: Neither has it.
    """
    folders = (Path(__file__).resolve().parent.parent / "data", Path(sys.prefix) / "share" / "holdfast" / "data")
    for folder in folders:
        if (folder / name).is_dir():
            return folder / name
    raise InvalidRequest(f"no shipped data {name!r} in {' or '.join(map(str, folders))}", name=name)


def load_dataset(
    path: Path | str, *, valid_from: date, days: int = 0, aircraft: Path | None = None, dataset: str = "", progress: Progress | None = None
) -> Dataset:
    """Return a dataset read from a folder or a timetable file, checked, its repeated numbers told apart.

    Args:
        path: A folder, or one file: CSV, JSON, or either compressed with xz.
        valid_from: What "today" means for rows that give no validity.
        days: How many days from then such rows are valid; 0 is the dataset's own word, or 330.
        aircraft: A folder with `aircraft_types.csv` and `cabins.csv`; None is the dataset's own reference, or the shipped one.
        dataset: The dataset's name; "" is the one in its header, or made of the folder's or file's name.
        progress: Called as ("reading", rows so far, 0).

    Raises:
        InvalidRequest: Something cannot be read at all; the message names file and line. Bad rows are no error: they are
            in `problems`, and their operators are left out by `send`.
    """
    files = DatasetFiles(Path(path), dataset, valid_from, days)
    if aircraft is None:
        aircraft = files.folder / files.aircraft_reference if files.aircraft_reference else shipped_data("aircraft")
    reader = TimetableReader(files.header, files.places(), files.operators(), files.layouts(), read_aircraft(aircraft))
    for bad in files.bad:
        reader.refuse(bad.file, bad.line, bad.reason)
    files.read_into(reader, lambda rows: progress("reading", rows, 0) if progress else None)
    return reader.finish()


def send(
    dataset: Dataset,
    call: Call,
    *,
    admin_key: str,
    operator_keys: Mapping[str, str],
    operator_key_digests: Mapping[str, bytes] | None = None,
    dry_run: bool = False,
    only: Collection[str] = (),
    progress: Progress | None = None,
) -> list[OperatorReport]:
    """Import a dataset, one operator after the other, and return what it did to each.

    Args:
        call: Asks a balancer: (method, question) -> answer; raises what the balancer raised.
        admin_key: The administrator's key, or "": needed for operators that the cluster does not know yet.
        operator_keys: Operator -> its key; the administrator's stands in for missing ones.
        operator_key_digests: Operator -> digest of the key that a newly made operator is given.
        dry_run: Ask what would change, and change nothing.
        only: Operators to import; empty means all.
        progress: Called as (operator, rows done, rows in all).

    An operator with a bad row, without a key, or whose import is refused has the reason in its report; the others go on.
    """
    total = sum(part.rows for code, part in dataset.operators.items() if not only or code in only)
    done = 0
    reports: list[OperatorReport] = []
    for code, part in dataset.operators.items():
        if only and code not in only:
            continue
        if progress:
            progress(code, done, total)
        key = operator_keys.get(code) or admin_key
        try:
            if dataset.bad_rows.get(code):
                raise InvalidRequest(f"{dataset.bad_rows[code]} bad rows; nothing of {code} was imported")
            if not key:
                raise InvalidRequest(f"no key of {code}, and no administrator's key")
            reports.append(_send_one(dataset, part, call, key, admin_key, (operator_key_digests or {}).get(code, b""), dry_run))
        except HoldfastError as error:
            reports.append(OperatorReport(code, 0, 0, 0, 0, error.detail))
        done += part.rows
    if progress:
        progress("", done, total)
    for code in sorted({*only} - {*dataset.operators}):
        reports.append(OperatorReport(code, 0, 0, 0, 0, f"no rows of {code} in {dataset.name}"))
    return reports


def _send_one(
    dataset: Dataset, part: OperatorRows, call: Call, key: str, admin_key: str, key_digest: bytes, dry_run: bool
) -> OperatorReport:
    numbers = _asked(call, "dataset_numbers", messages.DatasetNumbers(operator=part.code, dataset=dataset.name))
    assert isinstance(numbers, messages.DatasetNumbersAnswer)
    if not numbers.known:
        if not admin_key:
            raise InvalidRequest(f"the cluster does not know operator {part.code}; making it known needs the administrator's key")
        if dry_run:
            return OperatorReport(part.code, len(part.schedules), 0, 0, 0, "")
        _asked(
            call,
            "create_operator",
            messages.CreateOperator(
                request_id=_request_id(),
                deadline_ms=DEADLINE_MS,
                admin_key=admin_key,
                code=part.code,
                name=part.name,
                kind=part.kind,
                operator_key_digest=key_digest,
            ),
        )
    answer = _asked(
        call,
        "import",
        messages.ImportTimetable(
            request_id=_request_id(),
            deadline_ms=DEADLINE_MS,
            key=key,
            operator=part.code,
            dataset=dataset.name,
            body=body_of(dataset, part, {(number, origin) for number, origin in numbers.taken}),
            dry_run=dry_run,
        ),
    )
    assert isinstance(answer, messages.Imported)
    return OperatorReport(part.code, answer.added, answer.changed, answer.removed, answer.unchanged, "")


def body_of(dataset: Dataset, part: OperatorRows, taken: Collection[tuple[str, str]] = ()) -> bytes:
    """Return the body of one operator's import: the same bytes for the same rows."""
    body = wire.ImportBody(
        title=dataset.title,
        licence=dataset.licence,
        schedules=apart_from(part.schedules, taken, dataset.name),
        layouts=[part.layouts[layout_id] for layout_id in sorted(part.layouts)],
        places=[part.places[code] for code in sorted(part.places)],
    )
    return zlib.compress(wire.encode(body), 6)


def _asked(call: Call, method: str, question: messages.Request) -> messages.Answer:
    """Return the answer, asking again with the same request_id while the cluster says that asking again is right.

    Raises:
        HoldfastError: A refusal, or the last failure when patience ran out.
    """
    give_up = time.monotonic() + PATIENCE_MS / 1000
    pause = threading.Event()
    while True:
        try:
            return call(method, question)
        except HoldfastError as error:
            if not error.retryable or time.monotonic() > give_up:
                raise
        pause.wait(PAUSE_MS / 1000)


def _request_id() -> str:
    # Random, not made of the content: importing A, then B, then A again must import A again.
    return f"import-{secrets.token_hex(12)}"
