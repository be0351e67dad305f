"""The cluster's record: what its administrator wants that cluster.toml does not say. Pure.

Lines by key, kept by every node on its disk and handed on by managers; a change is acknowledged when a majority of the
nodes has it. Of two lines under one key the greater (counter, manager) stands, so records merge in any order to the same.
No safety rests on it: who votes is in each partition's log (R15), who leads is a matter of epochs. It is about wishes.

    key                 value
    pause               {by, why}: managers promote nobody by themselves
    node:NAME           {host, port, state}: state "member", "draining" (leads nothing), "removed" (for good)
    copies:OPERATOR     {nodes}: where the operator's copies are wanted
    primary:OPERATOR    {node}: which of them should lead, where there is a choice
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

PAUSE = "pause"
NODE = "node:"
COPIES = "copies:"
PRIMARY = "primary:"

MEMBER = "member"
DRAINING = "draining"
LEAVING = "leaving"
REMOVED = "removed"
STATES = (MEMBER, DRAINING, LEAVING, REMOVED)


class Note(msgspec.Struct, array_like=True, frozen=True):
    """One line of the record. Of two lines under one key the greater (counter, by) stands, on every node."""

    counter: int
    by: str  # the manager that wrote it
    wall_ms: int  # for people to read
    value: dict[str, Any] = {}  # {} takes the line back


ClusterRecord = dict[str, Note]


class NodeWish(NamedTuple):
    """A node of the record."""

    name: str
    host: str
    port: int
    state: str
    wall_ms: int


def merged(one: Mapping[str, Note], other: Mapping[str, Note]) -> ClusterRecord:
    """Return the newer line of each key; the arguments stay as they are."""
    found = dict(one)
    for key, note in other.items():
        mine = found.get(key)
        if mine is None or (note.counter, note.by) > (mine.counter, mine.by):
            found[key] = note
    return found


def is_behind(one: Mapping[str, Note], other: Mapping[str, Note]) -> bool:
    """Return whether `other` has a line that is newer than what `one` has."""
    return any(key not in one or (note.counter, note.by) > (one[key].counter, one[key].by) for key, note in other.items())


def written(record: Mapping[str, Note], lines: Mapping[str, dict[str, Any]], by: str, wall_ms: int) -> ClusterRecord:
    """Return only the new lines, each above whatever stands under its key in `record`."""
    return {key: Note(record[key].counter + 1 if key in record else 1, by, wall_ms, dict(value)) for key, value in lines.items()}


def nodes_of(
    record: Mapping[str, Note], configured: Mapping[str, tuple[str, int]] | None = None, configured_ms: int = 0
) -> dict[str, NodeWish]:
    """Return the nodes that the record names.

    Args:
        configured: Name -> (host, port) as in cluster.toml. Where it was written after a node's line, its address counts: a
            node that was once drained must not be looked for where it listened then.
        configured_ms: When that file was written, by the wall clock; only the address depends on it, which no safety rests on.
    """
    found = {}
    for key, note in record.items():
        if key.startswith(NODE) and note.value:
            name = key.removeprefix(NODE)
            value = note.value
            host, port = str(value["host"]), int(value["port"])
            if configured and name in configured and configured_ms > note.wall_ms:
                host, port = configured[name]
            found[name] = NodeWish(name, host, port, str(value["state"]), note.wall_ms)
    return found


def copies_of(record: Mapping[str, Note], operator: str) -> tuple[str, ...]:
    """Return where the operator's copies are wanted, () where the record says nothing."""
    note = record.get(COPIES + operator)
    return tuple(note.value.get("nodes", ())) if note is not None else ()


def primary_of(record: Mapping[str, Note], operator: str) -> str:
    """Return which node should lead the operator, "" where the record says nothing."""
    note = record.get(PRIMARY + operator)
    return str(note.value.get("node", "")) if note is not None else ""


def pause_of(record: Mapping[str, Note]) -> Note | None:
    """Return the line that pauses automatic failover, None where it is not paused."""
    note = record.get(PAUSE)
    return note if note is not None and note.value else None
