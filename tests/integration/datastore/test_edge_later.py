"""Answers that another thread gives: the caller cannot tell, and neither a slow reader nor a lost one stops who gives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from rpyc.core import consts

from datastore.certificates import make_certificates
from datastore.edge import EdgeClient, Later, Peer, Tls
from datastore.edge_channel import BoundedChannel, DeadlineStream, EdgeLimits
from datastore.edge_connection import ClientConnection
from datastore.errors import InvariantBroken, OutcomeUnknown, SeatUnavailable
from tests.integration.datastore.edge_peers import connected, edge_client, edge_log, edge_server
from tests.waiting import wait_until

TIMEOUT_MS = 5000
LARGE_BYTES = 3_000_000


class Desk:
    """A handler that begins, and one thread that gives all answers in the order of the questions."""

    def __init__(self) -> None:
        self.begun: list[tuple[Later, bytes]] = []
        self.given = 0

    def __call__(self, _method: str, payload: bytes, _peer: Peer) -> Later:
        later = Later()
        self.begun.append((later, payload))
        return later

    def give(self, count: int) -> None:
        """Give the next `count` answers, from this thread."""
        for later, payload in self.begun[self.given : self.given + count]:
            later.give(_made(payload))
            self.given += 1


def serve_next(desk: Desk, client: EdgeClient) -> None:
    """Ask one question more and see it answered."""
    asked = len(desk.begun)
    caller = threading.Thread(target=client.call, args=("echo", b"next", TIMEOUT_MS))
    caller.start()
    wait_until(lambda: len(desk.begun) == asked + 1, "the next question", 5)
    desk.give(1)
    caller.join(5)
    assert not caller.is_alive()


def _made(payload: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        if payload == b"refuse":
            raise SeatUnavailable("taken", seats=["1A"])
        if payload == b"break":
            raise InvariantBroken("two owners")
        return b"x" * LARGE_BYTES if payload == b"large" else payload

    return make


@pytest.mark.parametrize("tls", [False, True])
def test_answers_and_errors_come_as_if_at_once(tmp_path_factory: pytest.TempPathFactory, tls: bool) -> None:
    """Each caller gets its own answer, of the same class and words, over plain and over TLS connections."""
    certificates: dict[str, Tls] = make_certificates(tmp_path_factory.mktemp("tls"), ["lb", "client"]) if tls else {}
    desk = Desk()
    broken: list[str] = []
    with edge_server(
        desk, tls=certificates.get("lb"), roles={"echo": ("client",)}, on_broken=lambda: broken.append("broken")
    ) as server, edge_client(server.address, tls=certificates.get("client")) as client:  # fmt: skip
        for payload in (b"first", b"refuse", b"large", b"break", b"last"):
            answers: list[object] = []

            def ask(payload: bytes = payload, answers: list[object] = answers) -> None:
                try:
                    answers.append(client.call("echo", payload, TIMEOUT_MS))
                except (SeatUnavailable, OutcomeUnknown) as error:
                    answers.append(type(error))

            caller = threading.Thread(target=ask)
            caller.start()
            wait_until(lambda: len(desk.begun) > desk.given, "the question", 5)
            desk.give(1)
            caller.join(10)
            expected = {b"refuse": SeatUnavailable, b"break": OutcomeUnknown, b"large": b"x" * LARGE_BYTES}.get(payload, payload)
            assert [expected] == answers
    assert broken == ["broken"]


def test_who_gives_is_not_held_up_by_one_who_does_not_read() -> None:
    """A large answer to a peer that never reads leaves with a thread of its own; that peer's connection ends, others go on."""
    desk = Desk()
    limits = EdgeLimits(send_ms=5_000)
    with edge_log() as lines, edge_server(desk, limits=limits) as server, edge_client(server.address) as client:
        sock = connected(server.address)
        silent = ClientConnection(BoundedChannel(DeadlineStream(sock), limits))
        deadline = time.monotonic() + 5
        silent.bind(deadline)
        silent.send_call("echo", b"large", deadline)
        wait_until(lambda: len(desk.begun) == 1, "the first question", 5)
        began = time.monotonic()
        desk.give(1)
        assert time.monotonic() - began < 4.8
        serve_next(desk, client)
        wait_until(lambda: not any(thread.name == "edge-rest" for thread in threading.enumerate()), "the rest to be given up", 5)
        silent.close()
    assert lines.texts("fault") == []


@pytest.mark.parametrize("number", [None, b"7", "seven", True])
def test_a_question_without_a_number_costs_its_connection_alone(number: object) -> None:
    """What the reply would be sent under is looked at before anything is begun: who gives replies has others to give."""
    desk = Desk()
    with edge_log() as lines, edge_server(desk) as server, edge_client(server.address) as client:
        sock = connected(server.address)
        channel = BoundedChannel(DeadlineStream(sock), EdgeLimits())
        wrong = ClientConnection(channel)
        deadline = time.monotonic() + 5
        wrong.bind(deadline)
        channel.send_value(consts.MSG_REQUEST, (number, (consts.HANDLE_CALL, wrong._box((wrong._call_id, ("echo", b"wrong"))))), deadline)
        assert channel.take_frame(deadline) is None
        serve_next(desk, client)
        wrong.close()
    assert len(lines.texts("a request without a number")) == 1
    assert len(lines.texts()) == 1


def test_an_answer_to_one_who_left_reaches_nobody() -> None:
    """The connection ended meanwhile: what is given is dropped without a word, and the next caller is served."""
    desk = Desk()
    with edge_log() as lines, edge_server(desk) as server:
        with edge_client(server.address) as client, pytest.raises(OutcomeUnknown):
            client.call("echo", b"gone", 50)
        wait_until(lambda: len(desk.begun) == 1, "the question", 5)
        desk.give(1)
        with edge_client(server.address) as client:
            serve_next(desk, client)
    assert lines.texts("fault") == []
