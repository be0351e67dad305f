"""The RPyC edge of every tier: a method name and bytes go in, bytes or one of our errors come out, by a deadline.

RPyC 6.0.2 carries the calls; what hangs, inflates or leaks in it is replaced in `edge_channel` (frames and deadlines),
`edge_connection` (what the protocol may reach) and `edge_tls` (who is there). Only these modules know RPyC. `edge_client`
is the caller's half. `edge_reader` reads for many connections at once, where a server has requests that can be begun without waiting.

* One connection carries one call at a time. Threads that share a connection lose each other's wake-ups in RPyC, so a
  client keeps a pool; make one client for each peer and plane, and a slow command never delays a heartbeat.
* A reply is one byte, 0 and the payload or 1 and an error's data in MessagePack. Errors travel as values.
* What a caller learns is exact: NodeUnreachable when no byte of the call was handed over, OutcomeUnknown when some was
  and no reply came, else the handler's answer or error.
"""

from __future__ import annotations

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
    DEFAULT_LIMITS,
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
from datastore.edge_client import EdgeClient
from datastore.edge_connection import FRAME_OVERHEAD_BYTES, REPLY_ERROR, REPLY_VALUE, WIRE_VERSION, ServerConnection
from datastore.edge_later import Later
from datastore.edge_reader import Quick, Reader, reader_of
from datastore.edge_tls import Peer, Tls, TlsContexts, certificate_folder, is_plain_text, peer_of, tls_failure, tls_files, tls_of
from datastore.errors import (
    ConfigInvalid,
    HoldfastError,
    InvalidRequest,
    InvariantBroken,
    NotAuthorised,
    OutcomeUnknown,
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
    "Quick",
    "Tls",
    "certificate_folder",
    "tls_files",
    "tls_of",
]

# A handler answers with bytes, or begins and has some thread give the answer later.
Handler = Callable[[str, bytes, Peer], bytes | Later]

EXIT_INVARIANT_BROKEN = 70  # EX_SOFTWARE of sysexits.h.
LISTEN_BACKLOG = 128
ACCEPT_PAUSE_S = 0.1

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
        quick: Quick | None = None,
        on_broken: Callable[[], object] = lambda: os._exit(EXIT_INVARIANT_BROKEN),
    ) -> None:
        """Prepare; `start` binds.

        Args:
            handle: Called with the method, the payload and the peer, from many threads at once.
            methods: The only methods that reach `handle`.
            roles: Which roles may call a method, checked under TLS. A method that is missing here is closed to all.
            name: Stands in log lines and thread names.
            version: Of the wire; the tests give another.
            quick: What can be begun without waiting; it is read by one thread for many connections.
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
        self._quick = quick
        self._reader: Reader | None = None
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
        try:
            self._reader = reader_of(self._quick, self._name)
        except (OSError, RuntimeError):  # No descriptor or no thread is left.
            listener.close()
            raise
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
        if self._reader is not None:
            self._reader.close()

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
            self._serve_requests(connection, peer, deadline)
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

    def _serve_requests(self, connection: ServerConnection, peer: Peer, deadline: float) -> None:
        reader = self._reader
        if reader is None:
            return connection.serve_requests(deadline)

        def sleep(method: str) -> None:
            if reader.takes(method):
                reader.look_after(connection, lambda method, payload: self._begin(reader, method, payload, peer))

        connection.serve_requests(deadline, sleep)

    def _begin(self, reader: Reader, method: str, payload: bytes, peer: Peer) -> Later | None:
        """Return what will give the reply to a request that can be begun at once, None for all others and for what is refused."""
        if not reader.takes(method):
            return None
        try:
            self._check(method, peer)
            later = reader.begin(method, payload, peer)
        except HoldfastError:
            return None  # Its own thread will meet the same, and say so.
        return later.wrapped(lambda make: self._whole_reply(method, make)) if later is not None else None

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
