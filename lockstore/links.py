"""Connections to all lock servers, and one round: send to all at once, read until the deadline.

Theory of operation. A round belongs to one `LinkSet`: one connection to each server, used by one caller at a time.
Requests are written to every usable server before the first reply is read, then all are awaited together; a thread for
each server would cost more than the whole round. A connection that missed the deadline is closed at once and never
used again: its reply may still arrive, and must not be read as the answer to a later question.

A server that failed is *suspect*. It is not asked again by callers, so that it costs its time-out once; the `Reviver`
keeps trying it in the background, and when it answers, callers use it again. That is also the moment to hand in the
releases that could not be delivered meanwhile: a server that was merely paused still carries out what lay in its
sockets.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from lockstore import scripts
from lockstore.preparing import LinkTls
from lockstore.redlock import Missing

OWED_RELEASES_MAX: Final = 4_096
OWED_BATCH: Final = 64
# Connecting may use this many time-outs for the whole set; then the Reviver goes on with what is left.
CONNECT_ROUNDS: Final = 2


@dataclass(frozen=True)
class ServerAddress:
    """Where one lock server listens, and the name it has in the configuration."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What all connections have in common. `tls` is None where lock servers speak plain text."""

    timeout_ms: int
    suspect_ms: int
    username: str
    password: str
    tls: LinkTls | None = None


Answer = bytes | int | Missing


class Command:
    """One script call, packed once for all servers."""

    __slots__ = ("_body", "_parts", "_script", "packed")

    def __init__(self, script: ScriptText, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> None:
        self._script = script
        self._parts = 3 + len(keys) + len(arguments)
        self._body = b"".join((_pack_one(len(keys)), _pack_texts(keys), *map(_pack_one, arguments)))
        self.packed = b"*%d\r\n%s%s" % (self._parts, script.by_digest, self._body)

    def packed_whole(self) -> bytes:
        """Return the call with the script's full text, for a server that does not know its digest."""
        return b"*%d\r\n%s%s" % (self._parts, self._script.by_text, self._body)


class ScriptText:
    """A script with the two ways to call it, already packed."""

    def __init__(self, text: str) -> None:
        self.by_digest = _pack_one("EVALSHA") + _pack_one(scripts.digest(text))
        self.by_text = _pack_one("EVAL") + _pack_one(text)


def _pack_one(value: str | bytes | int) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _pack_texts(texts: Sequence[str]) -> bytes:
    joined = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    if joined.isascii():
        return joined.encode()
    # Lengths on the wire count bytes, not characters.
    return b"".join([_pack_one(text) for text in texts])


def open_connection(address: ServerAddress, settings: LinkSettings, timeout_ms: float) -> Connection:
    """Return a connected and authenticated connection.

    Every library option that matters is given: redis-py's own defaults are 5 s time-outs and ten retries, which would
    turn one dead server into seconds for every caller.

    Raises:
        RedisError: It could not be reached in time or refused us.
    """
    kind, options = (Connection, {}) if settings.tls is None else (SSLConnection, settings.tls.options())
    connection: Connection = kind(
        host=address.host,
        port=address.port,
        username=settings.username or None,
        password=settings.password or None,
        socket_timeout=timeout_ms / 1000,
        socket_connect_timeout=timeout_ms / 1000,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
        driver_info=None,
        **options,
    )
    connection.connect()  # type: ignore[no-untyped-call]
    return connection


def call(connection: Connection, *command: str | bytes | int) -> Any:
    """Send one command and return its reply.

    Raises:
        RedisError: No reply in time, or the server's refusal.
    """
    connection.send_command(*command)  # type: ignore[no-untyped-call]
    return connection.read_response(disable_decoding=True)


class ServerHealth:
    """What is known of one server, shared by all link sets: whether to ask it, and what it is owed."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        # The reason while the server is suspect, else None. Assignment is atomic; the newest reason wins.
        self.suspect: str | None = None
        self.asked = 0
        self._owed: deque[tuple[int, tuple[str, ...], str]] = deque(maxlen=OWED_RELEASES_MAX)

    def owe(self, keys: tuple[str, ...], nonce: str, until_ms: int) -> None:
        """Remember a release for later; past `until_ms` the lock has expired by itself."""
        self._owed.append((until_ms, keys, nonce))

    def settle(self, connection: Connection, now_ms: int) -> None:
        """Deliver the releases owed.

        Raises:
            RedisError: The server failed again; the batch under way is left to its ttl.
        """
        while self._owed:
            batch = [self._owed.popleft() for _ in range(min(len(self._owed), OWED_BATCH))]
            keys = [key for until_ms, names, _ in batch for key in names if now_ms < until_ms]
            nonces = [nonce for until_ms, names, nonce in batch for _ in names if now_ms < until_ms]
            if keys:
                call(connection, "EVAL", scripts.RELEASE, len(keys), *keys, *nonces)


class LinkSet:
    """One connection to each server, for one caller at a time."""

    def __init__(self, healths: Sequence[ServerHealth], settings: LinkSettings) -> None:
        self._healths = healths
        self._settings = settings
        self._connections: list[Connection | None] = [None] * len(healths)
        self._numbers: dict[int, int] = {}  # file descriptor -> server number
        self._poller = select.poll()

    def prepare(self) -> None:
        """Bring every connection to a usable state, or mark its server suspect.

        Done before a caller starts its clock, so that connecting does not eat the validity of a lock.
        """
        for descriptor, _ in self._poller.poll(0):
            # Nothing was asked, so this is the end of the stream or a stray reply: either way unusable.
            self._drop(self._numbers[descriptor])
        budget_end = 0.0
        for number, health in enumerate(self._healths):
            if self._connections[number] is not None or health.suspect is not None:
                continue
            now = time.monotonic()
            budget_end = budget_end or now + CONNECT_ROUNDS * self._settings.timeout_ms / 1000
            if now >= budget_end:
                health.suspect = "not connected yet"
                continue
            self._connect(number, health)

    def ask_all(self, command: Command) -> list[Answer]:
        """Carry one command to every usable server and return their answers, in the order of the servers."""
        answers: list[Answer] = []
        waiting: set[int] = set()
        for number, health in enumerate(self._healths):
            connection = self._connections[number]
            if connection is None or health.suspect is not None:
                answers.append(Missing(health.suspect or "not connected", sent=False))
                continue
            health.asked += 1
            try:
                connection.send_packed_command([command.packed], check_health=False)  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as error:
                answers.append(self._fail(number, str(error)))
                continue
            answers.append(Missing("no answer in time", sent=True))
            waiting.add(number)
        self._gather(command, answers, waiting)
        for number in waiting:
            self._fail(number, f"no answer within {self._settings.timeout_ms} ms")
        return answers

    def close(self) -> None:
        """Close every connection."""
        for number in range(len(self._connections)):
            self._drop(number)

    def _gather(self, command: Command, answers: list[Answer], waiting: set[int]) -> None:
        """Read replies until all are there or the deadline has passed; those left in `waiting` never came."""
        deadline = time.monotonic() + self._settings.timeout_ms / 1000
        while waiting:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            for descriptor, _ in self._poller.poll(remaining * 1000):
                number = self._numbers[descriptor]
                if number not in waiting:
                    self._drop(number)
                    continue
                answer = self._read(number, command)
                if answer is not None:
                    answers[number] = answer
                    waiting.discard(number)

    def _read(self, number: int, command: Command) -> Answer | None:
        """Read one reply; None if the script had to be sent again in full."""
        connection = cast(Connection, self._connections[number])
        try:
            return cast("bytes | int", connection.read_response(disable_decoding=True))
        except NoScriptError:
            # The server restarted or its cache was flushed. Nothing ran, so the same nonce may be sent again.
            try:
                connection.send_packed_command([command.packed_whole()], check_health=False)  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as error:
                return self._fail(number, str(error))
            return None
        except ResponseError as error:
            # The server is well and says no. A script that failed half-way may have left keys: hence `sent`.
            return Missing(str(error), sent=True)
        except (RedisError, OSError) as error:
            return self._fail(number, str(error))

    def _connect(self, number: int, health: ServerHealth) -> None:
        try:
            connection = open_connection(health.address, self._settings, self._settings.timeout_ms)
        except (RedisError, OSError) as error:
            health.suspect = str(error)
            return
        self._connections[number] = connection
        descriptor = cast(socket.socket, connection._get_socket()).fileno()
        self._numbers[descriptor] = number
        self._poller.register(descriptor, select.POLLIN)

    def _fail(self, number: int, reason: str) -> Missing:
        self._drop(number)
        self._healths[number].suspect = reason
        return Missing(reason, sent=True)

    def _drop(self, number: int) -> None:
        connection = self._connections[number]
        if connection is None:
            return
        self._connections[number] = None
        for descriptor in [key for key, value in self._numbers.items() if value == number]:
            del self._numbers[descriptor]
            self._poller.unregister(descriptor)
        connection.disconnect()  # type: ignore[no-untyped-call]


class Reviver:
    """Tries suspect servers in the background, so that callers never wait for a dead or frozen one."""

    def __init__(self, healths: Sequence[ServerHealth], settings: LinkSettings, now_ms: Callable[[], int]) -> None:
        self._healths = healths
        self._settings = settings
        self._now_ms = now_ms
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Start trying, if a server is suspect and nobody tries yet."""
        if self._thread is not None or self._closed.is_set():
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lockstore-reviver", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop trying and wait for the thread to end."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2 + CONNECT_ROUNDS * self._settings.timeout_ms / 1000)

    def _run(self) -> None:
        while not self._closed.wait(self._settings.suspect_ms / 1000):
            for health in self._healths:
                if health.suspect is not None and not self._closed.is_set():
                    self._try(health)

    def _try(self, health: ServerHealth) -> None:
        try:
            connection = open_connection(health.address, self._settings, self._settings.timeout_ms)
            try:
                call(connection, "PING")
                health.settle(connection, self._now_ms())
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            health.suspect = str(error)
            return
        health.suspect = None
