"""Buyers who pay, at a cluster of two operators that takes payments, and what its books say when all is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from client import api, keys, profiles
from datastore import messages
from datastore.errors import HoldfastError
from loadbalancer.payments import Intent, StripeAdapter
from tests.faults.buyers import OVERLAY, assert_replicas_equal, verified_ends
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

OPERATORS = ("LUM", "GRAND")
CARD = "pm_card_visa"
PAID: dict[str, Any] = {
    "payments": {"provider": "sandbox", "timeout_ms": 1_500, "paying_ms": 6_000, "sandbox": [{"name": "payments-1", "port": 41}]},
}
CLOSED_S = 60
AGAIN_S = 60

Given = TypeVar("Given")


@contextmanager
def selling(folder: Path, overlay: dict[str, Any] | None = None) -> Iterator[ClusterUnderTest]:
    """Run a cluster that takes payments; at its end every ledger on every disk is verified and all copies are equal."""
    with ClusterUnderTest(folder, profiles.merge(profiles.merge(OVERLAY, PAID), overlay or {}), datasets=("venues",)) as made:
        yield made
        verify_at_end(made)


def verify_at_end(cluster: ClusterUnderTest) -> None:
    """Stop everything; fail unless all copies of every ledger are sound and equal on the disks."""
    for operator in OPERATORS:
        assert_replicas_equal(cluster, operator)
    cluster.stop_all()
    for operator in OPERATORS:
        ends = verified_ends(cluster, operator)
        assert len(set(ends.values())) == 1, ends


def again(call: Callable[[], Given]) -> Given:
    """Return what `call` gives, asked again while nobody knows or the cluster cannot answer."""
    end = time.monotonic() + AGAIN_S
    while True:
        try:
            return call()
        except HoldfastError as error:
            if not (error.retryable or error.maybe_committed) or time.monotonic() > end:
                raise


def book(client: api.Holdfast, legs: Sequence[tuple[str, Sequence[str] | int]], name: str) -> messages.OrderAnswer:
    """Hold a trip and pay for it, asking again while the outcome is unknown."""
    held = again(lambda: client.hold_trip(legs, request_id=f"hold-{name}"))
    people = [api.Passenger(f"Traveller-{name}-{number}") for number in range(len(held.legs[0].seats if held.legs else held.seats))]
    return again(lambda: client.process_payment(held.hold_id, people, CARD, request_id=f"confirm-{name}"))


def books_of(cluster: ClusterUnderTest, client: api.Holdfast) -> messages.AccountsAnswer:
    """Return what `holdfast audit` says."""
    return client.accounts(keys.read_secret(cluster.folders.secrets / "admin.key"))


def books_closed(cluster: ClusterUnderTest) -> messages.AccountsAnswer:
    """Wait until nothing of any payment is left to be done; return the books."""
    client = cluster.client(deadline_ms=20_000)
    found: list[messages.AccountsAnswer] = []

    def closed() -> bool:
        try:
            found.append(books_of(cluster, client))
        except HoldfastError:
            return False
        return not any(line.open for line in found[-1].lines)

    wait_until(closed, "every payment closed", CLOSED_S)
    return found[-1]


def provider_of(cluster: ClusterUnderTest) -> StripeAdapter:
    """Return a way to ask the sandbox itself."""
    sandbox = cluster.plan.process("payments-1")
    key = keys.read_secret(cluster.folders.sandbox_key)
    return StripeAdapter(key, timeout_ms=8_000, base=f"http://{sandbox.host}:{sandbox.port}")


def intents_of(provider: StripeAdapter) -> dict[str, Intent]:
    """Return all intents of the provider by the hold that each was made for."""
    found, after = provider.page("")
    while after:
        more, after = provider.page(after)
        found += more
    return {one.metadata["hold"]: one for one in found}
