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
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

from client.dataset_files import DatasetFiles, read_aircraft
from client.numbering import apart_from
from client.timetables import Dataset, OperatorRows, TimetableReader
from datastore import messages, wire
from datastore.errors import HoldfastError, InvalidRequest, NodeUnreachable
from datastore.import_changes import LINES_MAX, RowChange, row_changes
from datastore.wording import counted

PATIENCE_MS = 30_000  # A new operator's partition is placed and promoted meanwhile; a primary may be replaced.
STALE_MS = 10_000  # How long a balancer's view may lag behind a partition before a refusal is the last word.
MAKERS = 8
PAUSE_MS = 200
DEADLINE_MS = 60_000
Call = Callable[[str, messages.Request], messages.Answer]
Progress = Callable[[str, int, int], None]


class OperatorReport(NamedTuple):
    """What an import did, or would do, to one operator's schedules. `error` "" is success; else nothing was changed.

    `rows`: of a dry run, the first of those that would change.
    """

    operator: str
    added: int
    changed: int
    removed: int
    unchanged: int
    error: str
    rows: Sequence[RowChange] = ()
    rows_left_off: int = 0


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
        progress: Called as ("reading", rows so far, rows in all).

    Raises:
        InvalidRequest: Something cannot be read at all; the message names file and line. Bad rows are no error: they are
            in `problems`, and their operators are left out by `send`.
    """
    files = DatasetFiles(Path(path), dataset, valid_from, days)
    if aircraft is None:
        aircraft = files.folder / files.aircraft_reference if files.aircraft_reference else shipped_data("aircraft")
    places = files.places()
    reader = TimetableReader(
        files.header, places, files.operators(), files.layouts(), read_aircraft(aircraft), files.connections(places)
    )
    for bad in files.bad:
        reader.refuse(bad.file, bad.line, bad.reason)
    total = files.rows() if progress else 0
    files.read_into(reader, lambda rows: progress("reading", rows, total) if progress else None)
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
    create: bool = True,
    progress: Progress | None = None,
) -> list[OperatorReport]:
    """Import a dataset, one operator after the other, and return what it did to each.

    Args:
        call: Asks a balancer: (method, question) -> answer; raises what the balancer raised. Used by several threads.
        admin_key: The administrator's key, or "": needed for operators that the cluster does not know yet.
        operator_keys: Operator -> its key; the administrator's stands in for missing ones.
        operator_key_digests: Operator -> digest of the key that a newly made operator is given.
        dry_run: Ask what would change, and change nothing.
        only: Operators to import; empty means all.
        create: Make operators that the cluster does not know; else their reports say that it does not.
        progress: Called as (operator, rows done, rows in all).

    An operator with a bad row, without a key, or whose import is refused has the reason in its report; the others go on.

    Raises:
        NodeUnreachable: No balancer can be reached; nothing was changed.
    """
    sending = _Sending(dataset, call, admin_key, operator_keys, operator_key_digests or {}, dry_run, create)
    parts = [part for code, part in dataset.operators.items() if not only or code in only]
    failed = sending.prepare(parts)
    done, total = 0, sum(part.rows for part in parts)
    reports: list[OperatorReport] = []
    for part in parts:
        if progress:
            progress(part.code, done, total)
        reports.append(failed.get(part.code) or sending.one(part))
        done += part.rows
    if progress:
        progress("", done, total)
    for code in sorted({*only} - {*dataset.operators}):
        reports.append(_failed(code, f"no rows of {code} in {dataset.name}"))
    return reports


def _failed(code: str, reason: str) -> OperatorReport:
    return OperatorReport(code, 0, 0, 0, 0, reason)


@dataclass
class _Sending:
    """One import on its way. `taken`: operator -> the (number, origin) pairs of its other datasets, where the cluster knows it."""

    dataset: Dataset
    call: Call
    admin_key: str
    operator_keys: Mapping[str, str]
    operator_key_digests: Mapping[str, bytes]
    dry_run: bool
    create: bool = True
    taken: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def prepare(self, parts: Sequence[OperatorRows]) -> dict[str, OperatorReport]:
        """Ask what is known and make unknown operators; return the reports of those that cannot go on.

        Raises:
            NodeUnreachable: No balancer can be reached; nothing was changed.
        """
        failed: dict[str, OperatorReport] = {}
        unknown: list[OperatorRows] = []
        for part in parts:
            bad = self.dataset.bad_rows.get(part.code, 0)
            if bad:
                failed[part.code] = _failed(part.code, f"{counted(bad, 'bad row')}; nothing of {part.code} was imported")
            elif not self._key(part.code):
                failed[part.code] = _failed(part.code, f"no key of {part.code}, and no administrator's key")
            elif not self._known(part.code):
                if not self.admin_key:
                    reason = f"the cluster does not know operator {part.code}; making it known needs the administrator's key"
                    failed[part.code] = _failed(part.code, reason)
                elif not self.create and not self.dry_run:
                    reason = f"the cluster does not know operator {part.code}; --create-operators makes its partition"
                    failed[part.code] = _failed(part.code, reason)
                elif not self.dry_run:
                    unknown.append(part)
        # A new partition is placed, bootstrapped and promoted at the managers' next look: waiting, not work. So side by side.
        with ThreadPoolExecutor(max_workers=MAKERS) as makers:
            for part, reason in zip(unknown, makers.map(self._make, unknown), strict=True):
                if reason:
                    failed[part.code] = _failed(part.code, reason)
        return failed

    def one(self, part: OperatorRows) -> OperatorReport:
        """Import one operator's rows; its report says how that went."""
        if self.dry_run and part.code not in self.taken:
            rows = row_changes({}, {str(number): row for number, row in enumerate(part.schedules)}, (), list(part.layouts.values()))
            return OperatorReport(part.code, len(part.schedules), 0, 0, 0, "", rows[:LINES_MAX], len(rows[LINES_MAX:]))
        give_up = time.monotonic() + STALE_MS / 1000
        while True:
            try:
                answer = self._ask("import", self._import_of(part))
            except InvalidRequest as error:
                if not self._learnt(part.code, error) or time.monotonic() > give_up:
                    return _failed(part.code, error.detail)
            except HoldfastError as error:
                return _failed(part.code, error.detail)
            else:
                assert isinstance(answer, messages.Imported)
                counts = (answer.added, answer.changed, answer.removed, answer.unchanged)
                return OperatorReport(part.code, *counts, "", answer.rows, answer.rows_left_off)

    def _learnt(self, code: str, error: InvalidRequest) -> bool:
        """Return whether the refusal names a number that another dataset has, and note it.

        The balancer's view may be a moment behind the partition: a dataset imported just now is not in it yet.
        """
        number, origin, other = (error.fields.get(name) for name in ("number", "origin", "dataset"))
        taken = self.taken.setdefault(code, set())
        if not number or not origin or other in (None, self.dataset.name) or (str(number), str(origin)) in taken:
            return False
        self._known(code)
        self.taken[code] |= taken | {(str(number), str(origin))}
        return True

    def _import_of(self, part: OperatorRows) -> messages.ImportTimetable:
        return messages.ImportTimetable(
            request_id=_request_id(),
            deadline_ms=DEADLINE_MS,
            key=self._key(part.code),
            operator=part.code,
            dataset=self.dataset.name,
            body=body_of(self.dataset, part, self.taken.get(part.code, set())),
            dry_run=self.dry_run,
        )

    def _key(self, code: str) -> str:
        return self.operator_keys.get(code) or self.admin_key

    def _known(self, code: str) -> bool:
        answer = self._ask("dataset_numbers", messages.DatasetNumbers(operator=code, dataset=self.dataset.name))
        assert isinstance(answer, messages.DatasetNumbersAnswer)
        if answer.known:
            self.taken[code] = {(number, origin) for number, origin in answer.taken}
        return answer.known

    def _make(self, part: OperatorRows) -> str:
        """Make an operator known; return why that failed, or ""."""
        question = messages.CreateOperator(
            request_id=_request_id(),
            deadline_ms=DEADLINE_MS,
            admin_key=self.admin_key,
            code=part.code,
            name=part.name,
            kind=part.kind,
            operator_key_digest=self.operator_key_digests.get(part.code, b""),
        )
        try:
            self._ask("create_operator", question)
        except HoldfastError as error:
            return error.detail
        self.taken.setdefault(part.code, set())
        return ""

    def _ask(self, method: str, question: messages.Request) -> messages.Answer:
        """Return the answer, asking again with the same request_id while the cluster says that asking again is right.

        Raises:
            HoldfastError: A refusal, or the last failure when patience ran out. `NodeUnreachable` at once: whoever carries
                the question has tried every balancer by then.
        """
        give_up = time.monotonic() + PATIENCE_MS / 1000
        pause = threading.Event()
        while True:
            try:
                return self.call(method, question)
            except HoldfastError as error:
                if not error.retryable or isinstance(error, NodeUnreachable) or time.monotonic() > give_up:
                    raise
            pause.wait(PAUSE_MS / 1000)


def body_of(dataset: Dataset, part: OperatorRows, taken: Collection[tuple[str, str]] = ()) -> bytes:
    """Return the body of one operator's import: the same bytes for the same rows."""
    body = wire.ImportBody(
        title=dataset.title,
        licence=dataset.licence,
        schedules=apart_from(part.schedules, taken, dataset.name),
        layouts=[part.layouts[layout_id] for layout_id in sorted(part.layouts)],
        places=[part.places[code] for code in sorted(part.places)],
        connecting=part.connecting,
        accounting=part.accounting,
    )
    return zlib.compress(wire.encode(body), 6)


def _request_id() -> str:
    # Random, not made of the content: importing A, then B, then A again must import A again.
    return f"import-{secrets.token_hex(12)}"
