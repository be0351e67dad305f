"""The status of the cluster as one balancer sees it: every process with a verdict, and where each operator is."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence

from datastore import cluster_record, messages, wire
from datastore.edge import Address, EdgeClient, Tls
from datastore.errors import HoldfastError
from datastore.settings import ProcessAddress
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.waiting import now_ms

PING_MS = 300


class Watching:
    """The handler of `status`: every process of the cluster with a verdict, and where each operator is."""

    def __init__(
        self, balancer: Balancer, addresses: Mapping[str, Address], tls: Tls | None = None, sandboxes: Sequence[ProcessAddress] = ()
    ) -> None:
        """Begin; `addresses`: of the nodes and managers, by name; `sandboxes`: of payments."""
        self._balancer = balancer
        self._sandboxes = sandboxes
        self._addresses = addresses
        others = [other for other in balancer.config.balancers if other.name != balancer.name]
        self._twins = {
            other.name: EdgeClient(Address(other.host, other.port), tls=tls, role="lb", connect_ms=PING_MS) for other in others
        }

    def close(self) -> None:
        """Close the connections to the other balancers."""
        for twin in self._twins.values():
            twin.close()

    def status(self, request: messages.Status) -> messages.StatusAnswer:
        """Ask every tier how it is."""
        processes = [*self._lock_servers()]
        statuses = self._balancer.managers.statuses()
        seen = [status for status in statuses.values() if isinstance(status, wire.ManagerStatus)]
        # The manager that reaches most nodes tells most of them.
        best = max(seen, key=lambda status: len(status.nodes), default=None)
        if best is not None:
            processes += _nodes(best, self._addresses)
        for address, status in statuses.items():
            if isinstance(status, str):
                name = next((name for name, known in self._addresses.items() if known == address), str(address))
                processes.append(messages.ProcessStatus(name, "manager", str(address), "no answer", "down", status))
            else:
                processes.append(_running(status.manager, "manager", str(address), uptime_ms=status.uptime_ms))
        processes += self._balancers()
        processes += [_sandbox(one) for one in self._sandboxes]
        partitions = _partitions(best) if best is not None else []
        verdict = _worst(processes, partitions)
        if verdict == "ok" and best is not None and any(map(_ledgers, best.nodes.values())):
            verdict = "degraded"
        paused = _paused(best) if best is not None else ""
        return messages.StatusAnswer(processes=processes, partitions=partitions, verdict=verdict, as_of_ms=wall_ms(), paused=paused)

    def _lock_servers(self) -> list[messages.ProcessStatus]:
        found = []
        for state in self._balancer.locks.probe():
            address = f"{state.address.host}:{state.address.port}"
            if state.votes:
                found.append(_running(state.address.name, "lock server", address, f"{state.version}, counter {state.counter}"))
            else:
                word = "refuses" if state.version else "no answer"
                verdict = "degraded" if state.version else "down"
                found.append(messages.ProcessStatus(state.address.name, "lock server", address, word, verdict, state.reason))
        return found

    def _balancers(self) -> list[messages.ProcessStatus]:
        found = []
        for balancer in self._balancer.config.balancers:
            address = Address(balancer.host, balancer.port)
            try:
                said = self.about(None) if balancer.name == self._balancer.name else self._ask_twin(balancer.name)
                found.append(_running(balancer.name, "balancer", str(address), said.detail, said.uptime_ms))
            except HoldfastError as error:
                found.append(messages.ProcessStatus(balancer.name, "balancer", str(address), "no answer", "down", error.detail))
        return found

    def about(self, _request: messages.About | None) -> messages.AboutAnswer:
        """Say how this balancer itself is: what its twins ask, answered without asking anybody."""
        pipeline = self._balancer.pipeline
        detail = f"{pipeline.carried} commands in {pipeline.batches} batches"
        return messages.AboutAnswer(name=self._balancer.name, detail=detail, uptime_ms=now_ms() - self._balancer.started_ms)

    def _ask_twin(self, name: str) -> messages.AboutAnswer:
        reply = self._twins[name].call("about", messages.encode(messages.About()), PING_MS)
        said: messages.AboutAnswer = messages.decode_answer("about", reply)
        return said


def _running(name: str, kind: str, address: str, detail: str = "", uptime_ms: int = 0) -> messages.ProcessStatus:
    return messages.ProcessStatus(name, kind, address, "running", "ok", detail, uptime_ms)


def _sandbox(one: ProcessAddress) -> messages.ProcessStatus:
    """Ask the payment sandbox whether it serves."""
    address = str(Address(one.host, one.port))
    connection = http.client.HTTPConnection(one.host, one.port, timeout=PING_MS / 1000)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.client.OK:
            return _running(one.name, "payment sandbox", address)
        return messages.ProcessStatus(one.name, "payment sandbox", address, "refuses", "degraded", f"HTTP {answer.status}")
    except (OSError, http.client.HTTPException) as error:
        return messages.ProcessStatus(one.name, "payment sandbox", address, "no answer", "down", str(error))
    finally:
        connection.close()


def _nodes(status: wire.ManagerStatus, addresses: Mapping[str, Address]) -> list[messages.ProcessStatus]:
    where = {name: status.addresses.get(name) or str(addresses.get(name, "")) for name in (*status.nodes, *status.unreachable)}
    found = []
    for name, node in status.nodes.items():
        primaries = sum(partition.role == "primary" for partition in node.partitions)
        line = _running(name, "node", where[name], f"{len(node.partitions)} partitions, {primaries} primary", node.uptime_ms)
        amiss = _ledgers(node)
        if amiss:
            line.detail = f"{line.detail}; {amiss}"  # The node itself serves: no start and no restart waits for a repair.
        found.append(line)
    found += [messages.ProcessStatus(name, "node", where[name], "no answer", "down", why) for name, why in status.unreachable.items()]
    return sorted(found, key=lambda process: process.name)


def _ledgers(node: wire.NodeStatus) -> str:
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


def _partitions(status: wire.ManagerStatus) -> list[messages.PartitionLine]:
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
    return messages.CopyLine(node, one.role, one.epoch[0], one.last_lsn, behind, max(0, now_ms - one.stamp_ms) if behind else 0)


def _paused(status: wire.ManagerStatus) -> str:
    note = cluster_record.pause_of(status.record)
    if note is None:
        return ""
    why = f": {note.value['why']}" if note.value.get("why") else ""
    return f"paused by {note.value.get('by') or 'somebody'}{why}"


def _worst(processes: list[messages.ProcessStatus], partitions: list[messages.PartitionLine]) -> str:
    """Return "down" where some operator cannot sell, "degraded" where anything is amiss, else "ok"."""
    locks = [process.verdict == "ok" for process in processes if process.kind == "lock server"]
    if not partitions or any(line.verdict == "down" for line in partitions) or 2 * sum(locks) <= len(locks):
        return "down"
    well = {process.verdict for process in processes} | {line.verdict for line in partitions} == {"ok"}
    return "ok" if well else "degraded"
