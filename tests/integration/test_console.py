"""The console as a person types into it, and the counter of the examples, against a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

DAY = (date.today() + timedelta(days=7)).isoformat()
SERVICE = f"AR1140-EZE-{DAY}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def run(cluster: ClusterUnderTest, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    home = str(cluster.folders.data.parent / "home")
    environment = {"HOLDFAST_HOME": home, "PYTHONPATH": str(TOP), "PATH": os.environ["PATH"], "COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=TOP, input=typed, capture_output=True, text=True, timeout=90, check=False
    )


def console(cluster: ClusterUnderTest, *lines: str, dev: bool = False) -> str:
    words = ["-m", "client", "--config", str(cluster.folders.config), "--data", str(cluster.folders.data), "console"]
    done = run(cluster, *words, *(["--dev"] if dev else []), typed="\n".join([*lines, "quit", "never reached"]))
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_a_seat_is_held_by_typing_it_either_way_round(cluster: ClusterUnderTest) -> None:
    """`c20` and `20c` are one seat: the second is refused with what it is now; then it is booked, and taken for everybody."""
    said = console(cluster, f"use {SERVICE}", "c20", "20C", "book Ada Byron", "is-primary AR", "status")
    assert "held 20C" in said and "20C is held" in said and "booked 20C" in said and "node-1" in said and "balancer-2" in said
    # The other balancer may hear of it a moment later.
    wait_until(lambda: "occupied" == cluster.client().query_seat(SERVICE, "20C").seat.state, "the seat to be taken for everybody", 20)


def test_what_is_no_command_names_the_nearest_and_changes_nothing(cluster: ClusterUnderTest) -> None:
    free = cluster.client().free_seats(SERVICE)
    said = console(cluster, "servces", "14a", f"use {SERVICE}", "a99", "release", "'", "log", "counter add 1")
    assert "did you mean services?" in said and "choose a service" in said and "quotes" in said
    assert "nothing was held in this console" in said
    assert "is neither a command" in said  # The dev commands are for --dev.
    assert free == cluster.client().free_seats(SERVICE)


def test_the_protocol_can_be_watched(cluster: ClusterUnderTest) -> None:
    """The ledger's entries show what was done; a promise deposes the primary, a manager names the next, and the sum goes on."""
    said = console(cluster, f"use {SERVICE}", "21a", "counter add 5", "log AR 5", "partitions AR", dev=True)
    assert "console = 5" in said and "1 counter" in said and "1 seat, 1 open hold" in said and "primary" in said
    before = next(line.epoch for line in cluster.client().status().partitions if line.operator == "AR")
    assert "promised" in console(cluster, "promise AR", dev=True)
    wait_until(lambda: next(line.epoch for line in cluster.client().status().partitions if line.operator == "AR") > before, "an epoch", 20)
    assert "console = 7" in console(cluster, "counter add 2 AR", dev=True)
    said = console(cluster, "kill node-22", "log AR 0", "log AR -5", "is-primary ARR", "counter add 1 ARR", "counter add x", dev=True)
    assert "did you mean node-2" in said and "0 entries are not within 1..500" in said and "-5 entries are not within" in said
    assert "no operator ARR; did you mean AR?" in said and "Traceback" not in said and "x is not a whole number" in said


def test_the_example_adds_once(cluster: ClusterUnderTest) -> None:
    """The same request id twice, with the primary killed between, adds once."""
    data = ["--data", str(cluster.folders.data), "--operator", "LUM"]
    first = run(cluster, "examples/counter.py", "add", "3", "--request-id", "once-and-once", *data)
    assert "example = 3" in first.stdout, first.stderr
    (place,) = [line for line in cluster.client().status().partitions if line.operator == "LUM"]
    cluster.kill(place.primary)
    try:
        again = run(cluster, "examples/counter.py", "add", "3", "--request-id", "once-and-once", *data)
        assert "example = 3" in again.stdout, again.stderr
        assert "example = 1" in run(cluster, "examples/counter.py", "add", *data, "--", "-2").stdout
        assert "example = 1" in run(cluster, "examples/counter.py", "show", *data).stdout
    finally:
        cluster.restart(place.primary)
    refused = run(cluster, "examples/counter.py", "add", "1", "--name", "No Name", *data)
    assert refused.returncode and "counter's name" in refused.stderr
