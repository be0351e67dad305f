"""The state digest: a set hash of all row images, kept incrementally. Pure arithmetic.

Each row (kind, key, value) weighs BLAKE2b-256 of its parts; the digest of a state is the sum of the weights of its rows modulo
2^256. Addition has no order, so a change costs its own rows and no others: take the old image's weight away, add the new
one's. Two stores at one applied lsn have equal rows if and only if their digests are equal, but for a collision that nobody
who can only damage disks will find. (It is no signature: who may choose rows could search for sums. The hash chain of the
ledger is what binds.) Source: Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing: Incrementality at Reduced
Cost", 1997, the AdHash construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

DIGEST_BYTES = 32
EMPTY = 0
DIGESTS_KEPT = 16  # noted on request at chosen lsns: those at which busy replicas are compared

_MASK = (1 << 8 * DIGEST_BYTES) - 1


def weight(kind: int, key: str, value: bytes) -> int:
    """Return what one row adds to the digest; a deleted row (no value) adds nothing."""
    if not value:
        return 0
    # The key's length in front: no other split of the same bytes into key and value gives the same text.
    name = key.encode()
    head = b"%d:%d:" % (kind, len(name))
    return int.from_bytes(blake2b(head + name + value, digest_size=DIGEST_BYTES).digest(), "little")


def replaced(total: int, kind: int, key: str, old: bytes, new: bytes) -> int:
    """Return the digest after one row's image became another; b"" is no row."""
    return (total - weight(kind, key, old) + weight(kind, key, new)) & _MASK


def changed(total: int, kind: int, old: Mapping[str, bytes], new: Iterable[tuple[str, bytes]]) -> int:
    """Return the digest after many rows of one kind became others: `replaced` for each of `new`, at two thirds of its cost.

    Args:
        old: key -> the image before; a key that is missing had no row.
        new: (key, image) with each key once; b"" is no row any more.
    """
    head = b"%d:" % kind
    lengths: dict[int, bytes] = {}  # Keys of a kind are of few lengths: the parts in front are made once for each.
    read = int.from_bytes
    for key, value in new:
        name = key.encode()
        size = len(name)
        front = lengths.get(size)
        if front is None:
            front = lengths[size] = b"%b%d:" % (head, size)
        if value:
            total += read(blake2b(front + name + value, digest_size=DIGEST_BYTES).digest(), "little")
        before = old.get(key)
        if before:
            total -= read(blake2b(front + name + before, digest_size=DIGEST_BYTES).digest(), "little")
    return total & _MASK


def digest_of(rows: Iterable[tuple[int, str, bytes]], total: int = EMPTY) -> int:
    """Return the digest of rows, each (kind, key) once; `total` is that of rows counted before."""
    for kind, key, value in rows:
        total += weight(kind, key, value)
    return total & _MASK


def as_bytes(total: int) -> bytes:
    """Return the digest as it is stored and shown."""
    return total.to_bytes(DIGEST_BYTES, "big")


def from_bytes(stored: bytes) -> int:
    """Return the number that `as_bytes` wrote."""
    return int.from_bytes(stored, "big")
