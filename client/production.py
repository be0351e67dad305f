"""What a cluster for real sales must not start with. Pure: it reads the checked configuration only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COPIES_LEAST = 3
LOCK_SERVERS_LEAST = 3


def faults(mapping: Mapping[str, Any]) -> list[str]:
    """Return what stands against real sales, each with its key and what it must be; empty when nothing does.

    Args:
        mapping: A resolved configuration that `client.plan` has accepted.
    """
    datastore, lockstore, client = (mapping.get(name, {}) for name in ("datastore", "lockstore", "client"))
    found = []
    if not datastore.get("tls", False):
        found.append("datastore.tls must be true: names and keys travel over these links")
    if not lockstore.get("tls", False):
        found.append("lockstore.tls must be true: the password of the lock servers travels over these links")
    if lockstore.get("appendfsync", "always") != "always":
        found.append('lockstore.appendfsync must be "always": a lock server that forgets breaks the order of buyers')
    if datastore.get("copies", COPIES_LEAST) < COPIES_LEAST:
        found.append(f"datastore.copies must be {COPIES_LEAST} or more: one disk must not be all there is")
    if len(lockstore.get("server", [])) < LOCK_SERVERS_LEAST:
        found.append(f"lockstore.server must name {LOCK_SERVERS_LEAST} or more: one that fails must not stop all sales")
    if mapping.get("payments", {}).get("provider") == "sandbox":
        found.append('payments.provider must not be "sandbox": it takes no real money')
    if client.get("timetables"):
        found.append("client.timetables must be empty: operators import their own")
    return found
