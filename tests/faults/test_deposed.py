"""Primaries that were replaced and do not know it: cut off from the others, or started from an old disk. They harm nobody."""

from __future__ import annotations

import contextlib
import copy
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from client import supervisor
from datastore import wire
from datastore.errors import HoldfastError, NotPrimary, OutcomeUnknown, error_from_data
from tests import nursery
from tests.checkers import History
from tests.faults.buyers import (
    OVERLAY,
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    node_stubs,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
    statuses,
)
from tests.faults.test_frozen import direct_hold, sent_to
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

NODES = ("node-1", "node-2", "node-3")


class Wire:
    """A TCP line from one node to another that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._cut = False
        self._ends: set[socket.socket] = set()
        self._mutex = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, timeout=2) if not self._cut else None
            except OSError:
                if self._listener.fileno() < 0:
                    return
                near.close()
                continue
            if far is None:
                near.close()
                continue
            far.settimeout(None)
            with self._mutex:
                self._ends |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._mutex:
            self._ends -= {source, sink}

    def cut(self) -> None:
        self._cut = True
        with self._mutex:
            ends = list(self._ends)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()


class WiredCluster(ClusterUnderTest):
    """A cluster whose nodes reach each other over lines that a test can cut; managers reach all nodes directly."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, OVERLAY, datasets=("venues",))
        ports = {row["name"]: row["port"] for row in self.mapping["datastore"]["node"]}
        self.wires = {(one, other): Wire(ports[other]) for one in NODES for other in NODES if one != other}

    def start(self, name: str) -> None:
        if name not in NODES:
            super().start(name)
            return
        mapping = copy.deepcopy(self.mapping)
        for row in mapping["datastore"]["node"]:
            if row["name"] != name:
                row["port"] = self.wires[name, row["name"]].port
        file = self.folders.run / f"{name}.toml"
        file.write_text(tomlkit.dumps(mapping), encoding="utf-8")
        command = supervisor.command_of(self.plan.process(name), self.folders)
        command[command.index("--config") + 1] = str(file)
        self.running[name] = nursery.spawn(command, self.folders.log(name))

    def isolate(self, name: str) -> None:
        for pair, line in self.wires.items():
            if name in pair:
                line.cut()

    def mend(self) -> None:
        for line in self.wires.values():
            line.mend()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[WiredCluster]:
    made = WiredCluster(tmp_path)
    try:
        with made:
            yield made
    finally:
        for line in made.wires.values():
            line.close()


def test_a_primary_that_is_cut_off_steps_down(wired: WiredCluster) -> None:
    """Managers and callers reach it, the other nodes do not: what is asked of it directly is no success, others sell on."""
    service = services_of(wired, "GRAND", 3)[0].service_id
    seats = seats_of(wired, service)
    history = History()
    buyers = [Buyer(wired, history, f"wired-{number}", deadline_ms=20_000) for number in range(2)]
    buyers[0].hold(service, seats[:1])
    lonely = primary_of(wired, "GRAND")
    stub = node_stubs(wired)[lonely]
    wired.isolate(lonely)
    outcomes = []
    try:
        command = direct_hold(service, seats[9], "sent-to-the-lonely", 2**30, "3" * 32)
        result = stub.submit([wire.SubmitItem("GRAND", wire.encode([command]))], 8_000)
        outcomes.append(error_from_data(result[0].error).code if result[0].error else "done")
    except HoldfastError as error:
        outcomes.append(error.code)
    # Its own disk has the entry, nobody else's: it may have happened, or not, and is never a success.
    assert outcomes[0] in ("outcome_unknown", "not_primary"), outcomes
    holds = [buyers[number].hold(service, seats[2 * number + 2 : 2 * number + 4]) for number in range(2)]
    buyers[0].confirm(holds[0])
    assert primary_of(wired, "GRAND") != lonely
    buyers[1].confirm(buyers[1].hold(service, [seats[9]]))  # The seat that only the lonely one had given away.
    wired.mend()
    assert_replicas_equal(wired, "GRAND")
    assert set(history.codes(service)) == {""}, history.codes(service)
    assert_sound(wired, history, service, buyers)
    assert_one_owner_at_a_time(seat_rows(wired, "GRAND", service))


def test_a_primary_that_is_frozen_in_the_middle_of_a_write(wired: WiredCluster) -> None:
    """The entry is on its own disk and nowhere else when it is stopped, beyond every time-out; others lead and sell the seat.

    Continued, it tells nobody that the write was done; its tail is replaced, and the hashes end equal.
    """
    service = services_of(wired, "GRAND", 10)[0].service_id
    seats = seats_of(wired, service)
    history = History()
    buyer = Buyer(wired, history, "awake", deadline_ms=30_000)
    buyer.hold(service, seats[:1])
    asleep = primary_of(wired, "GRAND")
    stubs = node_stubs(wired)
    before = statuses(stubs, "GRAND")[asleep].last_lsn
    answers: list[HoldfastError | list[wire.Outcome]] = []

    def write() -> None:
        try:
            answers.append(sent_to(stubs[asleep], direct_hold(service, seats[5], "written-before-sleep", 2**30, "4" * 32), 60_000))
        except HoldfastError as error:
            answers.append(error)

    wired.isolate(asleep)
    question = threading.Thread(target=write, daemon=True)
    question.start()
    wait_until(lambda: statuses({asleep: stubs[asleep]}, "GRAND")[asleep].last_lsn > before, "the entry to be on its disk", 30)
    wired.freeze(asleep)
    try:
        wired.mend()
        buyer.confirm(buyer.hold(service, [seats[5]]))  # Waits for the promotion.
        for seat in seats[10:14]:
            buyer.confirm(buyer.hold(service, [seat]))
    finally:
        wired.thaw(asleep)
    question.join(90)
    assert not question.is_alive()
    for stub in stubs.values():
        stub.close()
    answer = answers[0]
    assert answer[0].error if isinstance(answer, list) else isinstance(answer, NotPrimary | OutcomeUnknown), answers
    assert_replicas_equal(wired, "GRAND", 60)
    assert asleep != primary_of(wired, "GRAND")
    assert {""} == set(history.codes(service)), history.codes(service)
    assert_sound(wired, history, service, [buyer])
    rows = seat_rows(wired, "GRAND", service)
    assert_one_owner_at_a_time(rows)
    assert "GRAND.written-before-sleep" not in {row.hold_id for row in rows[seats[5]]}


def test_a_node_started_from_an_old_disk_catches_up(tmp_path: Path) -> None:
    """Its files are those of an hour ago, its promises too: it takes in what it lacks, and the hashes end equal."""
    with ClusterUnderTest(tmp_path, OVERLAY, datasets=("venues",)) as cluster:
        service = services_of(cluster, "GRAND", 3)[0].service_id
        seats = seats_of(cluster, service)
        history = History()
        buyer = Buyer(cluster, history, "before-and-after", deadline_ms=20_000)
        buyer.confirm(buyer.hold(service, seats[:2]))
        old = primary_of(cluster, "GRAND")
        files, kept = cluster.folders.data / old, tmp_path / "old"
        cluster.kill(old)
        shutil.copytree(files, kept)
        cluster.restart(old)
        for seat in seats[2:12]:
            buyer.confirm(buyer.hold(service, [seat]))
        assert_replicas_equal(cluster, "GRAND")
        cluster.kill(old)
        shutil.rmtree(files)
        shutil.copytree(kept, files)
        buyer.confirm(buyer.hold(service, seats[12:14]))
        cluster.restart(old)
        buyer.confirm(buyer.hold(service, seats[14:16]))
        assert_replicas_equal(cluster, "GRAND")
        stubs = node_stubs(cluster)
        # The node sees that its file went back, takes a snapshot under a new identity, and becomes a voter again (R11, R14).
        wait_until(lambda: (found := statuses(stubs, "GRAND")).get(old) is not None and found[old].role == "replica", "a voter again", 40)
        found = statuses(stubs, "GRAND")
        assert not found[old].serving and len({one.store_uuid for one in found.values()}) == 3
        final = assert_sound(cluster, history, service, [buyer])
        assert len(final.manifest) == 16
