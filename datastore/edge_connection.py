"""The two ends of one RPyC connection, restricted to what the edge needs of the protocol.

RPyC lets each side hold references to the other's objects and call what they reach. Here the server exposes one root with
one bound method, `call`, and hands out nothing else; the client exposes nothing, so a request from a server ends the
connection. Neither side makes proxies: a proxy's methods are asked for on the wire when it is made and its `__del__` sends
when it is collected, on whatever thread that happens. An object id is kept as the plain `RemoteId` that it is.

Neither side loads the exceptions that RPyC can carry: a remote SystemExit would be raised here as a real one.

A call and its reply are the same bytes each time but for the number, the payload and, in a call, the method. So what stands
between is made once for a connection and compared where it arrives: to walk the whole of it took as long as deciding
on a hold. The bytes are RPyC's own; whatever differs from them goes the long way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from rpyc import Service
from rpyc.core import brine, consts
from rpyc.core.protocol import Connection

from datastore.edge_channel import (
    BoundedChannel,
    ConnectionLost,
    DeadlinePassed,
    ProtocolViolation,
    bytes_head,
    end_of_int,
    int_head,
    last_bytes,
    read_brine,
)
from datastore.edge_later import Later
from datastore.edge_socket import Receiver
from datastore.once import Once

# Everything that opens an RPyC connection further is off, whatever RPyC's defaults or its environment variables say.
CONNECTION_CONFIG: dict[str, object] = {
    "allow_safe_attrs": False,
    "allow_exposed_attrs": False,
    "allow_public_attrs": False,
    "allow_all_attrs": False,
    "allow_getattr": False,
    "allow_setattr": False,
    "allow_delattr": False,
    "allow_pickle": False,
    "include_local_traceback": False,
    "include_local_version": False,
    "instantiate_custom_exceptions": False,
    "import_custom_exceptions": False,
    "propagate_SystemExit_locally": False,
    "propagate_KeyboardInterrupt_locally": False,
    "bind_threads": False,  # RPYC_BIND_THREADS=true in the environment would change the frames.
}
SERVED = (
    consts.HANDLE_PING,
    consts.HANDLE_CLOSE,
    consts.HANDLE_GETROOT,
    consts.HANDLE_GETATTR,
    consts.HANDLE_CALL,
    consts.HANDLE_CALLATTR,
    consts.HANDLE_DEL,
    consts.HANDLE_INSPECT,
)
CALL_NAME = "call"

# Major * 100 + minor. A client asks for the server's method by the version that it speaks, which costs no round trip. Within one
# major version messages only gain fields at their end, with defaults, so either side may be the older one, as in a rolling
# restart; another major version is refused by a sentence that names both.
WIRE_VERSION = 100
VERSION_FIRST = 100  # asked for as CALL_NAME alone
VERSION_REPLY = b"version "

# What a reply begins with: a value's bytes follow, or an error's data in MessagePack.
REPLY_VALUE = b"\x00"
REPLY_ERROR = b"\x01"
# Room in a frame for what stands around the payload: the call's number, the method's id and name.
FRAME_OVERHEAD_BYTES = 1024

REQUEST_HEAD = brine.I1.pack(consts.MSG_REQUEST) + brine.TAG_TUP2
REPLY_HEAD = brine.I1.pack(consts.MSG_REPLY) + brine.TAG_TUP2
# (LABEL_VALUE, bytes), without the bytes.
VALUE_HEAD: bytes = brine.dump((consts.LABEL_VALUE, b""))[:-1]
METHODS_KEPT = 64

log = logging.getLogger(__name__)


def call_name(version: int) -> str:
    """Return the name under which a client of that version asks for the method."""
    return CALL_NAME if version == VERSION_FIRST else f"{CALL_NAME}@{version_text(version)}"


def version_text(version: int) -> str:
    return f"{version // 100}.{version % 100}"


def version_in(name: object) -> int | None:
    """Return the version of the client that asks by this name, None where it is no such name."""
    if type(name) is not str or not name.startswith(CALL_NAME):
        return None
    if name == CALL_NAME:
        return VERSION_FIRST
    major, dot, minor = name[len(CALL_NAME) + 1 :].partition(".")
    whole = name[len(CALL_NAME)] == "@" and dot and major.isdecimal() and minor.isdecimal() and len(name) <= 16
    return int(major) * 100 + int(minor) if whole else None


class RemoteId(NamedTuple):
    """RPyC's id of an object at the other end."""

    type_name: str
    type_id: int
    object_id: int


class Root(Service):  # type: ignore[misc]
    """The one object that a server exposes, one a connection."""

    def __init__(self, answer: Callable[[str, bytes], bytes | Later]) -> None:
        super().__init__()
        self._answer = answer

    def exposed_call(self, method: str, payload: bytes) -> bytes | Later:
        """Return the reply to one call. Exact types only: a subclass could carry code of the caller's choice."""
        if type(method) is not str or type(payload) is not bytes:
            raise ProtocolViolation("a call whose method is not text or whose payload is not bytes")
        return self._answer(method, payload)


class _EdgeConnection(Connection):  # type: ignore[misc]
    _closed: bool

    def __init__(self, root: Service, channel: BoundedChannel) -> None:
        super().__init__(root, channel, CONNECTION_CONFIG)

    def close(self) -> None:
        """Drop the connection at once. RPyC's own close, which `__del__` calls, waits for the peer's answer."""
        if not self._closed:
            self._closed = True
            self._channel.close()
            self._local_objects.clear()


class ServerConnection(_EdgeConnection):
    """Serves one peer, one request after the other, on the thread that calls `serve_requests` and on who may `begin_next`."""

    def __init__(self, answer: Callable[[str, bytes], bytes | Later], channel: BoundedChannel, version: int = WIRE_VERSION) -> None:
        super().__init__(Root(answer), channel)
        self._answer = answer
        self.refused = ""  # why this peer was refused by a reply
        self._version = version
        # Made once: every look-up of a bound method is a new object, and each would be kept for the peer.
        self._bound_call = self._local_root.exposed_call
        self._leaving = False
        # Held while another thread sends and while the socket is closed: a descriptor that was closed may be another peer's.
        self._sending = threading.Lock()
        self._underway: Once | None = None  # set when the reply that another thread gives is sent
        self._known_calls: dict[bytes, str] = {}  # what stands between number and payload of a call -> its method
        self._method = ""  # of the last call
        self._repeats = False  # whether the call before it was of the same

    @classmethod
    def _request_handlers(cls) -> dict[int, Callable[..., object]]:
        handlers: dict[int, Callable[..., object]] = super()._request_handlers()
        return {number: handlers[number] for number in SERVED}

    def serve_requests(self, first_deadline: float, sleep: Callable[[str], None] = lambda _method: None) -> None:
        """Answer until the peer leaves.

        Args:
            first_deadline: When the first request must have begun; after it the peer may be idle as long as it likes.
            sleep: Called with the method while a reply is another thread's to give, where the peer calls that method again and again. Until
                it returns, others may `begin_next`.
        Raises:
            ProtocolViolation, DeadlinePassed, ConnectionLost: As the channel; the caller closes.
        """
        deadline: float | None = first_deadline
        while not self._leaving:
            frame = self._channel.take_frame(deadline)
            if frame is None:
                return
            deadline = None
            if self._underway is not None:
                # The last reply is still to come: nobody of ours asks before it, and nobody else shall pile up questions.
                self._underway.wait()
                self._underway = None
            self._dispatch(frame)
            if self._repeats and not self._is_answered and self.is_plain and not self._channel.has_more:
                sleep(self._method)

    def begin_next(self, receiver: Receiver, begin: Callable[[str, bytes], Later | None]) -> bool:
        """Read and begin the next request in the place of this connection's thread, without waiting for anything.

        Returns:
            False where that is not possible: the thread has to go on, with what was read.
        """
        if not self._is_answered:
            return False  # The peer asks before it was answered.
        try:
            data = receiver.receive_now(self._channel.stream.sock)
        except BlockingIOError:
            return True
        except OSError:
            return False
        frame = self._channel.whole_frame(data)
        self._channel.put_back(data)
        call = self._known_call(frame) if frame is not None else None
        later = begin(call[1], call[2]) if call is not None else None
        if call is None or later is None:
            return False
        self._channel.put_back(b"")
        self._answer_later(call[0], later)
        return True

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are read and sent without TLS, so that threads may share the work."""
        return bool(self._channel.stream.may_send_apart)

    @property
    def _is_answered(self) -> bool:
        return self._underway is None or self._underway.is_set()

    def _dispatch(self, data: bytes) -> None:
        call = self._known_call(data)
        if call is not None:
            seq, method, payload = call
            self._repeats, self._method = method == self._method, method
            return self._reply(seq, self._answer(method, payload))
        self._repeats = False
        if data[0] != consts.MSG_REQUEST:
            raise ProtocolViolation("a message that is not a request")
        try:
            message: Any = read_brine(data, 1)
            seq, (handler, boxed) = message
            if type(seq) is not int:  # Who gives the reply, later, would meet it.
                raise ProtocolViolation("a request without a number")
            respond = self._HANDLERS[handler]
            arguments = self._unbox(boxed)
            reply = respond(self, *arguments)
            if handler == consts.HANDLE_CALL and len(arguments) == 2 and len(arguments[1]) == 2:
                self._learn(data, *arguments[1])
            result = None if type(reply) is Later else self._box(reply)
        except (TypeError, ValueError, KeyError, AttributeError) as cause:
            # No handler's fault comes here: the answer function turns those into replies.
            raise ProtocolViolation("a request that the edge does not serve") from cause
        if type(reply) is Later:
            self._reply(seq, reply)
        else:
            self._channel.send_value(consts.MSG_REPLY, (seq, result))

    def _known_call(self, data: bytes) -> tuple[int, str, bytes] | None:
        """Return number, method and payload of a call whose other bytes are those of one that was answered before."""
        if not data.startswith(REQUEST_HEAD):
            return None
        at = end_of_int(data, len(REQUEST_HEAD))
        if not at:
            return None
        for between, method in self._known_calls.items():
            if data.startswith(between, at):
                payload = last_bytes(data, at + len(between))
                if payload is None:
                    return None
                seq: Any = read_brine(data[len(REQUEST_HEAD) : at], 0)
                return (seq, method, payload) if type(seq) is int else None
        return None

    def _learn(self, data: bytes, method: str, payload: bytes) -> None:
        """Keep what stood between number and payload of a call that was carried out: it names our method."""
        end = len(data) - len(payload) - len(bytes_head(len(payload)))
        start = end_of_int(data, len(REQUEST_HEAD))
        # Methods that do not exist are told so too, and must not fill the memory.
        if 0 < start < end and last_bytes(data, end) == payload and len(self._known_calls) < METHODS_KEPT:
            self._known_calls[data[start:end]] = method

    def _reply(self, seq: int, reply: bytes | Later) -> None:
        if type(reply) is Later:
            if self._channel.stream.may_send_apart:
                self._answer_later(seq, reply)
                return
            reply = reply.wait()
        assert type(reply) is bytes
        self._channel.send_parts(_reply_parts(seq, reply))

    def _answer_later(self, seq: int, later: Later) -> None:
        """Have the reply sent by the thread that gives it."""
        underway = self._underway = Once()

        def send(reply: bytes) -> None:
            rest = b""
            try:
                rest = self._send_apart(seq, reply)
            finally:
                if not rest:
                    underway.set()
            if not rest:
                return
            try:
                threading.Thread(target=self._send_rest, args=(rest, underway), name="edge-rest", daemon=True).start()
            except RuntimeError:  # No thread left.
                self._end()
                underway.set()

        later.when_given(send)

    def _send_apart(self, seq: int, reply: bytes) -> bytes:
        """Send a reply beside the thread that listens; return what a slow peer left for a thread of its own."""
        try:
            frame = self._channel.frame_with(_reply_parts(seq, reply))
            with self._sending:
                return b"" if self._closed else bytes(self._channel.stream.send_some(frame))
        except (OSError, EOFError, ProtocolViolation):
            self._end()
        except Exception:  # Of this connection alone: who gives the reply has others to give.
            log.exception("a fault while sending a reply")
            self._end()
        return b""

    def _send_rest(self, rest: bytes, underway: Once) -> None:
        try:
            with self._sending:
                if not self._closed:
                    self._channel.send_rest(rest)
        except (OSError, ConnectionLost, DeadlinePassed):
            self._end()
        finally:
            underway.set()

    def _end(self) -> None:
        """Wake the listening thread with an end; it closes."""
        with self._sending:
            if not self._closed:
                self._channel.stream.end()

    def fileno(self) -> int:
        """Return the descriptor of its socket."""
        return int(self._channel.stream.sock.fileno())

    def close(self) -> None:
        """Drop the connection at once, but not under a thread that sends."""
        if not self._closed:
            self._channel.stream.end()
            with self._sending:
                super().close()

    def _unbox(self, package: Any) -> Any:
        label, _ = package
        if label == consts.LABEL_REMOTE_REF:
            raise ProtocolViolation("a reference to an object of the caller's")
        return super()._unbox(package)

    def _handle_close(self) -> None:
        self._leaving = True

    def _handle_getattr(self, obj: object, name: object) -> object:
        version = version_in(name)
        if obj is not self._local_root or version is None:
            raise ProtocolViolation("an attribute that is not exposed")
        if version // 100 != self._version // 100:
            self.refused = f"it speaks version {version_text(version)} of the wire, this program {version_text(self._version)}"
            self._leaving = True
            return VERSION_REPLY + version_text(self._version).encode()
        return self._bound_call

    def _handle_call(self, obj: object, args: tuple[object, ...], kwargs: tuple[tuple[str, object], ...] = ()) -> object:
        if obj is not self._bound_call:
            raise ProtocolViolation("a call of what is not exposed")
        return super()._handle_call(obj, args, kwargs)


class ClientConnection(_EdgeConnection):
    """Calls one server, one call at a time; after any exception but a ProtocolViolation of `send` it must be closed."""

    def __init__(self, channel: BoundedChannel, version: int = WIRE_VERSION) -> None:
        super().__init__(Service(), channel)
        self._version = version
        self._call_id = RemoteId("", 0, 0)
        self._betweens: dict[str, bytes] = {}  # method -> what stands between number and payload of its calls

    def bind(self, deadline: float) -> None:
        """Fetch the id of the server's one method, which makes every later call a single round trip."""
        root = self._ask(consts.HANDLE_GETROOT, (), deadline)
        found = self._ask(consts.HANDLE_GETATTR, (root, call_name(self._version)), deadline)
        if type(found) is bytes and found.startswith(VERSION_REPLY):
            theirs = found[len(VERSION_REPLY) :][:16].decode("ascii", "replace")
            raise ProtocolViolation(f"it speaks version {theirs} of the wire, this program {version_text(self._version)}")
        if type(found) is not RemoteId:
            raise ProtocolViolation("a server that exposes no call")
        self._call_id = found

    @property
    def is_stale(self) -> bool:
        """Whether the idle connection has input: the end of it, or bytes that nobody asked for."""
        return self._closed or bool(self._channel.stream.has_input())

    def send_call(self, method: str, payload: bytes, deadline: float) -> int:
        """Send one call and return its number, for `take_reply`."""
        between = self._betweens.get(method)
        if between is None:
            whole = brine.dump((0, (consts.HANDLE_CALL, self._box((self._call_id, (method, b""))))))
            between = whole[len(brine.TAG_TUP2) + len(int_head(0)) : -1]
            if len(self._betweens) < METHODS_KEPT:
                self._betweens[method] = between
        seq: int = self._get_seq_id()
        self._channel.send_parts([REQUEST_HEAD, int_head(seq), between, bytes_head(len(payload)), payload], deadline)
        return seq

    def take_reply(self, seq: int, deadline: float) -> bytes:
        """Return the reply to the call that was sent as `seq`.

        Raises:
            ProtocolViolation: The server sent something else, or left in the middle.
            DeadlinePassed: No reply in time.
        """
        frame = self._take_frame(deadline)
        head = REPLY_HEAD + int_head(seq) + VALUE_HEAD
        known = last_bytes(frame, len(head)) if frame.startswith(head) else None
        reply = self._value_of(frame, seq) if known is None else known
        if type(reply) is not bytes:
            raise ProtocolViolation("a reply that is not bytes")
        return reply

    def _ask(self, handler: int, args: tuple[object, ...], deadline: float) -> Any:
        return self._take_value(self._send_request(handler, args, deadline), deadline)

    def _send_request(self, handler: int, args: tuple[object, ...], deadline: float) -> int:
        seq: int = self._get_seq_id()
        self._channel.send_value(consts.MSG_REQUEST, (seq, (handler, self._box(args))), deadline)
        return seq

    def _take_value(self, seq: int, deadline: float) -> Any:
        return self._value_of(self._take_frame(deadline), seq)

    def _take_frame(self, deadline: float) -> bytes:
        frame: bytes | None = self._channel.take_frame(deadline)
        if frame is None:
            raise ProtocolViolation("an end instead of a reply")
        return frame

    def _value_of(self, frame: bytes, seq: int) -> Any:
        if frame[0] != consts.MSG_REPLY:
            raise ProtocolViolation("a message that is not a reply")
        message = read_brine(frame, 1)
        if type(message) is not tuple or len(message) != 2 or message[0] != seq:
            raise ProtocolViolation("a reply to another call")
        try:
            return self._unbox(message[1])
        except (TypeError, ValueError, KeyError) as cause:
            raise ProtocolViolation("a reply that cannot be read") from cause

    def _box(self, obj: object) -> tuple[int, object]:
        if type(obj) is RemoteId:
            return consts.LABEL_LOCAL_REF, tuple(obj)
        boxed: tuple[int, object] = super()._box(obj)
        return boxed

    def _unbox(self, package: Any) -> Any:
        label, value = package
        if label == consts.LABEL_VALUE:
            return value
        if label == consts.LABEL_REMOTE_REF:
            return RemoteId(*value)
        raise ProtocolViolation("a reply that is neither a value nor a method")


def _reply_parts(seq: int, reply: bytes) -> list[bytes]:
    """Return the body of a reply that is bytes, as RPyC makes it."""
    return [REPLY_HEAD, int_head(seq), VALUE_HEAD, bytes_head(len(reply)), reply]
