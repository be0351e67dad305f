"""The replication machine under a bad network, crashes and rival managers: right rules hold, each broken one is caught."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from datastore.ledger import SealedEntry
from datastore.model import Epoch
from datastore.replication import Replica
from tests.simulation.replication_world import Rules, Violation, World

WALKS = 1500
STEPS = 400
# A broken rule must be caught within so many walks; the seeds are fixed, so this either always passes or never.
WALKS_BROKEN_MAX = 3000


class CountsOldEpochs(Replica):
    """Raft's figure 8: commits an entry of an older epoch because a majority has it."""

    def _may_commit(self, lsn: int) -> bool:
        return True


class TruncatesOnOverlap(Replica):
    """Deletes what a message repeats, and all after it, before writing it again."""

    def _has(self, sealed: SealedEntry) -> bool:
        return False


class ResumesItsEpoch(Replica):
    """Leads an epoch a second time, after a stop in which it lost what it had shipped but not flushed."""

    def _why_not_lead(self, epoch: Epoch, store_uuid: str) -> str:
        self.led = min(self.led, Epoch(epoch.counter - 1, ""))
        return super()._why_not_lead(epoch, store_uuid)


BROKEN = {
    "commit by counting old epochs": Rules(machine=CountsOldEpochs),
    "choose any responder": Rules(choice=None),
    "choose by lsn only": Rules(choice=lambda reply: reply.last.lsn),
    "two BECOMEs in one epoch": Rules(named_per_epoch=2),
    "promise not durable": Rules(promise_is_durable=False),
    "disk loss under the same identity": Rules(identity_dies_with_disk=False),
    "primary resumes its epoch": Rules(machine=ResumesItsEpoch),
    "truncate on every overlap": Rules(machine=TruncatesOnOverlap),
}


def test_right_rules_hold_and_the_walks_get_somewhere() -> None:
    """No walk violates anything, and the walks are not vacuous: entries commit under several leaders (I14)."""
    commits = reigns = longest = 0
    for seed in range(WALKS):
        world = World(seed, Rules())
        world.walk(STEPS)
        commits += len(world.committed)
        reigns += len(world.leaders)
        longest = max(longest, len(world.committed))
    assert commits > 4 * WALKS, commits
    assert reigns > 2 * WALKS, reigns
    assert longest > 10


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_caught(name: str) -> None:
    """Each broken variant of the replication rules is seen to break something."""
    assert first_caught(BROKEN[name]) < WALKS_BROKEN_MAX


def first_caught(rules: Rules, seeds: Sequence[int] = range(WALKS_BROKEN_MAX)) -> int:
    """Return how many walks it took, or the most allowed."""
    for seed in seeds:
        try:
            World(seed, rules).walk(STEPS)
        except Violation:
            return seed
    return WALKS_BROKEN_MAX
