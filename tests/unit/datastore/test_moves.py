"""MOVE (Z10): seats of an order taken and given up for by one command, or refused with nothing changed."""

from __future__ import annotations

import msgspec
import pytest

from datastore import errors, wire
from datastore.model import Leg, SeatState
from datastore.rows import Kind, decode_row
from tests.faults.disk_deaths import REFERENCE, TOKEN, move
from tests.unit.datastore.inventory import SERVICE, Partition


@pytest.fixture
def sold() -> Partition:
    """Return a partition with an order of 1A and 1B."""
    made = Partition()
    made.submit(made.hold("one", "1A", "1B"))[0].unwrap()
    made.submit(wire.Confirm("confirm", b"c", "AR.one", "ann", (REFERENCE,), TOKEN, b""))[0].unwrap()
    return made


def version(sold: Partition) -> int:
    row = sold.state.order(REFERENCE)
    assert row is not None
    return row.changed_lsn or row.lsn


def states(sold: Partition) -> dict[str, SeatState]:
    found = {key.partition("/")[2]: decode_row(Kind.SEAT, value).state for key, value in sold.rows.scan(Kind.SEAT)}
    return {seat: state for seat, state in found.items() if state != SeatState.FREE}


def test_one_command_books_the_new_and_frees_the_old(sold: Partition) -> None:
    """The order, the seats and the basket change in one decision, and a repeat gets the first answer."""
    command = move(version(sold))
    decision = sold.decide(command)
    value = decision.outcomes[0].unwrap()
    assert (list(value["seats"]), states(sold)) == (["5C", "1B"], {"5C": SeatState.BOOKED, "1B": SeatState.BOOKED})
    assert not sold.state.open_holds and len(decision.events) > 4
    before = dict(sold.rows.rows)
    assert sold.submit(command)[0].unwrap() == value
    assert sold.rows.rows == before


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("taken", errors.SeatUnavailable),
        ("changed since", errors.QuoteExpired),
        ("stale fence", errors.StaleFence),
        ("another's order", errors.UnknownOrder),
        ("another's leg", errors.InvalidRequest),
        ("another basket", errors.InvalidRequest),
        ("wrong refund", errors.QuoteExpired),
    ],
)
def test_what_is_refused_changes_nothing(sold: Partition, what: str, error: type[errors.HoldfastError]) -> None:
    """Whichever of its halves is refused, no row is other than before: the seats were not taken for a change that is not made."""
    command = move(version(sold))
    if what == "taken":
        sold.submit(sold.hold("rival", "5C", owner="bob"))[0].unwrap()
        command = msgspec.structs.replace(command, hold=msgspec.structs.replace(command.hold, counter=9))
    elif what == "changed since":
        command = move(version(sold) - 1)
    elif what == "stale fence":
        sold.submit(sold.hold("rival", "5C", owner="bob", counter=7))[0].unwrap()
        sold.submit(wire.Release("", b"", "AR.rival", "bob"))[0].unwrap()
    elif what == "another's order":
        command = msgspec.structs.replace(command, amend=msgspec.structs.replace(command.amend, token_digest=b"guessed"))
    elif what == "another's leg":
        legs = (Leg("QR", SERVICE, ("5C",), (10_000,), 80),)
        command = msgspec.structs.replace(command, hold=msgspec.structs.replace(command.hold, legs=legs))
    elif what == "another basket":
        command = msgspec.structs.replace(command, amend=msgspec.structs.replace(command.amend, basket_id="AR.trip.other"))
    else:
        command = msgspec.structs.replace(command, amend=msgspec.structs.replace(command.amend, refund_minor=5))
    before = dict(sold.rows.rows)
    with pytest.raises(error):
        sold.submit(command)[0].unwrap()
    assert sold.rows.rows == before


def test_a_refused_move_leaves_its_batch_as_it_was(sold: Partition) -> None:
    """What comes before and behind it in the same batch is decided as if it had not been there."""
    wrong = move(version(sold) - 1)
    rival = sold.hold("rival", "5C", owner="bob", counter=9)
    outcomes = sold.submit(sold.hold("early", "4A", owner="eve"), wrong, rival)
    assert [bool(one.error) for one in outcomes] == [False, True, False]
    assert states(sold)["5C"] == states(sold)["4A"] == SeatState.HELD
