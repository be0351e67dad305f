"""Faults that have to meet their moment: each looks at every message as it is sent, until the one that it waits for.

`cluster.Cluster.trouble` sets them; `network.Trap` says how they are asked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from datastore import wire
from datastore.commands import HoldEach, HoldLegs
from lockstore import scripts
from tests.simulation.lockservers import opened
from tests.simulation.network import Trap
from tests.simulation.scenario import Fault
from tests.simulation.world import Ask, Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

# As a batch of commands names them.
HOLD, HOLD_EACH, HOLD_LEGS = (msgspec.msgpack.encode(command.__struct_config__.tag) for command in (wire.Hold, HoldEach, HoldLegs))
ACQUIRE = scripts.digest(scripts.ACQUIRE).encode()
WRITE_BACK = scripts.digest(scripts.WRITE_BACK).encode()


def trap_of(cluster: Cluster, fault: Fault, process: Process) -> Trap:
    """Return the trap of a fault."""
    springs = {"unheard": _unheard, "late": _late, "asleep": _asleep, "tardy": _tardy}[fault.kind]
    return Trap(partial(springs, cluster, fault, process))


def _unheard(cluster: Cluster, fault: Fault, process: Process, asker: Process, ask: Ask) -> int | None:
    """A balancer hears nothing any more from the moment at which it has sent a trip's holds."""
    if asker is not process or ask.method != "submit" or HOLD_LEGS not in ask.payload:
        return None
    cuts = cluster.cuts("deaf", process)
    cluster.world.network.cuts |= cuts
    cluster.world.at(fault.lasts_ms * 1000, partial(cluster.mend, cuts))
    cluster.world.tell("nemesis", "{} hears nothing for {} ms", process.name, fault.lasts_ms)
    return 0


def _late(cluster: Cluster, fault: Fault, _: Process, asker: Process, ask: Ask) -> int | None:
    """A write-back is late, and meanwhile its lock lapses at one of its servers, while another may give its token again."""
    if ask.method != "script" or not _may_repeat(cluster, ask.payload):
        return None
    lapsing = [server for server in cluster.lock_servers if server.alive and server.holds(ask.payload)]
    if not lapsing:
        return None
    server = lapsing[fault.number % len(lapsing)]
    server.clock.wall_offset_ms += cluster.scenario.lock_ttl_ms + 1
    what = "the write-back of {} is {} ms late, its lock at {} lapses"
    cluster.world.tell("nemesis", what, asker.name, fault.lasts_ms, server.name)
    return fault.lasts_ms * 1000


def _may_repeat(cluster: Cluster, payload: bytes) -> bool:
    """Return whether this is the write-back of one lock, and a server where it is not held would give the same token next."""
    digest, _, arguments = opened(payload)
    if digest != WRITE_BACK or len(arguments) != 4:
        return False
    return any(not server.holds(payload) and server.counter + 1 == int(arguments[3]) for server in cluster.lock_servers)


def _asleep(cluster: Cluster, fault: Fault, process: Process, asker: Process, ask: Ask) -> int | None:
    """Who has just asked for a lock is stopped, and reads the answers when it goes on."""
    if asker is not process or ask.method != "script" or opened(ask.payload)[0] != ACQUIRE:
        return None
    process.freeze()
    cluster.world.at(fault.lasts_ms * 1000, lambda _: process.thaw())
    cluster.world.tell("nemesis", "{} stops for {} ms, having asked for locks", process.name, fault.lasts_ms)
    return 0


def _tardy(cluster: Cluster, fault: Fault, process: Process, asker: Process, ask: Ask) -> int | None:
    """The next hold that a balancer sends is late; its locks may be over by then, and the seats have been others'."""
    if asker is not process or ask.method != "submit" or not (HOLD in ask.payload or HOLD_EACH in ask.payload):
        return None
    cluster.world.tell("nemesis", "a hold of {} is {} ms late", process.name, fault.lasts_ms)
    return fault.lasts_ms * 1000
