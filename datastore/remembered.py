"""What a node writes down beside a store, and what follows from it: whether a store is the one that was last used (R11, R14). Pure.

`identities.py` keeps the records.
"""

from __future__ import annotations

from typing import NamedTuple

from datastore.model import Epoch


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


def names_another(before: Remembered | None, remembered: Remembered) -> bool:
    """Return whether a record names a store that the one before did not: it must be on the disk before anybody counts on that store.

    A power failure that loses a record loses one check. One that leaves an older record there would have its successor put aside.
    """
    known = {before.store_uuid, before.next_uuid} if before is not None else {remembered.store_uuid}
    return not known >= {remembered.store_uuid, remembered.next_uuid or remembered.store_uuid}
