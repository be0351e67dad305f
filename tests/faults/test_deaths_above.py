"""Balancers, managers and lock servers that die while requests are on their way: callers meet no more than a retry."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence, Sized

import pytest

from client import api, exit_codes, processes
from datastore import messages
from datastore.errors import HoldfastError, LocksUnavailable, OutcomeUnknown
from tests.checkers import History
from tests.faults.buyers import BOTH, Buyer, assert_sound, running, seats_of, services_of, together
from tests.integration.harness import TOP, ClusterUnderTest
from tests.integration.typed import typed
from tests.waiting import wait_until

BUYERS = 8
SEATS_EACH = 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("deaths")) as made:
        yield made


def buy_through(cluster: ClusterUnderTest, service: str, word: str, victims: Sequence[str]) -> None:
    """Kill each victim while buyers hold seats and give back every other one: every call succeeds, a request is one hold."""
    history = History()
    buyers = [Buyer(cluster, history, f"{word}-{number}") for number in range(BUYERS)]
    seats = seats_of(cluster, service)[: BUYERS * SEATS_EACH]
    made: dict[str, messages.HoldAnswer] = {}
    errors: list[HoldfastError] = []
    over = threading.Event()

    def buy(number: int) -> None:
        mine = seats[number::BUYERS]
        kept: messages.HoldAnswer | None = None
        for turn in itertools.count():
            request_id = f"{word}-request-{number}-{turn}"
            if over.is_set():
                return
            try:
                hold = buyers[number].hold(service, [mine[turn % len(mine)]], request_id=request_id)
                made[request_id] = hold
                if kept is not None:
                    buyers[number].release(kept)
                kept = hold
            except HoldfastError as error:
                errors.append(error)
                return

    crowd = threading.Thread(target=together, args=(buy, BUYERS), daemon=True)
    crowd.start()
    try:
        for victim in victims:
            wait_for_more(made, errors, f"sales before {victim} dies")
            cluster.kill(victim)
            wait_for_more(made, errors, f"sales to go on without {victim}")
            cluster.restart(victim)
            cluster.wait_ready()  # One is dead at a time: its twin may be the next.
    finally:
        over.set()
        crowd.join(60)
    assert not crowd.is_alive()
    assert errors == [], [one.to_data() for one in errors]
    assert len(made) == len({hold.hold_id for hold in made.values()})
    assert_sound(cluster, history, service, buyers)
    held = {hold.hold_id for buyer in buyers for hold in buyer.client.my_holds().holds if hold.service_id == service}
    assert len(held) == BUYERS
    for request_id in list(made)[:: max(1, len(made) // 20)]:
        owner = buyers[int(request_id.rpartition("-request-")[2].partition("-")[0])]
        again = owner.client.hold(service, made[request_id].seats, request_id=request_id)
        assert (made[request_id].hold_id, made[request_id].lsn) == (again.hold_id, again.lsn)


def wait_for_more(made: Sized, errors: Sized, what: str) -> None:
    seen = len(made)
    wait_until(lambda: errors or len(made) > seen + 50, what, 30)


def test_a_balancer_is_killed(cluster: ClusterUnderTest) -> None:
    """Callers go on at the twin with the same request id: no error, no seat twice, one hold a request."""
    buy_through(cluster, services_of(cluster, "GRAND", 3)[0].service_id, "no-balancer", ["balancer-1", "balancer-2"])


def test_a_manager_is_killed(cluster: ClusterUnderTest) -> None:
    """Balancers go on through the other manager; callers notice nothing."""
    buy_through(cluster, services_of(cluster, "GRAND", 10)[0].service_id, "no-manager", ["manager-1", "manager-2"])


def test_one_lock_server_is_killed(cluster: ClusterUnderTest) -> None:
    """Two of three are a quorum: no call fails, whichever is missing."""
    buy_through(cluster, services_of(cluster, "GRAND", 17)[0].service_id, "no-lock-server", ["lock-1", "lock-2", "lock-3"])


def test_without_a_quorum_of_lock_servers(cluster: ClusterUnderTest) -> None:
    """With two of three dead a hold is locks_unavailable, exit code 7, and nothing is held; then sales go on.

    What needs no lock works meanwhile: a hold made before is confirmed, another is given back.
    """
    service = services_of(cluster, "GRAND", 24)[0].service_id
    history = History()
    seats = seats_of(cluster, service)
    buyers = [Buyer(cluster, history, f"no-quorum-{number}", [BOTH[number % 2]], deadline_ms=5_000) for number in range(4)]
    kept, given_back = buyers[0].hold(service, seats[:1]), buyers[0].hold(service, seats[1:2])
    cluster.kill("lock-1", "lock-3")
    try:
        codes: list[str] = []

        def try_to_buy(number: int) -> None:
            # The reason is said at the deadline, and a machine that pauses then says that it is not known: the same again.
            for _ in range(5):
                try:
                    buyers[number].hold(service, [seats[10 + number % 2]], request_id=f"without-a-quorum-{number}")
                except OutcomeUnknown:
                    continue
                except HoldfastError as error:
                    codes.append(error.code)
                return

        together(try_to_buy, 4)
        assert ["locks_unavailable"] * 4 == codes
        buyers[0].confirm(kept)
        buyers[0].release(given_back)
        final = assert_sound(cluster, history, service, buyers)
        assert {"available", "occupied"} == set(final.states.values())

        def is_told() -> bool:
            """A loaded machine may let the command's time run out first; then it is told that."""
            done = command(cluster, "hold", service, seats[10])
            assert exit_codes.NO_ANSWER == done.returncode, done
            return "lock" in done.stderr

        wait_until(is_told, "the command to say that locks are missing", 60)
    finally:
        cluster.restart("lock-1", "lock-3")

    def sells() -> bool:
        try:
            return bool(buyers[3].hold(service, [seats[10]], request_id="with-a-quorum-again").seats)
        except LocksUnavailable:
            return False

    wait_until(sells, "sales to go on", 15)
    assert_sound(cluster, history, service, buyers)


def command(cluster: ClusterUnderTest, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a traveller's command against the cluster."""
    located = ["--config", str(cluster.folders.config), "--data", str(cluster.folders.data)]
    home = {"HOLDFAST_HOME": str(cluster.folders.data.parent / "home"), "PATH": "/usr/bin:/bin"}
    return typed(*located, *words, environment=home, folder=TOP)


def test_a_hold_of_a_killed_balancer_is_given_again_by_the_twin(cluster: ClusterUnderTest) -> None:
    """The request id alone brings the answer back, also for best available seats whose first answer nobody read."""
    service = services_of(cluster, "LUM", 24)[0].service_id
    one, two = (cluster.client("owner-of-the-orphans", [name]) for name in BOTH)
    first = one.hold(service, seats_of(cluster, service)[:3], request_id="made-by-the-dead-1")
    any_seats: messages.HoldAnswer = one.hold_any(service, 3, together=True, request_id="made-by-the-dead-2")
    cluster.kill("balancer-1")
    try:
        assert first.hold_id == two.hold(service, first.seats, request_id="made-by-the-dead-1").hold_id
        again = two.hold_any(service, 3, together=True, request_id="made-by-the-dead-2")
        assert (any_seats.hold_id, any_seats.seats) == (again.hold_id, again.seats)
        assert 2 == len([hold for hold in two.my_holds().holds if hold.service_id == service])
    finally:
        cluster.restart("balancer-1")
        cluster.wait_ready()


def test_a_balancer_that_has_just_started_denies_nothing(cluster: ClusterUnderTest) -> None:
    """Before it has heard of the operators it says that it cannot answer, so callers go to the twin; it never says "no such"."""
    service = services_of(cluster, "LUM", 31)[0].service_id
    both, young = cluster.client("owner-of-the-young"), cluster.client("owner-of-the-young", ["balancer-1"], deadline_ms=1_000)
    seats = seats_of(cluster, service)
    kept = both.hold(service, seats[:1])
    order = both.confirm(both.hold(service, seats[1:2]).hold_id, [api.Passenger("Byron")])
    questions: dict[str, Callable[[], object]] = {
        "hold": lambda: young.hold(service, seats[2:3]),
        "any": lambda: young.hold_any(service, 1),
        "confirm": lambda: young.confirm(kept.hold_id, [api.Passenger("Byron")]),
        "order": lambda: young.order(order.reference, surname="Byron"),
        "cancel": lambda: young.cancel(order.reference, order.manage_token),
        "mine": young.my_holds,
        "orders": lambda: young.orders([(order.reference, order.manage_token)]),
        "map": lambda: young.seat_map(service),
        "operators": young.operators,
        "services": lambda: young.services("2030-01-01", operator="LUM"),
        "block": lambda: young.block(cluster.operator_key("LUM"), service, seats[2:3], "x"),
        "numbers": lambda: young.dataset_numbers("LUM", "venues"),
    }
    cluster.kill("balancer-1")
    for manager in ("manager-1", "manager-2"):
        cluster.freeze(manager)
    try:
        cluster.restart("balancer-1")
        where = cluster.plan.process("balancer-1")
        wait_until(lambda: processes.listener(where.port) is not None, "balancer-1 to listen", 15)
        codes = {}
        for word, question in questions.items():
            with pytest.raises(HoldfastError) as raised:
                question()
            codes[word] = raised.value.code
        assert {"operator_unavailable"} == set(codes.values()), codes
        assert service == both.seat_map(service).service.service_id
    finally:
        for manager in ("manager-1", "manager-2"):
            cluster.thaw(manager)
    cluster.wait_ready()
    assert order.reference == young.order(order.reference, surname="Byron").reference
    assert [kept.hold_id] == [one.hold_id for one in young.my_holds().holds]
