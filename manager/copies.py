"""What all copies of operators say of themselves: asked of every node at once, for checks and exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datastore import wire, wire_ledger
from datastore.errors import HoldfastError, OperatorUnavailable, shown
from manager.nodes import at_once
from manager.roster import Roster
from manager.watch import Watch

# A copy writes all its staged rows before it tells its digest, one operator after the other.
CHECK_MS = 10_000
LEDGER_MS = 8_000


class Copies:
    """Asks the nodes. Any number of threads may share it."""

    def __init__(self, roster: Roster, watch: Watch) -> None:
        self._roster = roster
        self._watch = watch

    def check(self, items: Sequence[wire_ledger.CheckItem]) -> wire_ledger.CopiesChecked:
        """Ask every node of the operators for their copies; all operators where `items` is empty."""
        places = {place.operator: place for place in self._watch.topology().operators}
        items = items or [wire_ledger.CheckItem(operator) for operator in places]
        by_node: dict[str, list[wire_ledger.CheckItem]] = {}
        for item in items:
            for node in places[item.operator].nodes if item.operator in places else ():
                by_node.setdefault(node, []).append(item)

        nodes = self._roster.nodes

        def call(node: str) -> Callable[[], list[wire_ledger.CheckReply]]:
            return lambda: nodes[node].control("check", by_node[node], wire_ledger.CheckReply, CHECK_MS)

        checked = wire_ledger.CopiesChecked([], {})
        for node, answer in at_once({node: call(node) for node in by_node if node in nodes}).items():
            if isinstance(answer, HoldfastError):
                checked.silent[node] = answer.detail
            else:
                checked.replies += answer
        return checked

    def ledger(self, request: wire_ledger.LedgerRequest) -> bytes:
        """Return a page of a ledger from the operator's primary, unopened.

        Raises:
            OperatorUnavailable: It has none now.
        """
        route = self._watch.routes().get(request.operator)
        node = self._roster.nodes.get(route.node) if route is not None else None
        if node is None:
            raise OperatorUnavailable(f"{shown(request.operator)} has no primary to export from", operator=shown(request.operator))
        asked = wire_ledger.EntriesRequest(request.operator, request.from_lsn, request.limit)
        return node.call("entries", wire.encode(asked), LEDGER_MS)
