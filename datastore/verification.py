"""`python -m datastore verify`: open a store's ledger read-only, verify its chain, prove its seats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from datastore.audit import Audit, Report
from datastore.errors import DiskFailed
from datastore.ledger import SealedEntry, genesis, unseal

PAGE_ENTRIES = 500


def verify_store(path: Path) -> tuple[str, Report]:
    """Return the operator and the audit's report of the whole ledger; the store may be in use meanwhile.

    Raises:
        DiskFailed: The file is missing or is no store.
        LedgerDamaged, InvariantBroken: An entry is damaged, or the chain is broken.
    """
    try:
        database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        database.set_busy_timeout(2000)
        found = database.execute("SELECT value FROM meta WHERE key = 'operator'").fetchall()
        operator = str(found[0][0]) if found else ""
        audit = Audit(operator, genesis(operator))
        for page in _pages(database):
            audit.take(page)
    except apsw.Error as error:
        raise DiskFailed(f"{path}: {error}", file=str(path)) from error
    return operator, audit.report()


def _pages(database: apsw.Connection) -> Iterator[list[SealedEntry]]:
    """Yield the entries in pages, so that a long ledger neither fills the memory nor holds back the writer's checkpoints."""
    lsn = 0
    while True:
        page = [
            unseal(bytes(data))
            for (data,) in database.execute("SELECT body FROM log WHERE lsn > ? ORDER BY lsn LIMIT ?", (lsn, PAGE_ENTRIES))
        ]
        if not page:
            return
        lsn = page[-1].entry.lsn
        yield page
