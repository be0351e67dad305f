"""Admit lock servers to their set: ask each for its standing, then carry out the plan of `lockstore.recovery`.

Only the administration does this, never a client on its way to a lock: a client that initialised what it found empty
would turn every lost disk into a lost counter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from lockstore import scripts
from lockstore.config import TTL_MAX_MS
from lockstore.errors import LockServerRefused, LockSetNotRecoverable
from lockstore.links import LinkSettings, ServerAddress, call, open_connection
from lockstore.recovery import AdmissionPlan, Standing, plan_admission, rejoin_counter, rejoin_wait_ms
from lockstore.redlock import quorum

POLL_S: Final = 0.05


@dataclass(frozen=True)
class Admission:
    """What was done: servers admitted at once, and servers that rejoined after the wait."""

    admitted: tuple[str, ...] = ()
    rejoined: tuple[str, ...] = ()


def standing(address: ServerAddress, settings: LinkSettings) -> Standing:
    """Return what one lock server says of itself."""
    try:
        connection = open_connection(address, settings, settings.timeout_ms)
        try:
            marker, counter = call(connection, "GET", scripts.MARKER_KEY), call(connection, "GET", scripts.FENCE_KEY)
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        return Standing(address.name, reachable=False, reason=str(error))
    return Standing(
        address.name,
        marker=None if marker is None else int(marker),
        counter=None if counter is None else int(counter),
    )


def initialise(servers: Sequence[ServerAddress], settings: LinkSettings, generation: int, *, ttl_max_ms: int = TTL_MAX_MS) -> Admission:
    """Bring every reachable server of the set into the generation; safe to repeat, and to run after every start.

    A new set gets its markers, an interrupted initialisation is completed, a raised generation is adopted, and servers
    that lost their data rejoin, which takes a little longer than the longest ttl.

    Args:
        servers: All configured servers of the set.
        settings: Connection settings of the administration.

    Raises:
        LockSetNotRecoverable: The plan is blocked; the detail says by what.
        LockServerRefused: A server failed on the way. Repeat.
    """
    needed = quorum(len(servers))
    by_name = {server.name: server for server in servers}
    plan = plan_admission([standing(server, settings) for server in servers], generation, needed)
    _require_open(plan)
    for name in plan.found:
        _admit(by_name[name], settings, 0, None)
    for name in plan.admit:
        _admit(by_name[name], settings, 0, generation)
    rejoined = []
    for name in plan.rejoin:
        peers = [server for server in servers if server.name != name]
        rejoin(by_name[name], peers, settings, generation, ttl_max_ms=ttl_max_ms)
        rejoined.append(name)
    return Admission(plan.admit, tuple(rejoined))


def rejoin(
    server: ServerAddress,
    peers: Sequence[ServerAddress],
    settings: LinkSettings,
    generation: int,
    *,
    ttl_max_ms: int = TTL_MAX_MS,
    waiting: Callable[[int], None] = lambda remaining_ms: None,
) -> int:
    """Let a server that lost its data back into the set; return the counter that it was given.

    It refuses for as long as it has no marker, and nobody else sets one. So it is enough to see it empty, wait until every attempt
    that may have counted its earlier answers has given up, and only then to read the peers: reading first would miss
    what such an attempt still certifies.

    Args:
        peers: All other configured servers of the set.
        ttl_max_ms: The longest ttl that any client of the set uses.
        waiting: Told the remaining wait now and then.

    Raises:
        LockSetNotRecoverable: Too few peers have a counter of this generation.
        LockServerRefused: The server is not reachable, or is admitted already (then nothing was done).
    """
    before = _require_empty(server, settings)
    needed = quorum(len(peers) + 1)
    _require_counter(server, peers, settings, generation, needed)
    deadline = time.monotonic() + rejoin_wait_ms(ttl_max_ms) / 1000
    pause = threading.Event()
    while (remaining := deadline - time.monotonic()) > 0:
        waiting(int(remaining * 1000))
        pause.wait(min(remaining, POLL_S))
    if _require_empty(server, settings) != before:
        raise LockServerRefused(f'lock server "{server.name}" changed during the wait', server=server.name)
    counter = _require_counter(server, peers, settings, generation, needed)
    return _admit(server, settings, counter, generation)


def _require_open(plan: AdmissionPlan) -> None:
    if plan.blocked:
        raise LockSetNotRecoverable(plan.blocked, server="")


def _require_empty(server: ServerAddress, settings: LinkSettings) -> Standing:
    found = standing(server, settings)
    if not found.reachable:
        raise LockServerRefused(f'lock server "{server.name}" cannot be reached: {found.reason}', server=server.name)
    if found.marker is not None:
        raise LockServerRefused(f'lock server "{server.name}" is admitted already', server=server.name, marker=found.marker)
    return found


def _require_counter(
    server: ServerAddress, peers: Sequence[ServerAddress], settings: LinkSettings, generation: int, needed: int
) -> int:
    standings = [standing(peer, settings) for peer in peers]
    counters = [peer.counter for peer in standings if peer.marker == generation and peer.counter is not None]
    counter = rejoin_counter(counters, needed)
    if counter is None:
        raise LockSetNotRecoverable(
            f'lock server "{server.name}" cannot rejoin: {len(counters)} of {needed} needed peers have a counter', server=server.name
        )
    return counter


def _admit(server: ServerAddress, settings: LinkSettings, counter: int, generation: int | None) -> int:
    """Raise the counter to at least `counter` and set the marker, in one step on the server."""
    marker = "" if generation is None else generation
    try:
        connection = open_connection(server, settings, settings.timeout_ms)
        try:
            return int(call(connection, "EVAL", scripts.ADMIT, 2, scripts.FENCE_KEY, scripts.MARKER_KEY, counter, marker))
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        raise LockServerRefused(
            f'lock server "{server.name}" failed while it was admitted: {error}', server=server.name, maybe_committed=True
        ) from error
