"""Running seeds: one, many, minimised, mutated; and what is said of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.simulation.cluster import Cluster, Parts, Tally
from tests.simulation.faults import Mutation, broken
from tests.simulation.scenario import Scenario, draw
from tests.simulation.world import Violation

STEPS_MAX = 10_000_000
STORY_LINES = 80
SEEDS_TO_CATCH_MAX = 400
# Where a run is expected to fail, it is judged as often as that, and ends there.
JUDGED_EVERY_MS = 1_000


class Failed(NamedTuple):
    """A run that violated something, and the story of it."""

    scenario: Scenario
    checker: str
    detail: str
    steps: int
    story: list[str]


@dataclass
class Totals:
    """What many runs came to. Times in seconds; `cpu_s` is this process's own, so a busy machine does not count."""

    runs: int = 0
    steps: int = 0
    cpu_s: float = 0.0
    simulated_s: float = 0.0
    operations: int = 0
    done: int = 0
    refused: int = 0
    unknown: int = 0
    entries: int = 0
    epochs: int = 0
    locks: int = 0
    slow_locks: int = 0
    expired: int = 0
    faults: int = 0
    reads: int = 0
    installs: int = 0
    bulks: int = 0
    trips_sold: int = 0
    trips_ended: int = 0
    resolved: int = 0
    charged: int = 0
    given_back: int = 0
    chosen: int = 0
    no_room: int = 0

    def add(self, tally: Tally, cpu_s: float) -> None:
        self.runs += 1
        self.cpu_s += cpu_s
        self.simulated_s += tally.simulated_ms / 1000
        for name in (
            "steps",
            "operations",
            "done",
            "refused",
            "unknown",
            "entries",
            "epochs",
            "locks",
            "slow_locks",
            "expired",
            "faults",
            "reads",
            "installs",
            "bulks",
            "trips_sold",
            "trips_ended",
            "resolved",
            "charged",
            "given_back",
            "chosen",
            "no_room",
        ):
            setattr(self, name, getattr(self, name) + getattr(tally, name))

    def describe(self) -> list[str]:
        per_s = 1 / max(self.cpu_s, 1e-9)
        return [
            f"{self.runs} runs, {self.simulated_s:,.0f} simulated seconds, {self.steps:,} protocol steps in {self.cpu_s:.1f} s of processor"
            f" time: {self.steps * per_s:,.0f} steps/s, {self.operations * per_s:,.0f} operations/s",
            f"{self.operations:,} operations: {self.done:,} done, {self.refused:,} refused, {self.unknown:,} of unknown outcome;"
            f" {self.reads:,} reads",
            f"{self.entries:,} entries committed in {self.epochs:,} reigns; {self.locks:,} locks ({self.slow_locks:,} by write-back),"
            f" {self.bulks:,} bulks, {self.expired:,} holds found expired, {self.installs:,} snapshots installed, {self.faults:,} faults",
            f"{self.trips_sold:,} trips sold, {self.trips_ended:,} ended without a sale, {self.resolved:,} of their legs given back;"
            f" {self.charged:,} payments taken, {self.given_back:,} given back",
            f"{self.chosen:,} times the best seats for a party, judged by trying all; {self.no_room:,} times there was no room for one",
        ]


def run_one(
    scenario: Scenario,
    parts: Parts | None = None,
    steps_max: int = STEPS_MAX,
    on_line: Callable[[str], None] | None = None,
    judged_every_ms: int = 0,
) -> Tally | Failed:
    """Run a scenario and return what it did, or how it failed."""
    cluster = Cluster(scenario, parts)
    cluster.world.on_line = on_line
    try:
        return cluster.run(steps_max, judged_every_ms)
    except Violation as violation:
        return Failed(scenario, violation.checker, violation.detail, cluster.world.steps, cluster.world.read(STORY_LINES))


def run_many(scenarios: Iterable[Scenario], totals: Totals, parts: Parts | None = None, steps_max: int = STEPS_MAX) -> Failed | None:
    """Run scenarios until one fails; `totals` tells how far it got."""
    for scenario in scenarios:
        began = time.process_time()
        result = run_one(scenario, parts, steps_max)
        if isinstance(result, Failed):
            return result
        totals.add(result, time.process_time() - began)
    return None


def minimised(failed: Failed, parts: Parts | None = None, tries_max: int = 150) -> Failed:
    """Return the failure with as few faults, buyers and seconds as still bring it about, found by leaving parts out."""
    best, tries = failed, 0
    shrunk = True
    while shrunk and tries < tries_max:
        shrunk = False
        for smaller in _smaller(best.scenario):
            tries += 1
            if tries > tries_max:
                break
            result = run_one(smaller, parts, judged_every_ms=JUDGED_EVERY_MS)
            if isinstance(result, Failed) and result.checker == failed.checker:
                best, shrunk = result, True
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with a part left out, the large parts first."""
    faults = scenario.faults
    size = len(faults) // 2
    while size:
        for start in range(0, len(faults), size):
            yield scenario._replace(faults=faults[:start] + faults[start + size :])
        size //= 2
    weather = scenario.weather
    for name in ("slow", "repeat", "loss"):
        if getattr(weather, name):
            yield scenario._replace(weather=weather._replace(**{name: 0.0}))
    for name in ("lookers", "sitters"):
        if getattr(scenario, name):
            yield scenario._replace(**{name: 0})
    if scenario.buyers > 1:
        yield scenario._replace(buyers=scenario.buyers // 2)
        yield scenario._replace(buyers=scenario.buyers - 1)
    for name in ("balancers", "managers"):
        count = getattr(scenario, name)
        if count > 1:
            last = f"{name.removesuffix('s')}-{count}"
            yield scenario._replace(**{name: count - 1}, faults=tuple(fault for fault in faults if fault.target != last))
    if scenario.lasts_ms > 4_000:
        yield scenario._replace(lasts_ms=scenario.lasts_ms * 3 // 4)


class Caught(NamedTuple):
    """What became of a mutation: `failed` None if no seed caught it."""

    mutation: Mutation
    seeds: int
    failed: Failed | None


def catch(mutation: Mutation, seeds_max: int = SEEDS_TO_CATCH_MAX, needed: int = 0) -> Caught:
    """Run seed after seed under a broken rule until some checker notices.

    Args:
        needed: How many seeds it took before, 0 where that is not known: the last of them is run first.
    """
    with broken(mutation.name) as parts:
        for seed in sorted(range(seeds_max), key=lambda seed: seed != needed - 1):
            result = run_one(draw(seed, mutation.profile), parts, judged_every_ms=JUDGED_EVERY_MS)
            if isinstance(result, Failed):
                # A mutation that does not fit the code any more breaks something, but not the rule.
                assert "<locals>" not in result.detail, f"{mutation.name}: {result.detail}"
                return Caught(mutation, seed + 1, result)
    return Caught(mutation, seeds_max, None)
