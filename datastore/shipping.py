"""APPEND and PROMISE between the wire and the replication machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from datastore.errors import InvalidRequest
from datastore.ledger import SealedEntry, unseal
from datastore.model import Epoch
from datastore.replication import Replica
from datastore.replication_steps import Append, AppendAnswer, Promised, Send
from datastore.wire import AppendItem, AppendReply, PromiseReply


def opened(item: AppendItem) -> Append:
    """Return the message of a wire item.

    Raises:
        InvalidRequest, LedgerDamaged: It is none; nothing was done.
    """
    entries = [unseal(data) for data in item.entries]
    if any(sealed.entry.lsn != item.previous_lsn + 1 + index for index, sealed in enumerate(entries)):
        raise InvalidRequest("entries that do not follow each other", field="entries")
    previous_epoch = Epoch(*item.previous_epoch)
    return Append(
        Epoch(*item.epoch),
        item.previous_lsn,
        previous_epoch,
        entries,
        item.commit_lsn,
        item.store_uuid,
        item.acked_lsn,
        item.needs_snapshot,
    )


def item_of(
    operator: str,
    step: Send,
    entries: Sequence[SealedEntry],
    sides: dict[bytes, bytes],
    node: str,
    erased: list[bytes],
    *,
    needs_snapshot: bool,
) -> tuple[AppendItem, int]:
    """Return the wire item of a step, and its size in bytes.

    Args:
        node: The primary's, for hints.
        erased: Digests of side records that the entries name and that were erased.
        needs_snapshot: The entries are not at this node any more (R12).
    """
    datas = [sealed.data for sealed in entries]
    size_bytes = sum(map(len, datas)) + sum(map(len, sides.values()))
    item = AppendItem(
        operator,
        step.epoch,
        step.previous_lsn,
        step.previous_epoch,
        datas,
        step.commit_lsn,
        sides,
        node,
        erased,
        step.store_uuid,
        step.acked_lsn,
        needs_snapshot,
    )
    return item, size_bytes


def reply_of(operator: str, answer: AppendAnswer) -> AppendReply:
    status, epoch, match_lsn, store_uuid, promised, first_lsn, rows_form = answer
    return AppendReply(operator, status, epoch, match_lsn, store_uuid, promised, first_lsn, rows_form)


def promise_of(operator: str, promised: Promised, machine: Replica, wall_ms: int) -> PromiseReply:
    """Return what a manager hears; `wall_ms`: this node's clock, for the base of the next reign's (R17)."""
    return PromiseReply(
        operator,
        promised.granted,
        promised.promised,
        promised.last.epoch,
        promised.last.lsn,
        machine.store_uuid,
        dict(machine.config.voters),
        wall_ms,
        promised.heard_age_ms,
    )


def answer_of(reply: AppendReply) -> AppendAnswer:
    promised = Epoch(*reply.promised)
    return AppendAnswer(
        reply.status, Epoch(*reply.epoch), reply.match_lsn, reply.store_uuid, promised, reply.first_lsn, reply.rows_form
    )
