"""kill -9 of each kind of process between every two steps of B1-B11 and Q1-Q7: all legs or none, charged if and only if booked.

Real processes. A message is kept at a gate on its way to whoever takes the step, or on its way back; the victim is killed while it is
kept; then the message goes on, however late, or is lost. A third of the points of `tests.faults.steps` is met, with victims that take
turns; HOLDFAST_CRASH_SEED turns both. HOLDFAST_CRASHES=all meets every point with every victim, HOLDFAST_CRASHES=3/10 the third of ten
parts of them; HOLDFAST_CRASH_RESULTS=FILE keeps what came of each (`tests.faults.step_results`).
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client import administering, api, keys, profiles
from datastore import messages
from datastore.administration import Move, MovePrimaries
from datastore.errors import HoldfastError
from datastore.model import OrderState
from datastore.rows import Kind, OrderRow
from loadbalancer.identity import owner_of
from loadbalancer.payments import Intent
from tests.faults.buyers import OVERLAY, primary_of, services_of
from tests.faults.gates import GatedCluster
from tests.faults.ledgers import Ledger, faults_of, wait_nothing_open
from tests.faults.paid import CARD, CLOSED_S, OPERATORS, PAID, again, books_closed, intents_of, provider_of, verify_at_end
from tests.faults.step_results import Result, add, name_of
from tests.faults.steps import ANCHOR, OTHER, POINTS, SANDBOX, VICTIMS, Point, table
from tests.integration.harness import TOP
from tests.waiting import wait_until

SEED = int(os.environ.get("HOLDFAST_CRASH_SEED", "1"))
WHICH = os.environ.get("HOLDFAST_CRASHES", "")
RESULTS = os.environ.get("HOLDFAST_CRASH_RESULTS", "")
DECLINED, SLOW = "pm_card_visa_chargeDeclined", "pm_card_sandbox_slow"
# A slow card takes 3 s: just longer than its hold lasts, and well before what was set aside is given back (Q7).
SOON_MS = 1_500  # of a hold that is to end by itself, or before its card is done
LONG_MS = 15_000
# What a change holds, or what is held again for a late card, lasts as configured: whoever gives up leaves it for that long.
SETTINGS = {"payments": {"paying_ms": 2_700}, "loadbalancer": {"hold_ttl_ms": LONG_MS}}
DEADLINE_MS = 8_000
HEARD_S = 90
A_DAY = 100  # travellers of one day's shows
TRIES = 8
SPARE = 60
SHARE = 3  # Of the points, one in so many is met when not all are.
EACH_S = 25  # on a busy machine


@dataclass
class Places:
    """Where one traveller sits: a seat of the anchor's show; of the other's a cheap one, and a dearer one to change to."""

    services: tuple[str, str]
    first: str
    cheap: str
    dear: str


@dataclass
class Run:
    """One traveller, where he is stopped, who is killed there, and what he was told."""

    number: int
    point: Point
    victim: str
    places: Places
    asks_again: bool  # until he knows, as a patient client does; else he goes with the first answer, or with none
    order: messages.OrderAnswer | None = None  # what stood before, of a change or a cancellation
    held: str = ""
    told: messages.OrderAnswer | messages.HoldAnswer | None = None
    heard: list[str] = field(default_factory=list)
    tries: int = 1

    @property
    def name(self) -> str:
        return f"{self.number} {self.point.name}, kill -9 of the {self.victim}"

    @property
    def owner_key(self) -> str:
        return f"owner-key-of-step-{SEED:04}-{self.number:04}"


class Travellers:
    """What the travellers do, each by the name of its flow: everything before the point first, then what is stopped."""

    def prepare(self, run: Run, client: api.Holdfast) -> Callable[[], None]:
        """Do what comes before the point; return what is then stopped there."""
        flow = run.point.flow
        if flow in ("sale", "single"):
            return lambda: self._buy(run, client)
        if flow in ("cancel", "swap"):
            run.order = again(lambda: self._bought(run, client))
            return (lambda: self._cancel(run, client)) if flow == "cancel" else (lambda: self._swap(run, client))
        run.held = again(lambda: self._hold(run, client, LONG_MS if flow == "unsold" else SOON_MS))
        if flow == "late":
            return lambda: self._pay(run, client, SLOW)
        if flow == "unsold":
            run.heard.append(code_of(lambda: client.process_payment(run.held, self._people(), DECLINED)))
            return lambda: self._release(run, client)
        return lambda: None  # It ends by itself.

    def _people(self) -> list[api.Passenger]:
        return [api.Passenger("Byron", "Ada")]

    def _hold(self, run: Run, client: api.Holdfast, ttl_ms: int) -> str:
        request_id = f"hold-of-step-{SEED:04}-{run.number:04}"
        if run.point.flow == "single":
            return client.hold(run.places.services[0], [run.places.first], ttl_ms=ttl_ms, request_id=request_id).hold_id
        first, second = run.places.services
        legs = [(first, [run.places.first]), (second, [run.places.cheap])]
        return client.hold_trip(legs, ttl_ms=ttl_ms, request_id=request_id).hold_id

    def _pay(self, run: Run, client: api.Holdfast, card: str = CARD) -> None:
        run.told = client.process_payment(run.held, self._people(), card, request_id=f"pay-of-step-{SEED:04}-{run.number:04}")

    def _buy(self, run: Run, client: api.Holdfast) -> None:
        run.held = self._hold(run, client, LONG_MS)
        self._pay(run, client)

    def _bought(self, run: Run, client: api.Holdfast) -> messages.OrderAnswer:
        hold_id = self._hold(run, client, LONG_MS)
        return client.process_payment(hold_id, self._people(), CARD, request_id=f"pay-of-step-{SEED:04}-{run.number:04}")

    def _release(self, run: Run, client: api.Holdfast) -> None:
        run.told = client.release(run.held, request_id=f"release-of-step-{SEED:04}-{run.number:04}")

    def _cancel(self, run: Run, client: api.Holdfast) -> None:
        assert run.order is not None
        token, request_id = run.order.manage_token, f"cancel-of-step-{SEED:04}-{run.number:04}"
        run.told = client.cancel(run.order.reference, token, request_id=request_id)

    def _swap(self, run: Run, client: api.Holdfast) -> None:
        assert run.order is not None
        token, request_id = run.order.manage_token, f"swap-of-step-{SEED:04}-{run.number:04}"
        swaps = [(run.places.cheap, run.places.dear)]
        quote = client.quote_change(run.order.reference, token, leg=2, swaps=swaps).quote
        run.told = client.change(run.order.reference, token, quote, payment_method=CARD, request_id=request_id)


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused, "" where it is not."""
    try:
        call()
    except HoldfastError as error:
        return error.code
    return ""


def places_for(cluster: GatedCluster, count: int) -> list[Places]:
    """Return places for so many travellers, no two of them the same, from as many days' shows as it takes."""
    found: list[Places] = []
    client = cluster.client()
    for day in range(count // A_DAY + 1):
        first, second = (client.seat_map(services_of(cluster, code, 26 + day)[0].service_id) for code in OPERATORS)
        ones = [seat.seat_id for seat in first.seats]
        prices = {seat.seat_id: seat.price.minor for seat in second.seats if seat.price is not None}
        ordered = sorted(prices, key=lambda seat, prices=prices: (prices[seat], seat))  # type: ignore[misc]
        cheap, dear = ordered[:A_DAY], ordered[-A_DAY:]
        assert prices[cheap[-1]] < prices[dear[0]], "too few prices"
        services = (first.service.service_id, second.service.service_id)
        found += [Places(services, *seats) for seats in zip(ones, cheap, dear, strict=False)]
    assert count <= len(found), "too few seats for so many travellers"
    return found[:count]


def victim_of(cluster: GatedCluster, run: Run, at: str) -> str:
    """Return the process that is killed. `at`: the manager, or the sandbox, for which the message is or was."""
    if run.victim == "balancer":
        return "balancer-1"
    if run.victim == "manager":
        return at if at.startswith("manager") else "manager-1"
    if run.victim == "sandbox":
        return SANDBOX
    return primary_of(cluster, ANCHOR if run.victim == "anchor's primary" else OTHER)


def apart(cluster: GatedCluster) -> None:
    """Have the two operators led by different nodes."""
    client = cluster.client(deadline_ms=10_000)
    key = keys.read_secret(cluster.folders.secrets / "admin.key")

    def are_apart() -> bool:
        leading = [primary_of(cluster, code) for code in OPERATORS]
        if len(set(leading)) == 2:
            return True
        free = next(name for name in cluster.names if name.startswith("node-") and name not in leading)
        administering.ask(client, key, MovePrimaries(moves=[Move(OTHER, free)], why="apart for the test", by="test"))
        return False

    wait_until(are_apart, "the operators to be led by different nodes", 30)


def meet(cluster: GatedCluster, travellers: Travellers, run: Run, dice: random.Random) -> bool:
    """Let one traveller come to the point, kill the victim there, and start it again.

    Returns:
        Whether he came there: on a busy machine a hold can end before, and its traveller is told so.
    """
    cluster.wait_ready()
    apart(cluster)
    # The balancer that dies is the one that is asked; the other one finishes, or the same request does there.
    client = cluster.client(run.owner_key, ("balancer-1", "balancer-2"), deadline_ms=DEADLINE_MS)
    act = travellers.prepare(run, client)
    watch = cluster.gates.shut(run.point.side, run.point.matches(), run.point.passing)

    def travel() -> None:
        run.heard.append(code_of((lambda: again(act)) if run.asks_again else act))

    traveller = threading.Thread(target=travel, daemon=True)
    heard_before = len(run.heard)
    traveller.start()

    def arrived() -> bool:
        return watch.caught.is_set() or any(run.heard[heard_before:])

    wait_until(arrived, f"{run.name}: to come there", HEARD_S)
    if not watch.caught.is_set():
        cluster.gates.open(lost=False)
        traveller.join(HEARD_S)
        cluster.close_clients()
        return False
    print(run.name, flush=True)
    victim = victim_of(cluster, run, watch.at)
    cluster.kill(victim)
    cluster.gates.open(lost=dice.random() < 0.5)
    cluster.restart(victim)
    traveller.join(HEARD_S)
    assert not traveller.is_alive(), f"{run.name}: the traveller heard nothing"
    cluster.close_clients()
    return True


def orders_of(ledgers: dict[str, Ledger], run: Run) -> list[OrderRow]:
    owner = owner_of(run.owner_key)
    return [row for row in ledgers[ANCHOR].of(Kind.ORDER).values() if row.owner == owner]


def faults_in(run: Run, ledgers: dict[str, Ledger]) -> list[str]:
    """Return where what a traveller was told, what is booked and what was charged contradict each other."""
    orders = orders_of(ledgers, run)
    standing = [row for row in orders if row.state == OrderState.CONFIRMED]
    found = []
    if len(orders) > 1:
        found.append(f"{run.name}: {len(orders)} orders of one sale")
    sold = isinstance(run.told, messages.OrderAnswer) and run.told.state == "confirmed"
    if sold and not standing:
        found.append(f"{run.name}: told confirmed, and nothing is booked")
    if run.point.flow in ("unsold", "expired") and orders:
        found.append(f"{run.name}: booked, and was never paid")
    if run.point.flow == "cancel" and run.told is not None and standing:
        found.append(f"{run.name}: told cancelled, and it stands")
    if run.point.flow == "swap":
        if not standing:
            found.append(f"{run.name}: the order is gone")
        elif run.told is not None and standing[0].legs[1].seats != (run.places.dear,):
            found.append(f"{run.name}: told changed, and it has {standing[0].legs[1].seats}")
    if run.point.side == "after" and run.point.what in ("decide", "confirm") and run.point.to and not standing:
        found.append(f"{run.name}: it was decided, and is not booked")
    return found


def charged(ledgers: dict[str, Ledger], run: Run, intents: dict[str, Intent]) -> tuple[int, int]:
    """Return (what the provider has of a traveller's money, what his booking costs or retains), in minor units."""
    rows = ledgers[ANCHOR].of(Kind.PAYMENT, Kind.CLOSED_PAYMENT).values()
    his = {row.intent for row in rows if row.owner == owner_of(run.owner_key)}
    paid = sum(one.received_minor - one.refunded_minor for one in intents.values() if one.id in his)
    due = 0
    for row in orders_of(ledgers, run):
        if row.state == OrderState.CONFIRMED:
            due += sum(sum(leg.prices) for leg in row.legs) or sum(row.prices)
        due += sum(kept for _, kept in row.retained)
    return paid, due


def astray(ledgers: dict[str, Ledger], run: Run, intents: dict[str, Intent]) -> list[str]:
    """Return where what the provider has of a traveller's money is not what his booking costs or retains."""
    paid, due = charged(ledgers, run, intents)
    return [] if paid == due else [f"{run.name}: {paid} were taken, {due} are due"]


def test_the_documentation_has_every_point() -> None:
    """The table in docs/baskets.md is the list of points, line by line."""
    text = (TOP / "docs" / "baskets.md").read_text(encoding="utf-8")
    found = text.partition("<!-- crash points: begin -->\n")[2].partition("<!-- crash points: end -->")[0]
    assert found.strip().splitlines() == table()


def chosen_pairs(which: str) -> list[tuple[Point, str]]:
    """Return which victim is met at which point: a third of the points, all pairs ("all"), or one part of them ("3/10")."""
    every = [(point, victim) for point in POINTS for victim in VICTIMS]
    if not which:
        return [(point, VICTIMS[(number + SEED) % len(VICTIMS)]) for number, point in enumerate(POINTS[SEED % SHARE :: SHARE])]
    if which == "all":
        return every
    part, _, parts = which.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts) <= len(every)):
        raise ValueError(f"HOLDFAST_CRASHES is all, or K/N such as 3/10, not {which!r}")
    return every[int(part) - 1 :: int(parts)]


def keep_results(runs: list[Run], faults: dict[str, list[str]], ledgers: dict[str, Ledger]) -> None:
    """Add what came of each traveller who came to his point to the file that is wanted."""
    done = []
    for run in runs:
        if run.tries:
            ended = next((row.state.name.lower() for row in orders_of(ledgers, run)), "nothing")
            done.append(Result(name_of(run.point), run.victim, run.tries, run.asks_again, run.heard, ended, faults.get(run.name, [])))
    add(Path(RESULTS), done)


def test_the_parts_are_all_of_it() -> None:
    """Parts of the pairs, and the seeds, together are each pair once: nothing is left out, nothing met twice."""
    every = chosen_pairs("all")
    parts = [pair for part in range(1, 8) for pair in chosen_pairs(f"{part}/7")]
    assert sorted(parts) == sorted(every) == sorted(set(every))
    assert len(every) == len(POINTS) * len(VICTIMS)
    for wrong in ("0/3", "4/3", "x", "1/", "some"):
        with pytest.raises(ValueError, match="K/N"):
            chosen_pairs(wrong)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedCluster]:
    overlay = profiles.merge(profiles.merge(OVERLAY, PAID), SETTINGS)
    with GatedCluster(tmp_path_factory.mktemp("steps"), overlay, ("venues",)) as made:
        yield made
        verify_at_end(made)


@pytest.mark.timeout(300 + EACH_S * len(chosen_pairs(WHICH)))
def test_whoever_dies_between_whichever_steps(cluster: GatedCluster) -> None:
    """All legs are booked or none, charged is what is booked, no seat stays held, and nobody was told what is not so."""
    dice = random.Random(f"{SEED} {WHICH}")
    pairs = chosen_pairs(WHICH)
    places = places_for(cluster, len(pairs) + SPARE)
    runs = [Run(number, point, victim, places[number], dice.random() < 0.5) for number, (point, victim) in enumerate(pairs)]
    travellers = Travellers()
    spare = places[len(pairs) :]
    for run in list(runs):
        tried = run
        for tries in range(1, TRIES + 1):
            if meet(cluster, travellers, tried, dice):
                tried.tries = tries
                break
            print("did not come there:", tried.name, tried.heard, flush=True)
            tried.tries = 0
            tried = Run(len(runs), run.point, run.victim, spare.pop(), run.asks_again)
            runs.append(tried)
        else:
            raise AssertionError(f"{run.name}: nobody came there in {TRIES} tries; the last heard {tried.heard}")
    cluster.wait_ready()
    books = books_closed(cluster)
    ledgers = wait_nothing_open(cluster, OPERATORS, CLOSED_S)
    intents = intents_of(provider_of(cluster))
    faults = {run.name: found for run in runs if (found := faults_in(run, ledgers) + astray(ledgers, run, intents))}
    if RESULTS:
        keep_results(runs, faults, ledgers)
    assert faults_of(ledgers) == []
    assert (books.findings, books.cases) == ([], [])
    assert faults == {}
    assert {intent.status for intent in intents.values()} <= {"succeeded", "canceled"}
    # Not vacuous: some were sold in the end and some were not, and most travellers heard how it ended.
    sales = [bool(orders_of(ledgers, run)) for run in runs if run.point.flow == "sale"]
    assert {True, False} >= set(sales) and True in sales, sales
