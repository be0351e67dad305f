"""The status of a cluster of which no load balancer answers: from a manager, else from the nodes themselves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from client.certificates import ADMIN
from client.plan import BALANCER, MANAGER, NODE, ClusterPlan, ProcessPlan
from datastore import config as datastore_config
from datastore import messages, overview, wire
from datastore.edge import Address, Tls, tls_of
from datastore.errors import HoldfastError
from datastore.stub import NodeStub
from manager.stub import ManagerStub

NODE_MS = 2_000


def status(plan: ClusterPlan, data: Path, why: str) -> messages.StatusAnswer | None:
    """Return the cluster as those below the balancers see it, None where none of them answers either.

    Args:
        data: The data folder: where TLS is on, the administrator's certificate is in it.
        why: Why no balancer answers.
    """
    tls = tls_of(datastore_config.link_security(plan.mapping), data, ADMIN)
    processes, seen = _managers(plan, tls)
    if seen is None:
        seen = _from_nodes(plan, tls)
    if not seen.nodes:
        return None
    where = {process.name: process.address for process in plan.processes}
    lines = [*overview.nodes(seen, where), *processes]
    lines += [messages.ProcessStatus(one.name, "balancer", one.address, "no answer", "down", why) for one in plan.of(BALANCER)]
    # Lock servers are asked by balancers alone: whether they vote is not known here, and nothing can be sold anyway.
    return messages.StatusAnswer(
        processes=lines,
        partitions=overview.partitions(seen),
        verdict="down",
        as_of_ms=time.time_ns() // 1_000_000,
        paused=overview.paused(seen),
        partial={"lock servers": "not asked, as no balancer answers"},
    )


def _managers(plan: ClusterPlan, tls: Tls | None) -> tuple[list[messages.ProcessStatus], wire.ManagerStatus | None]:
    """Return the managers' lines, and what the one says that reaches most nodes."""
    planned = {Address(one.host, one.port): one for one in plan.of(MANAGER)}
    stub = ManagerStub(list(planned), tls=tls)
    try:
        found = stub.statuses()
    finally:
        stub.close()
    lines = []
    for address, said in found.items():
        name = planned[address].name
        if isinstance(said, str):
            lines.append(messages.ProcessStatus(name, "manager", str(address), "no answer", "down", said))
        else:
            lines.append(overview.running(name, "manager", str(address), uptime_ms=said.uptime_ms))
    seen = [said for said in found.values() if isinstance(said, wire.ManagerStatus)]
    return lines, max(seen, key=lambda said: len(said.nodes), default=None)


def _from_nodes(plan: ClusterPlan, tls: Tls | None) -> wire.ManagerStatus:
    """Ask every node at once; put together what a manager would see."""
    seen = wire.ManagerStatus("", 0, {}, {}, {})

    def look(process: ProcessPlan) -> None:
        stub = NodeStub(Address(process.host, process.port), name=process.name, tls=tls)
        try:
            seen.nodes[process.name] = stub.status(NODE_MS)
        except HoldfastError as error:
            seen.unreachable[process.name] = error.detail
        finally:
            stub.close()

    threads = [threading.Thread(target=look, args=(process,), daemon=True) for process in plan.of(NODE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, node in seen.nodes.items():
        seen.record |= {key: note for key, note in node.record.items() if key not in seen.record or note.counter > seen.record[key].counter}
        for one in node.partitions:
            held = seen.primaries.get(one.operator)
            # Of two that believe to lead, the higher epoch is right.
            if one.role == "primary" and (held is None or one.epoch > held[1]):
                seen.primaries[one.operator] = (name, one.epoch)
    return seen
