"""Staged rows: the newest image of each, sliced for writing without losing or repeating one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datastore.ledger import BATCH, Entry, genesis, seal
from datastore.model import Epoch
from datastore.staging import Flush, Staged, merged

keys = st.sampled_from(["A/1", "A/2", "B/1", "B", "C"])
events = st.lists(st.tuples(st.integers(1, 3), keys, st.sampled_from([b"", b"x", b"y"])), max_size=8)
requests = st.lists(st.sampled_from(["", "r1", "r2", "r3"]), max_size=4)
entries = st.lists(st.tuples(events, requests), max_size=6)


def staged_of(parts: list[tuple[list[tuple[int, str, bytes]], list[str]]], prefix_first: bool) -> Staged:
    """Return a generation with these entries; one that was read by prefix before the last entry came, or never."""
    staged = Staged(0)
    for lsn, (rows, names) in enumerate(parts, 1):
        staged.add(seal(Entry(Epoch(1, "m"), lsn, lsn, BATCH, [(name, b"d") for name in names], [], rows), genesis("AR").hash))
        if prefix_first:
            staged.rows_under(1, "A/")
    return staged


@given(entries, st.integers(1, 7), st.booleans())
def test_slices_add_up_to_what_was_staged(parts: list[tuple[list[tuple[int, str, bytes]], list[str]]], size: int, grouped: bool) -> None:
    """Each row and request is taken once, in its newest image, in the order of its table's key, and none too many at a time."""
    staged = staged_of(parts, grouped)
    rows: dict[tuple[int, str], bytes] = {}
    answered: dict[str, tuple[int, int, int]] = {}
    for lsn, (changed, names) in enumerate(parts, 1):
        rows |= {(kind, key): value for kind, key, value in changed}
        answered |= {name: (lsn, index, 0) for index, name in enumerate(names) if name}
    flush = Flush(staged)
    taken: list[tuple[int, str]] = []
    found: dict[tuple[int, str], bytes] = {}
    places: list[tuple[str, int, int, int]] = []
    while not flush.done:
        puts, deletes, some = flush.take(size)
        assert len(puts) + len(deletes) + len(some) <= size
        found |= {(kind, key): value for kind, key, value in puts} | dict.fromkeys(deletes, b"")
        taken += [(kind, key) for kind, key, _ in puts] + deletes
        places += some
    assert rows == found
    assert len(rows) == len(taken)
    assert [(name, *place) for name, place in sorted(answered.items())] == places


@given(entries, st.booleans(), st.sampled_from(["", "A", "A/", "A/1", "B/", "Z/"]))
def test_a_prefix_finds_what_begins_with_it(
    parts: list[tuple[list[tuple[int, str, bytes]], list[str]]], grouped: bool, prefix: str
) -> None:
    """The short cut for a whole first part gives what looking at every key gives."""
    staged = staged_of(parts, grouped)
    for kind in (1, 2, 3):
        plain = {key: value for key, value in staged.rows(kind).items() if key.startswith(prefix)}
        assert plain == staged.rows_under(kind, prefix)


@given(st.dictionaries(keys, st.just(b"old")), st.dictionaries(keys, st.sampled_from([b"", b"new"])), keys, keys)
def test_staged_rows_lie_over_those_of_the_file(base: dict[str, bytes], over: dict[str, bytes], after: str, bound: str) -> None:
    """Within the bounds of a page, in key order; a deleted row hides the one below."""
    expected = {**base, **{key: value for key, value in over.items() if after < key <= bound}}
    assert sorted((key, value) for key, value in expected.items() if value) == merged(sorted(base.items()), over, after, bound)
