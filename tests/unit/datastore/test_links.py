"""What waits for a node goes as one message, is shipped while another is under way, and always hears what became of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from datastore import wire
from datastore.edge import Address
from datastore.errors import NodeUnreachable
from datastore.links import MESSAGE_BYTES_MAX, Link, Outgoing
from datastore.model import Epoch
from tests.waiting import wait_until

RETRY_MS = 20


class Node:
    """A node's stub: notes each message, answers when it is let, and can be away."""

    name = "node-2"
    address = Address("127.0.0.1", 1)

    def __init__(self) -> None:
        self.messages: list[list[str]] = []
        self.gate = threading.Semaphore(0)
        self.away = False

    def append(self, items: Sequence[wire.AppendItem], _timeout_ms: int) -> list[wire.AppendReply]:
        self.messages.append([item.operator for item in items])
        if self.away:
            raise NodeUnreachable("away", node=self.name, plane="replication")
        self.gate.acquire()
        return [wire.AppendReply(item.operator, "ack", item.epoch, 7, "") for item in items]

    def close(self) -> None:
        self.gate.release(1_000)


class Posted:
    """Messages by their names, and what they heard."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.heard: dict[str, int | None] = {}

    def post(self, name: str, *, urgent: bool = True, size_bytes: int = 100) -> None:
        def done(reply: wire.AppendReply | None) -> None:
            assert name not in self.heard
            assert reply is None or reply.operator == name
            self.heard[name] = reply.match_lsn if reply is not None else None

        item = wire.AppendItem(name, Epoch(1, "m"), 0, Epoch(0, ""), [], 0, {})
        self._link.post(Outgoing(item, size_bytes, done), urgent)


@contextmanager
def link_to() -> Iterator[tuple[Node, Link, Posted]]:
    node = Node()
    link = Link(node, 1_000, RETRY_MS)  # type: ignore[arg-type]
    link.start()
    try:
        yield node, link, Posted(link)
    finally:
        link.close()
        for thread in link._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_what_waits_while_both_senders_are_busy_goes_as_one_message() -> None:
    """The second is shipped while the first waits; the others wait for either."""
    with link_to() as (node, _, posted):
        for name in ("A", "B"):
            posted.post(name)
            wait_until(lambda name=name: [name] in node.messages, f"{name} to be sent", 10)
        for name in ("C", "D", "E"):
            posted.post(name)
        assert node.messages == [["A"], ["B"]]
        node.gate.release(3)
        wait_until(lambda: len(posted.heard) == 5, "all to hear", 10)
        assert node.messages == [["A"], ["B"], ["C", "D", "E"]]
        assert posted.heard == dict.fromkeys("ABCDE", 7)


def test_one_that_is_not_urgent_goes_with_the_next_or_when_told() -> None:
    """A round of heartbeats is one message; and it takes an urgent one to send one before its round is over."""
    with link_to() as (node, link, posted):
        node.gate.release(100)
        posted.post("A", urgent=False)
        posted.post("B", urgent=False)
        assert not node.messages
        link.wake()
        wait_until(lambda: len(posted.heard) == 2, "both to hear", 10)
        posted.post("C", urgent=False)
        posted.post("D")
        wait_until(lambda: len(posted.heard) == 4, "both to hear", 10)
        assert node.messages == [["A", "B"], ["C", "D"]]
        link.wake()  # Nothing waits: nothing goes.
        posted.post("E")
        wait_until(lambda: "E" in posted.heard, "E to hear", 10)
        assert node.messages[2:] == [["E"]]


def test_a_message_has_its_size() -> None:
    """What does not fit goes with the next one, also where nobody posts any more."""
    with link_to() as (node, link, posted):
        node.gate.release(100)
        for name in ("A", "B", "C"):
            posted.post(name, urgent=False, size_bytes=MESSAGE_BYTES_MAX // 2)
        link.wake()
        wait_until(lambda: len(posted.heard) == 3, "all to hear", 10)
        assert sorted(node.messages) == [["A", "B"], ["C"]]


def test_a_node_that_is_away_is_left_alone_for_a_moment() -> None:
    """Nobody waits for it: what is for it is told so at once, and later messages reach it again."""
    with link_to() as (node, _, posted):
        node.away = True
        posted.post("A")
        wait_until(lambda: "A" in posted.heard, "A to hear", 10)
        assert posted.heard["A"] is None
        node.away = False
        node.gate.release(100)
        names = iter(f"again {number}" for number in range(10_000))

        def again() -> bool:
            posted.post(next(names))
            return 7 in posted.heard.values()

        wait_until(again, "the node to be tried again", 10)


def test_closing_answers_what_waits() -> None:
    """Whoever waits hears that no reply will come; the senders end (`link_to` looks)."""
    with link_to() as (node, link, posted):
        for name in ("A", "B"):
            posted.post(name)
            wait_until(lambda name=name: [name] in node.messages, f"{name} to be sent", 10)
        posted.post("C")
        link.close()
        wait_until(lambda: "C" in posted.heard, "C to hear", 10)
        assert posted.heard["C"] is None
