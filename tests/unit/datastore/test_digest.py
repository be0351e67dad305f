"""The state digest: many rows at once weigh what they weigh one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datastore.digest import EMPTY, changed, digest_of, replaced

keys = st.text("aé/", max_size=4)
images = st.dictionaries(keys, st.binary(max_size=3), max_size=6)


@given(st.integers(1, 20), images, images)
def test_many_rows_weigh_what_they_weigh_one_by_one(kind: int, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    """The digest after a batch is that of its rows put in one after the other, and that of all rows that are there then."""
    before = digest_of((kind, key, value) for key, value in old.items())
    one_by_one = before
    for key, value in new.items():
        one_by_one = replaced(one_by_one, kind, key, old.get(key, b""), value)
    after = changed(before, kind, old, new.items())
    assert one_by_one == after
    assert digest_of((kind, key, value) for key, value in {**old, **new}.items()) == after
    assert EMPTY == changed(after, kind, {**old, **new}, [(key, b"") for key in {**old, **new}])
