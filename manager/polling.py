"""What every node said last: one thread a node asks for its status, so a node that hangs keeps nobody else waiting.

Cost: a connection and a thread for each node, nothing for each operator.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datastore.errors import HoldfastError
from datastore.wire import NodeStatus
from manager.nodes import NodePlanes

log = logging.getLogger(__name__)

# While some operator has no primary the nodes are asked this many times as often: what people wait for is seen at once.
HURRY_FACTOR = 5
HURRY_MIN_MS = 20


@dataclass(frozen=True)
class LastSeen:
    """A node's last answer. `status` None: it did not answer, `why` says how; also before it was asked at all."""

    status: NodeStatus | None
    why: str = ""


class Polling:
    """Asks all nodes, each on a thread of its own, until closed."""

    def __init__(self, nodes: Sequence[NodePlanes], *, heartbeat_ms: int, timeout_ms: int, on_news: Callable[[], None]) -> None:
        """Prepare; `start` begins.

        Args:
            on_news: Called after every answer while in a hurry, and whenever a node came or went.
        """
        self._nodes = list(nodes)
        self._heartbeat_s = heartbeat_ms / 1000
        self._hurry_s = max(HURRY_MIN_MS, heartbeat_ms // HURRY_FACTOR) / 1000
        self._timeout_ms = timeout_ms
        self._on_news = on_news
        self._seen = {node.name: LastSeen(None, "not asked yet") for node in nodes}
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        # One for each thread: whoever wakes clears its own, so no other thread's wake-up is lost.
        self._wake = {node.name: threading.Event() for node in nodes}
        self._in_hurry = True
        self._threads = [threading.Thread(target=self._poll, args=(node,), name=f"poll-{node.name}", daemon=True) for node in nodes]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closed.set()
        for event in self._wake.values():
            event.set()

    def seen(self) -> dict[str, LastSeen]:
        """Return every node's last answer."""
        with self._mutex:
            return dict(self._seen)

    def hurry(self, wanted: bool) -> None:
        """Ask more often from now on, or less."""
        if wanted and not self._in_hurry:
            self._in_hurry = True
            for event in self._wake.values():
                event.set()
        self._in_hurry = wanted

    def _poll(self, node: NodePlanes) -> None:
        wake = self._wake[node.name]
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                seen = LastSeen(node.status(self._timeout_ms))
            except HoldfastError as error:
                seen = LastSeen(None, error.detail)
            if seen.status is not None and seen.status.node != node.name:
                # The address is another process's: believing it would give the operators of one node to the other.
                seen = LastSeen(None, f"{node.address} answers as {seen.status.node}")
            with self._mutex:
                before, self._seen[node.name] = self._seen[node.name], seen
            turned = (before.status is None) != (seen.status is None)
            if turned:
                log.info("node %s node=%s address=%s why=%s", "answers" if seen.status else "is silent", node.name, node.address, seen.why)
            if turned or self._in_hurry:
                self._on_news()
            pause_s = self._hurry_s if self._in_hurry else self._heartbeat_s
            wake.wait(max(0.0, began + pause_s - time.monotonic()))
            wake.clear()
