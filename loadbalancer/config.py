"""The `[loadbalancer]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datastore.settings import Bounds, ProcessAddress, address_of, addresses, number, refuse, table_of

TABLE = "loadbalancer"


@dataclass(frozen=True)
class LoadBalancerConfig:
    """The load balancers' settings. Times are milliseconds, sizes bytes.

    Attributes:
        balancers: All load balancers of the cluster, this one included.
        hold_ttl_ms: How long a hold lasts when the buyer names no time.
        hold_ttl_max_ms: The longest time from a hold's creation to its end, extensions included (Z11).
        seats_per_hold_max: Seats in one hold.
        offer_ttl_ms: How long an offer of a search may be taken to a hold.
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

    balancers: tuple[ProcessAddress, ...]
    hold_ttl_ms: int = 900_000
    hold_ttl_max_ms: int = 1_800_000
    seats_per_hold_max: int = 9
    offer_ttl_ms: int = 900_000
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

    def balancer(self, name: str) -> ProcessAddress:
        """Return the balancer of that name.

        Raises:
            ConfigInvalid: There is none; the nearest names are in the message.
        """
        return address_of(name, self.balancers, f"{TABLE}.balancer", "load balancer", self.file)


# Key -> (least, most, why a value outside cannot work).
_BOUNDS: dict[str, Bounds] = {
    "hold_ttl_ms": (1_000, 86_400_000, "a shorter hold ends before anybody can pay, a longer one keeps seats from buyers"),
    "hold_ttl_max_ms": (1_000, 86_400_000, "a shorter hold ends before anybody can pay, a longer one keeps seats from buyers"),
    "seats_per_hold_max": (1, 400, "a hold has at least one seat, and its locks travel in one message"),
    "offer_ttl_ms": (1_000, 86_400_000, "a shorter offer ends before anybody can take it, a longer one promises what will have changed"),
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


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> LoadBalancerConfig:
    """Return the validated settings.

    Args:
        mapping: The whole parsed cluster.toml; only its `loadbalancer` table is read.
        file: Its name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = table_of(mapping, TABLE, (*_BOUNDS, "balancer"), file)
    numbers = {key: number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in _BOUNDS.items() if key in table}
    config = LoadBalancerConfig(addresses(table.get("balancer"), f"{TABLE}.balancer", "load balancer", file), file=file, **numbers)
    if config.hold_ttl_ms > config.hold_ttl_max_ms:
        refuse(file, f"{TABLE}.hold_ttl_ms", f"{config.hold_ttl_ms} is above hold_ttl_max_ms = {config.hold_ttl_max_ms}")
    return config
