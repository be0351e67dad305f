"""Messages with which a cluster is run: who votes, who hands over to whom, what the administrator wants. Pure.

Manager to node: configure, hand_over, renew, record, history. A person's wishes travel through a balancer, which checks the
administrator's key and opens nothing, to a manager. What travels for buyers is in `wire.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from datastore.cluster_record import ClusterRecord
from datastore.rows import ReignRow
from datastore.wire import ManagerStatus
from datastore.wire_recovery import RecoverAsk, RecoverReport

# --- manager -> node ----------------------------------------------------------------------------------------------


class ConfigureItem(msgspec.Struct, array_like=True):
    """Have a primary take one step of a change of its configuration (R15); `kind`: see `datastore.configuration`.

    `config_lsn`: where the configuration stands that the step was thought of for.
    """

    operator: str
    kind: str
    store_uuid: str
    node: str
    config_lsn: int


class ConfigureReply(msgspec.Struct, array_like=True):
    operator: str
    accepted: bool
    reason: str = ""
    lsn: int = 0


class HandOverItem(msgspec.Struct, array_like=True):
    """Have a primary stop taking for up to `pause_ms` and say when `store_uuid` has everything; 0 gives it up."""

    operator: str
    epoch: tuple[int, str]
    store_uuid: str
    pause_ms: int


class HandOverReply(msgspec.Struct, array_like=True):
    """`status`: "ready", "waiting", "refused"."""

    operator: str
    status: str
    lsn: int = 0
    reason: str = ""


class RenewItem(msgspec.Struct, array_like=True):
    """Have a node put the store of that identity aside, as it never takes part again, and make an empty one."""

    operator: str
    store_uuid: str


class HistoryRequest(msgspec.Struct, array_like=True):
    """The last `limit` promotions of each operator, of all that the node keeps where none is named."""

    operators: list[str] = []
    limit: int = 50


History = dict[str, list[ReignRow]]

# --- administrator -> balancer (unopened) -> manager ----------------------------------------------------------------


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what an administrator asks of the managers. `by`: who, for records that people read."""

    by: str = ""


class Move(msgspec.Struct, frozen=True):
    """Give an operator's primary to `node`, "" for whichever other copy is best. `force`: without the old primary's help."""

    operator: str
    node: str = ""
    force: bool = False


class MovePrimaries(Wish, frozen=True, kw_only=True, tag="move"):
    """Move primaries, all at the same time. `prefers`: the node is preferred from now on. Answer: list[Moved]."""

    moves: list[Move]
    why: str = ""
    prefers: bool = False


class Moved(msgspec.Struct):
    """`before`, `after`: the nodes; `pause_ms`: for how long nothing was taken. `error` "" where it was done."""

    operator: str
    before: str
    after: str
    epoch: int = 0
    pause_ms: int = 0
    error: str = ""


class PauseFailover(Wish, frozen=True, kw_only=True, tag="pause"):
    """Let managers promote nobody by themselves, or again. Answer: ClusterRecord."""

    paused: bool
    why: str = ""


class ChangeNode(Wish, frozen=True, kw_only=True, tag="node"):
    """Add a node, remove it, drain it, or let it lead again: `action` "add", "remove", "drain", "undrain". Answer: NodeReport."""

    action: str
    name: str
    host: str = ""
    port: int = 0


class LookAtNode(Wish, frozen=True, kw_only=True, tag="look"):
    """Ask what is left to do with a node. Answer: NodeReport."""

    name: str


class PlaceCopies(Wish, frozen=True, kw_only=True, tag="place"):
    """Say where an operator's copies are wanted, three or five nodes (R16). Answer: ClusterRecord."""

    operator: str
    nodes: list[str]


class PlanSpread(Wish, frozen=True, kw_only=True, tag="spread"):
    """Ask for the moves after which primaries are where they are preferred, and even where nothing is. Answer: list[Move]."""


class AskHistory(Wish, frozen=True, kw_only=True, tag="history"):
    """Ask for the promotions of one operator, of all where it is "". Answer: History."""

    operator: str = ""
    limit: int = 50


class RecoverCopies(Wish, frozen=True, kw_only=True, tag="recover"):
    """Plan, start or watch the recovery of copies at one node. Answer: list[RecoverReport]."""

    ask: RecoverAsk


class LookAtCluster(Wish, frozen=True, kw_only=True, tag="cluster"):
    """Ask what a manager sees. Answer: ManagerStatus."""


AnyWish = (
    MovePrimaries | PauseFailover | ChangeNode | LookAtNode | PlaceCopies | PlanSpread | AskHistory | RecoverCopies | LookAtCluster
)


class NodeReport(msgspec.Struct):
    """What is left to do with a node. `left`: operator -> what is being done; nothing is when it is empty and `done`."""

    node: str
    state: str
    left: dict[str, str]
    done: bool


ANSWERS: dict[type[Wish], Any] = {
    MovePrimaries: list[Moved],
    PauseFailover: ClusterRecord,
    ChangeNode: NodeReport,
    LookAtNode: NodeReport,
    PlaceCopies: ClusterRecord,
    PlanSpread: list[Move],
    AskHistory: History,
    RecoverCopies: list[RecoverReport],
    LookAtCluster: ManagerStatus,
}
