"""Holds whose time is over: the seat goes to the next buyer at once, and comes back by itself where nobody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from client import api
from datastore.errors import HoldExpired, HoldfastError, SeatUnavailable
from tests.checkers import History
from tests.faults.buyers import Buyer, assert_sound, primary_of, running, seats_of, services_of, together
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

TTL_MS = 1_000
LONG_TTL_MS = 3_000  # Where something has to be asked before the end, by a slow machine too.
# That a seat is back 5 s after the end of its hold is shown in simulated time (tests/simulation): here machines may be slow.
SWEPT_S = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("expiry")) as made:
        yield made


def test_the_next_buyer_gets_the_seat(cluster: ClusterUnderTest) -> None:
    """Refused while the hold lasts, served once it is over; the first owner's confirm is then hold_expired."""
    history = History()
    service = services_of(cluster, "LUM", 3)[0].service_id
    seats = seats_of(cluster, service)[:2]
    slow, quick = Buyer(cluster, history, "slow"), Buyer(cluster, history, "quick")
    started = time.monotonic()
    lost = slow.hold(service, seats, ttl_ms=LONG_TTL_MS)
    with pytest.raises(SeatUnavailable):
        quick.hold(service, seats[:1])
    won_at: list[float] = []

    def gets_it() -> bool:
        try:
            quick.hold(service, seats[:1])
        except SeatUnavailable:
            return False
        won_at.append(time.monotonic())
        return True

    wait_until(gets_it, "the hold to run out", 60)
    assert started + LONG_TTL_MS / 1000 <= won_at[0]
    with pytest.raises(HoldExpired):
        slow.confirm(lost)
    with pytest.raises(HoldExpired):
        slow.client.extend(lost.hold_id, 60_000)
    assert "expired" == slow.client.get_hold(lost.hold_id).state
    # The other seat of that hold came back with the first.
    quick.hold(service, seats[1:])
    assert_sound(cluster, history, service, [slow, quick])


def test_a_seat_comes_back_by_itself(cluster: ClusterUnderTest) -> None:
    """With nobody asking for the seat, the map shows it free after the end, and confirm is hold_expired."""
    history = History()
    service = services_of(cluster, "LUM", 5)[0].service_id
    seats = seats_of(cluster, service)
    buyer = Buyer(cluster, history, "forgetful")
    holds = [buyer.hold(service, [seat], ttl_ms=TTL_MS) for seat in seats[:20]]
    watcher = cluster.client()
    wait_until(
        lambda: {seat.state for seat in watcher.seat_map(service).seats} == {"available"},
        "the seats to come back",
        SWEPT_S,
    )
    for hold in holds[:2]:
        with pytest.raises(HoldExpired):
            buyer.confirm(hold)
    assert [] == buyer.client.my_holds().holds
    assert_sound(cluster, history, service, [buyer])


def test_an_extended_hold_lasts(cluster: ClusterUnderTest) -> None:
    """Extending before the end keeps the seat; afterwards it is confirmed as usual."""
    history = History()
    service = services_of(cluster, "LUM", 6)[0].service_id
    seats = seats_of(cluster, service)[:1]
    buyer, other = Buyer(cluster, history, "extending"), Buyer(cluster, history, "hoping")
    hold = buyer.hold(service, seats, ttl_ms=LONG_TTL_MS)
    longer = buyer.client.extend(hold.hold_id, 60_000)
    assert longer.expires_ms > hold.expires_ms + 50_000
    history.of(service)[0].lasts_s = 60
    over = time.monotonic() + LONG_TTL_MS / 1000
    wait_until(lambda: time.monotonic() > over, "the first end to pass", 60)
    with pytest.raises(SeatUnavailable):
        other.hold(service, seats)
    buyer.confirm(hold)
    assert_sound(cluster, history, service, [buyer, other])


def test_confirm_and_the_next_buyer_meet_at_the_end(cluster: ClusterUnderTest) -> None:
    """Around the moment of expiry, seat by seat, either the owner's confirm or the next buyer's hold succeeds, never both.

    They have met when each has won a seat. On a slow machine one may be late for all: then they meet again, earlier or later.
    """
    history = History()
    owner, rival = Buyer(cluster, history, "owner"), Buyer(cluster, history, "rival")
    before_s = after_s = 0.2
    winners: set[str] = set()
    for day in range(12, 20):
        service = services_of(cluster, "GRAND", day)[0].service_id
        won = meet_at_the_end(owner, rival, service, seats_of(cluster, service)[:16], before_s, after_s)
        assert all(len(names) <= 1 for names in won.values()), won
        assert_sound(cluster, history, service, [owner, rival])
        winners |= {name for names in won.values() for name in names}
        if winners == {"owner", "rival"}:
            return
        before_s *= 1 if "owner" in winners else 2
        after_s *= 1 if "rival" in winners else 2
    pytest.fail(f"they never met: only {winners or 'nobody'} won, from {before_s} s before the end to {after_s} s after it")


def meet_at_the_end(owner: Buyer, rival: Buyer, service: str, seats: list[str], before_s: float, after_s: float) -> dict[str, list[str]]:
    """Let the owner of each seat confirm when another asks for it: before the hold's end at the first seats, after it at the last.

    Returns:
        For each seat who was told that it is theirs.
    """
    ttl_ms = TTL_MS + int(1_000 * before_s)
    holds, moments = [], []
    for place, seat in enumerate(seats):
        holds.append(owner.hold(service, [seat], ttl_ms=ttl_ms))
        # It was stamped before it was answered, so it ends at the latest so long after its answer.
        moments.append(time.monotonic() + ttl_ms / 1_000 - before_s + (before_s + after_s) * place / (len(seats) - 1))
    won: dict[str, list[str]] = {seat: [] for seat in seats}
    mutex = threading.Lock()

    def meet(number: int) -> None:
        buyer = (owner, rival)[number % 2]
        for place in range(number // 2, len(seats), 2):
            wait_until(lambda moment=moments[place]: time.monotonic() >= moment, "the moment", 60)  # type: ignore[misc]
            try:
                if buyer is owner:
                    owner.confirm(holds[place])
                else:
                    rival.hold(service, [seats[place]])
            except (HoldExpired, SeatUnavailable):
                continue
            with mutex:
                won[seats[place]].append(buyer.name)

    together(meet, 4)
    return won


def test_a_hold_runs_out_while_its_primary_is_dead(cluster: ClusterUnderTest) -> None:
    """The next primary counts on: the seat comes back."""
    service = services_of(cluster, "GRAND", 10)[0].service_id
    owner = cluster.client("owner-of-the-late-hold")
    hold = owner.hold(service, seats_of(cluster, service)[:2], ttl_ms=2 * TTL_MS)
    victim = primary_of(cluster, "GRAND")
    cluster.kill(victim)
    try:
        watcher = cluster.client(deadline_ms=2_000)

        def is_back() -> bool:
            try:
                return watcher.manifest(cluster.operator_key("GRAND"), service).held == 0
            except HoldfastError:
                return False

        wait_until(is_back, "the seats to come back", SWEPT_S)
        with pytest.raises(HoldExpired):
            owner.confirm(hold.hold_id, [api.Passenger("Byron"), api.Passenger("Babbage")])
    finally:
        cluster.restart(victim)
