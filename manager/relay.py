"""Carries batches from balancers to primaries and back, through promotions, until an answer or the deadline.

Nothing here is done per request: a message holds one item for each operator, and an item's commands and outcomes pass
through as bytes that nobody opens. A message to one node, the common case, is carried by the caller's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

from datastore import wire
from datastore.errors import HoldfastError, OperatorUnavailable, UnknownOperator, nearest, shown
from manager.nodes import at_once
from manager.roster import Roster
from manager.routing import ATTEMPT_MIN_MS, Again, Delivery, Item, Method, error_in, innermost
from manager.watch import Watch

# What the way back to the balancer may take: an answer that comes after the deadline is no answer.
RETURN_MS = 10
# An operator that the twin manager made a moment ago is known here after the next look at the nodes.
NEWS_FACTOR = 3

class Relay(Generic[Item]):
    """Delivers messages of one method. Any number of threads may share it."""

    _at_once = staticmethod(at_once)  # The simulator has threads of its own.

    def __init__(
        self,
        method: Method,
        roster: Roster,
        watch: Watch,
        *,
        heartbeat_ms: int,
        attempt_ms: int,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """Prepare.

        Args:
            now_ms: The monotonic clock in milliseconds; the simulator gives its own.
        """
        self._now_ms = now_ms or _now_ms
        self._method = method
        self._roster = roster
        self._watch = watch
        self._heartbeat_ms = heartbeat_ms
        self._attempt_ms = attempt_ms

    def deliver(self, items: Sequence[Item], deadline_ms: int) -> list[Any]:
        """Return one result for each item, in order, by the deadline; what failed has its error in its result.

        Args:
            deadline_ms: How long the balancer waits, from now.
        """
        method = self._method
        due_ms = self._now_ms() + deadline_ms - RETURN_MS
        deliveries = [
            Delivery(item.operator, deadline_ms=due_ms, attempt_ms=self._attempt_ms, writes=method.writes) for item in items
        ]
        results: list[Any] = [None] * len(items)
        hints: dict[int, str] = {}
        pending = list(range(len(items)))
        while pending:
            routes = self._watch.routes()
            groups: dict[str, list[int]] = {}
            failures: list[tuple[int, str, HoldfastError]] = []
            for index in pending:
                operator = items[index].operator
                route = routes.get(operator)
                node = hints.pop(index, "") or (route.node if route else "")
                if node in self._roster.nodes and deliveries[index].timeout_ms(self._now_ms()) >= ATTEMPT_MIN_MS:
                    groups.setdefault(node, []).append(index)
                else:
                    failures.append((index, "", self._nowhere(operator, node, due_ms)))
            for node, (indexes, outcome) in self._attempt(items, deliveries, groups).items():
                for position, index in enumerate(indexes):
                    error = outcome if isinstance(outcome, HoldfastError) else error_in(outcome, position, items[index].operator)
                    if error is None:
                        results[index] = outcome[position]
                    else:
                        failures.append((index, node, error))
            pending, pause_ms = [], 0
            for index, node, error in failures:
                verdict = deliveries[index].failed(error, node, self._now_ms())
                if isinstance(verdict, Again):
                    pending.append(index)
                    hints[index] = verdict.node
                    pause_ms = max(pause_ms, verdict.pause_ms)
                else:
                    results[index] = method.failure(items[index].operator, verdict)
            if pending and pause_ms:
                self._watch.wait_for_change(routes, pause_ms)
        return results

    def _attempt(
        self, items: Sequence[Item], deliveries: Sequence[Delivery], groups: Mapping[str, list[int]]
    ) -> dict[str, tuple[list[int], Any]]:
        """Send each node its part, all at once; return node -> (indexes, results or the error of the whole message)."""
        now_ms = self._now_ms()

        def call(node: str, indexes: list[int]) -> Callable[[], Any]:
            payload = wire.encode([items[index] for index in indexes])
            timeout_ms = min(deliveries[index].timeout_ms(now_ms) for index in indexes)
            kind = self._method.results
            return lambda: wire.decode(kind, self._roster.nodes[node].call(self._method.name, payload, timeout_ms))

        answers = self._at_once({node: call(node, indexes) for node, indexes in groups.items()})
        return {node: (groups[node], answer) for node, answer in answers.items()}

    def _nowhere(self, operator: str, node: str, due_ms: int) -> HoldfastError:
        """Return why nobody can be asked now."""
        if not node and not self._watch.knows(operator):
            known = self._watch.operators()
            # Only who has seen every node can say that an operator does not exist.
            if all(last.status is not None for last in self._watch.seen().values()) and self._looked_again(operator, due_ms):
                found = nearest(operator, known)
                detail = f"no operator {shown(operator)}" + (f"; did you mean {', '.join(found)}?" if found else "")
                return UnknownOperator(detail, operator=shown(operator), nearest=found)
            return OperatorUnavailable(f"{shown(operator)} is not known here, and not all nodes answer", operator=shown(operator))
        why = self._watch.waiting().get(operator) or ("no time is left" if node else "no primary is known")
        return OperatorUnavailable(f"{operator}: {innermost(operator, why)}", operator=operator)

    def _looked_again(self, operator: str, due_ms: int) -> bool:
        """Wait for the nodes' next answers; return whether the operator is still unknown."""
        until_ms = min(due_ms, self._now_ms() + NEWS_FACTOR * self._heartbeat_ms)
        while not self._watch.knows(operator) and self._now_ms() < until_ms:
            self._watch.wait_for_change(self._watch.routes(), until_ms - self._now_ms())
        return not self._watch.knows(operator)


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
