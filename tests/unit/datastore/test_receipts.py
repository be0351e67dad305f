"""Receipts as texts, and what an entry says of one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore import wire
from datastore.errors import InvalidRequest
from datastore.ledger import LedgerDamaged, SealedEntry
from datastore.proving import CopyProof, Prover, ReceiptFound, judge
from datastore.receipts import Receipt, differences, from_file, parse, receipt_of
from tests.unit.datastore.inventory import import_command, schedule
from tests.unit.datastore.test_audit import Ledger, hold

RECEIPT = Receipt("AR", 2, 41, "K7Q2MX", bytes(range(32)))


def sold() -> tuple[Ledger, Receipt]:
    """Return a ledger with a booking, one more hold after it, and the booking's receipt."""
    ledger = Ledger()
    ledger.decide(import_command([schedule()]))
    ledger.decide(hold(1, "1A", "1B"))
    ledger.decide(wire.Confirm("request-c", b"d", "hold-0001", "owner", ("K7Q2MX",), b"t" * 32, b""))
    made = ledger.entries[-1]
    ledger.decide(hold(2, "2A"))
    return ledger, Receipt("AR", made.entry.epoch[0], made.entry.lsn, "K7Q2MX", made.hash)


@given(st.from_regex(r"[A-Z0-9]{2,8}", fullmatch=True), st.integers(0, 10**17), st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_a_receipt_reads_back_as_it_was_written(operator: str, epoch: int, lsn: int, digest: bytes) -> None:
    """Text and JSON document alike."""
    receipt = Receipt(operator, epoch, lsn, "K7Q2MX", digest)
    assert receipt == parse(str(receipt)) == from_file(json.dumps({"reference": "K7Q2MX", "receipt": str(receipt)}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "1 parts"),
        ("AR:41", "2 parts"),
        (str(RECEIPT)[:-1], "hash"),
        (str(RECEIPT).replace("AR", "ar"), "operator"),
        (str(RECEIPT).replace(":41:", ":x:"), "lsn"),
        ('{"receipt": 7}', 'no "receipt"'),
        ("{", "no JSON"),
    ],
)
def test_what_is_no_receipt_is_said_to_be_none(text: str, why: str) -> None:
    """The part that is wrong is named."""
    with pytest.raises(InvalidRequest, match=why):
        from_file(text)


def test_only_evidence_of_the_very_entry_makes_a_receipt() -> None:
    """A repeat's position is a later entry's: a receipt of that would be false."""
    assert str(RECEIPT) == receipt_of("AR", "K7Q2MX", 41, (2, 41, RECEIPT.hash))
    assert "" == receipt_of("AR", "K7Q2MX", 41, (2, 42, RECEIPT.hash)) == receipt_of("AR", "K7Q2MX", 41, None)


def test_a_receipt_holds_for_the_entry_that_made_the_booking_alone() -> None:
    """Another hash, another epoch, another entry, another booking: each is named."""
    ledger, receipt = sold()
    sealed: SealedEntry = ledger.entries[receipt.lsn - 1]
    assert [] == differences(receipt, sealed)
    assert "hash" in differences(receipt._replace(hash=bytes(32)), sealed)[0]
    assert "epoch" in differences(receipt._replace(epoch=9), sealed)[0]
    assert "no booking ZZZZZZ" in differences(receipt._replace(reference="ZZZZZZ"), sealed)[0]
    assert differences(receipt, ledger.entries[receipt.lsn])


def test_a_proof_counts_what_is_booked_and_finds_the_receipt() -> None:
    """Seats, orders and receipts of one copy."""
    ledger, receipt = sold()
    forged = receipt._replace(hash=bytes(32))
    prover = Prover("AR", [receipt, forged])
    prover.take([sealed.data for sealed in ledger.entries])
    proof = prover.proof()
    assert ([], 2, 1, 1) == (proof.violations, proof.counts["seats_booked"], proof.counts["seats_held"], proof.counts["orders_confirmed"])
    verdict = judge([proof], [], [receipt, forged])
    assert ("damaged", "proved") == (verdict.state, verdict.receipts[str(receipt)])
    assert "the receipt says" in verdict.receipts[str(forged)]


@given(st.data())
def test_a_flipped_byte_is_found_at_its_entry(data: st.DataObject) -> None:
    """Wherever it is in the sealed bytes, but never at an earlier entry."""
    ledger, _ = sold()
    place = data.draw(st.integers(0, len(ledger.entries) - 1))
    entries = [bytearray(sealed.data) for sealed in ledger.entries]
    at = data.draw(st.integers(0, len(entries[place]) - 1))
    entries[place][at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LedgerDamaged) as caught:
        Prover("AR").take([bytes(entry) for entry in entries])
    assert place + 1 == caught.value.fields["lsn"]


def test_a_minority_that_has_something_else_does_not_refute_a_receipt() -> None:
    """What a majority has was acknowledged; the tail of a primary that was cut off was not. One that all deny is refuted."""
    text = str(RECEIPT)

    def copy(node: str, *, reached: bool, wrong: bool = False) -> CopyProof:
        return CopyProof(operator="AR", node=node, last_lsn=50, receipts=[ReceiptFound(text, reached, ["other"] if wrong else [])])

    good, other, behind = copy("a", reached=True), copy("b", reached=True, wrong=True), copy("c", reached=False)
    assert "proved" == judge([good, copy("d", reached=True), other], [], [RECEIPT]).receipts[text]
    assert "proved" == judge([good, behind, copy("e", reached=False)], [], [RECEIPT]).receipts[text]
    assert "other" in judge([other, copy("f", reached=True, wrong=True), good], [], [RECEIPT]).receipts[text]
    assert "ends at entry 50" in judge([behind], [], [RECEIPT]).receipts[text]
    assert "no ledger" in judge([], [], [RECEIPT]).receipts[text]
