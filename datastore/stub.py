"""What the tiers above, and other nodes, call of a data node: one method a call, errors raised anew.

Every plane has connections of its own, so that a slow command never delays a promise or a heartbeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datastore import administration, wire, wire_ledger
from datastore.cluster_record import ClusterRecord
from datastore.edge import Address, EdgeClient, EdgeLimits, Tls
from datastore.errors import OutcomeUnknown
from datastore.ledger import SealedEntry, unseal
from datastore.wire_recovery import HashesAsk, RecoverAsk, RecoverReport, SnapshotAsk, SnapshotOffer, SnapshotPart, SnapshotRead

# An entry that carries a whole timetable is the largest thing that travels; all nodes and their callers agree on it.
NODE_LIMITS = EdgeLimits(frame_bytes_max=16 * 1024 * 1024)

# method -> plane. A node serves these and nothing else.
METHODS = {
    "status": "control",
    "promise": "control",
    "become": "control",
    "bootstrap": "control",
    "check": "control",
    "configure": "control",
    "hand_over": "control",
    "renew": "control",
    "record": "control",
    "history": "feed",
    "append": "replication",
    "segment": "replication",
    "submit": "client",
    "read": "client",
    "feed": "feed",
    "snapshot": "feed",
    "entries": "feed",
    "recover": "control",
    "snapshot_ask": "recovery",
    "snapshot_read": "recovery",
    "snapshot_done": "recovery",
    "hashes": "recovery",
}

# What the roles of a certificate may call: only managers promote, only nodes replicate and take snapshots.
ROLES: dict[str, tuple[str, ...]] = {
    method: ("node",) if plane in ("replication", "recovery") else ("manager", "admin") for method, plane in METHODS.items()
}
# A node that has lost a copy looks among its peers for who has it.
ROLES["status"] = ("manager", "admin", "node")

# The operator that brings the answer to a feed over this is its last: whoever is left out then may have news all the same.
FEED_BYTES = NODE_LIMITS.frame_bytes_max // 4
# A feed is asked to wait; its answer needs time of its own after that.
FEED_ANSWER_MS = 2000


def feed_bytes(part: wire.FeedPart) -> int:
    """Return how much of `FEED_BYTES` a part takes."""
    return sum(len(key) + len(value) for _, key, value in part.events)


class NodeStub:
    """Calls one data node from any number of threads."""

    def __init__(
        self, address: Address, *, name: str = "", tls: Tls | None = None, limits: EdgeLimits = NODE_LIMITS, connect_ms: int = 500
    ) -> None:
        self.address = address
        self.name = name or str(address)
        self._clients = {
            plane: EdgeClient(address, plane=plane, tls=tls, role="node", limits=limits, connect_ms=connect_ms)
            for plane in set(METHODS.values())
        }

    def close(self) -> None:
        """Close the idle connections of every plane."""
        for client in self._clients.values():
            client.close()

    # Each of these raises NodeUnreachable (nothing was sent), OutcomeUnknown (it may have happened) or the node's refusal
    # of the whole message; what concerns one item stands in that item's result.

    def submit(self, items: Sequence[wire.SubmitItem], timeout_ms: int) -> list[wire.SubmitResult]:
        """Let the primaries of the items' operators decide; results beside the items."""
        return self._list("submit", items, wire.SubmitResult, timeout_ms)

    def read(self, items: Sequence[wire.ReadItem], timeout_ms: int) -> list[wire.ReadResult]:
        """Ask linearizable questions of the primaries of the items' operators; results beside the items."""
        return self._list("read", items, wire.ReadResult, timeout_ms)

    def feed(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        """Return what is committed after the positions given; waits up to `request.wait_ms` for the first news."""
        found: list[wire.FeedPart] = wire.decode(
            list[wire.FeedPart], self._call("feed", wire.encode(request), request.wait_ms + FEED_ANSWER_MS)
        )
        return found

    def snapshot(self, request: wire.SnapshotRequest, timeout_ms: int) -> wire.SnapshotPage:
        page: wire.SnapshotPage = wire.decode(wire.SnapshotPage, self._call("snapshot", wire.encode(request), timeout_ms))
        return page

    def entries(self, request: wire_ledger.EntriesRequest, timeout_ms: int) -> list[bytes]:
        """Return sealed entries for an audit (`datastore.ledger` of the node's package opens them)."""
        found: list[bytes] = wire.decode(list[bytes], self._call("entries", wire.encode(request), timeout_ms))
        return found

    def log(self, request: wire_ledger.EntriesRequest, timeout_ms: int) -> list[SealedEntry]:
        """Return committed entries, opened and their hashes checked, for people to look at.

        Raises:
            LedgerDamaged: Bytes that are no entry.
        """
        return [unseal(data) for data in self.entries(request, timeout_ms)]

    def status(self, timeout_ms: int) -> wire.NodeStatus:
        status: wire.NodeStatus = wire.decode(wire.NodeStatus, self._call("status", b"", timeout_ms))
        return status

    def promise(self, items: Sequence[wire.PromiseItem], timeout_ms: int) -> list[wire.PromiseReply]:
        """R1; an operator without a store at the node has no reply."""
        return self._list("promise", items, wire.PromiseReply, timeout_ms, beside=False)

    def become(self, items: Sequence[wire.BecomeItem], timeout_ms: int) -> list[wire.BecomeReply]:
        """R4. After OutcomeUnknown start over with a higher epoch (R3)."""
        return self._list("become", items, wire.BecomeReply, timeout_ms)

    def bootstrap(self, items: Sequence[wire.BootstrapItem], timeout_ms: int) -> list[wire.BootstrapReply]:
        return self._list("bootstrap", items, wire.BootstrapReply, timeout_ms)

    def check(self, items: Sequence[wire_ledger.CheckItem], timeout_ms: int) -> list[wire_ledger.CheckReply]:
        """Return digests and what is known of the ledgers; replies beside the items."""
        return self._list("check", items, wire_ledger.CheckReply, timeout_ms)

    def segment(self, request: wire_ledger.SegmentRequest, timeout_ms: int) -> bytes:
        """Return a part of a sealed segment file, b"" at its end."""
        part: bytes = wire.decode(bytes, self._call("segment", wire.encode(request), timeout_ms))
        return part

    def configure(self, items: Sequence[administration.ConfigureItem], timeout_ms: int) -> list[administration.ConfigureReply]:
        """R15; accepted is appended and in force, not yet committed."""
        return self._list("configure", items, administration.ConfigureReply, timeout_ms)

    def hand_over(self, items: Sequence[administration.HandOverItem], timeout_ms: int) -> list[administration.HandOverReply]:
        """Prepare planned changes of primaries; asked again until each is ready."""
        return self._list("hand_over", items, administration.HandOverReply, timeout_ms)

    def renew(self, items: Sequence[administration.RenewItem], timeout_ms: int) -> list[wire.BootstrapReply]:
        """Have retired stores put aside and empty ones made; the replies name the new identities."""
        return self._list("renew", items, wire.BootstrapReply, timeout_ms)

    def record(self, record: ClusterRecord, timeout_ms: int) -> ClusterRecord:
        """Have the node take in the newer lines of the cluster's record; return all that it has then, on disk."""
        found: ClusterRecord = wire.decode(ClusterRecord, self._call("record", wire.encode(record), timeout_ms))
        return found

    def history(self, request: administration.HistoryRequest, timeout_ms: int) -> administration.History:
        """Return the promotions of each operator that the node has applied, oldest first."""
        found: administration.History = wire.decode(administration.History, self._call("history", wire.encode(request), timeout_ms))
        return found

    def append(self, items: Sequence[wire.AppendItem], timeout_ms: int) -> list[wire.AppendReply]:
        """R5; replies beside the items. An item that the node could not take has the status "refused"."""
        return self._list("append", items, wire.AppendReply, timeout_ms)

    def recover(self, ask: RecoverAsk, timeout_ms: int) -> list[RecoverReport]:
        """Plan, start or watch the recovery of copies at this node."""
        found: list[RecoverReport] = wire.decode(list[RecoverReport], self._call("recover", wire.encode(ask), timeout_ms))
        return found

    def snapshot_ask(self, ask: SnapshotAsk, timeout_ms: int) -> SnapshotOffer:
        """Return what the node offers; ask again with its id while it is being prepared."""
        offer: SnapshotOffer = wire.decode(SnapshotOffer, self._call("snapshot_ask", wire.encode(ask), timeout_ms))
        return offer

    def snapshot_read(self, read: SnapshotRead, timeout_ms: int) -> SnapshotPart:
        part: SnapshotPart = wire.decode(SnapshotPart, self._call("snapshot_read", wire.encode(read), timeout_ms))
        return part

    def snapshot_done(self, snapshot_id: str, timeout_ms: int) -> None:
        """Say that all of it came, so that it need not be kept."""
        self._call("snapshot_done", wire.encode(snapshot_id), timeout_ms)

    def hashes(self, ask: HashesAsk, timeout_ms: int) -> list[bytes]:
        """Return the chain's hashes at some entries, b"" where one is not committed there."""
        found: list[bytes] = wire.decode(list[bytes], self._call("hashes", wire.encode(ask), timeout_ms))
        if len(found) != len(ask.lsns):
            raise OutcomeUnknown(f"{self.name} answered {len(found)} of {len(ask.lsns)} hashes", node=self.name)
        return found

    def _list(self, method: str, items: Sequence[Any], kind: Any, timeout_ms: int, beside: bool = True) -> list[Any]:
        found: list[Any] = wire.decode(list[kind], self._call(method, wire.encode(list(items)), timeout_ms))
        if beside and len(found) != len(items):
            raise OutcomeUnknown(f"{self.name} answered {len(found)} of {len(items)} items of {method}", node=self.name)
        return found

    def _call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        return self._clients[METHODS[method]].call(method, payload, timeout_ms)
