"""Who buys: hold, confirm, release, extend, cancel and look, over few seats, with retries under the same request id.

A buyer never knows more than a person does. What it was told, and when, is the history; what it was not told is unknown.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from datastore import wire
from datastore.model import bulk_hold_id
from loadbalancer.basket import Basket, HoldDraft, HoldEachDraft
from loadbalancer.identity import ask_digest, hold_id_of, manage_token, token_digest
from tests.checkers import Answer, Operation
from tests.simulation.balancers import Balancer
from tests.simulation.world import Ask, Process, World

# What says "come again" or "nobody could be asked" leaves a request as it was: it may be sent again under its id.
AGAIN_CODES = frozenset(
    {"operator_unavailable", "lock_timeout", "locks_unavailable", "outcome_unknown", "not_primary", "request_in_progress", "stale_fence"}
)
UNKNOWN_CODES = frozenset({"outcome_unknown", "request_in_progress"})
DEADLINE_MS = 2_500
PATIENCE_MS = 3_000

Maker = Callable[[Balancer, Callable[[wire.Outcome], None]], Basket]


class Habits(NamedTuple):
    """What buyers do, and how often. Times in milliseconds."""

    seats: tuple[str, ...]
    service_id: str
    operator: str
    hold_ms: tuple[int, ...] = (1_000, 2_000, 6_000)
    pause_ms: int = 150
    confirms: float = 0.45
    cancels: float = 0.9
    releases: float = 0.5
    extends: float = 0.15
    reads: float = 0.25
    bulks: float = 0.0  # a hold for each seat, in one request
    tries: int = 4
    gives_up: float = 0.2


@dataclass
class Asked(Operation):
    """An operation with what its last answer said: the entry that decided it, and the outcome as it was sent."""

    operator: str = ""
    lsn: int = 0
    outcome: bytes = b""


@dataclass
class Seen:
    """A linearizable read of a service's seats. Times in seconds; `lsn` of the state that answered."""

    operator: str
    asked: float
    answered: float
    lsn: int
    seats: dict[str, Any]


class Buyer(Process):
    """One person at one machine."""

    def __init__(
        self, world: World, name: str, balancers: Sequence[str], habits: Sequence[Habits], history: list[Asked], seen: list[Seen], seed: str
    ) -> None:
        super().__init__(world, name)
        self._balancers = list(balancers)
        self._habits = list(habits)
        self._history = history
        self._seen = seen
        self._random = random.Random(f"{seed} {name}")
        self._requests = 0
        self.is_done = False
        self.closing = False

    def boot(self) -> None:
        self.run(self._forever)

    def _forever(self) -> None:
        while not self.closing:
            self.sleep(self._random.randrange(1, 2 * self._habits[0].pause_ms))
            if not self.closing:
                self._go_shopping(self._random.choice(self._habits))
        self.is_done = True

    def _go_shopping(self, habits: Habits) -> None:
        draw = self._random.random
        if draw() < habits.reads:
            self.look(habits)
        seats = tuple(self._random.sample(habits.seats, min(len(habits.seats), self._random.choice((1, 1, 1, 2, 3)))))
        ttl_ms = self._random.choice(habits.hold_ms)
        if habits.bulks and draw() < habits.bulks:
            for hold in self.hold_each(habits, seats, ttl_ms):
                self._use(habits, hold)
        else:
            self._use(habits, self.hold(habits, seats, ttl_ms))

    def _use(self, habits: Habits, hold: Asked) -> None:
        """Do with a hold what buyers do."""
        draw = self._random.random
        if hold.answer is not Answer.DONE or self.closing:
            return
        self.sleep(self._random.choice((1, 20, 200, 1_200)))
        if draw() < habits.extends:
            self.change(habits, "extend", hold)
        if draw() < habits.confirms:
            order = self.change(habits, "confirm", hold)
            if order.answer is Answer.DONE and draw() < habits.cancels:
                self.sleep(self._random.choice((1, 100, 800)))
                self.change(habits, "cancel", hold, order.reference)
        elif draw() < habits.releases:
            self.change(habits, "release", hold)

    # -- operations --------------------------------------------------------------------------------------------------

    def hold(self, habits: Habits, seats: tuple[str, ...], ttl_ms: int, deadline_ms: int = DEADLINE_MS) -> Asked:
        """Ask for seats until there is an answer, or patience ends."""
        request_id = self._request_id()
        operator, service_id = habits.operator, habits.service_id
        hold_id = hold_id_of(operator, self.name, request_id)
        digest = ask_digest("hold", self.name, service_id, seats, ttl_ms)
        prices = (1_000,) * len(seats)
        draft = HoldDraft(request_id, digest, hold_id, self.name, service_id, seats, ttl_ms, "USD", prices, 80, 50, 50)
        keys = tuple(f"{operator}/{service_id}/{seat}" for seat in seats)
        asked = Asked(self.name, "hold", request_id, service_id, seats, hold_id, ttl_ms / 1000, operator=operator)

        def make(balancer: Balancer, answer: Callable[[wire.Outcome], None]) -> Basket:
            return balancer.basket_type(operator, balancer.now_ms() + deadline_ms, keys=keys, draft=draft)

        self._until_answered([asked], make, self._tries(habits))
        return asked

    def hold_each(self, habits: Habits, seats: tuple[str, ...], ttl_ms: int) -> list[Asked]:
        """Ask for a hold of each seat, in one request; return an operation for each."""
        request_id = self._request_id()
        operator, service_id = habits.operator, habits.service_id
        bulk_id = hold_id_of(operator, self.name, request_id)
        each = tuple((seat,) for seat in seats)
        prices, percents = ((1_000,),) * len(seats), (80,) * len(seats)
        digest = ask_digest("each", self.name, service_id, seats, ttl_ms)
        draft = HoldEachDraft(request_id, digest, bulk_id, self.name, service_id, each, ttl_ms, "USD", prices, percents, 50, 50)
        keys = tuple(f"{operator}/{service_id}/{seat}" for seat in seats)

        def make(balancer: Balancer, answer: Callable[[wire.Outcome], None]) -> Basket:
            return balancer.basket_type(operator, balancer.now_ms() + DEADLINE_MS, keys=keys, draft=draft)

        asked = [
            Asked(self.name, "hold", request_id, service_id, one, bulk_hold_id(bulk_id, number), ttl_ms / 1000, operator=operator)
            for number, one in enumerate(each, 1)
        ]
        self._until_answered(asked, make, self._tries(habits))
        return asked

    def change(self, habits: Habits, kind: str, hold: Asked, reference: str = "") -> Asked:
        """Confirm, release or extend a hold, or cancel the order that it became."""
        request_id = self._request_id()
        operator = habits.operator
        asked = Asked(self.name, kind, request_id, habits.service_id, hold.seats, hold.hold_id, operator=operator, reference=reference)
        digest = ask_digest(kind, self.name, hold.hold_id)
        token = token_digest(manage_token(self.name, hold.hold_id))
        record = f"passengers of {hold.hold_id}".encode()
        sides: dict[bytes, bytes] = {}
        command: wire.AnyCommand
        if kind == "confirm":
            passengers = blake2b(record, digest_size=32).digest()
            sides = {passengers: record}
            words = tuple(f"{operator}{self._random.getrandbits(40):010x}".upper() for _ in range(2))
            command = wire.Confirm(request_id, digest, hold.hold_id, self.name, words, token, passengers)
        elif kind == "release":
            command = wire.Release(request_id, digest, hold.hold_id, self.name)
        elif kind == "extend":
            command = wire.Extend(request_id, digest, hold.hold_id, self.name, 2_000, 60_000)
        else:
            command = wire.Cancel(request_id, digest, reference, token)

        def make(balancer: Balancer, answer: Callable[[wire.Outcome], None]) -> Basket:
            return balancer.basket_type(operator, balancer.now_ms() + DEADLINE_MS, command=command, sides=sides)

        self._until_answered([asked], make, self._tries(habits))
        return asked

    def _tries(self, habits: Habits) -> int:
        """Some ask once, and never learn what became of it."""
        return 1 if self._random.random() < habits.gives_up else habits.tries

    def publish(self, operator: str, command: wire.Import) -> bool:
        """Have a timetable imported; return whether it is there."""

        def make(balancer: Balancer, answer: Callable[[wire.Outcome], None]) -> Basket:
            return balancer.basket_type(operator, balancer.now_ms() + DEADLINE_MS, command=command)

        outcome = self.ask(Ask(self._random.choice(self._balancers), "basket", make, PATIENCE_MS))
        return outcome is not None and not outcome.error

    def look(self, habits: Habits) -> Seen | None:
        """Ask the primary which seats are taken."""
        asked = self._now()
        item = wire.ReadItem(habits.operator, "seats", {"service_id": habits.service_id})
        result = self._read(item)
        if result is None or result.error:
            return None
        seen = Seen(habits.operator, asked, self._now(), result.lsn, result.value)
        self._seen.append(seen)
        return seen

    def _read(self, item: wire.ReadItem) -> wire.ReadResult | None:
        result: wire.ReadResult | None = self.ask(Ask(self._random.choice(self._balancers), "read", (item, DEADLINE_MS), PATIENCE_MS))
        return result

    def _until_answered(self, asked: Sequence[Asked], make: Maker, tries: int) -> None:
        """Ask one request, which is one operation or several, until it is answered or the tries are over."""
        for one in asked:
            one.asked = self._now()
            self._history.append(one)
        what = asked[0].reference or ",".join(seat for one in asked for seat in one.seats)
        self.tell("asks to {} {} as {}", asked[0].kind, what, asked[0].request_id)
        maybe = False
        for attempt in range(tries):
            if attempt:
                self.sleep(self._random.randrange(1, 200))
            outcome = self.ask(Ask(self._random.choice(self._balancers), "basket", make, PATIENCE_MS))
            code = "outcome_unknown" if outcome is None else str(outcome.error.get("code", ""))
            maybe = maybe or code in UNKNOWN_CODES
            if outcome is not None and code not in AGAIN_CODES:
                refused = dict(outcome.value.get("refused", ()))
                for number, one in enumerate(asked, 1):
                    self._note(one, outcome, code or str(refused.get(number, {}).get("code", "")))
                return
            if self.closing and attempt >= 2:
                break
        for one in asked:
            one.answered = self._now()
            one.code = code
            one.answer = Answer.UNKNOWN if maybe else Answer.REFUSED
        self.tell("gives {} up: {}", asked[0].request_id, code)

    def _note(self, asked: Asked, outcome: wire.Outcome, code: str) -> None:
        asked.answered = self._now()
        asked.code = code
        asked.lsn = outcome.lsn
        asked.outcome = wire.encode(outcome)
        asked.answer = Answer.REFUSED if code else Answer.DONE
        if not code and asked.kind == "confirm":
            asked.reference = str(outcome.value["reference"])
        self.tell("is told of {}: {}", asked.request_id, code or f"done in entry {outcome.lsn}")

    def _request_id(self) -> str:
        self._requests += 1
        return f"{self.name}-request-{self._requests}"

    def _now(self) -> float:
        return self.world.now_us / 1_000_000


class Looker(Buyer):
    """Who only looks, often: what a read may never miss."""

    def _forever(self) -> None:
        while not self.closing:
            self.sleep(self._random.randrange(1, 60))
            self.look(self._random.choice(self._habits))
        self.is_done = True
