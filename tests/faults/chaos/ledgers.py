"""What every disk says in the end, against what people were told: the ledgers of a stopped cluster."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from client.history import DONE, WRITES, Record
from datastore.checking import LedgerReader
from datastore.errors import HoldfastError, InvariantBroken
from datastore.ledger import unseal
from datastore.verification import verify_store
from tests.faults.chaos.cluster import HurtCluster


class Ledger(NamedTuple):
    """A ledger as one disk has it: each entry's hash, first entry first, and where each request was decided."""

    hashes: list[bytes]
    where: dict[str, list[int]]


def ledger_faults(cluster: HurtCluster, records: Sequence[Record]) -> list[str]:
    """Return what is wrong with the ledgers on all disks: chains, owners, equality, and whether they hold what was acknowledged."""
    faults = []
    for operator in [one.code for one in cluster.plan.operators]:
        found: dict[str, Ledger] = {}
        for node in cluster.nodes:
            path = cluster.folders.data / node / "partitions" / f"{operator}.sqlite"
            try:
                _, report = verify_store(path)
                faults += [f"{operator} at {node}: {violation}" for violation in report.violations]
                found[node] = _read(path, operator)
            except (HoldfastError, InvariantBroken) as error:
                faults.append(f"{operator} at {node}: {error}")
        faults += _unequal(operator, found)
        if found:
            mine = [record for record in records if record.operation.operator == operator]
            faults += _missing(operator, max(found.values(), key=lambda ledger: len(ledger.hashes)), mine)
    return faults


def _read(path: Path, operator: str) -> Ledger:
    ledger = Ledger([], {})
    reader = LedgerReader(path, operator)
    try:
        for page in reader.pages():
            for sealed in map(unseal, page):
                ledger.hashes.append(sealed.hash)
                for request_id, _ in sealed.entry.requests:
                    if request_id:
                        ledger.where.setdefault(request_id, []).append(sealed.entry.lsn)
    finally:
        reader.close()
    return ledger


def _unequal(operator: str, found: Mapping[str, Ledger]) -> list[str]:
    """All copies are one chain (I4). The end of one may be longer: what nobody had acknowledged when the processes were stopped."""
    faults = []
    for (one, ledger), (other, another) in itertools.combinations(found.items(), 2):
        for lsn, (first, second) in enumerate(zip(ledger.hashes, another.hashes, strict=False), 1):
            if first != second:
                faults.append(f"{operator}: entry {lsn} at {one} is not the one at {other}")
                break
    return faults


def _missing(operator: str, ledger: Ledger, records: Sequence[Record]) -> list[str]:
    """What was acknowledged is in the entry that its answer named, under its request id; each is there once (I2, I10)."""
    faults = [f"{operator}: {request_id} was decided in entries {lsns}" for request_id, lsns in ledger.where.items() if len(lsns) > 1]
    for record in records:
        operation, answer = record.operation, record.answer
        # A trip's steps go under ids that its coordinator derives from the caller's.
        if operation.kind in WRITES and answer.outcome == DONE and not record.is_trip:
            known = ledger.where.get(operation.request_id, [])
            if answer.lsn not in known:
                faults.append(f"{operator}: {record.named()} was told done in entry {answer.lsn}; the ledger has it in {known or 'none'}")
    return faults
