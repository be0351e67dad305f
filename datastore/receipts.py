"""Receipts: which entry of an operator's ledger made a booking, so that anybody can ask for it again later. Pure.

    AR:2:41:K7Q2MX:9f0c…      operator, epoch's counter, lsn, booking reference, the entry's hash (64 hexadecimal digits)

The hash binds the entry and, through the chain, every entry before it. Whoever keeps a receipt can prove that the booking was
acknowledged: no ledger whose chain is whole can have another entry there. It holds no personal data.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from datastore.errors import InvalidRequest, shown
from datastore.ledger import HASH_BYTES, SealedEntry
from datastore.rows import Kind, OrderRow, decode_row

PATTERN = re.compile(r"([A-Z0-9]{2,8}):([0-9]{1,18}):([0-9]{1,18}):([A-Z0-9]{1,24}):([0-9a-f]{64})", re.ASCII)
EXAMPLE = "AR:1:41:K7Q2MX:9f0c… (64 hexadecimal digits)"
FILE_CHARACTERS_MAX = 1_000_000


class Receipt(NamedTuple):
    """One booking's place in the ledger. `hash`: of the sealed entry, 32 bytes."""

    operator: str
    epoch: int
    lsn: int
    reference: str
    hash: bytes

    def __str__(self) -> str:
        return f"{self.operator}:{self.epoch}:{self.lsn}:{self.reference}:{self.hash.hex()}"


def parse(text: str) -> Receipt:
    """Return the receipt that a text is.

    Raises:
        InvalidRequest: It is none; the detail says which part is wrong.
    """
    found = PATTERN.fullmatch(text.strip())
    if found is not None:
        return Receipt(found[1], int(found[2]), int(found[3]), found[4], bytes.fromhex(found[5]))
    parts = text.strip().split(":")
    why = f"it has {len(parts)} parts, not 5"
    if len(parts) == 5:
        names = ("operator", "epoch", "lsn", "booking reference", "hash")
        patterns = (r"[A-Z0-9]{2,8}", r"[0-9]{1,18}", r"[0-9]{1,18}", r"[A-Z0-9]{1,24}", r"[0-9a-f]{64}")
        wrong = [name for name, part, one in zip(names, parts, patterns, strict=True) if not re.fullmatch(one, part, re.ASCII)]
        why = f"its {wrong[0]} cannot be read"
    raise InvalidRequest(f"{shown(text)} is no receipt: {why}; expected e.g. {EXAMPLE}", field="receipt")


def from_file(text: str) -> Receipt:
    """Return the receipt of a file's text: the receipt alone, or a JSON document that has it under "receipt" (an order).

    Raises:
        InvalidRequest: There is none in it.
    """
    if len(text) > FILE_CHARACTERS_MAX:
        raise InvalidRequest(f"the file has {len(text)} characters: that is no receipt", field="receipt")
    if not text.lstrip().startswith("{"):
        return parse(text)
    try:
        document = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"the file is no JSON document: {error}", field="receipt") from error
    word = document.get("receipt")
    if not isinstance(word, str) or not word:
        raise InvalidRequest('the document has no "receipt"', field="receipt")
    return parse(word)


def receipt_of(operator: str, reference: str, made_lsn: int, evidence: tuple[int, int, bytes] | None) -> str:
    """Return the receipt's text for an order made at `made_lsn`; "" where the evidence is of another entry, or of none."""
    if evidence is None or evidence[1] != made_lsn or evidence[0] <= 0 or len(evidence[2]) != HASH_BYTES:
        return ""
    return str(Receipt(operator, evidence[0], made_lsn, reference, bytes(evidence[2])))


def differences(receipt: Receipt, sealed: SealedEntry) -> list[str]:
    """Return what the entry at the receipt's lsn says otherwise than the receipt; [] proves the receipt."""
    found = []
    entry = sealed.entry
    if entry.epoch[0] != receipt.epoch:
        found.append(f"entry {receipt.lsn} is of epoch {entry.epoch[0]}, the receipt says {receipt.epoch}")
    if sealed.hash != receipt.hash:
        found.append(f"entry {receipt.lsn} has the hash {sealed.hash.hex()}, the receipt says {receipt.hash.hex()}")
    if receipt.reference not in made_orders(sealed):
        found.append(f"entry {receipt.lsn} made no booking {receipt.reference}")
    return found


def made_orders(sealed: SealedEntry) -> set[str]:
    """Return the booking references of the orders that an entry made (not of those that it changed)."""
    made = set()
    for kind, key, value in sealed.entry.events:
        if kind == Kind.ORDER and value:
            row: OrderRow = decode_row(kind, value)
            if row.lsn == sealed.entry.lsn:
                made.add(key)
    return made
