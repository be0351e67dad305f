"""Sending and receiving what can be at once, with Python's lock kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from datastore import edge_socket
from datastore.edge_socket import KEEPS_LOCK_BYTES, Receiver, send_now


@pytest.fixture(params=[True, False], ids=["kept", "given"])
def keeps_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the C library's calls, and without them."""
    if not request.param:
        monkeypatch.setattr(edge_socket, "_send", None)
        monkeypatch.setattr(edge_socket, "_receive", None)
    return bool(request.param)


@pytest.fixture
def pair(keeps_lock: bool) -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


def test_what_is_sent_arrives(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also bytes that are zero, and no more than was sent."""
    here, there = pair
    receiver = Receiver(64)
    assert 5 == send_now(here, b"a\0b\0c")
    assert b"a\0b\0c" == receiver.receive_now(there)
    assert 100 == send_now(here, b"x" * 100)
    assert [b"x" * 64, b"x" * 36] == [receiver.receive_now(there), receiver.receive_now(there)]


def test_nothing_there_and_no_room_are_told_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """Neither waits; what did not fit is the caller's to keep."""
    here, there = pair
    receiver = Receiver(KEEPS_LOCK_BYTES)
    with pytest.raises(BlockingIOError):
        receiver.receive_now(there)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += send_now(here, b"y" * KEEPS_LOCK_BYTES)
    got = 0
    while got < sent:
        got += len(receiver.receive_now(there))
    assert got == sent
    large = b"z" * (2 * KEEPS_LOCK_BYTES)  # Goes the way that gives the lock away.
    assert 0 < send_now(here, large) <= len(large)


def test_an_end_and_a_broken_connection_are_told_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    """No bytes at an end, and the system's own errors, without a signal to the process."""
    here, there = pair
    receiver = Receiver(64)
    here.close()
    assert b"" == receiver.receive_now(there)
    with pytest.raises(BrokenPipeError):
        send_now(there, b"x")
    with pytest.raises(OSError, match="descriptor"):
        send_now(here, b"x")


def test_the_library_is_found_here() -> None:
    """On Linux the calls keep the lock; without this, speed would be lost in silence."""
    assert edge_socket._send is not None
    assert edge_socket._receive is not None
