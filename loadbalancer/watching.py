"""The status of the cluster as one balancer sees it: every process with a verdict, and where each operator is."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence

from datastore import messages, overview, wire
from datastore.edge import Address, EdgeClient, Tls
from datastore.errors import HoldfastError
from datastore.settings import ProcessAddress
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.waiting import now_ms

PING_MS = 300
HOT_SEATS = 20  # Told of each balancer.


class Watching:
    """The handlers of `status`, `locks` and `about`: every process of the cluster with a verdict, and where each operator is."""

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
            processes += overview.nodes(best, {name: str(address) for name, address in self._addresses.items()})
        for address, status in statuses.items():
            if isinstance(status, str):
                name = next((name for name, known in self._addresses.items() if known == address), str(address))
                processes.append(messages.ProcessStatus(name, "manager", str(address), "no answer", "down", status))
            else:
                processes.append(overview.running(status.manager, "manager", str(address), uptime_ms=status.uptime_ms))
        processes += self._balancers()
        processes += [_sandbox(one) for one in self._sandboxes]
        partitions = overview.partitions(best) if best is not None else []
        verdict = overview.worst(processes, partitions)
        if verdict == "ok" and best is not None and any(map(overview.ledgers, best.nodes.values())):
            verdict = "degraded"
        paused = overview.paused(best) if best is not None else ""
        return messages.StatusAnswer(processes=processes, partitions=partitions, verdict=verdict, as_of_ms=wall_ms(), paused=paused)

    def locks(self, request: messages.Locks) -> messages.LocksAnswer:
        """Say which locks stand on the lock servers, and whose they are."""
        names = [*self._addresses, *(one.name for one in self._balancer.config.balancers)]
        found = self._balancer.locks.standing(names, request.limit)
        lines = [messages.LockLine(lock.key, lock.holder, lock.left_ms, list(lock.servers)) for lock in found.locks]
        return messages.LocksAnswer(
            locks=lines, asked=found.asked, quorum=found.quorum, unread=found.unread, more=found.more
        )

    def _lock_servers(self) -> list[messages.ProcessStatus]:
        found = []
        for state in self._balancer.locks.probe():
            address = f"{state.address.host}:{state.address.port}"
            if state.votes:
                found.append(overview.running(state.address.name, "lock server", address, f"{state.version}, counter {state.counter}"))
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
                line = overview.running(balancer.name, "balancer", str(address), said.detail, said.uptime_ms)
                line.figures, line.hot = said.figures, said.hot
                found.append(line)
            except HoldfastError as error:
                found.append(messages.ProcessStatus(balancer.name, "balancer", str(address), "no answer", "down", error.detail))
        return found

    def about(self, _request: messages.About | None) -> messages.AboutAnswer:
        """Say how this balancer itself is: what its twins ask, answered without asking anybody."""
        pipeline = self._balancer.pipeline
        detail = f"{pipeline.carried} commands in {pipeline.batches} batches"
        contention = pipeline.locker.contention
        figures = {
            "commands": pipeline.carried,
            "batches": pipeline.batches,
            "waited": contention.waited,
            "contended": contention.contended,
            "refused": contention.refused,
        }
        return messages.AboutAnswer(
            name=self._balancer.name,
            detail=detail,
            uptime_ms=now_ms() - self._balancer.started_ms,
            figures=figures,
            hot=contention.hottest(HOT_SEATS),
        )

    def _ask_twin(self, name: str) -> messages.AboutAnswer:
        reply = self._twins[name].call("about", messages.encode(messages.About()), PING_MS)
        said: messages.AboutAnswer = messages.decode_answer("about", reply)
        return said


def _sandbox(one: ProcessAddress) -> messages.ProcessStatus:
    """Ask the payment sandbox whether it serves."""
    address = str(Address(one.host, one.port))
    connection = http.client.HTTPConnection(one.host, one.port, timeout=PING_MS / 1000)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.client.OK:
            return overview.running(one.name, "payment sandbox", address)
        return messages.ProcessStatus(one.name, "payment sandbox", address, "refuses", "degraded", f"HTTP {answer.status}")
    except (OSError, http.client.HTTPException) as error:
        return messages.ProcessStatus(one.name, "payment sandbox", address, "no answer", "down", str(error))
    finally:
        connection.close()
