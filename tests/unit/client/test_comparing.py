"""What a check comes to: the copy that differs from the majority, and repairs that exist."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.comparing import common_lsn, findings, lost_copies, lsn_to_come, proposals, worst
from datastore.messages import CheckAnswer, CopyLine, CopyState, PartitionLine

NODES = ["node-1", "node-2", "node-3"]


def copy(node: str, digests: dict[int, str], **fields: object) -> CopyState:
    values: dict[str, object] = {
        "operator": "AR", "node": node, "role": "replica", "digests": list(digests.items()), "sealed_lsn": 0, "segments": 0, "missing": [],
        "verified_lsn": 5, "checks_done": 1, "check": 0, "damage": "", "damage_lsn": 0, "damage_file": "",
    }  # fmt: skip
    return CopyState(**{**values, **fields})  # type: ignore[arg-type]


def answer(*copies: CopyState, silent: dict[str, str] | None = None) -> CheckAnswer:
    return CheckAnswer(copies=list(copies), silent=silent or {}, nodes_of={"AR": NODES}, primaries={"AR": "node-1"})


def verdicts(given_answer: CheckAnswer) -> list[str]:
    return [finding.verdict for finding in findings(given_answer)]


def test_the_copy_unlike_the_majority_differs() -> None:
    """It is named; the others are not blamed for it."""
    found = answer(copy("node-1", {7: "aa"}), copy("node-2", {7: "bb", 9: "cc"}), copy("node-3", {7: "aa"}))
    assert ["equal", "differs", "equal"] == verdicts(found)
    assert "differs" == worst(findings(found))


def test_without_a_majority_nobody_is_right() -> None:
    """Two that disagree while the third is silent: a person must look at both."""
    found = answer(copy("node-1", {7: "aa"}), copy("node-2", {7: "bb"}), silent={"node-3": "refused"})
    assert ["differs", "differs", "silent"] == verdicts(found)


def test_a_copy_that_lacks_is_recovered_once() -> None:
    """Where its file was put aside and nobody is at it; a lock server that forgot rejoins."""
    copies = [CopyLine("node-3", "empty", 0, 0, 9, 0, aside="AR.sqlite.quarantined-1-damaged"), CopyLine("node-1", "primary", 1, 9, 0, 0)]
    lost = lost_copies([PartitionLine("AR", "node-1", 1, 9, {}, "degraded", copies)])
    assert [("AR", "node-3")] == [one[:2] for one in lost]
    assert "quarantined" in lost[0].why
    differs = findings(answer(copy("node-1", {7: "aa"}), copy("node-2", {7: "aa"}), copy("node-3", {7: "bb"})))
    made = proposals(differs, {"AR": "node-1"}, [], {"recover"}, supervised=True, lost=lost, forgetful=["lock-2"])
    assert [("recover", "lock-server", "lock-2"), ("recover", "node-3", "--operator", "AR")] == [one.command for one in made]
    for state in ("checking", "done from node-2", "fetching 12 % from node-2"):
        copies[0].recovery = state
        assert [] == lost_copies([PartitionLine("AR", "node-1", 1, 9, {}, "degraded", copies)])
    copies[0].recovery = "waiting: no other node that answers keeps a copy"
    assert 1 == len(lost_copies([PartitionLine("AR", "node-1", 1, 9, {}, "degraded", copies)]))
    assert [] == lost_copies([PartitionLine("AR", "node-1", 1, 9, {}, "ok", copies)])


def test_what_cannot_be_compared_is_not_called_equal() -> None:
    """No lsn in common, segments missing, a file damaged: each has a word of its own."""
    assert ["behind"] * 2 + ["silent"] == verdicts(answer(copy("node-1", {7: "aa"}), copy("node-2", {8: "aa"})))
    damaged = copy("node-2", {7: "aa"}, damage="changed", damage_file="f", damage_lsn=3)
    lacking = copy("node-3", {7: "aa"}, missing=["f"])
    assert ["equal", "damaged", "incomplete"] == verdicts(answer(copy("node-1", {7: "aa"}), damaged, lacking))
    assert "silent" == worst([])


def test_a_primary_hands_over_before_it_is_recovered() -> None:
    """And a command that this program does not have is never proposed."""
    found = findings(answer(copy("node-1", {7: "bb"}), copy("node-2", {7: "aa"}), copy("node-3", {7: "aa"})))
    every = {"recover", "switchover", "cluster up"}
    made = proposals(found, {"AR": "node-1"}, [], every, supervised=True)
    assert [("switchover", "AR"), ("recover", "node-1", "--operator", "AR")] == [one.command for one in made]
    assert [("recover", "node-1", "--operator", "AR")] == [one.command for one in proposals(found, {}, [], every, supervised=True)]
    assert [] == proposals(found, {}, [], set(), supervised=True)
    assert ("cluster", "up", "--detach") == proposals([], {}, ["node-2"], every, supervised=False)[0].command


lsns = st.dictionaries(st.integers(1, 9), st.sampled_from("ab"), min_size=1, max_size=4)


@given(st.lists(lsns, min_size=1, max_size=3), st.integers(1, 50))
def test_copies_are_compared_where_all_of_them_were(digests: list[dict[int, str]], margin: int) -> None:
    """The plain twin looks at every lsn; one to come is above all that anybody has."""
    copies = [copy(node, known) for node, known in zip(NODES, digests, strict=False)]
    plain = [lsn for lsn in range(1, 10) if all(lsn in known for known in digests)]
    assert max(plain, default=0) == common_lsn(copies)
    assert lsn_to_come(copies, margin) > max(max(known) for known in digests)
