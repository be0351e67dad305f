"""Processes that sleep at the worst moment and then go on as if nothing had happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from datastore import wire
from datastore.errors import HoldfastError, NotPrimary, OutcomeUnknown, SeatUnavailable, error_from_data
from datastore.stub import NodeStub
from tests.checkers import History
from tests.faults.buyers import (
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    node_stubs,
    primary_of,
    running,
    seat_rows,
    seats_of,
    services_of,
    together,
)
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

LOCK_TTL_S = 2.0  # As in the overlay.
PAIRS = 12
TRIES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("frozen")) as made:
        yield made


def direct_hold(service: str, seat: str, word: str, counter: int, nonce: str) -> wire.Hold:
    """Return a hold as a balancer sends it, under a fence of the test's choice."""
    return wire.Hold(word, word.encode(), f"GRAND.{word}", "somebody", service, (seat,), 60_000, 1, counter, nonce, "USD", (1,), 0, 99, 99)


def sent_to(stub: NodeStub, command: wire.AnyCommand, timeout_ms: int = 8_000) -> list[wire.Outcome]:
    """Have one node decide a command of GRAND; raise what it answers."""
    (result,) = stub.submit([wire.SubmitItem("GRAND", wire.encode([command]))], timeout_ms)
    if result.error:
        raise error_from_data(result.error)
    outcomes: list[wire.Outcome] = wire.decode(wire.OUTCOMES, result.outcomes)
    return outcomes


def test_a_data_node_refuses_an_older_fence(cluster: ClusterUnderTest) -> None:
    """Straight to the primary: older or equal under another nonce is stale_fence, on a free seat too; a newer one is taken."""
    service = services_of(cluster, "GRAND", 3)[0].service_id
    seat = seats_of(cluster, service)[0]
    buyer = cluster.client("owner-of-the-fences")
    buyer.release(buyer.hold(service, [seat]).hold_id)
    (row,) = [story[-1] for story in seat_rows(cluster, "GRAND", service).values()]
    stub = node_stubs(cluster)[primary_of(cluster, "GRAND")]
    try:
        for word, counter in (("stale-fence-older", row.counter - 1), ("stale-fence-equal", row.counter), ("stale-fence-zero", 0)):
            (outcome,) = sent_to(stub, direct_hold(service, seat, word, counter, "0" * 32))
            assert ("stale_fence", [1, row.counter]) == (outcome.error["code"], outcome.error["fields"]["fence"])
        assert 0 == buyer.manifest(cluster.operator_key("GRAND"), service).held
        (outcome,) = sent_to(stub, direct_hold(service, seat, "fresh-fence", row.counter + 1, "1" * 32))
        assert not outcome.error
        sent_to(stub, wire.Release("fresh-fence-end", b"x", "GRAND.fresh-fence", "somebody"))
        # The lock servers have not seen that fence: the next buyer is served all the same, unseen lifted beyond it (Z7).
        buyer.release(buyer.hold(service, [seat]).hold_id)
    finally:
        stub.close()
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


def test_a_balancer_sleeps_through_its_locks(cluster: ClusterUnderTest) -> None:
    """Frozen with locks granted and nothing sent, for longer than the ttl, while the twin sells these seats and takes them back.

    The primary is held up for a moment first, so that requests queue at the frozen balancer behind the one under way:
    between lock and submission. When it goes on, its old fences are refused, and every seat has one owner at a time.
    """
    # On a busy machine all requests may have left before it fell asleep; then there is nothing to see, and another show is tried.
    shows = dict.fromkeys(services_of(cluster, "GRAND", 40 + 3 * number)[0].service_id for number in range(TRIES))
    assert any(sleep_through(cluster, service) > 2 * PAIRS for service in shows)


def sleep_through(cluster: ClusterUnderTest, service: str) -> int:
    """Carry it out on one show; return how often its seats changed hands."""
    seats = seats_of(cluster, service)[: 2 * PAIRS]
    history = History()
    sleepers = [Buyer(cluster, history, f"sleeper-{number}", ["balancer-1"], deadline_ms=20_000) for number in range(PAIRS)]
    rivals = [Buyer(cluster, history, f"rival-{number}", ["balancer-2"], deadline_ms=8_000) for number in range(4)]
    late: list[HoldfastError] = []

    def buy_late(number: int) -> None:
        try:
            sleepers[number].hold(service, seats[2 * number : 2 * number + 2])
        except SeatUnavailable as error:
            late.append(error)

    primary = primary_of(cluster, "GRAND")
    opener = Buyer(cluster, history, "opener", ["balancer-1"], deadline_ms=20_000)
    first = threading.Thread(target=opener.hold, args=(service, seats[-1:]), daemon=True)
    crowd = threading.Thread(target=together, args=(buy_late, PAIRS - 1), daemon=True)
    cluster.freeze(primary)
    try:
        # One batch of an operator is under way at a time: the opener's, and the others queue behind it with their locks.
        first.start()
        wait_to(time.monotonic() + 0.1)
        crowd.start()
        wait_until(lambda: len(history.of(service)) == PAIRS, "the requests to be sent", 5)
        # Long enough for the locks, too short for anybody to suspect the primary.
        wait_to(time.monotonic() + 0.3)
        cluster.freeze("balancer-1")
    finally:
        cluster.thaw(primary)
    try:
        frozen = time.monotonic()

        def buy(number: int) -> None:
            turn = 0
            while time.monotonic() < frozen + LOCK_TTL_S + 1.5:
                pair = (number + len(rivals) * turn) % PAIRS
                turn += 1
                try:
                    hold = rivals[number].hold(service, seats[2 * pair : 2 * pair + 2])
                except SeatUnavailable:
                    continue  # What the sleeper had sent before it fell asleep.
                # A third of the seats are kept, the others given back: the sleeper finds both.
                if pair % 3:
                    rivals[number].release(hold)

        together(buy, len(rivals))
    finally:
        cluster.thaw("balancer-1")
    crowd.join(30)
    first.join(30)
    assert not crowd.is_alive() and not first.is_alive()
    assert set(history.codes(service)) <= {"", "seat_unavailable"}, history.codes(service)
    assert_sound(cluster, history, service, [opener, *sleepers, *rivals])
    return assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


def wait_to(moment: float) -> None:
    """Wait for a moment of the monotonic clock: how long a process is to sleep."""
    wait_until(lambda: time.monotonic() >= moment, "the pause to pass", 10)


def wait_for_sales(history: History, service: str) -> None:
    seen = len(history.of(service))
    wait_until(lambda: len(history.of(service)) > seen + 30, "sales", 20)


def test_a_balancer_is_frozen_again_and_again(cluster: ClusterUnderTest) -> None:
    """Wherever it is caught, callers go on at the twin with the same request ids, and every request is one hold."""
    service = services_of(cluster, "GRAND", 17)[0].service_id
    seats = seats_of(cluster, service)[:40]
    history = History()
    buyers = [Buyer(cluster, history, f"pause-{number}") for number in range(8)]
    over = threading.Event()

    def buy(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            try:
                hold = buyers[number].hold(service, [seats[(number + 3 * turn) % 40], seats[(number + 3 * turn + 1) % 40]])
                buyers[number].release(hold)
            except SeatUnavailable:
                continue

    crowd = threading.Thread(target=together, args=(buy, 8), daemon=True)
    crowd.start()
    try:
        for victim, pause_s in (("balancer-1", 0.2), ("balancer-2", LOCK_TTL_S + 0.5), ("balancer-1", LOCK_TTL_S + 0.5)):
            wait_for_sales(history, service)
            cluster.freeze(victim)
            wait_to(time.monotonic() + pause_s)
            cluster.thaw(victim)
    finally:
        over.set()
        crowd.join(60)
    assert not crowd.is_alive()
    assert set(history.codes(service)) <= {"", "seat_unavailable"}, history.codes(service)
    assert_sound(cluster, history, service, buyers)
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


def test_the_primary_sleeps_and_another_leads(cluster: ClusterUnderTest) -> None:
    """Sales go on with another node; what the sleeper does when it wakes is no success for anybody; copies become equal."""
    service = services_of(cluster, "GRAND", 24)[0].service_id
    seats = seats_of(cluster, service)
    history = History()
    buyers = [Buyer(cluster, history, f"awake-{number}", deadline_ms=15_000) for number in range(4)]
    asleep = primary_of(cluster, "GRAND")
    stub = node_stubs(cluster)[asleep]
    answers: list[HoldfastError | list[wire.Outcome]] = []

    def ask_the_sleeper() -> None:
        """Lies in its socket until it wakes; seat 0 is somebody else's by then."""
        try:
            answers.append(sent_to(stub, direct_hold(service, seats[0], "sent-to-a-sleeper", 2**30, "2" * 32)))
        except HoldfastError as error:
            answers.append(error)

    reads_of(stub, service)  # The connection is made while it is awake: what follows is sent, and lies there.
    cluster.freeze(asleep)
    try:
        question = threading.Thread(target=ask_the_sleeper, daemon=True)
        question.start()
        holds = [buyers[0].hold(service, [seats[0]])]  # Waits for the promotion, at the managers.

        def buy(number: int) -> None:
            buyers[number].confirm(buyers[number].hold(service, seats[2 + 2 * number : 4 + 2 * number]))

        together(buy, len(buyers))
        assert asleep != primary_of(cluster, "GRAND")
        buyers[0].confirm(holds[0])
    finally:
        cluster.thaw(asleep)
    (outcome,) = reads_of(stub, service)
    question.join(20)
    assert not question.is_alive()
    stub.close()
    # A read of the sleeper is refused, or tells what the others know; its hold is never a success.
    assert outcome.error.get("code") == "not_primary" or seats[0] in outcome.value
    answer = answers[0]
    assert answer[0].error if isinstance(answer, list) else isinstance(answer, NotPrimary | OutcomeUnknown), answers
    assert set(history.codes(service)) == {""}, history.codes(service)
    assert_replicas_equal(cluster, "GRAND")
    final = assert_sound(cluster, history, service, buyers)
    assert 9 == len(final.manifest)
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


def test_without_a_majority_nothing_is_acknowledged(cluster: ClusterUnderTest) -> None:
    """Both replicas asleep: a hold is of unknown outcome, and the primary that dies with it on its own disk proves nothing.

    Afterwards the same request id tells what became of it, at every balancer, and all copies agree.
    """
    service = services_of(cluster, "GRAND", 31)[0].service_id
    seats = seats_of(cluster, service)
    history = History()
    buyer = Buyer(cluster, history, "alone", deadline_ms=1_500)
    leader = primary_of(cluster, "GRAND")
    replicas = sorted({"node-1", "node-2", "node-3"} - {leader})
    buyer.release(buyer.hold(service, seats[:1]))
    for name in replicas:
        cluster.freeze(name)
    try:
        with pytest.raises(OutcomeUnknown):
            buyer.hold(service, seats[:1], request_id="without-a-majority")
        cluster.kill(leader)
    finally:
        for name in replicas:
            cluster.thaw(name)
    primary_of(cluster, "GRAND")
    again = cluster.client(buyer.owner_key)
    hold = again.hold(service, seats[:1], request_id="without-a-majority")
    cluster.restart(leader)
    assert_replicas_equal(cluster, "GRAND")
    assert [hold.hold_id] == [one.hold_id for one in again.my_holds().holds if one.service_id == service]
    assert_sound(cluster, history, service, [buyer])
    assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))


def reads_of(stub: NodeStub, service: str) -> list[wire.ReadResult]:
    """Ask a node that has just woken up what is taken, as soon as it answers at all."""
    found: list[wire.ReadResult] = []

    def answers() -> bool:
        try:
            found[:] = stub.read([wire.ReadItem("GRAND", "seats", {"service_id": service})], 5_000)
        except HoldfastError:
            return False
        return True

    wait_until(answers, "the sleeper to answer", 15)
    return found


def test_a_replica_sleeps(cluster: ClusterUnderTest) -> None:
    """One copy asleep costs nothing that a caller notices; awake, it has everything within seconds."""
    service = services_of(cluster, "LUM", 24)[0].service_id
    seats = seats_of(cluster, service)
    history = History()
    buyer = Buyer(cluster, history, "beside-the-sleeper", deadline_ms=3_000)
    leader = primary_of(cluster, "LUM")
    (asleep, _) = sorted({"node-1", "node-2", "node-3"} - {leader})
    cluster.freeze(asleep)
    try:
        for seat in seats[:60]:
            buyer.confirm(buyer.hold(service, [seat]))
        assert {""} == set(history.codes(service))
        assert leader == primary_of(cluster, "LUM")
    finally:
        cluster.thaw(asleep)
    assert_replicas_equal(cluster, "LUM", deadline_s=15)
    assert_sound(cluster, history, service, [buyer])
