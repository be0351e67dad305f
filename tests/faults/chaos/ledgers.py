"""What every disk says in the end, against what people were told: the ledgers of a stopped cluster."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from client.history import CONFIRM, DONE, WRITES, Record
from datastore.checking import LedgerReader
from datastore.errors import HoldfastError, InvariantBroken
from datastore.ledger import LedgerDamaged, unseal
from datastore.verification import verify_store
from loadbalancer.charging import again_request_id
from tests.faults.chaos.cluster import HurtCluster


class Ledger(NamedTuple):
    """A ledger as one disk has it: each entry's hash, first entry first, and where each request was decided."""

    hashes: list[bytes]
    where: dict[str, list[int]]


class Verdict(NamedTuple):
    """What is wrong, sentences; and how often the two worst things happened.

    Attributes:
        found: Damage that was done on purpose and that the check found and named.
    """

    faults: list[str]
    sold_twice: int
    lost: int
    found: list[str]


def judged(cluster: HurtCluster, records: Sequence[Record], damaged: Collection[tuple[str, str]]) -> Verdict:
    """Judge the ledgers on all disks: chains, owners, equality, and whether they hold what was acknowledged.

    Args:
        damaged: (node, operator) of files that had bits flipped. A node checks the end of its ledger when it starts; damage before that
            is for the check of everything, which this is, so it has to be found here, and is no broken promise.
    """
    faults: list[str] = []
    found_damage: list[str] = []
    twice: set[str] = set()
    lost = 0
    for operator in [one.code for one in cluster.plan.operators]:
        found: dict[str, Ledger] = {}
        for node in cluster.nodes:
            path = cluster.folders.data / node / "partitions" / f"{operator}.sqlite"
            try:
                _, report = verify_store(path)
                faults += [f"{operator} at {node}: {violation}" for violation in report.violations]
                twice.update(f"{operator} {violation}" for violation in report.violations)
                found[node] = _read(path, operator)
            except LedgerDamaged as error:
                (found_damage if (node, operator) in damaged else faults).append(f"{operator} at {node}: {error}")
            except (HoldfastError, InvariantBroken) as error:
                faults.append(f"{operator} at {node}: {error}")
        if len(found) <= len(cluster.nodes) // 2:
            faults.append(f"{operator}: only {len(found)} of {len(cluster.nodes)} copies are whole")
        faults += _unequal(operator, found)
        if found:
            mine = [record for record in records if record.operation.operator == operator]
            ledger = max(found.values(), key=lambda ledger: len(ledger.hashes))
            missing = _missing(operator, ledger, mine)
            lost += len(missing)
            faults += [*missing, *_repeated(operator, ledger)]
    return Verdict(faults, len(twice), lost, found_damage)


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
    """What was acknowledged is in the entry that its answer named, under its request id (I2)."""
    faults = []
    for record in records:
        operation, answer = record.operation, record.answer
        # A trip's steps go under ids that its coordinator derives from the caller's.
        if operation.kind in WRITES and answer.outcome == DONE and not record.is_trip:
            known = ledger.where.get(operation.request_id, [])
            if operation.kind == CONFIRM:
                # Q7: a payment that came after the hold's end bought the same seats, held anew.
                known = known + ledger.where.get(again_request_id(operation.request_id, "sale"), [])
            if answer.lsn not in known:
                faults.append(f"{operator}: {record.named()} was told done in entry {answer.lsn}; the ledger has it in {known or 'none'}")
    return faults


def _repeated(operator: str, ledger: Ledger) -> list[str]:
    """Each request is decided once (I10)."""
    return [f"{operator}: {request_id} was decided in entries {lsns}" for request_id, lsns in ledger.where.items() if len(lsns) > 1]
