"""What threads ask for at the same time travels together; each hears what it would have heard alone, whatever the others meet."""

from __future__ import annotations

import ctypes
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from datastore import messages
from datastore.errors import (
    HoldfastError,
    InvalidRequest,
    LockTimeout,
    NodeUnreachable,
    OperatorUnavailable,
    OutcomeUnknown,
    SeatUnavailable,
    StaleFence,
    error_from_data,
)
from loadbalancer import gathering
from loadbalancer.gathering import PATIENCE_MS
from tests.unit.loadbalancer.gathering_scene import DEADLINE_MS, hold, ids, made, once
from tests.waiting import wait_until


def test_one_who_asks_alone_is_sent_at_once() -> None:
    """As a hold of its own, with all of its time; also of a service that was never asked for."""
    with made() as scene:
        for service in ("AR1", "AR1", "QR9"):
            found = scene.gathering.hold(hold("1A", service))
            assert isinstance(found, messages.HoldAnswer) and found.operator == service[:2]
        assert scene.balancer.messages == [("hold", ["1A"])] * 3
        assert scene.balancer.deadlines[-3:] == [DEADLINE_MS] * 3


def test_what_is_asked_while_a_message_is_under_way_is_the_next_one() -> None:
    """In the order of asking; each hears its own answer, and what came meanwhile goes after it."""
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        scene.balancer.open("AR")
        assert ids([first, *rest]) == [f"hold of id-{seat}" for seat in ("1A", "1B", "1C", "1D")]
        assert scene.balancer.messages == [("hold", ["1A"]), ("hold_many", ["1B", "1C", "1D"])]
        assert scene.balancer.deadlines[-1] == PATIENCE_MS


def test_a_single_one_that_waited_is_a_hold_again() -> None:
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B")
        scene.balancer.open("AR")
        ids([first, *rest])
        assert scene.balancer.messages == [("hold", ["1A"]), ("hold", ["1B"])]


def test_each_hears_the_error_that_is_its_own() -> None:
    """Same class, same words, same fields, its own request id; the others are held."""

    def says(seat: str) -> HoldfastError | None:
        return SeatUnavailable("1C is held", request_id="id-1C", seats=[{"seat": "1C", "state": "held"}]) if seat == "1C" else None

    with made() as scene:
        scene.balancer.says = says
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        scene.balancer.open("AR")
        with pytest.raises(SeatUnavailable, match="1C is held") as refused:
            rest[1].result(60)
        assert (refused.value.request_id, refused.value.fields["seats"]) == ("id-1C", [{"seat": "1C", "state": "held"}])
        assert len(ids([first, rest[0], rest[2]])) == 3
        assert len(scene.balancer.messages) == 2  # A refusal is final.


def test_nobody_waits_for_another_operator() -> None:
    """One that does not answer keeps its own buyers alone; its messages have nobody else's holds in them."""
    with made() as scene:
        stuck = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        assert ids([scene.ask(hold("9A", "LA1")), scene.ask(hold("9B", "LA1"))])
        assert not stuck.done()
        scene.balancer.open("AR")
        assert len(ids([stuck, *rest])) == 3
        for _, seats in scene.balancer.messages:
            assert len({seat[0] for seat in seats}) == 1


@pytest.mark.parametrize(
    "failure", [LockTimeout("locked"), OperatorUnavailable("no primary"), OutcomeUnknown("no answer"), StaleFence("a newer lock was seen")]
)
def test_what_a_message_did_not_decide_each_asks_for_itself(failure: HoldfastError) -> None:
    """With what is left of its time, and with the doubt that the first try left; the others have their answers before."""
    with made() as scene:
        scene.balancer.says = once("1C", failure)
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 3
        assert scene.balancer.messages[1:] == [("hold_many", ["1B", "1C"]), ("hold", ["1C"])]
        assert 0 < scene.balancer.deadlines[-1] < DEADLINE_MS
        assert scene.balancer.doubts == (["1C"] if isinstance(failure, OutcomeUnknown) else [])


@pytest.mark.parametrize("failure", [InvalidRequest("not a message"), OperatorUnavailable("no manager"), ValueError("a slip")])
def test_what_is_wrong_with_a_message_is_not_said_to_all(failure: Any) -> None:
    """Each asks for itself and hears what is wrong with its own."""
    with made() as scene:
        scene.balancer.says_of_all = lambda: failure
        scene.balancer.says = lambda seat: InvalidRequest("1C is no seat") if seat == "1C" else None
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        scene.balancer.open("AR")
        assert len(ids([first, rest[0], rest[2]])) == 3
        with pytest.raises(InvalidRequest, match="1C is no seat"):
            rest[1].result(60)
        assert sorted(scene.balancer.messages[2:]) == [("hold", ["1B"]), ("hold", ["1C"]), ("hold", ["1D"])]


@pytest.mark.parametrize(
    ("failure", "is_doubt"),
    [
        (NodeUnreachable("nobody listens"), False),
        (OutcomeUnknown("no reply within 400 ms"), True),
        (error_from_data({"code": "internal", "detail": "a fault", "maybe_committed": True}), True),
    ],
    ids=["nobody there", "no answer", "a fault"],
)
def test_what_a_message_as_a_whole_left_open_is_told_with_the_doubt(failure: HoldfastError, is_doubt: bool) -> None:
    """Each asks for itself; whether the first try may have been done is not forgotten."""
    with made() as scene:
        scene.balancer.says_of_all = lambda: failure
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 3
        assert sorted(scene.balancer.messages[2:]) == [("hold", ["1B"]), ("hold", ["1C"])]
        assert sorted(scene.balancer.doubts) == (["1B", "1C"] if is_doubt else [])


def test_an_answer_that_does_not_fit_leaves_all_in_doubt() -> None:
    with made() as scene:
        scene.balancer.forgets = 1
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 3
        assert sorted(scene.balancer.doubts) == ["1B", "1C"]


def test_some_never_wait() -> None:
    """Little time, very much, many seats, the best available, an offer: sent at once, alone, whatever is under way."""
    with made() as scene:
        stuck = scene.under_way("1A")
        gate = scene.balancer.gates.pop("AR")
        alone = [
            hold("2A", deadline_ms=gathering.DEADLINE_MIN_MS - 1),
            hold("2B", deadline_ms=gathering.DEADLINE_MAX_MS + 1),
            hold("2C", seats=[f"{row}C" for row in range(2, 12)]),
            hold("", seats=[], count=2),
            hold("2D", offer="o" * 16),
        ]
        assert len(ids([scene.ask(one) for one in alone])) == 5
        assert not stuck.done()
        assert [method for method, _ in scene.balancer.messages] == ["hold"] * 6
        gate.set()


def test_two_who_want_one_seat_are_in_two_messages() -> None:
    """The second can only be answered after the first, and would keep the others so long."""
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        rest.append(scene.ask(hold("1B", request_id="id-rival")))
        wait_until(lambda: scene.waiting() == 3, "the rival to wait", 10)
        rest += scene.ask_all("1D", after=3)
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 5
        assert scene.balancer.messages[1:] == [("hold_many", ["1B", "1C", "1D"]), ("hold", ["1B"])]


def test_a_message_has_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "HOLDS_MAX", 2)
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 4
        assert scene.balancer.messages[1:] == [("hold_many", ["1B", "1C"]), ("hold", ["1D"])]


def test_who_has_no_time_left_hears_what_is_sure() -> None:
    """Nothing was done where nothing was; that it may have been, where it was sent. Neither is sent again."""
    for failure, kind in ((InvalidRequest("a slip"), NodeUnreachable), (OutcomeUnknown("no reply"), OutcomeUnknown)):
        with made() as scene:
            scene.balancer.says_of_all = lambda failure=failure: failure
            first = scene.under_way("1A")
            rest = scene.ask_all("1B", "1C")
            scene.gathering._lines["AR"].waiting[1].until -= DEADLINE_MS / 1000
            scene.balancer.open("AR")
            assert len(ids([first, rest[0]])) == 2
            with pytest.raises(kind) as heard:
                rest[1].result(60)
            assert heard.value.request_id == "id-1C"
            assert ("hold", ["1C"]) not in scene.balancer.messages


def test_what_is_known_of_services_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "SERVICES_KNOWN", 3)
    with made() as scene:
        for number in range(10):
            scene.gathering.hold(hold("1A", f"QR{number}"))
            assert len(scene.gathering._operators) <= 3


def test_a_refusal_of_the_first_frees_the_line() -> None:
    """Those behind it go on."""
    with made() as scene:
        scene.balancer.says = lambda seat: SeatUnavailable("1A is held") if seat == "1A" else None
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        scene.balancer.open("AR")
        with pytest.raises(SeatUnavailable):
            first.result(60)
        assert len(ids(rest)) == 2


def test_one_that_is_held_up_keeps_the_others_for_a_moment() -> None:
    """A lone hold of a seat that stays locked: those behind it go on without it, and its service's holds go alone from then on."""
    with made(turn_s=0.2) as scene:
        gate = scene.balancer.hold_up("1A")
        stuck = scene.ask(hold("1A"))
        wait_until(lambda: scene.balancer.messages, "it to be asked for", 10)
        rest = [scene.ask(hold(seat)) for seat in ("1B", "1C", "1D")]
        assert len(ids(rest)) == 3
        sent = len(scene.balancer.messages)
        assert set(scene.gathering._apart) == {"AR1"}
        assert len(ids([scene.ask(hold("1E")), scene.ask(hold("1F"))])) == 2
        assert sorted(scene.balancer.messages[sent:]) == [("hold", ["1E"]), ("hold", ["1F"])]
        assert not stuck.done()
        gate.set()
        assert len(ids([stuck])) == 1


def test_a_message_that_is_held_up_is_left_in_doubt() -> None:
    """Who waited too long in it asks for itself, and says that it may have been done; who is behind goes on."""
    with made(turn_s=0.2) as scene:
        first = scene.under_way("1A")
        rest = [scene.ask(hold(seat)) for seat in ("1B", "1C", "1D")]
        wait_until(lambda: scene.waiting() == 3, "all to wait", 10)
        carrier = scene.gathering._lines["AR"].waiting[0].request.seats[0]
        gate = scene.balancer.hold_up(carrier)
        scene.balancer.open("AR")
        assert len(ids([first])) == 1
        others = [one for one, seat in zip(rest, ("1B", "1C", "1D"), strict=True) if seat != carrier]
        assert len(ids(others)) == 2
        assert sorted(scene.balancer.doubts) == sorted({"1B", "1C", "1D"} - {carrier})
        gate.set()
        assert len(ids(rest)) == 3


def test_a_line_that_nobody_goes_on_with_is_taken_over() -> None:
    """Should a thread vanish between two steps: who waited asks alone in time, and those behind go on too."""
    with made(turn_s=0.2) as scene:
        line = scene.gathering._lines.setdefault("AR", gathering._Line())
        line.begin({"AR8"})
        assert len(ids([scene.ask(hold(seat)) for seat in ("1A", "1B", "1C")])) == 3
        assert not line.is_busy


def test_the_last_one_to_leave_goes_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that left with the first would be without those who are on their way back; one from each would be many small ones."""
    with made() as scene:
        went_on: list[int] = []
        go_on = scene.gathering._go_on

        def counted(line: gathering._Line, number: int) -> None:
            went_on.append(number)
            go_on(line, number)

        monkeypatch.setattr(scene.gathering, "_go_on", counted)
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D", "1E")
        line = scene.gathering._lines["AR"]
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 5
        wait_until(lambda: not line.is_busy, "all to have left", 10)
        assert went_on == [line.number - 1, line.number]


def test_whose_line_was_taken_over_does_not_go_on() -> None:
    """There would be two at it from then on."""
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B")
        line = scene.gathering._lines["AR"]
        scene.gathering._go_on(line, line.number - 1)
        assert (scene.waiting(), scene.balancer.messages) == (1, [("hold", ["1A"])])
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 2


def test_what_was_not_decided_goes_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services of such holds, not the others; and not for ever."""
    with made() as scene:
        scene.balancer.says = once("1C", LockTimeout("locked"))
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C")
        scene.balancer.open("AR")
        assert len(ids([first, *rest])) == 3
        scene.gathering.hold(hold("5A", "AR2"))
        stuck = scene.under_way("5B", "AR2")
        gate = scene.balancer.gates.pop("AR")
        assert len(ids([scene.ask(hold("1D"))])) == 1
        monkeypatch.setitem(scene.gathering._apart, "AR1", 0.0)
        last = scene.ask_all("1E")
        assert not stuck.done()
        gate.set()
        assert len(ids([stuck, *last])) == 2


@pytest.mark.parametrize("which", [0, 1], ids=["who was to carry", "who was to be carried"])
def test_a_thread_that_is_interrupted_leaves_the_others_their_way(which: int) -> None:
    """In the very moment in which its turn comes: the rest is carried by the next one, or goes on when all have left."""
    with made() as scene:
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        line = scene.gathering._lines["AR"]
        seat = line.waiting[which].request.seats[0]
        thread = scene.threads[seat]
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)) == 1
        scene.balancer.open("AR")
        others = [one for number, one in enumerate(rest) if number != which]
        assert len(ids([first, *others])) == 3
        with pytest.raises(KeyboardInterrupt):
            rest[which].result(60)
        assert len(ids([scene.ask(hold("2A"))])) == 1
        sent = ["1B", "1C", "1D"] if which else ["1C", "1D"]
        assert scene.balancer.messages[1:] == [("hold_many", sent), ("hold", ["2A"])]


def test_an_interrupt_while_carrying_leaves_the_others_in_doubt_alone() -> None:
    """Nobody knows what became of the message: each asks again and says so."""
    with made() as scene:

        def interrupted() -> HoldfastError | None:
            raise KeyboardInterrupt

        scene.balancer.says_of_all = interrupted
        first = scene.under_way("1A")
        rest = scene.ask_all("1B", "1C", "1D")
        scene.balancer.open("AR")
        assert len(ids([first, *rest[1:]])) == 3
        with pytest.raises(KeyboardInterrupt):
            rest[0].result(60)
        assert sorted(scene.balancer.doubts) == ["1C", "1D"]


def test_nothing_is_left_of_a_message() -> None:
    """No circle of objects keeps requests and answers, with their owners' keys, until somebody looks for garbage."""

    def left() -> int:
        return sum(type(one) is gathering._Asked for one in gc.get_objects())

    with made() as scene:
        gc.collect()
        before = left()  # What a failed future of another test keeps.
        gc.disable()
        try:
            first = scene.under_way("1A")
            rest = scene.ask_all("1B", "1C", "1D")
            scene.balancer.open("AR")
            assert len(ids([first, *rest])) == 4
            del first, rest
            wait_until(lambda: left() == before, "them to be gone", 10)
        finally:
            gc.enable()


def test_many_threads_each_hear_their_own() -> None:
    """Whatever fails on the way: one answer or one error each, and nothing is left behind (`made` looks)."""
    with made() as scene:
        chance = random.Random(7)
        mutex = threading.Lock()

        def says(seat: str) -> HoldfastError | None:
            with mutex:
                luck = chance.random()
            if seat.endswith("7"):
                return SeatUnavailable(seat)
            return LockTimeout(seat) if luck < 0.1 else OutcomeUnknown(seat) if luck < 0.2 else None

        def says_of_all() -> HoldfastError | None:
            with mutex:
                luck = chance.random()
            return OutcomeUnknown("lost") if luck < 0.1 else InvalidRequest("a slip") if luck < 0.2 else None

        scene.balancer.says, scene.balancer.says_of_all, scene.balancer.takes_s = says, says_of_all, 0.001
        heard: list[tuple[str, str]] = []

        def ask(number: int) -> None:
            for turn in range(60):
                seat = f"{number}-{turn}"
                try:
                    found = scene.gathering.hold(hold(seat, ("AR1", "LA1")[number % 2]))
                    assert isinstance(found, messages.HoldAnswer)
                    said = found.hold_id
                except SeatUnavailable as error:
                    said = f"refused {error.detail}"
                except (LockTimeout, OutcomeUnknown):
                    said = "failed"
                with mutex:
                    heard.append((seat, said))

        with ThreadPoolExecutor(12) as pool:
            for done in [pool.submit(ask, number) for number in range(12)]:
                done.result(120)
        assert len(heard) == len(set(heard)) == 720
        for seat, said in heard:
            assert said in ("failed", f"refused {seat}" if seat.endswith("7") else f"hold of id-{seat}")
        assert any(method == "hold_many" for method, _ in scene.balancer.messages)
