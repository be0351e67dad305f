"""The links from this node to the others: what all partitions have to say to one node travels in one message.

A link has two sender threads on one queue. Each takes everything that waits as one `append` call, so a batch is what
arrived while the last call was under way. The second thread ships while the first waits for an answer, or commits what an
answer brought. A node that cannot be reached is left alone for a moment and then tried again with whatever waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from datastore import wire
from datastore.edge import Address
from datastore.errors import HoldfastError, NodeUnreachable
from datastore.stub import NodeStub

SENDERS = 2
MESSAGE_BYTES_MAX = 2 * 1024 * 1024

log = logging.getLogger(__name__)

Done = Callable[[wire.AppendReply | None], None]


class Outgoing(NamedTuple):
    """`done` gets the reply, or None when none will come; it is called on a sender's thread."""

    item: wire.AppendItem
    size_bytes: int
    done: Done


class Link:
    """The way to one node."""

    def __init__(self, stub: NodeStub, timeout_ms: int, retry_ms: int) -> None:
        self._stub = stub
        self._timeout_ms = timeout_ms
        self._retry_s = retry_ms / 1000
        self._waiting: deque[Outgoing] = deque()
        self._ready = threading.Condition()
        self._down_until = 0.0
        self._is_down = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._send_all, name=f"link-{stub.name}-{number}", daemon=True) for number in range(SENDERS)
        ]

    @property
    def address(self) -> Address:
        return self._stub.address

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def post(self, outgoing: Outgoing, urgent: bool) -> None:
        """Queue a message; one that is not urgent waits for `wake` or the next urgent one."""
        with self._ready:
            self._waiting.append(outgoing)
            if urgent:
                self._ready.notify()

    def wake(self) -> None:
        with self._ready:
            if self._waiting:
                self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._ready.notify_all()
        self._stub.close()
        for outgoing in left:
            outgoing.done(None)

    def _take(self) -> list[Outgoing]:
        """Return what waits, up to a message's size; [] when the link is closed."""
        with self._ready:
            while not self._waiting and not self._closed:
                self._ready.wait()
            if self._closed:
                return []
            taken = [self._waiting.popleft()]
            size_bytes = taken[0].size_bytes
            while self._waiting and size_bytes + self._waiting[0].size_bytes <= MESSAGE_BYTES_MAX:
                taken.append(self._waiting.popleft())
                size_bytes += taken[-1].size_bytes
            if self._waiting:
                self._ready.notify()
            return taken

    def _send_all(self) -> None:
        while taken := self._take():
            replies: list[wire.AppendReply] | None = None
            if time.monotonic() >= self._down_until:
                replies = self._exchange([outgoing.item for outgoing in taken])
            for index, outgoing in enumerate(taken):
                outgoing.done(replies[index] if replies is not None else None)

    def _exchange(self, items: list[wire.AppendItem]) -> list[wire.AppendReply] | None:
        try:
            replies = self._stub.append(items, self._timeout_ms)
        except HoldfastError as error:
            if self._closed:
                return None
            # A call that got no answer may have stopped a sender for its whole time; both would be lost to a frozen node.
            self._down_until = time.monotonic() + self._retry_s
            if not self._is_down:
                self._is_down = True
                level = logging.INFO if isinstance(error, NodeUnreachable) else logging.WARNING
                log.log(level, "link down node=%s reason=%s", self._stub.name, error.detail)
            return None
        if self._is_down:
            self._is_down = False
            log.info("link up node=%s", self._stub.name)
        return replies


class Links:
    """All links of one node, by the name of the other."""

    def __init__(self, stubs: Mapping[str, NodeStub], timeout_ms: int, retry_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._retry_ms = retry_ms
        # Replaced as a whole, never changed: senders on other threads take no lock.
        self._links = {name: Link(stub, timeout_ms, retry_ms) for name, stub in stubs.items()}
        self._started = False

    def start(self) -> None:
        self._started = True
        for link in self._links.values():
            link.start()

    def put(self, stub: NodeStub) -> None:
        """Send to the node of that stub from now on, where it was not known or was elsewhere. Called by one thread at a time."""
        before = self._links.get(stub.name)
        link = Link(stub, self._timeout_ms, self._retry_ms)
        self._links = {**self._links, stub.name: link}
        if self._started:
            link.start()
        if before is not None:
            before.close()

    def drop(self, name: str) -> None:
        """Send nothing more to that node."""
        before = self._links.get(name)
        self._links = {known: link for known, link in self._links.items() if known != name}
        if before is not None:
            before.close()

    def address(self, name: str) -> Address | None:
        """Return where the node of that name is sent to, None where it is not known."""
        link = self._links.get(name)
        return link.address if link is not None else None

    def send(self, node: str, outgoing: Outgoing, urgent: bool) -> None:
        """Send to a node; to one that the configuration does not name, nothing goes and `done` gets None."""
        link = self._links.get(node)
        if link is None:
            outgoing.done(None)
            return
        link.post(outgoing, urgent)

    def wake(self) -> None:
        """Send what waits: the end of a round of heartbeats."""
        for link in self._links.values():
            link.wake()

    def close(self) -> None:
        for link in self._links.values():
            link.close()
