"""Where operators go: configured primaries first, everything else the same for every manager, and spread."""

from __future__ import annotations

from collections import Counter

import pytest

from datastore.errors import ConfigInvalid
from manager.placement import Placement

NODES = [f"node-{number}" for number in range(1, 6)]
CODES = [f"X{number}" for number in range(1000)]


def test_configured_primary_is_first() -> None:
    """The primary of cluster.toml is preferred, and the operator has as many nodes as copies."""
    placement = Placement(NODES, {"AA": "node-4"}, 3)
    nodes = placement.nodes_of("AA")
    assert nodes[0] == "node-4"
    assert len(set(nodes)) == len(nodes) == 3


def test_unknown_operators_are_placed_alike_whatever_the_order() -> None:
    """Two managers with the same nodes in another order put an operator on the same ones."""
    there, back = Placement(NODES, {}, 3), Placement(NODES[::-1], {}, 3)
    assert [there.nodes_of(code) for code in CODES] == [back.nodes_of(code) for code in CODES]


def test_primaries_and_copies_are_spread() -> None:
    """No node gets much more than its share of primaries or copies."""
    placement = Placement(NODES, {}, 3)
    primaries = Counter(placement.nodes_of(code)[0] for code in CODES)
    copies = Counter(node for code in CODES for node in placement.nodes_of(code))
    assert all(150 <= primaries[node] <= 250 for node in NODES), primaries
    assert all(530 <= copies[node] <= 670 for node in NODES), copies


def test_a_new_node_moves_only_its_share() -> None:
    """With a sixth node an operator either stays where it was or exchanges one node for the new one."""
    before, after = Placement(NODES, {}, 3), Placement([*NODES, "node-6"], {}, 3)
    for code in CODES:
        gone = set(before.nodes_of(code)) - set(after.nodes_of(code))
        come = set(after.nodes_of(code)) - set(before.nodes_of(code))
        assert (len(gone), come) in ((0, set()), (1, {"node-6"}))


def test_second_choices_spread() -> None:
    """When a node dies its operators go to all others, not to one."""
    placement = Placement(NODES, dict.fromkeys(CODES, "node-1"), 3)
    assert len(Counter(placement.nodes_of(code)[1] for code in CODES)) == 4


@pytest.mark.parametrize(
    ("nodes", "primaries", "copies"), [(NODES[:2], {}, 3), (NODES, {"AA": "node-9"}, 3), (NODES, {}, 0)], ids=["few", "unknown", "none"]
)
def test_what_cannot_be_placed(nodes: list[str], primaries: dict[str, str], copies: int) -> None:
    """A placement that cannot be is refused when it is built."""
    with pytest.raises(ConfigInvalid):
        Placement(nodes, primaries, copies)
