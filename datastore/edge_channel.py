"""Frames over a socket with deadlines: what RPyC's stream and channel do, without what hangs or inflates in them.

RPyC 6.0.2 frames are `!LB` (length, compressed), the body, and a line feed. Theory of operation:

* Every socket is non-blocking, and every wait is one `poll` with what is left until a deadline on the monotonic clock.
  RPyC's own stream goes on reading after a socket timeout, so half a frame or a TLS record without application data
  holds its reader for ever; and it measures with the wall clock, which an operator or NTP may move.
* A frame that has begun must be complete within the stall limit, however its bytes dribble in. Between frames a server
  waits without limit: an idle pooled connection is normal.
* A length above the cap is refused from the five header bytes; memory grows only with bytes that have arrived.
  Compressed frames are refused: 300 kB of them can inflate to 300 MB, and nothing here sends any.
* The body is Brine, RPyC's format of plain values. `read_brine` accepts the part of it that RPyC's requests and replies
  for plain calls consist of: None, booleans, integers, strings, bytes and tuples, a few levels deep. Sets, slices and
  floats have no use here, and a set of colliding numbers would cost minutes of processor time to load.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpyc.core import brine
from rpyc.core.channel import Channel
from rpyc.core.stream import ClosedFile, SocketStream

from datastore.edge_socket import send_now
from datastore.edge_tls import tls_failure

# One receive takes a whole small frame; what is left of a large one is asked for in larger pieces.
RECEIVE_BYTES = 65_536
RECEIVE_LARGE_BYTES = 262_144

FRAME_HEADER = struct.Struct("!LB")
FLUSHER = b"\n"

# What a TLS record begins with, for who expects none: its kind, then the major version.
TLS_VERSION_MAJOR = 3
TLS_RECORDS = {0x15: "a refusal: this port speaks TLS only, and wants a certificate", 0x16: "a TLS handshake, and this port speaks no TLS"}

# RPyC's requests nest five deep; the rest is room for a person who calls from a plain RPyC shell.
BRINE_DEPTH_MAX = 10
BRINE_ITEMS_MAX = 64
BRINE_DIGITS_MAX = 40

# A TLS alert, "fatal: protocol version": what a caller that speaks plain text is told at a TLS port.
PLAIN_TEXT_REFUSED = bytes.fromhex("15030300020246")
PART_S = 0.5

KEEPALIVE_S = 5
KEEPALIVE_PROBES = 3


@dataclass(frozen=True)
class Address:
    """Where a process listens; port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class EdgeLimits:
    """Bounds that keep one peer from taking what belongs to all.

    Attributes:
        frame_bytes_max: Largest frame either side sends or takes; a snapshot travels in chunks below it.
        connections_max: Connections a server holds at a time; one more is closed at once.
        handshake_ms: From accept to the first frame, and from connect to the bound method.
        send_ms: How long a peer may leave a frame unread in the sockets' buffers.
        read_stall_ms: From the first byte of a frame to its last.
    """

    frame_bytes_max: int = 4 * 1024 * 1024
    connections_max: int = 256
    handshake_ms: int = 2000
    send_ms: int = 5000
    read_stall_ms: int = 5000


DEFAULT_LIMITS = EdgeLimits()


class ProtocolViolation(Exception):
    """The peer sent what no peer of ours sends; the connection cannot be used any more."""


class DeadlinePassed(Exception):
    """The deadline of a wait passed. Not a TimeoutError: that is an OSError, which here means a broken connection."""


class ConnectionLost(Exception):
    """The connection ended. `sent` says whether any byte of the frame in hand had been given to the system."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


def prepare_socket(sock: socket.socket) -> None:
    """Set what every edge socket needs, on both sides: no waiting for more to send, and probes for a dead host."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S), ("TCP_KEEPCNT", KEEPALIVE_PROBES)):
        if hasattr(socket, option):  # Not every system names them so.
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    sock.setblocking(False)


def shut(sock: socket.socket) -> None:
    """End a connection that another thread may be waiting on: wakes that thread, which then closes the socket.

    `SSLSocket.shutdown` drops its TLS object first, after which that thread could read or send in the clear; the plain
    socket's method does not.
    """
    with contextlib.suppress(OSError):  # Already gone, which is what was asked for.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def part(sock: socket.socket, farewell: bytes = b"") -> None:
    """End a connection so that the peer hears why: send `farewell`, then take what still comes, for `PART_S` at most.

    Closing with bytes unread resets the connection, and a reset overtakes the alert that says what was wrong. Spoken below
    TLS, like `shut`.
    """
    deadline = time.monotonic() + PART_S
    readable = select.poll()
    readable.register(sock.fileno(), select.POLLIN)
    with contextlib.suppress(OSError, DeadlinePassed):
        if farewell:
            socket.socket.send(sock, farewell)
        socket.socket.shutdown(sock, socket.SHUT_WR)
        while True:
            _wait(readable, deadline)
            if not socket.socket.recv(sock, RECEIVE_BYTES):
                return


class DeadlineStream(SocketStream):  # type: ignore[misc]
    """A socket whose every wait ends at a deadline. One thread at a time uses it; any thread may `shut` its socket."""

    __slots__ = ("_is_tls", "_readable", "_send", "_writable")
    sock: Any  # A socket, or RPyC's ClosedFile.

    def __init__(self, sock: socket.socket) -> None:
        prepare_socket(sock)
        super().__init__(sock)
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._send: Callable[[socket.socket, bytes | memoryview], int] = (lambda tls, data: tls.send(data)) if self._is_tls else send_now
        self._readable = select.poll()
        self._readable.register(sock.fileno(), select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock.fileno(), select.POLLOUT)

    def has_input(self) -> bool:
        """Return whether something, the end of the connection too, can be read at once."""
        return bool(self._readable.poll(0))

    def shake_hands(self, deadline: float) -> None:
        """Carry a TLS handshake through; nothing to do on a plain socket.

        Raises:
            DeadlinePassed: The peer kept silent.
            OSError: The peer or its certificate was refused, or went away.
        """
        if self._is_tls:
            self._retry(self.sock.do_handshake, self._readable, deadline)

    def receive(self, count: int, deadline: float | None) -> bytes:
        """Return one to `count` bytes as soon as there are any, or none at the end of the connection."""
        if not self._is_tls:  # Nearly always there is nothing yet; ask the system once, not twice.
            _wait(self._readable, deadline)
        received: bytes = self._retry(lambda: self.sock.recv(count), self._readable, deadline)
        return received

    def send_all(self, data: bytes, deadline: float) -> None:
        """Give all of `data` to the system.

        Raises:
            DeadlinePassed: The peer does not read. Part of `data` may have gone out.
            ConnectionLost: `sent` says whether part of `data` may have gone out.
        """
        done = 0
        view = memoryview(data)
        size = len(data)
        try:
            while done < size:
                rest = view[done:] if done else data
                done += self._retry(lambda: self._send(self.sock, rest), self._writable, deadline)  # noqa: B023 (called at once)
        except (OSError, EOFError) as cause:
            raise ConnectionLost(f"the connection broke while sending: {cause}", sent=done > 0 or self._is_tls) from cause

    @property
    def may_send_apart(self) -> bool:
        """Whether one thread may send while another waits for input or reads: OpenSSL allows one thread at a time."""
        return not self._is_tls

    def send_some(self, data: bytes) -> bytes:
        """Give the system what it takes at once, and return the rest.

        Raises:
            OSError: The connection broke.
        """
        try:
            return data[self._send(self.sock, data) :]
        except BlockingIOError:
            return data

    def _retry(self, operation: Callable[[], Any], poller: select.poll, deadline: float | None) -> Any:
        """Return what `operation` gives once the socket lets it; TLS may need the other direction first."""
        while True:
            try:
                return operation()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                _wait(self._readable if isinstance(want, ssl.SSLWantReadError) else self._writable, deadline)
            except BlockingIOError:
                _wait(poller, deadline)

    def end(self) -> None:
        """Wake whoever waits for input or room with the end of the connection; they close."""
        sock = self.sock
        if sock is not ClosedFile:
            shut(sock)

    def close(self) -> None:
        if self.sock is not ClosedFile:
            shut(self.sock)
            self.sock.close()
            self.sock = ClosedFile


def _wait(poller: select.poll, deadline: float | None) -> None:
    if deadline is None:
        poller.poll()
        return
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise DeadlinePassed


class BoundedChannel(Channel):  # type: ignore[misc]
    """Frames of at most `frame_bytes_max`, never compressed, written in one piece and read with deadlines."""

    __slots__ = ("_frame_bytes_max", "_rest", "_send_s", "_stall_s")

    def __init__(self, stream: DeadlineStream, limits: EdgeLimits) -> None:
        super().__init__(stream, compress=False)
        self._frame_bytes_max = limits.frame_bytes_max
        self._send_s = limits.send_ms / 1000
        self._stall_s = limits.read_stall_ms / 1000
        self._rest = b""  # Bytes of the next frame that came with the last one.

    def send_value(self, kind: int, value: object, deadline: float | None = None) -> None:
        """Send one RPyC message: `kind`, then `value` as Brine.

        Raises:
            ProtocolViolation: The frame is over the cap. Nothing was sent.
            DeadlinePassed, ConnectionLost: As `DeadlineStream.send_all`.
        """
        parts = [brine.I1.pack(kind)]
        brine._dump(value, parts)  # The public dump would copy a large payload once more.
        self.send_parts(parts, deadline)

    def send_parts(self, parts: list[bytes], deadline: float | None = None) -> None:
        """Send the frame whose body these parts are; raises as `send_value`."""
        limit = time.monotonic() + self._send_s
        self.stream.send_all(self.frame_with(parts), limit if deadline is None else min(limit, deadline))

    def frame_with(self, parts: list[bytes]) -> bytes:
        """Return the frame whose body these parts are.

        Raises:
            ProtocolViolation: It is over the cap.
        """
        size = sum(map(len, parts))
        if size > self._frame_bytes_max:
            raise ProtocolViolation(f"a frame of {size} bytes is over the limit of {self._frame_bytes_max}")
        return b"".join((FRAME_HEADER.pack(size, 0), *parts, FLUSHER))

    def send_rest(self, data: bytes) -> None:
        """Send what `DeadlineStream.send_some` left of a frame; raises as `DeadlineStream.send_all`."""
        self.stream.send_all(data, time.monotonic() + self._send_s)

    def take_frame(self, deadline: float | None) -> bytes | None:
        """Return the next frame's body, or None when the connection ended before one began.

        Args:
            deadline: Of the first byte, and of the whole if it comes before the stall limit does; None waits without limit.
        Raises:
            DeadlinePassed: No frame began.
            ProtocolViolation: The bytes are no frame, or one that began did not end in time.
        """
        data = self._rest
        if not data:
            try:
                data = self.stream.receive(RECEIVE_BYTES, deadline)
            except ssl.SSLError as cause:
                raise ProtocolViolation(f"a refusal: {tls_failure(cause)}") from cause
            except (OSError, EOFError):
                return None
            if not data:
                return None
        stall = time.monotonic() + self._stall_s
        return self._complete(data, stall if deadline is None else min(stall, deadline))

    @property
    def has_more(self) -> bool:
        """Whether bytes of the next frame came with the last one: no input will tell of them."""
        return bool(self._rest)

    def put_back(self, data: bytes) -> None:
        """Have `take_frame` begin with these bytes, which another reader took from the socket."""
        self._rest = data

    def whole_frame(self, data: bytes) -> bytes | None:
        """Return the body of the one frame that `data` is, None where it is anything else."""
        if self._rest or len(data) < FRAME_HEADER.size:
            return None
        try:
            return _body(data, len(data)) if self._end(data) == len(data) else None
        except ProtocolViolation:
            return None

    def _complete(self, data: bytes, deadline: float) -> bytes:
        """Return the body of the frame that begins with `data`, and keep what follows it."""
        if len(data) < FRAME_HEADER.size:
            data = self._gather(data, FRAME_HEADER.size, deadline)
        end = self._end(data)
        if len(data) < end:
            data = self._gather(data, end, deadline)
        body = _body(data, end)
        self._rest = data[end:]
        return body

    def _end(self, data: bytes) -> int:
        """Return where the frame ends that begins with `data`, its whole header at least.

        Raises:
            ProtocolViolation: This is no header of a frame.
        """
        if data[1] == TLS_VERSION_MAJOR and data[0] in TLS_RECORDS:
            # As lengths these are over 300 MB, so no frame begins like that.
            raise ProtocolViolation(TLS_RECORDS[data[0]])
        size, compressed = FRAME_HEADER.unpack_from(data)
        if compressed:
            raise ProtocolViolation("a compressed frame" if compressed == 1 else "bytes that are no frame header")
        if not 0 < size <= self._frame_bytes_max:
            raise ProtocolViolation(f"a frame of {size} bytes, limit {self._frame_bytes_max}")
        return FRAME_HEADER.size + int(size) + len(FLUSHER)

    def _gather(self, begun: bytes, size: int, deadline: float) -> bytes:
        """Return at least `size` bytes that start with `begun`."""
        parts = [begun]
        missing = size - len(begun)
        while missing > 0:
            try:
                part = self.stream.receive(min(max(missing, RECEIVE_BYTES), RECEIVE_LARGE_BYTES), deadline)
            except DeadlinePassed as cause:
                raise ProtocolViolation(f"a frame that stalled with {missing} bytes missing") from cause
            except (OSError, EOFError) as cause:
                raise ProtocolViolation("an end in the middle of a frame") from cause
            if not part:
                raise ProtocolViolation("an end in the middle of a frame")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _body(data: bytes, end: int) -> bytes:
    if data[end - 1] != FLUSHER[0]:
        raise ProtocolViolation("a frame without its end mark")
    return data[FRAME_HEADER.size : end - 1]


def int_head(number: int) -> bytes:
    """Return a whole number of zero or more as Brine."""
    small: bytes | None = brine.IMM_INTS.get(number)
    if small is not None:
        return small
    digits = b"%d" % number
    return bytes((_INT_L1, len(digits))) + digits


def bytes_head(size: int) -> bytes:
    """Return what stands before `size` bytes in Brine."""
    if size < len(_BYTES_TAGS):
        return bytes(_BYTES_TAGS[size])
    head: bytes = brine.TAG_STR_L1 + brine.I1.pack(size) if size < 256 else brine.TAG_STR_L4 + brine.I4.pack(size)
    return head


def end_of_int(data: bytes, at: int) -> int:
    """Return where the whole number at `at` ends, 0 where there is none."""
    if at >= len(data):
        return 0
    tag = data[at]
    if tag in _CONSTANTS:
        return at + 1
    return at + 2 + data[at + 1] if tag == _INT_L1 and at + 1 < len(data) else 0


def last_bytes(data: bytes, at: int) -> bytes | None:
    """Return the bytes that Brine has at `at`, if they are the last of `data`, else None."""
    size = len(data)
    if at >= size:
        return None
    tag = data[at]
    if tag == _BYTES_L4 and at + 5 <= size:
        (length,) = brine.I4.unpack_from(data, at + 1)
        at += 5
    elif tag == _BYTES_L1 and at + 2 <= size:
        length = data[at + 1]
        at += 2
    elif tag in _SMALL_BYTES:
        length = _SMALL_BYTES[tag]
        at += 1
    else:
        return None
    return data[at:] if at + length == size else None


def read_brine(data: bytes, start: int) -> object:
    """Return the one value that `data` holds from `start` to its end.

    Raises:
        ProtocolViolation: It is none of the values the edge exchanges, or bytes are missing or left over.
    """
    try:
        value, end = _read(data, start, BRINE_DEPTH_MAX)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, TypeError) as cause:
        raise ProtocolViolation("a frame that is not Brine") from cause
    if end != len(data):
        raise ProtocolViolation("a frame with bytes missing or left over")
    return value


_TUPLE_TAGS = (brine.TAG_EMPTY_TUPLE, brine.TAG_TUP1, brine.TAG_TUP2, brine.TAG_TUP3, brine.TAG_TUP4)
_BYTES_TAGS = (brine.TAG_EMPTY_STR, brine.TAG_STR1, brine.TAG_STR2, brine.TAG_STR3, brine.TAG_STR4)
_SMALL_TUPLES = {tag[0]: count for count, tag in enumerate(_TUPLE_TAGS)}
_SMALL_BYTES = {tag[0]: count for count, tag in enumerate(_BYTES_TAGS)}
_CONSTANTS: dict[int, object] = {
    brine.TAG_NONE[0]: None,
    brine.TAG_TRUE[0]: True,
    brine.TAG_FALSE[0]: False,
    **{tag[0]: number for number, tag in brine.IMM_INTS.items()},
}
_BYTES_L1, _BYTES_L4, _TEXT, _INT_L1, _TUPLE_L1 = (
    tag[0] for tag in (brine.TAG_STR_L1, brine.TAG_STR_L4, brine.TAG_UNICODE, brine.TAG_INT_L1, brine.TAG_TUP_L1)
)


def _read(data: bytes, at: int, depth: int) -> tuple[object, int]:
    """Return the value at `at` and where the next one begins; an end beyond the data is the caller's to see."""
    tag = data[at]
    at += 1
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    if tag in _SMALL_TUPLES:
        return _read_tuple(data, at, _SMALL_TUPLES[tag], depth)
    if tag == _BYTES_L4:
        (size,) = brine.I4.unpack_from(data, at)
        return data[at + 4 : at + 4 + size], at + 4 + size
    if tag == _BYTES_L1:
        end = at + 1 + data[at]
        return data[at + 1 : end], end
    if tag in _SMALL_BYTES:
        end = at + _SMALL_BYTES[tag]
        return data[at:end], end
    if depth and tag == _TEXT:
        text, end = _read(data, at, 0)  # Depth 0: neither a tuple nor text again.
        if type(text) is not bytes:
            raise ValueError(tag)
        return text.decode("utf-8"), end
    if tag == _INT_L1 and data[at] <= BRINE_DIGITS_MAX:
        end = at + 1 + data[at]
        return int(data[at + 1 : end]), end
    if tag == _TUPLE_L1 and data[at] <= BRINE_ITEMS_MAX:
        return _read_tuple(data, at + 1, data[at], depth)
    raise ValueError(tag)


def _read_tuple(data: bytes, at: int, count: int, depth: int) -> tuple[object, int]:
    if not depth:
        raise ValueError(depth)
    items = []
    for _ in range(count):
        item, at = _read(data, at, depth - 1)
        items.append(item)
    return tuple(items), at
