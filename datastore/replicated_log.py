"""One store's log as the replication machine keeps it in mind: its end, the runs of epochs, the configurations. Pure.

What a follower does to its log is here (R5): keep what agrees, truncate from the first entry whose epoch differs, and
never at or below what is committed. Who may lead, and what is committed, is `replication.py`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import dropwhile

from datastore.errors import InvariantBroken, SnapshotNeeded
from datastore.ledger import CONFIG, Entry, Position, SealedEntry, check_follows
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication_steps import LogReader, Summary, Write
from datastore.rows import ConfigRow, Kind, decode_row


class ReplicatedLog:
    """The log of one store: what is in it, and how another's entries are taken in."""

    def __init__(self, summary: Summary, log: LogReader) -> None:
        self.store_uuid = summary.store_uuid
        self.tail = summary.tail
        self.commit_lsn = summary.applied_lsn
        self._log = log
        self._epochs = list(summary.epochs)
        self._configs = list(summary.configs)

    @property
    def config(self) -> ConfigRow:
        """The latest configuration in the log, committed or not (R15)."""
        return self._configs[-1][1] if self._configs else ConfigRow({})

    @property
    def config_lsn(self) -> int:
        """Where the latest configuration stands; 0 for the one given at bootstrap."""
        return self._configs[-1][0] if self._configs else 0

    def epoch_at(self, lsn: int) -> Epoch:
        """Return the epoch of a stored entry; lsn 0 has none."""
        index = bisect_right(self._epochs, lsn, key=_first_lsn) - 1
        return self._epochs[index][1] if lsn > 0 and index >= 0 else EPOCH_NONE

    def bootstrap(self, config: ConfigRow) -> bool:
        """Take the first configuration; False where there is one, or a log, already."""
        if self._configs or self.tail.lsn:
            return False
        self._configs = [(0, config)]
        return True

    def _conflict_from(self, lsn: int) -> int:
        """Return the first lsn of the run of entries that disagrees at `lsn`: the primary goes back there at once."""
        if lsn <= self.commit_lsn:
            raise InvariantBroken("a primary does not have what is committed here", lsn=lsn)
        index = bisect_right(self._epochs, lsn, key=_first_lsn) - 1
        return max(self._epochs[index][0], self.commit_lsn + 1)

    def _reconcile(self, entries: Sequence[SealedEntry]) -> Write | None:
        """Return what to truncate and write, with log, epochs and configurations already as they will be then."""
        fresh = [*dropwhile(self._has, entries)]
        if not fresh:
            return None
        lsn = fresh[0].entry.lsn
        truncate_from = 0
        if lsn <= self.tail.lsn:
            truncate_from = lsn
            self._forget_from(lsn)
        for sealed in fresh:
            self.tail = check_follows(self.tail, sealed)
            self._note(sealed.entry)
        return Write(truncate_from, tuple(fresh))

    def _has(self, sealed: SealedEntry) -> bool:
        """Return whether the log has this very entry: the same lsn and epoch (R5)."""
        entry = sealed.entry
        if entry.lsn > self.tail.lsn or self.epoch_at(entry.lsn) != entry.epoch:
            return False
        try:
            own = self._log.hash_at(entry.lsn)
        except SnapshotNeeded:
            # It came with a snapshot, and its segment is not here yet. The same lsn and epoch is the same entry; to compare the two
            # hashes besides is to notice what cannot be, and may not stop what is new.
            return True
        if own != sealed.hash:
            raise InvariantBroken(f"two entries {entry.lsn} of one epoch", lsn=entry.lsn, epoch=list(entry.epoch))
        return True

    def _forget_from(self, lsn: int) -> None:
        if lsn <= self.commit_lsn:
            raise InvariantBroken("a committed entry would be truncated", lsn=lsn)
        before = lsn - 1
        # The stamp of what stays is not known without reading it; 0 only means that the next stamp is not compared.
        self.tail = Position(before, self.epoch_at(before), self._log.hash_at(before), 0)
        self._epochs = [run for run in self._epochs if run[0] < lsn]
        self._configs = [known for known in self._configs if known[0] < lsn]

    def _note(self, entry: Entry) -> None:
        """Keep the runs of epochs and the configurations beside the log's new end."""
        if not self._epochs or self._epochs[-1][1] != entry.epoch:
            self._epochs.append((entry.lsn, Epoch(*entry.epoch)))
        if entry.kind == CONFIG:
            self._configs += [(entry.lsn, decode_row(Kind.CONFIG, value)) for kind, _, value in entry.events if kind == Kind.CONFIG]


def _first_lsn(run: tuple[int, Epoch]) -> int:
    return run[0]
