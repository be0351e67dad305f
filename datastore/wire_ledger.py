"""What is asked and said of the ledgers on the nodes' disks: digests, full checks, segments. Part of the wire (`wire.py`)."""

from __future__ import annotations

import msgspec

from datastore.wire_types import prepare


class LedgerReport(msgspec.Struct, array_like=True):
    """What a node knows of one ledger on its disk (Z13). `missing`: segments whose files are not there: incomplete.

    `verified_lsn`: up to where the last full check found all in order; `damage`: what it found, located by lsn and file.
    """

    sealed_lsn: int = 0
    segments: int = 0
    missing: list[str] = []
    verified_lsn: int = 0
    checks_done: int = 0
    damage_lsn: int = 0
    damage_file: str = ""
    damage: str = ""


class SegmentRequest(msgspec.Struct, array_like=True):
    """Ask a node for a part of one of its sealed segments; the reply is bytes, b"" at the end of the file."""

    operator: str
    first_lsn: int
    last_lsn: int
    offset: int
    size_bytes_max: int


class CheckItem(msgspec.Struct, array_like=True):
    """Ask a node for the state digests of one operator. `at_lsn`: note the one of that lsn too, when it is applied.

    `deep`: also begin a full check of the ledger and the rows; it has ended when `checks_done` has reached `check`.
    """

    operator: str
    at_lsn: int = 0
    deep: bool = False


class CheckReply(msgspec.Struct, array_like=True):
    operator: str
    node: str
    role: str
    store_uuid: str
    digests: list[tuple[int, bytes]]
    ledger: LedgerReport
    check: int = 0
    error: str = ""


class LedgerRequest(msgspec.Struct, array_like=True):
    """Ask a manager for committed, sealed entries of an operator; the reply is `list[bytes]`, [] at the end."""

    operator: str
    from_lsn: int
    limit: int


class CheckCopies(msgspec.Struct, array_like=True):
    """Ask a manager for the check of all copies: of all operators where `items` is empty."""

    items: list[CheckItem]


class CopiesChecked(msgspec.Struct, array_like=True):
    """`silent`: node -> why it gave no answer."""

    replies: list[CheckReply]
    silent: dict[str, str]


class EntriesRequest(msgspec.Struct, array_like=True):
    """Ask for committed, sealed entries from `from_lsn` on, for an audit; the reply is `list[bytes]`, [] at the end."""

    operator: str
    from_lsn: int
    limit: int = 500


prepare(globals())
