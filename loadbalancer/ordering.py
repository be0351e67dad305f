"""Who may try for a seat next: requests of one balancer for the same seat stand in line here, not at the lock servers.

Invariant: a ticket enters the lines of all its keys in one step, so for any two tickets that share keys the earlier is
ahead in every line that they share. Waiting therefore only ever points to an earlier ticket: there is no circle
(deadlock), and each ticket has a bounded number ahead of it (no starvation).

Between balancers there is no line: Redlock gives a key to whoever asks first after its release, and a line here that hands
a key on within one round would never let a rival's request in between. `Tenancy` bounds that.

Pure. One thread drives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

TENANCY_MS = 250  # A key goes from one request of this balancer to the next for no longer than this, then others get their chance.
TENANTS_MAX = 4_096


class Ordering(Generic[T]):
    """Lines before keys. A ticket is at the head of a line from its turn until `done`."""

    def __init__(self) -> None:
        self._headed: set[str] = set()  # keys with somebody at the head
        self._lines: dict[str, deque[T]] = {}  # who waits behind the head; no entry where nobody does
        self._short: dict[T, int] = {}  # ticket -> in how many lines it is not yet the head

    def offer(self, ticket: T, keys: Sequence[str]) -> bool:
        """Put `ticket` in line for all `keys` (each once) and return whether it is its turn at once."""
        short = 0
        for key in keys:
            if key in self._headed:
                self._lines.setdefault(key, deque()).append(ticket)
                short += 1
            else:
                self._headed.add(key)
        if short:
            self._short[ticket] = short
        return not short

    def done(self, ticket: T, keys: Sequence[str]) -> list[T]:
        """Take `ticket`, whose turn it was, out of its lines; return those whose turn it is now."""
        ready: list[T] = []
        for key in keys:
            self._advance(key, ready)
        return ready

    def withdraw(self, ticket: T, keys: Sequence[str]) -> list[T]:
        """Take `ticket`, whose turn it was not yet, out of its lines; return those whose turn it is now."""
        ready: list[T] = []
        for key in keys:
            line = self._lines.get(key)
            if line is not None and ticket in line:
                line.remove(ticket)
                if not line:
                    del self._lines[key]
            else:
                self._advance(key, ready)
        del self._short[ticket]
        return ready

    def is_waiting(self, ticket: T) -> bool:
        """Return whether the ticket still stands behind somebody."""
        return ticket in self._short

    def __contains__(self, key: str) -> bool:
        """Return whether anybody is at work on `key` or waits for it."""
        return key in self._headed

    def _advance(self, key: str, ready: list[T]) -> None:
        line = self._lines.get(key)
        if line is None:
            self._headed.discard(key)
            return
        ticket = line.popleft()
        if not line:
            del self._lines[key]
        short = self._short[ticket] - 1
        if short:
            self._short[ticket] = short
        else:
            del self._short[ticket]
            ready.append(ticket)


class Tenancy:
    """Since when keys have gone from one request of this balancer to the next without a moment in which others could take them."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}

    def may_take(self, keys: Sequence[str], released: Container[str], now_ms: int) -> bool:
        """Return whether a request may lock `keys` in the round that releases `released`; if not, they are to be left alone a while.

        Args:
            released: The keys that the same round gives back, so that nobody else can come between.
        """
        kept = [key for key in keys if key in released]
        if not kept:
            if self._since:
                self.leave(keys)
            return True
        if any(now_ms - self._since.get(key, now_ms) > TENANCY_MS for key in kept):
            self.leave(keys)
            return False
        if len(self._since) >= TENANTS_MAX:
            self._since.clear()  # A bound on memory; forgetting makes a tenancy longer, never wrong.
        for key in kept:
            self._since.setdefault(key, now_ms)
        return True

    def __len__(self) -> int:
        return len(self._since)

    def leave(self, keys: Sequence[str]) -> None:
        """Note that others could take these keys."""
        for key in keys:
            self._since.pop(key, None)
