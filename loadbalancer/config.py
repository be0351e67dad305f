"""The `[loadbalancer]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from datastore.errors import ConfigInvalid, nearest, shown

TABLE = "loadbalancer"


@dataclass(frozen=True)
class BalancerAddress:
    """Where one load balancer listens."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class LoadBalancerConfig:
    """The load balancers' settings. Times are milliseconds, sizes bytes.

    Attributes:
        balancers: All load balancers of the cluster, this one included.
        hold_ttl_ms: How long a hold lasts when the buyer names no time.
        hold_ttl_max_ms: The longest time from a hold's creation to its end, extensions included (Z11).
        seats_per_hold_max: Seats in one hold.
        owner_holds_max: Open holds of one owner with one operator.
        service_holds_max: Open holds of one owner on one service.
        lanes: Threads that carry batches to the managers; an operator has at most one batch under way.
        batch_max: Requests in one batch to the lock servers or to an operator.
        connections_max: Callers connected at a time.
        frame_bytes_max: Largest message taken from a caller: an import's body has to fit.
        feed_wait_ms: How long a node may keep a question for news before it answers that there is none.
        view_wait_ms: How long an answer waits for the caller's own write to be seen before it says `partial` (Z14).
        lookup_per_minute: Looking up a booking by surname: tries per booking reference.
        lookup_per_minute_peer: ... and per caller's address.
    """

    balancers: tuple[BalancerAddress, ...]
    hold_ttl_ms: int = 900_000
    hold_ttl_max_ms: int = 1_800_000
    seats_per_hold_max: int = 9
    owner_holds_max: int = 50
    service_holds_max: int = 10
    lanes: int = 16
    batch_max: int = 512
    connections_max: int = 256
    frame_bytes_max: int = 4 * 1024 * 1024
    feed_wait_ms: int = 500
    view_wait_ms: int = 500
    lookup_per_minute: int = 10
    lookup_per_minute_peer: int = 60
    file: str = "cluster.toml"

    def balancer(self, name: str) -> BalancerAddress:
        """Return the balancer of that name.

        Raises:
            ConfigInvalid: There is none; the nearest names are in the message.
        """
        for balancer in self.balancers:
            if balancer.name == name:
                return balancer
        _fail(self.file, f"{TABLE}.balancer", f"no load balancer is named {shown(name)}", name, [one.name for one in self.balancers])


# Key -> (least, most, why a value outside cannot work).
_BOUNDS: dict[str, tuple[int, int, str]] = {
    "hold_ttl_ms": (1_000, 86_400_000, "a shorter hold ends before anybody can pay, a longer one keeps seats from buyers"),
    "hold_ttl_max_ms": (1_000, 86_400_000, "a shorter hold ends before anybody can pay, a longer one keeps seats from buyers"),
    "seats_per_hold_max": (1, 400, "a hold has at least one seat, and its locks travel in one message"),
    "owner_holds_max": (1, 1_000_000, "an owner needs at least one hold"),
    "service_holds_max": (1, 1_000_000, "an owner needs at least one hold"),
    "lanes": (1, 256, "each lane is a thread"),
    "batch_max": (1, 4_096, "a batch travels in one message"),
    "connections_max": (1, 10_000, "each connection is a thread"),
    "frame_bytes_max": (65_536, 64 * 1024 * 1024, "a message has to fit, and a caller must not fill the memory"),
    "feed_wait_ms": (10, 30_000, "a connection that is silent for longer looks dead"),
    "view_wait_ms": (0, 10_000, "a caller waits that long"),
    "lookup_per_minute": (1, 100_000, "nobody could look up a booking"),
    "lookup_per_minute_peer": (1, 100_000, "nobody could look up a booking"),
}
_TABLE_KEYS = tuple(field.name for field in fields(LoadBalancerConfig) if field.name not in ("balancers", "file"))
_BALANCER_KEYS = tuple(field.name for field in fields(BalancerAddress))


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> LoadBalancerConfig:
    """Return the validated settings.

    Args:
        mapping: The whole parsed cluster.toml; only its `loadbalancer` table is read.
        file: Its name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = mapping.get(TABLE)
    if not isinstance(table, Mapping):
        _fail(file, TABLE, "the table is missing", TABLE, list(mapping))
    for key in table:
        if key not in (*_TABLE_KEYS, "balancer"):
            _fail(file, f"{TABLE}.{key}", "unknown key", key, [*_TABLE_KEYS, "balancer"])
    numbers = {key: _number(table[key], f"{TABLE}.{key}", file, _BOUNDS[key]) for key in _TABLE_KEYS if key in table}
    config = LoadBalancerConfig(_balancers(table.get("balancer"), file), file=file, **numbers)
    if config.hold_ttl_ms > config.hold_ttl_max_ms:
        _fail(file, f"{TABLE}.hold_ttl_ms", f"{config.hold_ttl_ms} is above hold_ttl_max_ms = {config.hold_ttl_max_ms}")
    return config


def _balancers(rows: object, file: str) -> tuple[BalancerAddress, ...]:
    where = f"{TABLE}.balancer"
    if not isinstance(rows, list) or not rows:
        _fail(file, where, "no load balancer is given; write one [[loadbalancer.balancer]] for each")
    balancers: list[BalancerAddress] = []
    for index, row in enumerate(rows):
        balancer = _balancer(row, f"{where}[{index}]", file)
        for other in balancers:
            if other.name == balancer.name:
                _fail(file, f"{where}[{index}].name", f"{shown(balancer.name)} is used twice")
            if (other.host, other.port) == (balancer.host, balancer.port):
                _fail(file, f"{where}[{index}].port", f"{balancer.host}:{balancer.port} is also the address of {other.name}")
        balancers.append(balancer)
    return tuple(balancers)


def _balancer(row: object, where: str, file: str) -> BalancerAddress:
    if not isinstance(row, Mapping):
        _fail(file, where, "must be a table with name, host and port")
    for key in row:
        if key not in _BALANCER_KEYS:
            _fail(file, f"{where}.{key}", "unknown key", key, _BALANCER_KEYS)
    name, host = row.get("name"), row.get("host", "127.0.0.1")
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        _fail(file, f"{where}.name", f"{shown(name)} is not a plain name (letters, digits, '-', '_')")
    if not isinstance(host, str) or not host or any(character.isspace() for character in host):
        _fail(file, f"{where}.host", f"{shown(host)} is not a host name or address")
    if "port" not in row:
        _fail(file, f"{where}.port", "is missing")
    return BalancerAddress(name, host, _number(row["port"], f"{where}.port", file, (1, 65_535, "it is no TCP port")))


def _number(value: object, key: str, file: str, bounds: tuple[int, int, str]) -> int:
    # bool is an int in Python, but `lanes = true` is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        _fail(file, key, f"{shown(value)} is not a whole number")
    least, most, why = bounds
    if not least <= value <= most:
        _fail(file, key, f"{value} is not within {least}..{most}: {why}")
    return value


def _fail(file: str, key: str, reason: str, word: str = "", known: object = ()) -> NoReturn:
    near = nearest(word, [str(one) for one in known], 1) if word and isinstance(known, (list, tuple)) else []
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigInvalid(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=near)
