"""The commands against a real cluster: what is printed where, the JSON, and the exit code of each way to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from client import exit_codes
from tests.integration.harness import TOP, ClusterUnderTest
from tests.integration.typed import typed
from tests.waiting import freeze, wait_until

DAY = (date.today() + timedelta(days=3)).isoformat()
SERVICE = f"AR1140-EZE-{DAY}"
SHOW = f"LUMKITE1400-LUMEN1-{DAY}"


class Terminal:
    """One person at a terminal: a wallet of their own, and the commands of one cluster."""

    def __init__(self, cluster: ClusterUnderTest, home: Path) -> None:
        self.environment = {
            **os.environ,
            "HOLDFAST_HOME": str(home),
            "HOLDFAST_CONFIG": str(cluster.folders.config),
            "HOLDFAST_DATA": str(cluster.folders.data),
            "PYTHONPATH": str(TOP),
            "COLUMNS": "100",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return typed(*words, environment=self.environment, folder=TOP)

    def ok(self, *words: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*words)
        assert exit_codes.DONE == done.returncode, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str, code: int = exit_codes.DONE) -> Any:
        """Run a command with --json; stdout must be exactly one document."""
        done = self.run(*words, "--json")
        assert code == done.returncode, f"{words}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def ada(cluster: ClusterUnderTest, tmp_path: Path) -> Terminal:
    return Terminal(cluster, tmp_path / "ada")


@pytest.fixture
def bob(cluster: ClusterUnderTest, tmp_path: Path) -> Terminal:
    return Terminal(cluster, tmp_path / "bob")


def seats_of(terminal: Terminal, service: str, count: int) -> list[str]:
    """Return ids of free seats that stand side by side in the list."""
    return [seat["seat_id"] for seat in terminal.json("seats", service, "--list", "--state", "available", "--limit", str(count))["seats"]]


def test_a_booking_from_search_to_cancel(ada: Terminal) -> None:
    """The traveller's way, each step with what the step before printed."""
    found = ada.json("services", "--from", "EZE", "--to", "MIA", "--date", DAY)["services"]
    assert SERVICE in [service["service_id"] for service in found]
    assert SERVICE in ada.ok("services", "--from", "eze", "--to", "mia", "--date", "+3d")
    assert "·" in ada.ok("seats", SERVICE)
    first, second = seats_of(ada, SERVICE, 2)

    held = ada.json("hold", SERVICE, first, second, "--for", "15m")
    assert ("active", [first, second]) == (held["state"], held["seats"])
    assert 0 < held["remaining_ms"] <= 900_000
    assert "●" in ada.ok("seats", SERVICE)
    assert held["hold_id"] in ada.ok("holds")

    order = ada.json("confirm", "last", "--passenger", "Ada Byron", "--passenger", "Babbage/Charles")
    assert ("confirmed", 6) == (order["state"], len(order["reference"]))
    assert ["Byron", "Babbage"] == [person["surname"] for person in order["passengers"]]
    assert order["reference"] in ada.ok("orders")
    assert "Byron" in ada.ok("order", order["reference"])

    reduced = ada.json("order", order["reference"], "--surname", "byron")
    assert reduced["reduced"]
    assert "Byron" not in json.dumps(reduced["passengers"])

    cancelled = ada.json("cancel", order["reference"], "--yes")
    assert "cancelled" == cancelled["state"]
    assert cancelled["refund"] is not None
    assert "available" == ada.json("seat", SERVICE, first)["seat"]["state"]


def test_a_map_shows_what_an_earlier_command_did(ada: Terminal) -> None:
    """Whichever balancer answers: it waits for the owner's last write, and says so where it cannot show it."""
    (seat,) = seats_of(ada, SERVICE, 1)
    held = ada.json("hold", SERVICE, seat)
    assert "●" in ada.ok("seats", SERVICE)
    (file,) = Path(ada.environment["HOLDFAST_HOME"]).glob("written-*.json")
    lsn, at_s = json.loads(file.read_text())[SERVICE]
    assert held["lsn"] == lsn
    file.write_text(json.dumps({SERVICE: [lsn + 1_000_000, at_s]}))
    early = ada.run("seats", SERVICE)
    assert exit_codes.PARTIAL == early.returncode and f"has not reached lsn {lsn + 1_000_000}" in early.stdout + early.stderr
    ada.ok("release", held["hold_id"])


@pytest.mark.timeout(420)  # A dozen commands, each a process of its own, on a machine that does other things.
def test_a_trip_from_hold_to_cancel(ada: Terminal, bob: Terminal) -> None:
    """Two operators, one hold and one order: what stands in the way on any leg is told, and every operator sees its own names."""
    first, second = seats_of(ada, SERVICE, 2)
    held = ada.json("hold", f"{SERVICE}:{first},{second}", f"{SHOW}:any2", "--together", "--for", "15m")
    assert [leg["service_id"] for leg in held["legs"]] == [SERVICE, SHOW]
    assert held["hold_id"] in ada.ok("holds")
    show_seat = held["legs"][1]["seats"][0]
    refused = bob.json("hold", f"{SHOW}:{show_seat}", f"{SERVICE}:{first}", code=exit_codes.SEAT_GONE)
    assert {leg["service_id"]: leg["seats"][0]["seat"] for leg in refused["fields"]["legs"]} == {SHOW: show_seat, SERVICE: first}

    released = ada.ok("release", "last")
    assert SERVICE in released and SHOW in released
    ended = ada.run("confirm", "last", "--passenger", "Ada Byron", "--passenger", "Babbage/Charles")
    assert exit_codes.EXPIRED == ended.returncode and f"holdfast renew {held['hold_id']}" in ended.stderr
    again = ada.json("renew", "last")
    assert [leg["seats"] for leg in again["legs"]] == [leg["seats"] for leg in held["legs"]]
    order = ada.json("confirm", "last", "--passenger", "Ada Byron", "--passenger", "Babbage/Charles")
    shown = ada.ok("order", order["reference"])
    assert "cancel passenger, change seat" in shown and f"{SERVICE.partition('-')[0]} {first} open" in shown
    assert SERVICE in shown and SHOW in shown and shown.count("Byron/Ada") == 3  # on each leg, and on the ticket
    assert "cancelled" == ada.json("cancel", order["reference"], "--yes")["state"]
    assert exit_codes.INVALID == ada.run("hold", f"{SERVICE}:", f"{SHOW}:any1").returncode


def test_a_held_seat_is_gone_for_others(ada: Terminal, bob: Terminal) -> None:
    """The loser learns which seat, with the exit code of a seat that is gone."""
    (seat,) = seats_of(ada, SERVICE, 1)
    hold = ada.json("hold", SERVICE, seat)
    refused = bob.json("hold", SERVICE, seat, code=exit_codes.SEAT_GONE)
    assert {"code", "title", "detail", "fields", "retryable", "maybe_committed", "request_id"} == set(refused)
    assert "seat_unavailable" == refused["code"]
    spoken = bob.run("hold", SERVICE, seat)
    assert (exit_codes.SEAT_GONE, "") == (spoken.returncode, spoken.stdout)
    assert seat in spoken.stderr
    assert exit_codes.DECLINED == bob.run("release", hold["hold_id"]).returncode
    assert seat in ada.ok("release", "last")
    assert exit_codes.DONE == bob.run("hold", SERVICE, seat).returncode
    bob.ok("release", "last")


def test_a_hold_for_each_seat(ada: Terminal, bob: Terminal) -> None:
    """Each is confirmed and released alone; those that are refused are named, and the exit code says that not all were made."""
    seats = [row["seat_id"] for row in ada.json("seats", SHOW, "--state", "available", "--list")["seats"]][:4]
    bob.ok("hold", SHOW, seats[1])
    answer = ada.json("hold", SHOW, *seats[:3], "--each", "--for", "15m", code=exit_codes.PARTIAL)
    held = [one["hold"]["hold_id"] if one["hold"] else "" for one in answer["results"]]
    assert [True, False, True] == list(map(bool, held)) and "seat_unavailable" == answer["results"][1]["error"]["code"]
    listed = ada.ok("holds")
    assert held[0] in listed and held[2] in listed
    ada.ok("confirm", held[0], "--passenger", "Ada Byron")
    ada.ok("release", held[2])
    again = ada.run("hold", SHOW, seats[1], seats[2], "--each")
    assert exit_codes.PARTIAL == again.returncode and f"not held: {seats[1]}: " in again.stderr and seats[2] in again.stdout
    assert exit_codes.SEAT_GONE == ada.run("hold", SHOW, seats[0], seats[1], "--each").returncode
    done = ada.run("hold", SHOW, seats[3], "--each")
    assert exit_codes.DONE == done.returncode and "holdfast confirm" in done.stderr
    for words in (("--each",), ("A1", "--each", "--any", "2"), (f"{SERVICE}:A1", "--each")):
        assert exit_codes.INVALID == ada.run("hold", SHOW, *words).returncode


def test_the_best_seats_left(ada: Terminal) -> None:
    """So many, side by side, in the hall too."""
    held = ada.json("hold", SHOW, "--any", "3", "--together")
    assert 3 == len(held["seats"])
    assert exit_codes.INVALID == ada.run("hold", SHOW).returncode
    assert exit_codes.INVALID == ada.run("hold", SHOW, "A1", "--any", "2").returncode
    extended = ada.json("extend", held["hold_id"], "--for", "20m")
    assert extended["expires_ms"] > held["expires_ms"]
    ada.ok("release", held["hold_id"])


def test_a_confirmed_hold_is_not_confirmed_again(ada: Terminal, bob: Terminal) -> None:
    """Not by its owner, and not by somebody else."""
    (seat,) = seats_of(ada, SERVICE, 1)
    hold = ada.json("hold", SERVICE, seat)["hold_id"]
    assert exit_codes.DECLINED == bob.run("confirm", hold, "--passenger", "Bob Marley").returncode
    ada.ok("confirm", hold, "--passenger", "Ada Byron")
    assert "already_confirmed" == ada.json("confirm", hold, "--passenger", "Ada Byron", code=exit_codes.DECLINED)["code"]
    assert "already_confirmed" == ada.json("renew", hold, code=exit_codes.DECLINED)["code"]
    reference = ada.json("orders")["orders"][-1]["reference"]
    assert exit_codes.INVALID == bob.run("cancel", reference).returncode
    assert "unknown_order" == bob.json("cancel", reference, "--token", "x" * 32, code=exit_codes.NOT_FOUND)["code"]
    ada.ok("cancel", "last", "--yes")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("seats", f"AR1141-EZE-{DAY}"), exit_codes.NOT_FOUND, "AR1141-MIA"),
        (("seats", f"ZZ1-EZE-{DAY}"), exit_codes.NOT_FOUND, "ZZ1 begins with no operator's code"),
        (("seats", "AR1140-EZE-2020-01-01"), exit_codes.NOT_FOUND, "the nearest is AR1140-EZE-"),
        (("hold", "AR1140-EZE-2090-01-01", "12A"), exit_codes.NOT_FOUND, "the nearest is AR1140-EZE-"),
        (("seats", f"AR9999-EZE-{DAY}"), exit_codes.NOT_FOUND, "the nearest are AR"),
        (("seats", "AR1140-EZE-2027-02-30"), exit_codes.INVALID, "2027-02-30 is no day of the calendar"),
        (("seats", "nonsense"), exit_codes.INVALID, "AR1140-EZE-2026-12-01"),
        (("hold", SERVICE, "99Z"), exit_codes.NOT_FOUND, "99Z"),
        (("hold", SERVICE, "１２Ａ"), exit_codes.NOT_FOUND, "the nearest are 12A"),
        (("hold", SERVICE, "12A", ""), exit_codes.INVALID, "empty"),
        (("hold", SERVICE, "12A", "12A"), exit_codes.INVALID, "twice"),
        (("hold", SERVICE, *[f"{row}A" for row in range(10, 20)]), exit_codes.INVALID, "9"),
        (("hold", SERVICE, "12A\x07"), exit_codes.NOT_FOUND, ""),
        (("hold", SERVICE, "x" * 1000), exit_codes.INVALID, ""),
        (("hold", SERVICE, "12A", "--for", "never"), exit_codes.INVALID, "15m"),
        (("hold", SERVICE, "--any", "-3"), exit_codes.INVALID, ""),
        (("hold", SERVICE, "--any", "999999999"), exit_codes.INVALID, ""),
        (("hold", SERVICE, "--any", "9" * 30), exit_codes.INVALID, "count: a number of at most 64 bits"),
        (("cancel", ""), exit_codes.INVALID, "name a booking"),
        (("block", SERVICE, "12A", "--reason", "x", "--key", "/nowhere.key"), exit_codes.INVALID, "/nowhere.key: cannot be read as a key"),
        (("block", SERVICE, "12A", "--reason", "x", "--key", sys.executable), exit_codes.INVALID, "is no key"),
        (("services", "--date", "31.12.2026"), exit_codes.INVALID, "2026-12-01"),
        (("services", "--operator", "AX"), exit_codes.NOT_FOUND, "AR"),
        (("release", "AR.nothere"), exit_codes.NOT_FOUND, ""),
        (("order", "AAAAAA", "--surname", "Nobody"), exit_codes.NOT_FOUND, ""),
        (("confirm", "AR.nothere"), exit_codes.INVALID, "--passenger"),
        (("cancel-service", SERVICE), exit_codes.INVALID, "--yes"),
        (("hodl", SERVICE), exit_codes.INVALID, "hold"),
    ],
)
def test_bad_input_has_its_message_and_exit_code(ada: Terminal, words: tuple[str, ...], code: int, hint: str) -> None:
    """A message on stderr, nothing on stdout, and no traceback."""
    done = ada.run(*words)
    assert (code, "") == (done.returncode, done.stdout), done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    as_json = ada.run(*words, "--json")
    assert code == as_json.returncode
    assert json.loads(as_json.stdout)["detail"]


@pytest.mark.parametrize("words", [("seats", SERVICE), ("services", "--date", DAY), ("doctor",), ("operators", "--json"), ("--help",)])
def test_a_reader_that_has_seen_enough_is_no_failure(ada: Terminal, words: tuple[str, ...]) -> None:
    """`holdfast ... | head` ends well and says nothing of it."""
    unread, written = os.pipe()
    os.close(unread)
    try:
        command = [sys.executable, "-m", "client", *words]
        done = subprocess.run(command, stdout=written, stderr=subprocess.PIPE, env=ada.environment, cwd=TOP, timeout=120, check=False)
    finally:
        os.close(written)
    assert (exit_codes.DONE, b"") == (done.returncode, done.stderr)


def test_a_slip_in_a_profiles_name_is_told_beside_a_running_cluster(ada: Terminal) -> None:
    """The cluster that runs has its own configuration; a profile that there is not is still a slip."""
    asked = ("--config", str(TOP / "cluster.toml"), "--profile")
    wrong = ada.run(*asked, "several-host", "operators")
    assert (exit_codes.INVALID, "") == (wrong.returncode, wrong.stdout) and "several-hosts" in wrong.stderr
    ada.ok(*asked, "several-hosts", "operators")


def test_only_the_cluster_that_was_named_is_asked(ada: Terminal, cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A folder or file that is not there leads to no other cluster: neither to that of the cluster.toml here, nor to one that runs."""
    del ada.environment["HOLDFAST_CONFIG"]
    nowhere = ada.run("--data", str(tmp_path / "nowhere"), "holds")
    assert (exit_codes.INVALID, "") == (nowhere.returncode, nowhere.stdout)
    assert f"no cluster was started with the data folder {tmp_path / 'nowhere'}" in nowhere.stderr
    wrong = ada.run("--config", str(tmp_path / "nowhere.toml"), "holds")
    assert (exit_codes.INVALID, "") == (wrong.returncode, wrong.stdout) and "there is no file" in wrong.stderr
    ada.ok("holds")
    ada.ok("--data", str(tmp_path / "nowhere"), "--config", str(cluster.folders.config), "holds")


def test_the_operators_commands(ada: Terminal, bob: Terminal) -> None:
    """Block, sell, close, open, manifest and cancel, with the key from the data folder."""
    service = f"FO{number_of(ada, 'FO')}"
    first, second = seats_of(ada, service, 2)
    assert first in ada.ok("block", service, first, "--reason", "broken table")
    refused = bob.json("hold", service, first, code=exit_codes.SEAT_GONE)
    assert refused["code"] in ("seat_blocked", "seat_unavailable")
    assert "▒" in ada.ok("seats", service)
    ada.ok("unblock", service, first)
    bob.ok("hold", service, second)
    reference = bob.json("confirm", "last", "--passenger", "Bob Marley")["reference"]
    manifest = ada.json("manifest", service)
    assert ["Marley"] == [line["surname"] for line in manifest["lines"]]
    ada.ok("close", service, "--reason", "crew")
    assert "service_closed" == bob.json("hold", service, first, code=exit_codes.DECLINED)["code"]
    ada.ok("open", service)
    cancelled = ada.json("cancel-service", service, "--reason", "storm", "--yes")
    assert ("cancelled", [reference]) == (cancelled["state"], cancelled["orders_cancelled"])
    assert "cancelled" == bob.json("order", reference)["state"]


def number_of(terminal: Terminal, operator: str) -> str:
    """Return a service of an operator, without its code."""
    found: str = terminal.json("services", "--operator", operator, "--date", DAY, "--limit", "1")["services"][0]["service_id"]
    return found[len(operator) :]


def test_another_operators_key_does_nothing(ada: Terminal, cluster: ClusterUnderTest) -> None:
    """An operator's staff act for their own operator only."""
    key = str(cluster.folders.operator_key("FO"))
    assert "not_authorised" == ada.json("block", SERVICE, "12A", "--key", key, code=exit_codes.DECLINED)["code"]


def test_an_import_is_idempotent_and_names_bad_rows(ada: Terminal) -> None:
    """The second import changes nothing; a dry run says what would change."""
    only = ("--operator", "AR", "--operator", "FO", "--days", "60")
    again = ada.json("import", str(TOP / "data" / "brief"), *only)
    assert [(0, 0, 0, ""), (0, 0, 0, "")] == [
        (line["added"], line["changed"], line["removed"], line["error"]) for line in again["operators"]
    ]
    dry = ada.json("import", str(TOP / "data" / "brief"), "--operator", "AR", "--days", "30", "--dry-run")
    assert dry["operators"][0]["changed"] or dry["operators"][0]["added"]
    assert exit_codes.INVALID == ada.run("import", "/no/such/file").returncode


def test_help_is_quick_and_complete(ada: Terminal) -> None:
    """Every command is in the help; asking for it imports no RPyC and no Redis."""
    text = ada.ok("--help")
    commands = ["cluster", "import", "operators", "places", "services", "seats", "seat", "hold", "holds", "extend", "release", "confirm"]
    commands += ["order", "orders", "cancel", "block", "unblock", "close", "open", "cancel-service", "manifest"]
    assert [] == [command for command in commands if command not in text]
    code = (
        "import sys; from client import cli\n"
        "try: cli.run(['hold', '--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'rpyc', 'redis', 'apsw', 'tomlkit'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ada.environment, cwd=TOP, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("HEAVY []")


def test_status_says_what_runs_where(ada: Terminal, cluster: ClusterUnderTest) -> None:
    """Every process with its address, and the data and log folders."""
    wait_until(lambda: exit_codes.DONE == ada.run("cluster", "status").returncode, "all to be well", 30)
    text = ada.run("cluster", "status").stdout
    for name in cluster.names:
        assert name in text
    assert str(cluster.folders.data) in text
    answer = json.loads(ada.run("cluster", "status", "--json").stdout)
    assert {"AR", "FO", "LUM", "GRAND"} == {line["operator"] for line in answer["partitions"]}


def test_frozen_balancers_keep_a_command_no_longer_than_it_was_told(ada: Terminal, cluster: ClusterUnderTest) -> None:
    """With --timeout a question that nobody answers ends by itself, as one that the cluster cannot answer."""
    frozen = [process.pid for name, process in cluster.running.items() if name.startswith("balancer")]
    assert len(frozen) == 2
    for pid in frozen:
        freeze(pid)
    try:
        refused = ada.json("--timeout", "0.4", "services", "--operator", "AR", "--date", DAY, code=exit_codes.NO_ANSWER)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert refused["code"] in ("node_unreachable", "outcome_unknown")
    assert exit_codes.INVALID == ada.run("--timeout", "-1", "operators").returncode
    assert ada.ok("--timeout", "30", "services", "--operator", "AR", "--date", DAY)
