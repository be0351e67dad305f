"""The side records of orders: who travels, with the salt of the digest that stands in the ledger (Z12). Pure.

The anchor keeps the order's record; every leg's operator gets one with its own seats only, under a salt of its own that
follows from the order's. So any balancer makes the same leg's record of the same order, and no operator's digest leads
to another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from datastore.model import Passenger

_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[Passenger]])


def order_record(token: str, passengers: Sequence[Passenger]) -> bytes:
    """Return the record of an order.

    The salt comes from the token, which nobody but the buyer has: a repeat of the request at another balancer makes the
    same record, and the digest in the ledger tells nothing once the record is erased.
    """
    salt = blake2b(b"passengers", key=token.encode(), digest_size=16).digest()
    return msgspec.msgpack.encode((salt, passengers))


def leg_record(record: bytes, number: int, seats: Sequence[str]) -> bytes:
    """Return the record of an order's leg `number`, whose seats are beside the order's passengers; b"" of an erased one."""
    if not record:
        return b""
    salt, passengers = _decoder.decode(record)
    own = blake2b(b"leg %d" % number, key=salt, digest_size=16).digest()
    seated = [Passenger(one.surname, one.given, seat) for one, seat in zip(passengers, seats, strict=True)]
    return msgspec.msgpack.encode((own, seated))


def record_digest(record: bytes) -> bytes:
    """Return what stands for a record in the ledger; b"" for none."""
    return blake2b(record, digest_size=32).digest() if record else b""


def passengers_of(record: bytes | None) -> list[Passenger]:
    """Return who travels, from a record; none where it was erased (Z12)."""
    return list(_decoder.decode(record)[1]) if record else []
