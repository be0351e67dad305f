"""Routes and paths over small networks, compared with counting everything."""

from __future__ import annotations

from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from loadbalancer.exploring import Route, paths

CODES = "ABCDE"
ROUTES = st.lists(st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)), max_size=14, unique=True)


@given(ROUTES, st.integers(1, 4), st.sampled_from(["B", "BC"]))
def test_all_simple_paths_are_counted(pairs: list[tuple[str, str]], legs_max: int, ends: str) -> None:
    """Every chain of different places along routes, from an origin to the first destination that it meets, and no other."""
    known = {pair: Route(*pair, ("XX",), 2 + ord(pair[0]) % 3, 100) for pair in pairs if pair[0] != pair[1]}
    expected = {
        chain
        for count in range(2, legs_max + 2)
        for chain in permutations(CODES, count)
        if chain[0] == "A" and chain[-1] in ends and not set(chain[:-1]) & set(ends)
        if all(pair in known for pair in pairwise(chain))
    }
    found = paths(list(known.values()), ("A",), tuple(ends), legs_max, 1_000)
    assert {path.places for path in found.best} == expected
    assert found.complete and found.total == len(expected) == sum(found.by_legs.values())
    assert found.combinations == sum(path.combinations for path in found.best)
    assert [path[:3] for path in found.best] == sorted(path[:3] for path in found.best)
    few = paths(list(known.values()), ("A",), tuple(ends), legs_max, 2)
    assert (few.total, few.best) == (found.total, found.best[:2])


def test_counting_stops_and_says_so() -> None:
    """A network with more paths than anybody wants to read ends in bounded work, and is not called complete."""
    names = [f"P{number:02d}" for number in range(40)]
    everything = [Route(one, two, ("XX",), 1, 100) for one in names for two in names if one != two]
    found = paths(everything, ("P00",), ("P01",), 5, 10)
    assert not found.complete and found.total > 1_000
    assert found.best[0].places == ("P00", "P01")
