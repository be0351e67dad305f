"""What is wanted of the cluster: the record over cluster.toml, and the lines that commands write into it."""

from __future__ import annotations

import pytest

from datastore import cluster_record
from datastore.cluster_record import Note
from datastore.errors import InvalidRequest
from manager.goals import Address, Goals
from manager.spreading import spread

BASE = {f"node-{number}": Address("127.0.0.1", 7200 + number) for number in (1, 2, 3)}
PRIMARIES = {"AA": "node-1", "BB": "node-2", "CC": "node-3"}
THREE = ["node-1", "node-2", "node-3"]
COPIES = {f"O{number}": THREE for number in range(40)}


def goals(**lines: dict[str, object]) -> Goals:
    record = {key.replace("_", ":", 1).replace("_", "-"): Note(1, "m", 0, value) for key, value in lines.items()}
    return Goals(BASE, PRIMARIES, 3, record)


def after(before: Goals, lines: dict[str, dict[str, object]]) -> Goals:
    return before.with_record(cluster_record.merged(before.record, cluster_record.written(before.record, lines, "m", 0)))


def test_without_a_record_it_is_the_file() -> None:
    """Nodes, preferred primaries and placement as configured; copies stay where they are."""
    found = goals()
    assert found.members == THREE and not found.unfit and not found.paused
    assert found.placed("BB")[0] == "node-2" and sorted(found.placed("BB")) == THREE
    assert found.wanted("AA", ["node-2", "node-1", "node-3"]) == ("node-2", "node-1", "node-3")


def test_an_added_node_takes_its_share_and_no_primary() -> None:
    """About a quarter of the copies of three move to the fourth; no operator's primary is what is replaced."""
    found = goals()
    lines = found.lines_to_add("node-4", Address("127.0.0.1", 7204), COPIES)
    moved = {key: value["nodes"] for key, value in lines.items() if key.startswith("copies:")}
    assert 20 <= len(moved) <= 36, len(moved)  # 3 of 4 expected, but never the first
    assert all(nodes[0] == "node-1" and "node-4" in nodes and len(set(nodes)) == 3 for nodes in moved.values())
    grown = after(found, lines)
    assert grown.members == [*THREE, "node-4"] and grown.nodes["node-4"].address.port == 7204
    # Asked again it changes nothing more.
    again = grown.lines_to_add("node-4", Address("127.0.0.1", 7204), {op: grown.wanted(op, THREE) for op in COPIES})
    assert [key for key in again if key.startswith("copies:")] == []


def test_a_node_that_leaves_gives_its_copies_away() -> None:
    """Each to a node that has none; where there is no such node nothing is changed, and the message says what to do."""
    found = goals()
    with pytest.raises(InvalidRequest, match="no other node can take node-3's copies of O0, O1, O2, O3, O4 …: add a node first"):
        found.lines_to_remove("node-3", COPIES)
    grown = after(found, {"node:node-4": {"host": "127.0.0.1", "port": 7204, "state": "member"}})
    left = after(grown, grown.lines_to_remove("node-3", COPIES))
    assert all(left.wanted(operator, THREE) == ("node-1", "node-2", "node-4") for operator in COPIES)
    assert left.nodes["node-3"].state == "leaving" and left.unfit == {"node-3"} and left.preferred("CC") == ""
    assert "node-3" not in left.placed("NEW")


def test_drained_nodes_keep_copies_and_lead_nothing() -> None:
    """They are the last choice for a primary; with `undrain` they are as before."""
    drained = after(goals(), goals().lines_to_drain("node-2", True))
    assert drained.unfit == {"node-2"} and drained.placed("BB")[-1] == "node-2" and "node-2" in drained.placed("BB")
    assert not after(drained, drained.lines_to_drain("node-2", False)).unfit
    last = after(after(drained, drained.lines_to_drain("node-1", True)), {})
    with pytest.raises(InvalidRequest, match="no other node could lead"):
        last.lines_to_drain("node-3", True)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        pytest.param(lambda g: g.lines_to_remove("node-33", {}), "did you mean node-3", id="a name that is nearly one"),
        pytest.param(lambda g: g.lines_to_add("node-4", BASE["node-2"], {}), "is the address of node-2", id="an address that is taken"),
        pytest.param(lambda g: g.lines_to_add("node-2", Address("h", 1), {}), "is a member already", id="a name that is taken"),
        pytest.param(lambda g: g.lines_to_place("AA", THREE[:1]), "3 or 5 different nodes", id="a single copy"),
        pytest.param(lambda g: g.lines_to_place("AA", THREE[:2]), "3 or 5 different nodes", id="two copies"),
        pytest.param(lambda g: g.lines_to_place("AA", ["node-1"] * 3), "3 or 5 different nodes", id="one node thrice"),
    ],
)
def test_bad_wishes_name_the_thing(ask: object, said: str) -> None:
    """Nothing is written, and the message has the nearest right one; copies are kept on three nodes or five (R16)."""
    with pytest.raises(InvalidRequest, match=said):
        ask(goals())  # type: ignore[operator]


def test_a_removed_node_is_gone_and_may_be_added_anew() -> None:
    """It is no member; a command that names it says so; added again it is one."""
    gone = after(goals(), {"node:node-3": {"host": "127.0.0.1", "port": 7203, "state": "removed"}})
    assert gone.members == ["node-1", "node-2"]
    with pytest.raises(InvalidRequest, match="node-3 was removed"):
        gone.require("node-3")
    assert after(gone, gone.lines_to_add("node-3", Address("127.0.0.1", 7203), {})).members == THREE


def test_where_a_node_listens_is_said_by_whoever_was_written_last() -> None:
    """A node that was once drained and is started at another port is looked for there; one that was added since is where that says."""
    drained: dict[str, object] = {"host": "127.0.0.1", "port": 9999, "state": "draining"}
    record = {"node:node-3": Note(1, "m", 1_000, drained), "node:node-4": Note(1, "m", 1_000, drained)}
    for base_ms, port in ((0, 9999), (999, 9999), (1_001, 7203)):
        found = Goals(BASE, PRIMARIES, 3, base_ms=base_ms).with_record(record)
        assert (port, "draining") == (found.nodes["node-3"].address.port, found.nodes["node-3"].state)
        assert 9999 == found.nodes["node-4"].address.port, "the file does not name it"


def test_spreading_ends() -> None:
    """Primaries go where they are preferred, the rest evenly; asked again it has nothing to do."""
    leaders = {f"O{number}": "node-1" for number in range(9)} | {"P": "node-3"}
    heirs = {operator: [node for node in THREE if node != leader] for operator, leader in leaders.items()}
    preferred = {"P": "node-2", "O0": "node-1"}
    moves = spread(leaders, heirs, preferred)
    now = leaders | {move.operator: move.node for move in moves}
    assert now["P"] == "node-2" and now["O0"] == "node-1"
    counts = [list(now.values()).count(node) for node in THREE]
    assert max(counts) - min(counts) <= 1, counts
    assert spread(now, {op: [node for node in THREE if node != at] for op, at in now.items()}, preferred) == []
    assert spread(leaders, {operator: () for operator in leaders}, preferred) == []
