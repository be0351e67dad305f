"""The ledger: log entries, the hash chain that binds them, and its verification. Pure.

An entry is sealed once, by the primary: `data = version, previous_hash, hash, body`, where body is MessagePack of `Entry`
and `hash = BLAKE2b-256(previous_hash + body)`. The sealed bytes are what is shipped, stored and hashed, so no replica
encodes anything and no later version of the code can hash the same entry to something else. The chain begins at
`genesis_hash(operator)`: entries of one operator cannot be slipped into the log of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from datastore.errors import HoldfastError, InvariantBroken
from datastore.model import EPOCH_NONE, Epoch
from datastore.rows import Kind
from datastore.wire import OUTCOMES, UNREADABLE, Outcome

HASH_BYTES = 32
VERSION = b"\x01"
BODY_AT = len(VERSION) + 2 * HASH_BYTES

NOOP = "noop"
CONFIG = "config"
BATCH = "batch"
ERASE = "erase"  # a batch that erases side records (Z12)

# How long a request's answer is kept (Z2): what `Entry.keeps` says of each, and the log time that it means.
KEPT_WITH_ORDER, KEPT_LONG, KEPT_SHORT = 0, 1, 2
KEEP_LONG_MS = 7 * 24 * 3600 * 1000
KEEP_SHORT_MS = 3600 * 1000
_KEEP_MS = {KEPT_LONG: KEEP_LONG_MS, KEPT_SHORT: KEEP_SHORT_MS}


class LedgerDamaged(HoldfastError):
    """Bytes that are no entry, or whose hash is another: damaged on the way or on the disk. Never used."""

    code = "ledger_damaged"
    title = "The ledger is damaged"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one lsn of a partition's log says.

    Attributes:
        stamp_ms: The log clock (R17); never falls along the log.
        kind: "noop" opens a reign, "config" names the voters (the first one opens a reign too), "batch" carries decided commands,
            "erase" too, and some of them erase side records.
        requests: (request_id, digest of what was asked) beside the outcomes; ("", b"") where nothing is recorded.
        outcomes: One MessagePack `list[Outcome]` for each submission, in the order of `requests`: the very bytes answered.
        events: Row images (kind, key, value); b"" deletes.
        sides: Digests of the side records (personal data) that must lie beside the entry before a replica may ack (Z12).
        keeps: A byte for each of `requests`: how long its answer is kept (Z2). Empty in entries of before: for good.
    """

    epoch: tuple[int, str]
    lsn: int
    stamp_ms: int
    kind: str
    requests: list[tuple[str, bytes]] = []
    outcomes: list[msgspec.Raw] = []
    events: list[tuple[int, str, bytes]] = []
    sides: list[bytes] = []
    keeps: bytes = b""


class SealedEntry(NamedTuple):
    """An entry with its place in the chain; `data` is all of it as bytes."""

    entry: Entry
    previous_hash: bytes
    hash: bytes
    data: bytes


class Position(NamedTuple):
    """Where a log ends, or one place in it."""

    lsn: int
    epoch: Epoch
    hash: bytes
    stamp_ms: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
_outcomes_decoder = msgspec.msgpack.Decoder(OUTCOMES)


def genesis_hash(operator: str) -> bytes:
    """Return what the first entry of an operator's log names as its previous hash."""
    return hashlib.blake2b(b"holdfast ledger " + operator.encode(), digest_size=HASH_BYTES).digest()


def genesis(operator: str) -> Position:
    """Return the position of an empty log."""
    return Position(0, EPOCH_NONE, genesis_hash(operator), 0)


def seal(entry: Entry, previous_hash: bytes) -> SealedEntry:
    """Return the entry with its bytes and hash; the only place where an entry is encoded."""
    body = _encoder.encode(entry)
    digest = hashlib.blake2b(previous_hash + body, digest_size=HASH_BYTES).digest()
    return SealedEntry(entry, previous_hash, digest, b"".join((VERSION, previous_hash, digest, body)))


def unseal(data: bytes) -> SealedEntry:
    """Return the entry of sealed bytes, its own hash checked; whether it follows another is the caller's question.

    Raises:
        LedgerDamaged: The bytes are no entry, or not the ones that were sealed.
    """
    previous_hash, digest, body = data[1 : 1 + HASH_BYTES], data[1 + HASH_BYTES : BODY_AT], data[BODY_AT:]
    if data[:1] != VERSION or hashlib.blake2b(previous_hash + body, digest_size=HASH_BYTES).digest() != digest:
        raise LedgerDamaged("an entry's bytes are not the ones that were sealed")
    try:
        return SealedEntry(_decoder.decode(body), previous_hash, digest, data)
    except UNREADABLE as error:
        raise LedgerDamaged(f"an entry cannot be read: {error}") from error


def hash_in(data: bytes) -> bytes:
    """Return the hash that a sealed entry's bytes name as their own, unchecked."""
    return data[1 + HASH_BYTES : BODY_AT]


def position_of(sealed: SealedEntry) -> Position:
    entry = sealed.entry
    return Position(entry.lsn, Epoch(*entry.epoch), sealed.hash, entry.stamp_ms)


def check_follows(before: Position, sealed: SealedEntry) -> Position:
    """Return the position after `sealed`, which must directly follow `before`.

    Raises:
        InvariantBroken: It does not: two logs differ where the protocol says that they cannot.
    """
    after = position_of(sealed)
    if after.lsn != before.lsn + 1 or sealed.previous_hash != before.hash or after.epoch < before.epoch or after.stamp_ms < before.stamp_ms:
        raise InvariantBroken(
            f"entry {after.lsn} of epoch {after.epoch} does not follow entry {before.lsn} of epoch {before.epoch}",
            lsn=after.lsn,
            epoch=list(after.epoch),
        )
    return after


def verify_chain(entries: Iterable[bytes], before: Position) -> Position:
    """Return the position after the last of `entries`, each checked to be whole and to follow the one before.

    Raises:
        LedgerDamaged: Names the first entry that is damaged or out of its place.
    """
    for data in entries:
        try:
            before = check_follows(before, unseal(data))
        except (InvariantBroken, LedgerDamaged) as error:
            raise LedgerDamaged(f"after entry {before.lsn}: {error.detail}", lsn=before.lsn + 1) from error
    return before


def outcome_at(entry: Entry, index: int) -> tuple[bytes, Outcome]:
    """Return (digest, outcome) of the request at `index`, as first decided."""
    left = index
    for group in entry.outcomes:
        outcomes: list[Outcome] = _outcomes_decoder.decode(group)
        if left < len(outcomes):
            return entry.requests[index][1], outcomes[left]
        left -= len(outcomes)
    raise InvariantBroken(f"entry {entry.lsn} has no outcome {index}", lsn=entry.lsn)


def answer_ends(entry: Entry) -> list[int]:
    """Return, beside the entry's requests, when each answer's life ends on the log clock; 0 is never.

    It follows from the entry alone, so every replica forgets an answer at the same stamp (Z2).
    """
    if not entry.keeps:
        return [0] * len(entry.requests)
    stamp_ms = entry.stamp_ms
    return [stamp_ms + _KEEP_MS[keep] if keep in _KEEP_MS else 0 for keep in entry.keeps]


def erased_sides(entry: Entry) -> list[bytes]:
    """Return the digests of the side records that an "erase" entry erases."""
    return [bytes.fromhex(key) for kind, key, _ in entry.events if kind == Kind.ERASED]


def request_ids(sealed: SealedEntry) -> list[str]:
    """Return the ids of the requests that the entry answered for good."""
    return [request_id for request_id, _ in sealed.entry.requests if request_id]


def entries_within(entries: Sequence[SealedEntry], size_bytes_max: int) -> list[SealedEntry]:
    """Return as many leading entries as fit; always the first one, so that a large entry cannot stop a follower."""
    size_bytes = 0
    for count, sealed in enumerate(entries):
        size_bytes += len(sealed.data)
        if size_bytes > size_bytes_max and count:
            return list(entries[:count])
    return list(entries)
