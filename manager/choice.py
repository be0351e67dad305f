"""Whom a manager may name as primary, from the promises it was given (R2), and what the log clock starts from (R17).

Pure. Why the choice is safe: an entry was acknowledged when a majority of the voters had it on disk (R6). A promise is
answered after everything the store has flushed, and a store that promised refuses all older epochs (R1). So once a majority of
the voters promised, no older primary can commit anything more, and whoever acknowledged an entry is among those who
answered. The greatest (last_epoch, last_lsn) among the answers therefore holds every committed entry. So it does among any of the
answers that are a majority: any of the others might have been lost.

Both halves matter. Comparing by lsn alone would prefer a long tail of an old primary that never committed to a shorter
log that did; choosing any responder would name a store that lacks committed entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from datastore.wire import PartitionStatus, PromiseReply


class Chosen(NamedTuple):
    """The one store to be named, and the node it is on."""

    node: str
    store_uuid: str
    log_time_base_ms: int


class NoChoice(NamedTuple):
    """No store may be named; `why` is for people."""

    why: str


def majority(voters: Mapping[str, str]) -> int:
    """Return how many of these voters are a majority."""
    return len(voters) // 2 + 1


def choose(replies: Mapping[str, PromiseReply], preferred: Sequence[str]) -> Chosen | NoChoice:
    """Return the store that may be primary, by R2.

    Args:
        replies: Node -> its answer to PROMISE, all of one epoch; those that did not answer are missing.
        preferred: Nodes in order of preference among stores that are equal.
    """
    promised = {node: reply for node, reply in replies.items() if reply.granted}
    if not promised:
        return NoChoice("no copy promised")
    why = ""
    ranked = sorted(promised, key=lambda name: _preference(name, preferred))
    ranked.sort(key=lambda name: _position(promised[name]), reverse=True)  # Stable: preference among equals.
    for node in ranked:
        reply = promised[node]
        # R2: L must be a voter of its own latest configuration, and a majority of that configuration must have promised and be
        # no further than L. Who is further has no say, as if its answer had been lost: a learner, a removed store, or the one
        # store that an entry reached which removes it (R15). For that one nobody needs to wait, if the others are enough.
        if reply.voters.get(reply.store_uuid) != node:
            why = why or f"{node} is furthest but no voter"
            continue
        stores = [(name, other.store_uuid) for name, other in promised.items() if _position(other) <= _position(reply)]
        count = voters_among(reply.voters, stores)
        if count < majority(reply.voters):
            why = why or f"{count} of {len(reply.voters)} copies promised, {majority(reply.voters)} are needed"
            continue
        return Chosen(node, reply.store_uuid, log_time_base_ms([other.wall_ms for other in promised.values()]))
    return NoChoice(why)


def voters_among(voters: Mapping[str, str], stores: Iterable[tuple[str, str]]) -> int:
    """Return how many of `stores`, each (node, store_uuid), are distinct voters.

    A store counts on the node that the configuration gives for it and nowhere else: a copied data folder that turns up
    on a second node must not vote twice (R14).
    """
    return len({store_uuid for node, store_uuid in stores if voters.get(store_uuid) == node})


def log_time_base_ms(wall_ms: Sequence[int]) -> int:
    """Return the median of the responders' wall clocks (R17), the lower of the middle two.

    One clock that is far off cannot move it when three answer. With two there is no telling which is right: the lower
    one at worst lets holds live longer, the higher one would end them early; stamps never go back in any case.
    """
    return sorted(wall_ms)[(len(wall_ms) - 1) // 2]


def latest_config(reports: Iterable[PartitionStatus | None]) -> PartitionStatus | None:
    """Return the report of the furthest store that has a configuration, None where none has one."""
    configured = [report for report in reports if report is not None and report.voters]
    return max(configured, key=lambda report: (report.epoch, report.last_lsn), default=None)


def latest_voters(reports: Iterable[PartitionStatus | None]) -> dict[str, str]:
    """Return the voters as the furthest store that has a configuration knows them, or {} where none has one."""
    config = latest_config(reports)
    return dict(config.voters) if config is not None else {}


def _position(reply: PromiseReply) -> tuple[tuple[int, str], int]:
    return reply.last_epoch, reply.last_lsn


def _preference(node: str, preferred: Sequence[str]) -> tuple[int, str]:
    return (preferred.index(node) if node in preferred else len(preferred)), node
