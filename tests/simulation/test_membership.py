"""Voters that change while messages are lost, late and repeated, stores stop and primaries are replaced: R2 and R15 together.

The production machine (`Replica`, with `configure`) and the production choice (`manager.choice.choose`) are walked at random over
five stores, of which three or four vote at first. Checked at every commit: no two stores commit different entries at one lsn
(I4); at every promotion: one store leads an epoch, and it has everything committed (I6).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from datastore.configuration import ADD_LEARNER, ADD_VOTER, REMOVE_VOTER, ConfigChange, voters_apart
from datastore.errors import InvariantBroken
from datastore.ledger import BATCH, CONFIG, Entry, SealedEntry, seal, unseal
from datastore.memory import MemoryStore
from datastore.model import Epoch
from datastore.replication import Replica
from datastore.replication_steps import (
    Append,
    AppendAnswer,
    Commit,
    Persist,
    Plan,
    Promised,
    Reconfigured,
    ReplicationSettings,
    Send,
    Write,
)
from datastore.rows import ConfigRow, Kind, encode_row
from datastore.wire import PromiseReply
from manager.choice import Chosen, choose

NAMES = tuple(f"s{number}" for number in range(5))
WALKS = 250
STEPS = 300
WALKS_BROKEN_MAX = 4_000


class Violation(AssertionError):
    """What must never be was seen."""


class BeforeItsOwnEpoch(Replica):
    """Takes a change before an entry of its own epoch is committed: the fault found in Raft's text in 2015."""

    def _why_not_configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> str:
        return "" if self.is_primary and self.config_lsn <= self.commit_lsn and change.store_uuid != self.store_uuid else "no"


class TwoPending(Replica):
    """Takes a change while the one before is not committed."""

    def _why_not_configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> str:
        return "" if self.serving and change.store_uuid != self.store_uuid else "no"


class Jumps(Replica):
    """Goes to any set of voters in one step."""

    def configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> Plan:
        if not self.may_propose:
            return Plan([], Reconfigured(False, "no"))
        others = [name for name in NAMES if name != self.store_uuid and (NAMES.index(name) + self.tail.lsn) % 5 < 3]
        config = ConfigRow({name: name for name in (self.store_uuid, *others[:2])})
        event = (int(Kind.CONFIG), "", encode_row(config))
        entry = Entry(self.epoch, self.tail.lsn + 1, self.stamp(now_ms), CONFIG, events=[event])
        return Plan(self._write_own(seal(entry, self.tail.hash), now_ms), Reconfigured(True))


@dataclass
class Site:
    store: MemoryStore
    machine: Replica | None
    shipped: dict[int, SealedEntry] = field(default_factory=dict)  # about to be written


class World:
    """One walk."""

    def __init__(self, seed: int, kind: type[Replica]) -> None:
        self.random = random.Random(seed)
        self.kind = kind
        self.now_ms = 0
        self.counter = 0
        self.wire: list[tuple[str, str, int, Append | AppendAnswer]] = []  # (to, from, seq, message)
        self.committed: dict[int, bytes] = {}
        self.committed_in: dict[int, Epoch] = {}
        self.leaders: dict[Epoch, str] = {}
        self.changes = 0
        self.settings = ReplicationSettings(heartbeat_ms=1, suspicion_ms=10**9)
        config = ConfigRow({name: name for name in NAMES[: 3 + seed % 2]})
        self.sites = {name: Site(MemoryStore("AR", name), None) for name in NAMES}
        for name in config.voters:
            self.sites[name].store.save_config(config)
        for site in self.sites.values():
            site.machine = kind(site.store.summary(), site.store, self.settings)

    def step(self) -> None:
        self.now_ms += 1
        roll = self.random.random()
        if roll < 0.55 and self.wire:
            self._deliver()
        elif roll < 0.62 and self.wire:
            self.wire.pop(self.random.randrange(len(self.wire)))
        elif roll < 0.70:
            self._promote()
        elif roll < 0.73:
            self._stop_or_start()
        else:
            self._lead()

    def _lead(self) -> None:
        """Let somebody who believes to lead write, change the configuration, or send again."""
        leading = [site for site in self.sites.values() if site.machine is not None and site.machine.is_primary]
        if not leading:
            return
        site = self.random.choice(leading)
        machine = site.machine
        assert machine is not None
        roll = self.random.random()
        if roll < 0.3 and machine.may_propose:
            entry = Entry(machine.epoch, machine.tail.lsn + 1, machine.stamp(self.now_ms), BATCH)
            self._carry_out(site, machine.propose(seal(entry, machine.tail.hash), self.now_ms))
        elif roll < 0.7:
            before = machine.config
            plan = machine.configure(self._some_change(machine), machine.config_lsn, self.now_ms)
            if isinstance(plan.reply, Reconfigured) and plan.reply.accepted:
                self.changes += voters_apart(before, machine.config)
            self._carry_out(site, plan)
        else:
            for name, follower in machine._followers.items():
                if follower.busy and self.random.random() < 0.5:
                    machine.lost(name, follower.busy)
            self._carry_out(site, machine.tick(self.now_ms))

    def _some_change(self, machine: Replica) -> ConfigChange:
        name = self.random.choice([one for one in NAMES if one != machine.store_uuid])
        config = machine.config
        if name in config.voters:
            return ConfigChange(REMOVE_VOTER, name, name)
        return ConfigChange(ADD_VOTER if name in config.learners else ADD_LEARNER, name, name)

    def _promote(self) -> None:
        """One manager's whole attempt, any part of which may be lost (R1-R3)."""
        self.counter += 1
        epoch = Epoch(self.counter, "m")
        replies = {}
        for name, site in self.sites.items():
            if site.machine is None or self.random.random() < 0.35:
                continue
            plan = site.machine.promise(epoch, self.now_ms)
            self._carry_out(site, plan)
            reply = plan.reply
            assert isinstance(reply, Promised)
            if self.random.random() < 0.9:
                voters, last = dict(site.machine.config.voters), reply.last
                replies[name] = PromiseReply("AR", reply.granted, reply.promised, last.epoch, last.lsn, name, voters, 0, -1)
        chosen = choose(replies, self.random.sample(NAMES, len(NAMES)))
        if not isinstance(chosen, Chosen) or self.random.random() < 0.1:
            return
        site = self.sites[chosen.node]
        assert site.machine is not None
        for lsn, digest in self.committed.items():
            if self.committed_in[lsn] < epoch and (lsn > site.machine.tail.lsn or site.store.hash_at(lsn) != digest):
                raise Violation(f"{chosen.node} is to lead {epoch} without entry {lsn}, committed in {self.committed_in[lsn]}")
        if self.leaders.setdefault(epoch, chosen.node) != chosen.node:
            raise Violation(f"two primaries in {epoch}")
        self._carry_out(site, site.machine.become(epoch, chosen.store_uuid, 0, self.now_ms))

    def _stop_or_start(self) -> None:
        name = self.random.choice(NAMES)
        site = self.sites[name]
        if site.machine is None:
            site.machine = self.kind(site.store.summary(), site.store, self.settings)
        else:
            site.machine, site.store, site.shipped = None, site.store.crashed(), {}

    def _deliver(self) -> None:
        index = self.random.randrange(len(self.wire))
        to, origin, seq, message = self.wire[index] if self.random.random() < 0.1 else self.wire.pop(index)
        site = self.sites[to]
        if site.machine is None:
            return
        try:
            if isinstance(message, AppendAnswer):
                self._carry_out(site, site.machine.answered(origin, seq, message, self.now_ms))
                return
            plan = site.machine.append(message, self.now_ms)
        except InvariantBroken as error:
            raise Violation(f"{to}: {error.detail}") from error
        self._carry_out(site, plan)
        assert isinstance(plan.reply, AppendAnswer)
        self.wire.append((origin, to, seq, plan.reply))

    def _carry_out(self, site: Site, plan: Plan) -> None:
        machine = site.machine
        assert machine is not None
        for step in plan.steps:
            if isinstance(step, Write):
                site.shipped.update({sealed.entry.lsn: sealed for sealed in step.entries})
        later = []
        for step in plan.steps:
            match step:
                case Persist(promised, led):
                    site.store.save_epochs(promised, led)
                case Write(truncate_from, entries):
                    site.store.append(entries, truncate_from)
                    if machine.is_primary:
                        later.append(machine.wrote(entries[-1].entry.lsn, self.now_ms))
                case Send():
                    entries = [self._entry(site, lsn) for lsn in range(step.previous_lsn + 1, step.last_lsn + 1)]
                    message = Append(step.epoch, step.previous_lsn, step.previous_epoch, entries, step.commit_lsn)
                    self.wire.append((step.store_uuid, machine.store_uuid, step.seq, message))
                case Commit(lsn):
                    self._check_commit(site, lsn)
        for plan_after in later:
            self._carry_out(site, plan_after)

    def _entry(self, site: Site, lsn: int) -> SealedEntry:
        found = site.store.entries(lsn, 1, 10**9)
        return unseal(found[0]) if found else site.shipped[lsn]

    def _check_commit(self, site: Site, commit_lsn: int) -> None:
        machine = site.machine
        assert machine is not None
        for lsn in range(1, commit_lsn + 1):
            digest = site.store.hash_at(lsn)
            if self.committed.setdefault(lsn, digest) != digest:
                raise Violation(f"{machine.store_uuid} commits another entry {lsn}")
            self.committed_in.setdefault(lsn, machine.epoch if machine.is_primary else machine.promised)


def walk(seed: int, kind: type[Replica]) -> World:
    world = World(seed, kind)
    for _ in range(STEPS):
        world.step()
    return world


def test_right_rules_hold_while_voters_change() -> None:
    """However voters change, nothing committed is lost and nobody leads without it; and enough happens to mean it (I14)."""
    commits = changes = reigns = 0
    for seed in range(WALKS):
        try:
            world = walk(seed, Replica)
        except Violation as violation:
            raise Violation(f"seed {seed}: {violation}") from violation
        commits, changes, reigns = commits + len(world.committed), changes + world.changes, reigns + len(world.leaders)
    assert commits > 4 * WALKS and changes > WALKS // 2 and reigns > 2 * WALKS, (commits, changes, reigns)


BROKEN = (BeforeItsOwnEpoch, TwoPending, Jumps)


def first_caught(kind: type[Replica]) -> int | None:
    """Return how many walks it took until one was led into a violation, None if none was."""
    for seed in range(WALKS_BROKEN_MAX):
        try:
            walk(seed, kind)
        except Violation:
            return seed + 1
    return None


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_rules_of_membership_are_caught(kind: type[Replica]) -> None:
    """Each broken variant leads some walk into a violation."""
    assert first_caught(kind) is not None
