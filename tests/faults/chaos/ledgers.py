"""What every disk says in the end, against what people were told: the ledgers of a stopped cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.history import DONE, WRITES, Record
from datastore.checking import LedgerReader
from datastore.errors import HoldfastError, InvariantBroken
from datastore.ledger import unseal
from datastore.verification import verify_store
from tests.faults.chaos.cluster import HurtCluster


def ledger_faults(cluster: HurtCluster, records: Sequence[Record]) -> list[str]:
    """Return what is wrong with the ledgers on all disks: chains, owners, equality, and whether they hold what was acknowledged."""
    faults = []
    for operator in [one.code for one in cluster.plan.operators]:
        ends = {}
        for node in cluster.nodes:
            path = cluster.folders.data / node / "partitions" / f"{operator}.sqlite"
            try:
                _, report = verify_store(path)
            except (HoldfastError, InvariantBroken) as error:
                faults.append(f"{operator} at {node}: {error}")
                continue
            faults += [f"{operator} at {node}: {violation}" for violation in report.violations]
            ends[node] = (report.end.lsn, report.end.hash.hex()[:16])
        if len(set(ends.values())) > 1:
            faults.append(f"{operator}: the ledgers end differently: {ends}")
        mine = [record for record in records if record.operation.operator == operator]
        if ends and mine:
            node = next(iter(ends))
            faults += _missing(cluster.folders.data / node / "partitions" / f"{operator}.sqlite", operator, mine)
    return faults


def _missing(path: Path, operator: str, records: Sequence[Record]) -> list[str]:
    """What was acknowledged is in the entry that its answer named, under its request id; each is there once (I2, I10)."""
    where: dict[str, list[int]] = {}
    reader = LedgerReader(path, operator)
    try:
        for page in reader.pages():
            for data in page:
                entry = unseal(data).entry
                for request_id, _ in entry.requests:
                    if request_id:
                        where.setdefault(request_id, []).append(entry.lsn)
    finally:
        reader.close()
    faults = [f"{operator}: {request_id} was decided in entries {lsns}" for request_id, lsns in where.items() if len(lsns) > 1]
    for record in records:
        operation, answer = record.operation, record.answer
        # A trip's steps go under ids that its coordinator derives from the caller's.
        if operation.kind in WRITES and answer.outcome == DONE and not record.is_trip:
            known = where.get(operation.request_id, [])
            if answer.lsn not in known:
                faults.append(f"{operator}: {record.named()} was told done in entry {answer.lsn}; the ledger has it in {known or 'none'}")
    return faults
