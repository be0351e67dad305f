"""Imports into a real cluster: idempotent, all or nothing per operator, datasets apart, and large ones in bounded time and memory."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from client import api, keys, loading
from client.importing import OperatorReport, load_dataset, send, shipped_data
from client.plan import BALANCER
from client.timetables import Dataset
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

SHARED = Path(os.environ.get("HOLDFAST_SHARED_DATA", TOP.parent / "shared" / "data"))
TODAY = date.today()
MEMORY_MB_MAX = 300
PLACES = "code,name,zone,lat,lon\nEZE,Ezeiza,America/Argentina/Buenos_Aires,-34.82,-58.54\nMIA,Miami,America/New_York,25.8,-80.29\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("import"), datasets=("brief",)) as running:
        yield running


def written(folder: Path, rows: str) -> Path:
    """Write a dataset folder and return it; a row is OPERATOR,NUMBER,DEPARTS."""
    folder.mkdir()
    lines = ["operator,number,from,to,departs,days,block_min,aircraft"]
    for row in rows.split():
        operator, number, departs = row.split(",")
        lines.append(f"{operator},{number},EZE,MIA,{departs},1234567,540,332")
    (folder / "timetable.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "places.csv").write_text(PLACES, "utf-8")
    return folder


def imported(cluster: ClusterUnderTest, dataset: Dataset, **options: bool) -> dict[str, OperatorReport]:
    """Import with the administrator's key and return the reports by operator."""
    call = cluster.client(deadline_ms=60_000).call
    reports = send(dataset, call, admin_key=keys.ensure_admin(cluster.folders), operator_keys={}, **options)
    done = [report.operator for report in reports if not report.error]
    if not options.get("dry_run"):
        balancers = [api.Address(process.host, process.port) for process in cluster.plan.of(BALANCER)]
        loading.wait_seen(balancers, done, [(code, dataset.name) for code in done])
    return {report.operator: report for report in reports}


def numbers(cluster: ClusterUnderTest, operator: str) -> set[str]:
    """Return the numbers of the operator's flights from EZE a week ahead, as the balancers list them."""
    day = (TODAY + timedelta(days=7)).isoformat()
    found = cluster.client().services(day, operator=operator, origin="EZE").services
    return {service.service_id[len(operator) :].split("-")[0] for service in found}


def wait_numbers(cluster: ClusterUnderTest, operator: str, expected: set[str]) -> None:
    wait_until(lambda: numbers(cluster, operator) == expected, f"the flights of {operator} to be {sorted(expected)}", 10)


def test_a_dry_run_changes_nothing_and_a_second_import_says_unchanged(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Dry run, import, import again, a changed row, a removed row: each says what it does, and does it."""
    first = load_dataset(written(tmp_path / "first", "XA,1,10:00 XA,2,11:00 XA,3,12:00"), valid_from=TODAY, days=60, dataset="one")
    rows = len(first.operators["XA"].schedules)
    new = imported(cluster, first, dry_run=True)["XA"]
    assert new[:6] == ("XA", rows, 0, 0, 0, "") and len(new.rows) + new.rows_left_off > rows and {row.mark for row in new.rows} == {"+"}
    assert "XA" not in {operator.code for operator in cluster.client().operators()}
    assert imported(cluster, first)["XA"] == OperatorReport("XA", rows, 0, 0, 0, "")
    wait_numbers(cluster, "XA", {"1", "2", "3"})
    assert imported(cluster, first, dry_run=True)["XA"] == OperatorReport("XA", 0, 0, 0, rows, "")
    assert imported(cluster, first)["XA"] == OperatorReport("XA", 0, 0, 0, rows, "")
    later = written(tmp_path / "later", "XA,1,10:00 XA,2,11:00")
    (later / "timetable.csv").write_text(
        (later / "timetable.csv").read_text("utf-8").replace("11:00,1234567,540", "11:00,1234567,545"), "utf-8"
    )
    wanted = imported(cluster, load_dataset(later, valid_from=TODAY, days=60, dataset="one"), dry_run=True)["XA"]
    assert {row.what.split()[0] for row in wanted.rows if row.mark == "-"} == {"3"} and not wanted.rows_left_off
    # One row a season: where clocks change within the sixty days there are two.
    changed = {(row.what.split()[0], *(one.field for one in row.fields)) for row in wanted.rows if row.mark == "~"}
    assert {("2", "arrives")} == changed
    fewer = load_dataset(written(tmp_path / "fewer", "XA,1,10:00 XA,3,12:00"), valid_from=TODAY, days=60, dataset="one")
    report = imported(cluster, fewer)["XA"]
    assert (report.added, report.removed, report.error) == (0, rows - len(fewer.operators["XA"].schedules), "")
    wait_numbers(cluster, "XA", {"1", "3"})
    assert imported(cluster, first)["XA"].error == ""
    wait_numbers(cluster, "XA", {"1", "2", "3"})


def test_a_bad_row_keeps_its_operator_as_it_was_and_the_others_go_on(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    good = load_dataset(written(tmp_path / "good", "XB,1,10:00 XC,1,10:00"), valid_from=TODAY, days=60, dataset="two")
    assert {report.error for report in imported(cluster, good).values()} == {""}
    bad = load_dataset(written(tmp_path / "bad", "XB,1,10:00 XB,2,10:99 XC,1,10:00 XC,2,11:00"), valid_from=TODAY, days=60, dataset="two")
    reports = imported(cluster, bad)
    assert (reports["XB"].error, reports["XC"].error) == ("1 bad row; nothing of XB was imported", "")
    wait_numbers(cluster, "XC", {"1", "2"})
    wait_numbers(cluster, "XB", {"1"})


def test_a_dataset_never_touches_another_of_the_same_operator(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """The second dataset's repeated number gets its tag; importing either again changes nothing."""
    first = load_dataset(written(tmp_path / "first", "XD,1,10:00 XD,2,11:00"), valid_from=TODAY, days=60, dataset="three")
    second = load_dataset(written(tmp_path / "second", "XD,2,15:00 XD,5,16:00"), valid_from=TODAY, days=60, dataset="four-b")
    for dataset in (first, second):
        assert imported(cluster, dataset)["XD"].error == ""
    wait_numbers(cluster, "XD", {"1", "2", "2.FOURB", "5"})
    for dataset in (second, first, second):
        report = imported(cluster, dataset)["XD"]
        assert (report.added, report.changed, report.removed, report.error) == (0, 0, 0, "")
    wait_numbers(cluster, "XD", {"1", "2", "2.FOURB", "5"})


def test_a_sold_flight_cannot_be_taken_away(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """The import that would remove it is refused whole, and names it."""
    rows = load_dataset(written(tmp_path / "rows", "XE,1,10:00 XE,2,11:00"), valid_from=TODAY, days=60, dataset="five")
    assert imported(cluster, rows)["XE"].error == ""
    wait_numbers(cluster, "XE", {"1", "2"})
    service_id = f"XE2-EZE-{(TODAY + timedelta(days=7)).isoformat()}"
    cluster.client().hold(service_id, ["10A"])
    fewer = load_dataset(written(tmp_path / "fewer", "XE,1,10:00"), valid_from=TODAY, days=60, dataset="five")
    assert service_id in imported(cluster, fewer)["XE"].error
    wait_numbers(cluster, "XE", {"1", "2"})


def test_who_may_import(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """An operator's key imports its own rows; another's, or none, is told so; only the administrator makes operators."""
    rows = load_dataset(written(tmp_path / "rows", "FO,1,10:00 XF,1,10:00"), valid_from=TODAY, days=60, dataset="six")
    call = cluster.client().call
    own = cluster.operator_key("FO")
    reports = send(rows, call, admin_key="", operator_keys={"FO": own, "XF": own})
    assert reports[0].error == ""
    assert "needs the administrator's key" in reports[1].error
    reports = send(rows, call, admin_key="", operator_keys={"FO": secrets.token_hex(16)}, only=["FO", "ZZ"])
    assert reports[0].error and "no key" not in reports[0].error
    assert reports[1] == OperatorReport("ZZ", 0, 0, 0, 0, "no rows of ZZ in six")
    assert "no key of FO" in send(rows, call, admin_key="", operator_keys={}, only=["FO"])[0].error


def test_nyc_2013_imports_whole(cluster: ClusterUnderTest) -> None:
    """Fifteen airlines that the cluster did not know: made, imported, and found by the balancers."""
    dataset = load_dataset(shipped_data("nyc-2013"), valid_from=TODAY, days=330)
    reports = imported(cluster, dataset)
    assert {report.error for report in reports.values()} == {""}
    assert {code: report.added for code, report in reports.items()} == {
        code: len(part.schedules) for code, part in dataset.operators.items()
    }


def test_us_2008_imports_whole_within_bounded_memory(tmp_path: Path) -> None:
    """30,617 rows of 20 airlines, valid for a year, by the command a person would use; no process over 300 MB.

    How long it takes is measured by benchmarks/importing.py and printed here.
    """
    if not (SHARED / "us-2008").is_dir():
        pytest.skip("the us-2008 data is not here: set HOLDFAST_SHARED_DATA to its folder")
    with ClusterUnderTest(tmp_path, datasets=()) as cluster:
        expected = load_dataset(SHARED / "us-2008", valid_from=TODAY, days=365)
        begun = time.monotonic()
        reports, importer_mb = by_command(cluster, str(SHARED / "us-2008"), "--days", "365", "--create-operators")
        peaks_mb = {name: peak_mb(cluster.pid(name)) for name in cluster.names} | {"importer": importer_mb}
        print(f"us-2008: {time.monotonic() - begun:.1f} s; peaks in MB: { ({name: round(peak) for name, peak in peaks_mb.items()}) }")
        assert {code: len(part.schedules) for code, part in expected.operators.items()} == {
            report["operator"]: report["added"] for report in reports
        }
        assert max(peaks_mb.values()) < MEMORY_MB_MAX, peaks_mb
        unchanged, _ = by_command(cluster, str(SHARED / "us-2008"), "--days", "365")
        assert {(0, 0, 0)} == {(report["added"], report["changed"], report["removed"]) for report in unchanged}


def by_command(cluster: ClusterUnderTest, *words: str) -> tuple[list[dict[str, Any]], float]:
    """Run `holdfast import` and return its reports and the most memory that it has had, in MB."""
    environment = {**os.environ, "HOLDFAST_CONFIG": str(cluster.folders.config), "HOLDFAST_DATA": str(cluster.folders.data)}
    output = cluster.folders.data / "import.json"
    peaks_mb = [0.0]
    with output.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "client", "import", *words, "--json"], env=environment, cwd=TOP, stdout=file, stderr=subprocess.DEVNULL
        )

        # Read while it lives: what the system reports of an ended child begins with its parent's memory at the fork.
        def has_ended() -> bool:
            with suppress(OSError, StopIteration):
                peaks_mb.append(peak_mb(child.pid))
            return child.poll() is not None

        wait_until(has_ended, "the import to end", 120)
    text = output.read_text("utf-8")
    assert child.returncode == 0, text
    # Before its exec the child is still a copy of this process; its first readings may be ours.
    return json.loads(text)["operators"], peaks_mb[-1]


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had in RAM."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
