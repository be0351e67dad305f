"""The scenarios: which faults, how many at once, and what the machine must be able to do for them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.chaos import faults
from tests.faults.chaos.cluster import HurtCluster
from tests.faults.chaos.faults import Fault
from tests.faults.chaos.machine import CLOCKS, NAMESPACES, SMALL_DISKS

Kind = type[Fault]
SMALL_DISK_NODE = "node-2"


@dataclass(frozen=True)
class Scenario:
    """`faults`: kinds, as often as they are listed. `pause_s`: between two of them. `needs`: capabilities of the machine."""

    name: str
    what: str
    faults: tuple[Kind, ...]
    at_once: int = 1
    pause_s: tuple[float, float] = (0.3, 1.5)
    needs: tuple[str, ...] = ()

    @property
    def clocks(self) -> bool:
        return faults.ShiftClocks in self.faults

    @property
    def hosts(self) -> bool:
        return NAMESPACES in self.needs

    @property
    def small_disk(self) -> str:
        return SMALL_DISK_NODE if faults.FullDisk in self.faults else ""

    def without(self, capability: str) -> Scenario:
        """Return the scenario without the faults that need what this machine has not."""
        kinds = {CLOCKS: [faults.ShiftClocks], SMALL_DISKS: [faults.FullDisk], NAMESPACES: list(self.faults)}[capability]
        left = tuple(one for one in self.faults if one not in kinds)
        needs = tuple(one for one in self.needs if one != capability)
        return Scenario(self.name, self.what, left, self.at_once, self.pause_s, needs)

    def draw(self, cluster: HurtCluster, dice: random.Random) -> Fault:
        return dice.choice(self.faults)(cluster, dice)


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("kill", "processes die at any moment, sometimes all at once", (*[faults.Kill] * 12, faults.KillEverything), 2),
        Scenario("freeze", "processes stop for longer than any ttl and go on", (faults.Freeze,), 2),
        Scenario("partition", "parts of the network are cut off, both ways or one way", (faults.Partition,)),
        Scenario("links", "lines are slow, lose, reset and reorder", (faults.BadLinks,)),
        Scenario("clocks", "wall clocks jump by up to ten minutes", (*[faults.ShiftClocks] * 2, faults.Kill), 2, needs=(CLOCKS,)),
        Scenario("locks", "lock servers forget, lie, stop and die", (faults.ForgetLocks, faults.LyingLocks, faults.LyingLocks)),
        Scenario("full", "a disk is full", (faults.FullDisk, faults.FullDisk, faults.Kill), needs=(SMALL_DISKS,)),
        Scenario("damage", "files are cut short or flipped while a node is down", (faults.DamagedFile,)),
        Scenario(
            "payments",
            "processes and the payment provider die, stall and lose answers while people pay",
            (*[faults.KillSandbox] * 2, *[faults.SandboxTrouble] * 3, *[faults.Kill] * 2, faults.Freeze),
            2,
        ),
        Scenario(
            "hosts",
            "three hosts lose their cables or one direction to another, processes die and stop",
            (*[faults.PulledCable] * 3, *[faults.SwallowingRoute] * 3, *[faults.Kill] * 2, faults.Freeze),
            2,
            needs=(NAMESPACES,),
        ),
        Scenario(
            "storm",
            "many of all of these at once",
            (
                *[faults.Kill] * 4,
                *[faults.Freeze] * 4,
                *[faults.Partition] * 3,
                *[faults.BadLinks] * 3,
                *[faults.ShiftClocks] * 3,
                *[faults.LyingLocks] * 2,
                faults.ForgetLocks,
                faults.FullDisk,
                faults.DamagedFile,
                faults.KillSandbox,
                *[faults.SandboxTrouble] * 2,
            ),
            3,
            needs=(CLOCKS, SMALL_DISKS),
        ),
    )
}
