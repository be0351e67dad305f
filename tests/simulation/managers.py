"""A data store manager: the production watch, relay and leases (`manager.watch`, `manager.relay`, `manager.leases`).

Only what they stand on is simulated: the clock, the threads, the connections to nodes and lock servers. Messages between
them are encoded and decoded as they are on a real wire.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from datastore import administration, wire
from datastore.cluster_record import REMOVED, ClusterRecord
from datastore.errors import HoldfastError, InvariantBroken, OutcomeUnknown
from manager import failover_steps as steps
from manager.carrying import Asked
from manager.config import ManagerConfig
from manager.failover_steps import Serving
from manager.goals import Goals
from manager.leases import PromoteLeases
from manager.membership import Step, told
from manager.polling import HURRY_FACTOR, HURRY_MIN_MS, LastSeen
from manager.relay import Relay
from manager.roster import Roster
from manager.routing import READ, SUBMIT, Method, opened
from manager.watch import Watch
from tests.simulation.lockclients import SimulatedLocks
from tests.simulation.world import Ask, Process, Signal, Violation, World

if TYPE_CHECKING:
    from tests.simulation.observer import Observer


FOLLOWING_TIMEOUT_MS = 500


class NodeConnections:
    """What `manager.nodes.NodePlanes` is to a manager, over the simulated network."""

    kinds: Mapping[str, Any] = {
        "promise": list[wire.PromiseItem],
        "become": list[wire.BecomeItem],
        "bootstrap": list[wire.BootstrapItem],
        "configure": list[administration.ConfigureItem],
        "hand_over": list[administration.HandOverItem],
        "renew": list[administration.RenewItem],
        "record": ClusterRecord,
        "submit": list[wire.SubmitItem],
        "read": list[wire.ReadItem],
        "feed": wire.FeedRequest,
        "snapshot": wire.SnapshotRequest,
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
        if isinstance(answer, HoldfastError):
            raise answer
        return wire.encode(answer)

    def close(self) -> None:
        pass

    def control(self, method: str, items: list[Any], kind: Any, timeout_ms: int) -> list[Any]:
        answers: list[Any] = wire.decode(list[kind], self.call(method, wire.encode(items), timeout_ms))
        return answers


class SimulatedPolling:
    """What `manager.polling` is: asks every node for its status, each on a thread of its own."""

    def __init__(self, manager: Manager, config: ManagerConfig) -> None:
        self._manager = manager
        self._config = config
        self._seen: dict[str, LastSeen] = {}
        self._in_hurry = True
        self._started = False
        self._wake: dict[str, Signal] = {}

    def add(self, node: NodeConnections, *, slow: bool) -> None:
        self._seen[node.name] = LastSeen(None, "not asked yet")
        self._wake[node.name] = Signal()
        if self._started:
            self._manager.run(partial(self._poll, node.name))

    def slow_down(self, name: str) -> None:
        pass

    def start(self) -> None:
        self._started = True
        for node in self._seen:
            self._manager.run(partial(self._poll, node))

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


class SimulatedRoster(Roster):
    """The production roster over simulated connections."""

    def __init__(self, manager: Manager, goals: Goals, config: ManagerConfig) -> None:
        self.goals = goals
        self.nodes = {}
        self._manager = manager
        self._timeout_ms = config.node_timeout_ms
        self._writing = self._taking = nullcontext()  # type: ignore[assignment]  # Nobody else runs meanwhile.
        self._polling = SimulatedPolling(manager, config)  # type: ignore[assignment]
        self._at_once = manager.at_once  # type: ignore[assignment]
        self._meet()

    def _meet(self) -> None:
        nodes = dict(self.nodes)
        for name, member in self.goals.nodes.items():
            if name not in nodes and name in self._manager.world.processes:
                nodes[name] = NodeConnections(self._manager, name)  # type: ignore[assignment]
                self._polling.add(nodes[name], slow=member.state == REMOVED)
        self.nodes = nodes


class _Pause:
    """What the carrier waits with between two questions to a primary that hands over."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def wait(self, timeout_s: float) -> None:
        self._manager.sleep(max(1, int(timeout_s * 1000)))


class SimulatedWatch(Watch):
    """The production watch, whose threads are the simulator's."""

    def __init__(self, manager: Manager, config: ManagerConfig, goals: Goals) -> None:
        self._at_once = manager.at_once  # type: ignore[method-assign,assignment]
        leases = PromoteLeases(manager.locks, config.promote_lease_ms)
        super().__init__(manager.name, config, lambda _: SimulatedRoster(manager, goals, config), leases, now_ms=manager.now_ms)
        self._manager = manager
        self.uuid = manager.draw_uuid()
        self._random = random.Random(self.uuid)  # type: ignore[assignment]
        self._carrier._pause = _Pause(manager)  # type: ignore[assignment]

    def start(self) -> None:
        self.roster.start()
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

    def _noted(self, asked: Sequence[Asked]) -> list[Asked]:
        for operator, instruction in asked:
            if isinstance(instruction, steps.Report):
                self._manager.tell("made {} primary of {} in epoch {}: {}", instruction.node, operator, *instruction[1:])
        return super()._noted(asked)

    def _next_steps(self, sightings: Mapping[str, steps.Sighting]) -> dict[str, tuple[str, Step]]:
        found = super()._next_steps(sightings)
        for operator, (_, step) in found.items():
            self._manager.tell("changes the copies of {}: {}", operator, told(step))
        return found


class SimulatedRelay(Relay[Any]):
    """The production relay, whose threads are the simulator's."""

    def __init__(self, manager: Manager, method: Method, **timing: Any) -> None:
        self._at_once = manager.at_once  # type: ignore[method-assign,assignment]
        super().__init__(method, manager.watch.roster, manager.watch, **timing)


class Manager(Process):
    """One manager."""

    watch_type: type[SimulatedWatch] = SimulatedWatch

    def __init__(self, world: World, name: str, config: ManagerConfig, goals: Goals, locks: Sequence[str], seed: str) -> None:
        super().__init__(world, name)
        self._config = config
        self._goals = goals
        self._lock_servers = list(locks)
        self._random = random.Random(f"{seed} {name}")
        self.observer: Observer | None = None

    def boot(self) -> None:
        self.news, self.changed = Signal(), Signal()
        self.locks = SimulatedLocks(self, self._lock_servers, f"{self.name}#{self.incarnation}", None)
        self.watch = self.watch_type(self, self._config, self._goals)
        timing: dict[str, Any] = {
            "heartbeat_ms": self._config.heartbeat_ms,
            "attempt_ms": self._config.node_timeout_ms,
            "now_ms": self.now_ms,
        }
        self._relays: dict[str, tuple[Any, Relay[Any]]] = {
            "submit": (list[wire.SubmitItem], SimulatedRelay(self, SUBMIT, **timing)),
            "read": (list[wire.ReadItem], SimulatedRelay(self, READ, **timing)),
        }
        self.watch.start()

    def draw_uuid(self) -> str:
        """Return what makes this process's epochs its own: fresh at every start (R3)."""
        return f"{self._random.getrandbits(64):016x}"

    def handle(self, method: str, payload: bytes, answer: Callable[[Any], None]) -> None:
        if method == "topology":
            answer(wire.encode(self.watch.topology()))
            return
        if method in ("feed", "snapshot"):
            self.run(lambda: answer(self._of_a_node(method, payload)))
            return
        kind, relay = self._relays[method]

        def deliver() -> None:
            deadline_ms, items = opened(kind, payload)
            answer(wire.encode(relay.deliver(items, deadline_ms)))

        self.run(deliver)

    def _of_a_node(self, method: str, payload: bytes) -> bytes | HoldfastError:
        """Return what the node says that a view wants to follow, or why it does not."""
        request = wire.decode(NodeConnections.kinds[method], payload)
        node = self.watch.roster.nodes[request.node]
        try:
            return node.call(method, payload, getattr(request, "wait_ms", 0) + FOLLOWING_TIMEOUT_MS)
        except HoldfastError as error:
            return error

    def reshape(self, number: int) -> None:
        """As an administrator does: name other nodes for an operator's copies (R15); `number` says which."""
        if not self.alive:
            return
        goals = self.watch.roster.goals
        operator = sorted(goals.primaries)[number % len(goals.primaries)]
        nodes = random.Random(f"reshape {number}").sample(goals.members, min(goals.copies, len(goals.members)))

        def write() -> None:
            try:
                self.watch.roster.write(goals.lines_to_place(operator, nodes), self.name)
                self.tell("is told to keep {} at {}", operator, ", ".join(nodes))
            except HoldfastError as error:
                self.tell("cannot keep {} at {}: {}", operator, ", ".join(nodes), error.detail)

        self.run(write)
