"""The data node's server: decode, hand to the partitions, encode. What concerns one item stands in that item's result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from datastore import administration, wire, wire_ledger
from datastore.cluster_record import ClusterRecord
from datastore.edge import Address, EdgeServer, Peer, Tls
from datastore.errors import HoldfastError, InvalidRequest, NotPrimary, SnapshotNeeded, UnknownOperator, shown
from datastore.feed import of_the_silent
from datastore.model import Epoch
from datastore.node import Node, wall_ms
from datastore.partition import Partition
from datastore.recovery import HASHES_MAX
from datastore.reporting import promotions
from datastore.store import SqliteStore
from datastore.stub import FEED_BYTES, METHODS, NODE_LIMITS, ROLES, feed_bytes
from datastore.submission import Question, Reconfiguration, Submission
from datastore.wire_recovery import HashesAsk, RecoverAsk, RecoverReport, SnapshotAsk, SnapshotOffer, SnapshotPart, SnapshotRead

# How long a message of another node or a manager may wait for its partition's turn. Longer than any flush; who sent it
# has given up by then.
TURN_S = 5.0

# A follower that is ahead of this node is not asked to hurry: it would ask again at once.
BEHIND_PAUSE_S = 0.2

log = logging.getLogger(__name__)


class NodeServer:
    """Serves one node."""

    def __init__(self, node: Node, address: Address, *, tls: Tls | None = None) -> None:
        self._node = node
        self._submit_s = node.config.submit_timeout_ms / 1000
        self._handlers: dict[str, Callable[[bytes], Any]] = {
            "status": lambda _payload: node.status(),
            "promise": self._promise,
            "become": self._become,
            "bootstrap": self._bootstrap,
            "configure": self._configure,
            "hand_over": self._hand_over,
            "renew": self._renew,
            "record": lambda payload: node.take_record(wire.decode(ClusterRecord, payload)),
            "history": self._history,
            "append": self._append,
            "submit": self._submit,
            "read": self._read,
            "feed": self._feed,
            "snapshot": self._snapshot,
            "entries": self._entries,
            "check": self._check,
            "segment": self._segment,
            "recover": self._recover,
            "snapshot_ask": self._snapshot_ask,
            "snapshot_read": self._snapshot_read,
            "snapshot_done": self._snapshot_done,
            "hashes": self._hashes,
        }
        self._edge = EdgeServer(
            address, self._handle, methods=METHODS.keys(), limits=NODE_LIMITS, tls=tls, roles=ROLES if tls else None, name=node.name
        )

    @property
    def address(self) -> Address:
        return self._edge.address

    def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigInvalid: The port is used by another process.
        """
        self._edge.start()

    def close(self) -> None:
        self._edge.close()

    def _handle(self, method: str, payload: bytes, _peer: Peer) -> bytes:
        return wire.encode(self._handlers[method](payload))

    # --- callers --------------------------------------------------------------------------------------------------

    def _submit(self, payload: bytes) -> list[wire.SubmitResult]:
        """Queue all items first, then wait: they commit side by side."""
        deadline = time.monotonic() + self._submit_s
        queued: list[Submission | wire.SubmitResult] = []
        for item in wire.decode(list[wire.SubmitItem], payload):
            try:
                queued.append(self._primary_of(item.operator).submit(item))
            except (InvalidRequest, NotPrimary) as error:
                queued.append(wire.SubmitResult(item.operator, b"", 0, 0, error.to_data()))
        return [
            waiting.result(max(0.0, deadline - time.monotonic())) if isinstance(waiting, Submission) else waiting for waiting in queued
        ]

    def _read(self, payload: bytes) -> list[wire.ReadResult]:
        deadline = time.monotonic() + self._submit_s
        queued: list[Question | wire.ReadResult] = []
        for item in wire.decode(list[wire.ReadItem], payload):
            try:
                queued.append(self._primary_of(item.operator).ask(item))
            except NotPrimary as error:
                queued.append(wire.ReadResult(item.operator, 0, 0, None, error.to_data()))
        return [waiting.wait(max(0.0, deadline - time.monotonic())) if isinstance(waiting, Question) else waiting for waiting in queued]

    def _primary_of(self, operator: str) -> Partition:
        found = self._node.find(operator)
        if found is None:
            raise NotPrimary(f"{self._node.name} has no store of {shown(operator)}", operator=shown(operator), primary="")
        return found

    def _feed(self, payload: bytes) -> list[wire.FeedPart]:
        request: wire.FeedRequest = wire.decode(wire.FeedRequest, payload)
        bell = self._node.bell
        started = time.monotonic()
        deadline = started + min(max(0, request.wait_ms), self._node.config.feed_wait_ms_max) / 1000
        while True:
            seen = bell.rung
            parts = self._parts(request)
            now = time.monotonic()
            news = any(part.status != "behind" for part in parts)
            if news or now >= deadline or (parts and now - started >= BEHIND_PAUSE_S):
                return parts + of_the_silent(request, parts, self._node.find)
            bell.wait(seen, min(deadline - now, BEHIND_PAUSE_S) if parts else deadline - now)

    def _parts(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        parts: list[wire.FeedPart] = []
        size_bytes = 0
        for operator, (lsn, digest) in request.after.items():
            found = self._node.find(operator)
            part = wire.FeedPart(operator, "behind", 0, b"", 0) if found is None else found.feed(lsn, digest, TURN_S)
            if part is None:
                continue
            parts.append(part)
            size_bytes += feed_bytes(part)
            if size_bytes > FEED_BYTES:
                break  # The others come with the next request, which is on its way at once.
        return parts

    def _snapshot(self, payload: bytes) -> wire.SnapshotPage:
        request: wire.SnapshotRequest = wire.decode(wire.SnapshotRequest, payload)
        return self._store_of(request.operator).snapshot(request, TURN_S)

    def _entries(self, payload: bytes) -> list[bytes]:
        request: wire_ledger.EntriesRequest = wire.decode(wire_ledger.EntriesRequest, payload)
        return self._store_of(request.operator).entries(request.from_lsn, request.limit, TURN_S)

    def _store_of(self, operator: str) -> Partition:
        found = self._node.find(operator)
        if found is None:
            raise UnknownOperator(f"{self._node.name} has no store of {shown(operator)}", operator=shown(operator))
        return found

    # --- recovery -------------------------------------------------------------------------------------------------

    def _recover(self, payload: bytes) -> list[RecoverReport]:
        return self._node.recoverer.recover(wire.decode(RecoverAsk, payload))

    def _snapshot_ask(self, payload: bytes) -> SnapshotOffer:
        ask: SnapshotAsk = wire.decode(SnapshotAsk, payload)
        partition = self._store_of(ask.operator)
        if not partition.in_turn(partition.store.scrub, TURN_S):
            # Free pages may still show what was erased, and who copies them keeps the erasure from being finished.
            return SnapshotOffer("refused", reason="an erasure is being finished there")
        return self._node.offers.ask(ask, self._node.store_path(ask.operator), lambda: partition.committed)

    def _snapshot_read(self, payload: bytes) -> SnapshotPart:
        read: SnapshotRead = wire.decode(SnapshotRead, payload)
        return self._node.offers.read(read.snapshot_id, read.offset, read.length)

    def _snapshot_done(self, payload: bytes) -> None:
        self._node.offers.done(wire.decode(str, payload))

    def _hashes(self, payload: bytes) -> list[bytes]:
        ask: HashesAsk = wire.decode(HashesAsk, payload)
        if len(ask.lsns) > HASHES_MAX:
            raise InvalidRequest(f"{len(ask.lsns)} hashes in one message, limit {HASHES_MAX}", field="lsns")
        partition = self._store_of(ask.operator)
        committed_lsn = partition.committed.lsn
        return partition.in_turn(lambda: [partition.store.hash_at(lsn) if 0 < lsn <= committed_lsn else b"" for lsn in ask.lsns], TURN_S)

    # --- managers -------------------------------------------------------------------------------------------------

    def _promise(self, payload: bytes) -> list[wire.PromiseReply]:
        items: list[wire.PromiseItem] = wire.decode(list[wire.PromiseItem], payload)
        found = [(item, self._node.find(item.operator)) for item in items]
        return [partition.promise(Epoch(*item.epoch), wall_ms(), TURN_S) for item, partition in found if partition is not None]

    def _become(self, payload: bytes) -> list[wire.BecomeReply]:
        replies: list[wire.BecomeReply] = []
        for item in wire.decode(list[wire.BecomeItem], payload):
            partition = self._node.find(item.operator)
            if partition is None:
                replies.append(wire.BecomeReply(item.operator, False, "no store of this operator"))
            else:
                replies.append(partition.become(item, TURN_S))
        return replies

    def _bootstrap(self, payload: bytes) -> list[wire.BootstrapReply]:
        items: list[wire.BootstrapItem] = wire.decode(list[wire.BootstrapItem], payload)
        return [self._bootstrap_one(item) for item in items]

    def _bootstrap_one(self, item: wire.BootstrapItem) -> wire.BootstrapReply:
        partition = self._node.make(item.operator)
        voters = item.voters
        if voters and self._node.was_here(item.operator):
            # The empty store stands where another one was: founding anew would forget what was sold, so a person decides.
            log.error("founding refused operator=%s reason=another store was in use here", item.operator)
            voters = {}
        return partition.bootstrap(voters, TURN_S)

    def _check(self, payload: bytes) -> list[wire_ledger.CheckReply]:
        return [self._check_one(item) for item in wire.decode(list[wire_ledger.CheckItem], payload)]

    def _check_one(self, item: wire_ledger.CheckItem) -> wire_ledger.CheckReply:
        node, partition = self._node, self._node.find(item.operator)
        if partition is None:
            nothing = wire_ledger.LedgerReport()
            return wire_ledger.CheckReply(item.operator, node.name, "", "", [], nothing, error="no store of this operator")
        store = partition.store
        if item.at_lsn:
            partition.in_turn(lambda: store.note_digest_at(item.at_lsn), TURN_S)
        digests = partition.in_turn(store.digests, TURN_S)
        check = node.keeper.ask_check(item.operator) if item.deep else 0
        status = partition.status()
        report = node.keeper.report(partition)
        return wire_ledger.CheckReply(item.operator, node.name, status.role, status.store_uuid, digests, report, check)

    def _configure(self, payload: bytes) -> list[administration.ConfigureReply]:
        """Queue all first, then wait: each waits for its own partition's turn."""
        deadline = time.monotonic() + TURN_S
        queued: list[Reconfiguration | administration.ConfigureReply] = []
        for item in wire.decode(list[administration.ConfigureItem], payload):
            partition = self._node.find(item.operator)
            missing = administration.ConfigureReply(item.operator, False, "no store of this operator")
            queued.append(partition.configure(item) if partition is not None else missing)
        return [one.wait(max(0.0, deadline - time.monotonic())) if isinstance(one, Reconfiguration) else one for one in queued]

    def _hand_over(self, payload: bytes) -> list[administration.HandOverReply]:
        replies: list[administration.HandOverReply] = []
        for item in wire.decode(list[administration.HandOverItem], payload):
            partition = self._node.find(item.operator)
            missing = administration.HandOverReply(item.operator, "refused", 0, "no store of this operator")
            replies.append(partition.hand_over(item, TURN_S) if partition is not None else missing)
        return replies

    def _renew(self, payload: bytes) -> list[wire.BootstrapReply]:
        items = wire.decode(list[administration.RenewItem], payload)
        return [self._node.renew(item.operator, item.store_uuid).bootstrap({}, TURN_S) for item in items]

    def _history(self, payload: bytes) -> administration.History:
        request = wire.decode(administration.HistoryRequest, payload)
        found = {partition.operator: partition for partition in self._node.partitions()}
        wanted = [code for code in request.operators if code in found] if request.operators else list(found)
        return {code: found[code].in_turn(partial(promotions, found[code].store, request.limit), TURN_S) for code in wanted}

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _append(self, payload: bytes) -> list[wire.AppendReply]:
        return [self._append_one(item) for item in wire.decode(list[wire.AppendItem], payload)]

    def _segment(self, payload: bytes) -> bytes:
        request: wire_ledger.SegmentRequest = wire.decode(wire_ledger.SegmentRequest, payload)
        if request.offset < 0 or not 0 < request.size_bytes_max <= NODE_LIMITS.frame_bytes_max // 2:
            raise InvalidRequest("not a part of a file", field="offset")
        store = self._store_of(request.operator).store
        asked = (request.first_lsn, request.last_lsn)
        segment = next((segment for segment in store.segments() if segment[:2] == asked), None)
        if segment is None or not isinstance(store, SqliteStore):
            raise SnapshotNeeded(f"{self._node.name} has no segment of entries {asked[0]} to {asked[1]}", operator=request.operator)
        return store.folder.part(segment, request.offset, request.size_bytes_max)

    def _append_one(self, item: wire.AppendItem) -> wire.AppendReply:
        partition = self._node.find(item.operator)
        if partition is None:
            # Made by a manager's bootstrap, never by an append: a lost store must not come back under its old name.
            return wire.AppendReply(item.operator, "refused", item.epoch, 0, "")
        try:
            return partition.append(item, TURN_S)
        except HoldfastError as error:
            if error.code == "invariant_broken":
                raise
            log.warning("append refused operator=%s reason=%s", item.operator, error.detail)
            return wire.AppendReply(item.operator, "refused", item.epoch, 0, "")
