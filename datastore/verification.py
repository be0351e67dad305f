"""`python -m datastore verify`: read the ledgers on this disk, live or stopped, and say what they prove (`proving.py`).

Files are opened for reading only and may be in use meanwhile. Each copy is read whole: SQLite's own check of the file, every
segment, every entry, the state that follows from them, the side records by their digests, and what the node wrote down beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import apsw

from datastore.audit import Audit, Report
from datastore.checking import FullCheck, LedgerReader
from datastore.errors import DiskFailed, HoldfastError, InvariantBroken, SnapshotNeeded, TooNew
from datastore.identities import Identities
from datastore.ledger import LedgerDamaged, genesis, unseal
from datastore.ledger_file import SUFFIX
from datastore.model import Epoch
from datastore.proving import CopyProof, Damage, Prover, damaged
from datastore.receipts import Receipt
from datastore.remembered import Remembered, went_back
from datastore.rows import Kind
from datastore.store_file import (
    APPLICATION_ID,
    BUSY_MS,
    FORMAT,
    FORMAT_WITHOUT_SUM,
    FORMATS_WITH_SUM,
    META_SUM,
    SCHEMA,
    UNREADABLE_VALUES,
    read_meta,
)
from datastore.wal import Broken, broken

PARTITIONS = "partitions"
IDENTITIES = "identities"
DIGEST_BYTES = 32
LOG_SETTLES_S = 0.3


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


def stores_below(data: Path) -> list[tuple[str, str, Path]]:
    """Return (node, operator, file) of every store in a cluster's data folder, in order."""
    found = [(path.parent.parent.name, path.name.removesuffix(SUFFIX), path) for path in data.glob(f"*/{PARTITIONS}/*{SUFFIX}")]
    return sorted(found, key=lambda one: (one[1], one[0]))


def verify_folder(data: Path, operators: Sequence[str], receipts: Sequence[Receipt]) -> tuple[list[CopyProof], list[str]]:
    """Return what every copy in a data folder proves, and what sets copies apart where both are committed (I4).

    Args:
        operators: Only these; [] is all.
    """
    stores = [one for one in stores_below(data) if not operators or one[1] in operators]
    copies = [verify_copy(data, node, operator, path, receipts) for node, operator, path in stores]
    return copies, _apart(copies, {(node, operator): path for node, operator, path in stores})


def verify_copy(data: Path, node: str, operator: str, path: Path, receipts: Sequence[Receipt] = ()) -> CopyProof:
    """Return what one copy proves; damage is in the answer, located, and never raised."""
    prover = Prover(operator, [receipt for receipt in receipts if receipt.operator == operator])
    found: list[Damage] = []
    applied_lsn = 0
    try:
        remembered, found = _memory(data, node, operator)  # Before the file: a copy that runs is never behind its record.
        found += _check_log(path)
        header = _header(path, operator)
        applied_lsn = header.applied_lsn
        found += _check_file(path)
        check = FullCheck(path, operator, (applied_lsn, header.digest), header.flushing_lsn)
        for _ in check.steps():
            pass
        if check.damage is not None:
            found.append(Damage(check.damage.file, check.damage.lsn, check.damage.what))
        reader = LedgerReader(path, operator)
        try:
            for page in reader.pages():
                prover.take(page)
            found += _check_sides(reader.database, prover.sides, path.name)
        finally:
            reader.close()
        found += _check_memory(remembered, header, prover.proof().last_lsn, path.name)
    except (LedgerDamaged, InvariantBroken, SnapshotNeeded, DiskFailed, TooNew) as error:
        found.append(damaged(operator, error, path.name))
    except (apsw.Error, *UNREADABLE_VALUES) as error:
        found.append(Damage(path.name, 0, f"cannot be read: {error}"))
    proof = prover.proof()
    proof.node, proof.file, proof.applied_lsn = node, str(path), applied_lsn
    proof.damage = list({(one.file, one.lsn, one.what): one for one in found}.values())
    return proof


class _Header(NamedTuple):
    """What a file says of itself at one moment."""

    applied_lsn: int
    flushing_lsn: int
    digest: bytes
    store_uuid: str
    promised: Epoch
    led: Epoch


def _header(path: Path, operator: str) -> _Header:
    """Return what the file says of itself.

    Raises:
        LedgerDamaged: It is no store of the operator. TooNew: A newer program wrote it. DiskFailed: It cannot be opened.
    """
    database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        database.set_busy_timeout(BUSY_MS)
        (application,), (version,) = (database.execute(f"PRAGMA {name}").fetchall()[0] for name in ("application_id", "user_version"))
        if isinstance(version, int) and version > FORMAT:
            raise TooNew.of(str(path), version, FORMAT)
        meta = read_meta(database)
        # One of an older minor version has no sum until a node of this version has opened it.
        formats = FORMATS_WITH_SUM if META_SUM in meta else (FORMAT_WITHOUT_SUM,)
        if meta.get("operator") != operator or application != APPLICATION_ID or version not in formats:
            raise LedgerDamaged(f"its header does not say a store of {operator} of format {FORMAT}", file=path.name)
        numbers = [meta.get(key) for key in ("applied_lsn", "flushing_lsn", "promised_counter", "led_counter")]
        digest = meta.get("state_digest")
        if not all(isinstance(number, int) for number in numbers) or not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
            raise LedgerDamaged("its record of what is applied and promised cannot be read", file=path.name)
        promised, led = (Epoch(meta[f"{name}_counter"], str(meta.get(f"{name}_manager"))) for name in ("promised", "led"))
        return _Header(meta["applied_lsn"], meta["flushing_lsn"], digest, str(meta.get("store_uuid", "")), promised, led)
    finally:
        database.close()


def _check_log(path: Path) -> list[Damage]:
    """Look for what SQLite passes over: a log of its own that breaks off. Before anybody opens the file, who might tidy it up.

    A copy that runs is written to meanwhile; what is broken at one place twice is no frame on its way.
    """
    log = path.with_name(path.name + "-wal")
    seen: list[Broken | None] = []
    while len(seen) < 2:
        try:
            seen.append(broken(log.read_bytes()))
        except FileNotFoundError:
            return []
        if seen[-1] is None:
            return []
        if len(seen) < 2:
            threading.Event().wait(LOG_SETTLES_S)
    return [Damage(log.name, 0, str(seen[0]))] if seen[0] == seen[1] else []


def _check_file(path: Path) -> list[Damage]:
    """Let SQLite check the file, and compare the names of its tables and columns with those that this program makes."""
    database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    fresh = apsw.Connection(":memory:")
    try:
        database.set_busy_timeout(BUSY_MS)
        lines = [str(line) for (line,) in database.execute("PRAGMA integrity_check(3)")]
        for statement in SCHEMA:
            fresh.execute(statement)
        # SQLite's own tables of statistics come and go with whoever asked for them.
        select = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'"
        ours, theirs = (set(map(repr, one.execute(select))) for one in (fresh, database))
    finally:
        database.close()
        fresh.close()
    found = [Damage(path.name, 0, f"SQLite finds: {line}") for line in lines if line != "ok"]
    return found + [Damage(path.name, 0, f"its tables are not those of a store: {one}") for one in sorted(ours ^ theirs)[:1]]


def _check_sides(database: apsw.Connection, wanted: set[bytes], file: str) -> list[Damage]:
    """Compare the side records with their digests, and with those that the entries name."""
    found = []
    left = set(wanted)
    for digest, value in database.execute("SELECT digest, value FROM side"):
        left.discard(digest)
        if blake2b(value, digest_size=DIGEST_BYTES).digest() != digest:
            found.append(Damage(file, 0, f"side record {digest.hex()} is not the one that was written"))
    # A copy that runs may have erased or taken in some since its entries were read: those are looked for once more.
    for digest in left:
        kept = "SELECT 1 FROM side WHERE digest = ? UNION ALL SELECT 1 FROM row WHERE kind = ? AND key = ?"
        if not database.execute(kept, (digest, int(Kind.ERASED), digest.hex())).fetchall():
            found.append(Damage(file, 0, f"side record {digest.hex()} is missing"))
    return found


def _memory(data: Path, node: str, operator: str) -> tuple[Remembered | None, list[Damage]]:
    """Return what the node wrote down beside the file (R11), and what is wrong with that record itself."""
    try:
        return Identities(data / node / IDENTITIES).read_whole(operator), []
    except LedgerDamaged as error:
        return None, [Damage(f"{IDENTITIES}/{error.fields['file']}", 0, error.detail)]


def _check_memory(remembered: Remembered | None, header: _Header, last_lsn: int, file: str) -> list[Damage]:
    """Compare with what the node wrote down: a file that knows less than it acknowledged was put back, or lost its tail (R11).

    A store of another identity is one that took the place of that one, and is on its way to be whole.
    """
    if remembered is None or remembered.store_uuid != header.store_uuid:
        return []
    back = went_back(remembered, header.store_uuid, header.promised, header.led, last_lsn)
    lsn = last_lsn + 1 if last_lsn < remembered.lsn else 0
    return [Damage(file, lsn, f"not what this node last had here: {back}")] if back else []


def _apart(copies: Sequence[CopyProof], paths: dict[tuple[str, str], Path]) -> list[str]:
    """Compare each copy with the one of its operator that has most applied, at the last entry that both have applied."""
    found = []
    by_operator: dict[str, list[CopyProof]] = {}
    for copy in copies:
        by_operator.setdefault(copy.operator, []).append(copy)
    for operator, group in by_operator.items():
        best = max(group, key=lambda copy: (not copy.damage, copy.applied_lsn))
        for copy in group:
            lsn = min(copy.applied_lsn, best.applied_lsn, copy.last_lsn, best.last_lsn)
            if copy is best or lsn < 1 or copy.damage or best.damage:
                continue
            mine, theirs = (_hash_at(paths[one.node, operator], operator, lsn) for one in (copy, best))
            if mine != theirs:
                found.append(f"{operator}: entry {lsn} at {copy.node} is {mine}, at {best.node} {theirs}")
    return found


def _hash_at(path: Path, operator: str, lsn: int) -> str:
    reader = LedgerReader(path, operator)
    try:
        return reader.entry(lsn).hash.hex()
    except HoldfastError as error:
        return error.detail
    finally:
        reader.close()
