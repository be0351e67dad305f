"""Bytes that no peer of ours sends: they cost one connection and one line in the log, and disturb nobody."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpyc.core import brine, consts

from datastore.edge import Address, EdgeClient, EdgeLimits, EdgeServer
from datastore.edge_channel import BRINE_DEPTH_MAX, FLUSHER, FRAME_HEADER, ProtocolViolation, read_brine
from datastore.errors import NodeUnreachable
from tests.integration.datastore.edge_peers import Lines, Listener, edge_client, edge_log, edge_server
from tests.waiting import wait_until

TIMEOUT_MS = 5000


def _frame(body: bytes, compressed: int = 0) -> bytes:
    return FRAME_HEADER.pack(len(body), compressed) + body + FLUSHER


def _request(handler: object, boxed: object, kind: int = consts.MSG_REQUEST) -> bytes:
    return _frame(bytes([kind]) + brine.dump((1, (handler, boxed))))


ROOT_OF_THE_CALLER = ((consts.LABEL_REMOTE_REF, ("evil.Type", 1, 2)),)
MALFORMED = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls hello": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "length of 4 GiB": b"\xff\xff\xff\xff\x00",
    "length of zero": _frame(b""),
    "compressed": _frame(b"x\x9c\x03\x00\x00\x00\x00\x01", 1),
    "no end mark": _request(consts.HANDLE_GETROOT, (consts.LABEL_TUPLE, ()))[:-1] + b"X",
    "cut in the header": b"\x00\x00",
    "cut in the body": _frame(b"\x01" * 100)[:50],
    "not brine": _frame(b"\x01\xff\xff\xff"),
    "brine left over": _frame(b"\x01" + brine.dump((1, (1, (1, ())))) + b"\x00"),
    "nested too deep": _frame(b"\x01" + brine.TAG_TUP1 * 10_000 + brine.TAG_NONE),
    "a set": _frame(b"\x01" + brine.dump(frozenset([1, 2]))),
    "a reply": _request(1, (1, ()), consts.MSG_REPLY),
    "an exception": _request(1, (1, ()), consts.MSG_EXCEPTION),
    "an unknown handler": _request(99, (1, ())),
    "pickle": _request(consts.HANDLE_PICKLE, (1, ())),
    "set attribute": _request(consts.HANDLE_SETATTR, (1, ())),
    "a reference of the caller": _request(consts.HANDLE_PING, (consts.LABEL_TUPLE, ROOT_OF_THE_CALLER)),
    "an unknown reference": _request(consts.HANDLE_CALL, (consts.LABEL_TUPLE, ((consts.LABEL_LOCAL_REF, ("x", 1, 2)), (1, ())))),
    "a call of a string": _request(consts.HANDLE_CALL, (consts.LABEL_VALUE, ("print", ("x",)))),
    "an unhashable handler": _request((1, 2), (1, ())),
    "too few arguments": _request(consts.HANDLE_CALL, (1, ())),
}


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[EdgeServer, EdgeClient, Lines]]:
    """One server for all malformed bytes, with a client whose connection must not be disturbed by them."""
    with edge_log() as lines, edge_server(limits=EdgeLimits(read_stall_ms=1000)) as server, edge_client(server.address) as client:
        yield server, client, lines


def _send_and_leave(server: EdgeServer, data: bytes) -> tuple[str, bytes]:
    """Send `data`, end the sending half, and return our address and what came back before the server closed."""
    with socket.create_connection((server.address.host, server.address.port), timeout=5) as sock:
        name = str(Address(*sock.getsockname()))
        back = b""
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                back += part
        except ConnectionError:
            pass  # A reset: the server closed with bytes of ours unread.
        return name, back


def _assert_one_line(fuzzed: tuple[EdgeServer, EdgeClient, Lines], data: bytes) -> str:
    server, client, lines = fuzzed
    name, back = _send_and_leave(server, data)
    assert back == b""
    wait_until(lambda: lines.texts(name), f"a line about {name}", 5)
    assert client.call("echo", b"alive", TIMEOUT_MS) == b"alive"
    (record,) = [record for record in lines.records if name in record.getMessage()]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    return record.getMessage()


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_bytes_cost_one_connection_and_one_line(fuzzed: tuple[EdgeServer, EdgeClient, Lines], what: str) -> None:
    """The server answers nothing, closes that connection, says why in one line, and serves on."""
    assert "closed the connection" in _assert_one_line(fuzzed, MALFORMED[what])


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=200))
def test_random_bytes(fuzzed: tuple[EdgeServer, EdgeClient, Lines], data: bytes) -> None:
    """Whatever the bytes are."""
    _assert_one_line(fuzzed, data)


@settings(max_examples=60, deadline=None)
@given(body=st.binary(min_size=1, max_size=100))
def test_random_bytes_in_a_good_frame(fuzzed: tuple[EdgeServer, EdgeClient, Lines], body: bytes) -> None:
    """And whatever a well-made frame carries, behind RPyC's byte for a request too."""
    _assert_one_line(fuzzed, _frame(b"\x01" + body))


def test_leaving_without_a_word_is_no_fault(fuzzed: tuple[EdgeServer, EdgeClient, Lines]) -> None:
    """A connection that ends between frames is not worth a line."""
    server, client, lines = fuzzed
    name, _ = _send_and_leave(server, b"")
    client.call("echo", b"", TIMEOUT_MS)
    assert lines.texts(name) == []


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**38), 10**38), st.text(max_size=300), st.binary(max_size=300)),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=PLAIN)
def test_brine_is_read_as_rpyc_reads_it(value: object) -> None:
    """Our reader and RPyC's agree on every value that both take."""
    data = brine.dump(value)
    try:
        ours = read_brine(b"\x01" + data, 1)
    except ProtocolViolation:
        assert _depth(value) > BRINE_DEPTH_MAX - 1
        return
    assert brine.load(data) == ours
    assert repr(value) == repr(ours)


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, tuple) else 0


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=100))
def test_brine_reader_only_ever_refuses(data: bytes) -> None:
    """On any bytes the reader gives a value or a ProtocolViolation, nothing else."""
    with contextlib.suppress(ProtocolViolation):
        read_brine(data, 0)


EXCEPTION = _frame(bytes([consts.MSG_EXCEPTION]) + brine.dump((0, 1)))
REPLY_TO_ANOTHER = _frame(bytes([consts.MSG_REPLY]) + brine.dump((9, (consts.LABEL_VALUE, b"x"))))


@pytest.mark.parametrize("reply", [b"GET /\r\n\r\n", EXCEPTION, REPLY_TO_ANOTHER, b""])
def test_client_meets_a_server_that_is_none(reply: bytes) -> None:
    """A server that answers the handshake with anything else is unreachable, within the deadline."""

    def answer(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(reply)
        sock.shutdown(socket.SHUT_RDWR)

    with Listener(answer) as listener, edge_client(listener.address) as client, pytest.raises(NodeUnreachable):
        client.call("echo", b"", 2000)
