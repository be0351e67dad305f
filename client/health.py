"""What `cluster status` says in one line: is all well, what is amiss, and what that means for buyers."""

from __future__ import annotations

from client import comparing, processes, supervisor
from client.folders import Folders
from datastore import messages
from datastore.errors import HoldfastError, NodeUnreachable

NAMES_SHOWN = 6
# What a lock server without the set's marker says of itself (lockstore.redlock.refusal_reason).
NOT_ADMITTED = "lost its data"


def supervised(folders: Folders) -> bool:
    """Return whether a supervisor looks after this data folder; true where nothing of this cluster runs on this machine.

    Its pid file is read: taking its lock to find out could keep one that is just starting from it.
    """
    return not running(folders) or processes.running(folders.pid(supervisor.NAME)) is not None


def running(folders: Folders) -> list[str]:
    """Return the names of the processes of this data folder that run here."""
    return sorted(path.stem for path in folders.run.glob("*.pid") if processes.running(path) is not None)


def verdict(answer: messages.StatusAnswer, *, supervised: bool) -> str:
    """Return one line: "all is well", or "degraded: …" or "down: …" with everything that is amiss, the worst first."""
    reasons: list[str] = []
    locks = [process.verdict == "ok" for process in answer.processes if process.kind == "lock server"]
    balancers = [process.verdict == "ok" for process in answer.processes if process.kind == "balancer"]
    if balancers and not any(balancers):
        reasons.append("no balancer answers: nothing can be sold")
    if locks and 2 * sum(locks) <= len(locks):
        reasons.append(f"{sum(locks)} of {len(locks)} lock servers are in order, no quorum: no seat can be held")
    if not answer.partitions:
        reasons.append("no operator is known: nothing can be sold")
    for state, meaning in (("down", "cannot sell"), ("degraded", "lacks a replica")):
        names = [line.operator for line in answer.partitions if line.verdict == state]
        if names:
            reasons.append(f"{_some(names)} {meaning if len(names) == 1 else meaning.replace('lacks', 'lack')}")
    if answer.paused:
        reasons.append("automatic failover is paused: nobody takes over for a primary that dies")
    amiss = [process.name for process in answer.processes if process.verdict != "ok"]
    if amiss:
        reasons.append(f"not in order: {_some(amiss)}")
    if not supervised:
        reasons.append("the supervisor is not running: nothing that ends is started again")
    if not reasons and answer.verdict == "ok":
        return "all is well"
    word = "degraded" if answer.verdict == "ok" else answer.verdict
    return f"{word}: {'; '.join(reasons)}" if reasons else word


def suggestion(answer: messages.StatusAnswer, *, supervised: bool) -> str:
    """Return the command to try next, "" where all is well."""
    down = [line.operator for line in answer.partitions if line.verdict == "down"]
    silent = [process for process in answer.processes if process.verdict == "down"]
    if not supervised:
        return "./start-cluster"
    if down and answer.paused:
        return f"holdfast failover {down[0]} --force, or holdfast resume"
    if answer.paused:
        return "holdfast resume"
    if silent:
        return f"look at the log of {silent[0].name}"
    if down:
        return f"holdfast history --operator {down[0]}"
    refusing = forgetful(answer)
    if refusing:
        return f"holdfast recover lock-server {refusing[0]}"
    lost = comparing.lost_copies(answer.partitions)
    if lost:
        return f"holdfast recover {lost[0].node} --operator {lost[0].operator}"
    if any(line.verdict == "degraded" for line in answer.partitions):
        return "holdfast cluster status --operators"
    return ""


def forgetful(answer: messages.StatusAnswer) -> list[str]:
    """Return the lock servers that answer and do not vote, as they lost what they knew."""
    return [one.name for one in answer.processes if one.kind == "lock server" and one.verdict == "degraded" and NOT_ADMITTED in one.detail]


def unreachable(folders: Folders, error: HoldfastError, start: str) -> NodeUnreachable:
    """Return what to say where no balancer answers.

    Args:
        error: Why not.
        start: The command that starts this cluster.
    """
    alive = running(folders)
    if not alive:
        return NodeUnreachable(f"nothing runs in {folders.data}", start=start)
    detail = f"down: no balancer answers, nothing can be sold; {_some(alive)} of {folders.data} still run ({error.detail})"
    return NodeUnreachable(detail, logs=str(folders.logs))


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
