"""Who keeps a copy of an operator, and the next safe step towards where its copies are wanted. Pure, and without a memory.

`next_step` looks at what the nodes report and names one step. Whatever interrupted the steps before, and whichever manager
took them, the next is found from the reports alone; two managers that take the same step disturb nobody, as a primary
takes a step only for the configuration that it was thought of for (R15).

    make store -> learner -> (it catches up, R14) -> voter -> the surplus voter out        one at a time

A surplus voter is one on a node where no copy is wanted, or one whose identity is gone: its node answers with another
store, because the disk was lost or put aside. It goes last, when enough others are well; if it leads, its role is handed
over first (R15: a primary never removes itself).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datastore.configuration import ADD_LEARNER, ADD_VOTER, DROP_LEARNER, REMOVE_VOTER, VOTERS_MAX
from datastore.wire import PartitionStatus
from manager.choice import majority

WORDS = {ADD_LEARNER: "begins to learn", DROP_LEARNER: "learns no more", ADD_VOTER: "becomes a voter", REMOVE_VOTER: "is taken out"}
# A voter that the primary has not heard for this long is not counted upon.
HEARD_MS = 2_000


class MakeStore(NamedTuple):
    """Have the node make an empty store."""

    node: str


class Renew(NamedTuple):
    """Have the node put a store aside that never takes part again, and make an empty one."""

    node: str
    store_uuid: str


class Reconfigure(NamedTuple):
    """Have the primary take one step of R15."""

    kind: str
    store_uuid: str
    node: str
    config_lsn: int


class MoveAway(NamedTuple):
    """Hand the primary over to `node` before anything else."""

    node: str
    why: str


class Wait(NamedTuple):
    """Nothing can be done now; `why` is for people. `settled`: nothing is left to do at all."""

    why: str
    settled: bool = False


Step = MakeStore | Renew | Reconfigure | MoveAway | Wait


class Copies(NamedTuple):
    """What is known of an operator's copies.

    Attributes:
        leader: The node of the serving primary.
        primary: What it reports of its partition.
        reports: Every node that answers -> its partition, None where it keeps none.
        wanted: The nodes where copies are wanted, in order of preference.
        unfit: Nodes that should lead nothing.
        replaces_lost: Whether a store that lost its disk is replaced without being asked.
        preferred: Where the primary should be, "" where that is left open.
        returns: Whether the primary goes back there by itself.
    """

    leader: str
    primary: PartitionStatus
    reports: Mapping[str, PartitionStatus | None]
    wanted: Sequence[str]
    unfit: frozenset[str] = frozenset()
    replaces_lost: bool = True
    preferred: str = ""
    returns: bool = False


def next_step(copies: Copies) -> Step:
    """Return the one step to take now."""
    primary = copies.primary
    if primary.config_lsn > primary.commit_lsn:
        return Wait("the last change is not committed yet")
    waits: list[str] = []
    learning = _learning_step(copies, waits)
    if learning is not None:
        return learning
    if not waits:
        for node in copies.wanted:
            step = _copy_on(copies, node)
            if isinstance(step, Wait):
                waits.append(step.why)
            elif step is not None:
                return step
    surplus = _surplus_step(copies, waits)
    if surplus is not None:
        return surplus
    if copies.leader in copies.unfit:
        others = heirs(copies)
        return MoveAway(others[0], f"{copies.leader} is drained") if others else Wait("no other copy is well enough to lead")
    if copies.returns and copies.preferred != copies.leader and copies.preferred in heirs(copies):
        return MoveAway(copies.preferred, f"{copies.preferred} is preferred")
    return Wait("; ".join(waits), settled=not waits)


def told(step: Step) -> str:
    """Return a step in words, for people."""
    match step:
        case MakeStore(node):
            return f"a store is made on {node}"
        case Renew(node, _):
            return f"the retired store on {node} makes room"
        case Reconfigure(kind, _, node, _):
            return f"the copy on {node} {WORDS[kind]}"
        case MoveAway(node, why):
            return f"{node} takes over: {why}"
        case Wait(why, _):
            return why


def _learning_step(copies: Copies, waits: list[str]) -> Step | None:
    """See to the learners first: one at a time, so that a primary ships a whole log to one node only."""
    primary = copies.primary
    for store_uuid, node in primary.learners.items():
        has_lsn, heard_ms, caught_up = primary.followers.get(store_uuid, (0, HEARD_MS, False))
        # The look at the node may be older than the one at the primary: it shows the store that was put aside for this one. Two
        # managers would drop and make learners for ever, so who was just taken in or heard is not lost.
        lost = _is_lost(copies, store_uuid, node) and heard_ms >= HEARD_MS
        if node not in copies.wanted or lost:
            return Reconfigure(DROP_LEARNER, store_uuid, node, primary.config_lsn)
        if not caught_up:
            waits.append(f"{node} has {has_lsn} of {primary.last_lsn} entries")
        elif len(primary.voters) >= VOTERS_MAX:
            waits.append(f"{len(primary.voters)} voters are the most there may be")
        elif _well(copies) + 1 < majority({**primary.voters, store_uuid: node}):
            waits.append(f"{_well(copies)} of {len(primary.voters)} voters are well: one more voter would stop the operator")
        else:
            return Reconfigure(ADD_VOTER, store_uuid, node, primary.config_lsn)
    return None


def _copy_on(copies: Copies, node: str) -> Step | None:
    """Return the first step towards a copy on `node`, None where it has one."""
    primary = copies.primary
    voters = [store_uuid for store_uuid, kept in primary.voters.items() if kept == node]
    lost = [store_uuid for store_uuid in voters if _is_lost(copies, store_uuid, node)]
    if len(voters) > len(lost) or node in primary.learners.values():
        return None
    if lost and not copies.replaces_lost:
        return Wait(f"{node} lost its store; replacing it is left to a person")
    if node not in copies.reports:
        return Wait(f"{node} does not answer")
    report = copies.reports[node]
    if report is None:
        return MakeStore(node)
    has_log = report.last_lsn > 0 or bool(report.voters)
    if report.store_uuid in primary.retired or (has_log and not report.fresh):
        # It took part once: under that identity it never does again (R14). One that came by snapshot under a new identity did not:
        # put aside it would only have to come a second time.
        return Renew(node, report.store_uuid)
    return Reconfigure(ADD_LEARNER, report.store_uuid, node, primary.config_lsn)


def _surplus_step(copies: Copies, waits: list[str]) -> Step | None:
    """Take out a voter that is not wanted, if all that are wanted are there, or one that is lost and replaced."""
    primary = copies.primary
    lost = [(uuid, node) for uuid, node in primary.voters.items() if _is_lost(copies, uuid, node)]
    unwanted = [(uuid, node) for uuid, node in primary.voters.items() if node not in copies.wanted and (uuid, node) not in lost]
    for store_uuid, node in (*lost, *unwanted):
        if len(primary.voters) <= len(copies.wanted):
            return None
        if (store_uuid, node) in unwanted and waits:
            return None
        if store_uuid == primary.store_uuid:
            wanted = [heir for heir in heirs(copies) if heir in copies.wanted]
            if wanted:
                return MoveAway(wanted[0], f"the copy on {node} is taken out")
            waits.append("no wanted copy is well enough to lead")
            return None
        left = {uuid: kept for uuid, kept in primary.voters.items() if uuid != store_uuid}
        well = _well(copies, without=store_uuid)
        # Z13, and no less than what the operator needs to go on.
        if well < max(majority(left), min(2, len(left))):
            waits.append(f"{well} of the {len(left)} voters that would be left are well")
            return None
        return Reconfigure(REMOVE_VOTER, store_uuid, node, primary.config_lsn)
    return None


def _is_lost(copies: Copies, store_uuid: str, node: str) -> bool:
    """Return whether the node answers and has another store, or none: that identity is gone for good (R14)."""
    if node not in copies.reports:
        return False
    report = copies.reports[node]
    return report is None or report.store_uuid != store_uuid


def _is_well(copies: Copies, store_uuid: str) -> bool:
    if store_uuid == copies.primary.store_uuid:
        return True
    if any(report is not None and report.store_uuid == store_uuid and report.leaving for report in copies.reports.values()):
        return False  # Its node is about to put another identity in its place.
    _, heard_ms, caught_up = copies.primary.followers.get(store_uuid, (0, HEARD_MS, False))
    return caught_up and heard_ms < HEARD_MS


def _well(copies: Copies, without: str = "") -> int:
    """Return how many voters have everything and answer."""
    return sum(_is_well(copies, store_uuid) for store_uuid in copies.primary.voters if store_uuid != without)


def heirs(copies: Copies) -> list[str]:
    """Return the nodes that could lead instead, in order of preference."""
    well = {node for store_uuid, node in copies.primary.voters.items() if _is_well(copies, store_uuid)}
    ranked = sorted(well, key=lambda node: (node != copies.preferred, copies.wanted.index(node) if node in copies.wanted else 99, node))
    return [node for node in ranked if node != copies.leader and node not in copies.unfit]
