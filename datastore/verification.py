"""`python -m datastore verify`: open a store's ledger read-only, verify its chain, prove its seats."""

from __future__ import annotations

from pathlib import Path

import apsw

from datastore.audit import Audit, Report
from datastore.checking import LedgerReader
from datastore.errors import DiskFailed
from datastore.ledger import genesis, unseal


def verify_store(path: Path) -> tuple[str, Report]:
    """Return the operator and the audit's report of the whole ledger; the store may be in use meanwhile.

    Raises:
        DiskFailed: The file is missing or is no store.
        LedgerDamaged, InvariantBroken: An entry is damaged, or the chain is broken.
        SnapshotNeeded: A segment is not beside the file.
    """
    try:
        database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        found = database.execute("SELECT value FROM meta WHERE key = 'operator'").fetchall()
        database.close()
    except apsw.Error as error:
        raise DiskFailed(f"{path}: {error}", file=str(path)) from error
    operator = str(found[0][0]) if found else ""
    audit = Audit(operator, genesis(operator))
    reader = LedgerReader(path, operator)
    try:
        # In pages, so that a long ledger neither fills the memory nor holds back the writer's checkpoints.
        for page in reader.pages():
            audit.take([unseal(data) for data in page])
    finally:
        reader.close()
    return operator, audit.report()
