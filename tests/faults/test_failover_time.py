"""A few rounds of benchmarks/failover.py: for what must never be; the times are measured on a quiet machine."""

from __future__ import annotations

from benchmarks.failover import measure


def test_buyers_wait_and_hear_no_error() -> None:
    """Primaries are killed and moved under buyers that never pause: they go on within their deadline, without one error."""
    found = measure(2)
    assert found["errors"] == {}
    assert found["holds"] > 50
    assert 2 == len(found["failover_s"]) and found["switchover_s"], found
