"""What an administrator types wrong or twice: one sentence names the thing and the nearest right one, and nothing is changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import administering, exit_codes, keys
from datastore import administration
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

INVALID, DECLINED, NOT_FOUND = exit_codes.INVALID, exit_codes.DECLINED, exit_codes.NOT_FOUND


# One process for all commands: what is typed comes as a JSON line, what is answered goes back as one.
TYPIST = """
import contextlib, io, json, sys
from client.cli import run
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(json.loads(line))
    print(json.dumps([code, said.getvalue()]), flush=True)
"""


class Typist:
    """Types commands for one cluster."""

    def __init__(self, cluster: ClusterUnderTest) -> None:
        self.cluster = cluster
        home = str(cluster.folders.data.parent / "home")
        environment = {"HOLDFAST_HOME": home, "PYTHONPATH": str(TOP), "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            [sys.executable, "-c", TYPIST], env=environment, cwd=home_of(cluster), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *words: str) -> tuple[int, str]:
        """Return the exit code and everything that was said."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ["--config", str(self.cluster.folders.config), "--data", str(self.cluster.folders.data), *words]
        print(json.dumps(line), file=self._process.stdin, flush=True)
        code, said = json.loads(self._process.stdout.readline())
        return int(code), str(said)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert 0 == self._process.wait(60)
        self._process.stdout.close()


def home_of(cluster: ClusterUnderTest) -> Path:
    """Return an empty folder in which commands are typed: what they write without being told where lies there."""
    folder = cluster.folders.data.parent / "here"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def typist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typist]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster"), datasets=()) as running:
        made = Typist(running)
        yield made
        made.close()


def wishes_of(cluster: ClusterUnderTest) -> tuple[dict[str, object], str]:
    """Return what must not change: the cluster's record and its configuration."""
    status = administering.ask(cluster.client(deadline_ms=30_000), keys.ensure_admin(cluster.folders), administration.LookAtCluster())
    return {key: note.value for key, note in status.record.items()}, cluster.folders.config.read_text(encoding="utf-8")


# What is typed, its exit code, and what the answer must name. {taken}: the port of node-1; {led}: who leads AR; {other}: who does not.
REFUSED = [
    ("node add {bad}", INVALID, "is not a plain name"),
    ("node add balancer-1 --port {free}", INVALID, "balancer-1"),
    ("node add node-4 --port {taken}", INVALID, "something listens at 127.0.0.1:{taken}"),
    ("node add node-1 --port {free}", INVALID, "node-1 is in the configuration already"),
    ("node remove nod-3", INVALID, "did you mean node-3"),
    ("node remove node-3 --yes", INVALID, "no other node can take node-3's copies"),
    ("node remove node-3", INVALID, "add --yes"),
    ("node drain nod-1", INVALID, "did you mean node-1"),
    ("recover nod-1", INVALID, "did you mean node-1"),
    ("recover lock-9", INVALID, "did you mean lock-"),
    ("recover manager-1", INVALID, "manager-1 is a manager"),
    ("recover lock-server balancer-1", INVALID, "no lock server balancer-1"),
    ("recover node-3 lock-1", INVALID, "one word too many"),
    ("recover node-3 --operator ZZ", INVALID, "ZZ"),
    ("recover {other} --operator AR --from {other}", DECLINED, "is the node to be recovered"),
    ("recover {other} --operator AR --from node-9", INVALID, "did you mean node-"),
    ("recover {led} --operator AR", DECLINED, "is its primary: move it first with: holdfast switchover AR"),
    ("switchover ZZ", INVALID, "no operator ZZ; see: holdfast operator list"),
    ("switchover AR --to {led}", INVALID, "{led} leads it already"),
    ("switchover AR --to node-9", INVALID, "did you mean node-"),
    ("failover AR", INVALID, "add --force"),
    ("failover AR --force", INVALID, "add --yes"),
    ("operator move AR node-9", INVALID, "did you mean node-"),
    ("operator move ZZ node-1", INVALID, "no operator ZZ"),
    ("operator place AR node-1", INVALID, "3 or 5 different nodes"),
    ("operator place AR node-1 node-2 node-2", INVALID, "3 or 5 different nodes"),
    ("operator place AR node-1 node-2 node-9", INVALID, "did you mean node-"),
    ("operator add AR --name Again --kind airline", INVALID, "AR exists already"),
    ("operator add NEW --name New --kind bus", INVALID, "airline"),
    ("operator add NEW --name New --kind airline --nodes node-1", INVALID, "3 or 5 different nodes"),
    ("operator add NEW --name New --kind airline --nodes node-1,node-2,node-9", INVALID, "node-9"),
    ("operator remove ZZ --yes", INVALID, "no operator ZZ"),
    ("operator erase-person --operator ARR --name Byron", NOT_FOUND, "the nearest is AR"),
    ("operator erase-person --operator ZZZ --name Byron", INVALID, "no operator's key for ZZZ"),
    ("operator erase-person --operator AR", INVALID, "--order REFERENCE or with --name NAME"),
    ("operator erase-person --operator AR --order QQQQQQ", NOT_FOUND, "no booking QQQQQQ of AR"),
    ("history --operator ZZ", INVALID, "no operator ZZ"),
    ("cluster restart --rolling manager-7", INVALID, "did you mean manager-"),
]


@pytest.mark.parametrize(("typed", "code", "said"), REFUSED, ids=[typed for typed, _, _ in REFUSED])
def test_a_wish_that_cannot_be_granted(typist: Typist, typed: str, code: int, said: str) -> None:
    """One sentence, the exit code of its kind, no traceback; the cluster's record, its cluster.toml and the folder are as before."""
    cluster = typist.cluster
    line = next(line for line in cluster.client(deadline_ms=30_000).status().partitions if line.operator == "AR")
    words = {
        "bad": "no de",
        "taken": str(cluster.plan.process("node-1").port),
        "free": "1",
        "led": line.primary,
        "other": min(line.replicas),
    }
    before = wishes_of(cluster)
    found, answer = typist(*(word.format(**words) for word in typed.split()))
    assert (code, True) == (found, said.format(**words) in answer), answer
    assert "Traceback" not in answer
    assert before == wishes_of(cluster)
    assert [] == [*home_of(cluster).iterdir()]


def test_what_is_so_already_is_said_and_stays_so(typist: Typist) -> None:
    """Twice the same wish: the second says what was before, truly, and does no harm."""
    for typed, first, second in (
        ("pause --why tea", "before: failover was automatic", "before: failover was paused"),
        ("resume", "before: failover was paused", "before: failover was automatic"),
        ("node drain node-2", "before: node-2 may lead, and leads", "before: node-2 is drained, and leads 0"),
        ("node drain node-2 --undo", "before: node-2 is drained", "before: node-2 may lead"),
    ):
        for said in (first, second):
            code, answer = typist(*typed.split())
            assert (exit_codes.DONE, True) == (code, said in answer), answer
    led = next(line.primary for line in typist.cluster.client(deadline_ms=30_000).status().partitions if line.operator == "AR")
    code, answer = typist("operator", "move", "AR", led)
    assert (exit_codes.DONE, True) == (code, f"after {led}" in answer), answer


def test_the_last_node_that_may_lead_is_not_drained(typist: Typist) -> None:
    """Two of three are drained; the third is refused, and leads everything."""
    for name in ("node-1", "node-2"):
        assert exit_codes.DONE == typist("node", "drain", name)[0]
    code, answer = typist("node", "drain", "node-3")
    assert (exit_codes.INVALID, True) == (code, "no other node could lead what node-3 leads" in answer), answer
    client = typist.cluster.client(deadline_ms=30_000)
    wait_until(lambda: {"node-3"} == {line.primary for line in client.status().partitions}, "node-3 to be seen leading everything", 30)
    for name in ("node-1", "node-2"):
        assert exit_codes.DONE == typist("node", "drain", name, "--undo")[0]


def test_a_node_that_does_not_run_is_not_recovered(typist: Typist) -> None:
    """The command says so at once, and what to do; the status counts every primary, and names the dead node and its operators."""
    cluster = typist.cluster
    cluster.kill("node-2")
    try:
        wait_until(lambda: typist("recover", "node-2", "--dry-run")[0] == exit_codes.INVALID, "the managers to miss it", 30)
        code, answer = typist("recover", "node-2")
        assert (exit_codes.INVALID, True) == (code, "node-2 does not run: start it first" in answer), answer

        def is_told() -> bool:
            # Whatever was asked amid the change of primaries may still be of before.
            code, answer = typist("cluster", "status")
            line = answer.partition("primaries: ")[2].partition("\n")[0]
            led = {node: int(count) for node, count in re.findall(r"(node-\d) (\d)", line)}
            degraded = code in (exit_codes.PARTIAL, exit_codes.NO_ANSWER) and "not in order: node-2" in answer
            return degraded and "node-2" not in led and len(cluster.plan.operators) == sum(led.values())

        wait_until(is_told, "the status to count every primary, and to name who is missing", 30)
    finally:
        cluster.restart("node-2")
