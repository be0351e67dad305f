"""The frontier keeps what nothing beats, and every reason given is true."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadbalancer.pareto import WORDS, Frontier, Merit, reasons

MERITS = st.lists(st.builds(Merit, *[st.integers(0, 6)] * 4), max_size=40)


def beats(one: Merit, other: Merit) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@given(MERITS)
def test_the_frontier_is_what_nothing_beats(merits: list[Merit]) -> None:
    """In any order of coming, what stays is the set of the unbeaten, each once."""
    frontier: Frontier[int] = Frontier()
    for number, merit in enumerate(merits):
        frontier.offer(*merit, number)
    kept = [merit for merit, _ in frontier.members]
    assert sorted(kept) == sorted({one for one in merits if not any(beats(other, one) for other in merits)})


@given(MERITS)
def test_the_cheapest_is_the_cheapest_and_earliest(merits: list[Merit]) -> None:
    """Comparing by price alone leaves one: the least price, the earliest arrival among equals."""
    frontier: Frontier[int] = Frontier(cheapest_only=True)
    for number, merit in enumerate(merits):
        frontier.offer(*merit, number)
    assert [(merit.price, merit.arrives) for merit, _ in frontier.members] == sorted((one.price, one.arrives) for one in merits)[:1]


@given(MERITS)
def test_every_reason_is_true(merits: list[Merit]) -> None:
    """A crown is worn by the best; a bounded one by the best within the bound, and by nobody else."""
    found = list({one for one in merits if not any(beats(other, one) for other in merits)})
    for merit, reason in zip(found, reasons(found, lambda which, value: f"[{which}<={value}]"), strict=True):
        crown, *bounds = reason.split(" [")
        within = found
        for bound in bounds:
            which, value = bound.split("]")[0].split("<=")
            within = [one for one in within if one[int(which)] <= int(value)]
        assert merit in within
        if len(found) == 1:
            assert reason == "nothing else is as good in any respect"
            continue
        named = [WORDS.index(word) for word in crown.split(", ")]
        assert all(merit[which] == min(one[which] for one in within) for which in named)
        assert [one for one in within if all(one[which] == merit[which] for which in named)] == [merit]
