"""A load balancer: the production pipeline, and where trips are sold its views, handlers and reconcilers, on simulated threads.

Only what they stand on is simulated: threads and clocks (`tests.simulation.threads`), the connections to managers and lock
servers, and the provider's HTTP. What decides and what carries out are the modules of `loadbalancer`, as they are.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from datastore import wire
from datastore.errors import HoldfastError, OutcomeUnknown
from loadbalancer.balancer import Balancer as Parts
from loadbalancer.basket import Basket
from loadbalancer.batching import Pipeline
from loadbalancer.booking import Booking
from loadbalancer.cashier import Cashier
from loadbalancer.changing import Changing
from loadbalancer.collecting import Collector
from loadbalancer.config import LoadBalancerConfig
from loadbalancer.following import Follower
from loadbalancer.paying import Paying
from loadbalancer.payments_config import SANDBOX, PaymentsConfig
from loadbalancer.reconciler import Reconciler
from loadbalancer.selling import Begun
from loadbalancer.view import Catalogue
from manager.stub import ManagerStub
from tests.simulation.lockclients import LockHeld, SimulatedLocks
from tests.simulation.parties import Notes, NotingItineraries, NotingSelling
from tests.simulation.sandboxes import PROVIDER_TIMEOUT_MS, SimulatedAdapter
from tests.simulation.world import Ask, Process, Violation, World

BATCH_MAX = 64
LANES = 4
PAYING_MS = 3_000
HOLD_TTL_MAX_MS = 60_000
FEED_WAIT_MS = 500


class Sells(NamedTuple):
    """What a balancer does beside carrying single commands."""

    trips: bool = False
    takes_payments: bool = False
    notes: Notes | None = None  # where to note what is chosen for parties


class _Client:
    """What `EdgeClient` is to the stub: one manager."""

    def __init__(self, balancer: Balancer, manager: str) -> None:
        self._balancer = balancer
        self.address = manager

    def call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        answer: bytes | HoldfastError | None = self._balancer.ask(Ask(self.address, method, payload, timeout_ms))
        if answer is None:
            raise OutcomeUnknown(f"no answer from {self.address} within {timeout_ms} ms")
        if isinstance(answer, HoldfastError):
            raise answer
        return answer


class _Closed:
    """The stub's pause between tries."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    def wait(self, timeout_s: float) -> bool:
        self._balancer.sleep(max(1, int(timeout_s * 1000)))
        return False


class SimulatedStub(ManagerStub):
    """The production stub over the simulated network."""

    def __init__(self, balancer: Balancer, managers: Sequence[str]) -> None:
        self._clients = self._feeds = [_Client(balancer, name) for name in managers]  # type: ignore[misc,assignment]
        self._preferred = 0
        self._now_ms = balancer.now_ms
        self._closed = _Closed(balancer)  # type: ignore[assignment]


class _Told:
    """The waiter of one basket, whose outcome leaves as a message."""

    def __init__(self, answer: Callable[[wire.Outcome], None]) -> None:
        self._answer = answer

    def settle(self, _place: int, outcome: wire.Outcome) -> None:
        self._answer(outcome)


class Balancer(Process):
    """One load balancer. It keeps nothing."""

    locks_type: type[SimulatedLocks] = SimulatedLocks
    basket_type: type[Basket] = Basket
    stub_type: type[SimulatedStub] = SimulatedStub

    def __init__(
        self,
        world: World,
        name: str,
        managers: Sequence[str],
        locks: Sequence[str],
        record: list[LockHeld],
        seed: str,
        lock_ttl_ms: int,
        sells: Sells,
    ) -> None:
        super().__init__(world, name)
        self._managers = list(managers)
        self._lock_servers = list(locks)
        self._record = record
        self._random = random.Random(f"{seed} {name}")
        self._ways = random.Random(f"{seed} {name} ways")
        self._lock_ttl_ms = lock_ttl_ms
        self._sells = sells

    def boot(self) -> None:
        seed = f"{self._random.getrandbits(64):x}"
        self.locks = self.locks_type(self, self._lock_servers, seed, self._record, self._lock_ttl_ms)
        self.stub = self.stub_type(self, self._managers)
        self.pipeline = Pipeline(self.locks, self.stub, lanes=LANES, batch_max=BATCH_MAX, on_broken=self._broken)
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        if self._sells.trips:
            self._begin_selling()
        self.pipeline.start()

    def _begin_selling(self) -> None:
        """As `loadbalancer.server` puts them together."""
        config = LoadBalancerConfig((), hold_ttl_max_ms=HOLD_TTL_MAX_MS, lanes=LANES, batch_max=BATCH_MAX, feed_wait_ms=FEED_WAIT_MS)
        catalogue = Catalogue()
        follower = Follower(catalogue, self.stub, wait_ms=config.feed_wait_ms)
        parts = Parts(self.name, config, catalogue, follower, self.pipeline, self.stub, self.locks, b"", started_ms=self.now_ms())
        self.catalogue = catalogue
        reconciler = Reconciler(parts)
        provider = SimulatedAdapter(self) if self._sells.takes_payments else None
        payments = PaymentsConfig(SANDBOX, timeout_ms=PROVIDER_TIMEOUT_MS, paying_ms=PAYING_MS) if provider else PaymentsConfig()
        cashier = Cashier(parts, payments, provider)
        collector = Collector(parts, cashier)
        notes = {} if self._sells.notes is None else self._sells.notes
        selling = NotingSelling(notes, parts, reconciler)
        itineraries = NotingItineraries(notes, parts, reconciler, selling.proposals)
        booking = Booking(parts, itineraries)
        paying = Paying(parts, booking, itineraries, cashier)
        self._handlers = {
            "hold": selling.hold,
            "hold_trip": itineraries.hold,
            "extend": selling.extend,
            "release": selling.release,
            "confirm": paying.confirm,
            "cancel": Changing(parts, booking, itineraries).cancel,
        }
        follower.start()
        reconciler.start()
        collector.start()

    def _broken(self) -> None:
        fault = sys.exception()
        raise fault if isinstance(fault, Violation) else Violation("our own fault", f"{self.name} stops: {fault!r}") from fault

    # -- callers -----------------------------------------------------------------------------------------------------

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        if method == "read":
            item, deadline_ms = payload
            self.run(lambda: answer(self.stub.read([item], deadline_ms)[0]))
        elif method == "basket":
            basket = payload(self, answer)
            basket.waiter = _Told(answer)
            self.run(lambda: self._put(basket))
        else:
            self.run(lambda: answer(self._handled(method, payload)))

    def _put(self, basket: Basket) -> None:
        """As the connection's own thread does, or as the one that reads for many."""
        if basket.keys and self._ways.random() < 0.5:
            self.pipeline.gather(basket)
            self.pipeline.go()
        else:
            self.pipeline.put([basket])

    def _handled(self, method: str, request: Any) -> Any:
        """Return a handler's answer, or its refusal."""
        try:
            found = self._handlers[method](request)
            return found.answer(found.waiter.wait(found.deadline_ms)) if isinstance(found, Begun) else found
        except HoldfastError as error:
            return error
