"""A data store manager: the production watch, relay and leases (`manager.watch`, `manager.relay`, `manager.leases`).

Only what they stand on is simulated: the clock, the threads, the connections to nodes and lock servers. Messages between
them are encoded and decoded as they are on a real wire.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datastore import wire
from datastore.errors import InvariantBroken, OutcomeUnknown
from manager.config import ManagerConfig
from manager.failover import Serving
from manager.leases import PromoteLeases
from manager.placement import Placement
from manager.polling import HURRY_FACTOR, HURRY_MIN_MS, LastSeen
from manager.relay import Relay
from manager.routing import READ, SUBMIT, opened
from manager.watch import Watch
from tests.simulation.lockclients import SimulatedLocks
from tests.simulation.world import Ask, Process, Signal, Violation, World

if TYPE_CHECKING:
    from tests.simulation.observer import Observer


class NodeConnections:
    """What `manager.nodes.NodePlanes` is to a manager, over the simulated network."""

    kinds: Mapping[str, Any] = {
        "promise": list[wire.PromiseItem],
        "become": list[wire.BecomeItem],
        "bootstrap": list[wire.BootstrapItem],
        "submit": list[wire.SubmitItem],
        "read": list[wire.ReadItem],
    }

    def __init__(self, manager: Manager, name: str) -> None:
        self._manager = manager
        self.name = name
        self.address = name

    def call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        question = wire.decode(self.kinds[method], payload)
        answer = self._manager.ask(Ask(self.name, method, question, timeout_ms))
        if answer is None:
            raise OutcomeUnknown(f"no answer from {self.name} within {timeout_ms} ms")
        return wire.encode(answer)

    def control(self, method: str, items: list[Any], kind: Any, timeout_ms: int) -> list[Any]:
        answers: list[Any] = wire.decode(list[kind], self.call(method, wire.encode(items), timeout_ms))
        return answers


class SimulatedPolling:
    """What `manager.polling` is: asks every node for its status, each on a thread of its own."""

    def __init__(self, manager: Manager, nodes: Sequence[str], config: ManagerConfig) -> None:
        self._manager = manager
        self._config = config
        self._seen = {node: LastSeen(None, "not asked yet") for node in nodes}
        self._in_hurry = True
        self._wake = {node: Signal() for node in nodes}

    def start(self) -> None:
        for node in self._seen:
            self._manager.run(lambda node=node: self._poll(node))  # type: ignore[misc]

    def close(self) -> None:
        pass

    def seen(self) -> dict[str, LastSeen]:
        return dict(self._seen)

    def hurry(self, wanted: bool) -> None:
        if wanted and not self._in_hurry:
            self._in_hurry = True
            for signal in self._wake.values():
                signal.set()
        self._in_hurry = wanted

    def _poll(self, node: str) -> None:
        manager, config = self._manager, self._config
        while True:
            began_ms = manager.now_ms()
            status = manager.ask(Ask(node, "status", None, config.node_timeout_ms))
            before, self._seen[node] = self._seen[node], LastSeen(status, "" if status else "no answer")
            if self._in_hurry or (before.status is None) != (status is None):
                manager.news.set()
            pause_ms = max(HURRY_MIN_MS, config.heartbeat_ms // HURRY_FACTOR) if self._in_hurry else config.heartbeat_ms
            manager.wait(self._wake[node], max(1, began_ms + pause_ms - manager.now_ms()))


class SimulatedWatch(Watch):
    """The production watch, whose threads are the simulator's."""

    def __init__(self, manager: Manager, config: ManagerConfig, nodes: Sequence[NodeConnections], placement: Placement) -> None:
        super().__init__(config, nodes, placement, PromoteLeases(manager.locks, config.promote_lease_ms), now_ms=manager.now_ms)  # type: ignore[arg-type]
        self._manager = manager
        self.uuid = manager.draw_uuid()
        self._random = random.Random(self.uuid)  # type: ignore[assignment]
        self._at_once = manager.at_once  # type: ignore[assignment]
        self._polling = SimulatedPolling(manager, [node.name for node in nodes], config)  # type: ignore[assignment]

    def start(self) -> None:
        self._polling.start()
        self._manager.run(self._forever)

    def wait_for_change(self, routes: Mapping[str, Serving], timeout_ms: int) -> None:
        if self._routes is routes:
            self._manager.wait(self._manager.changed, max(1, timeout_ms))

    def _forever(self) -> None:
        while True:
            try:
                self._round()
            except InvariantBroken as error:
                raise Violation("invariant", f"{self._manager.name} stops: {error.detail}") from error
            self._manager.wait(self._manager.news, self._config.heartbeat_ms)

    def _publish(self, seen: Mapping[str, LastSeen]) -> None:
        before = self._routes
        super()._publish(seen)
        if self._routes is not before:
            self._manager.changed.set()

    def _record(self, operator: str, report: Any) -> None:
        super()._record(operator, report)
        self._manager.tell("made {} primary of {} in epoch {}: {}", report.node, operator, report.epoch.counter, report.why)


class Manager(Process):
    """One manager."""

    watch_type: type[SimulatedWatch] = SimulatedWatch

    def __init__(
        self, world: World, name: str, config: ManagerConfig, nodes: Sequence[str], placement: Placement, locks: Sequence[str], seed: str
    ) -> None:
        super().__init__(world, name)
        self._config = config
        self._nodes = list(nodes)
        self._placement = placement
        self._lock_servers = list(locks)
        self._random = random.Random(f"{seed} {name}")
        self.observer: Observer | None = None

    def boot(self) -> None:
        self.news, self.changed = Signal(), Signal()
        self.locks = SimulatedLocks(self, self._lock_servers, f"{self.name}#{self.incarnation}", None)
        nodes = [NodeConnections(self, node) for node in self._nodes]
        self.watch = self.watch_type(self, self._config, nodes, self._placement)
        by_name = {node.name: node for node in nodes}
        timing: dict[str, Any] = {
            "heartbeat_ms": self._config.heartbeat_ms,
            "attempt_ms": self._config.node_timeout_ms,
            "now_ms": self.now_ms,
        }
        self._relays: dict[str, tuple[Any, Relay[Any]]] = {
            "submit": (list[wire.SubmitItem], Relay(SUBMIT, by_name, self.watch, **timing)),  # type: ignore[arg-type]
            "read": (list[wire.ReadItem], Relay(READ, by_name, self.watch, **timing)),  # type: ignore[arg-type]
        }
        self.watch.start()

    def draw_uuid(self) -> str:
        """Return what makes this process's epochs its own: fresh at every start (R3)."""
        return f"{self._random.getrandbits(64):016x}"

    def handle(self, method: str, payload: bytes, answer: Callable[[Any], None]) -> None:
        kind, relay = self._relays[method]

        def deliver() -> None:
            deadline_ms, items = opened(kind, payload)
            answer(wire.encode(relay.deliver(items, deadline_ms)))

        self.run(deliver)
