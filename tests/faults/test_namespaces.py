"""Three hosts, each a network namespace with an address of its own: what must come of it when one is lost, step by step.

Beside the scenario `hosts` of `test_chaos.py`, where chance decides. Needs root and iproute2.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore.errors import HoldfastError
from tests.checkers import History
from tests.faults.buyers import (
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    primary_of,
    seat_rows,
    seats_of,
    services_of,
)
from tests.faults.chaos import machine
from tests.faults.chaos.callers import CARD
from tests.faults.chaos.cluster import PAYING_MS
from tests.faults.chaos.hosts import HOSTS, HostsCluster, host_of
from tests.waiting import wait_until

SELLS_S = 60


def sells(buyer: Buyer, service: str, seats: list[str]) -> None:
    """Wait until a seat of the list is held, paid for and booked."""

    def sold() -> bool:
        for seat in seats:
            try:
                buyer.confirm(buyer.hold(service, [seat], ttl_ms=PAYING_MS))
            except HoldfastError:
                continue
            return True
        return False

    wait_until(sold, f"a sale of {service}", SELLS_S)


@pytest.mark.timeout(600)
def test_hosts_lose_their_cables(tmp_path: Path) -> None:
    """The primary's host is unplugged: others sell on. One direction between two hosts is lost: sales go on. In the end all copies
    are equal, every seat had one owner at a time, and what was acknowledged is there."""
    reason = machine.require(machine.NAMESPACES)
    if reason:
        pytest.skip(reason)
    with HostsCluster(tmp_path, seed=1) as cluster:
        network = cluster.network
        service = services_of(cluster, "GRAND", 3)[0].service_id
        seats = seats_of(cluster, service)
        history = History()
        buyer = Buyer(cluster, history, "hosts", deadline_ms=8_000, card=CARD)
        sells(buyer, service, seats[:5])
        lonely = host_of(primary_of(cluster, "GRAND"))
        network.pull(lonely)
        sells(buyer, service, seats[5:25])
        network.plug(lonely)
        cluster.wait_ready()
        assert_replicas_equal(cluster, "GRAND", SELLS_S)
        source = host_of(primary_of(cluster, "GRAND"))
        target = source % HOSTS + 1
        network.swallow(source, target)
        sells(buyer, service, seats[25:45])
        network.restore(source, target)
        cluster.wait_ready()
        sells(buyer, service, seats[45:55])
        assert_replicas_equal(cluster, "GRAND", SELLS_S)
        assert_sound(cluster, history, service)
        assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))
        assert all(process.poll() is None for process in cluster.running.values())
