"""Broken rules of recovery: damaged, old and lost stores, and snapshots (R11-R14)."""

from __future__ import annotations

from contextlib import ExitStack

from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.replication import Replica
from datastore.replication_steps import Append, Plan
from tests.simulation import recoveries
from tests.simulation.cluster import Parts
from tests.simulation.disk import SimulatedStore
from tests.simulation.faults import mutation, replaced
from tests.simulation.faults_replication import with_machine, with_store
from tests.simulation.nodes import DataNode


@mutation("a file put back from a backup is used", "R11", "setback", quick=True)
def _uses_backup(parts: Parts, _: ExitStack) -> None:
    class Trusted(Replica):
        """Does not look at what it has acknowledged either."""

        def append(self, message: Append, now_ms: int) -> Plan:
            return super().append(message._replace(acked_lsn=0), now_ms)

    class Trusting(DataNode):
        machine_type = Trusted

        def why_not_use(self, store: SimulatedStore) -> str:
            return ""

    parts.node = Trusting


@mutation("a damaged file is used", "R11", "recover", quick=True)
def _uses_damaged(parts: Parts, _: ExitStack) -> None:
    class Unread(SimulatedStore):
        def verify(self) -> None:
            pass

    with_store(parts, Unread)


@mutation("a snapshot brings its source's promises", "R13", "recover")
def _takes_promises(parts: Parts, _: ExitStack) -> None:
    class Adopts(SimulatedStore):
        def adopt(self, store_uuid: str, promised: Epoch, led: Epoch) -> None:
            self.store_uuid = store_uuid
            MemoryStore.save_epochs(self, self._promised, self._led)

    with_store(parts, Adopts)


@mutation("who lacks what no log has any more asks for nothing", "R12", "absent", quick=True)
def _never_asks(parts: Parts, _: ExitStack) -> None:
    class Waits(Replica):
        def _needs_snapshot(self, message: Append) -> bool:
            return super()._needs_snapshot(message._replace(needs_snapshot=False))

    with_machine(parts, Waits)


@mutation("a snapshot that came is not compared with what was offered", "R13", "torn", quick=True)
def _unchecked(_: Parts, stack: ExitStack) -> None:
    # Neither block by block, as what was left by an earlier try is, nor as a whole.
    stack.enter_context(replaced(recoveries.SimulatedIncoming, "differing", lambda self, offer, size_bytes: ()))
    stack.enter_context(replaced(recoveries._Checks, "run", lambda self, action, arguments, size_bytes: {"reason": ""}))
