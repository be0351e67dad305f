"""Nodes and operators come and go by commands as a person types them: cluster.toml keeps its comments, mistakes are told at once."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import exit_codes
from client.api import Passenger
from tests.integration.starter import SERVICE, Starter
from tests.waiting import wait_until

DONE, INVALID = exit_codes.DONE, exit_codes.INVALID
pytestmark = pytest.mark.timeout(480)  # A busy machine starts a dozen processes, several times.
COMMENTS = ("# Ours, kept by hand.", "# the one in the cellar")


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    with Starter(tmp_path_factory.mktemp("nodes")) as made:
        text = made.config.read_text(encoding="utf-8").replace('name = "node-2"', f'name = "node-2"  {COMMENTS[1]}', 1)
        made.config.write_text(f"{COMMENTS[0]}\n{text}", encoding="utf-8")
        made.up()
        yield made
    made.check_logs()


def said(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    answer = done.stdout + done.stderr
    assert (code, []) == (done.returncode, [word for word in words if word not in answer]), answer


def configured(starter: Starter) -> list[str]:
    text = starter.config.read_text(encoding="utf-8")
    assert [] == [comment for comment in COMMENTS if comment not in text]
    return [row["name"] for row in tomllib.loads(text)["datastore"]["node"]]


def copies_of(starter: Starter, operator: str) -> list[str]:
    with starter.client() as client:
        return sorted(copy.node for line in client.status().partitions if line.operator == operator for copy in line.copies)


def test_a_node_comes_goes_and_comes_again(starter: Starter) -> None:
    """Added twice, removed twice, added again over its old files, then over an empty folder; whoever buys meanwhile gets a seat."""
    said(starter.run("node", "add", "node-4"), DONE, "rewritten: ", "after: node-4 at 127.0.0.1:")
    assert ["node-1", "node-2", "node-3", "node-4"] == configured(starter)
    said(starter.run("node", "add", "node-4"), DONE, "before: node-1, node-2, node-3, node-4", "after: node-4 at 127.0.0.1:")
    said(starter.run("operator", "place", "AR", "node-1", "node-2", "node-3"), DONE)
    wait_until(lambda: copies_of(starter, "AR") == ["node-1", "node-2", "node-3"], "AR to be where it is wanted", 60)
    said(starter.run("switchover", "AR", "--to", "node-4"), INVALID, "node-4 has no voting copy; node-1, node-2, node-3 have")
    said(starter.run("operator", "move", "AR", "node-4"), INVALID, "holdfast operator place AR")
    with starter.client() as client:
        hold = client.hold_any(SERVICE, 1)
        said(starter.run("node", "remove", "node-4", "--yes"), DONE, "after: node-4 is removed")
        client.confirm(hold.hold_id, [Passenger("Byron", "Ada")])
    assert ["node-1", "node-2", "node-3"] == configured(starter)
    said(starter.run("node", "remove", "node-4", "--yes"), INVALID, "node-4 was removed already; there are node-1, node-2, node-3")
    said(starter.run("recover", "node-4"), INVALID, "node-4 was removed")
    said(starter.run("node", "add", "node-4"), INVALID, "its old files are still in", "delete that folder or move it away")
    assert ["node-1", "node-2", "node-3"] == configured(starter)
    shutil.move(starter.folders.data / "node-4", starter.folders.data / "node-4.old")
    said(starter.run("node", "add", "node-4"), DONE, "after: node-4 at 127.0.0.1:")
    assert ["node-1", "node-2", "node-3", "node-4"] == configured(starter)


def dataset(folder: Path, code: str) -> Path:
    """Return the shipped example with another operator's code in the place of AR."""
    shutil.copytree(Path(__file__).resolve().parents[2] / "data" / "brief", folder)
    for name in ("operators.csv", "timetable.csv"):
        path = folder / name
        path.write_text(path.read_text(encoding="utf-8").replace("\nAR,", f"\n{code},"), encoding="utf-8")
    return folder


def test_operators_come_and_go(starter: Starter, tmp_path: Path) -> None:
    """One with nodes of its own; one that an import makes, but not unasked; neither is removed while a seat of it is booked."""
    own = ("--name", "Own", "--kind", "rail", "--nodes", "node-3,node-1,node-2")
    said(starter.run("operator", "add", "OWN", *own), DONE, "OWN (Own) is on")
    assert ["node-1", "node-2", "node-3"] == copies_of(starter, "OWN")
    path = str(dataset(tmp_path / "brief", "XA"))
    said(starter.run("import", path, "--operator", "XA"), INVALID, "does not know operator XA; --create-operators makes its partition")
    said(starter.run("import", path, "--operator", "XA", "--create-operators"), DONE)
    with starter.client() as client:
        service = SERVICE.replace("AR1140", "XA1140")
        wait_until(lambda: "XA" in {one.code for one in client.operators() if one.schedules}, "XA to be on sale", 30)
        hold = client.hold_any(service, 1)
        order = client.confirm(hold.hold_id, [Passenger("Byron", "Ada")])
        out = tmp_path / "XA.holdfast"
        said(starter.run("operator", "remove", "XA", "--yes", "--out", str(out)), INVALID, "1 booked seats that have not travelled")
        assert not out.exists()
        client.cancel(order.reference, order.manage_token)
    said(starter.run("operator", "remove", "XA", "--yes", "--out", str(out)), DONE, "its files stay on", "no ledger is deleted", str(out))
    said(starter.run("verify", str(out)), DONE)
    stores = [*starter.folders.data.glob("node-[1-4]/partitions/XA.sqlite")]
    assert 3 == len(stores)


def test_after_a_start_at_other_ports_every_node_is_found(starter: Starter) -> None:
    """What the record says of nodes that were added or drained is older than the cluster.toml of this start, which has their ports."""
    said(starter.run("node", "drain", "node-1"), DONE, "after: node-1 leads nothing")
    said(starter.run("cluster", "down"), DONE)
    before = starter.folders.config.read_text(encoding="utf-8")
    starter.up()
    assert before != starter.folders.config.read_text(encoding="utf-8")
    said(starter.run("cluster", "status"), DONE, "all is well")
    said(starter.run("node", "list"), DONE, "draining")
