"""Which trips are worth showing: those that no other beats in arrival, duration, stops and price at once; and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Generic, NamedTuple, TypeVar

Kept = TypeVar("Kept")


class Merit(NamedTuple):
    """What trips are compared by; less is better in each. Minutes, and minor units of one currency."""

    arrives: int
    duration: int
    stops: int
    price: int


class Frontier(Generic[Kept]):
    """The best so far: no member is as good as another in everything. Equal ones are kept once.

    `cheapest_only` compares by price alone, the earliest arrival among equals. `nicer`, where given, says whether its first trip
    is rather kept than its second where both are equal.
    """

    def __init__(self, *, cheapest_only: bool = False, nicer: Callable[[Kept, Kept], bool] | None = None) -> None:
        self._nicer = nicer
        self.members: list[tuple[Merit, Kept]] = []
        self._merits: list[Merit] = []
        self._cheapest_only = cheapest_only

    def covers(self, arrives: int, duration: int, stops: int, price: int) -> bool:
        """Return whether a member is as good in everything, so that nothing of these bounds is worth looking at."""
        if self._cheapest_only:
            return bool(self._merits) and (self._merits[0][3], self._merits[0][0]) <= (price, arrives)
        # Not any(): this is where a search spends its time.
        for known in self._merits:  # noqa: SIM110
            if known[0] <= arrives and known[1] <= duration and known[3] <= price and known[2] <= stops:
                return True
        return False

    def offer(self, arrives: int, duration: int, stops: int, price: int, kept: Kept) -> None:
        """Take in a trip unless a member covers it; members that it beats leave."""
        if self.covers(arrives, duration, stops, price):
            if self._nicer is not None:
                self._replace_equal(Merit(arrives, duration, stops, price), kept, self._nicer)
            return
        if self._cheapest_only:
            self.members = []
        else:
            self.members = [
                (merit, other)
                for merit, other in self.members
                if not (arrives <= merit.arrives and duration <= merit.duration and stops <= merit.stops and price <= merit.price)
            ]
        self.members.append((Merit(arrives, duration, stops, price), kept))
        self._merits = [merit for merit, _ in self.members]

    def _replace_equal(self, merit: Merit, kept: Kept, nicer: Callable[[Kept, Kept], bool]) -> None:
        for place, (known, other) in enumerate(self.members):
            if known == merit and nicer(kept, other):
                self.members[place] = (merit, kept)


WORDS: tuple[str, ...] = ("earliest arrival", "shortest", "fewest stops", "cheapest")


def reasons(merits: Sequence[Merit], shown: Callable[[int, int], str]) -> list[str]:
    """Return for each member of a frontier why it is there: a sentence that is true of it and of no worse trip.

    Args:
        shown: (which of the four, value) -> how it is written: "by 16:35", "412.00 USD".
    """
    best = [min(values) for values in zip(*merits, strict=True)]
    return [_reason(merit, merits, best, shown) for merit in merits]


def _reason(merit: Merit, merits: Sequence[Merit], best: Sequence[int], shown: Callable[[int, int], str]) -> str:
    crowns = [WORDS[which] for which in range(4) if merit[which] == best[which]]
    # "Fewest stops" alone says little where all have as few.
    shared = all(other.stops == merit.stops for other in merits)
    crowns = [crown for crown in crowns if not (crown == "fewest stops" and shared and len(merits) > 1)]
    if crowns and len(merits) > 1:
        rest = [which for which in range(4) if merit[which] == best[which]]
        if not any(all(other[which] == best[which] for which in rest) for other in merits if other != merit):
            return ", ".join(crowns)
    elif len(merits) == 1:
        return "nothing else is as good in any respect"
    # The best in one respect among those that are no worse in one or two others: it beats the rest there.
    for size in (1, 2, 3):
        for bound in _subsets(size):
            peers = [other for other in merits if all(other[which] <= merit[which] for which in bound)]
            for which in range(4):
                if which not in bound and all(other is merit or merit[which] < other[which] for other in peers):
                    limits = " and ".join(shown(one, merit[one]) for one in bound)
                    return f"{WORDS[which]} {limits}"
    return "nothing else is as good in all respects"


def _subsets(size: int) -> list[tuple[int, ...]]:
    order = (3, 2, 0, 1)  # People think of the price first.
    return list(combinations(order, size))
