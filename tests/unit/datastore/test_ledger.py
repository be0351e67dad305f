"""The ledger's chain: what is sealed comes back, what was changed is found."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import InvariantBroken
from datastore.ledger import (
    BATCH,
    BODY_AT,
    Entry,
    LedgerDamaged,
    SealedEntry,
    check_follows,
    entries_within,
    genesis,
    outcome_at,
    seal,
    unseal,
    verify_chain,
)
from datastore.model import Epoch
from datastore.wire import Outcome, encode

ONE = Epoch(1, "manager")

EVENTS = st.lists(st.tuples(st.integers(1, 11), st.text(max_size=8), st.binary(max_size=12)), max_size=4)


def chain(batches: list[list[tuple[int, str, bytes]]], operator: str = "AR") -> list[SealedEntry]:
    made: list[SealedEntry] = []
    for index, events in enumerate(batches):
        entry = Entry(ONE, index + 1, 1000 + index, BATCH, events=events)
        made.append(seal(entry, made[-1].hash if made else genesis(operator).hash))
    return made


@given(st.lists(EVENTS, min_size=1, max_size=5))
def test_what_is_sealed_comes_back(batches: list[list[tuple[int, str, bytes]]]) -> None:
    """Unsealing gives the same entry, place in the chain and bytes; the whole chain verifies to its last entry."""
    made = chain(batches)
    assert made == [unseal(sealed.data) for sealed in made]
    end = verify_chain((sealed.data for sealed in made), genesis("AR"))
    assert (len(made), made[-1].hash) == (end.lsn, end.hash)


@given(st.lists(EVENTS, min_size=2, max_size=4), st.data())
def test_any_changed_byte_is_found(batches: list[list[tuple[int, str, bytes]]], data: st.DataObject) -> None:
    """One bit anywhere in the ledger makes its verification fail at that entry."""
    made = [bytearray(sealed.data) for sealed in chain(batches)]
    entry = data.draw(st.integers(0, len(made) - 1))
    place = data.draw(st.integers(0, len(made[entry]) - 1))
    made[entry][place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(LedgerDamaged) as caught:
        verify_chain(map(bytes, made), genesis("AR"))
    assert entry + 1 == caught.value.fields["lsn"]


def test_entries_left_out_swapped_or_of_another_operator_are_found() -> None:
    """The chain proves order and completeness, and that the entries are this operator's."""
    made = [sealed.data for sealed in chain([[], [], []])]
    for wrong in ([made[0], made[2]], [made[1], made[0]], [made[0], made[0]]):
        with pytest.raises(LedgerDamaged):
            verify_chain(wrong, genesis("AR"))
    with pytest.raises(LedgerDamaged):
        verify_chain(made, genesis("LA"))


def test_stamps_and_epochs_never_fall() -> None:
    """An entry that is right in every hash but goes back in log time or epoch stops the node."""
    first = chain([[]])[0]
    after = check_follows(genesis("AR"), first)
    for entry in (Entry(ONE, 2, 999, BATCH), Entry(Epoch(0, ""), 2, 2000, BATCH)):
        with pytest.raises(InvariantBroken):
            check_follows(after, seal(entry, first.hash))


def test_bytes_that_are_no_entry_are_damage() -> None:
    """Also those whose hash is right: a peer of another make could seal them."""
    sealed = chain([[]])[0]
    for wrong in (b"", b"\x01", sealed.data[:BODY_AT], b"\x02" + sealed.data[1:]):
        with pytest.raises(LedgerDamaged):
            unseal(wrong)


def test_the_outcome_of_a_request_is_found_across_submissions() -> None:
    """Outcomes stand in groups, one a submission; requests are numbered through."""
    groups = [[Outcome(5, {"n": 0})], [Outcome(5, {"n": 1}), Outcome(5, {"n": 2})]]
    raw = [msgspec.Raw(encode(group)) for group in groups]
    entry = Entry(ONE, 5, 0, BATCH, [("a", b"A"), ("", b""), ("c", b"C")], raw)
    entry = unseal(seal(entry, b"\x00" * 32).data).entry
    assert (b"C", Outcome(5, {"n": 2})) == outcome_at(entry, 2)
    with pytest.raises(InvariantBroken):
        outcome_at(entry, 3)


def test_a_message_takes_what_fits_and_one_at_least() -> None:
    """A single large entry cannot stop a follower for ever."""
    made = chain([[], [], []])
    size = len(made[0].data)
    assert made[:2] == entries_within(made, 2 * size)
    assert made[:1] == entries_within(made, 1)
    assert [] == entries_within([], 1)
