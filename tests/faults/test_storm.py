"""A storm: one process of each kind at a time is killed or frozen, at random, while a crowd buys, gives back and cancels.

HOLDFAST_STORM_SEED and HOLDFAST_STORM_S choose another storm, or a longer one.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator

import pytest

from client import api
from datastore.errors import HoldfastError
from tests.checkers import Answer, History, Operation
from tests.faults.buyers import (
    Buyer,
    assert_one_owner_at_a_time,
    assert_replicas_equal,
    assert_sound,
    running,
    seat_rows,
    seats_of,
    services_of,
    together,
)
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

SEED = int(os.environ.get("HOLDFAST_STORM_SEED", "1"))
STORM_S = float(os.environ.get("HOLDFAST_STORM_S", "10"))
BUYERS = 10
SEATS = 60
HURT_S = (0.1, 2.6)  # Around the ttl of a lock and the suspicion of a primary, below and above both.
# A minority of each kind, hurt at the same time as a minority of the others.
KINDS = {"lock": 3, "node": 3, "manager": 2, "balancer": 2}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("storm")) as made:
        yield made


class Storm:
    """Hurts and heals processes; knows which one of each kind is hurt, how, and until when."""

    def __init__(self, cluster: ClusterUnderTest, dice: random.Random) -> None:
        self._cluster = cluster
        self._dice = dice
        self._hurt: dict[str, tuple[str, bool, float]] = {}  # kind -> (name, killed, until)
        self.story: list[str] = []

    def blow(self, seconds: float) -> None:
        """Go on for so long, then heal everything."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._heal(time.monotonic())
            well = [kind for kind in KINDS if kind not in self._hurt]
            if well and self._dice.random() < 0.5:
                self._strike(self._dice.choice(well))
            moment = time.monotonic() + self._dice.uniform(0.02, 0.4)
            wait_until(lambda moment=moment: time.monotonic() >= moment, "the next gust", 5)  # type: ignore[misc]
        self._heal(float("inf"))

    def _strike(self, kind: str) -> None:
        name = f"{kind}-{self._dice.randint(1, KINDS[kind])}"
        killed = self._dice.random() < 0.5
        for_s = self._dice.uniform(*HURT_S)
        self.story.append(f"{'kill' if killed else 'freeze'} {name} for {for_s:.2f} s")
        (self._cluster.kill if killed else self._cluster.freeze)(name)
        self._hurt[kind] = (name, killed, time.monotonic() + for_s)

    def _heal(self, now: float) -> None:
        for kind, (name, killed, until) in list(self._hurt.items()):
            if until <= now:
                (self._cluster.restart if killed else self._cluster.thaw)(name)
                del self._hurt[kind]


def ask_again(history: History, unknown: Operation, buyer: Buyer) -> None:
    """Learn what became of a hold: the same request id is answered as it was then, or done now if it never came."""
    try:
        if unknown.count:
            hold = buyer.client.hold_any(unknown.service_id, unknown.count, request_id=unknown.request_id)
        else:
            hold = buyer.client.hold(unknown.service_id, unknown.seats, request_id=unknown.request_id)
    except HoldfastError as error:
        assert not error.maybe_committed, error
        history.failed(unknown, error.code, maybe=False)
    else:
        history.done(unknown, hold_id=hold.hold_id, seats=hold.seats)


def test_a_storm(cluster: ClusterUnderTest) -> None:
    """Whatever is hurt: one owner a seat, nothing acknowledged is lost, what was refused had no effect, copies become equal.

    Callers hear refusals, or that nobody answered in time; never an error of ours. In the end every unknown outcome is told
    to whoever asks again under the same request id, and sales go on.
    """
    history = History()
    service = services_of(cluster, "GRAND", 3)[0].service_id
    seats = seats_of(cluster, service)[:SEATS]
    buyers = [Buyer(cluster, history, f"storm-{number}", deadline_ms=6_000) for number in range(BUYERS)]
    over = threading.Event()

    def buy(number: int) -> None:
        buyer, dice = buyers[number], random.Random(SEED * 1_000 + number)
        while not over.is_set():
            try:
                if dice.random() < 0.2:
                    hold = buyer.hold_any(service, dice.randint(1, 3))
                else:
                    hold = buyer.hold(service, dice.sample(seats, dice.randint(1, 3)))
                if dice.random() < 0.5:
                    buyer.release(hold)
                else:
                    order = buyer.confirm(hold)
                    if dice.random() < 0.9:
                        buyer.cancel(hold, order)
            except HoldfastError:
                continue  # It is in the history.

    storm = Storm(cluster, random.Random(SEED))
    crowd = threading.Thread(target=together, args=(buy, BUYERS, STORM_S + 60), daemon=True)
    crowd.start()
    try:
        storm.blow(STORM_S)
    finally:
        over.set()
        crowd.join(60)
    story = f"seed {SEED}: {'; '.join(storm.story)}"
    assert not crowd.is_alive(), story
    codes = history.codes(service)
    print(codes, story)
    world = {"", "seat_unavailable", "outcome_unknown", "operator_unavailable", "locks_unavailable", "lock_timeout", "node_unreachable"}
    assert set(codes) <= world, f"{codes} {story}"
    assert codes[""] > 100, f"{codes} {story}"
    cluster.wait_ready()
    for unknown in history.of(service, "hold", Answer.UNKNOWN):
        ask_again(history, unknown, {buyer.name: buyer for buyer in buyers}[unknown.buyer])
    try:
        for operator in ("GRAND", "LUM"):
            assert_replicas_equal(cluster, operator)
        assert_sound(cluster, history, service)
        assert_one_owner_at_a_time(seat_rows(cluster, "GRAND", service))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{codes}\n{story}") from error
    later = cluster.client("owner-after-the-storm")
    later.confirm(later.hold_any(service, 1).hold_id, [api.Passenger("Byron")])
