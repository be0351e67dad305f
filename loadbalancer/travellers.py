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
from datastore.passengers import copy_passenger, on_laps

ALWAYS = ("surname", "given", "seat_id")
NOBODY = Passenger("")

_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[Passenger]])


def order_record(token: str, passengers: Sequence[Passenger]) -> bytes:
    """Return the record of an order.

    The salt comes from the token, which nobody but the buyer has: a repeat of the request at another balancer makes the
    same record, and the digest in the ledger tells nothing once the record is erased.
    """
    salt = blake2b(b"passengers", key=token.encode(), digest_size=16).digest()
    return packed(salt, passengers)


def packed(salt: bytes, passengers: Sequence[Passenger]) -> bytes:
    """Return a record's bytes: of each passenger the names and the seat, and what else is known of it."""
    return msgspec.msgpack.encode((salt, [_trimmed(one) for one in passengers]))


def _trimmed(passenger: Passenger) -> dict[str, object]:
    """Leave out what says nothing: a plain adult's record is as short, and has the same digest, as before there were types."""
    values = {name: getattr(passenger, name) for name in Passenger.__struct_fields__}
    return {name: value for name, value in values.items() if name in ALWAYS or value != getattr(NOBODY, name)}


def blank(passenger: Passenger) -> Passenger:
    """Return what stays of a passenger who was erased: the place in the party and in the cabin, nothing of the person."""
    return Passenger("", "", passenger.seat_id, passenger.type, with_adult=passenger.with_adult)


def leg_record(record: bytes, number: int, seats: Sequence[str], who: Sequence[int]) -> bytes:
    """Return the record of leg `number` of an order; b"" of an erased one.

    Args:
        who: Beside the seats, which of the order's passengers has each.
    """
    if not record:
        return b""
    salt, passengers = _decoder.decode(record)
    own = blake2b(b"leg %d" % number, key=salt, digest_size=16).digest()
    with_seats = [copy_passenger(passengers[place], seat_id=seat) for place, seat in zip(who, seats, strict=True)]
    return packed(own, [*with_seats, *_laps_of(passengers, who)])


def _laps_of(passengers: Sequence[Passenger], who: Sequence[int]) -> list[Passenger]:
    """Return the infants on the laps of those who have a seat, each with its adult's place among them, from 1."""
    places = {place + 1: number for number, place in enumerate(who, 1)}
    return [msgspec.structs.replace(one, with_adult=places[one.with_adult]) for one in on_laps(passengers) if one.with_adult in places]


def record_digest(record: bytes) -> bytes:
    """Return what stands for a record in the ledger; b"" for none."""
    return blake2b(record, digest_size=32).digest() if record else b""


def travelling(record: bytes | None, order: Mapping[str, Any]) -> list[Passenger]:
    """Return who still travels on an order (as `outcomes.order_value` gives it), with the seats of its first leg."""
    named = passengers_of(record)
    seats = order["legs"][0][2] if order["legs"] else order["seats"]
    who = order["travellers"] or range(len(seats))
    with_seats = [msgspec.structs.replace(named[place], seat_id=seat) for place, seat in zip(who, seats, strict=True) if place < len(named)]
    return [*with_seats, *_laps_of(named, who)]


def passengers_of(record: bytes | None) -> list[Passenger]:
    """Return who travels, from a record; none where it was erased (Z12)."""
    return list(_decoder.decode(record)[1]) if record else []
