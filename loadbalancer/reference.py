"""Booking references: six characters that look random, and lead back to the few operators that may have the order. Pure.

The alphabet has no 0/O, 1/I/L. A reference stands for a number below 31^6; a Feistel network with cycle walking maps it,
one to one, to (slot, serial), where the slot is the operator's place among 61. So a look-up asks the operators of one
slot instead of all of them, and no character of a reference shows which. The mixing hides nothing from an attacker: what
protects an order is its manage token, not its reference.
"""

from __future__ import annotations

from hashlib import blake2b

from datastore.errors import UnknownOrder, shown

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
LENGTH = 6
SLOTS = 61
SERIALS = len(ALPHABET) ** LENGTH // SLOTS  # serial numbers of one slot: 14.5 million
_DOMAIN = SLOTS * SERIALS
_HALF_BITS = 15  # 2^30 is the smallest even power of two above the domain: few steps of the walk leave it
_HALF_MASK = (1 << _HALF_BITS) - 1
_ROUNDS = 4
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
# How a reference is misread or mistyped; no character of the left is in the alphabet.
_MISREAD = str.maketrans({" ": "", "-": ""})


def slot_of_operator(operator: str) -> int:
    """Return the operator's slot."""
    return int.from_bytes(blake2b(operator.encode(), digest_size=8, person=b"holdfast-slot").digest(), "big") % SLOTS


def make_reference(slot: int, serial: int) -> str:
    """Return the reference of a slot's serial number; draw the serial at random below `SERIALS`."""
    if not (0 <= slot < SLOTS and 0 <= serial < SERIALS):
        raise ValueError(f"slot {slot} or serial {serial} is out of range")
    number = slot + SLOTS * serial
    while True:
        number = _mix(number)
        if number < _DOMAIN:
            break
    characters = []
    for _ in range(LENGTH):
        number, value = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[value])
    return "".join(characters)


def normalised(text: str) -> str:
    """Return a typed reference in its one form.

    Raises:
        UnknownOrder: It cannot be a reference: the same error as for one that nobody has.
    """
    word = text.strip().upper().translate(_MISREAD)
    if len(word) != LENGTH or any(character not in _VALUES for character in word):
        raise UnknownOrder(f"no booking {shown(text)}: a reference has {LENGTH} letters and digits, none of 0 O 1 I L")
    return word


def slot_of(reference: str) -> int | None:
    """Return the slot that a normalised reference leads to, or None for the few that no order can have."""
    number = 0
    for character in reversed(reference):
        number = number * len(ALPHABET) + _VALUES[character]
    if number >= _DOMAIN:
        return None
    while True:
        number = _unmix(number)
        if number < _DOMAIN:
            return number % SLOTS


def _round_value(half: int, number: int) -> int:
    digest = blake2b(half.to_bytes(2, "big"), digest_size=2, person=b"holdfast-ref%d" % number).digest()
    return int.from_bytes(digest, "big") & _HALF_MASK


def _mix(number: int) -> int:
    left, right = number >> _HALF_BITS, number & _HALF_MASK
    for turn in range(_ROUNDS):
        left, right = right, left ^ _round_value(right, turn)
    return left << _HALF_BITS | right


def _unmix(number: int) -> int:
    left, right = number >> _HALF_BITS, number & _HALF_MASK
    for turn in reversed(range(_ROUNDS)):
        left, right = right ^ _round_value(left, turn), left
    return left << _HALF_BITS | right
