"""What administrators and operators ask of the ledgers: checks of all copies, exports, the erasure of a person. Pure."""

from __future__ import annotations

import msgspec

from datastore.messages_base import Answer, Limit, LsnOfOperator, OperatorCode, OperatorCodes, Request, Secret, Text, Word, Write


class CheckCluster(Request, frozen=True, kw_only=True):
    """Compare all copies of the operators named, or of all. Needs the admin's key.

    `at`: operator -> an lsn to come, at which every copy is to note its state digest. `deep`: begin a full check of each copy.
    """

    admin_key: Secret
    operators: OperatorCodes = msgspec.field(default_factory=list)
    at: LsnOfOperator = msgspec.field(default_factory=dict)
    deep: bool = False


class CopyState(msgspec.Struct):
    """One copy. `digests`: (lsn, state digest in hexadecimal); `check`: the number of the full check asked for, 0 for none.

    `missing`: sealed segments whose files are not there; `damage`: what the last full check found, located.
    """

    operator: str
    node: str
    role: str
    digests: list[tuple[int, str]]
    sealed_lsn: int
    segments: int
    missing: list[str]
    verified_lsn: int
    checks_done: int
    check: int
    damage: str
    damage_lsn: int
    damage_file: str


class RemoveOperator(Write, frozen=True, kw_only=True):
    """Take an operator out of sale for good; refused while anything of it is open. Its ledger stays. Needs the admin's key."""

    admin_key: Secret
    code: OperatorCode


class Removed(Answer, kw_only=True):
    code: str
    lsn: int


class CheckAnswer(Answer, kw_only=True):
    """`silent`: node -> why it gave no answer. `nodes_of`: operator -> the nodes that should have a copy."""

    copies: list[CopyState]
    silent: dict[str, str]
    nodes_of: dict[str, list[str]]
    primaries: dict[str, str]


class LedgerPage(Request, frozen=True, kw_only=True):
    """Committed entries of an operator's ledger, for an export; `key`: the operator's or the admin's."""

    key: Secret
    operator: OperatorCode
    from_lsn: int
    limit: Limit = 500


class LedgerPageAnswer(Answer, kw_only=True):
    """`entries`: sealed, in order, [] at the end."""

    entries: list[bytes]


class CheckReceipt(Request, frozen=True, kw_only=True):
    """Ask the operator's primary whether its ledger has what a receipt says (`datastore.receipts`). Anybody may, rate limited."""

    receipt: Text


class ReceiptAnswer(Answer, kw_only=True):
    """`differences` empty: proved. Else what the entry at that place says otherwise; `last_lsn`: where the ledger ends, if before it."""

    receipt: str
    differences: list[str]
    last_lsn: int = 0


class FindPerson(Request, frozen=True, kw_only=True):
    """Find bookings by `reference`, or by a passenger's `name` ("surname" or "surname given"). `after`: the page before."""

    operator_key: Secret
    operator: OperatorCode
    reference: Word = ""
    name: Text = ""
    after: Text = ""


class PersonFound(msgspec.Struct):
    """A record that names the person: `seats` of those who match, of `passengers` in all. `record`: its digest."""

    reference: str
    service_id: str
    seats: list[str]
    passengers: int
    record: str


class PersonsAnswer(Answer, kw_only=True):
    found: list[PersonFound]
    next: str | None


class ErasePerson(Write, frozen=True, kw_only=True):
    """Erase the passengers of one record that match `name`, all of them where it is "". It cannot be undone."""

    operator_key: Secret
    operator: OperatorCode
    reference: Word
    record: Word
    name: Text = ""


class ErasedAnswer(Answer, kw_only=True):
    reference: str
    seats: list[str]
    lsn: int
