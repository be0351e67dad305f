"""What the cluster is wanted to be: cluster.toml with the cluster's record laid over it. Pure.

cluster.toml says which nodes and operators there are at the start; the record (`datastore.cluster_record`) what was changed
since. Where an operator's copies *are* is in its own log alone (Z16); here is only where they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from datastore import cluster_record
from datastore.cluster_record import DRAINING, LEAVING, MEMBER, REMOVED, ClusterRecord, Note
from datastore.errors import InvalidRequest, nearest, shown
from manager.placement import Placement


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Member(NamedTuple):
    """A node of the cluster, removed ones included. `state`: see `datastore.cluster_record`."""

    address: Address
    state: str


@dataclass(frozen=True)
class Goals:
    """The nodes and where copies and primaries are wanted. Never changed, so what follows from it is worked out once.

    Attributes:
        base: The nodes of cluster.toml.
        primaries: Operator -> its configured primary.
        copies: How many nodes keep an operator that is new.
        base_ms: When cluster.toml was written, by the wall clock: where it is newer than a node's line, its address counts.
    """

    base: Mapping[str, Address]
    primaries: Mapping[str, str]
    copies: int
    record: ClusterRecord = field(default_factory=dict)
    base_ms: int = 0

    def with_record(self, record: Mapping[str, Note]) -> Goals:
        return Goals(self.base, self.primaries, self.copies, dict(record), self.base_ms)

    @cached_property
    def nodes(self) -> dict[str, Member]:
        """Return every node that there is or was, by name."""
        found = {name: Member(address, MEMBER) for name, address in self.base.items()}
        for name, wish in cluster_record.nodes_of(self.record, self.base, self.base_ms).items():
            found[name] = Member(Address(wish.host, wish.port), wish.state)
        return found

    @cached_property
    def members(self) -> list[str]:
        """Return the nodes that take part, those that are on their way out included."""
        return [name for name, member in self.nodes.items() if member.state != REMOVED]

    @cached_property
    def unfit(self) -> frozenset[str]:
        """Return the nodes that should lead nothing."""
        return frozenset(name for name, member in self.nodes.items() if member.state in (DRAINING, LEAVING))

    @property
    def paused(self) -> bool:
        return cluster_record.pause_of(self.record) is not None

    def preferred(self, operator: str) -> str:
        """Return which node should lead the operator if it can, "" where nothing is said or that node is unfit."""
        wanted = cluster_record.primary_of(self.record, operator) or self.primaries.get(operator, "")
        return wanted if wanted in self.members and wanted not in self.unfit else ""

    def placed(self, operator: str) -> tuple[str, ...]:
        """Return where a new partition of the operator belongs, whom to prefer as primary first."""
        found = self._places.get(operator)
        if found is None:
            found = self._places[operator] = self._place(operator)
        return found

    def _place(self, operator: str) -> tuple[str, ...]:
        named = tuple(node for node in cluster_record.copies_of(self.record, operator) if node in self.members)
        nodes = named or self._placement.nodes_of(operator)
        first = self.preferred(operator)
        return tuple(sorted(nodes, key=lambda node: (node in self.unfit, node != first)))

    def wanted(self, operator: str, present: Iterable[str]) -> tuple[str, ...]:
        """Return where the operator's copies are wanted: as the record says, else where they are.

        Args:
            present: The nodes of its voters.
        """
        named = tuple(node for node in cluster_record.copies_of(self.record, operator) if node in self.members)
        return named or tuple(dict.fromkeys(present))

    @cached_property
    def _places(self) -> dict[str, tuple[str, ...]]:
        """Operator -> `placed`, of those that were asked for: every round of a manager's watch asks for each."""
        return {}

    @cached_property
    def _placement(self) -> Placement:
        settled = [name for name, member in self.nodes.items() if member.state in (MEMBER, DRAINING)]
        fit = [name for name in settled if name not in self.unfit]
        nodes = fit if len(fit) >= self.copies else settled
        primaries = {operator: node for operator in self.primaries if (node := self.preferred(operator)) in nodes}
        return Placement(nodes, primaries, min(self.copies, len(nodes)))

    # --- what commands write into the record ------------------------------------------------------------------------

    def lines_to_add(self, name: str, address: Address, copies: Mapping[str, Sequence[str]]) -> dict[str, dict[str, object]]:
        """Return the lines that make a node a member and give it its share of the operators.

        Args:
            copies: Operator -> the nodes that keep it now or are wanted to, its primary first.
        Raises:
            InvalidRequest: The name or the address belongs to another member.
        """
        for other, member in self.nodes.items():
            if other == name and member.state != REMOVED and member.address != address:
                raise InvalidRequest(f"{name} is a member already, at {member.address}", field="name")
            if other != name and member.state != REMOVED and member.address == address:
                raise InvalidRequest(f"{address} is the address of {other}", field="port")
        lines: dict[str, dict[str, object]] = {cluster_record.NODE + name: _node_value(address, MEMBER)}
        ranks = Placement([*(node for node in self.members if node != name), name], {}, 1)
        for operator, nodes in copies.items():
            if name in nodes or not nodes:
                continue
            # Rendezvous hashing: the new node takes the place of a lower-ranked one, and of a primary only if nothing else is.
            last = min(nodes[1:] or nodes, key=lambda node: ranks.rank(operator, node))
            if ranks.rank(operator, name) > ranks.rank(operator, last):
                lines[cluster_record.COPIES + operator] = {"nodes": [name if node == last else node for node in nodes]}
        return lines

    def lines_to_remove(self, name: str, copies: Mapping[str, Sequence[str]]) -> dict[str, dict[str, object]]:
        """Return the lines that send a node's copies elsewhere; it is removed when it has none.

        Raises:
            InvalidRequest: No such node, or no other node can take its copies: nothing is changed.
        """
        member = self.require(name)
        others = [node for node, one in self.nodes.items() if one.state == MEMBER and node != name]
        lines: dict[str, dict[str, object]] = {cluster_record.NODE + name: _node_value(member.address, LEAVING)}
        stuck = []
        for operator, nodes in copies.items():
            if name not in nodes:
                continue
            spare = [node for node in others if node not in nodes]
            if not spare:
                stuck.append(operator)
                continue
            ranks = Placement(spare, {}, 1)
            heir = max(spare, key=lambda node: ranks.rank(operator, node))
            lines[cluster_record.COPIES + operator] = {"nodes": [heir if node == name else node for node in nodes]}
        if stuck:
            few = f"{', '.join(stuck[:5])}{' …' if len(stuck) > 5 else ''}"
            raise InvalidRequest(f"no other node can take {name}'s copies of {few}: add a node first", field="name", operators=stuck)
        return lines

    def lines_to_drain(self, name: str, drained: bool) -> dict[str, dict[str, object]]:
        """Return the line after which a node leads nothing, or may lead again.

        Raises:
            InvalidRequest: No such node, it is being removed, or no other node could lead.
        """
        member = self.require(name)
        if member.state == LEAVING:
            raise InvalidRequest(f"{name} is being removed", field="name")
        if drained and not [node for node, one in self.nodes.items() if one.state == MEMBER and node != name]:
            raise InvalidRequest(f"no other node could lead what {name} leads", field="name")
        return {cluster_record.NODE + name: _node_value(member.address, DRAINING if drained else MEMBER)}

    def lines_to_place(self, operator: str, nodes: Sequence[str]) -> dict[str, dict[str, object]]:
        """Return the line that says where an operator's copies are wanted.

        Raises:
            InvalidRequest: Not three or five different members (R16).
        """
        for node in nodes:
            self.require(node)
        # A single copy is for a cluster that was configured so: whoever loses one loses the operator.
        if len(set(nodes)) < len(nodes) or len(nodes) not in {3, 5, self.copies}:
            raise InvalidRequest(f"{', '.join(nodes)}: copies are kept on 3 or 5 different nodes", field="nodes")
        return {cluster_record.COPIES + operator: {"nodes": list(nodes)}}

    def require(self, name: str) -> Member:
        """Return a member by name.

        Raises:
            InvalidRequest: There is none; the nearest names are in the message.
        """
        member = self.nodes.get(name)
        if member is None or member.state == REMOVED:
            near = nearest(name, self.members)
            was = "was removed" if member is not None else "is no node of this cluster"
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise InvalidRequest(f"{shown(name)} {was}{hint}", field="name", nearest=near)
        return member


def _node_value(address: Address, state: str) -> dict[str, object]:
    return {"host": address.host, "port": address.port, "state": state}
