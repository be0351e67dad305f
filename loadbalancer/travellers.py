"""The side records of orders: who travels, with the salt of the digest that stands in the ledger (Z12). Pure.

The anchor keeps the order's record; every leg's operator gets one with its own seats only, under a salt of its own that
follows from the order's. So any balancer makes the same leg's record of the same order, and no operator's digest leads
to another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

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


def leg_record(record: bytes, number: int, seats: Sequence[str], who: Sequence[int]) -> bytes:
    """Return the record of leg `number` of an order; b"" of an erased one.

    Args:
        who: Beside the seats, which of the order's passengers has each.
    """
    if not record:
        return b""
    salt, passengers = _decoder.decode(record)
    own = blake2b(b"leg %d" % number, key=salt, digest_size=16).digest()
    named = [passengers[place] for place in who]
    seated = [Passenger(one.surname, one.given, seat) for one, seat in zip(named, seats, strict=True)]
    return msgspec.msgpack.encode((own, seated))


def record_digest(record: bytes) -> bytes:
    """Return what stands for a record in the ledger; b"" for none."""
    return blake2b(record, digest_size=32).digest() if record else b""


def travelling(record: bytes | None, order: Mapping[str, Any]) -> list[Passenger]:
    """Return who still travels on an order (as `outcomes.order_value` gives it), with the seats of its first leg."""
    named = passengers_of(record)
    seats = order["legs"][0][2] if order["legs"] else order["seats"]
    who = order["travellers"] or range(len(seats))
    return [msgspec.structs.replace(named[place], seat_id=seat) for place, seat in zip(who, seats, strict=True) if place < len(named)]


def passengers_of(record: bytes | None) -> list[Passenger]:
    """Return who travels, from a record; none where it was erased (Z12)."""
    return list(_decoder.decode(record)[1]) if record else []
