"""Checks, repairs, exports and erasures by command, on a whole cluster of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import api
from client.exit_codes import DAMAGED, DONE, INVALID, NOT_FOUND, PARTIAL
from datastore.errors import HoldfastError
from datastore.model import Passenger
from tests.integration import commands
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

SETTINGS = {"datastore": {"segment_entries": 16, "tail_entries": 16}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("ledgers"), SETTINGS, datasets=("brief",)) as made:
        yield made


def run(cluster: ClusterUnderTest, *words: str) -> commands.Outcome:
    """Return the exit code, the document and the messages of a command at the cluster."""
    return commands.run(cluster.folders.data / "wallet", *words, data=cluster.folders.data)


def book(cluster: ClusterUnderTest, *people: Passenger) -> api.messages.OrderAnswer:
    client = cluster.client()
    service = commands.unsold(client)[0]
    hold = client.hold(service, client.free_seats(service)[: len(people)])
    return client.confirm(hold.hold_id, list(people))


def test_all_copies_are_found_equal_while_writers_go_on(cluster: ClusterUnderTest) -> None:
    """The comparison is at one lsn for every copy of every operator, and a deep check reads every ledger to its end."""
    client = cluster.client()
    service = commands.unsold(client)[0]
    seats = client.free_seats(service)
    for number in range(20):
        client.release(client.hold(service, [seats[number]]).hold_id)
    code, document, _ = run(cluster, "cluster", "check", "--deep")
    assert (DONE, "equal") == (code, document["verdict"]), document
    copies = document["copies"]
    assert 12 == len(copies) and {"AR", "FO", "LUM", "GRAND"} == {copy["operator"] for copy in copies}
    assert all(copy["verified_lsn"] > 0 and copy["digest"] for copy in copies)
    assert 3 == sum(copy["operator"] == "AR" and copy["verified_lsn"] >= 40 for copy in copies)


def test_an_export_proves_itself_offline_and_a_changed_one_does_not(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """The file alone is enough; no name is in it; a changed byte anywhere is found."""
    book(cluster, Passenger("Exportson", "Erika"))
    file = tmp_path / "ar.holdfast"
    code, document, messages = run(cluster, "operator", "export", "AR", "--out", str(file))
    assert (DONE, "AR") == (code, document["operator"]), messages
    code, proof, _ = run(cluster, "verify", str(file))
    assert (DONE, [], document["last_lsn"]) == (code, proof["violations"], proof["last_lsn"])
    assert proof["orders"] >= 1
    content = file.read_bytes()
    assert b"Exportson" not in content
    for place in (3, len(content) // 2, len(content) - 3):
        changed = bytearray(content)
        changed[place] ^= 0x10
        file.write_bytes(bytes(changed))
        assert DAMAGED == run(cluster, "verify", str(file))[0]
    file.write_bytes(content[: len(content) // 2])
    assert DAMAGED == run(cluster, "verify", str(file))[0]
    assert INVALID == run(cluster, "operator", "export", "AR", "--out", str(file))[0], "a file is never written over"


def test_an_erased_person_is_in_no_file_of_the_cluster(cluster: ClusterUnderTest) -> None:
    """Z12: by name or by booking; the booking stays, other passengers keep their names, and every copy still verifies."""
    two = book(cluster, Passenger("Zyxwvuts", "Quirina"), Passenger("Stayer", "Sam"))
    one = book(cluster, Passenger("Plmoknij", "Bertram"))
    assert files_with(cluster, b"Zyxwvuts") and files_with(cluster, b"Plmoknij")
    code, document, _ = run(cluster, "operator", "erase-person", "--operator", "AR", "--name", "zyxwvuts quirina", "--yes")
    assert (DONE, [two.reference]) == (code, [erased["reference"] for erased in document["erased"]])
    code, document, _ = run(cluster, "operator", "erase-person", "--operator", "AR", "--order", one.reference, "--yes")
    assert (DONE, [one.reference]) == (code, [erased["reference"] for erased in document["erased"]])
    for name in (b"Zyxwvuts", b"Quirina", b"Plmoknij", b"Bertram"):
        wait_until(lambda name=name: not files_with(cluster, name), f"{name!r} to be in no file", 20)  # type: ignore[misc]
    assert files_with(cluster, b"Stayer")
    client = cluster.client()
    kept = client.order(two.reference, token=two.manage_token)
    assert [("", ""), ("Stayer", "Sam")] == [(who.surname, who.given) for who in kept.passengers] and 2 == len(kept.seats)
    assert [] == client.order(one.reference, token=one.manage_token).passengers
    assert "cancelled" == client.cancel(one.reference, one.manage_token).state
    assert NOT_FOUND == run(cluster, "operator", "erase-person", "--operator", "AR", "--name", "Zyxwvuts", "--yes")[0]
    assert DONE == run(cluster, "cluster", "check", "AR", "--deep")[0]


def files_with(cluster: ClusterUnderTest, text: bytes) -> list[Path]:
    """Return the files of the whole data folder, logs included, that hold the text."""
    return [path for path in cluster.folders.data.rglob("*") if path.is_file() and text in path.read_bytes()]


def test_an_operator_is_added_while_the_cluster_runs(cluster: ClusterUnderTest) -> None:
    """It has copies, a key and a place in the list at once; a second time is refused and changes nothing."""
    code, document, messages = run(cluster, "operator", "add", "ZZ", "--name", "Zed Rail", "--kind", "rail")
    assert (DONE, 3) == (code, len(document["nodes"])), messages
    assert cluster.folders.operator_key("ZZ").exists()
    listed = {line["operator"]["code"]: line for line in run(cluster, "operator", "list")[1]}
    assert ("Zed Rail", "rail") == (listed["ZZ"]["operator"]["name"], listed["ZZ"]["operator"]["kind"])
    assert INVALID == run(cluster, "operator", "add", "ZZ", "--name", "Other", "--kind", "rail")[0]
    assert INVALID == run(cluster, "operator", "add", "Y1", "--name", "Other", "--kind", "ferry")[0]
    brief = ("import", str(TOP / "data" / "brief"), "--operator", "LA")
    code, document, _ = run(cluster, *brief)
    assert (INVALID, True) == (code, "--create-operators" in document["operators"][0]["error"])
    assert "LA" not in {line["operator"]["code"] for line in run(cluster, "operator", "list")[1]}
    code, document, _ = run(cluster, *brief, "--create-operators")
    assert (DONE, "") == (code, document["operators"][0]["error"])


def test_an_operator_on_nodes_of_its_own_is_added_sold_from_and_removed(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Placed as asked; not removed while a hold is open; exported first; then nothing of it is on sale and its ledger is whole."""
    wrong = run(cluster, "operator", "add", "OWN", "--name", "Own", "--kind", "airline", "--nodes", "node-1,node-2,node-7")
    assert (INVALID, True) == (wrong[0], "node-7" in wrong[1]["detail"])
    own = ("operator", "add", "OWN", "--name", "Own Nodes", "--kind", "airline", "--nodes", "node-3,node-2,node-1")
    code, document, messages = run(cluster, *own)
    assert (DONE, {"node-1", "node-2", "node-3"}) == (code, set(document["nodes"])), messages
    out = tmp_path / "fo.holdfast"
    client = cluster.client()
    day = (date.today() + timedelta(days=20)).isoformat()
    service = next(one.service_id for one in client.services(day, operator="FO").services)
    hold = client.hold(service, client.free_seats(service)[:1])
    code, document, _ = run(cluster, "operator", "remove", "FO", "--out", str(out), "--yes")
    assert (INVALID, ["1 open holds"]) == (code, document["fields"]["open"])
    assert not out.exists()
    client.release(hold.hold_id)
    assert DONE == run(cluster, "operator", "remove", "FO", "--out", str(out), "--yes")[0]
    assert DONE == run(cluster, "verify", str(out))[0]
    with pytest.raises(HoldfastError, match="no service"):
        client.hold(service, ["1A"])
    listed = {line["operator"]["code"]: line["operator"] for line in run(cluster, "operator", "list")[1]}
    assert (True, 0) == (listed["FO"]["retired"], listed["FO"]["schedules"])
    assert INVALID != run(cluster, "operator", "remove", "FO", "--out", str(tmp_path / "again"), "--yes")[0] != DONE


def test_a_copy_that_differs_is_named_and_a_repair_proposed(cluster: ClusterUnderTest) -> None:
    """A row that no entry wrote: the check names the node and the operator, exits 9, and what is down is said to be down."""
    with cluster.client() as client:
        primary = next(line.primary for line in client.status().partitions if line.operator == "FO")
    victim = next(name for name in ("node-1", "node-2", "node-3") if name != primary)
    cluster.kill(victim)
    code, document, _ = run(cluster, "cluster", "check")
    silent = {copy["node"] for copy in document["copies"] if copy["verdict"] == "silent"}
    assert (PARTIAL, {victim}) == (code, silent), document
    store = cluster.folders.data / victim / "partitions" / "FO.sqlite"
    # What a bad disk or a stray tool could leave: a row that no entry wrote, and a digest and a sum that fit it.
    script = (
        "import apsw, sys\n"
        "from datastore.digest import as_bytes, digest_of\n"
        "from datastore.store_file import put_sum\n"
        "d = apsw.Connection(sys.argv[1])\n"
        "d.execute(\"INSERT INTO row VALUES (1, 'X/1', x'00')\").fetchall()\n"
        "total = as_bytes(digest_of(d.execute('SELECT kind, key, value FROM row')))\n"
        "d.execute(\"UPDATE meta SET value = ? WHERE key = 'state_digest'\", (total,)).fetchall()\n"
        "put_sum(d)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(store)], check=True, timeout=30, cwd=TOP, env={**os.environ, "PYTHONPATH": str(TOP)})
    cluster.faults_expected.add(victim)
    cluster.restart(victim)
    cluster.wait_ready()
    code, document, _ = run(cluster, "cluster", "check")
    wrong = [(copy["operator"], copy["node"]) for copy in document["copies"] if copy["verdict"] == "differs"]
    assert (DAMAGED, "differs", [("FO", victim)]) == (code, document["verdict"], wrong)
    code, document, _ = run(cluster, "cluster", "fix")
    assert DAMAGED == code and "differs" == document["verdict"]
    for proposal in document["proposals"]:
        assert ["recover", victim, "--operator", "FO"] == proposal["command"]
