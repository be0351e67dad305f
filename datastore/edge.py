"""The RPyC edge of every tier: a method name and bytes go in, bytes or one of our errors come out, by a deadline.

RPyC 6.0.2 carries the calls; what hangs, inflates or leaks in it is replaced in `edge_channel` (frames and deadlines),
`edge_connection` (what the protocol may reach) and `edge_tls` (who is there). Only these four modules know RPyC.

* One connection carries one call at a time. Threads that share a connection lose each other's wake-ups in RPyC, so a
  client keeps a pool; make one client for each peer and plane, and a slow command never delays a heartbeat.
* A reply is one byte, 0 and the payload or 1 and an error's data in MessagePack. Errors travel as values.
* What a caller learns is exact: NodeUnreachable when no byte of the call was handed over, OutcomeUnknown when some was
  and no reply came, else the handler's answer or error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping

import msgspec

from datastore.edge_channel import (
    PLAIN_TEXT_REFUSED,
    Address,
    BoundedChannel,
    ConnectionLost,
    DeadlinePassed,
    DeadlineStream,
    EdgeLimits,
    ProtocolViolation,
    part,
    shut,
)
from datastore.edge_connection import WIRE_VERSION, ClientConnection, Later, ServerConnection
from datastore.edge_tls import Peer, Tls, TlsContexts, certificate_folder, is_plain_text, peer_of, tls_failure, tls_files, tls_of
from datastore.errors import (
    ConfigInvalid,
    HoldfastError,
    InvalidRequest,
    InvariantBroken,
    NodeUnreachable,
    NotAuthorised,
    OutcomeUnknown,
    error_from_data,
    nearest,
    shown,
)

__all__ = [
    "Address",
    "EdgeClient",
    "EdgeLimits",
    "EdgeServer",
    "Handler",
    "Later",
    "Peer",
    "Tls",
    "certificate_folder",
    "tls_files",
    "tls_of",
]

# A handler answers with bytes, or begins and has some thread give the answer later.
Handler = Callable[[str, bytes, Peer], bytes | Later]

REPLY_VALUE = b"\x00"
REPLY_ERROR = b"\x01"
EXIT_INVARIANT_BROKEN = 70  # EX_SOFTWARE of sysexits.h.
LISTEN_BACKLOG = 128
ACCEPT_PAUSE_S = 0.1
IDLE_CONNECTIONS_MAX = 32

# Room in a frame for what stands around the payload: the call's number, the method's id and name.
FRAME_OVERHEAD_BYTES = 1024

DEFAULT_LIMITS = EdgeLimits()

log = logging.getLogger(__name__)


class EdgeServer:
    """Serves one handler on one address, each connection on a thread of its own."""

    def __init__(
        self,
        address: Address,
        handle: Handler,
        *,
        methods: Collection[str],
        limits: EdgeLimits = DEFAULT_LIMITS,
        tls: Tls | None = None,
        roles: Mapping[str, Collection[str]] | None = None,
        name: str = "",
        version: int = WIRE_VERSION,
        on_broken: Callable[[], object] = lambda: os._exit(EXIT_INVARIANT_BROKEN),
    ) -> None:
        """Prepare; `start` binds.

        Args:
            handle: Called with the method, the payload and the peer, from many threads at once.
            methods: The only methods that reach `handle`.
            roles: Which roles may call a method, checked under TLS. A method that is missing here is closed to all.
            name: Stands in log lines and thread names.
            version: Of the wire; the tests give another.
            on_broken: Called when a handler finds an invariant broken, before anything is answered. It should not return.
        Raises:
            ConfigInvalid: `roles` names a method that is not served, or the TLS files cannot be used.
        """
        self.address = address
        self._handle = handle
        self._methods = frozenset(methods)
        self._limits = limits
        self._contexts = TlsContexts(tls, server_side=True) if tls else None
        self._roles = {method: frozenset(allowed) for method, allowed in roles.items()} if roles is not None and tls else None
        self._name = name or "edge"
        self._version = version
        self._on_broken = on_broken
        self._mutex = threading.Lock()
        self._tracked: set[socket.socket] = set()
        self._closing = False
        self._listener: socket.socket | None = None
        self._pause = threading.Event()
        unknown = sorted(set(roles or ()) - self._methods)
        if unknown:
            raise ConfigInvalid(f"roles for methods that are not served: {', '.join(unknown)}", methods=unknown)

    def start(self) -> None:
        """Bind and begin to accept.

        Raises:
            ConfigInvalid: The address cannot be bound; names the port when another process has it.
        """
        try:
            family, kind, protocol, _, bound = socket.getaddrinfo(
                self.address.host, self.address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as cause:
            raise ConfigInvalid(f"cannot listen at {self.address}: {cause}", address=str(self.address)) from cause
        try:
            # So that a restarted process gets its port back while old connections still wait out their end.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(bound)
            listener.listen(LISTEN_BACKLOG)
        except OSError as cause:
            listener.close()
            why = f"port {self.address.port} is used by another process" if cause.errno == errno.EADDRINUSE else str(cause)
            raise ConfigInvalid(f"cannot listen at {self.address}: {why}", address=str(self.address), port=self.address.port) from cause
        self.address = Address(self.address.host, listener.getsockname()[1])
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name=f"{self._name}-accept", daemon=True).start()

    def close(self) -> None:
        """Stop accepting and end every connection. A handler that is at work goes on; its reply reaches nobody."""
        with self._mutex:
            self._closing = True
            tracked = list(self._tracked)
        self._pause.set()
        if self._listener is not None:
            shut(self._listener)
            self._listener.close()
        for sock in tracked:
            shut(sock)  # The thread that serves it wakes and closes it.

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing:
            try:
                sock, origin = listener.accept()
            except OSError as cause:
                if not self._closing:  # No descriptors left, or the peer left the queue: neither ends the server.
                    log.warning("%s: cannot accept: %s", self._name, cause)
                    self._pause.wait(ACCEPT_PAUSE_S)
                continue
            origin_text = str(Address(origin[0], origin[1]))
            if not self._track(sock):
                sock.close()
                if not self._closing:
                    self._report(origin_text, f"over {self._limits.connections_max} connections")
                continue
            try:
                threading.Thread(target=self._serve, args=(sock, origin_text), name=f"{self._name}-{origin_text}", daemon=True).start()
            except RuntimeError:
                self._release(sock)
                self._report(origin_text, "no thread left to serve it")

    def _track(self, sock: socket.socket, instead_of: socket.socket | None = None) -> bool:
        with self._mutex:
            if instead_of is not None:
                self._tracked.discard(instead_of)
            if self._closing or len(self._tracked) >= self._limits.connections_max:
                return False
            self._tracked.add(sock)
            return True

    def _release(self, sock: socket.socket) -> None:
        with self._mutex:
            self._tracked.discard(sock)
        shut(sock)
        sock.close()

    def _report(self, origin: str, reason: str) -> None:
        log.warning("%s: closed the connection from %s: %s", self._name, origin, reason)

    def _serve(self, sock: socket.socket, origin: str) -> None:
        """Serve one connection from handshake to end; log one line if it ended for a reason that somebody should know."""
        reason = ""
        connection: ServerConnection | None = None
        deadline = time.monotonic() + self._limits.handshake_ms / 1000
        try:
            if self._contexts is not None:
                plain, sock = sock, self._contexts.current().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                if not self._track(sock, instead_of=plain):  # Wrapping detached the socket that `close` knew.
                    return
            stream = DeadlineStream(sock)
            peer = self._identify(stream, sock, origin, deadline)
            channel = BoundedChannel(stream, self._limits)
            connection = ServerConnection(lambda method, payload: self._answer(method, payload, peer), channel, self._version)
            connection.serve_requests(deadline)
            reason = connection.refused
        except ProtocolViolation as violation:
            reason = str(violation)
        except DeadlinePassed:
            reason = f"silent for {self._limits.handshake_ms} ms, or a reply left unread for {self._limits.send_ms} ms"
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as cause:
            log.debug("%s: lost the connection from %s: %s", self._name, origin, cause)
        except ssl.SSLError as cause:
            reason = f"TLS handshake failed: {tls_failure(cause)}"
            # OpenSSL sends its alerts itself, but says nothing to who speaks no TLS at all.
            part(sock, PLAIN_TEXT_REFUSED if is_plain_text(cause) else b"")
        except (OSError, ConnectionLost) as cause:
            log.debug("%s: lost the connection from %s: %s", self._name, origin, cause)
        except Exception:
            log.exception("%s: a fault while serving %s", self._name, origin)
        finally:
            if connection is not None:
                connection.close()
            self._release(sock)
            if reason and not self._closing:
                self._report(origin, reason)

    def _identify(self, stream: DeadlineStream, sock: socket.socket, origin: str, deadline: float) -> Peer:
        if not isinstance(sock, ssl.SSLSocket):
            return Peer(origin)
        stream.shake_hands(deadline)
        peer = peer_of(sock.getpeercert(), origin)
        if peer is None:
            raise ProtocolViolation("a certificate that names no role")
        return peer

    def _answer(self, method: str, payload: bytes, peer: Peer) -> bytes | Later:
        """Return the reply's bytes, or what will give them."""

        def begin() -> bytes | Later:
            self._check(method, peer)
            return self._handle(method, payload, peer)

        reply = self._reply_of(method, begin)
        return reply.wrapped(lambda make: self._whole_reply(method, make)) if type(reply) is Later else reply

    def _whole_reply(self, method: str, make: Callable[[], bytes]) -> bytes:
        reply = self._reply_of(method, make)
        assert type(reply) is bytes
        return reply

    def _reply_of(self, method: str, make: Callable[[], bytes | Later]) -> bytes | Later:
        """Return the reply's bytes; whatever `make` raises becomes one."""
        try:
            reply = make()
            if type(reply) is Later:
                return reply
            if type(reply) is not bytes:
                raise TypeError(f"the handler of {method} gave {type(reply).__name__}, not bytes")
            if len(reply) > self._limits.frame_bytes_max - FRAME_OVERHEAD_BYTES:
                raise ValueError(f"the reply to {method} has {len(reply)} bytes, too many for a frame")
            return REPLY_VALUE + reply
        except InvariantBroken as broken:
            # Stop before answering: a send may take seconds, and other threads could sell on in them.
            log.critical("%s: an invariant is broken in %s: %s", self._name, method, broken, exc_info=True)
            self._on_broken()
            return _error_reply(OutcomeUnknown("the node found itself in error and stops", request_id=broken.request_id))
        except HoldfastError as error:
            try:
                return _error_reply(error)
            except Exception:
                log.exception("%s: the error of %s cannot be sent", self._name, method)
        except BaseException:  # SystemExit too: a handler does not decide over the process.
            log.exception("%s: a fault in the handler of %s", self._name, method)
        fault = HoldfastError()
        fault.maybe_committed = True  # The handler may have acted before it failed.
        return _error_reply(fault)

    def _check(self, method: str, peer: Peer) -> None:
        if method not in self._methods:
            raise InvalidRequest(f"no method {shown(method)}", method=shown(method), nearest=nearest(method, self._methods))
        if self._roles is not None and peer.role not in self._roles.get(method, ()):
            raise NotAuthorised(f"the role {shown(peer.role)} may not call {method}", method=method, role=shown(peer.role))


def _error_reply(error: HoldfastError) -> bytes:
    return REPLY_ERROR + msgspec.msgpack.encode(error.to_data())


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
