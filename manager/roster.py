"""The nodes as a manager knows them: connections, what each said last, and the cluster's record, which may add and remove nodes.

Managers keep nothing: the record is on the nodes' disks, comes with every status, and is handed on to nodes that are behind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from datastore import cluster_record, wire
from datastore.cluster_record import REMOVED, ClusterRecord
from datastore.edge import Address, EdgeLimits, Tls
from datastore.errors import HoldfastError, QuorumLost
from manager.goals import Goals
from manager.nodes import NodePlanes, at_once
from manager.polling import LastSeen, Polling

log = logging.getLogger(__name__)


class Roster:
    """All nodes. What the watch's thread changes, other threads read: mappings are replaced as a whole."""

    # By threads, which the simulator does without.
    _at_once = staticmethod(at_once)

    def __init__(
        self,
        goals: Goals,
        *,
        limits: EdgeLimits,
        tls: Tls | None,
        heartbeat_ms: int,
        timeout_ms: int,
        on_news: Callable[[], None],
    ) -> None:
        self.goals = goals
        self.nodes: Mapping[str, NodePlanes] = {}
        self._limits = limits
        self._tls = tls
        self._timeout_ms = timeout_ms
        self._writing = threading.Lock()
        self._taking = threading.Lock()
        self._polling = Polling(heartbeat_ms=heartbeat_ms, timeout_ms=timeout_ms, on_news=on_news)
        self._meet()

    def start(self) -> None:
        self._polling.start()

    def stop(self) -> None:
        """Ask nobody any more."""
        self._polling.close()

    def close(self) -> None:
        self._polling.close()
        for node in self.nodes.values():
            node.close()

    def hurry(self, wanted: bool) -> None:
        self._polling.hurry(wanted)

    def seen(self) -> dict[str, LastSeen]:
        """Return the last answer of every node that is no removed one."""
        members = set(self.goals.members)
        return {name: last for name, last in self._polling.seen().items() if name in members}

    def look(self) -> dict[str, LastSeen]:
        """Take in the records that came with the last answers and hand the newest on; return `seen`."""
        answers = {name: last.status for name, last in self._polling.seen().items() if last.status is not None}
        record: ClusterRecord = self.goals.record
        for status in answers.values():
            record = cluster_record.merged(record, status.record)
        self._take(record)
        behind = [name for name, status in answers.items() if cluster_record.is_behind(status.record, record)]
        if behind:
            self._send(behind)
        return self.seen()

    def write(self, lines: Mapping[str, dict[str, Any]], by: str) -> ClusterRecord:
        """Write lines of the record; return the whole of it when a majority of the nodes has them on disk.

        Raises:
            QuorumLost: Fewer have; the lines may reach the others later, asking again is harmless.
        """
        with self._writing:
            # The wall clock is for people to read; nothing is decided by it.
            fresh = cluster_record.written(self.goals.record, lines, by, int(time.time() * 1000))
            self._take(cluster_record.merged(self.goals.record, fresh))
            members = self.goals.members
            kept = self._send(members)
        if 2 * len(kept) <= len(members):
            raise QuorumLost(f"{len(kept)} of {len(members)} nodes have the change on disk, a majority is needed", nodes=sorted(kept))
        return self.goals.record

    def _send(self, names: list[str]) -> list[str]:
        """Hand the record to nodes, all at once; return those that have all of it."""
        record = self.goals.record
        payload = wire.encode(record)

        def call(node: NodePlanes) -> Callable[[], ClusterRecord]:
            return lambda: wire.decode(ClusterRecord, node.call("record", payload, self._timeout_ms))

        kept = []
        for name, answer in self._at_once({name: call(self.nodes[name]) for name in names if name in self.nodes}).items():
            if isinstance(answer, HoldfastError):
                log.warning("record not taken node=%s why=%s", name, answer.detail)
            elif not cluster_record.is_behind(answer, record):
                kept.append(name)
        return kept

    def _take(self, record: ClusterRecord) -> None:
        with self._taking:
            merged = cluster_record.merged(self.goals.record, record)
            if merged != self.goals.record:
                self.goals = self.goals.with_record(merged)
                self._meet()

    def _meet(self) -> None:
        """Connect to nodes that are new or have moved. Removed ones are still asked: one that comes back must be told."""
        nodes = dict(self.nodes)
        for name, member in self.goals.nodes.items():
            address = Address(member.address.host, member.address.port)
            known = nodes.get(name)
            if known is None or known.address != address:
                nodes[name] = NodePlanes(name, address, limits=self._limits, tls=self._tls)
                self._polling.add(nodes[name], slow=member.state == REMOVED)
                log.info("knows node=%s address=%s state=%s", name, address, member.state)
                if known is not None:
                    known.close()
            elif member.state == REMOVED:
                self._polling.slow_down(name)
        self.nodes = nodes
