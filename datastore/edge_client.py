"""The caller's half of the edge: calls to one peer, over a pool of connections with one call in flight each."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import msgspec

from datastore.edge_channel import (
    DEFAULT_LIMITS,
    Address,
    BoundedChannel,
    ConnectionLost,
    DeadlinePassed,
    DeadlineStream,
    EdgeLimits,
    ProtocolViolation,
)
from datastore.edge_connection import FRAME_OVERHEAD_BYTES, REPLY_ERROR, REPLY_VALUE, WIRE_VERSION, ClientConnection
from datastore.edge_tls import Tls, TlsContexts, peer_of, tls_failure
from datastore.errors import HoldfastError, InvalidRequest, InvariantBroken, NodeUnreachable, OutcomeUnknown, error_from_data, shown

IDLE_CONNECTIONS_MAX = 32


class EdgeClient:
    """Calls one peer from any number of threads, over a pool of connections with one call in flight each."""

    def __init__(
        self,
        address: Address,
        *,
        plane: str = "client",
        tls: Tls | None = None,
        role: str = "",
        limits: EdgeLimits = DEFAULT_LIMITS,
        connect_ms: int = 500,
        version: int = WIRE_VERSION,
    ) -> None:
        """Prepare; a connection is made when one is needed.

        Args:
            role: What the peer's certificate must say that it is, under TLS; "" takes any.
        Raises:
            ConfigInvalid: The TLS files cannot be used.
        """
        self.address = address
        self._role = role
        self._plane = plane
        self._version = version
        self._contexts = TlsContexts(tls, server_side=False) if tls else None
        self._limits = limits
        self._connect_s = connect_ms / 1000
        self._mutex = threading.Lock()
        self._idle: list[ClientConnection] = []
        self._closed = False

    def call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        """Return the peer's reply to `method`.

        Raises:
            NodeUnreachable: Nothing was handed over. Ask another node, or this one later.
            OutcomeUnknown: The call may have been carried out. Ask again with the same request_id.
            HoldfastError: What the handler raised, of the same class.
        """
        if type(payload) is not bytes:
            raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
        size_max = self._limits.frame_bytes_max - FRAME_OVERHEAD_BYTES
        if len(payload) > size_max:
            detail = f"{method}: {len(payload)} bytes are too many, limit {size_max}"
            raise InvalidRequest(detail, size_bytes=len(payload), size_bytes_max=size_max)
        deadline = time.monotonic() + timeout_ms / 1000
        connection, seq = self._send(method, payload, deadline)
        try:
            reply = connection.take_reply(seq, deadline)
            error = None if reply[:1] == REPLY_VALUE else _error_of(reply)
        except DeadlinePassed as cause:
            connection.close()
            raise self._unknown(method, f"no reply within {timeout_ms} ms") from cause
        except ProtocolViolation as cause:
            connection.close()
            raise self._unknown(method, f"instead of a reply {cause}") from cause
        except BaseException:  # An interrupt: the reply would come to the next call.
            connection.close()
            raise
        self._keep(connection)
        if error is None:
            return reply[1:]
        if isinstance(error, InvariantBroken):  # The peer's fault must not stop this process.
            raise self._unknown(method, "the peer found itself in error")
        raise error

    def close(self) -> None:
        """Close the idle connections; those with a call in flight close when it ends."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _send(self, method: str, payload: bytes, deadline: float) -> tuple[ClientConnection, int]:
        """Hand the call over on a live connection.

        A pooled connection may die between the look at it and the send; as long as nothing went out, another may try.
        """
        while True:
            connection, was_pooled = self._checkout(deadline)
            try:
                return connection, connection.send_call(method, payload, deadline)
            except DeadlinePassed as cause:
                connection.close()
                raise self._unknown(method, "the call was not taken in time") from cause
            except ConnectionLost as cause:
                connection.close()
                if cause.sent:
                    raise self._unknown(method, str(cause)) from cause
                if not was_pooled:
                    raise self._unreachable(str(cause)) from cause
            except BaseException:
                connection.close()
                raise

    def _checkout(self, deadline: float) -> tuple[ClientConnection, bool]:
        while True:
            with self._mutex:
                if self._closed:
                    raise self._unreachable("this client is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(deadline), False
            if not connection.is_stale:
                return connection, True
            connection.close()

    def _keep(self, connection: ClientConnection) -> None:
        with self._mutex:
            if not self._closed and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, deadline: float) -> ClientConnection:
        now = time.monotonic()
        if now >= deadline:
            raise self._unreachable("no time left")
        handshake_deadline = min(deadline, now + self._connect_s + self._limits.handshake_ms / 1000)
        with contextlib.ExitStack() as undo:
            try:
                sock = socket.create_connection((self.address.host, self.address.port), timeout=min(self._connect_s, deadline - now))
                undo.callback(lambda: sock.close())  # Whatever `sock` is by then: TLS detaches the plain one.
                if sock.getsockname() == sock.getpeername():
                    # The system chose the very port that nobody listens at: the socket is connected to itself.
                    raise ConnectionRefusedError("nobody listens")
                if self._contexts is not None:
                    sock = self._contexts.current().wrap_socket(sock, server_hostname=self.address.host, do_handshake_on_connect=False)
                stream = DeadlineStream(sock)
                stream.shake_hands(handshake_deadline)
                self._check_role(sock)
                connection = ClientConnection(BoundedChannel(stream, self._limits), self._version)
                connection.bind(handshake_deadline)
            except DeadlinePassed as cause:
                raise self._unreachable("no answer to the handshake") from cause
            except ssl.SSLError as cause:
                raise self._unreachable(tls_failure(cause)) from cause
            except (OSError, ConnectionLost, ProtocolViolation) as cause:
                raise self._unreachable(str(cause) or type(cause).__name__) from cause
            undo.pop_all()
            return connection

    def _check_role(self, sock: socket.socket) -> None:
        """Refuse a peer of another role: a stolen certificate of a lesser process must not answer as a node."""
        if self._role and isinstance(sock, ssl.SSLSocket):
            peer = peer_of(sock.getpeercert(), str(self.address))
            if peer is None or peer.role != self._role:
                found = f"{shown(peer.role)}" if peer is not None else "no role of ours"
                raise ProtocolViolation(f"its certificate says {found}, not {self._role}")

    def _unreachable(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(f"{self.address} cannot be reached: {why}", node=str(self.address), plane=self._plane)

    def _unknown(self, method: str, why: str) -> OutcomeUnknown:
        detail = f"{method} at {self.address}: {why}; it may have happened"
        return OutcomeUnknown(detail, node=str(self.address), plane=self._plane, method=method)


def _error_of(reply: bytes) -> HoldfastError:
    if reply[:1] != REPLY_ERROR:
        raise ProtocolViolation("a reply of an unknown kind")
    try:
        return error_from_data(msgspec.msgpack.decode(reply[1:], type=dict))
    except (msgspec.DecodeError, ValueError, TypeError) as cause:
        raise ProtocolViolation("an error that cannot be read") from cause
