"""What an administrator may ask of a manager: moves, pauses, nodes, copies, history. Any manager does any of it.

Wishes are written into the cluster's record, on a majority of the nodes, before they are answered; what follows from them
is done by whichever manager sees to an operator next, and goes on whoever dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from datastore import administration as wishes
from datastore import cluster_record, wire
from datastore.cluster_record import DRAINING, LEAVING, MEMBER, PRIMARY, REMOVED
from datastore.errors import HoldfastError, InvalidRequest, NodeUnreachable, nearest, shown
from datastore.rows import ReignRow
from manager import membership
from manager.failover_steps import MoveWanted
from manager.goals import Address
from manager.nodes import NodePlanes, at_once
from manager.spreading import spread
from manager.watch import Watch

ACTIONS = ("add", "remove", "drain", "undrain")


class Administering:
    """Carries out an administrator's wishes."""

    def __init__(self, name: str, watch: Watch, status: Callable[[], wire.ManagerStatus], timeout_ms: int) -> None:
        self._name = name
        self._watch = watch
        self._status = status
        self._timeout_ms = timeout_ms

    def grant(self, wish: wishes.AnyWish, deadline_ms: int) -> Any:
        """Return the answer to a wish, of the type in `administration.ANSWERS`.

        Raises:
            InvalidRequest: It names what is not there, or cannot be; nothing was changed.
            QuorumLost: Too few nodes could write it down; asking again is harmless.
        """
        match wish:
            case wishes.MovePrimaries():
                return self._move(wish, deadline_ms)
            case wishes.PauseFailover():
                value: dict[str, Any] = {"by": wish.by, "why": wish.why} if wish.paused else {}
                return self._watch.roster.write({cluster_record.PAUSE: value}, self._name)
            case wishes.ChangeNode():
                return self._change_node(wish)
            case wishes.LookAtNode():
                self._watch.roster.goals.nodes.get(wish.name) or self._watch.roster.goals.require(wish.name)
                return self._report(wish.name)
            case wishes.PlaceCopies():
                self._require_operators([wish.operator])
                return self._watch.roster.write(self._watch.roster.goals.lines_to_place(wish.operator, wish.nodes), self._name)
            case wishes.PlanSpread():
                return self._plan_spread()
            case wishes.AskHistory():
                return self._history(wish)
            case wishes.RecoverCopies():
                return self._recover(wish, deadline_ms)
            case wishes.LookAtCluster():
                return self._status()

    def _move(self, wish: wishes.MovePrimaries, deadline_ms: int) -> list[wishes.Moved]:
        goals = self._watch.roster.goals
        self._require_operators([move.operator for move in wish.moves])
        if len({move.operator for move in wish.moves}) < len(wish.moves):
            raise InvalidRequest("an operator was named twice", field="moves")
        for move in wish.moves:
            if move.node:
                goals.require(move.node)
                if move.node in goals.unfit and not move.force:
                    raise InvalidRequest(f"{move.node} is {goals.nodes[move.node].state}: it should lead nothing", field="node")
        leads = None
        if len(wish.moves) == 1 and not wish.moves[0].force:
            leads = self._leads_already(wish.moves[0])
            if leads is not None and not wish.prefers:
                raise InvalidRequest(f"{leads.operator}: {leads.after} leads it already; nothing was changed", field="node")
        if wish.prefers:
            self._watch.roster.write({PRIMARY + move.operator: {"node": move.node} for move in wish.moves if move.node}, self._name)
            if leads is not None:
                return [leads]
        by = wish.by or "administrator"
        moves = {one.operator: MoveWanted(one.node, one.force, wish.why, f"{by} at {self._name}") for one in wish.moves}
        return self._watch.move(moves, time.monotonic() + deadline_ms / 1000)

    def _leads_already(self, move: wishes.Move) -> wishes.Moved | None:
        """Return what there is to say where the node named leads already, None where there is something to do.

        Raises:
            InvalidRequest: That node keeps no voting copy; nothing is written down.
        """
        place, serving = self._watch.places().get(move.operator), self._watch.routes().get(move.operator)
        if not move.node or place is None or not place.voters:
            return None
        if move.node not in place.voters:
            have = f"{', '.join(sorted(place.voters))} have; for one there: holdfast operator place {move.operator} …"
            raise InvalidRequest(f"{move.operator}: {move.node} has no voting copy; {have}", field="node", nearest=sorted(place.voters))
        if serving is None or place.leader != move.node:
            return None
        return wishes.Moved(move.operator, move.node, move.node, serving.epoch.counter)

    def _change_node(self, wish: wishes.ChangeNode) -> wishes.NodeReport:
        goals, copies = self._watch.roster.goals, self._watch.copies()
        if wish.action == "add":
            if not wish.name or not wish.host or not 1 <= wish.port <= 65_535:
                raise InvalidRequest("a node needs a name, a host and a port within 1..65535", field="port")
            lines = goals.lines_to_add(wish.name, Address(wish.host, wish.port), copies)
        elif wish.action == "remove":
            lines = goals.lines_to_remove(wish.name, copies)
        elif wish.action in ("drain", "undrain"):
            lines = goals.lines_to_drain(wish.name, wish.action == "drain")
        else:
            raise InvalidRequest(f"{shown(wish.action)} is none of {', '.join(ACTIONS)}", field="action")
        self._watch.roster.write(lines, self._name)
        self._watch.look_again()
        return self._report(wish.name)

    def _report(self, name: str) -> wishes.NodeReport:
        state = self._watch.roster.goals.nodes[name].state
        changing, left = self._watch.changing(), {}
        for operator, place in self._watch.places().items():
            undone = {
                MEMBER: name in place.wanted and name not in place.voters,
                DRAINING: place.leader == name,
                LEAVING: name in place.voters or place.leader == name,
                REMOVED: False,
            }[state]
            if undone:
                left[operator] = changing.get(operator) or self._watch.waiting().get(operator) or "waits for its turn"
        return wishes.NodeReport(name, state, left, done=not left and state != LEAVING)

    def _plan_spread(self) -> list[wishes.Move]:
        goals, found = self._watch.roster.goals, self._watch.known_copies()
        leaders = {operator: copies.leader for operator, copies in found.items()}
        heirs = {operator: membership.heirs(copies) for operator, copies in found.items()}
        return spread(leaders, heirs, {operator: goals.preferred(operator) for operator in found})

    def _history(self, wish: wishes.AskHistory) -> wishes.History:
        """Ask all nodes and return, for each operator, what the one that has most of its log says."""
        if wish.operator:
            self._require_operators([wish.operator])
        payload = wire.encode(wishes.HistoryRequest([wish.operator] if wish.operator else [], wish.limit))
        seen, nodes = self._watch.seen(), self._watch.roster.nodes

        def call(node: NodePlanes) -> Callable[[], wishes.History]:
            return lambda: wire.decode(wishes.History, node.call("history", payload, self._timeout_ms))

        found: dict[str, list[ReignRow]] = {}
        for answer in at_once({name: call(nodes[name]) for name, last in seen.items() if last.status is not None}).values():
            if isinstance(answer, HoldfastError):
                continue
            for operator, rows in answer.items():
                if rows and (operator not in found or rows[-1].lsn > found[operator][-1].lsn):
                    found[operator] = rows
        return found

    def _recover(self, wish: wishes.RecoverCopies, deadline_ms: int) -> Any:
        """Pass the wish to its node, which knows what it has, from whom it could take it, and how far it is.

        Raises:
            InvalidRequest: The node does not run, so nothing can be begun there.
            NodeUnreachable, OutcomeUnknown: The node does not answer any more; asking again is harmless.
        """
        name = wish.ask.node
        self._watch.roster.goals.require(name)
        node = self._watch.roster.nodes[name]
        try:
            answer = node.call("recover", wire.encode(wish.ask), deadline_ms)
        except NodeUnreachable as error:
            if wish.ask.action != "plan":
                raise  # Begun already: who waits for it waits until it is back.
            # Whoever asks again asks in vain: it is to be started first, and may then bring back by itself what it lost.
            reason = f"{name} does not run: start it first, then look at: holdfast cluster status ({error.detail})"
            raise InvalidRequest(reason, field="node") from error
        return wire.decode(wishes.ANSWERS[type(wish)], answer)

    def _require_operators(self, operators: list[str]) -> None:
        known = self._watch.operators()
        for operator in operators:
            if operator not in known:
                near = nearest(operator, known)
                hint = f"; did you mean {', '.join(near)}?" if near else "; see: holdfast operator list"
                raise InvalidRequest(f"no operator {shown(operator)}{hint}", field="operator", nearest=near)


def addresses(nodes: Mapping[str, NodePlanes]) -> dict[str, str]:
    """Return node -> where it listens."""
    return {name: str(node.address) for name, node in nodes.items()}
