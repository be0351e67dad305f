"""The watch over all operators: carries out what each `OperatorWatch` instructs, many operators to a message.

One thread drives all machines. A round looks at what the nodes said last, gives each machine its part, and carries the
instructions out until none is left: leases of all operators in one round to the lock servers, then one message for each
node and step. Twenty operators or five hundred that need a primary at a cluster's start take the same few messages.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from datastore import wire
from datastore.errors import HoldfastError, InvariantBroken, OperatorUnavailable
from datastore.model import EPOCH_NONE, Epoch
from manager import failover
from manager.config import ManagerConfig
from manager.failover import Instruction, OperatorWatch, Serving, Sighting
from manager.leases import PromoteLeases
from manager.nodes import NodePlanes, at_once
from manager.placement import Placement
from manager.polling import LastSeen, Polling

log = logging.getLogger(__name__)
Kind = TypeVar("Kind")

HISTORY_MAX = 200
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h.


class Asked(NamedTuple):
    """An instruction of one operator that waits to be carried out."""

    operator: str
    instruction: Instruction


class Watch:
    """Sees to it that every operator has one serving primary, and knows which."""

    # How calls to several nodes are made at the same time: by threads, which the simulator does without.
    _at_once = staticmethod(at_once)

    def __init__(
        self,
        config: ManagerConfig,
        nodes: Sequence[NodePlanes],
        placement: Placement,
        leases: PromoteLeases,
        on_fault: Callable[[], object] = lambda: os._exit(EXIT_FAULT),
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            on_fault: Called when the watch itself is at fault. Without a watch no operator would get a primary any more, so
                the process ends and is started anew; nothing is lost with it.
            now_ms: The monotonic clock in milliseconds; the simulator gives its own.
        """
        self._now_ms = now_ms or _now_ms
        self._config = config
        self._nodes = {node.name: node for node in nodes}
        self._placement = placement
        self._leases = leases
        self._on_fault = on_fault
        # R3 rests on it: no two processes ever use the same epoch.
        self.uuid = uuid.uuid4().hex
        self._machines: dict[str, OperatorWatch] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        # Replaced as a whole, never changed: readers on other threads take no lock.
        self._routes: dict[str, Serving] = {}
        self._topology = wire.Topology(list(self._nodes), [], [])
        self._waiting: dict[str, str] = {}
        self._history: deque[wire.PromotionRecord] = deque(maxlen=HISTORY_MAX)
        self._random = random.SystemRandom()
        self._wake = threading.Event()
        self._closed = False
        self._polling = Polling(nodes, heartbeat_ms=config.heartbeat_ms, timeout_ms=config.node_timeout_ms, on_news=self._wake.set)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    # -- what others ask ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._polling.start()
        self._thread.start()

    def close(self) -> None:
        """End the watch; a step under way ends first. What it began is safe to be left so (R3)."""
        self._closed = True
        self._wake.set()
        self._polling.close()
        if self._thread.ident is not None:
            self._thread.join(4 * self._config.node_timeout_ms / 1000)
        with self._changed:
            self._changed.notify_all()

    def routes(self) -> Mapping[str, Serving]:
        """Return operator -> the primary that served last; it may have died since."""
        return self._routes

    def wait_for_change(self, routes: Mapping[str, Serving], timeout_ms: int) -> None:
        """Return when the routes are no longer `routes`, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._routes is not routes or self._closed, max(0, timeout_ms) / 1000)

    def knows(self, operator: str) -> bool:
        """Return whether the operator is configured, wanted, or on some node."""
        return operator in self._machines or operator in self._routes

    def operators(self) -> list[str]:
        return list(self._machines)

    def topology(self) -> wire.Topology:
        return self._topology

    def seen(self) -> dict[str, LastSeen]:
        return self._polling.seen()

    def waiting(self) -> dict[str, str]:
        """Return operator -> why it has no serving primary."""
        return self._waiting

    def history(self) -> list[wire.PromotionRecord]:
        with self._changed:
            return list(self._history)

    def create(self, operators: Iterable[str], deadline_s: float) -> None:
        """Have partitions made for those that have none, and return when all serve.

        Args:
            deadline_s: On the monotonic clock.
        Raises:
            OperatorUnavailable: Not all served in time; the work goes on, asking again is harmless.
        """
        wanted = set(operators)
        with self._changed:
            self._wanted |= wanted
        self._polling.hurry(True)
        self._wake.set()

        def all_serve() -> bool:
            return self._closed or all(operator in self._routes and operator not in self._waiting for operator in wanted)

        with self._changed:
            if self._changed.wait_for(all_serve, max(0.0, deadline_s - time.monotonic())) and not self._closed:
                return
        unserved = [operator for operator in sorted(wanted) if operator in self._waiting or operator not in self._routes]
        reasons = {operator: self._waiting.get(operator, "not looked at yet") for operator in unserved}
        operator, why = next(iter(reasons.items()), ("", "the manager stops"))
        raise OperatorUnavailable(f"{operator}: no primary serves yet: {why}", operator=operator, waiting=reasons)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                self._round()
                self._wake.wait(self._config.heartbeat_ms / 1000)
                self._wake.clear()
        except InvariantBroken:
            log.critical("an invariant is broken in the watch", exc_info=True)
            self._on_fault()
        except Exception:
            log.critical("a fault in the watch", exc_info=True)
            self._on_fault()

    def _round(self) -> None:
        seen = self._polling.seen()
        asked: list[Asked] = []
        # One draw for all: rivals differ, and operators that wait for the same reason go on in the same messages.
        jitter = self._random.random()
        for operator, sighting in self._sightings(seen).items():
            machine = self._machines.get(operator)
            if machine is None:
                config = self._config
                machine = OperatorWatch(operator, self.uuid, heartbeat_ms=config.heartbeat_ms, suspicion_ms=config.suspicion_ms)
                # A copy, as other threads read it: a dictionary must not grow under a reader.
                self._machines = {**self._machines, operator: machine}
            asked += self._tell(operator, failover.Observed(sighting, jitter))
        self._publish(seen)
        self._polling.hurry(any(machine.serving is None for machine in self._machines.values()))
        if not asked:
            return
        operators, began_ms = len({one.operator for one in asked}), self._now_ms()
        try:
            while asked and not self._closed:
                asked = self._carry_out(asked)
        finally:
            self._leases.release_all()
        log.info("acted operators=%s took_ms=%s", operators, self._now_ms() - began_ms)
        self._publish(seen)

    def _sightings(self, seen: Mapping[str, LastSeen]) -> dict[str, Sighting]:
        by_node = {
            node: {partition.operator: partition for partition in last.status.partitions}
            for node, last in seen.items()
            if last.status is not None
        }
        silent = frozenset(node for node, last in seen.items() if last.status is None)
        operators = dict.fromkeys([*self._placement.operators, *sorted(self._wanted), *self._machines])
        for partitions in by_node.values():
            operators.update(dict.fromkeys(partitions))
        return {
            operator: Sighting(
                self._placement.nodes_of(operator), {node: partitions.get(operator) for node, partitions in by_node.items()}, silent
            )
            for operator in operators
        }

    def _tell(self, operator: str, event: failover.Event) -> list[Asked]:
        return [Asked(operator, instruction) for instruction in self._machines[operator].receive(event, self._now_ms())]

    def _carry_out(self, asked: Sequence[Asked]) -> list[Asked]:
        """Carry out each kind of instruction for all operators at once; return what the machines ask for next."""
        following = [
            *self._take_leases(_of(asked, failover.TakeLease)),
            *self._name_stores(_of(asked, failover.NameStores)),
            *self._configure(_of(asked, failover.Configure)),
            *self._ask_promises(_of(asked, failover.AskPromises)),
            *self._name_one(_of(asked, failover.NameOne)),
        ]
        for operator, instruction in asked:
            if isinstance(instruction, failover.Report):
                self._record(operator, instruction)
        return following

    def _take_leases(self, group: Mapping[str, failover.TakeLease]) -> list[Asked]:
        leases = self._leases.take(list(group)) if group else {}
        return [asked for operator, lease in leases.items() for asked in self._tell(operator, failover.LeaseSettled(lease))]

    def _name_stores(self, group: Mapping[str, failover.NameStores]) -> list[Asked]:
        items = {(operator, node): wire.BootstrapItem(operator, {}) for operator, ask in group.items() for node in ask.nodes}
        replies = self._ask("bootstrap", items, wire.BootstrapReply)
        return [asked for operator in group for asked in self._tell(operator, failover.StoresNamed(replies.get(operator, {})))]

    def _configure(self, group: Mapping[str, failover.Configure]) -> list[Asked]:
        items = {(operator, node): wire.BootstrapItem(operator, ask.voters) for operator, ask in group.items() for node in ask.nodes}
        replies = self._ask("bootstrap", items, wire.BootstrapReply)
        return [asked for operator in group for asked in self._tell(operator, failover.Configured(replies.get(operator, {})))]

    def _ask_promises(self, group: Mapping[str, failover.AskPromises]) -> list[Asked]:
        items = {(operator, node): wire.PromiseItem(operator, ask.epoch) for operator, ask in group.items() for node in ask.nodes}
        replies = self._ask("promise", items, wire.PromiseReply)
        return [
            asked
            for operator, ask in group.items()
            for asked in self._tell(operator, failover.PromisesGiven(ask.epoch, replies.get(operator, {})))
        ]

    def _name_one(self, group: Mapping[str, failover.NameOne]) -> list[Asked]:
        items = {(operator, ask.node): ask.item for operator, ask in group.items()}
        replies = self._ask("become", items, wire.BecomeReply)
        following: list[Asked] = []
        for operator, ask in group.items():
            reply = replies.get(operator, {}).get(ask.node)
            epoch = Epoch(*ask.item.epoch)
            following += self._tell(operator, failover.BecomeAnswered(epoch, reply))
        return following

    def _ask(self, method: str, items: Mapping[tuple[str, str], Any], kind: Any) -> dict[str, dict[str, Any]]:
        """Send each node its items in one message, all nodes at once.

        Args:
            items: (operator, node) -> item.
        Returns:
            Operator -> node -> reply; a node that did not answer is missing.
        """
        by_node: dict[str, list[Any]] = {}
        for (_, node), item in items.items():
            if node in self._nodes:
                by_node.setdefault(node, []).append(item)

        def call(node: str) -> Callable[[], list[Any]]:
            return lambda: self._nodes[node].control(method, by_node[node], kind, self._config.node_timeout_ms)

        replies: dict[str, dict[str, Any]] = {}
        for node, answer in self._at_once({node: call(node) for node in by_node}).items():
            if isinstance(answer, HoldfastError):
                log.warning("no answer node=%s method=%s why=%s", node, method, answer.detail)
                continue
            for reply in answer:
                if (reply.operator, node) in items:
                    replies.setdefault(reply.operator, {})[node] = reply
        return replies

    # -- what it found -----------------------------------------------------------------------------------------------

    def _publish(self, seen: Mapping[str, LastSeen]) -> None:
        routes = dict(self._routes)
        for operator, machine in self._machines.items():
            if machine.serving is not None:
                routes[operator] = machine.serving
        waiting = {operator: machine.waiting for operator, machine in self._machines.items() if machine.serving is None}
        for operator in sorted(waiting.keys() - self._waiting.keys()):
            log.info("no primary operator=%s why=%s", operator, waiting[operator])
        for operator in sorted(self._waiting.keys() - waiting.keys()):
            log.info("served operator=%s node=%s", operator, routes[operator].node)
        places = []
        for operator, machine in self._machines.items():
            serving = machine.serving
            primary, epoch = (serving.node, serving.epoch) if serving else ("", EPOCH_NONE)
            places.append(wire.OperatorPlace(operator, machine.nodes(), primary, epoch))
        reachable = [node for node, last in seen.items() if last.status is not None]
        with self._changed:
            self._topology = wire.Topology(list(self._nodes), reachable, places)
            self._waiting = waiting
            if routes != self._routes:
                self._routes = routes
            self._changed.notify_all()

    def _record(self, operator: str, report: failover.Report) -> None:
        log.info("promoted operator=%s node=%s epoch=%s why=%s", operator, report.node, report.epoch.counter, report.why)
        # The wall clock is for people to read; nothing is decided by it.
        record = wire.PromotionRecord(int(time.time() * 1000), operator, report.node, report.epoch, report.why)
        with self._changed:
            self._history.append(record)


def _of(asked: Iterable[Asked], kind: type[Kind]) -> dict[str, Kind]:
    return {one.operator: one.instruction for one in asked if isinstance(one.instruction, kind)}


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
