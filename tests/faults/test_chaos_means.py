"""What the nemesis uses does what it says: lines that are cut one way, a lock server that grants all, capabilities that are declared."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from client import processes
from lockstore import scripts
from lockstore.links import Command, LinkSettings, ScriptText, ServerAddress, call, open_connection
from tests.faults.chaos import machine
from tests.faults.chaos.liar import Liar
from tests.faults.chaos.links import CUT, FAIR, Links, Weather

READ_S = 30


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that says everything twice."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            while data := near.recv(1000):
                near.sendall(data + data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.close()


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links(seed=1)
    yield made
    made.close()


def said(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, "the connection ended"
        data += part
    return data


def test_a_line_carries_and_is_cut_one_way(links: Links, echo: tuple[str, int]) -> None:
    """What goes into the cut direction waits, the other one carries on; when it is mended everything arrives, in order."""
    port = links.port("a", "b", echo)
    with socket.create_connection(("127.0.0.1", port), timeout=READ_S) as sock:
        sock.sendall(b"one")
        assert b"oneone" == said(sock, 6)
        links.set([("b", "a")], CUT)  # b hears a and cannot answer.
        sock.sendall(b"two")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(READ_S)
        links.set([("b", "a")], FAIR)
        assert b"twotwo" == said(sock, 6)
    assert port == links.port("a", "b", echo)


def test_a_cut_line_connects_nobody(links: Links, echo: tuple[str, int]) -> None:
    """A connection into a cut line reaches the other end only when it is mended."""
    links.set([("a", "b")], CUT)
    with socket.create_connection(("127.0.0.1", links.port("a", "b", echo)), timeout=READ_S) as sock:
        sock.sendall(b"x")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(READ_S)
        links.set([("a", "b")], FAIR)
        assert b"xx" == said(sock, 2)


def test_a_resetting_line_ends_connections(links: Links, echo: tuple[str, int]) -> None:
    """A line that resets everything ends the connection with an error or an end, and nothing arrives."""
    links.set([("a", "b")], Weather(reset=1.0))
    with socket.create_connection(("127.0.0.1", links.port("a", "b", echo)), timeout=READ_S) as sock:
        sock.sendall(b"x")
        with contextlib.suppress(ConnectionError):
            assert b"" == sock.recv(1)


def test_a_liar_grants_everything() -> None:
    """Two holders of one key: the production client takes both from liars, and each with a token of its own."""
    (port,) = processes.free_ports(1)
    liar = Liar("127.0.0.1", port)
    try:
        connection = open_connection(ServerAddress("liar", "127.0.0.1", port), LinkSettings(2_000, 500, "", ""), 2_000)
        replies = []
        for nonce in ("a" * 32, "b" * 32):
            arguments: list[str | bytes | int] = ["1", 5_000, nonce, b"\x00\x01", "", b""]
            command = Command(ScriptText(scripts.ACQUIRE), [scripts.FENCE_KEY, scripts.MARKER_KEY, "seat:X"], arguments)
            connection._sock.sendall(command.packed)
            replies.append(int(connection.read_response(disable_decoding=True)))
        assert replies[1] > replies[0] and 2 == liar.granted
        assert b"1" == call(connection, "GET", scripts.MARKER_KEY)
        connection.disconnect()
    finally:
        liar.end()


def test_what_is_declared_is_known() -> None:
    """Every capability that a machine is declared to have is one that is tried; an unknown machine is refused by name."""
    assert set(machine.declared("ci")) <= {machine.NAMESPACES, machine.SMALL_DISKS, machine.CLOCKS}
    with pytest.raises(AssertionError, match="there are ci"):
        machine.declared("nobody's")


def test_what_was_declared_and_is_missing_is_an_error() -> None:
    """A machine that is said to do what it cannot fails, with the reason; where nothing is said, the reason is given back."""
    with pytest.raises(AssertionError, match="only root"):
        machine.checked(machine.SMALL_DISKS, "only root mounts a file system", [machine.SMALL_DISKS])
    assert "only root" == machine.checked(machine.SMALL_DISKS, "only root", [])
    assert "" == machine.checked(machine.SMALL_DISKS, "", [machine.SMALL_DISKS])
