"""What a partition says of itself to whoever asks for a node's status. Pure."""

from __future__ import annotations

from datastore.replication import Replica
from datastore.rows import Kind, ReignRow, decode_row
from datastore.state import StoreReader
from datastore.store_port import Store
from datastore.wire import PartitionStatus


def partition_status(store: Store, machine: Replica, applied_lsn: int, has_state: bool, now_ms: int) -> PartitionStatus:
    """Return the status of one partition on one node.

    Args:
        has_state: Whether a primary's applied state is there, so that commands can be decided.
    """
    serving = machine.serving and has_state
    config = machine.config
    digest_lsn, digest = store.flushed_digest
    return PartitionStatus(
        operator=store.operator,
        role=machine.role,
        store_uuid=machine.store_uuid,
        promised=machine.promised,
        epoch=machine.tail.epoch,
        last_lsn=machine.tail.lsn,
        commit_lsn=machine.commit_lsn,
        applied_lsn=applied_lsn,
        heard_age_ms=machine.heard_age_ms(now_ms),
        serving=serving,
        voters=dict(config.voters),
        stamp_ms=machine.stamp(now_ms) if serving else machine.tail.stamp_ms,
        learners=dict(config.learners),
        config_lsn=machine.config_lsn,
        retired=list(config.retired),
        followers=machine.followers(now_ms) if serving else {},
        digest_lsn=digest_lsn,
        digest=digest,
    )


def promotions(store: StoreReader, limit: int) -> list[ReignRow]:
    """Return the last promotions that are applied in a store, oldest first."""
    return [decode_row(Kind.REIGN, value) for _, value in store.scan(Kind.REIGN)[-limit:]]
