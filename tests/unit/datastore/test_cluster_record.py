"""The cluster's record merges to the same on every node, in whatever order its lines arrive."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from datastore.cluster_record import Note, copies_of, is_behind, merged, nodes_of, pause_of, primary_of, written

keys = st.sampled_from(["pause", "node:a", "copies:AA"])
# One (counter, manager) under one key is one line: a manager never writes two different ones.
notes = st.builds(lambda counter, by: Note(counter, by, 0, {"nodes": [f"{counter}{by}"]}), st.integers(1, 4), st.sampled_from("ab"))
records = st.dictionaries(keys, notes)


@given(st.lists(records, max_size=5), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(found: list[dict[str, Note]], chance: object) -> None:
    """Any order, any grouping, any repetition: the same record, and nobody is behind it."""
    whole = reduce(merged, found, {})
    shuffled = [*found, *found]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reduce(merged, shuffled, {}) == whole
    assert not any(is_behind(whole, one) for one in found)


@given(records, keys)
def test_what_is_written_stands(record: dict[str, Note], key: str) -> None:
    """A new line is above what was there, and whoever lacks it is behind."""
    fresh = written(record, {key: {"nodes": ["x"]}}, "a", 7)
    assert merged(record, fresh)[key].value == {"nodes": ["x"]}
    assert is_behind(record, fresh)


def test_lines_are_read_back() -> None:
    """What stands under each key, and that {} takes a line back."""
    lines = {"pause": {"by": "me", "why": "w"}, "node:n": {"host": "h", "port": 1, "state": "member"}, "primary:AA": {"node": "n"}}
    record = written({}, {**lines, "copies:AA": {"nodes": ["n", "m"]}}, "a", 7)
    assert (copies_of(record, "AA"), primary_of(record, "AA"), copies_of(record, "BB")) == (("n", "m"), "n", ())
    assert nodes_of(record)["n"].port == 1
    pause = pause_of(record)
    assert pause is not None and pause.value["why"] == "w"
    assert pause_of(merged(record, written(record, {"pause": {}}, "b", 8))) is None
