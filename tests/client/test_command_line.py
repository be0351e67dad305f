"""Completion of values, `--watch` and the doctor against a real cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client import doctor, exit_codes
from client.terminal import Session
from tests.faults.chaos import machine
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

LINES = [
    ("seats AR11", 2, "AR1140-EZE-tomorrow"),
    ("search EZ", 2, "EZE"),
    ("switchover Q", 2, "QR"),
    ("switchover QR --to node", 4, "node-2"),
    ("node drain node-", 3, "node-3"),
    ("release l", 2, "last"),
]


def environment(cluster: ClusterUnderTest, home: Path) -> dict[str, str]:
    data = str(cluster.folders.data)
    return {
        **os.environ,
        "HOLDFAST_CONFIG": str(cluster.folders.config),
        "HOLDFAST_DATA": data,
        "HOLDFAST_HOME": str(home),
        "PYTHONPATH": str(TOP),
    }


@pytest.mark.parametrize(("line", "place", "wanted"), LINES)
def test_values_are_completed(cluster: ClusterUnderTest, tmp_path: Path, line: str, place: int, wanted: str) -> None:
    """Services, places, operators, nodes and holds, from the cluster or its configuration; a second time from what was kept."""
    asked = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": f"holdfast {line}", "COMP_CWORD": str(place)}

    def completed() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "client"],
            env={**environment(cluster, tmp_path), **asked},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout.split()

    # A loaded machine may miss the short deadline of the first question.
    wait_until(lambda: wanted in completed(), f"{wanted} among the completions of {line!r}", 60)
    assert wanted in completed()


def test_nobody_answers_and_nothing_is_said(tmp_path: Path) -> None:
    """Completion in a folder without a cluster is empty and silent."""
    asked = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": "holdfast search E", "COMP_CWORD": "2"}
    bare = {**os.environ, "HOLDFAST_HOME": str(tmp_path), "HOLDFAST_CONFIG": str(tmp_path / "none.toml"), "PYTHONPATH": str(TOP)}
    done = subprocess.run([sys.executable, "-m", "client"], env={**bare, **asked}, capture_output=True, text=True, timeout=120, check=False)
    assert ("", "") == (done.stdout.strip(), done.stderr)


def test_holds_are_watched_until_interrupted(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """One document follows the other; Ctrl+C ends it."""
    with (tmp_path / "out").open("wb") as output:
        watching = subprocess.Popen(
            [sys.executable, "-m", "client", "holds", "--watch", "--json"], env=environment(cluster, tmp_path), stdout=output, stderr=output
        )
        try:
            wait_until(lambda: (tmp_path / "out").read_text(encoding="utf-8").count('"holds"') >= 2, "two looks", 60)
        finally:
            watching.send_signal(signal.SIGINT)
            assert 130 == watching.wait(60)


def test_the_doctor_finds_a_cluster_in_order(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Every line is there, nothing that is well asks for anything, and the cluster answers."""
    done = subprocess.run(
        [sys.executable, "-m", "client", "doctor", "--json"],
        env=environment(cluster, tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert {
        "python",
        "libraries",
        "configuration",
        "lock servers",
        "disk",
        "data folder",
        "wallet",
        "cluster",
        "clock",
        "versions",
    } <= found.keys()
    assert all(one["todo"] for one in found.values() if one["level"] == "wrong")
    assert "ok" == found["python"]["level"] == found["configuration"]["level"] == found["clock"]["level"]
    assert found["cluster"]["level"] != "wrong"


def test_the_doctor_says_what_to_do(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A key that others may read, a port that a stranger has, a configuration that cannot be read: each with what to do."""
    session = Session(config=cluster.folders.config, data=tmp_path / "data")
    (tmp_path / "data" / "keys").mkdir(parents=True)
    key = tmp_path / "data" / "keys" / "AR.key"
    key.write_text("x", encoding="ascii")
    key.chmod(0o644)
    found = {one.what: one for one in doctor.examine(session) if one.level == doctor.WRONG}
    assert f"chmod 600 {key}" in found["data folder"].todo
    # The ports of this configuration belong to another data folder's processes.
    assert "--free-ports" in found["ports"].todo
    (tmp_path / "bad.toml").write_text("[x", encoding="utf-8")
    assert "configuration" == next(one.what for one in doctor.examine(Session(config=tmp_path / "bad.toml")) if one.level == doctor.WRONG)


def examined(environment: dict[str, str], *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the doctor's exit code and its findings by name."""
    command = [sys.executable, "-m", "client", *options, "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, {one["what"]: one for one in json.loads(done.stdout)}


def test_the_doctor_finds_a_clock_that_is_off(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A machine whose wall clock is an hour ahead is told by how much, with what to do; that is a warning, as no seat depends on it."""
    reason = machine.require(machine.CLOCKS)
    if reason:
        pytest.skip(reason)
    shift = tmp_path / "shift"
    shift.write_text("+3600\n", encoding="ascii")
    shifted = machine.clock_environment(machine.libfaketime(), str(shift))

    heard: list[tuple[int, dict[str, dict[str, str]]]] = []

    def answered() -> bool:
        heard.append(examined({**environment(cluster, tmp_path), **shifted}))
        return "clock" in heard[-1][1]

    wait_until(answered, "the cluster to answer a doctor", 60)  # A loaded machine may miss the doctor's short deadline.
    code, found = heard[-1]
    assert "warning" == found["clock"]["level"] and "time server" in found["clock"]["todo"]
    seconds = int(found["clock"]["said"].split()[0])
    assert abs(seconds - 3600) < 120 and "from the balancer's" in found["clock"]["said"]
    assert code in (exit_codes.PARTIAL, exit_codes.NO_ANSWER)


@pytest.mark.parametrize(("size", "level", "todo"), [("64m", "wrong", "make room: a node"), ("1g", "warning", "make room soon")])
def test_the_doctor_finds_a_disk_that_is_nearly_full(cluster: ClusterUnderTest, tmp_path: Path, size: str, level: str, todo: str) -> None:
    """A data folder on a disk with little room is told with how much there is, more gravely the less it is."""
    reason = machine.require(machine.SMALL_DISKS)
    if reason:
        pytest.skip(reason)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    subprocess.run(mount, capture_output=True, timeout=60, check=True)
    try:
        code, found = examined(environment(cluster, tmp_path), "--data", str(disk / "data"))
        assert (level, True) == (found["disk"]["level"], str(disk) in found["disk"]["said"]), found["disk"]
        assert found["disk"]["todo"].startswith(todo)
        assert code != exit_codes.DONE and (level != "wrong" or code == exit_codes.NO_ANSWER)
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True, timeout=60, check=True)


def test_the_log_is_read_by_words_and_followed(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Lines of several processes by time, narrowed by words; a slip in the level is met; followed, what comes is added until Ctrl+C."""

    def log(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client", "log", *words]
        return subprocess.run(command, env=environment(cluster, tmp_path), capture_output=True, text=True, timeout=120, check=False)

    lines = json.loads(log("operator=QR", "--json", "--limit", "50").stdout)["lines"]
    assert lines and all(one["fields"]["operator"] == "QR" for one in lines)
    assert [one["stamp"] for one in lines] == sorted(one["stamp"] for one in lines)
    assert len({one["process"] for one in lines}) > 1
    refused = log("--level", "warnin")
    assert "did you mean warning?" in refused.stderr and "" == refused.stdout
    with (tmp_path / "out").open("wb") as output:
        command = [sys.executable, "-m", "client", "log", "--watch", "made-by-this-test"]
        watching = subprocess.Popen(command, env=environment(cluster, tmp_path), stdout=output, stderr=output)
        try:
            # The command has begun to read when it says that nothing is there yet.
            wait_until(lambda: "no line has all of that" in (tmp_path / "out").read_text(encoding="utf-8"), "its first look", 60)
            with cluster.folders.log("stranger").open("a", encoding="utf-8") as file:
                file.write("2026-12-01T10:00:00.000 INFO stranger made-by-this-test request_id=x\n")
            wait_until(lambda: "request_id=x" in (tmp_path / "out").read_text(encoding="utf-8"), "the new line", 60)
        finally:
            watching.send_signal(signal.SIGINT)
            assert 130 == watching.wait(60)
