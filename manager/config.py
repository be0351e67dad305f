"""The `[manager]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file and no socket. Where the nodes are comes from the value of
`datastore.config`, as the addresses of a lower tier always do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from datastore.errors import ConfigInvalid, nearest, shown

TABLE = "manager"
NAME_LENGTH_MAX = 64


@dataclass(frozen=True)
class ManagerAddress:
    """Where one manager listens."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class ManagerConfig:
    """The managers' settings, in milliseconds.

    Attributes:
        managers: All managers of the cluster, this one included.
        heartbeat_ms: How often each node is asked for its status.
        suspicion_ms: A primary that was not heard for this long may be replaced.
        promote_lease_ms: How long a manager may keep its rivals from promoting the same operator. Only against duels.
        node_timeout_ms: How long a node may take to answer status, promise or become.
    """

    managers: tuple[ManagerAddress, ...]
    heartbeat_ms: int = 250
    suspicion_ms: int = 1_000
    promote_lease_ms: int = 2_000
    node_timeout_ms: int = 1_000
    file: str = "cluster.toml"

    def manager(self, name: str) -> ManagerAddress:
        """Return the manager of that name.

        Raises:
            ConfigInvalid: There is none; the nearest names are in the message.
        """
        for manager in self.managers:
            if manager.name == name:
                return manager
        _fail(self.file, f"{TABLE}.manager", f"no manager is named {shown(name)}", name, [one.name for one in self.managers])


# Key -> (least, most, why a value outside cannot work).
_BOUNDS: dict[str, tuple[int, int, str]] = {
    "heartbeat_ms": (10, 60_000, "more often only burns processor time, more rarely leaves a dead primary unnoticed"),
    "suspicion_ms": (50, 600_000, "a shorter silence is an ordinary pause"),
    # The upper bound is the lock store's longest ttl: a lock server that lost its data stays out for that long.
    "promote_lease_ms": (100, 10_000, "a lock lasts moments"),
    "node_timeout_ms": (20, 60_000, "an ordinary disk flush would count as a failure, or a frozen node would hold up a round"),
}
_MANAGER_KEYS = tuple(field.name for field in fields(ManagerAddress))


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> ManagerConfig:
    """Return the validated settings.

    Args:
        mapping: The whole parsed cluster.toml; only its `manager` table is read.
        file: Its name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = mapping.get(TABLE)
    if not isinstance(table, Mapping):
        _fail(file, TABLE, "the table is missing", TABLE, list(mapping))
    known = [*_BOUNDS, "manager"]
    for key in table:
        if key not in known:
            _fail(file, f"{TABLE}.{key}", "unknown key", key, known)
    numbers = {key: _number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in _BOUNDS.items() if key in table}
    config = ManagerConfig(managers=_managers(table.get("manager"), file), file=file, **numbers)
    if config.suspicion_ms < 2 * config.heartbeat_ms:
        reason = f"{config.suspicion_ms} is below twice heartbeat_ms = {config.heartbeat_ms}: one late answer would topple a primary"
        _fail(file, f"{TABLE}.suspicion_ms", reason)
    return config


def _managers(rows: Any, file: str) -> tuple[ManagerAddress, ...]:
    where = f"{TABLE}.manager"
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        _fail(file, where, "no manager is given; write one [[manager.manager]] for each")
    managers = tuple(_manager(row, f"{where}[{index}]", file) for index, row in enumerate(rows))
    names: set[str] = set()
    addresses: dict[tuple[str, int], str] = {}
    for index, manager in enumerate(managers):
        if manager.name in names:
            _fail(file, f"{where}[{index}].name", f"{shown(manager.name)} is used twice")
        names.add(manager.name)
        other = addresses.setdefault((manager.host, manager.port), manager.name)
        if other != manager.name:
            _fail(file, f"{where}[{index}].port", f"{manager.host}:{manager.port} is also the address of {shown(other)}")
    return managers


def _manager(row: Any, where: str, file: str) -> ManagerAddress:
    if not isinstance(row, Mapping):
        _fail(file, where, "must be a table with name, host and port")
    for key in row:
        if key not in _MANAGER_KEYS:
            _fail(file, f"{where}.{key}", "unknown key", key, _MANAGER_KEYS)
    name = row.get("name")
    if not isinstance(name, str) or not _plain_name(name):
        # The name becomes a file's: of its log and of its process id.
        _fail(file, f"{where}.name", f'{shown(name)} is not a plain name (letters, digits, "-", "_")')
    host = row.get("host", "127.0.0.1")
    if not isinstance(host, str) or not host or any(character.isspace() for character in host):
        _fail(file, f"{where}.host", f"{shown(host)} is not a host name or address")
    if "port" not in row:
        _fail(file, f"{where}.port", "is missing")
    return ManagerAddress(name, host, _number(row["port"], f"{where}.port", file, (1, 65_535, "that is no port")))


def _plain_name(name: str) -> bool:
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def _number(value: Any, key: str, file: str, bounds: tuple[int, int, str]) -> int:
    # bool is an int in Python, but `port = true` is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        _fail(file, key, f"{shown(value)} is not a whole number")
    least, most, why = bounds
    if not least <= value <= most:
        _fail(file, key, f"{value} is not within {least}..{most}: {why}")
    return value


def _fail(file: str, key: str, reason: str, word: str = "", known: Sequence[str] = ()) -> NoReturn:
    found = nearest(word, known) if word else []
    hint = f"; did you mean {shown(found[0])}?" if found else ""
    raise ConfigInvalid(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=found[0] if found else "")
