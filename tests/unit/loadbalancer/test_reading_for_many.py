"""Holds that one thread reads for many callers: the same answers, and only what needs no waiting is begun there."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from datastore import messages
from datastore.edge import EdgeClient
from datastore.errors import HoldfastError
from loadbalancer.selling import Begun, Selling
from loadbalancer.waiting import now_ms
from tests.unit.loadbalancer.scenery import FLIGHT, OWNER, Scene, scene

CALLERS = 6


def hold(scene: Scene, *seats: str, service: str = FLIGHT, **more: Any) -> messages.HoldSeats:
    return messages.HoldSeats(
        request_id=scene.request_id(), owner_key=OWNER, service_id=service, seats=list(seats), deadline_ms=20_000, **more
    )


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that was read for its thread was begun there."""
    found: list[bool] = []
    begin = Selling.begin_hold

    def noting(self: Any, request: messages.HoldSeats, unread_ms: int) -> Begun | None:
        try:
            answer: Begun | None = begin(self, request, unread_ms)
        except HoldfastError:
            found.append(False)
            raise
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(Selling, "begin_hold", noting)
    return found


def expected(request: messages.HoldSeats) -> str:
    """Return what a request of the test below is answered with: the one seat, or the code of the error."""
    if request.service_id != FLIGHT:
        return "unknown_service"
    if len(request.seats) != 1:
        return "invalid_request"
    return "unknown_seat" if request.seats == ["99Z"] else request.seats[0]


def test_each_caller_hears_its_own_answer(begun: list[bool]) -> None:
    """Callers at once over real connections: each seat has one owner, and what is wrong is told in the same words."""
    with scene(owner_holds_max=100, service_holds_max=100) as made:
        made.server._edge.start()
        submit = made.managers.submit

        def slowly(*arguments: Any) -> Any:
            threading.Event().wait(0.003)  # So that there is always somebody else under way.
            return submit(*arguments)

        made.managers.submit = slowly  # type: ignore[method-assign]
        client = EdgeClient(made.server.address)
        requests = {}
        seats = [f"{row}{letter}" for row in range(3, 8) for letter in "ABCD"]
        for number in range(CALLERS):
            mine = [hold(made, seat) for seat in seats[number::CALLERS]] * 3  # The same request again has the first answer.
            wrong = [hold(made, "99Z"), hold(made, "3A", service=FLIGHT.replace("1140", "1141")), hold(made), hold(made, "3A", "3A")]
            requests[number] = [one for pair in zip(mine, wrong * len(mine), strict=False) for one in pair] + mine
        found: dict[int, list[str]] = {number: [] for number in requests}

        def caller(number: int) -> None:
            for request in requests[number]:
                try:
                    reply = client.call("hold", messages.encode(request), 30_000)
                    answer: Any = messages.decode_answer("hold", reply)
                    found[number].append(",".join(answer.seats))
                except HoldfastError as error:
                    found[number].append(error.code)

        threads = [threading.Thread(target=caller, args=(number,)) for number in requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for number, asked in requests.items():
            assert found[number] == [expected(request) for request in asked]
        client.close()
        made.server._edge.close()
    assert begun.count(True) > 20
    assert False in begun


def test_what_would_wait_is_not_begun() -> None:
    """The best available, an offer, a service that is not at hand, a seat that nobody knows: the thread of its own sees to them."""
    with scene() as made:
        selling = made.server._selling
        assert selling.begin_hold(hold(made, "3A"), 0) is None  # Nobody has asked for this service yet.
        made.ask("hold", hold(made, "3A"))
        assert selling.begin_hold(hold(made, count=2), 0) is None
        assert selling.begin_hold(hold(made, "3B", offer="offer"), 0) is None
        assert selling.begin_hold(hold(made, "99Z"), 0) is None
        assert selling.begin_hold(hold(made, "3B", service="XX1"), 0) is None
        began = selling.begin_hold(hold(made, "3B"), 0)
        assert began is not None
        made.server.balancer.pipeline.go()
        assert not began.waiter.wait(began.deadline_ms)[0].error


def test_time_unread_is_time_gone() -> None:
    """A request that lay unread past its deadline is not carried out: its caller has given up."""
    with scene() as made:
        made.ask("hold", hold(made, "3A"))
        selling = made.server._selling
        late = selling.begin_hold(hold(made, "4A"), 20_001)
        in_time = selling.begin_hold(hold(made, "4B"), 10_000)
        assert late is not None
        assert in_time is not None
        assert in_time.deadline_ms <= now_ms() + 10_000
        made.server.balancer.pipeline.go()
        assert late.waiter.wait(now_ms() + 5_000)[0].error["code"] == "lock_timeout"
        assert not in_time.waiter.wait(in_time.deadline_ms)[0].error
