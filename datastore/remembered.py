"""What a node writes down beside a store, and what follows from it: whether a store is the one that was last used (R11, R14). Pure.

`identities.py` keeps the records.
"""

from __future__ import annotations

from typing import NamedTuple

from datastore.model import EPOCH_NONE, Epoch


class Remembered(NamedTuple):
    """What the node wrote down beside a store: that one may be ahead of it, never behind.

    Attributes:
        next_uuid: The identity about to take its place, "" for none.
        lsn: Committed and on the disk when this was written.
    """

    store_uuid: str
    next_uuid: str
    promised: Epoch
    led: Epoch
    lsn: int


def went_back(remembered: Remembered | None, store_uuid: str, promised: Epoch, led: Epoch, last_lsn: int) -> str:
    """Return why a store cannot be the one that the node last used, or "" (R11).

    A disk that went back as a whole, this record with it, is not seen here; its primary sees it while its reign lasts.
    """
    if remembered is None:
        return ""
    if store_uuid == remembered.next_uuid:
        return ""
    if store_uuid != remembered.store_uuid:
        return f"another store was in use here, {remembered.store_uuid}"
    if promised < remembered.promised or led < remembered.led:
        return f"it promised epoch {remembered.promised.counter} and knows of {promised.counter} only"
    if last_lsn < remembered.lsn:
        return f"it had entry {remembered.lsn} and ends at {last_lsn}"
    return ""


def must_last(before: Remembered | None, remembered: Remembered) -> bool:
    """Return whether a record has to be on the disk before anybody counts on what it says, and not only in the next process's sight.

    One that names a store which the one before did not: an older record would have that store put aside after a power failure. And
    one that tells of a new promise or reign, which are rare: else a power failure and then a file from a backup, of before the
    promise, would come up as a store that may promise the same epoch again. Of the lsn alone a power failure may lose the check.
    """
    promised, led = (before.promised, before.led) if before is not None else (EPOCH_NONE, EPOCH_NONE)
    known = {before.store_uuid, before.next_uuid} if before is not None else {remembered.store_uuid}
    names = {remembered.store_uuid, remembered.next_uuid or remembered.store_uuid}
    return not known >= names or remembered.promised > promised or remembered.led > led
