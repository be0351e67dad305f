"""A data store manager's server: what load balancers may ask, by RPyC.

    submit, read        [deadline_ms, list[SubmitItem | ReadItem]] -> list[SubmitResult | ReadResult]
    feed, snapshot      FeedRequest, SnapshotRequest -> as the named node answers, unopened
    topology, status    b"" -> Topology, ManagerStatus
    check               CheckCopies -> CopiesChecked: what every node says of the operators' copies
    ledger              LedgerRequest -> list[bytes], the primary's committed entries
    create_operators    [deadline_ms, CreateOperators] -> Topology, when all of them serve
    administer          [deadline_ms, AnyWish] -> what `datastore.administration.ANSWERS` says

All managers serve alike and at the same time; which node may write is decided by epochs on the nodes, not here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from datastore import wire, wire_ledger
from datastore.administration import AnyWish
from datastore.edge import Address, EdgeLimits, EdgeServer, Peer, Tls
from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import OPERATOR_PATTERN
from datastore.stub import NODE_LIMITS
from lockstore.seatlocks import SeatLocks
from manager.administering import Administering, addresses
from manager.config import ManagerConfig
from manager.copies import Copies
from manager.goals import Goals
from manager.leases import PromoteLeases
from manager.nodes import NodePlanes
from manager.relay import Relay
from manager.roster import Roster
from manager.routing import READ, SUBMIT, opened
from manager.watch import Watch

log = logging.getLogger(__name__)

METHODS = ("submit", "read", "feed", "snapshot", "topology", "status", "check", "ledger", "create_operators", "administer")
# Who may call what, where certificates say who is calling: making operators is the balancer's, on the
# administrator's behalf, as it alone checks the administrator's key.
ROLES: Mapping[str, Sequence[str]] = {method: ("lb", "admin") for method in METHODS}

# The first attempt at a primary lasts as long as it may take to replace it; see `routing.Delivery`.
ATTEMPT_SUSPICIONS = 2
FEED_WAIT_MAX_MS = 30_000
SNAPSHOT_TIMEOUT_MS = 10_000
CREATE_MAX = 1_000


class ManagerServer:
    """One manager: its watch over the nodes and its server."""

    def __init__(
        self,
        name: str,
        config: ManagerConfig,
        goals: Goals,
        locks: SeatLocks | None,
        *,
        tls: Tls | None = None,
        limits: EdgeLimits = NODE_LIMITS,
    ) -> None:
        """Prepare; `start` binds and begins to watch.

        Args:
            name: Which of `config.managers` this is.
            goals: The nodes and operators of cluster.toml.
            locks: The lock servers, for the leases; None goes without. Closed with this server.
        Raises:
            ConfigInvalid: No manager has that name.
        """
        own = config.manager(name)
        self.name = name
        self._started = time.monotonic()
        self._leases = PromoteLeases(locks, config.promote_lease_ms)

        def make_roster(on_news: Callable[[], None]) -> Roster:
            timeout_ms = config.node_timeout_ms
            return Roster(goals, limits=limits, tls=tls, heartbeat_ms=config.heartbeat_ms, timeout_ms=timeout_ms, on_news=on_news)

        self._watch = Watch(name, config, make_roster, self._leases)
        self._roster = self._watch.roster
        attempt_ms = ATTEMPT_SUSPICIONS * config.suspicion_ms
        self._submit: Relay[wire.SubmitItem] = Relay(
            SUBMIT, self._roster, self._watch, heartbeat_ms=config.heartbeat_ms, attempt_ms=attempt_ms
        )
        self._read: Relay[wire.ReadItem] = Relay(READ, self._roster, self._watch, heartbeat_ms=config.heartbeat_ms, attempt_ms=attempt_ms)
        self._timeout_ms = config.node_timeout_ms
        self._administering = Administering(name, self._watch, self._status, config.node_timeout_ms)
        self._copies = Copies(self._roster, self._watch)
        self._server = EdgeServer(
            Address(own.host, own.port), self._handle, methods=METHODS, limits=limits, tls=tls, roles=ROLES, name=name
        )

    @property
    def address(self) -> Address:
        """Where it listens, once started."""
        return self._server.address

    def start(self) -> None:
        """Bind, then begin to watch.

        Raises:
            ConfigInvalid: The address cannot be bound; nothing was begun.
        """
        self._server.start()
        self._watch.start()
        log.info("manager serves name=%s address=%s uuid=%s", self.name, self.address, self._watch.uuid)

    def close(self) -> None:
        """Stop. Every epoch it was about to use is simply abandoned (R3)."""
        self._server.close()
        self._watch.close()
        self._roster.close()
        self._leases.close()

    def _handle(self, method: str, payload: bytes, _peer: Peer) -> bytes:
        if method == "submit":
            deadline_ms, items = opened(list[wire.SubmitItem], payload)
            return wire.encode(self._submit.deliver(items, deadline_ms))
        if method == "read":
            deadline_ms, items = opened(list[wire.ReadItem], payload)
            return wire.encode(self._read.deliver(items, deadline_ms))
        if method == "feed":
            feed: wire.FeedRequest = wire.decode(wire.FeedRequest, payload)
            if not 0 <= feed.wait_ms <= FEED_WAIT_MAX_MS:
                raise InvalidRequest(f"wait_ms of {feed.wait_ms} is not within 0..{FEED_WAIT_MAX_MS}", field="wait_ms")
            return self._node(feed.node).call("feed", payload, feed.wait_ms + self._timeout_ms)
        if method == "snapshot":
            page: wire.SnapshotRequest = wire.decode(wire.SnapshotRequest, payload)
            return self._node(page.node).call("snapshot", payload, SNAPSHOT_TIMEOUT_MS)
        if method == "topology":
            return wire.encode(self._watch.topology())
        if method == "status":
            return wire.encode(self._status())
        if method == "administer":
            deadline_ms, wish = opened(AnyWish, payload)
            return wire.encode(self._administering.grant(wish, deadline_ms))
        if method == "check":
            asked_copies: wire_ledger.CheckCopies = wire.decode(wire_ledger.CheckCopies, payload)
            return wire.encode(self._copies.check(asked_copies.items))
        if method == "ledger":
            page_of_ledger: wire_ledger.LedgerRequest = wire.decode(wire_ledger.LedgerRequest, payload)
            return self._copies.ledger(page_of_ledger)
        deadline_ms, asked = opened(wire.CreateOperators, payload)
        return wire.encode(self._create(asked.operators, asked.nodes, deadline_ms))

    def _node(self, name: str) -> NodePlanes:
        nodes = self._roster.nodes
        node = nodes.get(name)
        if node is None:
            raise InvalidRequest(f"no node {shown(name)}", field="node", nearest=nearest(name, nodes))
        return node

    def _create(self, operators: Sequence[str], nodes: Mapping[str, Sequence[str]], deadline_ms: int) -> wire.Topology:
        if len(operators) > CREATE_MAX:
            raise InvalidRequest(f"{len(operators)} operators in one message, limit {CREATE_MAX}", field="operators")
        for operator in operators:
            # A code becomes a file's name on every node.
            if not OPERATOR_PATTERN.fullmatch(operator):
                raise InvalidRequest(f"{shown(operator)} is no operator's code: 2 to 8 capital letters or digits", field="operators")
        for operator in operators:
            # On a majority's disks before a store is made, so that no two managers place one operator differently.
            if operator in nodes and not self._watch.knows(operator):
                self._roster.write(self._roster.goals.lines_to_place(operator, nodes[operator]), self.name)
        self._watch.create(operators, time.monotonic() + deadline_ms / 1000)
        return self._watch.topology()

    def _status(self) -> wire.ManagerStatus:
        seen = self._watch.seen()
        topology = self._watch.topology()
        return wire.ManagerStatus(
            manager=self.name,
            uptime_ms=int((time.monotonic() - self._started) * 1000),
            nodes={node: last.status for node, last in seen.items() if last.status is not None},
            unreachable={node: last.why for node, last in seen.items() if last.status is None},
            primaries={place.operator: (place.primary, place.epoch) for place in topology.operators if place.primary},
            waiting=self._watch.waiting(),
            changing=self._watch.changing(),
            record=self._roster.goals.record,
            addresses=addresses(self._roster.nodes),
        )
