"""Hot seats: what is counted, and that the table stays small."""

from __future__ import annotations

from loadbalancer.contention import SEATS_MAX, Contention


def test_every_way_to_want_the_same_seat_counts_for_the_seat() -> None:
    """A seat that was waited for, found locked and refused is three times as hot as one that was refused once."""
    contention = Contention()
    contention.note_waited(["AR/S/1A"])
    contention.note_contended(["AR/S/1A"])
    contention.note_refused(["AR/S/1A", "AR/S/1B"])
    assert (1, 1, 1) == (contention.waited, contention.contended, contention.refused)
    assert [("AR/S/1A", 3), ("AR/S/1B", 1)] == contention.hottest(5)
    assert [("AR/S/1A", 3)] == contention.hottest(1)


def test_the_table_is_bounded_and_forgets_the_coldest() -> None:
    """However many seats are wanted, few are remembered, and the hot one stays among them."""
    contention = Contention()
    for number in range(10 * SEATS_MAX):
        contention.note_refused([f"AR/S/{number}", "AR/S/HOT"])
    assert "AR/S/HOT" == contention.hottest(1)[0][0]
    assert len(contention.hottest(10 * SEATS_MAX)) <= SEATS_MAX + 2
