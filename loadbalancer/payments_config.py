"""The `[payments]` table of cluster.toml as a frozen value: whether and through whom payments are taken.

Reads a mapping that somebody else parsed; opens no file and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datastore.settings import Bounds, ProcessAddress, addresses, choice, number, refuse, table_of, text

TABLE = "payments"
NONE, SANDBOX, STRIPE = "none", "sandbox", "stripe"
PROVIDERS = (NONE, SANDBOX, STRIPE)
PATH_LENGTH_MAX = 1_000


@dataclass(frozen=True)
class PaymentsConfig:
    """How payments are taken. Times are milliseconds.

    Attributes:
        provider: "none": bookings are confirmed without payment. "sandbox": the test provider that ships. "stripe": Stripe.
        key_file: Of "stripe": a file that only its owner may read, with the secret API key.
        timeout_ms: How long one question to the provider may take.
        paying_ms: How long a hold that is being paid lasts from then on, at least; extended once (Q2).
        cluster: Stands in the metadata of every payment, so that one account can serve several clusters.
        sandboxes: Where the test provider listens: the first is used.
    """

    provider: str = NONE
    key_file: str = ""
    timeout_ms: int = 5_000
    paying_ms: int = 120_000
    cluster: str = "holdfast"
    sandboxes: tuple[ProcessAddress, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether a booking has to be paid for."""
        return self.provider != NONE


_BOUNDS: dict[str, Bounds] = {
    "timeout_ms": (100, 60_000, "a shorter one gives payments up that succeed, a longer one keeps buyers waiting"),
    "paying_ms": (1_000, 900_000, "the provider has to answer meanwhile, and the hold keeps seats from other buyers"),
}


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> PaymentsConfig:
    """Return the validated settings; without a `payments` table no payments are taken.

    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named.
    """
    if TABLE not in mapping:
        return PaymentsConfig()
    table = table_of(mapping, TABLE, ("provider", "key_file", "cluster", "sandbox", *_BOUNDS), file)
    numbers = {key: number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in _BOUNDS.items() if key in table}
    provider = choice(table.get("provider", NONE), f"{TABLE}.provider", file, PROVIDERS)
    key_file = text(table["key_file"], f"{TABLE}.key_file", file, PATH_LENGTH_MAX) if "key_file" in table else ""
    cluster = text(table["cluster"], f"{TABLE}.cluster", file) if "cluster" in table else PaymentsConfig.cluster
    sandboxes = addresses(table["sandbox"], f"{TABLE}.sandbox", "payment sandbox", file) if table.get("sandbox") else ()
    if provider == SANDBOX and len(sandboxes) != 1:
        refuse(file, f"{TABLE}.sandbox", 'provider = "sandbox" needs one [[payments.sandbox]] with name, host and port')
    if provider != SANDBOX and sandboxes:
        refuse(file, f"{TABLE}.sandbox", f'a sandbox is given and provider = "{provider}" does not use it')
    if provider == STRIPE and not key_file:
        refuse(file, f"{TABLE}.key_file", 'provider = "stripe" needs the file with the secret key')
    return PaymentsConfig(provider, key_file, cluster=cluster, sandboxes=sandboxes, **numbers)
