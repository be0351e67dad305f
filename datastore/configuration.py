"""Which stores vote on a partition's log, and the steps by which that may change (R15). Pure.

A configuration changes by one voter at a time: two configurations that follow each other then have no majorities without
a store in common, so nothing that one of them committed is unknown to the other. Learners have no vote, so any number of
them may come and go. A store that was removed is retired: its identity is never given a vote again.
"""

from __future__ import annotations

from typing import NamedTuple

from datastore.rows import ConfigRow

ADD_LEARNER = "add_learner"
DROP_LEARNER = "drop_learner"
ADD_VOTER = "add_voter"
REMOVE_VOTER = "remove_voter"
KINDS = (ADD_LEARNER, DROP_LEARNER, ADD_VOTER, REMOVE_VOTER)

# R16: three or five. Four and six are passed through while one store takes another's place.
VOTERS_MAX = 6


class ConfigChange(NamedTuple):
    """One step.

    Attributes:
        kind: One of `KINDS`.
        store_uuid, node: The store concerned, and the node that keeps it.
    """

    kind: str
    store_uuid: str
    node: str = ""


def changed(config: ConfigRow, change: ConfigChange) -> ConfigRow | str:
    """Return the configuration after one step, or why there is no such step from here."""
    kind, store_uuid, node = change
    voters, learners = dict(config.voters), dict(config.learners)
    if kind == ADD_LEARNER:
        if store_uuid in config.retired:
            return f"store {store_uuid} is retired and never takes part again"
        if store_uuid in voters or store_uuid in learners:
            return f"store {store_uuid} takes part already"
        if not store_uuid or not node:
            return "a learner needs its store's identity and its node"
        learners[store_uuid] = node
        return ConfigRow(voters, learners, list(config.retired))
    if kind == DROP_LEARNER:
        if learners.pop(store_uuid, None) is None:
            return f"store {store_uuid} is no learner"
        return ConfigRow(voters, learners, [*config.retired, store_uuid])
    if kind == ADD_VOTER:
        if store_uuid not in learners:
            return f"store {store_uuid} is no learner: a store learns first and votes later"
        if len(voters) >= VOTERS_MAX:
            return f"{len(voters)} voters are the most there may be"
        voters[store_uuid] = learners.pop(store_uuid)
        return ConfigRow(voters, learners, list(config.retired))
    if kind == REMOVE_VOTER:
        if store_uuid not in voters:
            return f"store {store_uuid} is no voter"
        if len(voters) == 1:
            return "the last voter cannot be removed"
        del voters[store_uuid]
        return ConfigRow(voters, learners, [*config.retired, store_uuid])
    return f"{kind} is none of {', '.join(KINDS)}"


def voters_apart(before: ConfigRow, after: ConfigRow) -> int:
    """Return how many voters are in one of the two and not in the other (I13: at most one)."""
    return len(before.voters.keys() ^ after.voters.keys())


def role_in(config: ConfigRow, store_uuid: str) -> str:
    """Return what a store is by a configuration: "replica", "learner", "retired" or "outside"."""
    if store_uuid in config.voters:
        return "replica"
    if store_uuid in config.learners:
        return "learner"
    return "retired" if store_uuid in config.retired else "outside"
