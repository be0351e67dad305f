"""Who travels: holds of one service and trips over several operators, paid by card or not, kept, cancelled, or left to end.

Travellers ask the handlers of a load balancer, as a client does, under one request id until there is an answer. What they were
told, and when, is the history of trips.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from datastore import messages
from datastore.errors import HoldfastError
from datastore.model import Passenger
from tests.checkers import Answer, Operation
from tests.simulation.buyers import Habits
from tests.simulation.sandboxes import NAME as SANDBOX
from tests.simulation.world import Ask, Process, World

DEADLINE_MS = 3_000
PATIENCE_MS = 3_600
TRIES = 4
GOOD_CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_sandbox_answerLost")
OTHER_CARDS = ("pm_card_chargeDeclined", "pm_card_authenticationRequired", "pm_card_sandbox_slow")


@dataclass
class TripAsked(Operation):
    """An operation on a hold or a trip.

    Attributes:
        legs: (service id, seats) of each, for every operation on them; no seats where the best were asked for, until they are told.
        cabin, together: Of the best that were asked for.
        card: Of a confirmation, "" for none.
        tries: How often it was sent: an answer to the first one alone leaves nothing in doubt.
        told: What the answer was, an error where it was refused.
    """

    legs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    cabin: str = ""
    together: bool = False
    card: str = ""
    tries: int = 0
    told: Any = None

    @property
    def owner_key(self) -> str:
        return key_of(self.buyer)


def key_of(name: str) -> str:
    return f"key-of-{name}"


class Traveller(Process):
    """One person at one machine."""

    def __init__(
        self,
        world: World,
        name: str,
        balancers: Sequence[str],
        habits: Sequence[Habits],
        history: list[TripAsked],
        seed: str,
        *,
        pays: bool,
        impatience: float = 0.2,
        dawdles: bool = False,
        parties: float = 0.0,
        deadline_ms: int = DEADLINE_MS,
    ) -> None:
        super().__init__(world, name)
        self._balancers = list(balancers)
        self._habits = list(habits)
        self._history = history
        self._random = random.Random(f"{seed} {name}")
        self._pays = pays
        self._impatience = impatience
        self._dawdles = dawdles
        self._parties = parties
        self._deadline_ms = deadline_ms
        self._key = key_of(name)
        self._requests = 0
        self.is_done = False
        self.closing = False

    def boot(self) -> None:
        self.run(self._forever)

    def _forever(self) -> None:
        while not self.closing:
            self.sleep(self._random.randrange(1, 2 * self._habits[0].pause_ms))
            if not self.closing:
                self._travel()
        self.is_done = True

    def _travel(self) -> None:
        chance = self._random
        count = min(len(self._habits), chance.choice((1, 2, 2, 2, 3)))
        chosen = chance.sample(self._habits, count)
        party = chance.choice((1, 1, 2))
        ttl_ms = (6_000,) if self._dawdles else (1_500, 2_500, 6_000)
        if self._parties and chance.random() < self._parties:
            hold = self._hold_best(tuple(one.service_id for one in chosen), chance.choice(ttl_ms))
        else:
            legs = tuple((one.service_id, tuple(sorted(chance.sample(one.seats, party)))) for one in chosen)
            hold = self._hold(legs, chance.choice(ttl_ms))
        if hold.answer is not Answer.DONE or self.closing:
            return
        self.sleep(chance.choice((1_100, 1_400) if self._dawdles else (1, 20, 300, 1_400)))
        draw = chance.random()
        if draw < 0.65:
            order = self._confirm(hold)
            if order.answer is Answer.DONE and chance.random() < 0.7:
                self.sleep(chance.choice((1, 100, 900)))
                self._cancel(hold, order)
        elif draw < 0.85:
            self._release(hold)

    # -- operations --------------------------------------------------------------------------------------------------

    def _hold(self, legs: tuple[tuple[str, tuple[str, ...]], ...], ttl_ms: int) -> TripAsked:
        asked = TripAsked(self.name, "hold", self._request_id(), legs[0][0], lasts_s=ttl_ms / 1000, legs=legs)
        common: dict[str, Any] = {"request_id": asked.request_id, "owner_key": self._key, "ttl_ms": ttl_ms}
        common["deadline_ms"] = self._deadline_ms
        if len(legs) == 1:
            service_id, seats = legs[0]
            self._until_answered(asked, "hold", messages.HoldSeats(service_id=service_id, seats=list(seats), **common))
        else:
            wishes = [messages.LegWish(service_id=service_id, seats=list(seats)) for service_id, seats in legs]
            self._until_answered(asked, "hold_trip", messages.HoldTrip(legs=wishes, **common))
        if asked.answer is Answer.DONE:
            asked.hold_id = asked.told.hold_id
        return asked

    def _hold_best(self, services: tuple[str, ...], ttl_ms: int) -> TripAsked:
        """Ask for the best seats of each service."""
        chance = self._random
        asked = TripAsked(self.name, "hold", self._request_id(), services[0], lasts_s=ttl_ms / 1000)
        asked.legs = tuple((service_id, ()) for service_id in services)
        asked.count, asked.together = chance.choice((1, 1, 2, 2, 3, 4)), chance.random() < 0.4
        asked.cabin = chance.choice(("Y", "Y", "Y", "J"))
        common: dict[str, Any] = {"request_id": asked.request_id, "owner_key": self._key, "ttl_ms": ttl_ms, "together": asked.together}
        common["deadline_ms"] = self._deadline_ms
        if len(services) == 1:
            request: Any = messages.HoldSeats(service_id=services[0], count=asked.count, cabin=asked.cabin, **common)
        else:
            wishes = [messages.LegWish(service_id=service_id, count=asked.count, cabin=asked.cabin) for service_id in services]
            request = messages.HoldTrip(legs=wishes, **common)
        self._until_answered(asked, "hold" if len(services) == 1 else "hold_trip", request)
        if asked.answer is Answer.DONE:
            told = asked.told
            asked.hold_id = told.hold_id
            asked.legs = tuple((leg.service_id, tuple(leg.seats)) for leg in told.legs) or ((told.service_id, tuple(told.seats)),)
        return asked

    def _confirm(self, hold: TripAsked) -> TripAsked:
        chance = self._random
        card = "" if not self._pays else chance.choice(GOOD_CARDS if chance.random() < 0.8 else OTHER_CARDS)
        asked = self._again(hold, "confirm", card)
        passengers = [Passenger(f"Surname{number}", self.name) for number in range(len(hold.legs[0][1]))]
        request = messages.ConfirmHold(
            request_id=asked.request_id,
            owner_key=self._key,
            hold_id=hold.hold_id,
            passengers=passengers,
            payment_method=card,
            deadline_ms=DEADLINE_MS,
        )
        self._until_answered(asked, "confirm", request)
        if asked.code == "payment_action_required" and chance.random() < 0.6:
            self._consent(str(asked.told.fields["action"]), given=chance.random() < 0.8)
            asked = self._again(hold, "confirm", card)
            self._until_answered(asked, "confirm", messages.ConfirmHold(**{**_fields(request), "request_id": asked.request_id}))
        if asked.answer is Answer.DONE:
            asked.reference = asked.told.reference
        return asked

    def _consent(self, url: str, *, given: bool) -> None:
        """Say on the bank's page that one agrees, or not."""
        parts = urlsplit(url)
        intent, secret = parts.path.rpartition("/")[2], parse_qs(parts.query)["secret"][0]
        self.ask(Ask(SANDBOX, "consent", (intent, secret, "succeed" if given else "fail"), PATIENCE_MS))

    def _cancel(self, hold: TripAsked, order: TripAsked) -> None:
        asked = self._again(hold, "cancel")
        asked.reference = order.reference
        request = messages.CancelOrder(
            request_id=asked.request_id, reference=order.reference, token=order.told.manage_token, deadline_ms=DEADLINE_MS
        )
        self._until_answered(asked, "cancel", request)

    def _release(self, hold: TripAsked) -> None:
        asked = self._again(hold, "release")
        request = messages.ReleaseHold(request_id=asked.request_id, owner_key=self._key, hold_id=hold.hold_id, deadline_ms=DEADLINE_MS)
        self._until_answered(asked, "release", request)

    def _again(self, hold: TripAsked, kind: str, card: str = "") -> TripAsked:
        return TripAsked(self.name, kind, self._request_id(), hold.service_id, hold_id=hold.hold_id, legs=hold.legs, card=card)

    def _until_answered(self, asked: TripAsked, method: str, request: Any) -> None:
        asked.asked = self._now()
        self._history.append(asked)
        what = " + ".join(f"{service_id} {','.join(seats)}" for service_id, seats in asked.legs)
        self.tell("asks to {} {} {} as {}", asked.kind, asked.reference or what, asked.card, asked.request_id)
        maybe = False
        for attempt in range(TRIES):
            if attempt:
                self.sleep(self._random.randrange(1, 250))
            asked.tries += 1
            # Who is impatient asks again while the first try is still under way, at the same balancer or at another.
            patience_ms = PATIENCE_MS if self._random.random() < 1 - self._impatience else self._random.choice((5, 20, 200, 900))
            told = self.ask(Ask(self._random.choice(self._balancers), method, request, patience_ms))
            if told is not None and not isinstance(told, HoldfastError):
                asked.told, asked.answer, asked.code = told, Answer.DONE, ""
                break
            asked.told, asked.code = None, "" if told is None else told.code
            maybe = maybe or told is None or told.maybe_committed
            if told is not None and not told.retryable and not told.maybe_committed:
                # A refusal tells for good: what an earlier try did would have been found.
                asked.told, asked.answer = told, Answer.REFUSED
                break
            if self.closing and attempt >= 2:
                break
        else:
            attempt = TRIES
        asked.answered = self._now()
        if asked.answer is Answer.UNKNOWN and not maybe:
            asked.answer = Answer.REFUSED
        self.tell("is told of {}: {}", asked.request_id, asked.code or asked.answer.value)

    def _request_id(self) -> str:
        self._requests += 1
        return f"{self.name}-request-{self._requests}"

    def _now(self) -> float:
        return self.world.now_us / 1_000_000


def _fields(request: messages.ConfirmHold) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__struct_fields__}
