"""Which lock servers may be admitted to the set, and how: from what each says of itself to a plan.

A lock server grants only after it was *admitted*: it then has the marker of the set's generation and a counter. The
danger is a server that voted once and forgot: an attempt may still count its old answer, and its low counter may
certify a token twice. So the plan tells three kinds of server without a valid marker apart:

- one that provably never voted in this generation: it has the marker of an older generation, or the counter 0 that the
  first step of initialisation left. It may be admitted at once. (A majority that it joins still shares a server with
  every earlier majority, and that server remembers.)
- one that is empty while no server has this generation's marker and every server can be asked: the set is new.
- anything else has lost its data and must *rejoin*: stay out until every attempt that may have counted its old answers has
  given up, then take a counter above those of a quorum of peers.

Initialisation has two steps, counters first and markers after, so that a crash in its middle can be told from data loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstore import scripts
from lockstore.redlock import drift_ms

# Beyond the longest ttl: allowance for a client that reads its clock late, and for our own measuring.
REJOIN_MARGIN_MS = 500


@dataclass(frozen=True)
class Standing:
    """What one lock server says of itself; `reachable` False means that it said nothing, and `reason` why."""

    name: str
    reachable: bool = True
    marker: int | None = None
    counter: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class AdmissionPlan:
    """What to do, in this order.

    Attributes:
        found: New servers that first get the counter 0 (step one of initialisation).
        admit: Servers that get the marker; their counter stays.
        rejoin: Servers that lost their data and must rejoin one after the other.
        blocked: Why nothing may be done; empty if the plan can be carried out.
    """

    found: tuple[str, ...] = ()
    admit: tuple[str, ...] = ()
    rejoin: tuple[str, ...] = ()
    blocked: str = ""


def plan_admission(standings: Sequence[Standing], generation: int, needed: int) -> AdmissionPlan:
    """Return how to bring every reachable server of the set into the generation.

    Args:
        standings: One for each configured server.
        needed: The quorum of all configured servers.
    """
    ahead = [server.name for server in standings if server.marker is not None and server.marker > generation]
    if ahead:
        return AdmissionPlan(blocked=f"{', '.join(ahead)} already belong to a later generation than the configured {generation}")
    current = [server.name for server in standings if server.marker == generation and server.counter is not None]
    missing = [server for server in standings if server.reachable and server.name not in current]
    absent = [server.name for server in standings if not server.reachable]
    innocent = tuple(server.name for server in missing if _never_voted(server, generation))
    forgetful = [server for server in missing if server.name not in innocent]
    if not forgetful:
        if len(current) + len(innocent) < needed and absent:
            return AdmissionPlan(blocked=f"a new set needs all of its servers once; not reached: {', '.join(absent)}")
        return AdmissionPlan(admit=innocent)
    empty = tuple(server.name for server in forgetful if server.counter is None)
    if not current and len(empty) == len(forgetful):
        if absent:
            # The absent ones may be those that remember.
            return AdmissionPlan(blocked=f"a new set needs all of its servers once; not reached: {', '.join(absent)}")
        return AdmissionPlan(found=empty, admit=(*innocent, *empty))
    if len(current) + len(innocent) >= needed:
        # The innocent are admitted first and then count as peers: no majority that voted can be without a server that is asked.
        return AdmissionPlan(admit=innocent, rejoin=tuple(server.name for server in forgetful))
    names = ", ".join(server.name for server in forgetful)
    return AdmissionPlan(
        blocked=f"{names} lost their data and only {len(current) + len(innocent)} of {needed} needed peers can be asked "
        "for their counters: bring the others back, or stop all users of the locks and raise lockstore.generation"
    )


def _never_voted(server: Standing, generation: int) -> bool:
    """Return whether the server's own data prove that it never granted anything in this generation."""
    if server.counter is None:
        return False
    if server.marker is None:
        return server.counter == 0
    return server.marker < generation


def rejoin_wait_ms(ttl_max_ms: int) -> int:
    """Return how long a server that lost its data must have refused before its peers' counters are read."""
    return ttl_max_ms + drift_ms(ttl_max_ms) + REJOIN_MARGIN_MS


def rejoin_counter(peer_counters: Sequence[int], needed: int) -> int | None:
    """Return the counter for a rejoining server, or None if too few peers could be asked.

    A majority that once contained the lost server has needed - 1 others; any `needed` of the others meet it in one
    server at least (for an odd number of servers). The step leaves room for acquisitions under way at the peers.
    """
    if len(peer_counters) < needed:
        return None
    return max(peer_counters) + scripts.REJOIN_STEP
