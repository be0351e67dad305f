"""Recovery of one copy of an operator's data from a peer: whether, from whom, what would be lost, and the pull. Pure.

The rules of docs/replication.md that stand behind it:

- R11, R14 A file that is damaged, lost, put back from a backup or distrusted by a person never votes again: the copy that
  takes its place has a new identity, is a learner until the managers made it a voter, and the old identity goes.
- R12 A store whose next entry the primary no longer has takes a snapshot. It keeps its identity: it lost nothing.
- R13 Nothing is replaced before the new file is whole, verified and on the disk. The store's own promises are kept. Entries
  beyond the snapshot are kept only where the entry at the snapshot's lsn has the same epoch here.

`Pull` is the way of one snapshot, as a machine: events in, instructions out. What is on the disk between two instructions
is the note (which snapshot, from whom), the part of the file that came, and the store as it was: whoever starts again from
any of them ends with the same file or begins anew, and the store in use is whole at every moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from datastore.errors import nearest, shown
from datastore.model import EPOCH_NONE, Epoch
from datastore.wire import PartitionStatus
from datastore.wire_recovery import RecoverReport, SnapshotOffer

# A peer this close to the most advanced one is as good: the log brings the rest at once (R14).
LAG_MAX = 100
# An empty store takes the state first where the log is longer than this; a shorter one it has from the log as fast.
LOG_ENTRIES_MAX = 1000
REQUESTS_SHOWN = 100
# Of hashes asked for in one call when looking for the place where two logs part.
HASHES_MAX = 64


class Cause(StrEnum):
    """Why a copy is recovered."""

    EMPTY = "empty"  # There is nothing: a lost disk, or a damaged file that was put aside.
    BEHIND = "behind"  # R12: the primary's log begins after what is here.
    DISTRUSTED = "distrusted"  # What is here went back behind what it once acknowledged: an old disk.
    ASKED = "asked"  # A person says that it is not to be trusted.


# --- whether and from whom ----------------------------------------------------------------------------------------


def latest(copies: Sequence[PartitionStatus]) -> PartitionStatus | None:
    """Return the copy whose log is the most advanced: its configuration is the newest that is known."""
    return max((copy for copy in copies if copy.voters), key=lambda copy: (copy.epoch, copy.last_lsn), default=None)


def cause_at_node(node: str, mine: PartitionStatus | None, peers: Mapping[str, PartitionStatus]) -> Cause | None:
    """Return why a node should recover its copy by itself, or None.

    A node that the newest configuration does not name has nothing to recover: it was never there, or was taken out.
    """
    truth = latest([*peers.values(), *([mine] if mine is not None else [])])
    if truth is None:
        return None
    if mine is not None and mine.last_lsn > 0:
        return None  # It has a log: what is missing comes by log, or is asked for when it does not (R12).
    members = {**truth.voters, **truth.learners}
    if node not in members.values():
        return None
    if mine is not None and mine.store_uuid in members and truth.commit_lsn <= LOG_ENTRIES_MAX:
        return None
    return Cause.EMPTY if truth.commit_lsn > 0 else None


class Source(NamedTuple):
    """`why`: for people, with the numbers that decided."""

    node: str
    lsn: int
    why: str


class NoSource(NamedTuple):
    why: str


def choose_source(node: str, peers: Mapping[str, PartitionStatus], wanted: str = "", at_least_lsn: int = 0) -> Source | NoSource:
    """Return the peer to take a snapshot from.

    A voter that has everything committed, a replica rather than the primary, which has its sales to do. Never a learner and
    never one that is behind: its snapshot would only have to be followed by the log that it lacks itself.

    Args:
        peers: What every reachable node says of its copy, this node's own among them or not.
        wanted: The only one to take, "" for the best.
        at_least_lsn: What the copy here has committed: it never goes back behind that.
    """
    others = {name: copy for name, copy in peers.items() if name != node}
    truth = latest(list(others.values()))
    if truth is None:
        return NoSource("no other node that answers keeps a copy")
    newest = max(copy.commit_lsn for copy in others.values() if copy.store_uuid in truth.voters or copy is truth)
    reasons = {name: _unfit(copy, truth.voters, newest, at_least_lsn) for name, copy in others.items()}
    if wanted:
        if wanted == node:
            return NoSource(f"{shown(wanted)} is the node to be recovered")
        if wanted not in others:
            near = nearest(wanted, others, 1)
            return NoSource(f"{shown(wanted)} keeps no copy, or does not answer" + (f"; did you mean {near[0]}?" if near else ""))
        if reasons[wanted]:
            return NoSource(f"{wanted} {reasons[wanted]}")
        lsn = others[wanted].commit_lsn
        return Source(wanted, lsn, f"as asked; a voter with everything committed up to lsn {lsn}")
    fit = [name for name, reason in reasons.items() if not reason]
    if not fit:
        return NoSource("; ".join(f"{name} {reason}" for name, reason in sorted(reasons.items())))
    best = min(fit, key=lambda name: (others[name].role == "primary", -others[name].commit_lsn, name))
    role = "the primary, as no replica is as far" if others[best].role == "primary" else "a replica, which spares the primary"
    return Source(best, others[best].commit_lsn, f"{role}; has everything committed up to lsn {others[best].commit_lsn}")


def _unfit(copy: PartitionStatus, voters: Mapping[str, str], newest_lsn: int, at_least_lsn: int) -> str:
    """Return why a copy is no source, or ""."""
    if copy.store_uuid not in voters:
        return f"is no voter ({copy.role})"
    if copy.commit_lsn == 0:
        return "has nothing committed"
    if copy.commit_lsn < newest_lsn - LAG_MAX:
        return f"is {newest_lsn - copy.commit_lsn} entries behind"
    if copy.commit_lsn < at_least_lsn:
        return f"has lsn {copy.commit_lsn} committed, behind lsn {at_least_lsn} here"
    return ""


def refusal(node: str, mine: PartitionStatus | None, peers: Mapping[str, PartitionStatus]) -> str:
    """Return why a copy must not be replaced now though a person asks for it, or "".

    Its identity will not count any more, so the others must be enough by themselves: a majority of the voters, one of them
    a primary that serves. Else what only this copy knows could be what was acknowledged. Others that are about to give up
    their identity as well do not count. Who says first that it leaves and then asks here never makes one too many with
    another: of several, the last to ask has heard of all.
    """
    if mine is None or mine.last_lsn == 0:
        return ""
    if mine.role == "primary":
        return f"{node} is its primary: move it first with: holdfast switchover {mine.operator}"
    truth = latest([*(copy for name, copy in peers.items() if name != node), mine])
    if truth is None or mine.store_uuid not in truth.voters:
        return ""
    others = [copy for name, copy in peers.items() if name != node and copy.store_uuid in truth.voters and not copy.leaving]
    needed = len(truth.voters) // 2 + 1
    if len(others) < needed:
        replaced = "".join(f", {name} is being replaced itself" for name, copy in peers.items() if copy.leaving)
        return f"{len(others)} of its other copies answer and {needed} are needed{replaced}: this one may hold what they do not"
    if not any(copy.role == "primary" and copy.serving for copy in others):
        return "no other copy serves as its primary: this one may hold what they do not"
    return ""


# --- what would be lost -------------------------------------------------------------------------------------------


def agreed_lsn(first_lsn: int, last_lsn: int, ours: Callable[[int], bytes], theirs: Callable[[list[int]], list[bytes]]) -> int:
    """Return the last lsn at which two chains have the same hash; a chain that parted never comes together again.

    Args:
        first_lsn, last_lsn: Where to look in ours; one before the first is taken to agree.
        theirs: Asked for at most HASHES_MAX at a time; b"" where an entry is not committed there.
    """
    low, high = first_lsn - 1, last_lsn
    while low < high:
        # Points spread over what is left: ten million entries take four questions.
        points = sorted({low + (high - low) * number // HASHES_MAX for number in range(1, HASHES_MAX + 1)} - {low})
        agreed = [bool(digest) and digest == ours(lsn) for lsn, digest in zip(points, theirs(points), strict=True)]
        count = agreed.index(False) if False in agreed else len(agreed)
        if count < len(points):
            high = points[count] - 1
        if count:
            low = points[count - 1]
    return low


def keeps_suffix(own_epoch_at_lsn: Epoch, own_last_lsn: int, lsn: int, epoch: Epoch) -> bool:
    """R13: entries beyond a snapshot stay only where the entry at its lsn is of the same epoch here."""
    return own_last_lsn > lsn and own_epoch_at_lsn == epoch != EPOCH_NONE


def progress(report: RecoverReport) -> str:
    """Return how a recovery stands in a few words, for a node's status."""
    share = f" {100 * report.bytes_done // report.bytes_total} %" if report.bytes_total and report.state == "fetching" else ""
    source = f" from {report.source}" if report.source else ""
    detail = f": {report.detail}" if report.detail else ""
    return f"{report.state}{share}{source}{detail}"


# --- the pull: events ---------------------------------------------------------------------------------------------


class Leftover(NamedTuple):
    """What an earlier pull left on the disk: its note, and how much of the file came."""

    source: str
    offer: SnapshotOffer
    size_bytes: int


class Offered(NamedTuple):
    offer: SnapshotOffer


class Came(NamedTuple):
    """The part that was asked for is in the file and ends at `end`; where it began if there is no more of it yet."""

    end: int


class Gone(NamedTuple):
    """The source does not know the snapshot any more: it was started anew, or nobody read for too long."""


class Silent(NamedTuple):
    """The source gave no answer."""

    reason: str


class Compared(NamedTuple):
    """The blocks that are whole in the file were compared; these, by number, are not as they are at the source."""

    wrong: tuple[int, ...]


class Checked(NamedTuple):
    """The file was checked; `reason` "" when it is what was offered, whole."""

    reason: str


class Installed(NamedTuple):
    """The file is in use; or `reason` says why it could not be taken into use, and nothing changed."""

    reason: str


Event = Offered | Came | Gone | Silent | Compared | Checked | Installed

# --- the pull: instructions ---------------------------------------------------------------------------------------


class Ask(NamedTuple):
    """Ask the source for a snapshot, "" or that one, after a pause; answer with Offered or Silent."""

    snapshot_id: str
    pause_ms: int


class Note(NamedTuple):
    """Put the note on the disk beside an empty file, flushed, before the first part."""

    offer: SnapshotOffer


class Fetch(NamedTuple):
    """Read a part into the file at its place; answer with Came, Gone or Silent."""

    snapshot_id: str
    offset: int
    length: int
    pause_ms: int


class Compare(NamedTuple):
    """Find the blocks among the first `size_bytes` that are not as offered now; answer with Compared."""

    offer: SnapshotOffer
    size_bytes: int


class Settle(NamedTuple):
    """Put the offer as it is now into the note: the file is what it says, as far as its blocks show."""

    offer: SnapshotOffer


class Discard(NamedTuple):
    """Delete the file and its note."""


class Check(NamedTuple):
    """Flush the file and check it; answer with Checked."""

    offer: SnapshotOffer


class Install(NamedTuple):
    """Take the file into use in the place of the store; answer with Installed."""

    offer: SnapshotOffer


class Finished(NamedTuple):
    offer: SnapshotOffer


class GiveUp(NamedTuple):
    """It cannot go on with this source. What came stays, unless Discard came before."""

    reason: str


Instruction = Ask | Note | Fetch | Compare | Settle | Discard | Check | Install | Finished | GiveUp


@dataclass
class PullSettings:
    """Times in milliseconds. `tries_max`: failures in a row after which another source is looked for."""

    part_bytes: int = 512 * 1024
    ask_ms: int = 100
    retry_ms: int = 500
    tries_max: int = 20


def same_file(one: SnapshotOffer, other: SnapshotOffer) -> bool:
    """Return whether two offers, one perhaps from before it was ready, are of one file."""
    known = not one.sha256 or not other.sha256 or one.sha256 == other.sha256
    return known and _place(one) == _place(other)


def _place(offer: SnapshotOffer) -> tuple[object, ...]:
    return offer.snapshot_id, offer.size_bytes, offer.lsn, offer.epoch, offer.hash


def blocks_within(offer: SnapshotOffer, size_bytes: int) -> int:
    """Return how many blocks of a file are whole in its first bytes."""
    return len(offer.block_sums) if size_bytes >= offer.size_bytes else size_bytes // offer.block_bytes if offer.block_bytes else 0


class Pull:
    """One snapshot on its way from one source.

    What is read while the source still takes it is provisional: SQLite writes some pages again at the end, the first above
    all. When it is ready its source says what each block's sum is, and the few that differ are read once more. That saves
    time and decides nothing: the whole file is checked by its digest and by what is in it before anything is replaced.
    """

    def __init__(self, source: str, leftover: Leftover | None, settings: PullSettings) -> None:
        self.source = source
        self.offer: SnapshotOffer | None = None
        self.size_bytes = 0
        self._leftover = leftover
        self._settings = settings
        self._again: list[tuple[int, int]] = []  # From where to where the file is still to be read once more.
        self._failures = 0
        self._damaged = 0

    def begin(self) -> list[Instruction]:
        """Return the first instructions: go on with what is there if it is this source's, else begin anew."""
        leftover = self._leftover
        if leftover is None:
            return [Ask("", 0)]
        if leftover.source != self.source or leftover.size_bytes > leftover.offer.size_bytes:
            return self._anew(0)
        if leftover.size_bytes == leftover.offer.size_bytes and leftover.offer.sha256:
            # All of it came: the source is not needed any more.
            self.offer, self.size_bytes = leftover.offer, leftover.size_bytes
            return [Check(leftover.offer)]
        return [Ask(leftover.offer.snapshot_id, 0)]

    def receive(self, event: Event) -> list[Instruction]:
        """Take in what happened and return what to do next, in order."""
        match event:
            case Offered(offer):
                return self._offered(offer)
            case Came(end):
                return self._came(end)
            case Gone():
                return self._failed("the snapshot is gone at its source", anew=True)
            case Silent(reason):
                return self._failed(reason, anew=False)
            case Compared(wrong):
                return self._compared(wrong)
            case Checked(reason):
                return self._checked(reason)
            case Installed(reason):
                assert self.offer is not None
                return [GiveUp(reason)] if reason else [Finished(self.offer)]

    def _offered(self, offer: SnapshotOffer) -> list[Instruction]:
        if offer.state == "preparing" and not offer.size_bytes:
            self._failures = 0
            return [Ask(offer.snapshot_id, self._settings.ask_ms)]
        if offer.state == "refused":
            return [GiveUp(offer.reason)]
        if offer.state not in ("preparing", "ready"):
            return self._failed("the snapshot is gone at its source", anew=True)
        leftover, self._leftover = self._leftover, None
        before = self.offer
        if leftover is not None and leftover.source == self.source and before is None:
            before, self.size_bytes = leftover.offer, leftover.size_bytes
        if before is not None and same_file(before, offer):
            self._failures = 0
            self.offer = offer
            if before.sha256 or not offer.sha256:
                return self._go_on(0)
            # Ready now: what came until now may have changed since.
            return [Compare(offer, self.size_bytes)] if offer.block_sums else self._anew(0)
        first = self.offer is None and leftover is None
        self.offer, self.size_bytes, self._again = offer, 0, []
        return [*([] if first else [Discard()]), Note(offer), *self._go_on(0)]

    def _came(self, end: int) -> list[Instruction]:
        assert self.offer is not None
        start = self._again[0][0] if self._again else self.size_bytes
        if end <= start:
            if self.offer.sha256:
                return self._failed("the snapshot is gone at its source", anew=True)
            self._failures = 0
            return [Ask(self.offer.snapshot_id, self._settings.ask_ms)]
        self._failures = 0
        if not self._again:
            self.size_bytes = end
        elif end < self._again[0][1]:
            self._again[0] = end, self._again[0][1]
        else:
            del self._again[0]
        return self._go_on(0)

    def _compared(self, wrong: tuple[int, ...]) -> list[Instruction]:
        offer = self.offer
        assert offer is not None
        # A block that only began to come could not be compared: it is read from its beginning.
        self.size_bytes = min(blocks_within(offer, self.size_bytes) * offer.block_bytes, self.size_bytes)
        self._again = [(number * offer.block_bytes, min((number + 1) * offer.block_bytes, offer.size_bytes)) for number in wrong]
        return self._go_on(0)

    def _go_on(self, pause_ms: int) -> list[Instruction]:
        offer = self.offer
        assert offer is not None
        start, end = self._again[0] if self._again else (self.size_bytes, offer.size_bytes)
        if start < end:
            return [Fetch(offer.snapshot_id, start, min(end - start, self._settings.part_bytes), pause_ms)]
        if not offer.sha256:
            return [Ask(offer.snapshot_id, self._settings.ask_ms)]
        return [*([Settle(offer)] if offer.block_sums else []), Check(offer)]

    def _failed(self, reason: str, *, anew: bool) -> list[Instruction]:
        self._failures += 1
        if self._failures >= self._settings.tries_max:
            return [GiveUp(reason)]
        pause_ms = self._settings.retry_ms
        if anew:
            return self._anew(pause_ms)
        if self.offer is None:
            return [Ask(self._leftover.offer.snapshot_id if self._leftover is not None else "", pause_ms)]
        return self._go_on(pause_ms)

    def _checked(self, reason: str) -> list[Instruction]:
        assert self.offer is not None
        if not reason:
            return [Install(self.offer)]
        # Never mended in parts: which of them is wrong is not known. Twice in a row is not the network's doing.
        self._damaged += 1
        return [Discard(), GiveUp(reason)] if self._damaged > 1 else self._anew(self._settings.retry_ms)

    def _anew(self, pause_ms: int) -> list[Instruction]:
        self.offer, self.size_bytes, self._leftover, self._again = None, 0, None, []
        return [Discard(), Ask("", pause_ms)]
