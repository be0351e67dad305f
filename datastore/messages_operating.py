"""What operators and administrators ask: seats and services, manifests, timetables, the cluster's state. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.import_changes import RowChange
from datastore.messages_base import (
    Answer,
    NodeNames,
    OperatorCode,
    Request,
    SeatWords,
    Secret,
    Text,
    Word,
    Write,
)
from datastore.messages_looking import (
    ServiceInfo,
)
from datastore.model import Document

LOCKS_MAX = 1_000


class BlockSeats(Write, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word
    seats: SeatWords
    reason: Text


class UnblockSeats(Write, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word
    seats: SeatWords


class SeatsChanged(Answer, kw_only=True):
    service_id: str
    seats: list[str]
    lsn: int


class ChangeService(Write, frozen=True, kw_only=True):
    """`state`: "open", "closed", "cancelled"; "moved" leaves it as it is and asks the travellers what now.

    `ask_travellers`: with "cancelled", bookings stand until their travellers take an alternative or the money; else they are
    cancelled at once with the whole price back.
    """

    operator_key: Secret
    service_id: Word
    state: Word
    reason: Text = ""
    ask_travellers: bool = False


class ServiceChanged(Answer, kw_only=True):
    service_id: str
    state: str
    orders_cancelled: list[str]
    orders_asked: list[str] = msgspec.field(default_factory=list)
    holds_released: int
    lsn: int


class Manifest(Request, frozen=True, kw_only=True):
    operator_key: Secret
    service_id: Word


class ManifestLine(msgspec.Struct):
    """One passenger of a service; `seat_id` of an infant on a lap is its adult's. What was erased is "" (Z12)."""

    seat_id: str
    surname: str
    given: str
    reference: str
    type: str = "ADT"
    born: str = ""
    document: Document | None = None
    loyalty: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    ticket: str = ""  # "" where another operator issued it


class ManifestAnswer(Answer, kw_only=True):
    service: ServiceInfo
    lines: list[ManifestLine]
    blocked: list[tuple[str, str]]  # (seat, reason)
    held: int
    free: int
    lsn: int


class Count(Write, frozen=True, kw_only=True):
    """Add to a counter of an operator; `add` 0 asks how it stands. Needs the operator's key."""

    operator_key: Secret
    operator: OperatorCode
    counter: Word
    add: Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Counted(Answer, kw_only=True):
    operator: str
    counter: str
    value: int
    lsn: int


class CreateOperator(Write, frozen=True, kw_only=True):
    """Make an operator known (and its partition, where there is none) and set who acts for it. Needs the admin's key.

    `nodes`: where a new partition's copies belong; [] leaves that to the managers.
    """

    admin_key: Secret
    code: OperatorCode
    name: Text
    kind: Word
    operator_key_digest: bytes = b""
    accounting: Annotated[str, Meta(max_length=3)] = ""  # of its tickets' numbers; "" leaves it as it is
    nodes: NodeNames = msgspec.field(default_factory=list)


class Created(Answer, kw_only=True):
    code: str
    lsn: int


class ImportTimetable(Write, frozen=True, kw_only=True):
    """Replace one (operator, dataset). `key`: the operator's or the admin's. `body`: zlib of `wire.ImportBody`."""

    key: Secret
    operator: OperatorCode
    dataset: Word
    body: bytes
    dry_run: bool = False


class Imported(Answer, kw_only=True):
    """What an import did, or would do. Of a dry run: `rows` are the first that would change, `rows_left_off` counts the others."""

    operator: str
    dataset: str
    added: int
    changed: int
    removed: int
    unchanged: int
    lsn: int
    rows: tuple[RowChange, ...] = ()
    rows_left_off: int = 0


class DatasetNumbers(Request, frozen=True, kw_only=True):
    """(number, origin) pairs of an operator that datasets other than `dataset` use: what an import must tell itself apart from."""

    operator: OperatorCode
    dataset: Word


class DatasetNumbersAnswer(Answer, kw_only=True):
    known: bool
    taken: list[tuple[str, str]]


class Status(Request, frozen=True, kw_only=True):
    """The cluster as this balancer sees it."""


class Locks(Request, frozen=True, kw_only=True):
    """Which locks stand on the lock servers now; at most `limit` of them."""

    limit: Annotated[int, Meta(ge=1, le=LOCKS_MAX)] = 200


class LockLine(msgspec.Struct):
    """One key that somebody has locked.

    Attributes:
        key: "seat:OPERATOR/SERVICE/SEAT" while seats are being held, "promote:OPERATOR" while a manager looks after the operator.
        holder: The balancer or manager, or the beginning of the nonce of somebody unknown.
        left_ms: How long the last of the servers will keep it.
        servers: The names of those that have it.
    """

    key: str
    holder: str
    left_ms: int
    servers: list[str]


class LocksAnswer(Answer, kw_only=True):
    """`asked`: how many lock servers there are; `unread`: those that could not be read, and why; `more`: not all are in `locks`."""

    locks: list[LockLine]
    asked: int
    quorum: int
    unread: dict[str, str] = msgspec.field(default_factory=dict)
    more: bool = False


class About(Request, frozen=True, kw_only=True):
    """How one balancer is, which it answers without asking anybody."""


class AboutAnswer(Answer, kw_only=True):
    """`figures`, `hot`: see `ProcessStatus`."""

    name: str
    detail: str
    uptime_ms: int
    figures: dict[str, int] = msgspec.field(default_factory=dict)
    hot: list[tuple[str, int]] = msgspec.field(default_factory=list)


class ProcessStatus(msgspec.Struct):
    """One line of the status table. `verdict`: "ok", "degraded", "down".

    Attributes:
        figures: Of a balancer, since its start: "commands", "batches", and of requests for seats that others wanted too "waited"
            (in line within the balancer), "contended" (a lock taken elsewhere), "refused".
        hot: The seat keys (OPERATOR/SERVICE/SEAT) that these were about, with counts that fade, the hottest first.
    """

    name: str
    kind: str  # "lock server", "node", "manager", "balancer"
    address: str
    state: str
    verdict: str
    detail: str = ""
    uptime_ms: int = 0
    figures: dict[str, int] = {}
    hot: list[tuple[str, int]] = []


class CopyLine(msgspec.Struct):
    """One copy of an operator. `role`: see `wire.PartitionStatus`; `behind`, `behind_ms`: entries and time that it lacks.

    `verified_lsn`: up to where its ledger was read and found whole; `aside`: the newest file that was put aside at the node;
    `recovery`: how its recovery stands, "" where there was none.
    """

    node: str
    role: str
    epoch: int
    lsn: int
    behind: int
    behind_ms: int
    verified_lsn: int = 0
    aside: str = ""
    recovery: str = ""


class PartitionLine(msgspec.Struct):
    operator: str
    primary: str
    epoch: int
    lsn: int
    replicas: dict[str, int]  # node -> lag in entries
    verdict: str
    copies: list[CopyLine] = []
    changing: str = ""  # what is being done to its copies


class StatusAnswer(Answer, kw_only=True):
    processes: list[ProcessStatus]
    partitions: list[PartitionLine]
    verdict: str
    as_of_ms: int
    paused: str = ""  # why and by whom automatic failover is paused


class Administer(Request, frozen=True, kw_only=True):
    """An administrator's wish for the managers: MessagePack of `administration.AnyWish`, which no balancer opens."""

    admin_key: Secret
    wish: bytes


class Administered(Answer, kw_only=True):
    """`result`: MessagePack of what `administration.ANSWERS` says for the wish."""

    result: bytes
