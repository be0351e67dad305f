"""A load balancer: the production basket and order of requests, the production lock client and caller's half of the managers.

The two loops do what `loadbalancer.batching` does with threads: the locker asks the lock servers once for all whose turn it
is, and each operator's lane carries one batch at a time. What is decided, is decided in `basket` and `ordering`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from datastore import wire
from datastore.errors import HoldfastError, OutcomeUnknown, error_from_data
from loadbalancer.basket import Basket, Step
from loadbalancer.batching import SUBMIT_MS_MAX
from loadbalancer.locker import RELEASE_LINGER_MS
from loadbalancer.ordering import Ordering
from lockstore.seatlocks import Contended, Grant, LockRequest, Unavailable
from manager.stub import ManagerStub
from tests.simulation.lockclients import LockHeld, SimulatedLocks
from tests.simulation.world import Ask, Process, Signal, World

BATCH_MAX = 64


class _Client:
    """What `EdgeClient` is to the stub: one manager."""

    def __init__(self, balancer: Balancer, manager: str) -> None:
        self._balancer = balancer
        self.address = manager

    def call(self, method: str, payload: bytes, timeout_ms: int) -> bytes:
        answer: bytes | None = self._balancer.ask(Ask(self.address, method, payload, timeout_ms))
        if answer is None:
            raise OutcomeUnknown(f"no answer from {self.address} within {timeout_ms} ms")
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
        self._clients = [_Client(balancer, name) for name in managers]  # type: ignore[misc]
        self._preferred = 0
        self._now_ms = balancer.now_ms
        self._closed = _Closed(balancer)  # type: ignore[assignment]


class Balancer(Process):
    """One load balancer. It keeps nothing."""

    locks_type: type[SimulatedLocks] = SimulatedLocks
    basket_type: type[Basket] = Basket
    stub_type: type[SimulatedStub] = SimulatedStub

    def __init__(
        self, world: World, name: str, managers: Sequence[str], locks: Sequence[str], record: list[LockHeld], seed: str, lock_ttl_ms: int
    ) -> None:
        super().__init__(world, name)
        self._managers = list(managers)
        self._lock_servers = list(locks)
        self._record = record
        self._random = random.Random(f"{seed} {name}")
        self._lock_ttl_ms = lock_ttl_ms

    def boot(self) -> None:
        seed = f"{self._random.getrandbits(64):x}"
        self.locks = self.locks_type(self, self._lock_servers, seed, self._record, self._lock_ttl_ms)
        self.stub = self.stub_type(self, self._managers)
        self._ordering: Ordering[Basket] = Ordering()
        self._changed = Signal()
        self._inbox: list[Basket] = []
        self._finished: list[Basket] = []
        self._turns: deque[Basket] = deque()
        self._timers: list[tuple[int, int, Basket]] = []  # pauses
        self._deadlines: list[tuple[int, int, Basket]] = []  # of those behind others
        self._number = 0
        self._releases: list[Grant] = []
        self._release_due_ms = 0
        self._lanes: dict[str, deque[Basket]] = {}
        self._busy: set[str] = set()
        self.run(self._lock)

    # -- callers -----------------------------------------------------------------------------------------------------

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        if method == "read":
            item, deadline_ms = payload
            self.run(lambda: answer(self.stub.read([item], deadline_ms)[0]))
            return
        basket = payload(self, answer)
        if basket.started() is Step.LOCK:
            self._inbox.append(basket)
            self._changed.set()
        else:
            self._dispatch([basket])

    def _settle(self, basket: Basket) -> None:
        assert basket.outcome is not None
        basket.waiter(basket.outcome)

    # -- the locker --------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        while True:
            if not (self._inbox or self._finished or self._turns):
                dues = [self._release_due_ms] if self._releases else []
                dues += [timers[0][0] for timers in (self._timers, self._deadlines) if timers]
                left_ms = min(dues) - self.now_ms() if dues else None
                if left_ms is None or left_ms > 0:
                    self.wait(self._changed, left_ms)
            self._line_up()
            self._round()

    def _line_up(self) -> None:
        now_ms = self.now_ms()
        inbox, self._inbox = self._inbox, []
        finished, self._finished = self._finished, []
        for basket in finished:
            if isinstance(basket.spent, Grant):
                if not self._releases:
                    self._release_due_ms = now_ms + RELEASE_LINGER_MS
                self._releases.append(basket.spent)
                basket.spent = None
            if basket.outcome is None:
                self._turns.append(basket)
            else:
                self._turns.extend(self._ordering.done(basket, basket.keys))
        for basket in inbox:
            if self._ordering.offer(basket, basket.keys):
                self._turns.append(basket)
            else:
                self._push(self._deadlines, basket.deadline_ms, basket)
        while self._timers and self._timers[0][0] <= now_ms:
            self._turns.append(heapq.heappop(self._timers)[2])
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            basket = heapq.heappop(self._deadlines)[2]
            if self._ordering.is_waiting(basket):
                basket.overdue()
                self._settle(basket)
                self._turns.extend(self._ordering.withdraw(basket, basket.keys))

    def _push(self, timers: list[tuple[int, int, Basket]], due_ms: int, basket: Basket) -> None:
        self._number += 1
        heapq.heappush(timers, (due_ms, self._number, basket))

    def _round(self) -> None:
        batch: list[Basket] = []
        while self._turns and len(batch) < BATCH_MAX:
            basket = self._turns.popleft()
            if basket.deadline_ms > self.now_ms():
                batch.append(basket)
            else:
                self._end(basket, basket.overdue())
        if not batch:
            if self._releases and self._release_due_ms <= self.now_ms():
                releases, self._releases = self._releases, []
                self.locks.release_many(releases)
            return
        releases, self._releases = self._releases, []
        outcomes = self.locks.acquire_many([LockRequest(basket.keys, basket.hint) for basket in batch], releases)
        now_ms = self.now_ms()
        granted = []
        for basket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Grant):
                basket.granted(outcome)
                granted.append(basket)
            elif isinstance(outcome, Contended):
                self._end(basket, basket.contended(outcome.keys, now_ms))
            else:
                assert isinstance(outcome, Unavailable)
                self._end(basket, basket.unavailable(outcome.reasons, now_ms))
        self._dispatch(granted)

    def _end(self, basket: Basket, step: Step) -> None:
        if step is Step.PAUSE:
            self._push(self._timers, min(basket.deadline_ms, self.now_ms() + self._random.randint(1, basket.pause_ms)), basket)
            return
        self._settle(basket)
        self._turns.extend(self._ordering.done(basket, basket.keys))

    # -- the lanes ---------------------------------------------------------------------------------------------------

    def _dispatch(self, baskets: Sequence[Basket]) -> None:
        for basket in baskets:
            self._lanes.setdefault(basket.operator, deque()).append(basket)
            if basket.operator not in self._busy:
                self._busy.add(basket.operator)
                self.run(lambda operator=basket.operator: self._carry_all(operator))  # type: ignore[misc]

    def _carry_all(self, operator: str) -> None:
        lane = self._lanes[operator]
        while lane:
            batch = [lane.popleft() for _ in range(min(len(lane), BATCH_MAX))]
            self._finish(self._carry(operator, batch))
        self._busy.discard(operator)

    def _finish(self, baskets: Sequence[Basket]) -> None:
        locked = [basket for basket in baskets if basket.keys]
        if locked:
            self._finished.extend(locked)
            self._changed.set()

    def _carry(self, operator: str, batch: list[Basket]) -> list[Basket]:
        """Return the baskets of the batch that are answered, or that need another lock."""
        now_ms = self.now_ms()
        finished = []
        for basket in [basket for basket in batch if basket.deadline_ms <= now_ms]:
            basket.overdue()
            self._settle(basket)
            finished.append(basket)
        batch = [basket for basket in batch if basket.outcome is None]
        if not batch:
            return finished
        sides = {digest: record for basket in batch for digest, record in basket.sides.items()}
        item = wire.SubmitItem(operator, wire.encode([basket.command for basket in batch]), sides)
        deadline_ms = min(max(basket.deadline_ms for basket in batch) - now_ms, SUBMIT_MS_MAX)
        result = self.stub.submit([item], deadline_ms)[0]
        now_ms = self.now_ms()
        if result.error:
            error: HoldfastError = error_from_data(result.error)
            for basket in batch:
                basket.failed(error)
                self._settle(basket)
            return finished + batch
        again = []
        for basket, outcome in zip(batch, wire.decode(wire.OUTCOMES, result.outcomes), strict=True):
            step = basket.decided(outcome, now_ms)
            if step is Step.ANSWER:
                self._settle(basket)
            if step is Step.SUBMIT:
                again.append(basket)
            else:
                finished.append(basket)
        self._dispatch(again)
        return finished
