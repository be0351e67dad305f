"""The local order of requests, against a slow plain twin: a list searched from the front."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadbalancer.ordering import TENANCY_MS, TENANTS_MAX, Ordering, Tenancy

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


def test_a_key_passed_on_for_long_is_left_to_others_once() -> None:
    """Handed on within rounds it may be kept for TENANCY_MS; then one request must wait, after which the time starts anew."""
    tenancy = Tenancy()
    assert tenancy.may_take(["a", "b"], set(), 0)
    assert all(tenancy.may_take(["a"], {"a"}, now) for now in range(5, 5 + TENANCY_MS + 1, 5))
    assert not tenancy.may_take(["c", "a"], {"a", "b"}, 6 + TENANCY_MS)
    assert all(tenancy.may_take(["a"], {"a"}, now) for now in range(300, 300 + TENANCY_MS + 1, 50))


def test_a_key_that_others_could_take_has_no_tenant() -> None:
    """A round that locks a key without giving it back in the same breath began with it free for everybody."""
    tenancy = Tenancy()
    assert tenancy.may_take(["a"], {"a"}, 0)
    assert tenancy.may_take(["a"], set(), TENANCY_MS)
    assert tenancy.may_take(["a"], {"a"}, TENANCY_MS + 1)
    assert tenancy.may_take(["a"], {"a"}, 2 * TENANCY_MS)


def test_the_memory_of_tenants_is_bounded() -> None:
    """However many keys are passed on, no more than TENANTS_MAX are remembered."""
    tenancy = Tenancy()
    for number in range(TENANTS_MAX + 10):
        assert tenancy.may_take([f"key-{number}"], {f"key-{number}"}, 0)
    assert len(tenancy) <= TENANTS_MAX
