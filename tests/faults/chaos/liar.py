"""A lock server that grants everything to everybody: what is promised must hold without any lock.

It speaks as much of the Redis protocol as our callers do, and answers every script with what it would say if nobody held anything.
Its counter rises and follows hints, as a server's that lost its keys and kept its disk.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Sequence
from typing import Any

from lockstore import scripts

_NAMES = {"acquire": scripts.ACQUIRE, "write back": scripts.WRITE_BACK, "extend": scripts.EXTEND, "release": scripts.RELEASE}
KNOWN = {scripts.digest(text).encode(): name for name, text in _NAMES.items()}
BY_TEXT = {text.encode(): name for name, text in _NAMES.items()}
COMMAND_PARTS_MAX = 100_000


class Liar(socketserver.ThreadingTCPServer):
    """Listens where a lock server did, until closed. `granted` counts the requests that it granted."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, generation: int = 1) -> None:
        self.granted = 0
        self._counter = 0
        self._generation = generation
        self._mutex = threading.Lock()
        self._callers: set[socket.socket] = set()
        super().__init__((host, port), _Conversation)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name=f"liar-{port}", daemon=True).start()

    def end(self) -> None:
        """Stop, also to those who are connected: who takes its place is honest."""
        self.shutdown()
        self.server_close()
        with self._mutex:
            callers = list(self._callers)
        for caller in callers:
            with contextlib.suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._mutex:
            self._callers.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._mutex:
            self._callers.discard(request)
        super().shutdown_request(request)

    def answer(self, parts: Sequence[bytes]) -> bytes:
        """Return the reply to one command, as bytes of the protocol."""
        name = parts[0].upper()
        if name in (b"EVALSHA", b"EVAL"):
            script = KNOWN.get(parts[1]) if name == b"EVALSHA" else BY_TEXT.get(parts[1])
            count = int(parts[2])
            return self._script(script, parts[3 : 3 + count], parts[3 + count :])
        if name == b"PING":
            return b"+PONG\r\n"
        if name == b"HELLO":
            return _array([b"server", b"valkey", b"version", b"9.1.2"])
        if name == b"TIME":
            seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
            return _array([b"%d" % seconds, b"%d" % (nanoseconds // 1000)])
        if name == b"GET":
            return _bulk(str(self._counter).encode() if parts[1] == scripts.FENCE_KEY.encode() else str(self._generation).encode())
        return b"+OK\r\n"

    def _script(self, name: str | None, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        if name == "acquire":
            requests = len(arguments[3]) // 2
            hints = [int(hint) for hint in arguments[7::2]]
            with self._mutex:
                self._counter = max(self._counter, *hints, 0) + 1
                self.granted += requests
                return _bulk(str(self._counter).encode())
        if name == "write back":
            return _bulk(b"1" * (len(arguments[2]) // 2))
        if name == "extend":
            return _bulk(b"1" * (len(arguments[2]) // 2))
        if name == "release":
            return b":%d\r\n" % len(keys)
        return b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


class _Conversation(socketserver.StreamRequestHandler):
    """One caller's connection."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Liar)
        with contextlib.suppress(OSError, ValueError):
            while (parts := self._command()) is not None:
                self.wfile.write(server.answer(parts))

    def _command(self) -> list[bytes] | None:
        head = self.rfile.readline()
        if not head.startswith(b"*"):
            return None
        parts = []
        for _ in range(min(int(head[1:]), COMMAND_PARTS_MAX)):
            size = int(self.rfile.readline()[1:])
            parts.append(self.rfile.read(size))
            self.rfile.read(2)
        return parts


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _array(parts: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(parts), b"".join(map(_bulk, parts)))
