"""Clusters of real processes for a worker's tests of the terminal application, ended with the last of them: one free, one paid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import ClusterUnderTest

OPERATORS = [
    {"code": "AR", "name": "Aerolíneas Argentinas", "kind": "airline", "primary": "node-1"},
    {"code": "QR", "name": "Qatar Airways", "kind": "airline", "primary": "node-2"},
    {"code": "GRAND", "name": "Grand Theatre", "kind": "theatre", "primary": "node-3"},
]


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster"), {"datastore": {"operator": OPERATORS}}) as running:
        yield running


PAID = {
    "datastore": {"operator": OPERATORS[:2]},
    "payments": {"provider": "sandbox", "timeout_ms": 1_500, "paying_ms": 4_000, "sandbox": [{"name": "payments-1", "port": 41}]},
}


@pytest.fixture(scope="package")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """Yield a cluster of two airlines whose bookings are paid for at the sandbox."""
    with ClusterUnderTest(tmp_path_factory.mktemp("paid"), PAID, datasets=("brief",)) as running:
        yield running
