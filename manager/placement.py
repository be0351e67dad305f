"""Which nodes keep an operator's copies, decided the same way by every manager from the configuration alone.

Pure. This is where a *new* partition is put, and which of equal candidates is preferred as its primary. Where an existing
partition is, its own log says (Z16); a changed configuration never moves data by itself.

The preferred primary of an operator in cluster.toml stands there. Everything else follows from rendezvous hashing: each
node draws a number from (operator, node), the highest numbers win. So an operator's nodes do not depend on how many
other operators there are, a new node takes over its fair share and leaves the rest where it was, and the
operators of a node that dies spread over all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from datastore.errors import ConfigInvalid, nearest


class Placement:
    """From an operator to its nodes, the preferred primary first."""

    def __init__(self, nodes: Sequence[str], primaries: Mapping[str, str], copies: int) -> None:
        """Prepare for these nodes.

        Args:
            primaries: Operator -> its configured primary.
            copies: How many nodes keep each operator.
        Raises:
            ConfigInvalid: More copies than nodes, or a primary that is not a node.
        """
        if not 1 <= copies <= len(nodes):
            raise ConfigInvalid(f"{copies} copies do not fit on {len(nodes)} nodes", key="datastore.copies")
        for operator, node in primaries.items():
            if node not in nodes:
                detail = f"operator {operator}: no node is named {node}"
                raise ConfigInvalid(detail, key="datastore.operator", nearest=nearest(node, nodes))
        self._nodes = tuple(nodes)
        self._primaries = dict(primaries)
        self._copies = copies

    @property
    def copies(self) -> int:
        return self._copies

    @property
    def operators(self) -> list[str]:
        """Return the configured operators."""
        return list(self._primaries)

    def rank(self, operator: str, node: str) -> bytes:
        """Return the number that the node draws for the operator; the highest numbers win."""
        return _rank(operator, node)

    def nodes_of(self, operator: str) -> tuple[str, ...]:
        """Return the nodes for that operator, most preferred first; any code is good."""
        ranked = sorted(self._nodes, key=lambda node: _rank(operator, node), reverse=True)
        first = self._primaries.get(operator)
        if first is not None:
            ranked = [first, *(node for node in ranked if node != first)]
        return tuple(ranked[: self._copies])


def _rank(operator: str, node: str) -> bytes:
    # NUL stands in neither name, so no two pairs make the same text.
    return blake2b(f"{operator}\x00{node}".encode(), digest_size=16).digest()
