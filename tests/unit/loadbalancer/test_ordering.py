"""The local order of requests, against a slow plain twin: a list searched from the front."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadbalancer.ordering import Ordering

KEYS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True).map(tuple)
ACTIONS = st.lists(st.tuples(st.sampled_from(["offer", "offer", "done", "withdraw"]), KEYS, st.integers(0, 10)), max_size=60)


class Twin:
    """All tickets in order of arrival; one may go when no earlier one shares a key with it."""

    def __init__(self) -> None:
        self.tickets: dict[int, tuple[str, ...]] = {}

    def ready(self) -> set[int]:
        seen: set[str] = set()
        found = set()
        for ticket, keys in self.tickets.items():
            if not seen & set(keys):
                found.add(ticket)
            seen |= set(keys)
        return found


@given(ACTIONS)
def test_like_a_queue_searched_from_the_front(actions: list[tuple[str, tuple[str, ...], int]]) -> None:
    """Whose turn it is, is decided by who came earlier for any of its keys, whatever leaves in whatever order."""
    ordering: Ordering[int] = Ordering()
    twin = Twin()
    ready: set[int] = set()
    for number, (action, keys, pick) in enumerate(actions):
        waiting = sorted(twin.tickets.keys() - ready)
        if action == "offer":
            twin.tickets[number] = keys
            if ordering.offer(number, keys):
                ready.add(number)
        elif action == "done" and ready:
            ticket = sorted(ready)[pick % len(ready)]
            ready.discard(ticket)
            ready.update(ordering.done(ticket, twin.tickets.pop(ticket)))
        elif action == "withdraw" and waiting:
            ticket = waiting[pick % len(waiting)]
            ready.update(ordering.withdraw(ticket, twin.tickets.pop(ticket)))
        assert ready == twin.ready()
        assert all(ordering.is_waiting(ticket) == (ticket not in ready) for ticket in twin.tickets)
        assert all((key in ordering) == any(key in keys for keys in twin.tickets.values()) for key in "abcde")


@given(st.lists(KEYS, min_size=1, max_size=30))
def test_everybody_gets_a_turn(wishes: list[tuple[str, ...]]) -> None:
    """However keys overlap, nobody is forgotten and nobody waits in a circle."""
    ordering: Ordering[int] = Ordering()
    ready = [number for number, keys in enumerate(wishes) if ordering.offer(number, keys)]
    served = []
    while ready:
        ticket = ready.pop()
        served.append(ticket)
        ready.extend(ordering.done(ticket, wishes[ticket]))
    assert sorted(served) == list(range(len(wishes)))
