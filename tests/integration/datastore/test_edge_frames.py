"""The short way of calls and replies gives RPyC's own bytes, and takes nothing that the long way would take otherwise."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import brine, consts

from datastore.edge_channel import BoundedChannel, DeadlineStream, EdgeLimits, ProtocolViolation, bytes_head, int_head, last_bytes
from datastore.edge_connection import ClientConnection, RemoteId, ServerConnection

numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**40))
payloads = st.one_of(st.binary(max_size=6), st.binary(min_size=250, max_size=260), st.binary(max_size=400))
methods = st.text(min_size=1, max_size=12)


class Written(BoundedChannel):  # type: ignore[misc]
    """A channel that keeps what it would send."""

    __slots__ = ("bodies",)

    def send_parts(self, parts: list[bytes], deadline: float | None = None) -> None:
        self.bodies.append(b"".join(parts))


@pytest.fixture(scope="module")
def channel() -> Iterator[Written]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here, there = socket.create_connection(listener.getsockname()), listener.accept()[0]
        made = Written(DeadlineStream(here), EdgeLimits())
        made.bodies = []
        yield made
        here.close()
        there.close()


def server_of(channel: Written) -> ServerConnection:
    return ServerConnection(lambda method, payload: method.encode() + b"/" + payload, channel)


def call_of(server: ServerConnection, seq: int, method: str, payload: bytes) -> bytes:
    """Return a call's body as RPyC makes it."""
    reference = tuple(server._box(server._bound_call)[1])
    target = (consts.LABEL_TUPLE, ((consts.LABEL_LOCAL_REF, reference), (consts.LABEL_VALUE, (method, payload))))
    message: bytes = brine.dump((seq, (consts.HANDLE_CALL, target)))
    return brine.I1.pack(consts.MSG_REQUEST) + message


@given(numbers)
def test_numbers_and_lengths_are_brine(number: int) -> None:
    """Every whole number and every length is written as RPyC writes it."""
    assert brine.dump(number) == int_head(number)
    data = b"x" * (number % 1000)
    assert brine.dump(data) == bytes_head(len(data)) + data
    assert data == last_bytes(b"?" + brine.dump(data), 1)
    assert last_bytes(b"?" + brine.dump(data) + b"?", 1) is None


@given(methods, st.lists(st.tuples(numbers, payloads), min_size=1, max_size=4))
def test_calls_and_replies_are_what_rpyc_sends(channel: Written, method: str, calls: list[tuple[int, bytes]]) -> None:
    """First and later calls of a method, their replies too, are byte for byte those of RPyC."""
    server = server_of(channel)
    client = ClientConnection(channel)
    client._call_id = RemoteId(*server._box(server._bound_call)[1])
    for seq, payload in calls:
        client._seqcounter = iter([seq])
        client.send_call(method, payload, 0.0)
        assert call_of(server, seq, method, payload) == channel.bodies.pop()
        server._dispatch(call_of(server, seq, method, payload))
        reply = brine.dump((seq, (consts.LABEL_VALUE, method.encode() + b"/" + payload)))
        assert brine.I1.pack(consts.MSG_REPLY) + reply == channel.bodies.pop()


@given(methods, payloads, numbers, st.data())
def test_a_connection_that_knows_a_call_takes_no_more_than_one_that_does_not(
    channel: Written, method: str, payload: bytes, seq: int, data: st.DataObject
) -> None:
    """Bytes changed, cut or added anywhere: the same reply, or the same refusal, as on the long way."""
    knowing, fresh = server_of(channel), server_of(channel)
    knowing._dispatch(call_of(knowing, 1, method, b"first"))
    channel.bodies.clear()
    outcomes = []
    whole = call_of(knowing, seq, method, payload)
    kind = data.draw(st.sampled_from(["change", "cut", "add"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    for server in (knowing, fresh):
        body = call_of(server, seq, method, payload)
        body = {
            "change": body[:at] + bytes([value]) + body[at + 1 :],
            "cut": body[:at] or body[:1],
            "add": body[:at] + bytes([value]) + body[at:],
        }[kind]
        try:
            server._dispatch(body)
            outcomes.append(channel.bodies.pop() if channel.bodies else b"nothing sent")
        except ProtocolViolation:
            outcomes.append(b"refused")
    assert outcomes[0] == outcomes[1]
