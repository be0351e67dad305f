"""One partition on three stores under several managers, where every message may be late, lost, repeated or overtaken.

The managers are the production machines (`manager.failover.OperatorWatch`). The stores are a small model of the rules
that a node keeps (R1, R4, R5, R6), with a crash that loses the role and nothing that was flushed. The checkers know only
what was committed and who led: they do not know why.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from datastore.model import EPOCH_NONE, Epoch
from datastore.wire import BecomeItem, BecomeReply, BootstrapReply, PartitionStatus, PromiseReply
from manager import failover
from manager.failover import OperatorWatch, Sighting

HEARTBEAT_MS = 250
SUSPICION_MS = 1_000
Entry = tuple[Epoch, int]


class Violation(AssertionError):
    """A checker found what must never be."""


@dataclass
class Store:
    """A store: what is on its disk, and the role that a crash takes away."""

    uuid: str
    node: str
    promised: Epoch = EPOCH_NONE
    led: Epoch = EPOCH_NONE
    log: list[Entry] = field(default_factory=list)
    voters: dict[str, str] = field(default_factory=dict)
    leads: Epoch | None = None
    match: dict[str, int] = field(default_factory=dict)
    commit: int = 0

    def crash(self) -> None:
        self.leads, self.match, self.commit = None, {}, 0

    def bootstrap(self, voters: dict[str, str]) -> BootstrapReply:
        if voters and not self.voters and not self.log:
            self.voters = dict(voters)
        return BootstrapReply("AA", self.uuid, dict(self.voters), len(self.log))

    def promise(self, epoch: Epoch, now_ms: int) -> PromiseReply:
        granted = epoch > self.promised
        if granted:
            self.promised, self.leads = epoch, None
        last = self.log[-1][0] if self.log else EPOCH_NONE
        return PromiseReply("AA", granted, self.promised, last, len(self.log), self.uuid, dict(self.voters), now_ms, -1)

    def become(self, item: BecomeItem) -> BecomeReply:
        epoch = Epoch(*item.epoch)
        if item.store_uuid != self.uuid or epoch != self.promised or self.led >= epoch:
            return BecomeReply("AA", False, "not promised, or led before")
        self.led = self.leads = epoch
        self.log.append((epoch, 0))
        self.match = {self.uuid: len(self.log)}
        return BecomeReply("AA", True)

    def append(self, epoch: Epoch, entries: list[Entry]) -> int | None:
        """R5 with the whole log in the message; return what is durable here, None for a refusal."""
        if epoch < self.promised or self.leads == epoch:
            return None
        if epoch > self.promised:
            self.promised, self.leads = epoch, None
        for index, entry in enumerate(entries):
            if index >= len(self.log):
                self.log.append(entry)
            elif self.log[index] != entry:
                del self.log[index:]
                self.log.append(entry)
        return len(entries)

    def acknowledged(self, epoch: Epoch, store: str, lsn: int) -> None:
        if self.leads != epoch:
            return
        self.match[store] = max(self.match.get(store, 0), lsn)
        reached = sorted((self.match.get(voter, 0) for voter in self.voters), reverse=True)[len(self.voters) // 2]
        if reached > self.commit and self.log[reached - 1][0] == epoch:  # R6: an entry of the own epoch
            self.commit = reached

    def status(self) -> PartitionStatus:
        role = "primary" if self.leads else ("replica" if self.voters else "empty")
        last = self.log[-1][0] if self.log else EPOCH_NONE
        serving = self.leads is not None and self.commit > 0
        return PartitionStatus(
            "AA", role, self.uuid, self.promised, last, len(self.log), self.commit, self.commit, -1, serving, dict(self.voters)
        )


@dataclass
class Manager:
    """A manager's shell: the question that is open and the answers that came so far."""

    machine: OperatorWatch
    asked: failover.Instruction | None = None
    replies: dict[str, object] = field(default_factory=dict)


class World:
    """Walks at random, seeded; `step` does one thing and checks."""

    def __init__(self, seed: int, make: Callable[[str], OperatorWatch], managers: int = 2) -> None:
        self.random = random.Random(seed)
        self.now_ms = 0
        nodes = [f"node-{number}" for number in (1, 2, 3)]
        self.placed = tuple(nodes)
        self.stores = {node: Store(f"u{number}", node) for number, node in enumerate(nodes, 1)}
        self.down: set[str] = set()
        if seed % 4:
            # Most walks begin after the founding, which needs all three at once.
            for store in self.stores.values():
                store.bootstrap({other.uuid: other.node for other in self.stores.values()})
        self.make = make
        self.count = managers
        self.managers = [Manager(make(f"m{number}")) for number in range(managers)]
        self.wire: list[Callable[[], None]] = []
        self.committed: list[Entry] = []
        self.committed_in: list[Epoch] = []  # the reign that committed each: an old entry may only be so by a later one (R6)
        self.leaders: dict[Epoch, str] = {}
        self.values = 0

    # -- checkers ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        for store in self.stores.values():
            if store.leads:
                if self.leaders.setdefault(store.leads, store.uuid) != store.uuid:
                    raise Violation(f"two primaries in {store.leads}: {self.leaders[store.leads]} and {store.uuid}")
                for entry, epoch in zip(self.committed, self.committed_in, strict=True):
                    if epoch < store.leads and entry not in store.log:
                        raise Violation(f"{store.uuid} leads {store.leads} without {entry}, committed in {epoch}")
            for index in range(min(store.commit, len(store.log))):
                if index >= len(self.committed):
                    self.committed.append(store.log[index])
                    self.committed_in.append(store.log[store.commit - 1][0])
                elif self.committed[index] != store.log[index]:
                    raise Violation(f"committed {self.committed[index]} at {index + 1}, now {store.log[index]} on {store.uuid}")

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        self.now_ms += self.random.randrange(0, 300)
        roll = self.random.random()
        if roll < 0.42 and self.wire:
            index = self.random.randrange(len(self.wire))
            message = self.wire[index] if self.random.random() < 0.1 else self.wire.pop(index)  # now and then it comes again
            message()
        elif roll < 0.47 and self.wire:
            self.wire.pop(self.random.randrange(len(self.wire)))
        elif roll < 0.72:
            self.manage(self.random.choice(self.managers))
        elif roll < 0.95:
            self.replicate(self.random.choice(list(self.stores.values())))
        elif roll < 0.985:
            node = self.random.choice(self.placed)
            if node in self.down:
                self.down.discard(node)
            else:
                self.down.add(node)
                self.stores[node].crash()
        elif roll < 0.99:
            # A manager that starts anew draws a new uuid; whatever it had under way is abandoned.
            self.count += 1
            self.managers[self.random.randrange(len(self.managers))] = Manager(self.make(f"m{self.count}"))
        self.check()

    def replicate(self, store: Store) -> None:
        epoch = store.leads
        if epoch is None or store.node in self.down:
            return
        if self.random.random() < 0.5:
            self.values += 1
            store.log.append((epoch, self.values))
            store.match[store.uuid] = len(store.log)
        for other in self.stores.values():
            if other is not store and self.random.random() < 0.7:
                self.wire.append(self._append(store, epoch, other, list(store.log)))

    def _append(self, store: Store, epoch: Epoch, other: Store, entries: list[Entry]) -> Callable[[], None]:
        def deliver() -> None:
            if other.node in self.down:
                return
            lsn = other.append(epoch, entries)
            if lsn is not None:
                self.wire.append(lambda: store.acknowledged(epoch, other.uuid, lsn) if store.node not in self.down else None)

        return deliver

    def sighting(self) -> Sighting:
        seen = [node for node in self.placed if node not in self.down and self.random.random() < 0.95]
        return Sighting(self.placed, {node: self.stores[node].status() for node in seen}, frozenset(set(self.placed) - set(seen)))

    def manage(self, manager: Manager) -> None:
        """Close the open question with the answers that came, or look anew."""
        if self._waits_on(manager) and self.random.random() < 0.8:
            return
        asked, manager.asked = manager.asked, None
        replies, manager.replies = manager.replies, {}
        event: failover.Event
        if asked is None:
            event = failover.Observed(self.sighting(), self.random.random())
        elif isinstance(asked, failover.NameStores):
            event = failover.StoresNamed(dict(replies))  # type: ignore[arg-type]
        elif isinstance(asked, failover.Configure):
            event = failover.Configured(dict(replies))  # type: ignore[arg-type]
        elif isinstance(asked, failover.AskPromises):
            event = failover.PromisesGiven(asked.epoch, dict(replies))  # type: ignore[arg-type]
        elif isinstance(asked, failover.NameOne):
            event = failover.BecomeAnswered(Epoch(*asked.item.epoch), replies.get(asked.node))  # type: ignore[arg-type]
        else:
            event = failover.LeaseSettled(self.random.choice(list(failover.Lease)))
        for instruction in manager.machine.receive(event, self.now_ms):
            self._carry_out(manager, instruction)

    def _waits_on(self, manager: Manager) -> bool:
        """Return whether answers are still missing; a shell gives up on them now and then."""
        asked = manager.asked
        if isinstance(asked, failover.NameOne):
            return not manager.replies
        many = failover.NameStores | failover.Configure | failover.AskPromises
        return isinstance(asked, many) and len(manager.replies) < len(asked.nodes)

    def _carry_out(self, manager: Manager, instruction: failover.Instruction) -> None:
        if isinstance(instruction, failover.Report):
            return
        manager.asked, manager.replies = instruction, {}
        if isinstance(instruction, failover.NameOne):
            item = instruction.item
            self._send(manager, instruction.node, lambda store: store.become(item))
        elif isinstance(instruction, failover.AskPromises):
            epoch = instruction.epoch
            for node in instruction.nodes:
                self._send(manager, node, lambda store: store.promise(epoch, self.now_ms))
        elif isinstance(instruction, failover.NameStores | failover.Configure):
            voters = instruction.voters if isinstance(instruction, failover.Configure) else {}
            for node in instruction.nodes:
                self._send(manager, node, lambda store: store.bootstrap(voters))

    def _send(self, manager: Manager, node: str, question: Callable[[Store], object]) -> None:
        replies = manager.replies  # Of this question: a late answer must not count for a later one.

        def deliver() -> None:
            if node not in self.down:
                answer = question(self.stores[node])
                self.wire.append(lambda: replies.setdefault(node, answer))  # type: ignore[arg-type,return-value]

        self.wire.append(deliver)
