"""The `[manager]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file and no socket. Where the nodes are comes from the value of
`datastore.config`, as the addresses of a lower tier always do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datastore.errors import shown
from datastore.settings import Bounds, ProcessAddress, address_of, addresses, number, refuse, table_of

TABLE = "manager"


@dataclass(frozen=True)
class ManagerConfig:
    """The managers' settings, in milliseconds.

    Attributes:
        managers: All managers of the cluster, this one included.
        heartbeat_ms: How often each node is asked for its status.
        suspicion_ms: A primary that was not heard for this long may be replaced.
        promote_lease_ms: How long a manager may keep its rivals from promoting the same operator. Only against duels.
        node_timeout_ms: How long a node may take to answer status, promise or become.
        replace_lost: Whether a store that lost its disk is replaced by itself: a new one learns, votes, and the old is taken out.
        return_primaries: Whether a primary goes back by itself to the node that is preferred for it.
    """

    managers: tuple[ProcessAddress, ...]
    heartbeat_ms: int = 250
    suspicion_ms: int = 1_000
    promote_lease_ms: int = 2_000
    node_timeout_ms: int = 1_000
    replace_lost: bool = True
    return_primaries: bool = False
    file: str = "cluster.toml"

    def manager(self, name: str) -> ProcessAddress:
        """Return the manager of that name.

        Raises:
            ConfigInvalid: There is none; the nearest names are in the message.
        """
        return address_of(name, self.managers, f"{TABLE}.manager", "manager", self.file)


# Key -> (least, most, why a value outside cannot work).
_BOUNDS: dict[str, Bounds] = {
    "heartbeat_ms": (10, 60_000, "more often only burns processor time, more rarely leaves a dead primary unnoticed"),
    "suspicion_ms": (50, 600_000, "a shorter silence is an ordinary pause"),
    # The upper bound is the lock store's longest ttl: a lock server that lost its data stays out for that long.
    "promote_lease_ms": (100, 10_000, "a lock lasts moments"),
    "node_timeout_ms": (20, 60_000, "an ordinary disk flush would count as a failure, or a frozen node would hold up a round"),
}

_SWITCHES = ("replace_lost", "return_primaries")


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> ManagerConfig:
    """Return the validated settings.

    Args:
        mapping: The whole parsed cluster.toml; only its `manager` table is read.
        file: Its name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = table_of(mapping, TABLE, (*_BOUNDS, *_SWITCHES, "manager"), file)
    numbers = {key: number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in _BOUNDS.items() if key in table}
    switches = {key: table[key] for key in _SWITCHES if key in table}
    for key, value in switches.items():
        if not isinstance(value, bool):
            refuse(file, f"{TABLE}.{key}", f"{shown(str(value))} is neither true nor false")
    managers = addresses(table.get("manager"), f"{TABLE}.manager", "manager", file)
    values: dict[str, Any] = {**numbers, **switches}
    config = ManagerConfig(managers, file=file, **values)
    if config.suspicion_ms < 2 * config.heartbeat_ms:
        reason = f"{config.suspicion_ms} is below twice heartbeat_ms = {config.heartbeat_ms}: one late answer would topple a primary"
        refuse(file, f"{TABLE}.suspicion_ms", reason)
    return config
