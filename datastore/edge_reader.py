"""One thread that reads the requests of many connections, where a request can be begun without waiting.

A connection has a thread of its own. While that thread waits for a reply that another one gives, or for the next request, it has to
be woken, and then it waits for Python's lock: with dozens of callers that cost a balancer as much as their requests. So a
connection whose thread has begun a request and left the reply to others is looked after here, and its thread sleeps. What has come
meanwhile on all such connections is begun together, and goes on its way together.

Whatever is not one whole request that can be begun at once is left to the connection's own thread, which sees it as if it had
read it itself: another method, half a frame, an end, bytes that are no frame. So is a caller who is alone: for one, a thread
that goes the whole way is faster than one that hands over.

Linux only (epoll), and plain connections only: elsewhere every connection is read by its thread.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from datastore.edge_channel import RECEIVE_BYTES, ProtocolViolation
from datastore.edge_connection import ServerConnection
from datastore.edge_later import Later
from datastore.edge_socket import Receiver
from datastore.edge_tls import Peer

# So many requests one after the other, each alone, are a lone caller's.
ALONE_MAX = 16

log = logging.getLogger(__name__)

Begin = Callable[[str, bytes], Later | None]


@dataclass(frozen=True)
class Quick:
    """What a server can begin without waiting.

    Attributes:
        methods: The only ones for which `begin` is asked.
        begin: As an edge's handler, with how many milliseconds the request may have lain unread, but it never waits: it returns None,
            or raises, where it would have to, or where the request is to be refused. Then nothing has been begun.
        go: Called after a round of `begin`, on the same thread, to send on what was begun. What it waits for, all callers wait for.
        is_idle: Whether nobody else's request is on its way, so that one who comes now is alone.
    """

    methods: Collection[str]
    begin: Callable[[str, bytes, Peer, int], Later | None]
    go: Callable[[], None]
    is_idle: Callable[[], bool]


class Reader:
    """Reads for the threads of connections that `look_after` keeps asleep."""

    def __init__(self, quick: Quick, name: str) -> None:
        """Prepare; `start` begins. `name` stands in the thread's name."""
        self._quick = quick
        self._thread = threading.Thread(target=self._run, name=f"{name}-reader", daemon=True)
        self._epoll = select.epoll()
        self._wake, self._waking = os.pipe()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._mutex = threading.Lock()
        self._sleepers: dict[int, tuple[ServerConnection, Begin, threading.Lock]] = {}  # descriptor -> what its thread waits for, last
        self._closing = False
        self._ended = False
        self._unread_ms = 0  # for how long, at most, what is begun now lay unread

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End when no connection is left; whoever closes ends them, so that their threads are woken."""
        with self._mutex:
            if not self._ended:
                self._closing = True
                os.write(self._waking, bytes(1))

    def takes(self, method: str) -> bool:
        """Return whether a connection may be looked after whose last request was of this method."""
        return method in self._quick.methods

    def begin(self, method: str, payload: bytes, peer: Peer) -> Later | None:
        """Begin a request that was just read; see `Quick.begin`."""
        return self._quick.begin(method, payload, peer, self._unread_ms)

    def look_after(self, connection: ServerConnection, begin: Begin) -> None:
        """Read for this connection; return, on its own thread, when it has to read again itself."""
        turn = threading.Lock()
        turn.acquire()
        descriptor = connection.fileno()
        with self._mutex:
            if self._ended:
                return
            self._sleepers[descriptor] = (connection, begin, turn)
            try:
                self._epoll.register(descriptor, select.EPOLLIN)
            except (OSError, ValueError):  # Its thread will find out what is wrong with it.
                del self._sleepers[descriptor]
                return
        turn.acquire()

    def _run(self) -> None:
        try:
            self._read_all()
        except Exception:
            log.critical("a fault while reading for others; their threads read for themselves from now on", exc_info=True)
            self._end_all()

    def _read_all(self) -> None:
        receiver = Receiver(RECEIVE_BYTES)
        alone = 0
        looked = time.monotonic()
        while not self._may_end():
            away_s = time.monotonic() - looked
            ready = [descriptor for descriptor, _ in self._epoll.poll()]
            looked = time.monotonic()
            self._unread_ms = int(away_s * 1000)
            if self._wake in ready:
                os.read(self._wake, 1)
                ready.remove(self._wake)
            alone = alone + 1 if len(ready) == 1 and self._quick.is_idle() else 0
            for descriptor in ready:
                if alone >= ALONE_MAX or not self._begin(descriptor, receiver):
                    self._give_back(descriptor)
                    alone = 0
            self._quick.go()

    def _begin(self, descriptor: int, receiver: Receiver) -> bool:
        connection, begin, _ = self._sleepers[descriptor]
        try:
            return connection.begin_next(receiver, begin)
        except ProtocolViolation:
            return False  # Its thread reads the same.
        except Exception:
            log.exception("a fault while beginning a request; its connection's thread goes on")
            return False

    def _give_back(self, descriptor: int) -> None:
        with self._mutex:
            _, _, turn = self._sleepers.pop(descriptor)
            self._epoll.unregister(descriptor)  # Its thread, which alone closes it, still sleeps.
        turn.release()

    def _may_end(self) -> bool:
        with self._mutex:
            if self._closing and not self._sleepers:
                self._end()
            return self._ended

    def _end_all(self) -> None:
        with self._mutex:
            self._end()
            sleepers, self._sleepers = self._sleepers, {}
        for _, _, turn in sleepers.values():
            turn.release()

    def _end(self) -> None:
        self._ended = True
        self._epoll.close()
        os.close(self._wake)
        os.close(self._waking)


def reader_of(quick: Quick | None, name: str) -> Reader | None:
    """Return a reader at work, where something can be begun quickly and the system has what it takes."""
    if quick is None or not hasattr(select, "epoll"):
        return None
    reader = Reader(quick, name)
    reader.start()
    return reader
