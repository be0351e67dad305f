"""Peers that misbehave, and plain RPyC beside the edge, for the tests of the edge."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import rpyc
from rpyc.core import brine, consts
from rpyc.core.channel import Channel
from rpyc.core.stream import SocketStream
from rpyc.utils.authenticators import SSLAuthenticator
from rpyc.utils.server import ThreadedServer

from datastore.edge import Address, EdgeClient, EdgeServer, Handler, Peer, Tls

LOOPBACK = "127.0.0.1"
PLAIN_ENDS_S = 5.0
SLOW_S = 30.0  # What ends at all ends within this, on a busy machine too.


def echo(_method: str, payload: bytes, _peer: Peer) -> bytes:
    return payload


@dataclass
class Attempt:
    """An action on a thread of its own, so that one that hangs for ever can be told from one that ends."""

    action: Callable[[], object]
    result: object = None
    error: BaseException | None = None
    elapsed_s: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self.result = self.action()
        except BaseException as error:
            self.error = error
        self.elapsed_s = time.monotonic() - began
        self._ended.set()

    def ends_within(self, seconds: float) -> bool:
        return self._ended.wait(seconds)


class Lines(logging.Handler):
    """The package's log lines of warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, part: str = "") -> list[str]:
        return [record.getMessage() for record in list(self.records) if part in record.getMessage()]


@contextlib.contextmanager
def edge_log() -> Iterator[Lines]:
    lines = Lines()
    logger = logging.getLogger("datastore")
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)


@contextlib.contextmanager
def edge_server(handle: Handler = echo, methods: tuple[str, ...] = ("echo",), port: int = 0, **options: object) -> Iterator[EdgeServer]:
    server = EdgeServer(Address(LOOPBACK, port), handle, methods=methods, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def edge_client(address: Address, **options: object) -> Iterator[EdgeClient]:
    client = EdgeClient(address, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def plain_server(service: type[rpyc.Service], kind: type[ThreadedServer] = ThreadedServer, **options: object) -> Iterator[ThreadedServer]:
    """RPyC as its documentation starts it."""
    quiet = logging.getLogger("plain-rpyc")
    quiet.setLevel(logging.CRITICAL + 1)
    server = kind(service, hostname=LOOPBACK, port=0, logger=quiet, **options)
    server._start_in_thread()
    try:
        yield server
    finally:
        # Its close would take the descriptor from a thread that is about to poll it; one that reads an end closes it itself.
        for sock in list(server.clients):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        end = time.monotonic() + PLAIN_ENDS_S
        while kind is ThreadedServer and server.clients and time.monotonic() < end:
            threading.Event().wait(0.005)
        server.close()


def plain_connection(port: int, **config: object) -> rpyc.Connection:
    return rpyc.connect(LOOPBACK, port, config=config)


def abandon(connection: rpyc.Connection) -> None:
    """Drop a plain connection without the round trip that its own close makes."""
    connection._closed = True
    connection._channel.close()


class Listener:
    """A port where `behave` meets each connection on a thread of its own; all sockets are closed at the end."""

    def __init__(self, behave: Callable[[socket.socket], object]) -> None:
        self._behave = behave
        self._listening = socket.create_server((LOOPBACK, 0))
        self.address = Address(LOOPBACK, self._listening.getsockname()[1])
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.sockets.append(sock)
                threading.Thread(target=self._meet, args=(sock,), daemon=True).start()

    def _meet(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._behave(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listening, *self.sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Relay(Listener):
    """A link to `target` that counts what passes, and on which replies can be cut short and requests left unread.

    `replies_left` bytes still pass back to the client (None: all), and while `frozen` nothing is read from either side.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self.request_bytes = 0
        self.replies_left: int | None = None
        self.frozen = False
        self._pause = threading.Event()
        super().__init__(self._carry)

    def _carry(self, client: socket.socket) -> None:
        server = socket.create_connection((self._target.host, self._target.port))
        self.sockets.append(server)
        threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()
        self._pump(client, server, False)

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            source.settimeout(0.02)
            while True:
                if self.frozen:
                    self._pause.wait(0.02)
                    continue
                try:
                    data = source.recv(65536)
                except TimeoutError:
                    continue
                if self.frozen:
                    continue
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if is_reply and self.replies_left is not None:
                    data = data[: self.replies_left]
                    self.replies_left -= len(data)
                elif not is_reply:
                    self.request_bytes += len(data)
                sink.sendall(data)


class PlainService(rpyc.Service):  # type: ignore[misc]
    """What a plain server would expose."""

    def exposed_call(self, method: str, payload: bytes) -> object:
        if method == "exit":
            raise SystemExit(payload.decode())
        if method == "wait":
            threading.Event().wait(float(payload))
        if method == "large":
            return bytes(int(payload))
        return [1, 2] if method == "list" else payload


def plain_tls(port: int, tls: Tls, timeout_s: float) -> rpyc.Connection:
    files = {"keyfile": str(tls.key), "certfile": str(tls.certificate), "ca_certs": str(tls.authorities)}
    return rpyc.ssl_connect(LOOPBACK, port, **files, config={"sync_request_timeout": timeout_s})


def authenticator(tls: Tls) -> SSLAuthenticator:
    return SSLAuthenticator(str(tls.key), str(tls.certificate), str(tls.authorities))


def ask_and_do_not_read(sock: socket.socket, object_id: tuple[object, ...], args: tuple[object, ...]) -> None:
    boxed = (consts.LABEL_TUPLE, ((consts.LABEL_LOCAL_REF, object_id), (consts.LABEL_VALUE, args)))
    Channel(SocketStream(sock), compress=False).send(b"\x01" + brine.dump((7, (consts.HANDLE_CALL, boxed))))


def bound_id(sock: socket.socket) -> tuple[object, ...]:
    """Return the server's id of its bound method, asked for by hand."""
    channel = Channel(SocketStream(sock), compress=False)
    channel.send(b"\x01" + brine.dump((1, (consts.HANDLE_GETROOT, (consts.LABEL_TUPLE, ())))))
    root = brine.load(channel.recv()[1:])[1][1]
    attribute = (consts.LABEL_TUPLE, ((consts.LABEL_LOCAL_REF, root), (consts.LABEL_VALUE, "call")))
    channel.send(b"\x01" + brine.dump((2, (consts.HANDLE_GETATTR, attribute))))
    bound: tuple[object, ...] = brine.load(channel.recv()[1:])[1][1]
    return bound


def slow_reader(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((LOOPBACK, port))
    return sock


def address_of(plain: ThreadedServer) -> Address:
    return Address(LOOPBACK, plain.port)


def connected(address: Address) -> socket.socket:
    return socket.create_connection((address.host, address.port))
