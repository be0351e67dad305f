"""Recovery of a node's copies from peers, as a command or a screen asks for it: the plan, the start, and how far it is.

    ask = recovering.asker(client, admin_key)
    planned = ask(RecoverAsk("node-3", [], "", "plan"))
    for reports in recovering.progress(ask, recovering.started(ask, "node-3", planned)):
        ...  # bytes_done of bytes_total, state, detail; the last ones are final

The node does the work and goes on whoever watches, or nobody; what is asked here may be asked again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from rich.filesize import decimal

from client.administering import Asks
from client.administering import ask as ask_managers
from datastore import administration, wire
from datastore.errors import NodeUnreachable, OperatorUnavailable, OutcomeUnknown, QuorumLost
from datastore.wire_recovery import LostWrites, RecoverAsk, RecoverReport

POLL_S = 0.2
WAIT_S = 3600.0
JOIN_S = 120.0
# What a plan may take: it compares hashes with the primary of every operator.
PLAN_MS = 30_000
WATCH_MS = 5_000
# So often what a node forgot, because it ended before it had begun, is started again.
STARTS_MAX = 3
ENDED = ("done", "failed", "refused")
SILENCES = (NodeUnreachable, OutcomeUnknown, OperatorUnavailable, QuorumLost)

Ask = Callable[[RecoverAsk], list[RecoverReport]]


def asker(client: Asks, admin_key: str) -> Ask:
    """Return a function that asks a node, through a balancer and a manager."""

    def ask(question: RecoverAsk) -> list[RecoverReport]:
        deadline_ms = WATCH_MS if question.action == "watch" else PLAN_MS
        found: list[RecoverReport] = ask_managers(client, admin_key, administration.RecoverCopies(ask=question), deadline_ms)
        return found

    return ask


def started(ask: Ask, node: str, planned: Sequence[RecoverReport], source: str = "") -> list[RecoverReport]:
    """Start what was planned and not refused; return how each stands, the refused ones included."""
    wanted = [one.operator for one in planned if one.state != "refused"]
    begun = {one.operator: one for one in ask(RecoverAsk(node, wanted, source, "start"))} if wanted else {}
    return [begun.get(one.operator, one) for one in planned]


def progress(
    ask: Ask, node: str, begun: Sequence[RecoverReport], source: str = "", *, wait_s: float = WAIT_S, poll_s: float = POLL_S
) -> Iterator[list[RecoverReport]]:
    """Give how the recoveries stand, again and again, until all have ended; a node that is silent meanwhile is waited for.

    Args:
        begun: What `started` returned.
        source: What it was told.
    Raises:
        OutcomeUnknown: Not all have ended in time; they go on.
    """
    reports = {one.operator: one for one in begun}
    starts = dict.fromkeys(reports, 1)
    deadline, pause = time.monotonic() + wait_s, threading.Event()
    while True:
        yield list(reports.values())
        open_ones = [operator for operator, one in reports.items() if one.state not in ENDED]
        if not open_ones:
            return
        if time.monotonic() >= deadline:
            left = f"{len(open_ones)} copies are not done after {wait_s:.0f} s"
            raise OutcomeUnknown(f"{node}: {left}; it goes on, and the same command waits on")
        pause.wait(poll_s)
        try:
            found = {one.operator: one for one in ask(RecoverAsk(node, open_ones, "", "watch"))}
            forgotten = [operator for operator in open_ones if operator not in found]
            # The node was started anew before it had written down that it is to recover these.
            again = [operator for operator in forgotten if starts[operator] < STARTS_MAX]
            if again:
                found |= {one.operator: one for one in ask(RecoverAsk(node, again, source, "start"))}
            for operator in forgotten:
                starts[operator] += 1
                if operator not in again:
                    why = f"{node} was started anew too often"
                    found[operator] = msgspec.structs.replace(reports[operator], state="failed", detail=why)
            reports |= found
        except SILENCES as error:
            for operator in open_ones:
                reports[operator] = msgspec.structs.replace(reports[operator], detail=error.detail)


def expected(status: wire.ManagerStatus, node: str, operators: Sequence[str]) -> list[str]:
    """Return the operators of which the configuration names the node: there its copy votes in the end."""
    found = []
    for operator in operators:
        copies = [one for seen in status.nodes.values() for one in seen.partitions if one.operator == operator and one.voters]
        newest = max(copies, key=lambda one: (one.epoch, one.last_lsn), default=None)
        if newest is not None and node in {**newest.voters, **newest.learners}.values():
            found.append(operator)
    return found


def identities(status: wire.ManagerStatus, node: str) -> dict[str, str]:
    """Return operator -> the identity of its store at the node."""
    seen = status.nodes.get(node)
    return {one.operator: one.store_uuid for one in (seen.partitions if seen else ())}


def still_learning(status: wire.ManagerStatus, node: str, operators: Mapping[str, str]) -> list[str]:
    """Return the operators of which the node's copy does not vote (yet).

    Args:
        operators: With the identity that was replaced, "" for none: a status may be a moment old, and that one's vote is no news.
    """
    seen = status.nodes.get(node)
    voting = {one.operator: one.store_uuid for one in (seen.partitions if seen else ()) if one.role in ("replica", "primary")}
    return [operator for operator, before in operators.items() if voting.get(operator, before) == before]


def wait_votes(look: Callable[[], wire.ManagerStatus], node: str, operators: Mapping[str, str], wait_s: float = JOIN_S) -> list[str]:
    """Wait until the managers have taken the recovered copies in; return those that do not vote by then.

    Args:
        operators: As in `still_learning`.
    """
    deadline, pause, left = time.monotonic() + wait_s, threading.Event(), list(operators)
    while left and time.monotonic() < deadline:
        # Whoever is silent is back before the time is over, or it is not our question any more.
        with contextlib.suppress(*SILENCES):
            left = still_learning(look(), node, operators)
        if left:
            pause.wait(POLL_S)
    return left


# --- in words -----------------------------------------------------------------------------------------------------


def lost_words(lost: LostWrites) -> str:
    """Return what only the old file had."""
    if lost.unreadable:
        return f"what it had alone cannot be told: {lost.unreadable}"
    if not lost.last_lsn:
        return "nothing is lost"
    span = f"entry {lost.first_lsn}" if lost.first_lsn == lost.last_lsn else f"entries {lost.first_lsn} to {lost.last_lsn}"
    named = f", requests {', '.join(lost.request_ids)}" if lost.request_ids else ""
    return f"lost: {span}, written there alone and never acknowledged to anybody{named}"


def plan_words(report: RecoverReport) -> str:
    """Return what would be done with one copy, or why it would not."""
    if report.state == "refused":
        return f"{report.operator}: refused: {report.why}"
    here = f"here lsn {report.here_lsn}, {lost_words(report.lost)}" if report.here_lsn else "nothing is here"
    identity = "; it gets a new identity, learns, then votes" if report.fresh else ""
    return f"{report.operator}: from {report.source} ({report.why}); {here}{identity}"


def end_words(report: RecoverReport) -> str:
    """Return what became of one recovery."""
    if report.state == "refused":
        return plan_words(msgspec.structs.replace(report, why=report.detail or report.why))
    if report.state != "done":
        return f"{report.operator}: {report.state}: {report.detail}"
    if not report.bytes_total:
        return f"{report.operator}: there again, by the log of its primary; {lost_words(report.lost)}"
    rate = decimal(int(1000 * report.bytes_total / max(1, report.elapsed_ms)))
    size = f"{decimal(report.bytes_total)} in {report.elapsed_ms / 1000:.2f} s ({rate} a second)"
    kept = f"; the old file is kept as {report.kept}" if report.kept else ""
    return f"{report.operator}: recovered from {report.source}, {size}; {lost_words(report.lost)}{kept}"


def plain(report: RecoverReport) -> Mapping[str, object]:
    """Return a report with its fields by name."""
    return {**msgspec.structs.asdict(report), "lost": msgspec.structs.asdict(report.lost)}
