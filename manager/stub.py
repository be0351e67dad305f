"""The caller's half of the managers: what a load balancer uses.

Any manager can carry any message, and every command carries a request_id, so a message that got no answer from one
manager goes to its twin with the same bytes while the deadline lasts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from datastore import administration, wire, wire_ledger
from datastore.edge import Address, EdgeClient, EdgeLimits, Tls
from datastore.errors import HoldfastError, NodeUnreachable, OperatorUnavailable, OutcomeUnknown
from datastore.stub import NODE_LIMITS
from manager.routing import READ, SUBMIT, Again, Delivery, Item, Method, error_in

# A manager that froze must not use up the whole deadline while its twin is well: the first try gets this long, each
# further one twice as long, as the work may just be large or a promotion under way.
TRY_FIRST_MS = 3_000
# A manager is told to be done this much before we stop waiting for it: on a loaded machine a sure "not done" that comes
# a moment too late would become a doubt.
RETURN_MS = 100
PAUSE_MS = 25
CONNECT_MS = 300
CONTROL_TIMEOUT_MS = 2_000
FEED_MARGIN_MS = 2_500
SNAPSHOT_TIMEOUT_MS = 12_000
CHECK_TIMEOUT_MS = 15_000

Value = TypeVar("Value")


class ManagerStub:
    """Asks the managers at `addresses`, the one that answered last first. Any number of threads may share it."""

    def __init__(self, addresses: Sequence[Address], *, tls: Tls | None = None, limits: EdgeLimits = NODE_LIMITS) -> None:
        if not addresses:
            raise ValueError("no manager's address is given")
        # A question that waits for news keeps its connection for as long; it must not hold one that a batch needs.
        self._clients, self._feeds = (
            [EdgeClient(address, plane=plane, tls=tls, role="manager", limits=limits, connect_ms=CONNECT_MS) for address in addresses]
            for plane in ("client", "feed")
        )
        self._preferred = 0
        self._now_ms = _now_ms
        self._closed = threading.Event()

    @property
    def addresses(self) -> list[Address]:
        """Where the managers listen, in the order given."""
        return [client.address for client in self._clients]

    def submit(self, items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        """Have each operator's primary decide its commands; return one result for each item, in order.

        What fails is said in each result's `error`: OperatorUnavailable where surely nothing was done, OutcomeUnknown where it
        may have been (ask again with the same request_ids), or what the partition answered.

        Args:
            deadline_ms: How long the caller waits, from now.
        Raises:
            InvalidRequest: The message is too large for a frame, or the deadline is out of bounds; nothing was done.
        """
        return self._deliver(SUBMIT, items, deadline_ms)

    def read(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        """Ask each operator's primary; return one result for each item, in order; errors as with `submit`."""
        return self._deliver(READ, items, deadline_ms)

    def feed(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        """Ask one node for what is committed after the given positions; waits for news as long as the request says.

        Raises:
            NodeUnreachable: The node, or every manager, cannot be reached: follow another node.
            OutcomeUnknown: No answer in time; asking again is harmless.
        """
        payload, timeout_ms = wire.encode(request), request.wait_ms + FEED_MARGIN_MS
        parts: list[wire.FeedPart] = wire.decode(list[wire.FeedPart], self._ask_any(self._feeds, "feed", payload, timeout_ms))
        return parts

    def snapshot(self, request: wire.SnapshotRequest) -> wire.SnapshotPage:
        """Ask one node for a page of an operator's rows. Raises as `feed` does."""
        reply = self._ask_any(self._feeds, "snapshot", wire.encode(request), SNAPSHOT_TIMEOUT_MS)
        page: wire.SnapshotPage = wire.decode(wire.SnapshotPage, reply)
        return page

    def topology(self) -> wire.Topology:
        """Return the nodes and where each operator is, as one manager saw it last. Raises as `feed` does."""
        topology: wire.Topology = wire.decode(wire.Topology, self._ask_any(self._clients, "topology", b"", CONTROL_TIMEOUT_MS))
        return topology

    def status(self) -> wire.ManagerStatus:
        """Return what one manager sees. Raises as `feed` does."""
        status: wire.ManagerStatus = wire.decode(wire.ManagerStatus, self._ask_any(self._clients, "status", b"", CONTROL_TIMEOUT_MS))
        return status

    def statuses(self) -> dict[Address, wire.ManagerStatus | str]:
        """Return what each manager sees, asked one by one, or why it does not answer."""
        found: dict[Address, wire.ManagerStatus | str] = {}
        for client in self._clients:
            try:
                found[client.address] = wire.decode(wire.ManagerStatus, client.call("status", b"", CONTROL_TIMEOUT_MS))
            except (NodeUnreachable, OutcomeUnknown) as error:
                found[client.address] = error.detail
        return found

    def create_operators(
        self, operators: Sequence[str], deadline_ms: int, nodes: Mapping[str, Sequence[str]] | None = None
    ) -> wire.Topology:
        """Make partitions for those that have none and wait until all serve; asking again is harmless.

        Args:
            nodes: Operator -> the nodes of its own; the others are placed by the managers.

        Raises:
            OperatorUnavailable: Not all serve in time; the detail says what is waited for.
            InvalidRequest: Not an operator's code.
            NodeUnreachable, OutcomeUnknown: No manager answered in time.
        """
        message = wire.CreateOperators(list(operators), {operator: list(names) for operator, names in (nodes or {}).items()})
        topology: wire.Topology = self._until(
            deadline_ms,
            lambda client, try_ms: wire.decode(
                wire.Topology, client.call("create_operators", wire.encode((_budget_ms(try_ms), message)), try_ms)
            ),
        )
        return topology

    def wish(self, wish: administration.AnyWish, deadline_ms: int) -> Any:
        """Return the answer to an administrator's wish, of the type in `administration.ANSWERS`. Raises as `administer` does."""
        return wire.decode(administration.ANSWERS[type(wish)], self.administer(wire.encode(wish), deadline_ms))

    def administer(self, wish: bytes, deadline_ms: int) -> bytes:
        """Pass an administrator's wish to a manager; return its answer, unopened. See `datastore.administration`.

        What may have begun is not asked of another manager: whoever wished it looks and asks again.

        Raises:
            InvalidRequest, QuorumLost: The manager's answer. NodeUnreachable, OutcomeUnknown: No manager answered.
        """
        deadline = time.monotonic() + deadline_ms / 1000
        step = 0
        while True:
            client = self._clients[(self._preferred + step) % len(self._clients)]
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            try:
                return client.call("administer", wire.encode((_budget_ms(left_ms), msgspec.Raw(wish))), left_ms)
            except NodeUnreachable:
                # Nothing was handed over; managers that are just starting are waited for.
                step += 1
                if deadline - time.monotonic() <= 2 * PAUSE_MS / 1000 or self._closed.is_set():
                    raise
            if step % len(self._clients) == 0:
                self._closed.wait(PAUSE_MS / 1000)

    def check(self, items: Sequence[wire_ledger.CheckItem]) -> wire_ledger.CopiesChecked:
        """Return what every node says of the operators' copies (all operators where `items` is empty). Raises as `feed` does."""
        message = wire.encode(wire_ledger.CheckCopies(list(items)))
        found: wire_ledger.CopiesChecked = wire.decode(
            wire_ledger.CopiesChecked, self._ask_any(self._feeds, "check", message, CHECK_TIMEOUT_MS)
        )
        return found

    def ledger(self, request: wire_ledger.LedgerRequest) -> list[bytes]:
        """Return committed entries as the primary's node has them, sealed. Raises as `feed` does."""
        found: list[bytes] = wire.decode(list[bytes], self._ask_any(self._feeds, "ledger", wire.encode(request), SNAPSHOT_TIMEOUT_MS))
        return found

    def close(self) -> None:
        """Close the connections; calls in flight end as they may."""
        self._closed.set()
        for client in (*self._clients, *self._feeds):
            client.close()

    def _deliver(self, method: Method, items: Sequence[Item], deadline_ms: int) -> list[Any]:
        """Return one result for each item; those that failed for want of a place or an answer are sent again meanwhile."""
        due_ms = self._now_ms() + deadline_ms
        deliveries = [Delivery(one.operator, deadline_ms=due_ms, attempt_ms=TRY_FIRST_MS, writes=method.writes) for one in items]
        results: list[Any] = [None] * len(items)
        pending = list(range(len(items)))
        index = self._preferred
        while pending:
            try_ms = max(1, min(deliveries[one].timeout_ms(self._now_ms()) for one in pending))
            answers: list[Any] | HoldfastError
            try:
                payload = wire.encode((_budget_ms(try_ms), [items[one] for one in pending]))
                answers = wire.decode(method.results, self._clients[index].call(method.name, payload, try_ms))
                self._preferred = index
            except (NodeUnreachable, OutcomeUnknown) as error:
                answers = error
            again, pause_ms = [], 0
            for position, one in enumerate(pending):
                error_found = answers if isinstance(answers, HoldfastError) else error_in(answers, position, items[one].operator)
                if error_found is None:
                    results[one] = answers[position]  # type: ignore[index]  # Not an error: one was told above.
                    continue
                # Who was asked is a manager, so a hint at a node leads nowhere from here.
                verdict = deliveries[one].failed(error_found, "" if isinstance(error_found, NodeUnreachable) else "manager", self._now_ms())
                if isinstance(verdict, Again):
                    again.append(one)
                    pause_ms = max(pause_ms, verdict.pause_ms)
                else:
                    results[one] = method.failure(items[one].operator, verdict)
            pending = again
            index = (index + 1) % len(self._clients)
            if pending and index == self._preferred:
                self._closed.wait(pause_ms / 1000)
        return results

    def _until(self, deadline_ms: int, attempt: Callable[[EdgeClient, int], Value]) -> Value:
        """Return the first answer, trying manager after manager until the deadline."""
        deadline = time.monotonic() + deadline_ms / 1000
        unknown: OutcomeUnknown | None = None
        start = self._preferred
        tries = 0
        sent = 0
        while True:
            index = (start + tries) % len(self._clients)
            left_ms = int((deadline - time.monotonic()) * 1000)
            # The last one there is may have all the time.
            try_ms = left_ms if len(self._clients) == 1 else min(left_ms, TRY_FIRST_MS << min(sent, 8))
            try:
                answer = attempt(self._clients[index], max(1, try_ms))
                self._preferred = index
                return answer
            except NodeUnreachable as error:
                failure: NodeUnreachable | OutcomeUnknown | OperatorUnavailable = error
            except OutcomeUnknown as error:
                failure = unknown = error
                sent += 1
            except OperatorUnavailable as error:
                failure = error
                sent += 1
            tries += 1
            left_s = deadline - time.monotonic()
            if left_s <= 2 * RETURN_MS / 1000 or self._closed.is_set():
                # One try without an answer leaves the whole in doubt, whatever later tries met.
                raise unknown or failure
            if tries % len(self._clients) == 0:
                self._closed.wait(min(PAUSE_MS / 1000, left_s))

    def _ask_any(self, clients: Sequence[EdgeClient], method: str, payload: bytes, timeout_ms: int) -> bytes:
        """Return the first manager's answer; a question that changes nothing goes on to the next one after any failure."""
        start = self._preferred
        failure: NodeUnreachable | OutcomeUnknown | None = None
        for step in range(len(clients)):
            index = (start + step) % len(clients)
            try:
                return clients[index].call(method, payload, timeout_ms)
            except (NodeUnreachable, OutcomeUnknown) as error:
                failure = error
        assert failure is not None
        raise failure


def _budget_ms(try_ms: int) -> int:
    """Return how long the manager may take so that its answer is back within `try_ms`."""
    return max(1, try_ms - min(RETURN_MS, try_ms // 4))


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
