"""Files from outside: timetables, cluster.toml, ledgers, segments, exports, histories. A named error, or they are good."""

from __future__ import annotations

import io
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.cluster import read_config
from client.history import Answer, Header, Leg, Operation, Record, line_of, read
from client.importing import load_dataset
from client.judging import judge
from client.plan import plan_of
from datastore.errors import HoldfastError, InvalidRequest, InvariantBroken, TooNew
from datastore.exporting import Exporter, verify_export
from datastore.ledger import Entry, LedgerDamaged, genesis, position_of, seal, unseal, verify_chain
from datastore.sealing import opened, pack
from tests.fuzzing.mutations import changed, fuzzed

TOP = Path(__file__).resolve().parents[2]
TODAY = date(2026, 11, 21)
MEMORY_BYTES_MAX = 200 * 1024 * 1024
OPERATOR = "AR"


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Fail where a reader takes more memory than any valid file of this size could need."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX, f"{peak:,} bytes"


# --- timetables -----------------------------------------------------------------------------------------------------

FILES = [path for folder in ("brief", "venues") for path in sorted((TOP / "data" / folder).iterdir()) if path.suffix in (".csv", ".json")]


@fuzzed(60)
@given(st.data())
def test_timetable_files(data: st.DataObject) -> None:
    """A changed file of a dataset is read, its bad rows named, or refused with its name and the reason."""
    file = data.draw(st.sampled_from(FILES), label="file")
    text = data.draw(changed(file.read_bytes()), label="content")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(file.parent, folder, dirs_exist_ok=True)
        (Path(folder) / file.name).write_bytes(text)
        try:
            dataset = load_dataset(Path(folder), valid_from=TODAY, days=5, dataset="test")
        except HoldfastError as error:
            assert error.code == "invalid_request" and len(error.detail) < 2_000, error.detail
        else:
            assert all(problem.reason and len(problem.reason) < 2_000 for problem in dataset.problems)


# --- cluster.toml ---------------------------------------------------------------------------------------------------


@fuzzed(150)
@given(changed((TOP / "cluster.toml").read_bytes()), st.sampled_from(["default", "several-hosts", "production", "payments"]))
def test_cluster_toml(text: bytes, profile: str) -> None:
    """A changed cluster.toml is a plan, or refused as a configuration with the file, the key and the reason."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.toml"
        file.write_bytes(text)
        try:
            plan_of(read_config(file, profile), str(file))
        except HoldfastError as error:
            assert error.code == "invalid_configuration" and len(error.detail) < 2_000, error.detail


# --- ledgers and what is made of them -------------------------------------------------------------------------------


def some_ledger() -> list[bytes]:
    """Return a short chain of sealed entries."""
    before = genesis(OPERATOR)
    found = []
    for number in range(1, 9):
        entry = Entry((1, "m"), number, 1_000 * number, "noop" if number == 1 else "batch", [("request", b"digest")])
        sealed = seal(entry, before.hash)
        before = position_of(sealed)
        found.append(sealed.data)
    return found


LEDGER = some_ledger()


@fuzzed(300)
@given(st.integers(0, len(LEDGER) - 1), st.data())
def test_ledger_entries(number: int, data: st.DataObject) -> None:
    """A changed entry is found by its own hash; whole entries in another order by the chain."""
    bytes_now = data.draw(changed(LEDGER[number]))
    if bytes_now != LEDGER[number]:
        with pytest.raises(LedgerDamaged):
            unseal(bytes_now)
    order = data.draw(st.permutations(range(len(LEDGER))))
    if list(order) != sorted(order):
        with pytest.raises((LedgerDamaged, InvariantBroken)):
            verify_chain((LEDGER[place] for place in order), genesis(OPERATOR))


SEGMENT, SEGMENT_BYTES = pack(OPERATOR, LEDGER, genesis(OPERATOR))


@fuzzed(200)
@given(changed(SEGMENT_BYTES))
def test_segments(data: bytes) -> None:
    """A changed segment is not the one that was sealed, or claims to be a newer version's; the reader takes no more memory for it."""
    if data == SEGMENT_BYTES:
        return
    with bounded_memory(), pytest.raises((LedgerDamaged, TooNew)):
        opened(data, SEGMENT, OPERATOR)


def some_export() -> bytes:
    out = io.BytesIO()
    exporter = Exporter(OPERATOR, 1_000, out.write)
    exporter.take(LEDGER)
    exporter.finish()
    return out.getvalue()


EXPORT = some_export()


@fuzzed(200)
@given(changed(EXPORT))
def test_exports(data: bytes) -> None:
    """A changed export is damaged, or of a newer version: said in one error, and bounded in memory."""
    if data == EXPORT:
        return
    with bounded_memory(), pytest.raises((HoldfastError, InvariantBroken)) as raised:
        verify_export(io.BytesIO(data).read)
    assert raised.value.code in ("ledger_damaged", "too_new", "invariant_broken")


# --- histories ------------------------------------------------------------------------------------------------------


def some_history() -> bytes:
    leg = Leg("AR1-EZE-2030-01-01", ["1A"])
    hold = Operation(kind="hold", request_id="request-1", hold="request-1", operator="AR", legs=[leg])
    booking = Operation(kind="confirm", request_id="request-2", hold="request-1", operator="AR", legs=[leg])
    records = [
        Record(client="ada", call_us=0, return_us=5, operation=hold, answer=Answer(outcome="done", lsn=1)),
        Record(client="ada", call_us=6, return_us=9, operation=booking, answer=Answer(outcome="done", lsn=2, reference="R")),
        Record(client="bob", call_us=7, operation=hold, answer=Answer()),
    ]
    return b"".join([line_of(Header()), *map(line_of, records)])


HISTORY = some_history()


@fuzzed(300)
@given(changed(HISTORY))
def test_histories(data: bytes) -> None:
    """A changed history is judged, or its bad line is named."""
    try:
        history = read(data.splitlines(keepends=True))
    except InvalidRequest as error:
        assert error.fields["line"] >= 1 and len(error.detail) < 2_000
    else:
        judge(history, situations_max=5_000)
