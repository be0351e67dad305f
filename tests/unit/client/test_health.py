"""The one line of `cluster status`, what is said where nothing answers, and the options that mean one cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client import commands_cluster, health, processes, supervisor
from client.folders import Folders
from client.terminal import Session, hints
from datastore.errors import NodeUnreachable
from datastore.messages import CopyLine, PartitionLine, ProcessStatus, StatusAnswer


def answer(verdict: str, locks: str = "ok ok ok", partition: str = "ok", node: str = "ok") -> StatusAnswer:
    lines = [ProcessStatus(f"lock-{n}", "lock server", "", "", word) for n, word in enumerate(locks.split(), 1)]
    lines.append(ProcessStatus("node-1", "node", "", "", node))
    return StatusAnswer(processes=lines, partitions=[PartitionLine("AR", "node-1", 1, 1, {}, partition)], verdict=verdict, as_of_ms=1)


def without_balancers() -> StatusAnswer:
    """What managers and nodes say when nobody above them is left; lock servers are not asked then."""
    lines = [ProcessStatus("node-1", "node", "", "", "ok"), ProcessStatus("balancer-1", "balancer", "", "", "down")]
    return StatusAnswer(processes=lines, partitions=[PartitionLine("AR", "node-1", 1, 1, {}, "ok")], verdict="down", as_of_ms=1)


def test_the_next_command_brings_back_what_is_lost() -> None:
    """A lock server that forgot, then a copy that lacks; what comes back by itself is left alone."""
    assert "" == health.suggestion(answer("ok"), supervised=True)
    locks = answer("degraded", locks="ok degraded ok")
    locks.processes[1].detail = "not initialised: it is new or lost its data, and must be admitted first"
    assert "holdfast recover lock-server lock-2" == health.suggestion(locks, supervised=True)
    lacks = answer("degraded", partition="degraded")
    lacks.partitions[0].copies = [CopyLine("node-2", "empty", 0, 0, 9, 0, aside="AR.sqlite.quarantined-x-damaged")]
    assert "holdfast recover node-2 --operator AR" == health.suggestion(lacks, supervised=True)
    lacks.partitions[0].copies[0].recovery = "fetching 40 % from node-1"
    assert "holdfast cluster status --operators" == health.suggestion(lacks, supervised=True)


@pytest.mark.parametrize(
    ("given", "supervised", "words"),
    [
        (answer("ok"), True, ["all is well"]),
        (answer("ok"), False, ["degraded: ", "the supervisor is not running", "started again"]),
        (answer("down", locks="ok down down"), True, ["down: 1 of 3 lock servers", "no seat can be held", "lock-2, lock-3"]),
        (answer("degraded", locks="ok ok down"), True, ["degraded: not in order: lock-3"]),
        (answer("down", partition="down"), True, ["down: AR cannot sell"]),
        (answer("degraded", partition="degraded", node="down"), True, ["degraded: AR lacks a replica", "node-1"]),
        (without_balancers(), True, ["down: no balancer answers: nothing can be sold", "balancer-1"]),
    ],
)
def test_the_verdict_says_what_is_amiss_and_what_that_means(given: StatusAnswer, supervised: bool, words: list[str]) -> None:
    """The worst first."""
    line = health.verdict(given, supervised=supervised)
    assert line.startswith(words[0])
    for word in words:
        assert word in line
    assert "\n" not in line


def test_nothing_runs_is_not_answered_with_the_same_command(tmp_path: Path) -> None:
    """The hint says how to start it; where something runs, where its logs are."""
    folders = Folders(tmp_path)
    nothing = health.unreachable(folders, NodeUnreachable("refused"), "./start-cluster --data X")
    assert f"nothing runs in {tmp_path}" == nothing.detail
    assert ["start it with: ./start-cluster --data X"] == hints(nothing)
    assert health.supervised(folders)

    processes.write_pid(folders.pid("node-1"), processes.identity(os.getpid()))
    some = health.unreachable(folders, NodeUnreachable("refused"), "./start-cluster")
    assert "node-1" in some.detail
    assert [str(folders.logs) in hint for hint in hints(some)] == [True]
    assert not health.supervised(folders)

    processes.write_pid(folders.pid(supervisor.NAME), processes.identity(os.getpid()))
    assert health.supervised(folders)


def test_the_options_that_mean_a_cluster(tmp_path: Path) -> None:
    """Those that differ from what the command takes by itself, whole and quoted."""
    config = tmp_path / "my cluster.toml"
    config.write_text('[client]\ndata = "there"\n')
    assert "" == commands_cluster._options(Session(config), config)
    assert "" == commands_cluster._options(Session(config, data=tmp_path / "there"), config)
    assert f" --data {tmp_path / 'here'}" == commands_cluster._options(Session(config, data=tmp_path / "here"), config)
    assert f" --config '{config}'" == commands_cluster._options(Session(config), commands_cluster.SHIPPED)
