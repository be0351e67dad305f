"""A node that speaks the wire over the real edge and keeps the rules that a manager relies on (R1, R4), without a disk.

For tests of the manager alone: how it founds, promotes, relays and retries. It can be made to hang, refuse or die where
a test needs that. The tests with real nodes are beside these.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from datastore import administration, cluster_record, wire
from datastore.cluster_record import ClusterRecord
from datastore.edge import Address, EdgeServer, Peer
from datastore.errors import NotPrimary, UnknownHold
from datastore.model import EPOCH_NONE, Epoch
from datastore.rows import ReignRow

METHODS = ("submit", "read", "feed", "snapshot", "status", "promise", "become", "bootstrap", "hand_over", "record", "history")
CONTROL = {
    "promise": list[wire.PromiseItem],
    "become": list[wire.BecomeItem],
    "bootstrap": list[wire.BootstrapItem],
    "hand_over": list[administration.HandOverItem],
}


@dataclass
class Partition:
    store_uuid: str
    voters: dict[str, str] = field(default_factory=dict)
    promised: Epoch = EPOCH_NONE
    epoch: Epoch = EPOCH_NONE
    lsn: int = 0
    leads: bool = False


class WireNode:
    """Started when made; `stop` ends it as a killed process would, `start` brings it back without any role (Z16)."""

    def __init__(self, name: str, suspicion_ms: int = 300) -> None:
        self.name = name
        self.partitions: dict[str, Partition] = {}
        self.submitted: list[wire.SubmitItem] = []
        self.calls: list[tuple[str, int]] = []  # (method, items) as they came
        self.hang = threading.Event()  # set: submit does not answer until it is cleared
        self.lose_replies = 0  # so many submits are carried out and then answered too late
        self.hints: dict[str, str] = {}
        self.record: ClusterRecord = {}
        self.reigns: dict[str, list[ReignRow]] = {}
        self.handing = "ready"  # what it answers to hand_over
        self.heard: dict[str, float] = {}
        self._mutex = threading.Lock()
        self._suspicion_ms = suspicion_ms
        self._server: EdgeServer | None = None
        self.address = Address("127.0.0.1", 0)
        self.start()

    def start(self) -> None:
        for partition in self.partitions.values():
            partition.leads = False
        self._server = EdgeServer(self.address, self._handle, methods=METHODS, name=self.name)
        self._server.start()
        self.address = self._server.address

    def stop(self) -> None:
        self.hang.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def leads(self, operator: str) -> bool:
        partition = self.partitions.get(operator)
        return partition is not None and partition.leads

    def _handle(self, method: str, payload: bytes, _peer: Peer) -> bytes:
        if method == "status":
            return wire.encode(self._status())
        if method == "submit":
            return wire.encode(self._submit(wire.decode(list[wire.SubmitItem], payload)))
        if method == "read":
            items = wire.decode(list[wire.ReadItem], payload)
            return wire.encode([wire.ReadResult(item.operator, 1, 1, [self.name, item.query]) for item in items])
        if method == "feed":
            request = wire.decode(wire.FeedRequest, payload)
            return wire.encode([wire.FeedPart(operator, "ok", 7, b"", 0) for operator in request.after])
        if method == "snapshot":
            return wire.encode(wire.SnapshotPage(7, b"", 0, []))
        if method == "record":
            self.record = cluster_record.merged(self.record, wire.decode(ClusterRecord, payload))
            return wire.encode(self.record)
        if method == "history":
            return wire.encode(self.reigns)
        items = wire.decode(CONTROL[method], payload)
        with self._mutex:
            self.calls.append((method, len(items)))
            return wire.encode([getattr(self, f"_{method}")(item) for item in items])

    def _status(self) -> wire.NodeStatus:
        with self._mutex:
            rows = [
                wire.PartitionStatus(
                    operator,
                    "primary" if one.leads else "replica" if one.voters else "empty",
                    one.store_uuid,
                    one.promised,
                    one.epoch,
                    one.lsn,
                    one.lsn,
                    one.lsn,
                    -1,
                    one.leads,
                    one.voters,
                    followers={uuid: (one.lsn, 0, True) for uuid in one.voters if one.leads and uuid != one.store_uuid},
                )
                for operator, one in self.partitions.items()
            ]
        return wire.NodeStatus(self.name, "boot", 1, int(time.time() * 1000), rows, self.record)

    def _hand_over(self, item: administration.HandOverItem) -> administration.HandOverReply:
        return administration.HandOverReply(item.operator, self.handing if item.pause_ms else "refused")

    def _bootstrap(self, item: wire.BootstrapItem) -> wire.BootstrapReply:
        one = self.partitions.setdefault(item.operator, Partition(f"{self.name}/{item.operator}"))
        if item.voters and not one.voters and not one.lsn:
            one.voters = item.voters
        return wire.BootstrapReply(item.operator, one.store_uuid, one.voters, one.lsn)

    def _promise(self, item: wire.PromiseItem) -> wire.PromiseReply:
        one = self.partitions[item.operator]
        granted = Epoch(*item.epoch) > one.promised
        if granted:
            one.promised, one.leads = Epoch(*item.epoch), False
        wall_ms = int(time.time() * 1000)
        return wire.PromiseReply(item.operator, granted, one.promised, one.epoch, one.lsn, one.store_uuid, one.voters, wall_ms, -1)

    def _become(self, item: wire.BecomeItem) -> wire.BecomeReply:
        one = self.partitions[item.operator]
        if Epoch(*item.epoch) != one.promised or item.store_uuid != one.store_uuid:
            return wire.BecomeReply(item.operator, False, "not promised")
        # Without replication an entry of its own would make it the only candidate for ever.
        one.leads = True
        row = ReignRow(item.epoch, 1000 * item.epoch[0], 0, self.name, one.store_uuid, item.before, item.why, item.by)
        self.reigns.setdefault(item.operator, []).append(row)
        return wire.BecomeReply(item.operator, True)

    def _submit(self, items: list[wire.SubmitItem]) -> list[wire.SubmitResult]:
        deadline = time.monotonic() + 20
        pause = threading.Event()
        while self.hang.is_set() and time.monotonic() < deadline:
            pause.wait(0.01)
        results = []
        for item in items:
            if not self.leads(item.operator):
                error = NotPrimary(f"{self.name} is not", primary=self.hints.get(item.operator, ""))
                results.append(wire.SubmitResult(item.operator, b"", 0, 0, error.to_data()))
            elif item.commands == b"refuse":
                results.append(wire.SubmitResult(item.operator, b"", 0, 0, UnknownHold("none such").to_data()))
            else:
                with self._mutex:
                    self.submitted.append(item)
                results.append(wire.SubmitResult(item.operator, b"by " + self.name.encode(), 1, 1))
        if self.lose_replies:
            self.lose_replies -= 1
            pause.wait(3)
        return results


def error_code(result: Any) -> str:
    """Return the code of a result's error, "" where it has none."""
    return str(result.error.get("code", "")) if result.error else ""
