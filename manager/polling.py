"""What every node said last: one thread a node asks for its status, so a node that hangs keeps nobody else waiting.

Cost: a connection and a thread for each node, nothing for each operator.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from datastore.errors import HoldfastError
from datastore.wire import NodeStatus
from manager.nodes import NodePlanes

log = logging.getLogger(__name__)

# While some operator has no primary the nodes are asked this many times as often: what people wait for is seen at once.
HURRY_FACTOR = 5
HURRY_MIN_MS = 20
SLOW_S = 2.0  # A node that was removed.


@dataclass(frozen=True)
class LastSeen:
    """A node's last answer. `status` None: it did not answer, `why` says how; also before it was asked at all."""

    status: NodeStatus | None
    why: str = ""


class _Asked:
    """One node, its thread, and how often it is asked."""

    def __init__(self, node: NodePlanes, slow: bool) -> None:
        self.node = node
        self.slow = slow
        self.ended = threading.Event()
        # One for each thread: whoever wakes clears its own, so no other thread's wake-up is lost.
        self.wake = threading.Event()


class Polling:
    """Asks all nodes, each on a thread of its own, until closed."""

    def __init__(self, *, heartbeat_ms: int, timeout_ms: int, on_news: Callable[[], None]) -> None:
        """Prepare; `start` begins.

        Args:
            on_news: Called after every answer while in a hurry, and whenever a node came or went.
        """
        self._heartbeat_s = heartbeat_ms / 1000
        self._hurry_s = max(HURRY_MIN_MS, heartbeat_ms // HURRY_FACTOR) / 1000
        self._timeout_ms = timeout_ms
        self._on_news = on_news
        self._mutex = threading.Lock()
        self._seen: dict[str, LastSeen] = {}
        self._asked: dict[str, _Asked] = {}
        self._started = False
        self._in_hurry = True

    def add(self, node: NodePlanes, *, slow: bool) -> None:
        """Ask this node from now on, in place of another of its name.

        Args:
            slow: It was removed: it is asked now and then whether it has come back.
        """
        asked = _Asked(node, slow)
        with self._mutex:
            before = self._asked.get(node.name)
            self._asked[node.name] = asked
            self._seen[node.name] = LastSeen(None, "not asked yet")
            started = self._started
        if before is not None:
            before.ended.set()
            before.wake.set()
        if started:
            self._begin(asked)

    def slow_down(self, name: str) -> None:
        with self._mutex:
            self._asked[name].slow = True

    def start(self) -> None:
        with self._mutex:
            self._started = True
            asked = list(self._asked.values())
        for one in asked:
            self._begin(one)

    def close(self) -> None:
        with self._mutex:
            asked = list(self._asked.values())
        for one in asked:
            one.ended.set()
            one.wake.set()

    def seen(self) -> dict[str, LastSeen]:
        """Return every node's last answer."""
        with self._mutex:
            return dict(self._seen)

    def hurry(self, wanted: bool) -> None:
        """Ask more often from now on, or less."""
        if wanted and not self._in_hurry:
            self._in_hurry = True
            with self._mutex:
                asked = list(self._asked.values())
            for one in asked:
                one.wake.set()
        self._in_hurry = wanted

    def _begin(self, asked: _Asked) -> None:
        threading.Thread(target=self._poll, args=(asked,), name=f"poll-{asked.node.name}", daemon=True).start()

    def _poll(self, asked: _Asked) -> None:
        node = asked.node
        while not asked.ended.is_set():
            began = time.monotonic()
            try:
                seen = LastSeen(node.status(self._timeout_ms))
            except HoldfastError as error:
                seen = LastSeen(None, error.detail)
            if seen.status is not None and seen.status.node != node.name:
                # The address is another process's: believing it would give the operators of one node to the other.
                seen = LastSeen(None, f"{node.address} answers as {seen.status.node}")
            with self._mutex:
                if asked.ended.is_set():
                    return
                before, self._seen[node.name] = self._seen[node.name], seen
            turned = (before.status is None) != (seen.status is None)
            if turned:
                log.info("node %s node=%s address=%s why=%s", "answers" if seen.status else "is silent", node.name, node.address, seen.why)
            if turned or self._in_hurry:
                self._on_news()
            pause_s = SLOW_S if asked.slow else self._hurry_s if self._in_hurry else self._heartbeat_s
            if asked.slow:
                asked.ended.wait(pause_s)
            else:
                asked.wake.wait(max(0.0, began + pause_s - time.monotonic()))
                asked.wake.clear()
