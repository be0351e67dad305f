"""Keeps the views up to date: one feed for each data node, through the managers, carrying all operators followed there.

An operator is followed at its primary, where news is first, and at another of its nodes while that one does not answer,
is behind, or hears no primary itself (Z14). Whatever a feed cannot continue from begins anew with a snapshot, which
replaces the view whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from datastore import wire
from datastore.errors import HoldfastError, UnknownOperator
from datastore.stub import FEED_BYTES, feed_bytes
from loadbalancer.view import Catalogue, OperatorView

TOPOLOGY_EVERY_MS = 1_000
# A node that failed to answer, or was behind, is left out for an operator this long while another can be asked.
AVOID_MS = 2_000
PAUSE_S = 0.1
# After news a feed waits this long before it asks for more, unless somebody waits for a view: at hundreds of entries a
# second each question would bring one, and cost every tier between as much as the sale itself.
GATHER_S = 0.03
SNAPSHOT_ROWS = 5_000

log = logging.getLogger(__name__)


class FeedSource(Protocol):
    """What following needs of the managers."""

    def feed(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        """Return what is committed after the positions given; waits for news up to `request.wait_ms`."""
        ...

    def snapshot(self, request: wire.SnapshotRequest) -> wire.SnapshotPage:
        """Return a page of an operator's rows."""
        ...

    def topology(self) -> wire.Topology:
        """Return every operator's nodes."""
        ...


class Follower:
    """Follows every operator into `catalogue`, from threads of its own: one a node, and one that assigns."""

    def __init__(self, catalogue: Catalogue, source: FeedSource, *, wait_ms: int) -> None:
        self._catalogue = catalogue
        catalogue.expected = None  # Until the managers have told.
        self._source = source
        self._wait_ms = wait_ms
        self._moved = threading.Condition()
        self._waiting = 0  # callers who wait for a view; guarded by `_moved`
        self._closing = threading.Event()
        self._refresh = threading.Event()
        self._mutex = threading.Lock()  # guards what follows
        self._assigned: dict[str, str] = {}  # operator -> node
        self._avoided: dict[tuple[str, str], int] = {}  # (operator, node) -> until when, monotonic
        self._nodes: dict[str, threading.Thread] = {}
        self._spoilt: set[str] = set()  # operators whose views met a fault: callers keep the old one until the new is whole
        self._nodes_of: dict[str, tuple[str, ...]] = {}  # operator -> its nodes, best first

    def start(self) -> None:
        """Start following."""
        threading.Thread(target=self._assign_always, name="feeds", daemon=True).start()

    def close(self) -> None:
        """Stop; feeds under way end with their wait."""
        self._closing.set()
        self._refresh.set()
        with self._moved:
            self._moved.notify_all()

    def refresh(self) -> None:
        """Look for new operators now instead of within a second."""
        self._refresh.set()

    def wait_for(self, operator: str, lsn: int, wait_ms: int) -> bool:
        """Return whether the operator's view has reached `lsn`, waiting for it up to `wait_ms` (Z14)."""
        if self._lsn(operator) >= lsn:
            return True
        deadline = time.monotonic() + wait_ms / 1000
        with self._moved:
            self._waiting += 1
            while (reached := self._lsn(operator)) < lsn and (left := deadline - time.monotonic()) > 0:
                self._moved.wait(left)
            self._waiting -= 1
        return reached >= lsn

    def wait_for_news(self, is_news: Callable[[], bool], wait_ms: int) -> bool:
        """Return whether `is_news`, asked again each time that some view has moved, came true within `wait_ms`.

        Unlike `wait_for` this is nobody's own write: feeds go on gathering as if nobody waited.
        """
        deadline = time.monotonic() + wait_ms / 1000
        with self._moved:
            while not (found := is_news()) and (left := deadline - time.monotonic()) > 0 and not self._closing.is_set():
                self._moved.wait(left)
        return found

    def _lsn(self, operator: str) -> int:
        view = self._catalogue.operators.get(operator)
        return view.lsn if view is not None else -1

    # --- who is followed where ----------------------------------------------------------------------------------

    def _assign_always(self) -> None:
        while not self._closing.is_set():
            try:
                self._assign(self._source.topology())
            except HoldfastError as error:
                log.warning("feeds: no topology code=%s detail=%s", error.code, error.detail)
            self._refresh.wait(TOPOLOGY_EVERY_MS / 1000)
            self._refresh.clear()

    def _assign(self, topology: wire.Topology) -> None:
        now = now_ms()
        # A manager that has just started has heard of few nodes, and so of few operators: a majority of the nodes has a copy of
        # every operator that can serve.
        if self._catalogue.expected is not None or 2 * len(topology.reachable) > len(topology.nodes):
            told = frozenset(place.operator for place in topology.operators)
            self._catalogue.expected = told | (self._catalogue.expected or frozenset())
        with self._mutex:
            self._avoided = {pair: until for pair, until in self._avoided.items() if until > now}
            for place in topology.operators:
                reachable = [node for node in place.nodes if node in topology.reachable]
                first = [place.primary] if place.primary in reachable else []
                self._nodes_of[place.operator] = tuple(dict.fromkeys((*first, *reachable, *place.nodes)))
                self._choose(place.operator)
            for node in set(self._assigned.values()) - self._nodes.keys():
                thread = threading.Thread(target=self._follow, args=(node,), name=f"feed-{node}", daemon=True)
                self._nodes[node] = thread
                thread.start()

    def _choose(self, operator: str) -> None:
        nodes = self._nodes_of[operator]
        willing = [node for node in nodes if (operator, node) not in self._avoided] or nodes
        if willing:
            self._assigned[operator] = willing[0]

    def _avoid(self, operators: Sequence[str], node: str) -> None:
        with self._mutex:
            for operator in operators:
                self._avoided[operator, node] = now_ms() + AVOID_MS
                self._choose(operator)
        self._refresh.set()

    # --- one node's feed ----------------------------------------------------------------------------------------

    def _follow(self, node: str) -> None:
        while not self._closing.is_set():
            with self._mutex:
                operators = [operator for operator, assigned in self._assigned.items() if assigned == node]
            if not operators:
                self._closing.wait(PAUSE_S)
                continue
            try:
                self._follow_once(node, operators)
            except HoldfastError as error:
                log.warning("feeds: node=%s does not answer code=%s detail=%s", node, error.code, error.detail)
                self._avoid(operators, node)
                self._closing.wait(PAUSE_S)
            except Exception:
                # A view that cannot take a row would be wrong from here on: begin those operators anew.
                log.exception("feeds: node=%s: a row cannot be applied; beginning anew", node)
                self._spoilt.update(operators)
                self._closing.wait(PAUSE_S)

    def _follow_once(self, node: str, operators: Sequence[str]) -> None:
        for operator in operators:
            if operator not in self._catalogue.operators or operator in self._spoilt:
                self._try_to_begin(node, operator)
        operators = [operator for operator in operators if operator not in self._spoilt]
        views = {operator: view for operator in operators if (view := self._catalogue.operators.get(operator)) is not None}
        if not views:
            self._closing.wait(PAUSE_S)
            return
        after = {operator: (view.lsn, view.hash) for operator, view in views.items()}
        parts = self._source.feed(wire.FeedRequest(node, after, self._wait_ms))
        behind = []
        moved = False
        now = now_ms()
        for part in parts:
            view = views.get(part.operator)
            if view is None:
                continue
            if part.status == "ok":
                moved = self._apply(view, part, after[part.operator], now) or moved
            elif part.status == "snapshot_needed":
                self._try_to_begin(node, part.operator)
            else:
                behind.append(part.operator)
        # Silence about an operator is an answer too: the node had nothing after the position that it was asked from.
        # Unless the answer was cut for its size: then the rest comes with the next.
        if sum(map(feed_bytes, parts)) <= FEED_BYTES:
            for operator in views.keys() - {part.operator for part in parts}:
                views[operator].heard_ms = now
        if parts:
            with self._moved:
                self._moved.notify_all()
        if behind:
            self._avoid(behind, node)
        if behind and not moved:
            self._closing.wait(PAUSE_S)
        elif moved and not self._waiting:
            self._closing.wait(GATHER_S)

    def _apply(self, view: OperatorView, part: wire.FeedPart, after: tuple[int, bytes], now: int) -> bool:
        """Move a view on from where its node was asked, `after`; return whether it moved.

        An answer may come so late that the operator has been followed at another node meanwhile, by its thread: then the view is ahead,
        and rows of long ago would stay in it for good.
        """
        with view.guard:
            if (view.lsn, view.hash) != after:
                return False
            view.apply(part.events)
            view.lsn, view.hash = part.lsn, part.hash
        view.stamp_ms = max(view.stamp_ms, part.stamp_ms)
        view.heard_ms = now
        return bool(part.events)

    def _try_to_begin(self, node: str, operator: str) -> None:
        """Begin one operator anew; if this node cannot tell of it, another is asked, and the node's others go on."""
        try:
            self._begin(node, operator)
        except UnknownOperator:
            # At a start a view may ask before the manager has founded the partition there; the next round finds it.
            log.info("feeds: operator=%s is not at node=%s yet", operator, node)
            self._avoid([operator], node)
        except HoldfastError as error:
            log.warning("feeds: operator=%s cannot begin at node=%s code=%s detail=%s", operator, node, error.code, error.detail)
            self._avoid([operator], node)

    def _begin(self, node: str, operator: str) -> None:
        """Fill a new view from a snapshot. Pages are taken while the log goes on: changes since the first page follow by feed."""
        view = self._catalogue.new_view(operator)
        after: tuple[int, str] | None = (0, "")
        first = True
        while after is not None:
            page = self._source.snapshot(wire.SnapshotRequest(node, operator, after, SNAPSHOT_ROWS))
            if first:
                view.lsn, view.hash, view.stamp_ms = page.lsn, page.hash, page.stamp_ms
                first = False
            view.apply(page.rows)
            after = page.next
        view.heard_ms = now_ms()
        self._catalogue.put(view)
        self._spoilt.discard(operator)
        log.info("feeds: operator=%s begun at node=%s lsn=%d schedules=%d", operator, node, view.lsn, len(view.timetable.schedules))
        with self._moved:
            self._moved.notify_all()


def now_ms() -> int:
    """Return the monotonic clock in whole milliseconds."""
    return time.monotonic_ns() // 1_000_000
