"""Three data nodes as real processes on free ports, and what a manager would say to them."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from client.processes import free_ports
from datastore import wire
from datastore.edge import Address
from datastore.errors import HoldfastError
from datastore.stub import NodeStub
from tests import nursery
from tests.unit.datastore.inventory import SERVICE, import_command, schedule
from tests.waiting import wait_until

OPERATOR = "AR"
NAMES = ("node-1", "node-2", "node-3")
CALL_MS = 30_000  # A limit, not an expectation: a machine that others use too may take seconds for anything.
READY_S = 30.0
# No manager is here to name the primary again: on a busy machine one that hears nobody for two seconds would be gone for good,
# and a flush of a second would turn an answer into "unknown".
CALM = "suspicion_ms = 30000\nsubmit_timeout_ms = 25000\n"
HASTY = "submit_timeout_ms = 1000\n"
BASE_MS = 1_795_000_000_000  # November 2026: the log clock of tests, before the services that they sell.


class Nodes:
    """Start, stop, kill and promote; every process is ended by the id it was started with."""

    def __init__(self, folder: Path, settings: str = "", patience: str = CALM) -> None:
        """Write the configuration of three nodes.

        Args:
            settings: Lines for the table of the nodes.
            patience: The lines that say after which silence a primary steps down (R10), and for how long a caller waits.
        """
        self.folder = folder
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        lines = ["[datastore]", "copies = 3", patience, settings]
        for name, port in ports.items():
            lines += ["[[datastore.node]]", f'name = "{name}"', 'host = "127.0.0.1"', f"port = {port}"]
        lines += ["[[datastore.operator]]", f'code = "{OPERATOR}"', 'name = "Test"', 'kind = "airline"', 'primary = "node-1"']
        self.config = folder / "cluster.toml"
        self.config.write_text("\n".join(lines) + "\n")
        self.stubs = {name: NodeStub(Address("127.0.0.1", port), name=name) for name, port in ports.items()}
        self.running: dict[str, nursery.Process] = {}
        self.counter = 0
        self.request = 0

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def store(self, name: str) -> Path:
        return self.folder / "data" / name / "partitions" / f"{OPERATOR}.sqlite"

    def start(self, *names: str, file_bytes_max: int = 0) -> None:
        """Start nodes and wait until they answer; `file_bytes_max` is where their disk is full (0: nowhere)."""
        for name in names or NAMES:
            command = [sys.executable, "-m", "datastore", "serve", "--node", name]
            command += ["--config", str(self.config), "--data", str(self.folder / "data")]
            process = nursery.spawn(command, self.log(name))
            if file_bytes_max:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
            self.running[name] = process
        for name in names or NAMES:
            wait_until(lambda name=name: self.answers(name), f"{name} to serve", READY_S)  # type: ignore[misc]

    def answers(self, name: str) -> bool:
        try:
            self.stubs[name].status(500)
        except HoldfastError:
            return False
        return True

    def kill(self, *names: str) -> None:
        for name in names or tuple(self.running):
            process = self.running.pop(name)
            process.kill()
            process.wait()

    def stop(self, name: str) -> int:
        """End a node with SIGTERM and return its exit code."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(timeout=60)

    def end(self) -> None:
        for stub in self.stubs.values():
            stub.close()
        self.kill()

    def partition(self, name: str) -> wire.PartitionStatus:
        return next(status for status in self.stubs[name].status(CALL_MS).partitions if status.operator == OPERATOR)

    def bootstrap(self) -> dict[str, str]:
        """Make the empty stores and give them their configuration; return the voters."""
        asked = [wire.BootstrapItem(OPERATOR, {})]
        voters = {self.stubs[name].bootstrap(asked, CALL_MS)[0].store_uuid: name for name in NAMES}
        for name in NAMES:
            self.stubs[name].bootstrap([wire.BootstrapItem(OPERATOR, voters)], CALL_MS)
        return voters

    def promote(self, leader: str = "") -> str:
        """Promise a new epoch at every node that runs, name the one that has the most (R2), wait until it serves.

        Args:
            leader: Named if it has as much as any other, which it is given time for. "" leaves the choice open.
        """
        if leader:
            wait_until(lambda: self.last_lsn(leader) == max(map(self.last_lsn, self.running)), f"{leader} to have everything", READY_S)
        self.counter += 1
        epoch = (self.counter, "tests")
        replies = {name: self.stubs[name].promise([wire.PromiseItem(OPERATOR, epoch)], CALL_MS)[0] for name in self.running}
        assert all(reply.granted for reply in replies.values())
        best = max((reply.last_epoch, reply.last_lsn) for reply in replies.values())
        named = leader or next(name for name, reply in replies.items() if (reply.last_epoch, reply.last_lsn) == best)
        assert best == (replies[named].last_epoch, replies[named].last_lsn)
        item = wire.BecomeItem(OPERATOR, epoch, replies[named].store_uuid, BASE_MS)
        became = self.stubs[named].become([item], CALL_MS)[0]
        assert became.accepted, became.reason
        wait_until(lambda: self.partition(named).serving, f"{named} to lead", READY_S)
        return named

    def last_lsn(self, name: str) -> int:
        return self.partition(name).last_lsn

    def submit(
        self, name: str, *commands: wire.AnyCommand, sides: dict[bytes, bytes] | None = None, call_ms: int = CALL_MS
    ) -> list[wire.Outcome]:
        """Return the outcomes, or raise the error of the whole submission; after `call_ms` nobody listens for it any more."""
        result = self.stubs[name].submit([wire.SubmitItem(OPERATOR, wire.encode(list(commands)), sides or {})], call_ms)[0]
        wire.Outcome(0, {}, result.error).unwrap()
        outcomes: list[wire.Outcome] = wire.decode(wire.OUTCOMES, result.outcomes)
        return outcomes

    def import_timetable(self, name: str) -> None:
        self.submit(name, import_command([schedule()], request_id="import-1"))[0].unwrap()

    def hold(self, *seats: str, request_id: str = "", hold_id: str = "", ttl_ms: int = 900_000) -> wire.Hold:
        self.request += 1
        number = self.request
        return wire.Hold(
            request_id=request_id or f"request-{number:08}",
            digest=b"digest",
            hold_id=hold_id or f"hold-{number:08}",
            owner="owner",
            service_id=SERVICE,
            seats=seats,
            ttl_ms=ttl_ms,
            generation=1,
            counter=number,
            nonce=f"nonce-{number}",
            currency="USD",
            prices=(10_000,) * len(seats),
            refundable_percent=50,
            owner_holds_max=1000,
            service_holds_max=1000,
        )

    def read(self, name: str, query: str, **arguments: object) -> wire.ReadResult:
        return self.stubs[name].read([wire.ReadItem(OPERATOR, query, dict(arguments))], CALL_MS)[0]
