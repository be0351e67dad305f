"""The `[lockstore]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file and no socket. Every bound is checked here, with its reason in
the message, so that nothing later has to wonder about a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from lockstore.errors import LockConfigInvalid

TABLE = "lockstore"
TTL_MIN_MS = 2_000
TTL_MAX_MS = 10_000
TIMEOUT_MIN_MS = 5
SUSPECT_MIN_MS = 10
SUSPECT_MAX_MS = 60_000
APPENDFSYNC_POLICIES = ("always", "everysec", "no")
NAME_LENGTH_MAX = 64


@dataclass(frozen=True)
class LockServerConfig:
    """One lock server: its name, its address and whether this cluster starts it.

    Attributes:
        managed: False for a server that others run: it is used and watched, never started or stopped by us.
    """

    name: str
    host: str
    port: int
    managed: bool = True


@dataclass(frozen=True)
class LockStoreConfig:
    """The lock store's settings; see docs/redlock.md for what each protects.

    Attributes:
        ttl_ms: Life of a lock. Long enough for a batch of holds, short enough that a dead holder is soon forgotten.
        timeout_ms: How long one lock server may take to answer one call.
        suspect_ms: How often a server that failed to answer is tried again, away from the callers.
        generation: Number of this set of lock servers; fences compare as (generation, counter).
        appendfsync: When a lock server flushes. Only "always" keeps the counter through a power failure.
        user: Name of the ACL user that callers use.
        binary: Explicit server binary; empty means the first usable one found.
        tls: Whether lock servers speak TLS only, and want a certificate of who calls.
        certificates: Folder of this host's certificates; "" is `certificates` in the data folder.
        authority: Whose lock servers are trusted (PEM); "" is `authority.pem` among the certificates.
    """

    servers: tuple[LockServerConfig, ...]
    ttl_ms: int = 5_000
    timeout_ms: int = 80
    suspect_ms: int = 500
    generation: int = 1
    appendfsync: str = "always"
    user: str = "holdfast"
    binary: str = ""
    tls: bool = False
    certificates: str = ""
    authority: str = ""
    file: str = "cluster.toml"

    @property
    def quorum(self) -> int:
        """The majority of all configured servers, reachable or not."""
        return len(self.servers) // 2 + 1

    def server(self, name: str) -> LockServerConfig:
        """Return the server of that name.

        Raises:
            LockConfigInvalid: There is none; the nearest known name is in the message.
        """
        for server in self.servers:
            if server.name == name:
                return server
        known = [server.name for server in self.servers]
        raise LockConfigInvalid(
            file=self.file, key=f"{TABLE}.server", reason=f'no lock server is named "{name}"', nearest=_nearest(name, known)
        )


_SERVER_KEYS = tuple(field.name for field in fields(LockServerConfig))
_STORE_KEYS = tuple(field.name for field in fields(LockStoreConfig) if field.name not in ("servers", "file"))


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> LockStoreConfig:
    """Return the validated settings of the lock store.

    Args:
        mapping: The whole parsed cluster.toml; only its `lockstore` table is read.
        file: The file's name, for messages.

    Raises:
        LockConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = mapping.get(TABLE)
    if not isinstance(table, Mapping):
        raise LockConfigInvalid(file=file, key=TABLE, reason="the table is missing", nearest=_nearest(TABLE, list(mapping)))
    reader = _Reader(table, TABLE, file)
    reader.only((*_STORE_KEYS, "server"))
    servers = _servers(table.get("server"), file)
    config = LockStoreConfig(
        servers=servers,
        ttl_ms=reader.integer("ttl_ms", 5_000),
        timeout_ms=reader.integer("timeout_ms", 80),
        suspect_ms=reader.integer("suspect_ms", 500),
        generation=reader.integer("generation", 1),
        appendfsync=reader.text("appendfsync", "always"),
        user=reader.text("user", "holdfast"),
        binary=reader.text("binary", ""),
        tls=reader.flag("tls", False),
        certificates=reader.text("certificates", ""),
        authority=reader.text("authority", ""),
        file=file,
    )
    _check_store(config, reader)
    return config


def _check_store(config: LockStoreConfig, reader: _Reader) -> None:
    """Check bounds and relations between the settings."""
    if not TTL_MIN_MS <= config.ttl_ms <= TTL_MAX_MS:
        reader.fail(
            "ttl_ms",
            f"{config.ttl_ms} is not within {TTL_MIN_MS}..{TTL_MAX_MS}: shorter is lost to an ordinary pause, "
            "longer makes a dead holder block a seat and a lost lock server wait",
        )
    if config.timeout_ms < TIMEOUT_MIN_MS:
        reader.fail("timeout_ms", f"{config.timeout_ms} is below {TIMEOUT_MIN_MS}: an ordinary disk flush would count as a failure")
    # Acquire and write-back may each use up one time-out; some of the ttl has to be left for the work.
    if config.timeout_ms * 2 >= config.ttl_ms:
        reader.fail("timeout_ms", f"twice {config.timeout_ms} leaves nothing of ttl_ms = {config.ttl_ms} for the holder")
    if not SUSPECT_MIN_MS <= config.suspect_ms <= SUSPECT_MAX_MS:
        reader.fail("suspect_ms", f"{config.suspect_ms} is not within {SUSPECT_MIN_MS}..{SUSPECT_MAX_MS}")
    if config.generation < 1:
        reader.fail("generation", f"{config.generation} is below 1; it starts at 1 and only rises")
    if config.appendfsync not in APPENDFSYNC_POLICIES:
        nearest = _nearest(config.appendfsync, APPENDFSYNC_POLICIES)
        reader.fail("appendfsync", f'"{config.appendfsync}" is none of {", ".join(APPENDFSYNC_POLICIES)}', nearest)
    if not _plain_name(config.user):
        reader.fail("user", f'"{config.user}" is not a plain name (letters, digits, "-", "_")')


def _servers(rows: Any, file: str) -> tuple[LockServerConfig, ...]:
    """Read and check the `[[lockstore.server]]` rows."""
    where = f"{TABLE}.server"
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise LockConfigInvalid(file=file, key=where, reason="no lock server is given; write one [[lockstore.server]] for each")
    servers = tuple(_server(row, f"{where}[{index}]", file) for index, row in enumerate(rows))
    if len(servers) % 2 == 0:
        raise LockConfigInvalid(
            file=file,
            key=where,
            reason=f"{len(servers)} lock servers: an even number bears no more failures than one less; use 1, 3 or 5",
        )
    names: set[str] = set()
    addresses: dict[tuple[str, int], str] = {}
    for index, server in enumerate(servers):
        if server.name in names:
            raise LockConfigInvalid(file=file, key=f"{where}[{index}].name", reason=f'"{server.name}" is used twice')
        names.add(server.name)
        other = addresses.setdefault((server.host, server.port), server.name)
        if other != server.name:
            # One process counted twice would be a quorum by itself.
            reason = f'{server.host}:{server.port} is also the address of "{other}": one server must not vote twice'
            raise LockConfigInvalid(file=file, key=f"{where}[{index}].port", reason=reason)
    return servers


def _server(row: Any, where: str, file: str) -> LockServerConfig:
    if not isinstance(row, Mapping):
        raise LockConfigInvalid(file=file, key=where, reason="must be a table with name, host and port")
    reader = _Reader(row, where, file)
    reader.only(_SERVER_KEYS)
    server = LockServerConfig(
        name=reader.text("name", None),
        host=reader.text("host", "127.0.0.1"),
        port=reader.integer("port", None),
        managed=reader.flag("managed", True),
    )
    if not _plain_name(server.name):
        # The name becomes a folder below the data directory.
        reader.fail("name", f'"{server.name}" is not a plain name (letters, digits, "-", "_")')
    if not server.host or any(character.isspace() for character in server.host):
        reader.fail("host", f'"{server.host}" is not a host name or address')
    if not 1 <= server.port <= 65_535:
        reader.fail("port", f"{server.port} is not within 1..65535")
    return server


def _plain_name(name: str) -> bool:
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def _nearest(name: str, known: Sequence[str]) -> str:
    found = get_close_matches(name, known, n=1)
    return found[0] if found else ""


class _Reader:
    """Typed access to one table; every complaint names the file and the full key."""

    def __init__(self, table: Mapping[str, Any], where: str, file: str) -> None:
        self._table = table
        self._where = where
        self._file = file

    def fail(self, key: str, reason: str, nearest: str = "") -> None:
        raise LockConfigInvalid(file=self._file, key=f"{self._where}.{key}", reason=reason, nearest=nearest)

    def only(self, known: Sequence[str]) -> None:
        for key in self._table:
            if key not in known:
                self.fail(key, "unknown key", _nearest(key, known))

    def integer(self, key: str, default: int | None) -> int:
        value = self._value(key, default)
        # bool is an int in Python, but `port = true` is a slip.
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, f"{value!r} is not a whole number")
        return int(value)

    def text(self, key: str, default: str | None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            self.fail(key, f"{value!r} is not a text")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"{value!r} is neither true nor false")
        return bool(value)

    def _value(self, key: str, default: Any) -> Any:
        if key in self._table:
            return self._table[key]
        if default is None:
            self.fail(key, "is missing")
        return default
