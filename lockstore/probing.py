"""How each lock server is: whether its answers can count towards a quorum, and if not, why.

Who asks how a server is has time: one pause of a busy machine, long for a lock, does not make a server that is down.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from redis.exceptions import RedisError

from lockstore import redlock, scripts
from lockstore.links import LinkSettings, ServerAddress, call, open_connection

PROBE_PAUSE_S: Final = 0.005
PATIENCE_MS: Final = 500  # for one call of a question that no buyer waits for


@dataclass(frozen=True)
class ServerState:
    """One lock server as `probe` found it.

    Attributes:
        votes: Whether its answers can count towards a quorum now; if not, `reason` says why.
        counter: Its fence counter; None if it has none or was not reached.
        marker: The generation it was admitted to; None if it was never admitted or lost its data.
        clock_advances: Whether its clock moved between two readings; a frozen one would never let a lock expire.
    """

    address: ServerAddress
    votes: bool
    reason: str = ""
    version: str = ""
    counter: int | None = None
    marker: int | None = None
    clock_advances: bool = False


def patient(settings: LinkSettings) -> LinkSettings:
    """Return the settings of connections for questions about a server."""
    return replace(settings, timeout_ms=max(PATIENCE_MS, settings.timeout_ms))


def probe_all(
    addresses: Sequence[ServerAddress], settings: LinkSettings, generation: int, closed: threading.Event
) -> list[ServerState]:
    """Return what each server says of itself, all asked at once: several that are silent cost the time of one."""
    with ThreadPoolExecutor(len(addresses), "lock-probe") as threads:
        return list(threads.map(lambda address: probe(address, patient(settings), generation, closed), addresses))


def probe(address: ServerAddress, settings: LinkSettings, generation: int, closed: threading.Event) -> ServerState:
    """Return what the server says of itself; `closed` cuts the pause between two readings of its clock short."""
    try:
        connection = open_connection(address, settings, settings.timeout_ms)
        try:
            hello = call(connection, "HELLO", 2)
            version = dict(zip(hello[::2], hello[1::2], strict=True)).get(b"version", b"").decode()
            first = call(connection, "TIME")
            marker, counter = call(connection, "GET", scripts.MARKER_KEY), call(connection, "GET", scripts.FENCE_KEY)
            closed.wait(PROBE_PAUSE_S)
            advances = call(connection, "TIME") != first
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        return ServerState(address, votes=False, reason=str(error))
    reason = ""
    if marker is None or counter is None:
        reason = redlock.refusal_reason(scripts.NOT_INITIALISED)
    elif int(marker) != generation:
        reason = redlock.refusal_reason(scripts.OTHER_GENERATION + b"," + marker)
    elif not advances:
        reason = "its clock stands still: locks would never expire"
    return ServerState(
        address,
        votes=not reason,
        reason=reason,
        version=version,
        counter=None if counter is None else int(counter),
        marker=None if marker is None else int(marker),
        clock_advances=advances,
    )
