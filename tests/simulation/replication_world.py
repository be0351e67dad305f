"""Three stores, two managers and a bad network under one seed, driving the production replication machine.

Messages are delivered in any order, more than once, late or never. A store may stop at any step of a plan: what it had
sent is under way, what it had not flushed is gone. The managers follow R2 and R3; `Broken` names what to get wrong.
Checked after every step: no two stores commit different entries at one lsn (I4), one store leads an epoch (I6), promises
never fall (I5).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from datastore.errors import InvariantBroken
from datastore.ledger import BATCH, Entry, SealedEntry, seal
from datastore.memory import MemoryStore
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication import Replica
from datastore.replication_steps import (
    Append,
    AppendAnswer,
    Became,
    Commit,
    Persist,
    Plan,
    Promised,
    ReplicationSettings,
    Send,
    Write,
)
from datastore.rows import ConfigRow

STORES = ("store-0", "store-1", "store-2")
CONFIG = ConfigRow({name: name for name in STORES})


class Violation(Exception):
    """What must never be was seen."""


class Rules(NamedTuple):
    """The right rules; a test replaces one."""

    machine: type[Replica] = Replica
    promise_is_durable: bool = True
    identity_dies_with_disk: bool = True
    choice: Callable[[Promised], object] | None = lambda reply: (reply.last.epoch, reply.last.lsn)
    named_per_epoch: int = 1


class Message(NamedTuple):
    """Either half of an exchange: `send` says of which APPEND."""

    to: str
    body: Append | AppendAnswer | Promised | Became | tuple[str, Epoch, str]
    origin: str = ""
    seq: int = 0


@dataclass
class Site:
    """One store and the machine that runs on it; None while it is down."""

    store: MemoryStore
    machine: Replica | None
    highest: Epoch = EPOCH_NONE


@dataclass
class Manager:
    """One promotion at a time: promise, choose, name."""

    uuid: str
    epoch: Epoch = EPOCH_NONE
    replies: dict[str, Promised] = field(default_factory=dict)
    named: int = 0


class World:
    """One walk."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.random = random.Random(seed)
        # With a heartbeat a step, an APPEND is nearly always under way; with a rare one, seldom: both have their faults.
        self.settings = ReplicationSettings(self.random.choice((1, 20)), suspicion_ms=1_000_000, entries_per_append=1)
        self.rules = rules
        self.now_ms = 0
        self.messages: list[Message] = []
        self.sealed: dict[bytes, SealedEntry] = {}
        self.committed: list[bytes] = []
        self.leaders: dict[Epoch, str] = {}
        self.commands = 0
        self.becomes: dict[str, Message] = {}
        self.story: list[str] = []
        self.managers = [Manager("a"), Manager("b")]
        self.sites = {name: self._new_site(name) for name in STORES}
        # Two of three walks prefer one kind of trouble: faults that need each other are met more often.
        self.loss = self.random.choice((0.02, 0.2, 0.6))
        self.crashes = self.random.choice((0.1, 0.5, 1.5))
        self.promotions = self.random.choice((0.05, 0.5, 2.0))
        self.cuts = self.random.choice((0.3, 1.0, 3.0))
        self.cut: set[str] = set()

    def _new_site(self, name: str) -> Site:
        store = MemoryStore("AR", name)
        store.save_config(CONFIG)
        return Site(store, self.rules.machine(store.summary(), store, self.settings))

    def walk(self, steps: int) -> None:
        """Take random steps.

        Raises:
            Violation: With the story.
        """
        actions: list[tuple[Callable[[], object], float]] = [
            (self._deliver, 60.0),
            (self._propose, 5.0),
            (self._tick, 2.0),
            (self._crash, 0.4 * self.crashes),
            (self._restart, 3.0),
            (self._begin_promotion, self.promotions),
            (self._cut_off, self.cuts),
            (self._name, 4.0),
        ]
        calls, weights = [action for action, _ in actions], [weight for _, weight in actions]
        for action in self.random.choices(calls, weights, k=steps):
            self.now_ms += 1
            try:
                action()
            except InvariantBroken as error:
                raise Violation(f"{error.detail}\n" + "\n".join(self.story[-60:])) from error

    # --- the network ----------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        if not self.messages:
            self._go_on()
            return
        index = self.random.randrange(len(self.messages))
        message = self.messages[index]
        # What a manager says is repeated more often than the rest: its machines must bear it best.
        if self.random.random() > (0.4 if isinstance(message.body, tuple) and message.body[0] == "become" else 0.1):
            self.messages[index] = self.messages[-1]
            self.messages.pop()
        loss = self.loss if isinstance(message.body, Append) else min(self.loss, 0.1)
        if self.random.random() < loss or message.to in self.cut or message.origin in self.cut:
            return
        self._receive(message)

    def _receive(self, message: Message) -> None:
        manager = next((m for m in self.managers if m.uuid == message.to), None)
        if manager is not None:
            self._manager_hears(manager, message)
            return
        site = self.sites[message.to]
        if site.machine is None:
            return
        match message.body:
            case Append() as append:
                plan = site.machine.append(append, self.now_ms)
                self._carry_out(message.to, plan, lambda reply: Message(message.origin, reply, message.to, message.seq))
            case AppendAnswer() as answer:
                self._carry_out(message.to, site.machine.answered(message.origin, message.seq, answer, self.now_ms))
            case ("promise", epoch, _):
                plan = site.machine.promise(epoch, self.now_ms)
                self._carry_out(message.to, plan, lambda reply: Message(message.origin, reply, message.to))
            case ("become", epoch, store_uuid):
                self._carry_out(message.to, site.machine.become(epoch, store_uuid, 0, self.now_ms))

    def _lose_waits(self) -> None:
        """Give up on what was sent long ago, as a shell does after its time-out."""
        for site in self.sites.values():
            if site.machine is not None:
                for name, follower in site.machine._followers.items():
                    if follower.busy and self.random.random() < 0.5:
                        site.machine.lost(name, follower.busy)

    # --- a store's shell ------------------------------------------------------------------------------------------

    def _carry_out(self, name: str, plan: Plan, answer: Callable[[AppendAnswer | Promised | Became], Message] | None = None) -> None:
        """Carry out a plan, or stop for good at any of its steps."""
        site = self.sites[name]
        stop_at = self._stop_at(plan)
        for step in plan.steps:
            if isinstance(step, Write):
                self.sealed.update({sealed.hash: sealed for sealed in step.entries})
        fresh = {sealed.entry.lsn: sealed for step in plan.steps if isinstance(step, Write) for sealed in step.entries}
        for index, step in enumerate(plan.steps):
            if index == stop_at:
                self._stop(name)
                return
            match step:
                case Persist(promised, led):
                    kept = promised if self.rules.promise_is_durable else EPOCH_NONE
                    site.store.save_epochs(kept, led)
                    self._check_epochs(name, promised)
                case Write(truncate_from, entries):
                    site.store.append(entries, truncate_from)
                case Send():
                    self._send(name, step, fresh)
                case Commit(lsn):
                    self._commit(name, lsn)
        if len(plan.steps) == stop_at:
            self._stop(name)
            return
        if answer is not None and plan.reply is not None:
            self.messages.append(answer(plan.reply))
        machine = site.machine
        if machine is not None and machine.is_primary:
            self._check_leader(name, machine.epoch)
            for step in plan.steps:
                if isinstance(step, Write):
                    self._carry_out(name, machine.wrote(step.entries[-1].entry.lsn, self.now_ms))

    def _stop_at(self, plan: Plan) -> int:
        """Return the step before which the store stops, or -1.

        A command that was shipped and is not flushed yet makes the worst of all stops, so it comes more often.
        """
        last = plan.steps[-1] if plan.steps else None
        if isinstance(last, Write) and len(plan.steps) > 1 and last.entries[0].entry.kind == BATCH:
            return len(plan.steps) - 1 if self.random.random() < 0.2 * self.crashes else -1
        return self.random.randrange(len(plan.steps) + 1) if self.random.random() < 0.04 * self.crashes else -1

    def _send(self, name: str, step: Send, fresh: dict[int, SealedEntry]) -> None:
        store = self.sites[name].store
        entries = [
            fresh[lsn] if lsn in fresh else self.sealed[store.hash_at(lsn)] for lsn in range(step.previous_lsn + 1, step.last_lsn + 1)
        ]
        body = Append(step.epoch, step.previous_lsn, step.previous_epoch, entries, step.commit_lsn)
        self.messages.append(Message(step.store_uuid, body, name, step.seq))

    def _commit(self, name: str, lsn: int) -> None:
        store = self.sites[name].store
        self.story.append(f"{name} commits {lsn}")
        for number in range(store.applied_lsn + 1, lsn + 1):
            digest = store.hash_at(number)
            if number <= len(self.committed):
                if self.committed[number - 1] != digest:
                    raise Violation(f"two entries committed at {number}\n" + "\n".join(self.story[-60:]))
            else:
                self.committed.append(digest)
            store.stage(self.sealed[digest])
        if self.random.random() < 0.3:
            store.flush_staged()

    # --- what happens of itself -----------------------------------------------------------------------------------

    def _propose(self) -> None:
        for name in self.random.sample(STORES, len(STORES)):
            machine = self.sites[name].machine
            if machine is not None and machine.may_propose:
                self.commands += 1
                entry = Entry(machine.epoch, machine.tail.lsn + 1, machine.stamp(self.now_ms), BATCH, [(f"r{self.commands}", b"")])
                self.story.append(f"{name} proposes {entry.lsn} in {machine.epoch}")
                self._carry_out(name, machine.propose(seal(entry, machine.tail.hash), self.now_ms))
                return

    def _tick(self) -> None:
        self._lose_waits()
        for name in STORES:
            machine = self.sites[name].machine
            if machine is not None:
                self._carry_out(name, machine.tick(self.now_ms))

    def _go_on(self) -> None:
        """Nothing is under way: let time pass, or look for a primary where there is none."""
        if any(site.machine is not None and site.machine.is_primary for site in self.sites.values()):
            self._tick()
        elif self.random.random() < 0.5:
            self._restart()
        elif not self._name():
            self._begin_promotion()

    def _cut_off(self) -> None:
        """One store, or none, hears and is heard no more for a while."""
        leading = [name for name, site in self.sites.items() if site.machine is not None and site.machine.is_primary]
        chosen = self.random.choice(leading) if leading and self.random.random() < 0.5 else self.random.choice(STORES)
        self.cut = {chosen} if self.random.random() < 0.8 else set()
        if leading and self.random.random() < 0.5:
            self._begin_promotion()

    def _crash(self) -> None:
        self._stop(self.random.choice(STORES))

    def _stop(self, name: str) -> None:
        site = self.sites[name]
        if site.machine is None:
            return
        self.story.append(f"{name} stops, log at {site.machine.tail.lsn}")
        site.machine = None
        site.store = site.store.crashed()
        if not self.rules.identity_dies_with_disk and self.random.random() < 0.3:
            self.story.append(f"{name} loses its disk")
            site.store = MemoryStore("AR", name)
            site.store.save_config(CONFIG)

    def _restart(self) -> None:
        for name, site in self.sites.items():
            if site.machine is None and self.random.random() < 0.7:
                site.machine = self.rules.machine(site.store.summary(), site.store, self.settings)
                self.story.append(f"{name} starts, log at {site.machine.tail.lsn}")
                if name in self.becomes and self.random.random() < 0.5:
                    self.messages.append(self.becomes[name])  # A late duplicate finds a machine that forgot its role.

    # --- managers -------------------------------------------------------------------------------------------------

    def _begin_promotion(self) -> None:
        manager = self.random.choice(self.managers)
        seen = max(max(m.epoch.counter for m in self.managers), max((r.promised.counter for r in manager.replies.values()), default=0))
        manager.epoch = Epoch(seen + self.random.choice((0, 1)) or 1, manager.uuid)
        if any(reply.granted and reply.promised >= manager.epoch for reply in manager.replies.values()):
            manager.epoch = Epoch(seen + 1, manager.uuid)
        manager.replies = {}
        manager.named = 0
        self.story.append(f"manager {manager.uuid} asks for {manager.epoch.counter}")
        reached = self.random.sample(STORES, self.random.choice((2, 3)))
        self.messages += [Message(name, ("promise", manager.epoch, ""), manager.uuid) for name in reached]

    def _manager_hears(self, manager: Manager, message: Message) -> None:
        if isinstance(message.body, Promised) and (not message.body.granted or message.body.promised == manager.epoch):
            manager.replies.setdefault(message.origin, message.body)

    def _name(self) -> bool:
        """R2 and R3: of a majority of the voters, name the one that has the most, once; return whether one was named."""
        before = sum(manager.named for manager in self.managers)
        for manager in self.managers:
            granted = {name: reply for name, reply in manager.replies.items() if reply.granted}
            if len(granted) < 2 or manager.named >= self.rules.named_per_epoch:
                continue
            names = sorted(granted)
            choice = self.rules.choice
            if choice is None or manager.named:
                name = self.random.choice(names)
            else:
                best = max(choice(granted[name]) for name in names)  # type: ignore[type-var]
                name = self.random.choice([name for name in names if choice(granted[name]) == best])
            manager.named += 1
            self.story.append(f"manager {manager.uuid} names {name} for {manager.epoch.counter}")
            self.becomes[name] = Message(name, ("become", manager.epoch, name), manager.uuid)
            self.messages.append(self.becomes[name])
        return sum(manager.named for manager in self.managers) > before

    # --- checks ---------------------------------------------------------------------------------------------------

    def _check_leader(self, name: str, epoch: Epoch) -> None:
        if self.leaders.setdefault(epoch, name) != name:
            raise Violation(f"{name} and {self.leaders[epoch]} lead {epoch}\n" + "\n".join(self.story[-60:]))

    def _check_epochs(self, name: str, promised: Epoch) -> None:
        site = self.sites[name]
        if promised < site.highest:
            raise Violation(f"{name} promised {site.highest} and then {promised}\n" + "\n".join(self.story[-60:]))
        if self.rules.identity_dies_with_disk and self.rules.promise_is_durable:
            site.highest = promised
