"""What travels for recovery: snapshots between nodes, and what a person asks of a node that must be recovered. Pure.

Compact arrays as in `wire`. A snapshot is pulled by who needs it: asked for until it is ready and read in parts, which may begin
while it is still taken.
"""

from __future__ import annotations

import msgspec

from datastore.wire_types import prepare

# --- node -> node -------------------------------------------------------------------------------------------------


class SnapshotAsk(msgspec.Struct, array_like=True):
    """Ask for a snapshot of an operator's partition.

    `snapshot_id` "" is any of at least `at_least_lsn`, else the one whose parts are here already.
    """

    operator: str
    snapshot_id: str = ""
    at_least_lsn: int = 0


class SnapshotOffer(msgspec.Struct, array_like=True, frozen=True):
    """What a node offers: one file that never changes once it is ready, for as long as somebody reads it.

    Attributes:
        state: "preparing" (ask again), "ready", "gone" (the id is not known any more), "refused" (`reason` says why).
        size_bytes: 0 while not known. Where a snapshot that is being prepared says it, what there is of it may be read already;
            which blocks of that are not as they will be is known when it is ready.
        sha256: Of the file's bytes; "" until it is ready.
        lsn, epoch, hash: The last committed entry in it; what its log has beyond is not part of the snapshot.
        block_bytes, block_sums: The CRC-32 of each block of the ready file, the last one shorter; 0 and none where it is not told.
    """

    state: str
    snapshot_id: str = ""
    size_bytes: int = 0
    sha256: str = ""
    lsn: int = 0
    epoch: tuple[int, str] = (0, "")
    hash: bytes = b""
    reason: str = ""
    block_bytes: int = 0
    block_sums: tuple[int, ...] = ()


class SnapshotRead(msgspec.Struct, array_like=True):
    """Ask for `length` bytes from `offset` on; the reply is `SnapshotPart`."""

    snapshot_id: str
    offset: int
    length: int


class SnapshotPart(msgspec.Struct, array_like=True):
    """`known` False: the snapshot is gone. No `data`: that much of it is not there yet."""

    known: bool
    data: bytes = b""


class HashesAsk(msgspec.Struct, array_like=True):
    """Ask for the chain's hashes at `lsns`; the reply is `list[bytes]`, b"" where an entry is not committed there."""

    operator: str
    lsns: list[int]


# --- person -> balancer -> manager -> node ------------------------------------------------------------------------


class LostWrites(msgspec.Struct, array_like=True):
    """Entries that a copy had and the others do not: written, never committed, so nobody was told that they happened.

    `last_lsn` 0: nothing is lost. `request_ids`: at most `recovery.REQUESTS_SHOWN`, oldest first. `unreadable`: why the old
    file could not be asked, "" where it could.
    """

    first_lsn: int = 0
    last_lsn: int = 0
    request_ids: list[str] = []
    unreadable: str = ""


class RecoverAsk(msgspec.Struct, array_like=True):
    """Recover copies at `node`, or look at it.

    Attributes:
        operators: [] for all that the node keeps or ought to keep.
        source: The peer to take from, "" to have it chosen.
        action: "plan" (say what would be done), "start", "watch" (how far it is).
    """

    node: str
    operators: list[str]
    source: str
    action: str


class RecoverReport(msgspec.Struct, array_like=True):
    """One operator's recovery at one node.

    Attributes:
        state: "planned", "refused", "waiting", "fetching", "checking", "installing", "filling" (older segments come after
            the state), "done", "failed".
        cause: Why it is done: "asked", "empty", "behind", "distrusted".
        source, why: The peer, and why that one; of a refusal, why not.
        fresh: Whether the store gets a new identity and becomes a learner.
        bytes_done, bytes_total, elapsed_ms: Of the file; 0 while not known.
        kept: Name of the old file where it was kept, "" where nothing in it is missing from the new one.
        detail: What it waits for, or what failed.
    """

    operator: str
    state: str
    cause: str = ""
    source: str = ""
    why: str = ""
    fresh: bool = False
    here_lsn: int = 0
    source_lsn: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    elapsed_ms: int = 0
    lost: LostWrites = msgspec.field(default_factory=LostWrites)
    kept: str = ""
    detail: str = ""


prepare(globals())
