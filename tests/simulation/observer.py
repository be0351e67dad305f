"""What is watched while a run goes on: roles, promises and commits of every store, as each turn leaves them.

It looks at what a node tells (its status and its log), not at how it came to it. Each check names the invariant of
docs/proof.md that it stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datastore.ledger import SealedEntry
from datastore.model import EPOCH_NONE, Epoch
from datastore.partition import Partition
from tests.simulation.disk import SimulatedStore
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.nodes import DataNode


class Ledger:
    """One operator's committed entries as they became known, and in which epoch each was committed."""

    def __init__(self) -> None:
        self.entries: list[SealedEntry] = []
        self.epochs: list[Epoch] = []


class Observer:
    """Everything that was committed, promised and led."""

    def __init__(self) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.leaders: dict[tuple[str, Epoch], str] = {}
        self.promises: dict[tuple[str, str], tuple[Epoch, Epoch]] = {}  # (operator, store) -> highest promised and led
        self._reach: dict[tuple[str, str], int] = {}  # (operator, store) -> lsn up to which its commits were compared
        self._looked: dict[Partition, tuple[object, ...]] = {}

    def opened(self, node: DataNode, partition: Partition) -> None:
        """A store was opened: what it swore before it must still know (I5)."""
        self._compare_promises(node, partition)

    def ticked(self, node: DataNode, partition: Partition) -> None:
        """R10: a primary that no majority answers steps down."""
        machine = partition.machine
        if machine.is_primary:
            alone_ms = machine.heard_age_ms(node.now_ms())
            if alone_ms > 2 * node.times.suspicion_ms + 2 * node.times.heartbeat_ms:
                raise Violation("step down", f"{node.name} leads {machine.epoch} though no majority answered for {alone_ms} ms")

    def after_turn(self, node: DataNode, partition: Partition) -> None:
        machine = partition.machine
        facts = (machine.promised, machine.led, machine.is_primary, machine.epoch, machine.store_uuid, partition.committed.lsn)
        if self._looked.get(partition) == facts:
            return  # Most turns change none of it.
        self._looked[partition] = facts
        self._compare_promises(node, partition)
        if machine.is_primary:
            key = (partition.operator, machine.epoch)
            leader = self.leaders.get(key)
            if leader is None:
                self.leaders[key] = machine.store_uuid
                node.tell("leads {} from entry {} on in epoch {}", partition.operator, machine.tail.lsn, machine.epoch.counter)
                self._check_complete(node, partition)
            elif leader != machine.store_uuid:
                raise Violation("one primary an epoch", f"{leader} and {machine.store_uuid} lead {machine.epoch} of {partition.operator}")
        if partition.committed.lsn > self._reach.get((partition.operator, machine.store_uuid), 0):
            self._compare_commits(node, partition)

    def _compare_promises(self, node: DataNode, partition: Partition) -> None:
        machine = partition.machine
        key = (partition.operator, machine.store_uuid)
        promised, led = self.promises.get(key, (EPOCH_NONE, EPOCH_NONE))
        if machine.promised == promised and machine.led == led:
            return
        if machine.promised < promised or machine.led < led:
            raise Violation(
                "promises never fall",
                f"{node.name} promised {promised} and led {led}, and now knows of {machine.promised} and {machine.led}",
            )
        if machine.led > machine.promised:
            raise Violation("promises never fall", f"{node.name} led {machine.led} and promised only {machine.promised}")
        self.promises[key] = (machine.promised, machine.led)

    def _check_complete(self, node: DataNode, partition: Partition) -> None:
        """I6: who leads an epoch has everything that was committed in earlier ones."""
        ledger = self.ledgers.get(partition.operator)
        if ledger is None:
            return
        epoch, store = partition.machine.epoch, partition.store
        assert isinstance(store, SimulatedStore)
        for sealed, committed_in in zip(ledger.entries, ledger.epochs, strict=True):
            lsn = sealed.entry.lsn
            if committed_in < epoch and (lsn > partition.machine.tail.lsn or store.hash_of(lsn) != sealed.hash):
                raise Violation(
                    "a primary is complete", f"{node.name} leads {epoch} without entry {lsn}, which was committed in {committed_in}"
                )

    def _compare_commits(self, node: DataNode, partition: Partition) -> None:
        """I4: whatever is committed at one lsn is the same everywhere."""
        machine, store = partition.machine, partition.store
        assert isinstance(store, SimulatedStore)
        key = (partition.operator, machine.store_uuid)
        ledger = self.ledgers.setdefault(partition.operator, Ledger())
        for lsn in range(self._reach.get(key, 0) + 1, partition.committed.lsn + 1):
            if lsn > len(ledger.entries):
                ledger.entries.append(store.entry_of(lsn))
                ledger.epochs.append(machine.epoch if machine.is_primary else machine.promised)
            elif ledger.entries[lsn - 1].hash != store.hash_of(lsn):
                raise Violation("one ledger", f"{node.name} committed another entry {lsn} of {partition.operator} than others did before")
        self._reach[key] = partition.committed.lsn
