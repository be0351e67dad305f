"""Promotion by several managers, walked at random: R2 and R3 hold, and breaking either is noticed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from datastore.wire import BecomeItem, BecomeReply, PromiseReply
from manager import failover
from manager.choice import Chosen, NoChoice, choose, majority, voters_among
from manager.failover import OperatorWatch
from tests.simulation.promotion_model import HEARTBEAT_MS, SUSPICION_MS, Violation, World

WALKS = 800
STEPS = 500
WALKS_TO_CATCH_MAX = 6_000


def right(uuid: str) -> OperatorWatch:
    return OperatorWatch("AA", uuid, heartbeat_ms=HEARTBEAT_MS, suspicion_ms=SUSPICION_MS)


def with_choice(pick: object) -> object:
    def make(uuid: str) -> OperatorWatch:
        return OperatorWatch("AA", uuid, heartbeat_ms=HEARTBEAT_MS, suspicion_ms=SUSPICION_MS, choose=pick)  # type: ignore[arg-type]

    return make


def _eligible(replies: Mapping[str, PromiseReply]) -> list[str]:
    promised = {node: reply for node, reply in replies.items() if reply.granted}
    stores = [(node, reply.store_uuid) for node, reply in promised.items()]
    return [
        node
        for node, reply in promised.items()
        if reply.voters.get(reply.store_uuid) == node and voters_among(reply.voters, stores) >= majority(reply.voters)
    ]


def any_responder(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
    """Broken: a majority promised, and the most preferred responder is taken, whatever its log holds."""
    nodes = sorted(_eligible(replies))
    return Chosen(nodes[0], replies[nodes[0]].store_uuid, 0) if nodes else NoChoice("none")


def by_lsn_only(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
    """Broken: the longest log is taken, though an old primary's unacknowledged tail may be the longest."""
    nodes = sorted(_eligible(replies), key=lambda node: replies[node].last_lsn, reverse=True)
    return Chosen(nodes[0], replies[nodes[0]].store_uuid, 0) if nodes else NoChoice("none")


def without_majority(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
    """Broken: the furthest responder is taken without counting who promised."""
    chosen = choose(replies, preferred)
    promised = [node for node, reply in replies.items() if reply.granted and reply.voters]
    if isinstance(chosen, Chosen) or not promised:
        return chosen
    node = max(promised, key=lambda name: (replies[name].last_epoch, replies[name].last_lsn))
    return Chosen(node, replies[node].store_uuid, 0)


class NamesTwice(OperatorWatch):
    """Broken: on doubt it names another store in the same epoch, instead of starting over with a higher one (R3)."""

    _others: list[tuple[str, str]]

    def _promises_given(self, replies: Mapping[str, PromiseReply], now_ms: int) -> list[failover.Instruction]:
        instructions = super()._promises_given(replies, now_ms)
        self._others = [(node, reply.store_uuid) for node, reply in replies.items() if reply.granted and node != self._before]
        return instructions

    def _become_answered(self, reply: BecomeReply | None, now_ms: int) -> list[failover.Instruction]:
        if reply is None and self._others:
            node, store_uuid = self._others.pop()
            return [failover.NameOne(node, BecomeItem("AA", self._epoch, store_uuid, 0))]
        return super()._become_answered(reply, now_ms)


def names_twice(uuid: str) -> OperatorWatch:
    return NamesTwice("AA", uuid, heartbeat_ms=HEARTBEAT_MS, suspicion_ms=SUSPICION_MS)


def walk(seed: int, make: object) -> World:
    world = World(seed, make)  # type: ignore[arg-type]
    try:
        for _ in range(STEPS):
            world.step()
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}") from violation
    return world


def test_right_rules_hold() -> None:
    """However messages travel, one primary an epoch, and each has every committed entry; and enough happens to mean it."""
    commits = epochs = 0
    for seed in range(WALKS):
        world = walk(seed, right)
        commits += len(world.committed)
        epochs += len(world.leaders)
    assert commits > 4 * WALKS, commits
    assert epochs > 2 * WALKS, epochs


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(with_choice(any_responder), id="choose any responder"),
        pytest.param(with_choice(by_lsn_only), id="choose by lsn only"),
        pytest.param(with_choice(without_majority), id="no majority"),
        pytest.param(names_twice, id="two BECOMEs in one epoch"),
    ],
)
def test_broken_rules_are_caught(make: object) -> None:
    """Each broken variant leads some walk into a violation: the walks can tell right from wrong."""
    for seed in range(WALKS_TO_CATCH_MAX):
        try:
            walk(seed, make)
        except Violation:
            return
    pytest.fail(f"not caught in {WALKS_TO_CATCH_MAX} walks")


@pytest.mark.parametrize("leases", [failover.Lease.UNAVAILABLE, failover.Lease.GRANTED])
def test_duels_end(leases: failover.Lease) -> None:
    """Two managers that never hear of each other's lease still come to one serving primary, soon."""
    slowest = 0
    for seed in range(100):
        world = World(seed, right)
        slowest = max(slowest, _beats_until_serving(world, leases))
    assert slowest <= 40, slowest


def _beats_until_serving(world: World, lease: failover.Lease) -> int:
    """Run both managers in lock step, each question answered at once but interleaved; return the heartbeats it took."""
    chance = random.Random(world.random.random())
    for beat in range(200):
        pending = [(manager, failover.Observed(_all(world), chance.random())) for manager in world.managers]
        while pending:
            manager, event = pending.pop(chance.randrange(len(pending)))
            for instruction in manager.machine.receive(event, world.now_ms):
                pending += [(manager, _answer(world, instruction, lease))] if not isinstance(instruction, failover.Report) else []
        for store in world.stores.values():
            if store.leads:
                for other in world.stores.values():
                    lsn = other.append(store.leads, list(store.log)) if other is not store else None
                    if lsn is not None:
                        store.acknowledged(store.leads, other.uuid, lsn)
        world.check()
        if all(manager.machine.serving for manager in world.managers):
            return beat
        world.now_ms += HEARTBEAT_MS
    return 200


def _all(world: World) -> failover.Sighting:
    return failover.Sighting(world.placed, {node: store.status() for node, store in world.stores.items()}, frozenset())


def _answer(world: World, instruction: failover.Instruction, lease: failover.Lease) -> failover.Event:
    stores = world.stores
    if isinstance(instruction, failover.NameStores):
        return failover.StoresNamed({node: stores[node].bootstrap({}) for node in instruction.nodes})
    if isinstance(instruction, failover.Configure):
        return failover.Configured({node: stores[node].bootstrap(instruction.voters) for node in instruction.nodes})
    if isinstance(instruction, failover.AskPromises):
        epoch = instruction.epoch
        return failover.PromisesGiven(epoch, {node: stores[node].promise(epoch, world.now_ms) for node in instruction.nodes})
    if isinstance(instruction, failover.NameOne):
        return failover.BecomeAnswered(failover.Epoch(*instruction.item.epoch), stores[instruction.node].become(instruction.item))
    return failover.LeaseSettled(lease)
