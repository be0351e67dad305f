"""The code on a ticket: everything that the ticket says, signed by its operator, so that it is proved without any cluster. Pure.

    HF1.<what the ticket says>.<Ed25519 signature>        both base64url (RFC 4648, no padding)

What it says is zlib of MessagePack of `TicketFacts`. The signature (RFC 8032) is over "holdfast ticket " and the first two parts as they
stand, so that no other text that the key may sign can be taken for a ticket. The code holds names: who has it may read them, as on paper.
"""

from __future__ import annotations

import base64
import binascii
import zlib

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datastore.errors import InvalidRequest, shown
from datastore.messages_tickets import CODE_CHARACTERS_MAX

PREFIX = "HF1"
CONTEXT = b"holdfast ticket "
FACTS_BYTES_MAX = 64_000


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """One open coupon. `departs`, `arrives`: local, ISO 8601, "" where the timetable has dropped the service."""

    coupon: int
    operator: str
    operator_name: str
    service_id: str
    origin: str
    origin_name: str
    destination: str
    destination_name: str
    departs: str
    arrives: str
    seat: str


class TicketFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a ticket says. `issued_ms`: when the booking was made; `receipt`: of the sale (`receipts.py`), "" where it is not at hand."""

    operator: str
    operator_name: str
    reference: str
    number: str
    check_digit: int
    surname: str
    given: str
    type: str
    issued_ms: int
    receipt: str
    segments: tuple[Segment, ...]


_decoder = msgspec.msgpack.Decoder(TicketFacts)


def signed(facts: TicketFacts, key: Ed25519PrivateKey) -> str:
    """Return the code of a ticket."""
    said = f"{PREFIX}.{_text(zlib.compress(msgspec.msgpack.encode(facts), 9))}"
    return f"{said}.{_text(key.sign(CONTEXT + said.encode()))}"


def facts_of(code: str) -> TicketFacts:
    """Return what a code says; whether it is true is for `check`.

    Raises:
        InvalidRequest: It is no ticket's code; the detail says where it ends to be one.
    """
    said, _ = _parts(code)
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(_bytes(said.partition(".")[2], "content"), FACTS_BYTES_MAX)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise InvalidRequest("the code's content is cut off, or larger than any ticket's", field="code")
        return _decoder.decode(data)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the code's content is damaged: {error}", field="code") from error


def is_genuine(code: str, key: Ed25519PublicKey) -> bool:
    """Return whether the code was signed with the key's private half, exactly as it stands.

    Raises:
        InvalidRequest: It is no ticket's code.
    """
    said, signature = _parts(code)
    try:
        key.verify(_bytes(signature, "signature"), CONTEXT + said.encode())
    except InvalidSignature:
        return False
    return True


def _parts(code: str) -> tuple[str, str]:
    word = "".join(code.split())  # A code is typed or read in lines.
    if len(word) > CODE_CHARACTERS_MAX or not word.isascii():
        raise InvalidRequest(f"that is no ticket's code: {len(word)} characters, or not ASCII", field="code")
    said, dot, signature = word.rpartition(".")
    prefix, inner, content = said.partition(".")
    if prefix != PREFIX or not dot or not inner or not content or "." in content:
        raise InvalidRequest(f"{shown(word)} is no ticket's code: it has the form {PREFIX}.content.signature", field="code")
    return said, signature


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the code's {what} is damaged: {error}", field="code") from error
    if _text(data) != text:
        raise InvalidRequest(f"the code's {what} is damaged: it was altered at its end", field="code")
    return data
