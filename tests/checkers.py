"""Checks of what buyers were told against what is there in the end. They know the history and nothing of how it came about.

A history is a list of operations, each with when it was asked, when it was answered and what the answer was. Three kinds of
answer are told apart: it was done, it was refused (and so had no effect), or nobody knows (it may have happened, then or
later). From these follow two spans for every hold that somebody asked for:

- *certainly owned*: from the answer "done" to the moment at which the owner asked to give it back, or at which it could run out;
- *possibly owned*: from the question on, to the answer "given back"; for an operation of unknown outcome, without end.

No seat may be certainly owned twice at any moment, nobody may be refused a seat that was not possibly owned by another, and
what is there in the end is exactly what was acknowledged, give or take what nobody knows.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

FOREVER = float("inf")


class Answer(Enum):
    """What the caller knows after the call."""

    DONE = "done"
    REFUSED = "refused"  # certainly without effect
    UNKNOWN = "unknown"  # it may have happened, or may happen yet


@dataclass
class Operation:
    """One question and its answer. Times are seconds of the monotonic clock of the test's process.

    Attributes:
        kind: "hold", "confirm", "release" or "cancel".
        seats: What was asked for, for "hold"; filled in from the answer for any seats.
        count: How many of the best seats were asked for; 0 where `seats` says which.
        hold_id: The hold concerned: from the answer for "hold".
        lasts_s: How long a hold lasts, counted from the question at the earliest.
        reference: The order that a confirm made.
        code: The error's code, "" where it was done.
    """

    buyer: str
    kind: str
    request_id: str
    service_id: str
    seats: tuple[str, ...] = ()
    hold_id: str = ""
    lasts_s: float = FOREVER
    asked: float = 0.0
    answered: float = FOREVER
    answer: Answer = Answer.UNKNOWN
    reference: str = ""
    code: str = ""
    count: int = 0


class History:
    """Operations of any number of threads, in the order in which they were asked."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.operations: list[Operation] = []

    def ask(self, operation: Operation) -> Operation:
        """Note that `operation` is asked now."""
        operation.asked = time.monotonic()
        with self._mutex:
            self.operations.append(operation)
        return operation

    def done(self, operation: Operation, *, hold_id: str = "", seats: Sequence[str] = (), reference: str = "") -> None:
        """Note that it was done."""
        operation.answered = time.monotonic()
        operation.hold_id = hold_id or operation.hold_id
        operation.seats = tuple(seats) or operation.seats
        operation.reference = reference
        operation.answer = Answer.DONE

    def failed(self, operation: Operation, code: str, *, maybe: bool) -> None:
        """Note that it was refused, or, with `maybe`, that nobody knows."""
        operation.answered = time.monotonic()
        operation.code = code
        operation.answer = Answer.UNKNOWN if maybe else Answer.REFUSED

    def of(self, service_id: str, kind: str = "", answer: Answer | None = None) -> list[Operation]:
        """Return the operations on a service, of one kind and one answer where given."""
        with self._mutex:
            return [
                one
                for one in self.operations
                if one.service_id == service_id and kind in ("", one.kind) and (answer is None or one.answer is answer)
            ]

    def codes(self, service_id: str) -> dict[str, int]:
        """Return how often each answer was given on a service; "" is done."""
        counts: dict[str, int] = {}
        for one in self.of(service_id):
            counts[one.code] = counts.get(one.code, 0) + 1
        return counts


@dataclass
class Final:
    """What is there when all is quiet.

    Attributes:
        states: Seat -> "available", "held", "occupied" or "blocked", of every seat of the service.
        manifest: Seat -> booking reference.
        held: Seat -> hold id, as the owners' own lists of holds tell.
    """

    states: Mapping[str, str]
    manifest: Mapping[str, str]
    held: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ownership:
    """The spans of one hold; see the module's first lines."""

    operation: Operation
    certain: tuple[float, float]
    possible: tuple[float, float]
    reference: str  # of the order it certainly became, or ""
    maybe_order: bool
    ended: bool  # certainly given back


def check(history: History, service_id: str, final: Final | None = None) -> list[str]:
    """Return what is wrong about one service, a sentence each; [] where all is well."""
    return check_operations(history.of(service_id), final, time.monotonic())


def check_operations(operations: Sequence[Operation], final: Final | None, now: float) -> list[str]:
    """Return what is wrong about the operations on one service; `now`: when `final` was looked at, on their clock."""
    owned = _ownerships(operations)
    refused = [one for one in operations if one.kind == "hold" and one.answer is Answer.REFUSED]
    faults = [*_two_owners(owned), *_wrong_refusals(refused, owned)]
    if final is not None:
        faults += [*_lost(owned, final, now), *_unexplained(owned, final)]
    return faults


def _ownerships(operations: Iterable[Operation]) -> list[_Ownership]:
    """Return the spans of every hold that was made or may have been made."""
    found: list[_Ownership] = []
    operations = list(operations)
    for hold in operations:
        if hold.kind != "hold" or hold.answer is Answer.REFUSED:
            continue
        later = [one for one in operations if one.kind != "hold" and hold.hold_id and one.hold_id == hold.hold_id]
        ends = [one for one in later if one.kind in ("release", "cancel") and one.answer is not Answer.REFUSED]
        orders = [one for one in later if one.kind == "confirm" and one.answer is Answer.DONE]
        runs_out = FOREVER if orders else hold.asked + hold.lasts_s
        certain = (hold.answered, min([runs_out, *[one.asked for one in ends]])) if hold.answer is Answer.DONE else (FOREVER, FOREVER)
        given_back = [one.answered for one in ends if one.answer is Answer.DONE]
        maybe_order = any(one.kind == "confirm" and one.answer is Answer.UNKNOWN for one in later)
        # A hold that ran out may stay in the way until somebody meets it: its possible end is left open.
        possible = (hold.asked, min([FOREVER, *given_back]))
        found.append(_Ownership(hold, certain, possible, orders[0].reference if orders else "", maybe_order, bool(given_back)))
    return found


def _two_owners(owned: Sequence[_Ownership]) -> list[str]:
    """A seat is certainly owned by one buyer at a time."""
    spans: dict[str, list[tuple[tuple[float, float], Operation]]] = {}
    for one in owned:
        if one.certain[0] < one.certain[1]:
            for seat in one.operation.seats:
                spans.setdefault(seat, []).append((one.certain, one.operation))
    faults = []
    for seat, claims in spans.items():
        claims.sort(key=lambda claim: claim[0])
        for (first, holder), (second, other) in itertools.pairwise(claims):
            if second[0] < first[1] and holder.hold_id != other.hold_id:
                faults.append(f"seat {seat} was sold twice: {holder.hold_id} of {holder.buyer} and {other.hold_id} of {other.buyer}")
    return faults


def _wrong_refusals(refused: Iterable[Operation], owned: Sequence[_Ownership]) -> list[str]:
    """Who is told that a seat is gone was beaten to it by somebody: a free seat is refused to nobody."""
    faults = []
    for one in refused:
        if one.code != "seat_unavailable" or not one.seats:
            continue
        if not any(
            set(other.operation.seats) & set(one.seats) and other.possible[0] <= one.answered and one.asked <= other.possible[1]
            for other in owned
        ):
            faults.append(f"{one.buyer} was refused {one.seats} ({one.request_id}), which nobody else can have had")
    return faults


def _lost(owned: Sequence[_Ownership], final: Final, now: float) -> list[str]:
    """What was acknowledged and not given back is there."""
    faults = []
    for one in owned:
        hold = one.operation
        for seat in hold.seats:
            state = final.states.get(seat, "no such seat")
            if one.reference and not one.ended and one.possible[1] == FOREVER and one.certain[1] == FOREVER:
                if final.manifest.get(seat) != one.reference or state != "occupied":
                    faults.append(f"order {one.reference} on seat {seat} was acknowledged; it is {state} by {final.manifest.get(seat)}")
            elif one.certain[0] < now < one.certain[1] and not one.maybe_order and not one.reference and state != "held":
                faults.append(f"hold {hold.hold_id} on seat {seat} was acknowledged; it is {state}")
    return faults


def _unexplained(owned: Sequence[_Ownership], final: Final) -> list[str]:
    """What is there was acknowledged to somebody, or is of unknown outcome: a refused request had no effect."""
    faults = []
    references = {one.reference for one in owned if one.reference}
    for seat, state in final.states.items():
        claims = [one for one in owned if seat in one.operation.seats and one.possible[1] == FOREVER]
        if state in ("held", "occupied") and not claims:
            faults.append(f"seat {seat} is {state} and nobody was told so")
        reference = final.manifest.get(seat)
        if reference is not None and reference not in references and not any(one.maybe_order for one in claims):
            faults.append(f"seat {seat} is booked as {reference}, which nobody was told")
        hold_id = final.held.get(seat)
        if hold_id and not any(one.operation.hold_id in ("", hold_id) for one in claims):
            faults.append(f"seat {seat} is held by {hold_id}, which nobody was told")
    return faults
