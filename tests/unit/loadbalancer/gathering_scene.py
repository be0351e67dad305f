"""A balancer that answers when it is let, and threads that ask it for holds through one `Gathering`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from datastore import messages
from datastore.errors import HoldfastError, OutcomeUnknown
from datastore.model import Money
from loadbalancer import gathering
from loadbalancer.gathering import Gathering
from tests.waiting import wait_until

DEADLINE_MS = 10_000
Verdict = Callable[[str], HoldfastError | None]


def hold(seat: str, service: str = "AR1", deadline_ms: int = DEADLINE_MS, **more: Any) -> messages.HoldSeats:
    """Return the request of a hold; its id is the seat's name."""
    fixed = {"request_id": f"id-{seat}", "owner_key": "k" * 32, "service_id": service, "seats": [seat], "deadline_ms": deadline_ms}
    return messages.HoldSeats(**{**fixed, **more})


def answer_to(request: messages.HoldSeats) -> messages.HoldAnswer:
    nothing = Money(0, "EUR")
    return messages.HoldAnswer(
        hold_id=f"hold of {request.request_id}",
        operator=request.service_id[:2],
        service_id=request.service_id,
        seats=list(request.seats),
        state="active",
        created_ms=0,
        expires_ms=0,
        remaining_ms=0,
        prices=[nothing],
        total=nothing,
        refundable_percent=0,
        lsn=1,
    )


class Balancer:
    """Answers when it is let: by the operator, if `closed` names it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str]]] = []
        self.deadlines: list[int] = []
        self.doubts: list[str] = []  # of whom an earlier try was said to be in doubt
        self.gates: dict[str, threading.Event] = {}
        self.says: Verdict = lambda _seat: None
        self.says_of_all: Callable[[], HoldfastError | None] = lambda: None
        self.takes_s = 0.0
        self.forgets = 0  # so many results of each message
        self._held_up: dict[str, threading.Event] = {}
        self._mutex = threading.Lock()

    def close(self, operator: str) -> None:
        self.gates[operator] = threading.Event()

    def open(self, operator: str) -> None:
        self.gates.pop(operator).set()

    def hold_up(self, seat: str) -> threading.Event:
        """Answer no first message that begins with that seat before the event is set."""
        return self._held_up.setdefault(seat, threading.Event())

    def ask(self, method: str, request: messages.Request, unknown: OutcomeUnknown | None) -> messages.Answer:
        holds = request.holds if isinstance(request, messages.HoldMany) else [request]
        named = [one for one in holds if isinstance(one, messages.HoldSeats)]
        with self._mutex:
            self.messages.append((method, [one.seats[0] if one.seats else "best" for one in named]))
            self.deadlines.append(request.deadline_ms)
            if unknown is not None:
                self.doubts += [one.seats[0] for one in named]
        gate = self.gates.get(named[0].service_id[:2])
        if gate is not None:
            assert gate.wait(60)
        held_up = self._held_up.get(named[0].seats[0]) if named[0].seats else None
        assert held_up is None or held_up.wait(60)
        threading.Event().wait(self.takes_s)
        if method == "hold":
            error = self.says(named[0].seats[0] if named[0].seats else "best")
            if error is not None:
                raise error
            return answer_to(named[0])
        assert method == "hold_many"
        error = self.says_of_all()
        if error is not None:
            raise error
        results = []
        for one in named:
            error = self.says(one.seats[0])
            results.append(messages.HoldResult(error=error.to_data()) if error is not None else messages.HoldResult(hold=answer_to(one)))
        return messages.HoldManyAnswer(results=results[: len(results) - self.forgets])


class Scene:
    """A balancer, what gathers for it, and threads that ask; AR1 and LA1 are known to be AR's and LA's."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.balancer = Balancer()
        self.gathering = Gathering(self.balancer.ask)
        self.threads: dict[str, int] = {}  # seat -> who asks for it
        self._pool = pool
        for service in ("AR1", "LA1"):
            self.gathering.hold(hold("first", service))
        self.balancer.messages.clear()

    def ask(self, request: messages.HoldSeats) -> Future[messages.Answer]:
        def ask() -> messages.Answer:
            self.threads[request.seats[0] if request.seats else ""] = threading.get_ident()
            return self.gathering.hold(request)

        return self._pool.submit(ask)

    def waiting(self, operator: str = "AR") -> int:
        return len(self.gathering._lines[operator].waiting)

    def ask_all(self, *seats: str, service: str = "AR1", after: int = 0) -> list[Future[messages.Answer]]:
        """Ask for one after the other; return when all of them wait behind what is under way."""
        asked = []
        for number, seat in enumerate(seats, after + 1):
            asked.append(self.ask(hold(seat, service)))
            wait_until(lambda number=number: self.waiting(service[:2]) == number, f"{seat} to wait", 10)
        return asked

    def under_way(self, seat: str, service: str = "AR1") -> Future[messages.Answer]:
        """Ask for a seat at an operator that does not answer; return when it has been asked."""
        self.balancer.close(service[:2])
        found = self.ask(hold(seat, service))
        wait_until(lambda: ("hold", [seat]) in self.balancer.messages, f"{seat} to be asked for", 10)
        return found


@contextmanager
def made(turn_s: float = 50.0) -> Iterator[Scene]:
    """A scene in which nobody is helped by waiting too long, unless it is said how long that is."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(32) as pool:
        patch.setattr(gathering, "TURN_S", turn_s)
        scene = Scene(pool)
        try:
            yield scene
        finally:
            for operator in list(scene.balancer.gates):
                scene.balancer.open(operator)
        pool.shutdown(wait=True)
        assert [line for line in scene.gathering._lines.values() if line.is_busy or line.waiting] == []


def ids(found: list[Future[messages.Answer]]) -> list[str]:
    answers = [one.result(60) for one in found]
    return [answer.hold_id for answer in answers if isinstance(answer, messages.HoldAnswer)]


def once(seat: str, failure: HoldfastError) -> Verdict:
    """Return who says that failure to the first who asks for the seat, and nothing against anybody else."""
    left = [failure]
    return lambda asked: left.pop() if asked == seat and left else None
