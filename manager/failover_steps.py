"""What a machine of `failover` is told and what it asks for: events, instructions, phases. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from datastore.administration import HandOverItem, HandOverReply
from datastore.model import Epoch
from datastore.wire import BecomeItem, BecomeReply, BootstrapReply, PartitionStatus, PromiseReply


class Sighting(NamedTuple):
    """What the nodes say of one operator.

    Attributes:
        placed: The nodes where the operator belongs, the preferred primary first.
        reports: Every node that answers -> its partition, None where it keeps none.
        silent: Every node of the cluster that does not answer.
        paused: Whether the administrator has paused automatic failover.
    """

    placed: tuple[str, ...]
    reports: Mapping[str, PartitionStatus | None]
    silent: frozenset[str]
    paused: bool = False


class Lease(Enum):
    GRANTED = "granted"
    CONTENDED = "contended"
    UNAVAILABLE = "unavailable"


# --- events ---------------------------------------------------------------------------------------------------------


class Observed(NamedTuple):
    """`jitter`: a fresh random number in [0, 1): rivals must not back off for equal times."""

    sighting: Sighting
    jitter: float


class MoveWanted(NamedTuple):
    """Somebody wants `node` to lead, "" for whichever other copy is best.

    Attributes:
        force: Without the help of whoever leads now, and without the patience that automatic failover has.
        why, by: For the record of the promotion.
    """

    node: str
    force: bool
    why: str
    by: str


class LeaseSettled(NamedTuple):
    lease: Lease


class HandOverAnswered(NamedTuple):
    """`reply` None: no answer; the primary may have stopped taking and goes on by itself after a while."""

    reply: HandOverReply | None


class StoresNamed(NamedTuple):
    """Answers to NameStores; nodes that gave none are missing, here and below."""

    replies: Mapping[str, BootstrapReply]


class Configured(NamedTuple):
    replies: Mapping[str, BootstrapReply]


class PromisesGiven(NamedTuple):
    epoch: Epoch
    replies: Mapping[str, PromiseReply]


class BecomeAnswered(NamedTuple):
    """`reply` None: sent, no answer; the store may have become primary."""

    epoch: Epoch
    reply: BecomeReply | None


Event = Observed | MoveWanted | LeaseSettled | HandOverAnswered | StoresNamed | Configured | PromisesGiven | BecomeAnswered

# --- instructions ---------------------------------------------------------------------------------------------------


class TakeLease(NamedTuple):
    """Take `promote:OPERATOR` in the lock store; answer with LeaseSettled."""


class NameStores(NamedTuple):
    """Have these nodes make their empty stores and tell their uuids; answer with StoresNamed."""

    nodes: tuple[str, ...]


class Configure(NamedTuple):
    """Give these nodes the first configuration; answer with Configured."""

    nodes: tuple[str, ...]
    voters: dict[str, str]


class HandOver(NamedTuple):
    """Ask the primary to prepare a planned move, at once or, `again`, after a moment; answer with HandOverAnswered."""

    node: str
    item: HandOverItem
    again: bool


class AskPromises(NamedTuple):
    """Send PROMISE to these nodes; answer with PromisesGiven when all answered or had their time."""

    nodes: tuple[str, ...]
    epoch: Epoch


class NameOne(NamedTuple):
    """Send BECOME, once, to this node; answer with BecomeAnswered."""

    node: str
    item: BecomeItem


class Report(NamedTuple):
    """Tell people: `node` is primary from `epoch` on."""

    node: str
    epoch: Epoch
    why: str


class MoveEnded(NamedTuple):
    """Tell who wanted the move: `node` leads now; `error` "" where it was done."""

    before: str
    node: str
    epoch: Epoch
    error: str


Instruction = TakeLease | HandOver | NameStores | Configure | AskPromises | NameOne | Report | MoveEnded


class Phase(Enum):
    WATCHING = "watching"
    LEASING = "leasing"
    NAMING = "naming"
    CONFIGURING = "configuring"
    HANDING = "handing over"
    PROMISING = "promising"
    BECOMING = "becoming"


class Serving(NamedTuple):
    node: str
    epoch: Epoch
