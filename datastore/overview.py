"""What the nodes say of themselves, put together as people read it: the lines of `cluster status`. Pure.

A load balancer puts it together from what a manager sees; where no balancer answers a command does, from a manager or from the
nodes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datastore import cluster_record, messages, wire

# Roles of a store that takes no part: empty, or one that the configuration does not know.
UNUSED = ("empty", "outside")


def running(name: str, kind: str, address: str, detail: str = "", uptime_ms: int = 0) -> messages.ProcessStatus:
    """Return the line of a process that is in order."""
    return messages.ProcessStatus(name, kind, address, "running", "ok", detail, uptime_ms)


def nodes(status: wire.ManagerStatus, addresses: Mapping[str, str]) -> list[messages.ProcessStatus]:
    """Return a line for every node that a manager knows; `addresses`: of those whose address the manager does not say."""
    wishes = cluster_record.nodes_of(status.record)
    where = {name: status.addresses.get(name) or addresses.get(name, "") for name in (*status.nodes, *status.unreachable)}
    found = []
    for name, node in status.nodes.items():
        primaries = sum(partition.role == "primary" for partition in node.partitions)
        line = running(name, "node", where[name], f"{len(node.partitions)} partitions, {primaries} primary", node.uptime_ms)
        # The node itself serves: no start and no restart waits for a repair.
        led = "drained, never primary" if name in wishes and wishes[name].state == cluster_record.DRAINING else ""
        line.detail = "; ".join(filter(None, (line.detail, led, ledgers(node), _copies(node))))
        found.append(line)
    found += [messages.ProcessStatus(name, "node", where[name], "no answer", "down", why) for name, why in status.unreachable.items()]
    return sorted(found, key=lambda process: process.name)


def ledgers(node: wire.NodeStatus) -> str:
    """Return what is amiss with the ledgers on a node's disk, the first of it in words; "" for nothing (Z13)."""
    reports = [(partition.operator, partition.ledger) for partition in node.partitions if partition.ledger is not None]
    damaged = [(operator, ledger) for operator, ledger in reports if ledger.damage]
    incomplete = [(operator, ledger) for operator, ledger in reports if ledger.missing]
    if damaged:
        operator, ledger = damaged[0]
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        return f"ledger of {operator} damaged at entry {ledger.damage_lsn} in {ledger.damage_file or 'its file'}{more}"
    if incomplete:
        operator, ledger = incomplete[0]
        return f"ledger of {operator} lacks {len(ledger.missing)} sealed segments"
    return ""


def _copies(node: wire.NodeStatus) -> str:
    """Return what is amiss with the copies of a node: those that are recovered, and those that wait for it; "" for nothing."""
    under_way = [one for one in node.partitions if one.recovery and not one.recovery.startswith("done")]
    lost = [one for one in node.partitions if one.aside and one.role in UNUSED and one not in under_way]
    words = [f"{one.operator} recovers: {one.recovery}" for one in under_way[:1]]
    words += [f"{one.operator} put aside as {one.aside}" for one in lost[:1]]
    more = len(under_way) + len(lost) - len(words)
    return "; ".join(words) + (f" and {more} more" if more else "")


def partitions(status: wire.ManagerStatus) -> list[messages.PartitionLine]:
    """Return a line for every operator, with every copy of it that a node has."""
    copies: dict[str, dict[str, wire.PartitionStatus]] = {}
    for name, node in status.nodes.items():
        for partition in node.partitions:
            copies.setdefault(partition.operator, {})[name] = partition
    lines = []
    for operator in sorted(copies.keys() | status.primaries.keys() | status.waiting.keys()):
        here = copies.get(operator, {})
        primary, epoch = status.primaries.get(operator, ("", (0, "")))
        at_primary = here.get(primary)
        lsn = at_primary.commit_lsn if at_primary is not None else 0
        now_ms = at_primary.stamp_ms if at_primary is not None else 0
        takes_part = {name: one for name, one in here.items() if one.role in ("primary", "replica", "learner")}
        replicas = {name: max(0, lsn - one.last_lsn) for name, one in takes_part.items() if name != primary}
        if at_primary is None or not at_primary.serving:
            verdict = "down"
        else:
            verdict = "ok" if all(_has_voter(here, uuid, node) for uuid, node in at_primary.voters.items()) else "degraded"
        rows = [_copy(name, one, lsn, now_ms) for name, one in sorted(here.items())]
        changing = status.changing.get(operator, "")
        lines.append(messages.PartitionLine(operator, primary, epoch[0], lsn, replicas, verdict, rows, changing))
    return lines


def _has_voter(here: Mapping[str, wire.PartitionStatus], store_uuid: str, node: str) -> bool:
    return node in here and here[node].store_uuid == store_uuid


def _copy(node: str, one: wire.PartitionStatus, lsn: int, now_ms: int) -> messages.CopyLine:
    """Return a copy with what it lacks; the time is that since its last entry on the primary's log clock."""
    behind = max(0, lsn - one.last_lsn)
    verified_lsn = one.ledger.verified_lsn if one.ledger is not None else 0
    lag_ms = max(0, now_ms - one.stamp_ms) if behind else 0
    return messages.CopyLine(node, one.role, one.epoch[0], one.last_lsn, behind, lag_ms, verified_lsn, one.aside, one.recovery)


def paused(status: wire.ManagerStatus) -> str:
    """Return by whom and why automatic failover is paused, "" where it is not."""
    note = cluster_record.pause_of(status.record)
    if note is None:
        return ""
    why = f": {note.value['why']}" if note.value.get("why") else ""
    return f"paused by {note.value.get('by') or 'somebody'}{why}"


def worst(processes: Sequence[messages.ProcessStatus], lines: Sequence[messages.PartitionLine]) -> str:
    """Return "down" where some operator cannot sell, "degraded" where anything is amiss, else "ok"."""
    locks = [process.verdict == "ok" for process in processes if process.kind == "lock server"]
    if not lines or any(line.verdict == "down" for line in lines) or 2 * sum(locks) <= len(locks):
        return "down"
    well = {process.verdict for process in processes} | {line.verdict for line in lines} == {"ok"}
    return "ok" if well else "degraded"
