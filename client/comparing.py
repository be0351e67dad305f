"""What a check of all copies comes to: which copy differs, which is damaged, what to do about it. Pure.

Copies are compared by their state digests at one lsn that all of them noted (I4). Where they disagree the majority is
right: what a majority has on disk is what was acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from datastore import messages

EQUAL, DIFFERS, DAMAGED, INCOMPLETE, BEHIND, SILENT = "equal", "differs", "damaged", "incomplete", "behind", "silent"
# States of a recovery that goes on by itself; "waiting" tries again, and a person may have another peer asked meanwhile.
RECOVERING = ("fetching", "checking", "installing", "filling", "done")
WORST_FIRST = (DIFFERS, DAMAGED, SILENT, BEHIND, INCOMPLETE, EQUAL)


class Finding(NamedTuple):
    """One copy of one operator. `lsn`: where it was compared, 0 nowhere; `detail`: what is amiss, "" for nothing."""

    operator: str
    node: str
    role: str
    lsn: int
    digest: str
    verified_lsn: int
    verdict: str
    detail: str


class Lost(NamedTuple):
    """A copy that takes no part and does not come back by itself. `why`: what the node says of it."""

    operator: str
    node: str
    why: str


class Proposal(NamedTuple):
    """A repair: the words of a `holdfast` command, and why."""

    command: tuple[str, ...]
    reason: str


def common_lsn(copies: Collection[messages.CopyState]) -> int:
    """Return the greatest lsn at which every copy knows its digest; 0 where there is none."""
    known = [{lsn for lsn, _ in copy.digests} for copy in copies]
    return max(set.intersection(*known), default=0) if known else 0


def lsn_to_come(copies: Collection[messages.CopyState], margin: int) -> int:
    """Return an lsn that no copy has passed yet."""
    return max((lsn for copy in copies for lsn, _ in copy.digests), default=0) + margin


def findings(answer: messages.CheckAnswer) -> list[Finding]:
    """Return what was found, operator by operator, a copy that gave no answer included."""
    found: list[Finding] = []
    for operator, nodes in sorted(answer.nodes_of.items()):
        copies = {copy.node: copy for copy in answer.copies if copy.operator == operator}
        lsn = common_lsn(list(copies.values()))
        digests = {node: dict(copy.digests).get(lsn, "") for node, copy in copies.items()}
        right = _majority([digest for digest in digests.values() if digest])
        for node in dict.fromkeys((*nodes, *copies)):
            copy = copies.get(node)
            if copy is None:
                found.append(Finding(operator, node, "", 0, "", 0, SILENT, answer.silent.get(node, "no copy there")))
            else:
                found.append(_finding(copy, lsn, digests[node], right))
    return found


def _majority(digests: list[str]) -> str:
    """Return the digest that more than half have, "" where there is none."""
    counted = Counter(digests).most_common(1)
    return counted[0][0] if counted and 2 * counted[0][1] > len(digests) else ""


def _finding(copy: messages.CopyState, lsn: int, digest: str, right: str) -> Finding:
    detail, verdict = "", EQUAL
    if lsn and digest != right:
        verdict = DIFFERS
        detail = f"at entry {lsn} its rows are not those of the others" if right else f"at entry {lsn} no two copies agree"
    elif copy.damage:
        verdict = DAMAGED
        where = f"{copy.damage_file} at entry {copy.damage_lsn}: " if copy.damage_file else ""
        detail = f"{where}{copy.damage}"
    elif not lsn:
        last = max((known for known, _ in copy.digests), default=0)
        verdict, detail = BEHIND, f"no entry at which all copies could be compared; it is at {last}"
    elif copy.missing:
        verdict, detail = INCOMPLETE, f"{len(copy.missing)} sealed segments are not there yet, the first: {copy.missing[0]}"
    return Finding(copy.operator, copy.node, copy.role, lsn, digest, copy.verified_lsn, verdict, detail)


def lost_copies(lines: Collection[messages.PartitionLine]) -> list[Lost]:
    """Return the copies that lack where one is expected, at nodes that answer, and that nobody is recovering."""
    found = []
    for line in lines:
        if line.verdict != "degraded":
            continue
        for copy in line.copies:
            state = copy.recovery.partition(" ")[0].rstrip(":")
            if copy.role not in ("empty", "outside") or state in RECOVERING:
                continue
            aside = f"its file was put aside as {copy.aside}" if copy.aside else f"its store is {copy.role}"
            found.append(Lost(line.operator, copy.node, "; ".join(filter(None, (aside, copy.recovery)))))
    return found


def worst(found: Collection[Finding]) -> str:
    """Return the worst verdict; "equal" for nothing at all would be a lie, so that is "silent"."""
    verdicts = {finding.verdict for finding in found}
    return next((word for word in WORST_FIRST if word in verdicts), SILENT)


def proposals(
    found: Collection[Finding],
    primaries: Mapping[str, str],
    dead: Collection[str],
    known: Collection[str],
    *,
    supervised: bool,
    lost: Collection[Lost] = (),
    forgetful: Collection[str] = (),
) -> list[Proposal]:
    """Return repairs, the most urgent first; only of commands that there are.

    Args:
        lost: Copies that lack.
        forgetful: Lock servers that answer and do not vote.
        primaries: Operator -> node: a primary is not recovered, it hands over first.
        dead: Processes that do not answer.
        known: The names of the commands, e.g. "recover", "cluster up".
        supervised: Whether somebody starts again what ends.
    """
    made: list[Proposal] = []
    if dead and not supervised:
        made.append(Proposal(("cluster", "up", "--detach"), f"not running, and no supervisor starts it again: {', '.join(sorted(dead))}"))
    made += [Proposal(("recover", "lock-server", name), f"{name} does not vote: it lost its data") for name in forgetful]
    for one in lost:
        made.append(Proposal(("recover", one.node, "--operator", one.operator), f"{one.operator} lacks its copy at {one.node}: {one.why}"))
    told = {(one.operator, one.node) for one in lost}
    for finding in found:
        if finding.verdict not in (DIFFERS, DAMAGED) or (finding.operator, finding.node) in told:
            continue
        if primaries.get(finding.operator) == finding.node:
            made.append(Proposal(("switchover", finding.operator), f"{finding.node} leads {finding.operator} and {finding.detail}"))
        words = ("recover", finding.node, "--operator", finding.operator)
        made.append(Proposal(words, f"{finding.operator} at {finding.node} {finding.verdict}: {finding.detail}"))
    return [proposal for proposal in made if proposal.command[0] in known or " ".join(proposal.command[:2]) in known]
