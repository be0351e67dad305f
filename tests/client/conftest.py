"""One cluster of real processes for all tests of the terminal application that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import ClusterUnderTest

OPERATORS = [
    {"code": "AR", "name": "Aerolíneas Argentinas", "kind": "airline", "primary": "node-1"},
    {"code": "QR", "name": "Qatar Airways", "kind": "airline", "primary": "node-2"},
    {"code": "GRAND", "name": "Grand Theatre", "kind": "theatre", "primary": "node-3"},
]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with ClusterUnderTest(tmp_path_factory.mktemp("cluster"), {"datastore": {"operator": OPERATORS}}) as running:
        yield running
