"""Names derived from secrets and requests: owners, holds, tokens, digests. Pure.

Everything here is a function of what the caller sent, so that a repeat of a request at any balancer gives the same
names (Z3) and no balancer has to remember any.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from datastore.errors import UnknownHold, shown
from datastore.model import BASKET_MARK, is_basket, place_in_bulk

OWNER_PERSON = b"holdfast-owner"
KEY_PERSON = b"holdfast-key"
HOLD_PERSON = b"holdfast-hold"
ASK_PERSON = b"holdfast-ask"
ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_LETTERS = bytes(ALPHABET[value & 31] for value in range(256))
HOLD_CHARACTERS = 20  # 100 bits: nobody meets another's hold by guessing or by accident.
OWNER_CHARACTERS = 16

_encoder = msgspec.msgpack.Encoder()


def letters(digest: bytes) -> str:
    """Return one of 32 letters and digits for each byte: five bits of each."""
    # Not base 32 of the whole: that takes ten times as long, and every hold needs one.
    return digest.translate(_LETTERS).decode()


@lru_cache(maxsize=16_384)
def owner_of(owner_key: str) -> str:
    """Return the name under which an owner's holds are stored: not the key, and nothing that leads back to it."""
    return letters(blake2b(owner_key.encode(), digest_size=OWNER_CHARACTERS, person=OWNER_PERSON).digest())


def hold_id_of(operator: str, owner: str, request_id: str, attempt: int = 0) -> str:
    """Return the id of the hold that this attempt of this request makes: routable by the operator before the dot."""
    digest = blake2b(f"{owner}{request_id}#{attempt}".encode(), digest_size=HOLD_CHARACTERS, person=HOLD_PERSON).digest()
    return f"{operator}.{letters(digest)}"


def basket_id_of(anchor: str, owner: str, request_id: str, attempt: int = 0) -> str:
    """Return the id of the basket that this attempt of this request makes (Z3): routable by the anchor before the dot."""
    return hold_id_of(anchor, owner, request_id, attempt).replace(".", BASKET_MARK, 1)


def operator_of_hold(hold_id: str) -> str:
    """Return the operator that decides on the hold, or on the basket.

    Raises:
        UnknownHold: It cannot be the id of any hold.
    """
    place = place_in_bulk(hold_id)
    operator, dot, rest = (place[0] if place else hold_id).partition(BASKET_MARK if is_basket(hold_id) else ".")
    if not dot or not operator or len(rest) != HOLD_CHARACTERS:
        raise UnknownHold(f"{shown(hold_id)} is not the id of a hold: expected e.g. AR.{'a' * HOLD_CHARACTERS}", hold_id=shown(hold_id))
    return operator


def request_id_of_attempt(request_id: str, attempt: int) -> str:
    """Return the id under which a partition knows an attempt: the caller's own for the first, "ID#n" after it.

    No caller's id has a "#", so attempts never meet another request.
    """
    return f"{request_id}#{attempt}" if attempt else request_id


def ask_digest(*asked: Any) -> bytes:
    """Return the digest of what a caller asked: a request id may not come back with another question."""
    return blake2b(_encoder.encode(asked), digest_size=16, person=ASK_PERSON).digest()


def manage_token(owner_key: str, hold_id: str) -> str:
    """Return the secret that changes the order which this hold becomes: 128 bits as hexadecimal text."""
    key = blake2b(owner_key.encode(), digest_size=32).digest()
    return blake2b(b"manage:" + hold_id.encode(), key=key, digest_size=16).hexdigest()


def token_digest(token: str) -> bytes:
    """Return what is stored of a manage token."""
    return blake2b(token.encode(), digest_size=32).digest()


def key_digest(key: str) -> bytes:
    """Return what is stored of an operator's or the administrator's key."""
    return blake2b(key.encode(), digest_size=32, person=KEY_PERSON).digest()


def is_key(key: str, digest: bytes) -> bool:
    """Return whether `key` is the one that `digest` was made of; an empty digest admits nobody. Takes equal time."""
    return bool(digest) and hmac.compare_digest(key_digest(key), digest)
