"""Who uses the cluster while it is hurt: buyers and travellers over two operators, who pay, readers and a clerk.

Each writes down what it is told.

A question whose outcome nobody knows is asked again under its request id, at once and at the end, and stays one record from the first
question to the last answer. After an unknown outcome only an answer that the ledger gives is an end: "nobody serves this operator" says
nothing about the question before.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from client import api
from client.history import (
    CANCEL,
    CONFIRM,
    DONE,
    HOLD,
    MANIFEST,
    MAP,
    REFUSED,
    RELEASE,
    UNKNOWN,
    WRITES,
    Answer,
    Header,
    Leg,
    Operation,
    Record,
    line_of,
)
from datastore import messages
from datastore.errors import HoldfastError, error_from_data
from tests.faults.chaos.cluster import PAYING_MS, HurtCluster

TRIES = 3
PAUSE_S = (0.002, 0.03)
FORGET = "forget"
# How long holds last, by what they are for; 0: longer than the run. A payment that comes to nothing ends its hold, whenever that is
# decided, so the end of these is known to the judge.
HOLD_MS = {FORGET: 1_500, RELEASE: 0, CONFIRM: PAYING_MS}
SEATS = 14
OPERATORS = ("GRAND", "LUM")
CARD = "pm_card_visa"
# What says nothing about an earlier question under the same request id.
PASSING = {
    "operator_unavailable", "locks_unavailable", "lock_timeout", "node_unreachable", "not_primary", "quorum_lost", "request_in_progress",
    "resolve_needed", "stale_fence", "outcome_unknown", "caller_behind", "rate_limited", "snapshot_needed", "payments_unavailable",
}  # fmt: skip
# What no caller should ever hear: it is a fault of ours.
OURS = {"internal", "failure", "invariant_broken", "ledger_damaged", "disk_failed", "invalid_request", "idempotency_key_reused"}


class Recorder:
    """The history as it grows: in memory, and in a file line by line. Any thread may add."""

    def __init__(self, file: Path, header: Header) -> None:
        self._mutex = threading.Lock()
        self._file = file.open("wb")
        self._file.write(line_of(header))
        self.header = header
        self.records: list[Record] = []
        self.open: list[tuple[Record, Callable[[], Any]]] = []

    @staticmethod
    def now_us() -> int:
        return time.monotonic_ns() // 1000

    def add(self, record: Record) -> None:
        with self._mutex:
            self.records.append(record)
            self._file.write(line_of(record))

    def done(self) -> int:
        """Return how many writes were done so far."""
        with self._mutex:
            return sum(one.answer.outcome == DONE and one.operation.kind in WRITES for one in self.records)

    def leave_open(self, record: Record, call: Callable[[], Any]) -> None:
        """Keep a question of unknown outcome, to be asked again when all is quiet."""
        with self._mutex:
            self.open.append((record, call))

    def resolve(self, deadline_s: float) -> int:
        """Ask again whatever is open, until there is an answer; return how many are still of unknown outcome."""
        end = time.monotonic() + deadline_s
        for record, call in self.open:
            try_once(record, call, maybe_before=True)
            while record.answer.outcome == UNKNOWN and time.monotonic() < end:
                try_once(record, call, maybe_before=True)
            record.return_us = self.now_us()
            self.add(record)
        left = sum(record.answer.outcome == UNKNOWN for record, _ in self.open)
        self.open.clear()
        return left

    def close(self) -> None:
        self._file.close()


def try_once(record: Record, call: Callable[[], Any], *, maybe_before: bool) -> Any:
    """Ask once and note the answer in the record; return it, or None where there was none."""
    try:
        answer = call()
    except HoldfastError as error:
        maybe = error.maybe_committed or (maybe_before and error.code in PASSING)
        record.answer = Answer(outcome=UNKNOWN if maybe else REFUSED, code=error.code, taken=_in_the_way(record, error))
        return None
    record.answer = _answer_of(answer)
    return answer


def _in_the_way(record: Record, error: HoldfastError) -> dict[str, str]:
    """Return the seats that a refusal names, with what they are."""
    if error.code not in ("seat_unavailable", "seat_blocked") or record.is_trip:
        return {}
    service_id = record.operation.legs[0].service_id
    return {f"{service_id}/{one['seat']}": str(one["state"]) for one in error.fields.get("seats", [])}


def _answer_of(answer: Any) -> Answer:
    if isinstance(answer, messages.SeatMapAnswer):
        taken = {seat.seat_id: seat.state for seat in answer.seats if seat.state != "available"}
        return Answer(outcome=DONE, lsn=answer.lsn, taken=taken, partial=bool(answer.partial))
    if isinstance(answer, messages.ManifestAnswer):
        return Answer(outcome=DONE, lsn=answer.lsn, booked={line.seat_id: line.reference for line in answer.lines})
    return Answer(outcome=DONE, lsn=answer.lsn, reference=answer.reference if isinstance(answer, messages.OrderAnswer) else "")


class Stage:
    """What is on sale now: services of both operators on one day, some for single seats, one of each for trips. Later another day."""

    def __init__(self, cluster: HurtCluster, stage_s: float) -> None:
        self._client = cluster.client("owner-key-of-the-stage", deadline_ms=10_000)
        self._began = time.monotonic()
        self._stage_s = stage_s
        self._seats: dict[str, list[str]] = {}
        self._days: dict[int, tuple[list[Leg], list[Leg]]] = {}
        self._mutex = threading.Lock()
        self.operators: dict[str, str] = {}
        for day in range(3, 58):
            self._prepare(day)

    def _prepare(self, day: int) -> None:
        """Choose a day's services before anything is hurt: two to sell, one of each operator for trips."""
        single: list[Leg] = []
        trips: list[Leg] = []
        for operator in OPERATORS:
            found = self._client.services((date.today() + timedelta(days=day)).isoformat(), operator=operator).services
            if len(found) < 2:
                return
            for service in found[:2]:
                self.operators[service.service_id] = operator
            single.append(Leg(found[0].service_id, self._seats_of(found[0])))
            trips.append(Leg(found[1].service_id, self._seats_of(found[1])))
        self._days[len(self._days)] = (single, trips)

    def _seats_of(self, service: messages.ServiceInfo) -> list[str]:
        """Return the first seats of a service; services of one operator have few layouts, so few maps are asked for."""
        layout = service.service_id.rsplit("-", 3)[0]
        if layout not in self._seats:
            self._seats[layout] = [seat.seat_id for seat in self._client.seat_map(service.service_id).seats[:SEATS]]
        return self._seats[layout]

    def now(self) -> tuple[list[Leg], list[Leg]]:
        """Return the services on sale: (for single seats, for trips)."""
        number = int((time.monotonic() - self._began) / self._stage_s)
        return self._days[number % len(self._days)]

    @property
    def used(self) -> list[str]:
        """Return every service that was on sale so far."""
        number = int((time.monotonic() - self._began) / self._stage_s)
        days = range(min(number + 1, len(self._days)))
        return [leg.service_id for day in days for legs in self._days[day] for leg in legs]


class Caller:
    """One who asks; runs in a thread until told to stop."""

    def __init__(self, name: str, client: api.Holdfast, recorder: Recorder, stage: Stage, dice: random.Random) -> None:
        self.name = name
        self.client = client
        self.recorder = recorder
        self.stage = stage
        self.dice = dice
        self._turn = 0

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            self.turn()
            over.wait(self.dice.uniform(*PAUSE_S))

    def turn(self) -> None:
        raise NotImplementedError

    def ask(self, operation: Operation, call: Callable[[], Any], tries: int = TRIES) -> Any:
        """Ask until there is an answer, `tries` times at most; return it, or None. The record is kept in any case."""
        record = Record(client=self.name, call_us=self.recorder.now_us(), operation=operation, answer=Answer())
        answer: Any = None
        for number in range(tries):
            answer = try_once(record, call, maybe_before=number > 0)
            record.return_us = self.recorder.now_us()
            if record.answer.outcome != UNKNOWN:
                break
        if record.answer.outcome == UNKNOWN and operation.request_id:
            self.recorder.leave_open(record, call)
        else:
            self.recorder.add(record)
        return answer

    def write(self, kind: str, legs: Sequence[Leg], hold: str, call: Callable[[str], Any], lasts_ms: int = 0) -> Any:
        """Ask for a write under a new request id; `hold` "" is the request itself."""
        self._turn += 1
        request_id = f"{self.name}-{self._turn:06}-{kind}"
        operation = Operation(
            kind=kind,
            request_id=request_id,
            operator=self.stage.operators[legs[0].service_id],
            legs=list(legs),
            hold=hold or request_id,
            lasts_ms=lasts_ms,
        )
        return self.ask(operation, lambda: call(request_id))


class Buyer(Caller):
    """Holds one to three seats of one service, or of both legs of a trip; then pays for them, gives them back, or forgets them."""

    trips = False

    def turn(self) -> None:
        single, trips = self.stage.now()
        if self.trips:
            places = self.dice.sample(range(SEATS), self.dice.choice([1, 1, 2]))
            order = list(trips) if self.dice.random() < 0.5 else list(reversed(trips))
            wanted = [Leg(leg.service_id, [leg.seats[place] for place in places]) for leg in order]
        else:
            leg = self.dice.choice(single)
            wanted = [Leg(leg.service_id, self.dice.sample(leg.seats, self.dice.choice([1, 1, 2, 3])))]
        aim = self.dice.choices([FORGET, RELEASE, CONFIRM], [15, 34, 51])[0]
        held = self._hold(wanted, HOLD_MS[aim])
        if held is None or aim == FORGET:
            return
        hold = f"{self.name}-{self._turn:06}-{HOLD}"
        if aim == RELEASE:
            self.write(RELEASE, wanted, hold, lambda request_id: self.client.release(held.hold_id, request_id=request_id))
            return
        people = [api.Passenger(f"Passenger-{self.name}") for _ in wanted[0].seats]
        order_made = self.write(CONFIRM, wanted, hold, partial(self._confirm, held.hold_id, people))
        if order_made is not None and self.dice.random() < 0.85:
            reference, token = order_made.reference, order_made.manage_token
            self.write(CANCEL, wanted, hold, lambda request_id: self.client.cancel(reference, token, request_id=request_id))

    def book_one(self, leg: Leg) -> bool:
        """Book one seat of a service, whichever is free, and keep it; return whether that was done."""
        for seat in leg.seats:
            wanted = [Leg(leg.service_id, [seat])]
            held = self._hold(wanted, HOLD_MS[CONFIRM])
            if held is not None:
                hold = f"{self.name}-{self._turn:06}-{HOLD}"
                people = [api.Passenger(f"Passenger-{self.name}")]
                order = self.write(CONFIRM, wanted, hold, partial(self._confirm, held.hold_id, people))
                return order is not None
        return False

    def _confirm(self, hold_id: str, people: list[api.Passenger], request_id: str) -> messages.OrderAnswer:
        return self.client.confirm(hold_id, people, request_id=request_id, payment_method=CARD)

    def _hold(self, wanted: list[Leg], ttl_ms: int) -> messages.HoldAnswer | None:
        in_bulk = not self.trips and self.dice.random() < 0.3

        def call(request_id: str) -> messages.HoldAnswer:
            if self.trips:
                legs = [(leg.service_id, leg.seats) for leg in wanted]
                return self.client.hold_trip(legs, ttl_ms=ttl_ms, request_id=request_id)
            if in_bulk:
                (made,) = self.client.hold_each(wanted[0].service_id, [wanted[0].seats], ttl_ms=ttl_ms, request_id=request_id)
                if made.hold is None:
                    raise error_from_data(made.error)
                return made.hold
            return self.client.hold(wanted[0].service_id, wanted[0].seats, ttl_ms=ttl_ms, request_id=request_id)

        answer: messages.HoldAnswer | None = self.write(HOLD, wanted, "", call, ttl_ms)
        return answer


class Traveller(Buyer):
    """A buyer of trips over both operators: both legs or none."""

    trips = True


class Reader(Caller):
    """Looks at maps of one balancer, and never wants to see less than it has seen."""

    def __init__(self, *told: Any) -> None:
        super().__init__(*told)
        self._seen: dict[str, int] = {}

    def turn(self) -> None:
        service_id = self.dice.choice(self.stage.now()[0]).service_id
        operator = self.stage.operators[service_id]
        least = self._seen.get(operator, 0)
        operation = Operation(kind=MAP, operator=operator, legs=[Leg(service_id, [])], min_lsn=least)
        answer = self.ask(operation, lambda: self.client.seat_map(service_id, min_lsn=least), tries=1)
        if answer is not None:
            self._seen[operator] = max(least, answer.lsn)


class Clerk(Caller):
    """Reads manifests, which the primaries answer: nothing acknowledged may be missing in them."""

    PAUSE_S = 0.15

    def __init__(self, *told: Any, keys: dict[str, str]) -> None:
        super().__init__(*told)
        self._keys = keys

    def run(self, over: threading.Event) -> None:
        while not over.wait(self.PAUSE_S):
            self.look(self.dice.choice(self.stage.now()[0]).service_id)

    def look(self, service_id: str) -> messages.ManifestAnswer | None:
        operator = self.stage.operators[service_id]
        operation = Operation(kind=MANIFEST, operator=operator, legs=[Leg(service_id, [])])
        key = self._keys[operator]
        answer: messages.ManifestAnswer | None = self.ask(operation, lambda: self.client.manifest(key, service_id), tries=1)
        return answer

    def look_at_map(self, service_id: str, min_lsn: int) -> messages.SeatMapAnswer | None:
        operation = Operation(kind=MAP, operator=self.stage.operators[service_id], legs=[Leg(service_id, [])], min_lsn=min_lsn)
        answer: messages.SeatMapAnswer | None = self.ask(operation, lambda: self.client.seat_map(service_id, min_lsn=min_lsn), tries=1)
        return answer
