"""Lock servers that forget, one or all of them, and lock servers that lie: sales go on, and no seat is ever sold twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.plan import LOCK_SERVER
from datastore.errors import HoldfastError
from lockstore import scripts
from tests.checkers import History
from tests.faults.buyers import (
    OVERLAY,
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    done_of,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
)
from tests.faults.sellers import Sales
from tests.faults.test_crash import Crowd
from tests.integration.harness import ClusterUnderTest
from tests.integration.test_cli import Terminal
from tests.waiting import wait_until

LOCKS = ("lock-1", "lock-2", "lock-3")
BACK_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("locks"), OVERLAY, datasets=("venues",)) as made:
        yield made
        assert_replicas_equal(made, "GRAND", BACK_S)


@pytest.fixture
def person(cluster: ClusterUnderTest, tmp_path: Path) -> Terminal:
    return Terminal(cluster, tmp_path / "person")


def lose(cluster: ClusterUnderTest, *names: str) -> None:
    """Kill lock servers, take their disks away, start them empty; nobody admits them."""
    cluster.kill(*names)
    for name in names:
        shutil.rmtree(cluster.folders.data / name)
        cluster.start(name)


def lock_lines(person: Terminal) -> dict[str, tuple[str, str]]:
    """Return what the status says of each lock server: its state and why."""
    done = person.run("cluster", "status", "--json")
    return {line["name"]: (line["state"], line["detail"]) for line in json.loads(done.stdout)["processes"] if line["kind"] == LOCK_SERVER}


def test_one_that_lost_its_data_rejoins_by_the_command(cluster: ClusterUnderTest, person: Terminal) -> None:
    """It refuses, the status says why, the rejoin rule lets it vote again above its peers (PROTOCOL 2.3); no caller hears of it."""
    history = History()
    with Sales(cluster, history, days_ahead=3) as sales:
        sales.go_on(5)
        lose(cluster, "lock-2")
        wait_until(lambda: "lost its data" in lock_lines(person)["lock-2"][1], "the status to say why", BACK_S)
        (suggested,) = [line for line in person.run("cluster", "status").stdout.splitlines() if line.startswith("next: holdfast ")]
        assert suggested.endswith(" recover lock-server lock-2")
        said = person.run("recover", "lock-server", "lock-2")
        assert 0 == said.returncode, said.stderr
        assert "3 of 3 vote" in said.stdout
        sales.go_on(5)
    state, detail = lock_lines(person)["lock-2"]
    assert "running" == state
    assert int(detail.rpartition(" ")[2]) > scripts.REJOIN_STEP
    assert_sound(cluster, history, sales.service, [sales.buyer])
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", sales.service))


def test_all_of_them_are_lost_for_good(cluster: ClusterUnderTest, person: Terminal) -> None:
    """Empty ones take their place and count from zero: every seat that was ever locked is sold on, once, under a rising fence (Z7)."""
    service, history = services_of(cluster, "GRAND", 10)[0].service_id, History()
    early = Buyer(cluster, history, "early", deadline_ms=30_000)
    seats = seats_of(cluster, service)
    for seat in seats[:6]:
        # Their rows keep fences that the new set is far below.
        early.release(early.hold(service, [seat]))
    standing = early.hold(service, seats[6:8])
    with Crowd(cluster, history, service, 3, deadline_ms=20_000) as crowd:
        wait_until(lambda: crowd.orders() >= 5, "the crowd to buy", BACK_S)
        lose(cluster, *LOCKS)
        # Only all of them together can be admitted as a new set: an absent one might be one that remembers.
        wait_until(lambda: 0 == person.run("recover", "lock-server", "all").returncode, "the new set to be admitted", BACK_S)
        enough = crowd.orders() + 5
        wait_until(lambda: crowd.orders() >= enough, "the crowd to buy on", BACK_S)
    late = Buyer(cluster, history, "late", deadline_ms=30_000)
    with pytest.raises(HoldfastError):
        late.hold(service, seats[6:7])
    early.confirm(standing)
    owners = [early, late, *crowd.buyers]
    assert_sound(cluster, history, service, owners)
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


class Liar(socketserver.StreamRequestHandler):
    """One connection to a lock server that says yes to everybody, whoever has the lock, and remembers nothing."""

    counter = itertools.count(1)  # All liars count together: a fence that never rose would only stop sales.

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while words := self._command():
                self.wfile.write(self._answer(words))

    def _command(self) -> list[bytes]:
        head = self.rfile.readline()
        if not head:
            return []
        words = []
        for _ in range(int(head[1:])):
            size = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(size + 2)[:-2])
        return words

    def _answer(self, words: list[bytes]) -> bytes:
        name = words[0].upper()
        if name == b"GET":
            return _bulk(b"1" if words[1] == scripts.MARKER_KEY.encode() else b"%d" % next(self.counter))
        if name == b"TIME":
            return b"*2\r\n" + _bulk(b"%d" % next(self.counter)) + _bulk(b"0")
        if name == b"PING":
            return b"+PONG\r\n"
        if name not in (b"EVAL", b"EVALSHA"):
            return b"*2\r\n" + _bulk(b"version") + _bulk(b"9.1.2") if name == b"HELLO" else b"+OK\r\n"
        keys = int(words[2])
        arguments = words[3 + keys :]
        if words[1] in (scripts.digest(scripts.ACQUIRE).encode(), scripts.ACQUIRE.encode()):
            return _bulk(b"%d" % next(self.counter))
        if words[1] in (scripts.digest(scripts.WRITE_BACK).encode(), scripts.WRITE_BACK.encode()):
            return _bulk(b"1" * (len(arguments[2]) // 2))
        if words[1] in (scripts.digest(scripts.RELEASE).encode(), scripts.RELEASE.encode()):
            return b":%d\r\n" % keys
        return _bulk(b"1" * (len(arguments[2]) // 2))


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


class LiarServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class LyingCluster(ClusterUnderTest):
    """A cluster whose lock servers grant every lock to everybody: seats to all buyers, the leases to all managers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, OVERLAY, datasets=("venues",))
        self.liars: list[LiarServer] = []

    def start(self, name: str) -> None:
        process = self.plan.process(name)
        if process.role.kind != LOCK_SERVER:
            super().start(name)
            return
        server = LiarServer((process.host, process.port), Liar)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.liars.append(server)

    def admit(self) -> None:
        """They need nobody to admit them."""

    def stop_all(self) -> None:
        super().stop_all()
        for server in self.liars:
            server.shutdown()
            server.server_close()
        self.liars.clear()


def test_lock_servers_that_grant_everything_to_everybody(tmp_path: Path) -> None:
    """Rivals all have the lock of one seat, both managers have the lease: rows and epochs alone decide, through kills of primaries."""
    with LyingCluster(tmp_path) as cluster:
        service, history = services_of(cluster, "GRAND", 3)[0].service_id, History()
        seats = seats_of(cluster, service)[:40]
        rivals = [Buyer(cluster, history, f"rival-{number}", [f"balancer-{1 + number % 2}"], deadline_ms=20_000) for number in range(6)]

        def buy(number: int) -> None:
            for seat in seats:
                try:
                    rivals[number].confirm(rivals[number].hold(service, [seat]))
                except HoldfastError:
                    continue  # Noted in the history, with whether it may have happened.

        threads = [threading.Thread(target=buy, args=(number,), daemon=True) for number in range(len(rivals))]
        for thread in threads:
            thread.start()
        killed = []
        for sold in (5, 15):
            enough = sold
            wait_until(lambda enough=enough: len(done_of(history, service, "confirm")) >= enough, f"{sold} sales", BACK_S)  # type: ignore[misc]
            killed.append(primary_of(cluster, "GRAND"))
            cluster.kill(killed[-1])
            assert primary_of(cluster, "GRAND") != killed[-1]
            cluster.start(killed[-1])
        for thread in threads:
            thread.join(2 * BACK_S)
            assert not thread.is_alive()
        assert_replicas_equal(cluster, "GRAND", BACK_S)
        final = assert_sound(cluster, history, service, rivals)
        assert len(final.manifest) >= 30
        assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))
