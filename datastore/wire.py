"""What travels below the load balancer: commands, entries' envelopes, replication messages; each to and from bytes.

Compact arrays (MessagePack), one envelope for a whole batch. A manager passes the inner bytes on without opening them.
The messages between client and load balancer are in `messages.py`.

Every list is bounded by the edge's frame limit; text and counts are checked where they are decoded for deciding.
"""

from __future__ import annotations

from typing import Any

import msgspec

from datastore import commands
from datastore.cluster_record import ClusterRecord
from datastore.commands import Command
from datastore.errors import HoldfastError, InvalidRequest, error_from_data
from datastore.model import ConnectingTime, LayoutSpec, Place, Schedule
from datastore.wire_ledger import LedgerReport
from datastore.wire_types import prepare

# --- commands: what a load balancer asks a partition to decide ---------------------------------------------------


class Hold(Command, frozen=True, tag="hold"):
    """Take free seats of one service, `chosen` or named. Prices are in minor units, beside `seats`."""

    hold_id: str
    owner: str
    service_id: str
    seats: tuple[str, ...]
    ttl_ms: int
    generation: int
    counter: int
    nonce: str
    currency: str
    prices: tuple[int, ...]
    refundable_percent: int
    owner_holds_max: int
    service_holds_max: int
    chosen: commands.Chosen | None = None


class Extend(Command, frozen=True, tag="extend"):
    """`ttl_ms` from now, at most `hold_ms_max` from the hold's creation (Z11)."""

    hold_id: str
    owner: str
    ttl_ms: int
    hold_ms_max: int


class Release(Command, frozen=True, tag="release"):
    hold_id: str
    owner: str


class Confirm(Command, frozen=True, tag="confirm"):
    """Turn a hold into an order. The first of `references` that is not taken becomes the booking reference.

    `passengers` is the side record's salted digest; its bytes travel beside the command (`SubmitItem.sides`).
    """

    hold_id: str
    owner: str
    references: tuple[str, ...]
    token_digest: bytes
    passengers: bytes
    intent: str = ""  # of a hold that is being paid: the sale takes the money (Q4)
    fares: tuple[int, ...] = ()  # beside the seats, where the passengers' types make them other than the hold's prices
    laps: tuple[int, ...] = ()  # of each infant on a lap: which seat's passenger (from 0) has it
    lap_fares: tuple[int, ...] = ()  # beside the seats: what of the fares such infants pay


class Cancel(Command, frozen=True, tag="cancel"):
    """Cancel an order whose manage token has this digest."""

    reference: str
    token_digest: bytes


class Block(Command, frozen=True, tag="block"):
    """The operator takes free seats out of sale; needs locks and a fence like a hold."""

    service_id: str
    seats: tuple[str, ...]
    reason: str
    generation: int
    counter: int
    nonce: str


class Unblock(Command, frozen=True, tag="unblock"):
    service_id: str
    seats: tuple[str, ...]


class SetService(Command, frozen=True, tag="service"):
    """Open (0), close (1) or cancel (2) a service; cancelling cancels its orders with a full refund.

    `asks` "cancelled": its travellers are asked what now, and no order is cancelled. "moved": only that; its state stays.
    """

    service_id: str
    state: int
    reason: str
    asks: str = ""


class SetOperator(Command, frozen=True, tag="operator"):
    code: str
    name: str
    kind: str
    key_digest: bytes
    accounting: str = ""  # "" leaves it as it is


class Import(Command, frozen=True, tag="import"):
    """Replace the rows of one (operator, dataset). `body` is zlib of MessagePack `ImportBody`."""

    dataset: str
    body: bytes
    dry_run: bool = False


class Erase(Command, frozen=True, tag="erase"):
    """Erase the side record `record` (its digest), on every copy and for good (Z12).

    `replacement` is the digest of a record with fewer names that takes its place, or b""; its bytes travel in `sides`.
    """

    record: bytes
    replacement: bytes = b""


class Sweep(Command, frozen=True, tag="sweep"):
    """Abort what is due. Without effect where nothing is; not recorded as a request."""


class Count(Command, frozen=True, tag="count"):
    """Add to a counter of the operator: the smallest command there is, to watch one travel (examples/counter.py)."""

    counter: str
    add: int


AnyCommand = (
    Count
    | Hold
    | Extend
    | Release
    | Confirm
    | Cancel
    | Block
    | Unblock
    | SetService
    | SetOperator
    | Import
    | Sweep
    | Erase
    | commands.OfBaskets
)


class ImportBody(msgspec.Struct, array_like=True):
    """A dataset's rows of one operator, numbers already told apart. `layouts` and `places` are those that rows name."""

    title: str
    licence: str
    schedules: list[Schedule]
    layouts: list[LayoutSpec]
    places: list[Place]
    connecting: list[ConnectingTime] = []
    accounting: str = ""  # the operator's code for ticket numbers; "" says nothing of it


# --- submit: load balancer -> manager -> primary ------------------------------------------------------------------


class SubmitItem(msgspec.Struct, array_like=True):
    """One operator's commands: `commands` is MessagePack `list[AnyCommand]`, opened by the primary alone.

    `sides`: digest -> side record (personal data) that some command names. `seen_ms`: the operator's log clock as the caller
    last heard it; 0 for one that has heard nothing. What is older than the first answers that are forgotten is refused (Z2).
    """

    operator: str
    commands: bytes
    sides: dict[bytes, bytes] = {}
    seen_ms: int = 0


class SubmitResult(msgspec.Struct, array_like=True):
    """`error` empty: `outcomes` is MessagePack `list[Outcome]`, beside the commands. Else error data for all of them."""

    operator: str
    outcomes: bytes
    epoch: int
    lsn: int
    error: dict[str, Any] = {}
    stamp_ms: int = 0  # the log clock, for the next `SubmitItem.seen_ms`
    hash: bytes = b""  # of the entry `lsn`: with it the answer is evidence for other operators (Z5)


class Outcome(msgspec.Struct, array_like=True):
    """One command's answer: `value` (plain data) when `error` is empty."""

    lsn: int
    value: dict[str, Any] = {}
    error: dict[str, Any] = {}

    def unwrap(self) -> dict[str, Any]:
        """Return the value, or raise the error anew."""
        if self.error:
            raise error_from_data(self.error)
        return self.value


# --- read: load balancer -> manager -> node -----------------------------------------------------------------------


class ReadItem(msgspec.Struct, array_like=True):
    """One linearizable question to an operator's primary. `query` and `arguments`: see `datastore.reading`.

    Queries: "hold" {hold_id}; "order" {reference}; "orders" {references}; "seats" {service_id};
    "manifest" {service_id}; "request" {request_id}; "holds" {owner}; "baskets" {basket_ids}; "leg" {basket_id}; "open" {}.
    """

    operator: str
    query: str
    arguments: dict[str, Any]


class ReadResult(msgspec.Struct, array_like=True):
    operator: str
    lsn: int
    stamp_ms: int
    value: Any = None
    error: dict[str, Any] = {}


# --- the feed: load balancer -> manager -> any voter --------------------------------------------------------------


class FeedRequest(msgspec.Struct, array_like=True):
    """Ask one node for what is committed after `after[operator] = (lsn, hash)`; wait up to `wait_ms` for news."""

    node: str
    after: dict[str, tuple[int, bytes]]
    wait_ms: int


class FeedPart(msgspec.Struct, array_like=True):
    """`status`: "ok", "snapshot_needed" (hash differs or too old), "behind" (lsn not reached), "alone" (no news, and no primary heard).

    `events`: (kind, key, value) of kinds a view follows, in log order; `lsn`, `hash`: the position after them.
    """

    operator: str
    status: str
    lsn: int
    hash: bytes
    stamp_ms: int
    events: list[tuple[int, str, bytes]] = []


class SnapshotRequest(msgspec.Struct, array_like=True):
    """Pages of the rows a view needs. The first page (`after` empty) gives the lsn and hash from which to follow."""

    node: str
    operator: str
    after: tuple[int, str] = (0, "")
    limit: int = 5000


class SnapshotPage(msgspec.Struct, array_like=True):
    lsn: int
    hash: bytes
    stamp_ms: int
    rows: list[tuple[int, str, bytes]]
    next: tuple[int, str] | None = None


# --- control: manager -> node -------------------------------------------------------------------------------------


class PartitionStatus(msgspec.Struct, array_like=True):
    """One partition on one node. `role`: "primary", "replica", "learner", "retired", "outside" (not in the configuration), "empty"."""

    operator: str
    role: str
    store_uuid: str
    promised: tuple[int, str]
    epoch: tuple[int, str]  # of the last entry
    last_lsn: int
    commit_lsn: int
    applied_lsn: int
    heard_age_ms: int  # since the primary was last heard; -1 never
    serving: bool  # a primary whose NOOP is committed and that hears a majority
    voters: dict[str, str]
    stamp_ms: int = 0
    digest_lsn: int = 0  # up to where the rows are in the file
    digest: bytes = b""  # the set hash of all rows at that lsn: equal on every copy (I4)
    ledger: LedgerReport | None = None
    learners: dict[str, str] = {}
    config_lsn: int = 0  # where the configuration stands that the three above and below are of
    retired: list[str] = []
    followers: dict[str, tuple[int, int, bool]] = {}  # at a primary: uuid -> (lsn it has, ms since it was heard, caught up)
    aside: str = ""  # the newest file of this operator that was put aside at the node: its name says when and why
    recovery: str = ""  # how its recovery stands, "" where there is none
    leaving: bool = False  # a new identity is about to take this store's place: no majority may count on it any more (R14)
    fresh: bool = False  # what it has came by snapshot under a new identity, which took part in nothing yet: it may learn as it is


class NodeStatus(msgspec.Struct, array_like=True):
    node: str
    boot_id: str
    uptime_ms: int
    wall_ms: int
    partitions: list[PartitionStatus]
    record: ClusterRecord = {}


class PromiseItem(msgspec.Struct, array_like=True):
    operator: str
    epoch: tuple[int, str]


class PromiseReply(msgspec.Struct, array_like=True):
    """`granted`: position after everything on disk; else `promised` says what was promised before (R1)."""

    operator: str
    granted: bool
    promised: tuple[int, str]
    last_epoch: tuple[int, str]
    last_lsn: int
    store_uuid: str
    voters: dict[str, str]
    wall_ms: int
    heard_age_ms: int


class BecomeItem(msgspec.Struct, array_like=True):
    """`log_time_base_ms`: median of the promise responders' wall clocks (R17). `store_uuid`: the one store named.

    `before`, `why`, `by`: for the record that opens the reign; see `rows.ReignRow`.
    """

    operator: str
    epoch: tuple[int, str]
    store_uuid: str
    log_time_base_ms: int
    before: str = ""
    why: str = ""
    by: str = ""


class BecomeReply(msgspec.Struct, array_like=True):
    operator: str
    accepted: bool
    reason: str = ""


class BootstrapItem(msgspec.Struct, array_like=True):
    """Make an empty partition's first configuration. A store that has one already answers with its own."""

    operator: str
    voters: dict[str, str]  # store uuid -> node; {} asks only for the store's uuid (creating the empty store)


class BootstrapReply(msgspec.Struct, array_like=True):
    operator: str
    store_uuid: str
    voters: dict[str, str]
    last_lsn: int


# --- replication: primary -> replica ------------------------------------------------------------------------------


class AppendItem(msgspec.Struct, array_like=True):
    """APPEND (docs/replication.md, R5). `entries`: encoded ledger entries in order; `sides`: their side records, but those
    in `erased`, which no copy has any more (Z12)."""

    operator: str
    epoch: tuple[int, str]
    previous_lsn: int
    previous_epoch: tuple[int, str]
    entries: list[bytes]
    commit_lsn: int
    sides: dict[bytes, bytes] = {}
    primary: str = ""  # node name, for hints
    erased: list[bytes] = []
    store_uuid: str = ""  # whom it is for: a store that took a lost one's place is not spoken to in its name (R14)
    acked_lsn: int = 0  # what that store acknowledged in this epoch: it must have it
    needs_snapshot: bool = False  # the entry after previous_lsn is not in the primary's log any more (R12)


class AppendReply(msgspec.Struct, array_like=True):
    """`status`: "ack" (durable up to match_lsn), "epoch" (promised is higher), "gap" (send from `first_lsn`), "disk",
    "snapshot" (the log cannot bring it up: it takes one and wants no entries until then). `rows_form`: the newest that it reads."""

    operator: str
    status: str
    epoch: tuple[int, str]
    match_lsn: int
    store_uuid: str
    promised: tuple[int, str] = (0, "")
    first_lsn: int = 0
    rows_form: int = 0


# --- manager's own answers ----------------------------------------------------------------------------------------


class ManagerStatus(msgspec.Struct, array_like=True):
    """`waiting`: operator -> why it has no serving primary. `changing`: operator -> what is being done to its copies.

    `record`: what the cluster is wanted to be. `addresses`: node -> where it listens.
    """

    manager: str
    uptime_ms: int
    nodes: dict[str, NodeStatus]  # reachable ones
    unreachable: dict[str, str]  # node -> why
    primaries: dict[str, tuple[str, tuple[int, str]]]  # operator -> (node, epoch)
    waiting: dict[str, str] = {}
    changing: dict[str, str] = {}
    record: ClusterRecord = {}
    addresses: dict[str, str] = {}


class OperatorPlace(msgspec.Struct, array_like=True):
    """Where an operator's copies are. `primary` "" while none serves."""

    operator: str
    nodes: list[str]
    primary: str
    epoch: tuple[int, str]


class Topology(msgspec.Struct, array_like=True):
    """Which nodes there are, which of them answer, and where each operator is (those of the nodes included)."""

    nodes: list[str]
    reachable: list[str]
    operators: list[OperatorPlace]


class CreateOperators(msgspec.Struct, array_like=True):
    """Make partitions for operators that have none: placed, bootstrapped, promoted. Idempotent.

    `nodes`: where copies of some of them belong; said to the cluster's record before anything is made.
    """

    operators: list[str]
    nodes: dict[str, list[str]] = {}


# What msgspec raises on bytes of strangers. Not its DecodeError alone: text that is no UTF-8 gives a UnicodeDecodeError (both
# are ValueErrors), and lists in lists without end, where anything may stand, a RecursionError.
UNREADABLE = (ValueError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Any) -> bytes:
    """Return the MessagePack bytes of a message, or of a list of them."""
    return _encoder.encode(message)


def decode(kind: Any, data: bytes) -> Any:
    """Return `data` as `kind` (a struct above, or e.g. `list[SubmitItem]`).

    Raises:
        InvalidRequest: The bytes are not such a message; nothing was done.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders.setdefault(kind, msgspec.msgpack.Decoder(kind))
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise InvalidRequest(f"malformed message: {error}", field="payload") from error


COMMANDS = list[AnyCommand]
OUTCOMES = list[Outcome]


def failure(error: HoldfastError) -> Outcome:
    """Return the outcome of a refused command."""
    return Outcome(0, {}, error.to_data())


prepare(globals())
