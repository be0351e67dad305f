"""A recovery as a person follows it: who is silent is waited for, who forgot is told again, and the end is said in words."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from client.recovering import end_words, expected, plain, plan_words, progress, started, still_learning
from datastore import wire
from datastore.errors import NodeUnreachable, OutcomeUnknown
from datastore.wire_recovery import LostWrites, RecoverAsk, RecoverReport


class Node:
    """A node that says what it was given, one answer or error a question; `asked` is what it heard."""

    def __init__(self, answers: Iterable[list[RecoverReport] | Exception]) -> None:
        self.answers = list(answers)
        self.asked: list[RecoverAsk] = []

    def __call__(self, ask: RecoverAsk) -> list[RecoverReport]:
        self.asked.append(ask)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def report(state: str, operator: str = "AR", **fields: object) -> RecoverReport:
    return RecoverReport(operator, state, **fields)  # type: ignore[arg-type]


def test_only_what_is_not_refused_is_started() -> None:
    """The refused stay in the report."""
    node = Node([[report("waiting", "FO")]])
    begun = started(node, "node-3", [report("refused", "AR"), report("planned", "FO")], "node-1")
    assert [("AR", "refused"), ("FO", "waiting")] == [(one.operator, one.state) for one in begun]
    assert [RecoverAsk("node-3", ["FO"], "node-1", "start")] == node.asked
    assert ["refused"] == [one.state for one in started(Node([]), "node-3", [report("refused")])]


def test_progress_goes_on_past_a_silent_node() -> None:
    """Its silence is the detail; what was known stays."""
    node = Node([[report("fetching", bytes_done=5, bytes_total=10)], NodeUnreachable("refused"), [report("done")]])
    steps = [step[0] for step in progress(node, "node-3", [report("waiting")], poll_s=0)]
    assert ["waiting", "fetching", "fetching", "done"] == [one.state for one in steps]
    assert (5, "refused") == (steps[2].bytes_done, steps[2].detail)


def test_a_node_that_forgot_is_told_again_for_a_while() -> None:
    """It was started anew before it had written anything down; three times is enough."""
    once = Node([[], [report("waiting")], [report("done")]])
    assert "done" == list(progress(once, "node-3", [report("waiting")], "node-2", poll_s=0))[-1][0].state
    assert ("start", "node-2") == (once.asked[1].action, once.asked[1].source)
    always = Node([[], [report("waiting")], [], [report("waiting")], []])
    (last,) = list(progress(always, "node-3", [report("waiting")], poll_s=0))[-1]
    assert ("failed", True) == (last.state, "too often" in last.detail)


def test_progress_does_not_last_for_ever() -> None:
    """The node goes on; the person is told how to go on watching."""
    with pytest.raises(OutcomeUnknown, match="the same command waits on"):
        list(progress(Node([]), "node-3", [report("waiting")], wait_s=0))


def partition(role: str, uuid: str, **fields: object) -> wire.PartitionStatus:
    values = {"voters": {"a": "node-1", "b": "node-2", "c": "node-3"}, **fields}
    return wire.PartitionStatus("AR", role, uuid, (1, "m"), (1, "m"), 9, 9, 9, 0, role == "primary", **values)  # type: ignore[arg-type]


def seen(**copies: wire.PartitionStatus) -> wire.ManagerStatus:
    nodes = {f"node-{name[1:]}": wire.NodeStatus(f"node-{name[1:]}", "boot", 1, 1, [one]) for name, one in copies.items()}
    return wire.ManagerStatus("manager-1", 1, nodes, {}, {})


def test_a_copy_is_back_when_its_new_identity_votes() -> None:
    """A status may be a moment old: the vote of the identity that was replaced is no news."""
    status = seen(n1=partition("primary", "a"), n3=partition("replica", "c"))
    assert ["AR"] == expected(status, "node-3", ["AR", "FO"])
    assert ["AR"] == still_learning(status, "node-3", {"AR": "c"})
    assert ["AR"] == still_learning(seen(n3=partition("learner", "d")), "node-3", {"AR": "c"})
    assert [] == still_learning(seen(n3=partition("replica", "d")), "node-3", {"AR": "c"})
    assert [] == still_learning(seen(n3=partition("replica", "c")), "node-3", {"AR": ""})
    assert [] == expected(seen(n1=partition("primary", "a", voters={"a": "node-1"})), "node-3", ["AR"])


def test_what_was_lost_is_said() -> None:
    """Before and after, with the requests, or why it cannot be told."""
    lost = LostWrites(7, 8, ["r-1", "r-2"])
    assert "entries 7 to 8" in plan_words(report("planned", here_lsn=8, lost=lost))
    assert "r-1, r-2" in end_words(report("done", bytes_total=10, lost=lost, kept="AR.sqlite.quarantined-x-replaced"))
    assert "quarantined-x-replaced" in end_words(report("done", bytes_total=10, lost=lost, kept="AR.sqlite.quarantined-x-replaced"))
    assert "cannot be told: torn" in end_words(report("done", lost=LostWrites(unreadable="torn")))
    assert "is its primary" in plan_words(report("refused", why="node-1 is its primary"))
    assert "no room" in end_words(report("failed", detail="no room"))
    assert [7, 8] == [plain(report("done", lost=lost))["lost"][key] for key in ("first_lsn", "last_lsn")]  # type: ignore[index]
