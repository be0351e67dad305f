"""Connections whose requests one thread reads: callers cannot tell, and whatever it cannot begin their own threads see to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from rpyc.core import brine

from datastore.certificates import make_certificates
from datastore.edge import EdgeClient, EdgeServer, Later, Peer, Quick
from datastore.edge_channel import (
    FRAME_HEADER,
    BoundedChannel,
    ConnectionLost,
    DeadlineStream,
    EdgeLimits,
    ProtocolViolation,
    bytes_head,
)
from datastore.edge_connection import REQUEST_HEAD, ClientConnection
from datastore.edge_reader import ALONE_MAX
from datastore.errors import InvalidRequest, SeatUnavailable
from tests.integration.datastore.edge_peers import Attempt, connected, edge_client, edge_log, edge_server
from tests.waiting import wait_until

TIMEOUT_MS = 10_000
METHODS = ("hold", "look")


class Desk:
    """Holds are begun and given by a thread that takes all that lie there, looks are answered at once; it notes who began what."""

    def __init__(self) -> None:
        self.busy = True  # Nobody is a lone caller, unless a test says so.
        self.begun: list[tuple[str, bytes]] = []
        self.rounds = 0
        self.gathered: list[tuple[Later, bytes]] = []
        self.waiting: list[tuple[Later, bytes]] = []
        self._some = threading.Condition()
        self._closed = False
        self.held_back = False
        self.broken = False
        self._giver = threading.Thread(target=self._give_all, daemon=True)
        self._giver.start()

    @property
    def quick(self) -> Quick:
        return Quick(("hold",), self.begin, self.go, lambda: not self.busy)

    def handle(self, method: str, payload: bytes, _peer: Peer) -> bytes | Later:
        """What a connection's own thread calls."""
        self.begun.append(("thread", payload))
        if method == "look":
            return payload
        if payload == b"refused":
            raise InvalidRequest("no such seat")
        return self._later(payload)

    def begin(self, _method: str, payload: bytes, _peer: Peer, unread_ms: int) -> Later | None:
        """What the reader's thread calls."""
        assert unread_ms >= 0
        if payload == b"slow":
            return None
        if payload == b"refused":
            raise InvalidRequest("no such seat")
        if payload == b"fault":
            raise RuntimeError("a fault of our own")
        self.begun.append(("reader", payload))
        later = Later()
        self.gathered.append((later, payload))
        return later

    def go(self) -> None:
        if self.broken:
            raise RuntimeError("a fault of our own")
        if self.gathered:
            self.rounds += 1
            gathered, self.gathered = self.gathered, []
            self._add(gathered)

    def give_back(self) -> None:
        """Let go of what was held back."""
        with self._some:
            self.held_back = False
            self._some.notify()

    def close(self) -> None:
        with self._some:
            self._closed = True
            self._some.notify()

    def by(self, who: str) -> list[bytes]:
        """Return what was begun by "thread" or "reader"."""
        return [payload for name, payload in list(self.begun) if name == who]

    def _later(self, payload: bytes) -> Later:
        later = Later()
        self._add([(later, payload)])
        return later

    def _add(self, some: list[tuple[Later, bytes]]) -> None:
        with self._some:
            self.waiting += some
            self._some.notify()

    def _give_all(self) -> None:
        while True:
            with self._some:
                while (not self.waiting or self.held_back) and not self._closed:
                    self._some.wait()
                if self._closed:
                    return
                given, self.waiting = self.waiting, []
            time.sleep(0.001)  # So that the connection's thread finds the reply not yet given.
            for later, payload in given:
                later.give(lambda payload=payload: _made(payload))


def _made(payload: bytes) -> bytes:
    if payload == b"taken":
        raise SeatUnavailable("taken", seats=["1A"])
    return b"held " + payload


@contextmanager
def desk_server(**options: object) -> Iterator[tuple[Desk, EdgeServer]]:
    desk = Desk()
    with edge_server(desk.handle, methods=METHODS, quick=desk.quick, **options) as server:
        yield desk, server
    desk.close()
    assert server._reader is not None
    server._reader._thread.join(10)
    assert not server._reader._thread.is_alive()
    wait_until(lambda: not server._tracked, "every connection's thread to end", 10)


def until_read_for(desk: Desk, client: EdgeClient) -> None:
    """Hold until the reader reads for this client's one connection."""
    for number in range(1_000):
        before = len(desk.by("reader"))
        assert b"held %d" % number == client.call("hold", b"%d" % number, TIMEOUT_MS)
        if len(desk.by("reader")) > before:
            return
    raise AssertionError("the reader never read for the connection")


def test_many_callers_get_each_their_own_answer() -> None:
    """Sixteen at a time over connections of their own; most of what they ask is read by the one thread, several at once."""
    with desk_server() as (desk, server), edge_client(server.address) as client:
        wrong: list[object] = []

        def caller(name: int) -> None:
            for number in range(60):
                payload = b"%d-%d" % (name, number)
                if client.call("hold", payload, TIMEOUT_MS) != b"held " + payload:
                    wrong.append(payload)

        threads = [threading.Thread(target=caller, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert sorted(payload for _, payload in desk.begun) == sorted(
            b"%d-%d" % (name, number) for name in range(16) for number in range(60)
        )
        assert len(desk.by("reader")) > 480
        assert desk.rounds < len(desk.by("reader"))


def test_what_cannot_be_begun_at_once_goes_to_the_connections_own_thread() -> None:
    """Another method, one that would wait, a refusal and a fault: each is answered as if the reader had never seen it."""
    with edge_log() as lines, desk_server() as (desk, server), edge_client(server.address) as client:
        for method, payload in (("look", b"map"), ("hold", b"slow"), ("hold", b"refused"), ("hold", b"fault"), ("hold", b"taken")):
            until_read_for(desk, client)
            by_thread = len(desk.by("thread"))
            if payload in (b"refused", b"taken"):
                with pytest.raises(InvalidRequest if payload == b"refused" else SeatUnavailable):
                    client.call(method, payload, TIMEOUT_MS)
            else:
                assert client.call(method, payload, TIMEOUT_MS) in (payload, b"held " + payload)
            assert desk.by("thread")[by_thread:] == ([] if payload == b"taken" else [payload])
    assert len(lines.texts("fault")) == 1


def test_who_is_alone_again_is_read_by_its_own_thread() -> None:
    """A connection goes back after so many requests with nobody beside it."""
    with desk_server() as (desk, server), edge_client(server.address) as client:
        until_read_for(desk, client)
        desk.busy = False
        before = len(desk.by("reader"))
        for number in range(ALONE_MAX + 3):
            client.call("hold", b"alone %d" % number, TIMEOUT_MS)
            if desk.begun[-1][0] == "thread":
                break
        assert desk.begun[-1][0] == "thread"
        assert len(desk.by("reader")) - before == ALONE_MAX - 1


@contextmanager
def read_for(desk: Desk, server: EdgeServer) -> Iterator[tuple[ClientConnection, BoundedChannel]]:
    """Give a connection for which the reader reads, and what its bytes go through."""
    channel = BoundedChannel(DeadlineStream(connected(server.address)), EdgeLimits())
    connection = ClientConnection(channel)
    deadline = time.monotonic() + 30
    connection.bind(deadline)
    while not desk.by("reader"):
        connection.take_reply(connection.send_call("hold", b"again", deadline), deadline)
    try:
        yield connection, channel
    finally:
        connection.close()


def a_call(connection: ClientConnection, channel: BoundedChannel, payload: bytes) -> bytes:
    """Return the bytes of a call of "hold", which are not sent."""
    kept: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeadlineStream, "send_all", lambda _self, data, _deadline: kept.append(data))
        connection.send_call("hold", payload, time.monotonic() + 30)
    return kept[0]


def answers(channel: BoundedChannel, count: int) -> list[bytes]:
    """Return what the next answers end with, behind "held"."""
    frames = [channel.take_frame(time.monotonic() + 30) for _ in range(count)]
    return [frame.rpartition(b"held ")[2] for frame in frames if frame is not None]


def test_half_a_frame_is_waited_for_by_its_thread() -> None:
    """The rest comes later: one answer, and the reader serves others meanwhile."""
    with desk_server() as (desk, server), read_for(desk, server) as (connection, channel), edge_client(server.address) as other:
        data = a_call(connection, channel, b"in two parts")
        channel.stream.sock.send(data[:9])
        until_read_for(desk, other)
        channel.stream.sock.send(data[9:])
        assert [b"in two parts"] == answers(channel, 1)
        assert b"in two parts" in desk.by("thread")


def test_a_question_before_the_answer_waits_for_it() -> None:
    """Who sends two at once is answered in order, both times."""
    with desk_server() as (desk, server), read_for(desk, server) as (connection, channel):
        desk.held_back = True
        first, second = a_call(connection, channel, b"first"), a_call(connection, channel, b"second")
        channel.stream.sock.send(first)
        wait_until(lambda: b"first" in [payload for _, payload in desk.begun], "the first to be begun", 10)
        channel.stream.sock.send(second)
        threading.Event().wait(0.1)  # Time to be begun, where nothing prevented it.
        assert b"second" not in [payload for _, payload in desk.begun]
        desk.give_back()
        assert [b"first", b"second"] == answers(channel, 2)
        channel.stream.sock.send(a_call(connection, channel, b"third") + a_call(connection, channel, b"fourth"))
        assert [b"third", b"fourth"] == answers(channel, 2)


@pytest.mark.parametrize("garbage", [b"\xff" * 200, b"\0\0\0\x05\0hello\n", b"\x16\x03\x01" + bytes(60)])
def test_bytes_that_are_no_request_end_that_connection_alone(garbage: bytes) -> None:
    """One line says why; the reader and the others go on."""
    with edge_log() as lines, desk_server() as (desk, server), edge_client(server.address) as other:
        with read_for(desk, server) as (_connection, channel):
            channel.stream.sock.send(garbage)
            with suppress(ConnectionLost, ProtocolViolation):
                assert channel.take_frame(time.monotonic() + 30) is None
        wait_until(lambda: lines.texts("closed the connection"), "the line", 10)
        until_read_for(desk, other)
    assert len(lines.texts()) == 1


@pytest.mark.parametrize("number", [brine.dump(None), bytes((brine.TAG_INT_L1[0], 2)) + b"zz"])
def test_a_call_with_a_wrong_number_ends_that_connection_alone(number: bytes) -> None:
    """All of it but the number is as in the calls before; nothing is begun, and it is no fault of ours."""
    with edge_log() as lines, desk_server() as (desk, server), edge_client(server.address) as other:
        with read_for(desk, server) as (connection, channel):
            body = REQUEST_HEAD + number + connection._betweens["hold"] + bytes_head(5) + b"wrong"
            channel.stream.sock.send(FRAME_HEADER.pack(len(body), 0) + body + b"\n")
            with suppress(ConnectionLost, ProtocolViolation):
                assert channel.take_frame(time.monotonic() + 30) is None
        wait_until(lambda: lines.texts("closed the connection"), "the line", 10)
        assert b"wrong" not in [payload for _, payload in desk.begun]
        until_read_for(desk, other)
    assert len(lines.texts()) == 1


def test_who_asks_for_this_and_that_is_read_by_its_own_thread() -> None:
    """Handing a connection over costs more than reading one request; only who asks the same again and again is read for."""
    with desk_server() as (desk, server), edge_client(server.address) as client:
        client.call("look", b"map", TIMEOUT_MS)
        for number in range(20):
            client.call("hold", b"%d" % number, TIMEOUT_MS)
            client.call("look", b"map", TIMEOUT_MS)
        assert desk.by("reader") == []


def test_after_a_fault_of_the_readers_every_thread_reads_for_itself() -> None:
    """Nobody is left asleep, and nobody falls asleep any more."""
    with edge_log() as lines, desk_server() as (desk, server), edge_client(server.address) as client, edge_client(server.address) as other:
        until_read_for(desk, client)
        until_read_for(desk, other)
        desk.broken = True
        answers = [Attempt(lambda one=one: one.call("look", b"map", TIMEOUT_MS)) for one in (client, other)]
        assert [True, True] == [answer.ends_within(30) for answer in answers]
        assert [b"map", b"map"] == [answer.result for answer in answers]
        before = len(desk.by("reader"))
        for number in range(20):
            assert b"held %d" % number == client.call("hold", b"%d" % number, TIMEOUT_MS)
        assert len(desk.by("reader")) == before
    assert len(lines.texts("a fault while reading for others")) == 1


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"\0\0\0\x03\0abc\n", b"abc"),
        (b"\0\0\0\x03\0abc", None),
        (b"\0\0\0\x03\0abcd", None),
        (b"\0\0\0\x03\x01abc\n", None),
        (b"\0\0\0\x03\0abc\n\0", None),
        (b"\0\0\0\x0b\0" + b"x" * 11 + b"\n", None),
        (b"\0\0\0\0\0\n", None),
        (b"\0", None),
        (b"", None),
    ],
)
def test_one_whole_frame_is_told_from_all_else(data: bytes, body: bytes | None) -> None:
    """Too short, without its end mark, compressed, more than one, over the cap of ten bytes, empty."""
    with socket.socket() as sock:
        channel = BoundedChannel(DeadlineStream(sock), EdgeLimits(frame_bytes_max=10))
        assert channel.whole_frame(data) == body
        channel.put_back(b"\0")
        assert channel.whole_frame(data) is None


def test_an_end_wakes_the_thread() -> None:
    """A caller that leaves without a word leaves nothing behind, and nothing in the log."""
    with edge_log() as lines, desk_server() as (desk, server):
        with read_for(desk, server):
            wait_until(lambda: len(server._tracked) == 1, "the connection", 10)
        wait_until(lambda: not server._tracked, "its thread to end", 10)
    assert lines.texts() == []


def test_a_server_that_closes_ends_those_that_sleep() -> None:
    """Their callers hear an end, every thread ends (`desk_server` looks)."""
    with desk_server() as (desk, server), read_for(desk, server) as (_connection, channel):
        server.close()
        assert channel.take_frame(time.monotonic() + 30) is None


def test_tls_connections_are_read_by_their_threads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """OpenSSL allows one thread at a time."""
    certificates = make_certificates(tmp_path_factory.mktemp("tls"), ["lb", "client"])
    roles = {method: ("client",) for method in METHODS}
    with desk_server(tls=certificates["lb"], roles=roles) as (desk, server), edge_client(
        server.address, tls=certificates["client"]
    ) as client:  # fmt: skip
        for number in range(20):
            assert b"held %d" % number == client.call("hold", b"%d" % number, TIMEOUT_MS)
        assert desk.by("reader") == []
