"""A node as a manager calls it: one pool of connections for each plane, and calls to many nodes at once.

Planes are apart so that a batch that waits for a disk never delays a heartbeat or a promise, and a question for news
that waits a second (the feed) takes no connection from either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from datastore import wire
from datastore.edge import Address, EdgeClient, EdgeLimits, Tls
from datastore.errors import HoldfastError
from datastore.stub import METHODS, NODE_LIMITS

Answer = TypeVar("Answer")

CONNECT_MS = 300


class NodePlanes:
    """One node's connections. Any number of threads may share it."""

    def __init__(self, name: str, address: Address, *, limits: EdgeLimits = NODE_LIMITS, tls: Tls | None = None) -> None:
        self.name = name
        self.address = address
        self._planes = {
            plane: EdgeClient(address, plane=plane, tls=tls, role="node", limits=limits, connect_ms=CONNECT_MS)
            for plane in ("control", "client", "feed")  # "replication" is the nodes' own
        }

    def call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        """Return the node's reply, unopened: unlike `NodeStub` this passes on what is for others to read.

        Raises:
            NodeUnreachable: Nothing was sent.
            OutcomeUnknown: It may have been carried out.
            HoldfastError: The node's own answer.
        """
        return self._planes[METHODS[method]].call(method, payload, timeout_ms)

    def control(self, method: str, items: list[Any], kind: Any, timeout_ms: int) -> list[Any]:
        """Send a list of control items; return the list of `kind` that answers it. Raises as `call` does."""
        answers: list[Any] = wire.decode(list[kind], self.call(method, wire.encode(items), timeout_ms))
        return answers

    def status(self, timeout_ms: int) -> wire.NodeStatus:
        """Return what the node says of itself. Raises as `call` does."""
        status: wire.NodeStatus = wire.decode(wire.NodeStatus, self.call("status", b"", timeout_ms))
        return status

    def close(self) -> None:
        for client in self._planes.values():
            client.close()


def at_once(calls: Mapping[str, Callable[[], Answer]]) -> dict[str, Answer | HoldfastError]:
    """Make all calls at the same time; return each one's answer, or the error that it raised, by name.

    It takes as long as the slowest, so each call needs its own time-out. One call is made without another thread.
    """
    results: dict[str, Answer | HoldfastError] = {}

    def make(name: str, call: Callable[[], Answer]) -> None:
        try:
            results[name] = call()
        except HoldfastError as error:
            results[name] = error

    names = list(calls)
    threads = [threading.Thread(target=make, args=(name, calls[name]), name=f"call-{name}", daemon=True) for name in names[1:]]
    for thread in threads:
        thread.start()
    for name in names[:1]:
        make(name, calls[name])
    for thread in threads:
        thread.join()
    missing = [name for name in names if name not in results]
    if missing:
        # A thread ended by what is no error of ours: a fault in this program, and its traceback is in the log.
        raise RuntimeError(f"calls to {', '.join(missing)} ended without an answer")
    return results
