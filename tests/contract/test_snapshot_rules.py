"""R12 and R13 on real store files under a seed: a follower that cannot be brought up by log, and each rule broken on purpose.

A primary ships its log, of which the oldest part is gone; a follower that is behind it, or has a tail that nobody confirmed, takes
a snapshot of a peer, some of whose bytes change on the way, and goes on by log. The judge knows the committed entries alone.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from datastore import installing, recovery, snapshot_files
from datastore.errors import HoldfastError
from datastore.identities import Identities
from datastore.ledger import BATCH, Entry, Position, SealedEntry, genesis, position_of, seal, unseal, verify_chain
from datastore.model import Epoch
from datastore.recovery import NoSource, choose_source
from datastore.replication import Replica
from datastore.replication_steps import Append, AppendAnswer, Commit, Distrust, NeedSnapshot, Persist, Plan, ReplicationSettings, Write
from datastore.rows import ConfigRow, Kind
from datastore.snapshot_files import At
from datastore.store import SqliteStore
from datastore.wire import PartitionStatus
from datastore.wire_recovery import SnapshotOffer
from tests.simulation.faults import replaced

ONE, TWO = Epoch(1, "m"), Epoch(2, "m")
MINE = Epoch(1, "promised by the follower")
VOTERS = {"follower": "node-3", "source": "node-2", "late": "node-4", "primary": "node-1"}
FAST = 1 << 40
ROUNDS_MAX = 40
SEEDS = 12
SEEDS_BROKEN = 3 * SEEDS


class Wrong(AssertionError):
    """What the judge saw."""


def chain(epoch: Epoch, count: int, before: Position, word: str = "") -> list[SealedEntry]:
    made: list[SealedEntry] = []
    for index in range(count):
        lsn = before.lsn + 1 + index
        entry = Entry(epoch, lsn, 1000 * lsn, BATCH, events=[(Kind.SEAT, f"S/{lsn}", b"row of " + word.encode() + b"%d" % lsn * 20)])
        made.append(seal(entry, made[-1].hash if made else before.hash))
    return made


class World:
    """The committed entries, the stores that have them, and a follower that does not."""

    def __init__(self, folder: Path, seed: int, machine: type[Replica]) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        first, second = self.random.randint(20, 40), self.random.randint(10, 30)
        self.truth = chain(ONE, first, genesis("AR"))
        self.truth += chain(TWO, second, position_of(self.truth[-1]))
        self.base_lsn = first + self.random.randint(1, 5)  # The primary's log begins after it.
        self.source = self._store("source", self.truth[: self.random.randint(self.base_lsn, len(self.truth))])
        self.source.save_epochs(Epoch(1, ""), Epoch(0, ""))
        known = self.random.randint(1, first - 6)
        self.late = self._store("late", self.truth[: known // 2 + 1])
        # What it wrote and was never told to be committed: of the old reign, where the others went another way.
        self.diverged = self.random.random() < 0.5
        self.kept_lsn = known
        tail = chain(ONE, 5 + second + first - known, position_of(self.truth[known - 1]), "nobody") if self.diverged else []
        self.follower = self._store("follower", self.truth[:known])
        self.follower.append(tail)
        self.follower.save_epochs(Epoch(2, "lower than the reign"), MINE)
        self.promised, self.led = self.follower.summary().promised, self.follower.summary().led
        self.machine_type = machine
        self.machine = machine(self.follower.summary(), self.follower, ReplicationSettings(100, 1000))
        self.identities = Identities(folder / "identities")
        self.next_lsn = known + 1 if not self.diverged else self.base_lsn + 1

    def _store(self, name: str, entries: list[SealedEntry]) -> SqliteStore:
        (self.folder / name).mkdir()
        store = SqliteStore(self.folder / name / "AR.sqlite", "AR")
        store.save_config(ConfigRow({uuid: node for uuid, node in VOTERS.items()}))
        store.append(entries)
        store.apply_up_to(len(entries))
        return store

    # --- the log --------------------------------------------------------------------------------------------------

    def ship(self) -> bool:
        """Send what the follower lacks, or that it is not there any more (R12); return whether it has everything."""
        lsn = self.next_lsn - 1
        epoch = self.truth[lsn - 1].entry.epoch if lsn else (0, "")
        gone = self.next_lsn <= self.base_lsn
        entries = [] if gone else self.truth[lsn : lsn + 7]
        message = Append(TWO, lsn, Epoch(*epoch), entries, len(self.truth), needs_snapshot=gone)
        plan = self.machine.append(message, 0)
        wanted = self._carry_out(plan)
        answer = plan.reply
        assert isinstance(answer, AppendAnswer)
        if answer.status == "ack":
            self._judge_ack(answer.match_lsn)
            self.next_lsn = answer.match_lsn + 1
        elif answer.status == "gap":
            self.next_lsn = max(1, answer.first_lsn)
        if wanted:
            self.take_snapshot()
        return self.next_lsn > len(self.truth)

    def _carry_out(self, plan: Plan) -> bool:
        for step in plan.steps:
            match step:
                case Persist(promised, led):
                    self.follower.save_epochs(promised, led)
                case Write(truncate_from, entries):
                    self.follower.append(entries, truncate_from)
                case Commit(lsn):
                    self.follower.apply_up_to(lsn)
                case Distrust():
                    raise Wrong("nothing it acknowledged was lost")
        return any(isinstance(step, NeedSnapshot) for step in plan.steps)

    def _judge_ack(self, match_lsn: int) -> None:
        if match_lsn > self.follower.summary().tail.lsn or self.follower.hash_at(match_lsn) != self.truth[match_lsn - 1].hash:
            raise Wrong(f"entry {match_lsn} was acknowledged and is not there")

    # --- the snapshot ---------------------------------------------------------------------------------------------

    def take_snapshot(self) -> None:
        stores = {"node-2": self.source, "node-4": self.late}
        heard = ["node-4"] if self.random.random() < 0.3 else list(stores)
        chosen = choose_source("node-3", {node: status(stores[node]) for node in heard}, "", self.follower.applied_lsn + 1)
        if isinstance(chosen, NoSource):
            return
        source, part = stores[chosen.node], self.folder / "AR.part"
        last = unseal(source.entries(source.applied_lsn, 1, FAST)[0])
        at = At(source.applied_lsn, *last.entry.epoch, last.hash.hex())
        part.unlink(missing_ok=True)
        snapshot_files.cut_mark(part).unlink(missing_ok=True)
        taken = snapshot_files.take(source.path, part, FAST, at)
        if self.random.random() < 0.5:
            content = bytearray(part.read_bytes())
            for _ in range(40):
                content[self.random.randrange(100, len(content))] ^= 1 << self.random.randrange(8)
            part.write_bytes(bytes(content))
        if snapshot_files.check(part, "AR", taken.sha256, at.lsn, at.hash):
            return  # It is asked for again.
        before = self.follower.summary()
        offer = SnapshotOffer("ready", "id", taken.size_bytes, taken.sha256, at.lsn, (at.epoch_counter, at.epoch_manager), last.hash)
        self.follower, _ = installing.install(self.follower, part, offer, "", self.identities)
        self._judge_install(before.promised, before.led, at.lsn)
        self.machine = self.machine_type(self.follower.summary(), self.follower, ReplicationSettings(100, 1000))
        self.next_lsn = self.follower.summary().tail.lsn + 1

    def _judge_install(self, promised: Epoch, led: Epoch, lsn: int) -> None:
        now = self.follower.summary()
        if now.promised < promised or now.led < led:
            raise Wrong(f"it promised {promised}, led {led}, and knows of {now.promised}, {now.led}")
        if now.tail.lsn > lsn and unseal(self.follower.entries(lsn + 1, 1, FAST)[0]).entry.epoch == ONE:
            raise Wrong("a tail that nobody confirmed stands behind the snapshot")

    def judge_end(self) -> None:
        data = [entry for start in range(1, len(self.truth) + 1, 500) for entry in self.follower.entries(start, 500, FAST)]
        verify_chain(data, genesis("AR"))
        if data != [sealed.data for sealed in self.truth]:
            raise Wrong("its log is not what is committed")
        self.follower.flush_staged()
        if self.follower.scan_digest() != self.follower.state_digest():
            raise Wrong("its rows are not those of its log")

    def close(self) -> None:
        for store in (self.source, self.late, self.follower):
            store.close()


def status(store: SqliteStore) -> PartitionStatus:
    summary = store.summary()
    lsn = store.applied_lsn
    epoch = summary.tail.epoch
    uuid = store.path.parent.name
    return PartitionStatus("AR", "replica", uuid, epoch, epoch, summary.tail.lsn, lsn, lsn, 0, False, VOTERS)


def walk(folder: Path, seed: int, machine: type[Replica]) -> None:
    """Bring a follower up; raise what the judge or the stores find wrong."""
    folder.mkdir()
    world = World(folder, seed, machine)
    try:
        if not any(world.ship() for _ in range(ROUNDS_MAX)):
            raise Wrong("it never had everything")
        world.judge_end()
    finally:
        world.close()


class NeverAsks(Replica):
    def _needs_snapshot(self, message: Append) -> bool:
        return False


class AcknowledgesTheGap(Replica):
    def append(self, message: Append, now_ms: int) -> Plan:
        plan = super().append(message, now_ms)
        if not message.needs_snapshot:
            return plan
        assert isinstance(plan.reply, AppendAnswer)
        return Plan(plan.steps, plan.reply._replace(status="ack", match_lsn=message.commit_lsn))


def _forgets_promises(self: SqliteStore, store_uuid: str, promised: Epoch, led: Epoch) -> None:
    self.store_uuid = store_uuid


class Broken(NamedTuple):
    """A rule, what is done instead, and how."""

    rule: str
    instead: str
    machine: type[Replica] = Replica
    change: Callable[[], AbstractContextManager[None]] = nullcontext


BROKEN = [
    Broken("R12", "a missing beginning is not taken for a snapshot's matter", NeverAsks),
    Broken("R12", "what only a snapshot has is acknowledged", AcknowledgesTheGap),
    Broken("R12", "any peer will do as a source", change=lambda: replaced(recovery, "_unfit", lambda *_: "")),
    Broken("R13", "entries beyond the snapshot stay whatever their epoch", change=lambda: replaced(installing, "keeps_suffix", _always)),
    Broken("R13", "the source's promises are taken over", change=lambda: replaced(SqliteStore, "adopt", _forgets_promises)),
    Broken("R13", "what came is not checked", change=lambda: replaced(snapshot_files, "check", lambda *_: "")),
]


def _always(own_epoch_at_lsn: Epoch, own_last_lsn: int, lsn: int, epoch: Epoch) -> bool:
    return own_last_lsn > lsn


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_follower_is_brought_up_by_snapshot_and_log(tmp_path: Path, seed: int) -> None:
    """Nothing is acknowledged that is not there, no promise is forgotten, and its log and rows end as those of all."""
    walk(tmp_path / "world", seed, Replica)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.rule}: {broken.instead}")
def test_a_broken_rule_is_noticed(broken: Broken) -> None:
    """Some seed meets it; a judge that cannot tell would be none."""
    assert first_noticed(broken) is not None, f"nobody noticed in {SEEDS_BROKEN} seeds: {broken.instead}"


def first_noticed(broken: Broken) -> int | None:
    """Return how many walks it took until a broken rule was noticed, None if none did."""
    with tempfile.TemporaryDirectory() as folder, broken.change():
        for seed in range(SEEDS_BROKEN):
            try:
                walk(Path(folder) / f"world-{seed}", seed, broken.machine)
            except (Wrong, HoldfastError):
                return seed + 1
    return None
