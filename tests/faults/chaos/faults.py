"""What is done to a cluster: each fault is injected, lasts, and is healed. Who and how is drawn from the scenario's seed.

A fault names the things that it needs for itself, so that two of them never pull at one process; and a minority of each kind is hurt
at a time, unless a fault is about just that (everything at once, all lock servers lie).
"""

from __future__ import annotations

import random
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from client import processes
from client.plan import BALANCER, LOCK_SERVER, MANAGER, NODE
from tests.faults.chaos.cluster import CALLERS, EXIT_DISK, HurtCluster
from tests.faults.chaos.hosts import HOSTS, HostsCluster, Network
from tests.faults.chaos.liar import Liar
from tests.faults.chaos.links import CUT, FAIR, Weather, both_ways, one_way
from tests.integration.provider_trouble import SANDBOX_NAME, plan_trouble

KINDS = (LOCK_SERVER, NODE, MANAGER, BALANCER)
LINKS = "links"  # One fault at a time decides about the lines.
FILLER = "filler"


class Fault(ABC):
    """One thing that goes wrong.

    Attributes:
        kind: The word under which it is counted.
        needs: Names that no other fault may use meanwhile: processes, or `LINKS`.
        hurts: Processes of which no more than a minority of each kind may be hurt at a time.
        lasts_s: How long until it is healed.
    """

    kind = ""

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        self.cluster = cluster
        self.dice = dice
        self.needs: frozenset[str] = frozenset()
        self.hurts: frozenset[str] = frozenset()
        self.lasts_s = 1.0
        self.what = ""

    @abstractmethod
    def inject(self) -> None: ...

    @abstractmethod
    def heal(self) -> None: ...

    def is_over(self) -> bool:
        """Return whether the cluster has recovered as far as the next fault of this kind needs."""
        return True

    def one_of(self, kind: str) -> str:
        return self.dice.choice(self.cluster.names_of(kind))

    def some_process(self) -> str:
        # Nodes twice as often: there the sales are decided.
        return self.one_of(self.dice.choice([*KINDS, NODE]))


class Kill(Fault):
    """SIGKILL of one process, and its start a little later."""

    kind = "kill"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.name = self.some_process()
        self.needs = self.hurts = frozenset({self.name})
        self.lasts_s = dice.uniform(0.05, 3.0)
        self.what = f"kill -9 {self.name}"

    def inject(self) -> None:
        self.cluster.kill_hard([self.name])

    def heal(self) -> None:
        self.cluster.revive(self.name)


class KillEverything(Fault):
    """A power cut: every process dies at once."""

    kind = "kill"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset(cluster.names)
        self.lasts_s = dice.uniform(0.2, 1.0)
        self.what = "kill -9 of every process"

    def inject(self) -> None:
        self.cluster.kill_hard(self.cluster.names)

    def heal(self) -> None:
        for name in self.cluster.names:
            self.cluster.revive(name)


class Freeze(Fault):
    """SIGSTOP, often past the ttl of locks and the suspicion of a primary; then it goes on as if nothing had been."""

    kind = "freeze"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.name = self.some_process()
        self.needs = self.hurts = frozenset({self.name})
        self.lasts_s = dice.uniform(0.2, 4.5)
        self.what = f"SIGSTOP {self.name}"

    def inject(self) -> None:
        self.cluster.freeze(self.name)

    def heal(self) -> None:
        self.cluster.revive(self.name)


class KillSandbox(Kill):
    """The payment provider dies, in the middle of whatever it was asked to do."""

    kind = "provider killed"

    def some_process(self) -> str:
        return SANDBOX_NAME

    def is_over(self) -> bool:
        """Return whether it listens again: its next trouble is planned by asking it."""
        return processes.listener(self.cluster.plan.process(SANDBOX_NAME).port) is not None


class SandboxTrouble(Fault):
    """The provider is slow, fails, or does what it was asked and loses the answer, at one step of the next payments."""

    kind = "provider trouble"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset({SANDBOX_NAME})
        self.lasts_s = dice.uniform(0.3, 2.0)
        self.on = dice.choice(["create", "confirm", "capture", "cancel", "refund"])
        self.trouble = dice.choice(["lost", "lost", "slow", "error"])
        self.times = dice.randint(1, 4)
        self.what = f"the provider: {self.trouble} on {self.on}, {self.times} times"

    def inject(self) -> None:
        for _ in range(self.times):
            self._plan(on=self.on, kind=self.trouble, delay_ms="1800")

    def heal(self) -> None:
        self._plan(kind="none")

    def _plan(self, **fields: str) -> None:
        plan_trouble(self.cluster.plan, self.cluster.folders, **fields)


class Partition(Fault):
    """One process, or one and those beside it, is cut off: from all or from some, both ways or one way."""

    kind = "partition"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset({LINKS})
        self.lasts_s = dice.uniform(0.5, 5.0)
        shape = dice.choice(["alone", "deaf", "mute", "from nodes", "split"])
        name = self.one_of(dice.choice([NODE, NODE, MANAGER, BALANCER, LOCK_SERVER]))
        others = [one for one in [*cluster.names, CALLERS] if one != name]
        if shape == "alone":
            self.directions, self.what = both_ways([name], others), f"{name} is cut off"
        elif shape == "deaf":
            self.directions, self.what = one_way(others, [name]), f"{name} hears nobody (one way)"
        elif shape == "mute":
            self.directions, self.what = one_way([name], others), f"nobody hears {name} (one way)"
        elif shape == "from nodes":
            name = self.one_of(NODE)
            rest = [one for one in cluster.nodes if one != name]
            self.directions, self.what = both_ways([name], rest), f"{name} is cut off from the other nodes"
        else:
            side = {*dice.sample(cluster.nodes, 1), self.one_of(MANAGER), self.one_of(BALANCER), self.one_of(LOCK_SERVER)}
            rest = [one for one in cluster.names if one not in side]
            self.directions, self.what = both_ways(sorted(side), rest), f"{', '.join(sorted(side))} apart from the rest"

    def inject(self) -> None:
        self.cluster.links.set(self.directions, CUT)

    def heal(self) -> None:
        self.cluster.links.set(self.directions, FAIR)


class BadLinks(Fault):
    """Lines that are slow, lose segments, reset connections, and let connections overtake each other."""

    kind = "bad links"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset({LINKS})
        self.lasts_s = dice.uniform(1.0, 6.0)
        self.weather, word = dice.choice(
            [
                (Weather(delay_s=(0.01, 0.06)), "slow"),
                (Weather(delay_s=(0.0, 0.15)), "reordering"),
                (Weather(lost=0.04), "lossy"),
                (Weather(reset=0.02), "resetting"),
                (Weather(delay_s=(0.0, 0.05), lost=0.02, reset=0.005), "slow, lossy, resetting"),
            ]
        )
        everyone = [*cluster.names, CALLERS]
        if dice.random() < 0.4:
            self.directions, where = both_ways(everyone, everyone), "all lines"
        else:
            name = self.some_process()
            self.directions, where = both_ways([name], everyone), f"the lines of {name}"
        self.what = f"{where} are {word}"

    def inject(self) -> None:
        self.cluster.links.set(self.directions, self.weather)

    def heal(self) -> None:
        self.cluster.links.set(self.directions, FAIR)


class PulledCable(Fault):
    """A whole host is off the network: what it was told before arrives, what is told now is lost. A `HostsCluster`'s."""

    kind = "cable pulled"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset({LINKS})
        self.lasts_s = dice.uniform(0.5, 5.0)
        self.host = dice.randint(1, HOSTS)
        self.what = f"the cable of host {self.host} is pulled"

    def inject(self) -> None:
        _network(self.cluster).pull(self.host)

    def heal(self) -> None:
        _network(self.cluster).plug(self.host)


class SwallowingRoute(Fault):
    """What one host sends to another is lost, and only in this direction. A `HostsCluster`'s."""

    kind = "one-way route"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.needs = frozenset({LINKS})
        self.lasts_s = dice.uniform(0.5, 5.0)
        self.source, self.target = dice.sample(range(1, HOSTS + 1), 2)
        self.what = f"what host {self.source} sends to host {self.target} is lost (one way)"

    def inject(self) -> None:
        _network(self.cluster).swallow(self.source, self.target)

    def heal(self) -> None:
        _network(self.cluster).restore(self.source, self.target)


def _network(cluster: HurtCluster) -> Network:
    assert isinstance(cluster, HostsCluster), "only hosts have cables and routes"
    return cluster.network


class ShiftClocks(Fault):
    """Wall clocks of some processes jump, forwards or back, by less than a lock's life up to minutes."""

    kind = "clock"
    SHIFT_S_MAX = 600

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.names = dice.sample(cluster.names, dice.choice([1, 1, 2, 3, len(cluster.names)]))
        self.needs = frozenset(f"clock of {name}" for name in self.names)
        self.lasts_s = dice.uniform(0.5, 5.0)
        self.shifts = {name: dice.choice([-1, 1]) * dice.choice([0.5, 3.0, 60.0, float(self.SHIFT_S_MAX)]) for name in self.names}
        self.what = "clocks: " + ", ".join(f"{name} {shift:+g} s" for name, shift in sorted(self.shifts.items()))

    def inject(self) -> None:
        for name, shift in self.shifts.items():
            self.cluster.shift_clock(name, shift)

    def heal(self) -> None:
        # Back again: the second jump.
        for name in self.names:
            self.cluster.shift_clock(name, 0)


class ForgetLocks(Fault):
    """A lock server, or all of them, loses its locks and its counter: flushed as if its disk had been wiped."""

    kind = "locks flushed"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        servers = cluster.names_of(LOCK_SERVER)
        self.names = servers if dice.random() < 0.3 else [dice.choice(servers)]
        self.needs = frozenset(self.names)
        self.lasts_s = dice.uniform(0.1, 1.0)
        self.what = f"{', '.join(self.names)} lose their data" if len(self.names) > 1 else f"{self.names[0]} loses its data"

    def inject(self) -> None:
        self.cluster.kill_hard(self.names)
        for name in self.names:
            for path in (self.cluster.folders.data / name).glob("appendonly*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def heal(self) -> None:
        for name in self.names:
            self.cluster.revive(name)


class LyingLocks(Fault):
    """Lock servers that grant everything to everybody, some or all of them."""

    kind = "lying locks"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        servers = cluster.names_of(LOCK_SERVER)
        self.names = dice.sample(servers, dice.choice([1, 2, len(servers)]))
        self.needs = frozenset(self.names)
        self.lasts_s = dice.uniform(1.0, 5.0)
        self.what = f"{', '.join(sorted(self.names))} grant everything"
        self._liars: list[Liar] = []

    def inject(self) -> None:
        self.cluster.kill_hard(self.names)
        for name in self.names:
            process = self.cluster.plan.process(name)
            self._liars.append(Liar(process.host, process.port))

    def heal(self) -> None:
        for liar in self._liars:
            liar.end()
        self._liars.clear()
        for name in self.names:
            self.cluster.revive(name)


class FullDisk(Fault):
    """A node's disk is full: it acknowledges nothing and ends; with room again it goes on from what it has."""

    kind = "disk full"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.name = cluster.small_disk
        self.needs = self.hurts = frozenset({self.name})
        self.lasts_s = dice.uniform(1.0, 4.0)
        self.what = f"the disk of {self.name} is full"

    @property
    def _filler(self) -> Path:
        return self.cluster.folders.data / self.name / FILLER

    def inject(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65_536)) == 65_536:
                    pass
                while file.write(bytes(256)):
                    pass
            except OSError:
                return  # Full.

    def heal(self) -> None:
        self._filler.unlink()
        code = self.cluster.dead().get(self.name)
        assert code in (None, EXIT_DISK), f"{self.name} ended with {code}, and {EXIT_DISK} is what a full disk means"
        self.cluster.revive(self.name)


class DamagedFile(Fault):
    """A store's file is cut short or has flipped bits when its node starts: it puts it aside and learns from a peer."""

    kind = "damaged file"

    def __init__(self, cluster: HurtCluster, dice: random.Random) -> None:
        super().__init__(cluster, dice)
        self.name = self.one_of(NODE)
        self.operator = dice.choice([one.code for one in cluster.plan.operators])
        self.needs = frozenset(cluster.nodes)  # One lost disk at a time is what three copies are for.
        self.lasts_s = dice.uniform(0.2, 1.0)
        self.cut = dice.random() < 0.4
        self.what = f"the file of {self.operator} at {self.name} is {'cut short' if self.cut else 'damaged'} while it is down"

    def inject(self) -> None:
        self.cluster.kill_hard([self.name])
        path = self.cluster.folders.data / self.name / "partitions" / f"{self.operator}.sqlite"
        if self.cut:
            with path.open("r+b") as file:
                file.truncate(self.dice.randrange(path.stat().st_size))
            return
        data = bytearray(path.read_bytes())
        for _ in range(self.dice.choice([1, 8, 64])):
            data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(bytes(data))

    def heal(self) -> None:
        self.cluster.revive(self.name)

    def is_over(self) -> bool:
        return not self.cluster.unequal()
