"""The locks that stand now, for a person who looks: which keys, whose, for how long yet, and on how many servers.

Each server is asked by itself and at its own moment, so a lock that is being taken or given back may be seen on some only.
Nothing is decided by what is seen here. Who holds a lock is told by its nonce, which begins with the mark of its client's
name; the rest of it stays with the holder and the servers, as whoever knows a whole nonce could release the lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.connection import Connection
from redis.exceptions import RedisError

from lockstore import redlock
from lockstore.links import LinkSettings, ServerAddress, call, open_connection

# Of "seat:" keys (a hold is being made) and "promote:" keys (a manager looks after an operator).
PATTERNS: Final = ("seat:*", "promote:*")
SCAN_COUNT: Final = 1_000
SCANS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """One key on one server."""

    key: str
    nonce: str
    left_ms: int


@dataclass(frozen=True, slots=True)
class StandingLock:
    """One key that one holder has on at least one server.

    Attributes:
        holder: The name of the client, or the mark of an unknown one.
        left_ms: How long the last of the servers will keep it.
        servers: The names of those that have it.
    """

    key: str
    holder: str
    left_ms: int
    servers: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """What was seen.

    Attributes:
        locks: Those seats first that stand the longest yet.
        asked: How many servers are configured; `quorum`: how many of them a lock needs.
        unread: The servers that could not be read, and why.
        more: Whether there are more than were asked for.
    """

    locks: tuple[StandingLock, ...]
    asked: int
    quorum: int
    unread: dict[str, str] = field(default_factory=dict)
    more: bool = False


def standing(servers: Sequence[ServerAddress], settings: LinkSettings, names: Collection[str], limit: int) -> Standing:
    """Return what stands on these servers, at most `limit` keys of each kind from each; a server that fails is left out and named.

    Args:
        names: Of the clients that may hold locks, to be told by.
    """
    seen: dict[str, list[Seen]] = {}
    unread: dict[str, str] = {}
    for address in servers:
        try:
            connection = open_connection(address, settings, settings.timeout_ms)
            try:
                seen[address.name] = _read(connection, limit)
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            unread[address.name] = str(error)
    locks = merged(seen, names)
    return Standing(tuple(locks[:limit]), len(servers), redlock.quorum(len(servers)), unread, len(locks) > limit)


def merged(seen: Mapping[str, Sequence[Seen]], names: Collection[str]) -> list[StandingLock]:
    """Return one line for each key and nonce, those that stand the longest yet first."""
    holders = {redlock.mark(name): name for name in names}
    found: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for server, keys in seen.items():
        for one in keys:
            left_ms, having = found.setdefault((one.key, one.nonce), (0, []))
            having.append(server)
            found[one.key, one.nonce] = max(left_ms, one.left_ms), having
    locks = [
        StandingLock(key, holders.get(nonce[: redlock.MARK_LENGTH], nonce[: redlock.MARK_LENGTH]), left_ms, tuple(having))
        for (key, nonce), (left_ms, having) in found.items()
    ]
    return sorted(locks, key=lambda lock: (-lock.left_ms, lock.key))


def _read(connection: Connection, limit: int) -> list[Seen]:
    found = []
    for pattern in PATTERNS:
        keys = _keys(connection, pattern, limit)
        if not keys:
            continue
        nonces = call(connection, "MGET", *keys)
        for key, nonce in zip(keys, nonces, strict=True):
            left_ms = call(connection, "PTTL", key) if nonce is not None else 0
            if left_ms > 0:  # Else it ended since.
                found.append(Seen(key.decode(errors="replace"), nonce.decode(errors="replace"), left_ms))
    return found


def _keys(connection: Connection, pattern: str, limit: int) -> list[bytes]:
    cursor, keys = b"0", dict[bytes, None]()
    for _ in range(SCANS_MAX):
        cursor, page = call(connection, "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
        keys.update(dict.fromkeys(page))
        if cursor == b"0" or len(keys) > limit:
            break
    return [*keys][: limit + 1]
