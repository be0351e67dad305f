"""What the replication machine is given and what it hands back: steps, messages, summaries. Pure.

`replication.py` holds the rules; the shell carries the steps out in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from datastore.ledger import Position, SealedEntry
from datastore.model import Epoch
from datastore.rows import ROWS_FORM, ConfigRow

# --- steps --------------------------------------------------------------------------------------------------------


class Persist(NamedTuple):
    """Put both on disk, flushed, before the next step."""

    promised: Epoch
    led: Epoch


class Write(NamedTuple):
    """Delete the log from `truncate_from` on (0: nothing), write the entries, flush. A primary then reports `wrote`."""

    truncate_from: int
    entries: tuple[SealedEntry, ...]


class Send(NamedTuple):
    """Send one APPEND with entries after `previous_lsn` up to `last_lsn`, fewer where they are large.

    Attributes:
        seq: Comes back with the answer (`answered`, `lost`).
        urgent: False for a heartbeat that may wait for the others of its link.
    """

    store_uuid: str
    node: str
    seq: int
    epoch: Epoch
    previous_lsn: int
    previous_epoch: Epoch
    last_lsn: int
    commit_lsn: int
    urgent: bool
    acked_lsn: int = 0  # What the store acknowledged in this reign.


class Commit(NamedTuple):
    """Apply every entry up to `lsn`, then let the answers of these entries leave."""

    lsn: int


class Confirmed(NamedTuple):
    """Reads with a ticket up to this one may be answered: a majority acknowledged this reign after they arrived."""

    ticket: int


class StepDown(NamedTuple):
    """The role is gone: what waits is not primary's any more, what is in flight has an unknown outcome."""

    reason: str


class NeedSnapshot(NamedTuple):
    """The log cannot bring this store up (R12): take a snapshot from a peer."""


class Distrust(NamedTuple):
    """This store acknowledged `lsn` and does not have it: its disk went back. It votes no more and must be replaced (R11)."""

    lsn: int


Step = Persist | Write | Send | Commit | Confirmed | StepDown | NeedSnapshot | Distrust


# --- messages and replies -----------------------------------------------------------------------------------------


class Append(NamedTuple):
    """APPEND, opened. Empty `entries` is a heartbeat."""

    epoch: Epoch
    previous_lsn: int
    previous_epoch: Epoch
    entries: Sequence[SealedEntry]
    commit_lsn: int
    store_uuid: str = ""
    acked_lsn: int = 0
    needs_snapshot: bool = False


class AppendAnswer(NamedTuple):
    """`status`: "ack" (durable up to match_lsn), "epoch" (promised is higher), "gap" (send from first_lsn), "snapshot".

    `rows_form`: The newest form of rows that the follower's program reads.
    """

    status: str
    epoch: Epoch
    match_lsn: int
    store_uuid: str
    promised: Epoch
    first_lsn: int = 0
    rows_form: int = ROWS_FORM


class Promised(NamedTuple):
    granted: bool
    promised: Epoch
    last: Position
    heard_age_ms: int


class Became(NamedTuple):
    accepted: bool
    reason: str = ""


class Reconfigured(NamedTuple):
    """Answer to a change of the configuration: accepted means appended and in force, not yet committed (R15)."""

    accepted: bool
    reason: str = ""
    lsn: int = 0


class HandedOver(NamedTuple):
    """`status`: "ready" (everything is committed and on the named store, nothing new is taken), "waiting", "refused"."""

    status: str
    lsn: int = 0
    reason: str = ""


class Reason(NamedTuple):
    """Why a reign begins, for the record that opens it: the node that led before, why it changes, who wanted it."""

    before: str = ""
    why: str = ""
    by: str = ""


NO_REASON = Reason()


class Plan(NamedTuple):
    steps: list[Step]
    reply: AppendAnswer | Promised | Became | Reconfigured | HandedOver | None = None


# --- what the machine is given ------------------------------------------------------------------------------------


class LogReader(Protocol):
    """What the machine asks of its own log."""

    def hash_at(self, lsn: int) -> bytes:
        """Return the hash of a stored entry; 0 is the genesis."""
        ...


@dataclass(frozen=True)
class ReplicationSettings:
    """Times in milliseconds of the monotonic clock."""

    heartbeat_ms: int = 100
    suspicion_ms: int = 1000
    entries_per_append: int = 500
    log_entries_max: int = 0
    """An empty store takes a snapshot where more than this is committed; 0: it always follows the log."""


@dataclass
class Summary:
    """What a store has on disk, from which a machine starts.

    Attributes:
        epochs: (first lsn, epoch) of each run of entries with one epoch, ascending.
        configs: (lsn, voters) of the configurations, ascending; lsn 0 is the one given at bootstrap.
        applied: Position of the last applied entry.
    """

    store_uuid: str
    promised: Epoch
    led: Epoch
    tail: Position
    applied_lsn: int
    epochs: list[tuple[int, Epoch]]
    configs: list[tuple[int, ConfigRow]]


CAUGHT_UP_ENTRIES = 100
CAUGHT_UP_MS = 1000


@dataclass
class Follower:
    """What the primary knows of another store in this reign."""

    node: str
    match_lsn: int
    next_lsn: int
    heard_ms: int  # when the last answered message was sent
    busy: int = 0  # seq of the message under way, 0 when none
    sent_ms: int = -1
    acked_seq: int = 0
    holding: bool = False  # It wants no entries: another store answers in its place, or it takes a snapshot.
    # R14: a round is the time in which it got everything that there was when the round began.
    round_end_lsn: int = 0
    round_began_ms: int = 0
    round_ms: int = -1  # of the last one that ended; -1: none has
    rows_form: int = 0  # the newest form of rows that it has told to read
    leaving_lsn: int = 0  # the entry that removed it: it is served until it has that, so that it knows

    def acknowledged(self, tail_lsn: int, now_ms: int) -> None:
        """Note the end of a round, and begin the next."""
        if self.match_lsn >= self.round_end_lsn:
            self.round_ms = now_ms - self.round_began_ms
            self.round_end_lsn, self.round_began_ms = tail_lsn, now_ms

    def is_caught_up(self, tail_lsn: int, now_ms: int) -> bool:
        """R14: it lacks little, and got its last share in little time."""
        quick = 0 <= self.round_ms < CAUGHT_UP_MS and now_ms - self.round_began_ms < CAUGHT_UP_MS
        return quick and tail_lsn - self.match_lsn < CAUGHT_UP_ENTRIES
