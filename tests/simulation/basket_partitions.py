"""Tiny partitions for the model of baskets: the production engine on rows that are values, built anew at every step.

So any step may be the first one of a new primary (B10), and equal partitions are one: what a command does to one is worked
out once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from datastore import commands, wire
from datastore.engine import decide
from datastore.model import Epoch, HoldState, LayoutSpec, Leg, Place, Schedule, Section
from datastore.reading import Reader
from datastore.rows import BasketRow, Event, Kind, LegRow, decode_row
from datastore.state import AppliedState
from loadbalancer.itinerary import Plan

DAY = "2026-12-01"
START_MS = 1_790_000_000_000
TTL_MS = 100


# What is asked about one thing, and how it is named there.
QUESTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "order": lambda key: {"reference": key},
    "leg": lambda key: {"basket_id": key},
    "baskets": lambda key: {"basket_ids": [key]},
}


class Rows:
    """The StoreReader port over one partition's rows: the inventory's and its own."""

    def __init__(self, inventory: Mapping[int, Mapping[str, bytes]], own: Iterable[tuple[int, str, bytes]] = ()) -> None:
        self._rows: dict[int, Mapping[str, bytes]] = dict(inventory)
        mine: dict[int, dict[str, bytes]] = {}
        for kind, key, value in own:
            mine.setdefault(kind, {})[key] = value
        for kind, rows in mine.items():
            self._rows[kind] = {**self._rows.get(kind, {}), **rows}

    def get(self, kind: int, key: str) -> bytes | None:
        return self._rows.get(kind, {}).get(key)

    def get_many(self, kind: int, keys: Any) -> dict[str, bytes]:
        rows = self._rows.get(kind, {})
        return {key: rows[key] for key in keys if key in rows}

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self._rows.get(kind, {}).items() if key.startswith(prefix) and key > after)


class Part(msgspec.Struct, frozen=True, cache_hash=True):
    """One partition: its clock, the length of its log, its rows but the inventory, and the answers that it recorded."""

    operator: str
    now_ms: int
    lsn: int
    rows: tuple[tuple[int, str, bytes], ...] = ()
    answers: tuple[tuple[str, bytes, bytes], ...] = ()


def service(operator: str) -> str:
    return f"{operator}1-EZE-{DAY}"


def leg(operator: str, *seats: str) -> Leg:
    return Leg(operator, service(operator), seats, tuple(100 for _ in seats), 50)


def plan(name: str, owner: str, *legs: Leg) -> Plan:
    basket_id = f"{legs[0].operator}.trip.{name}"
    return Plan(f"request-{name}", name.encode(), basket_id, owner, legs, "USD", TTL_MS, 9, 9)


@lru_cache(maxsize=16)
def inventory(operator: str) -> Mapping[int, Mapping[str, bytes]]:
    """Return the rows of a timetable with one service of two seats: kind -> key -> row."""
    layout = LayoutSpec("T2", "Two seats", (Section("Y", "A", ("1",), ("A", "B")),))
    row = Schedule("1", "EZE", "MIA", 600, 700, 0, "1234567", "2026-01-01", "2027-01-01", "T2")
    places = [Place("EZE", "E", "E", "AR", "UTC"), Place("MIA", "M", "M", "US", "UTC")]
    body = zlib.compress(wire.encode(wire.ImportBody("Test", "none", [row], [layout], places)))
    state = AppliedState(operator, Rows({}))
    found = decide(state, [wire.Import("", b"", "brief", body)], START_MS, 1, Epoch(1, "m"), lambda _: None)
    found.outcomes[0].unwrap()
    rows: dict[int, dict[str, bytes]] = {}
    for kind, key, value in found.events:
        rows.setdefault(kind, {})[key] = value
    return rows


class Partitions:
    """What commands and questions do to a partition; `variant` switches one rule off."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.memo: dict[tuple[Part, Any], tuple[Part, bytes]] = {}
        self.answers: dict[tuple[Part, str, str], Any] = {}

    def apply(self, part: Part, command: Any) -> tuple[Part, bytes]:
        """Return the partition after the command, and its reply as bytes."""
        command = self._broken_command(part, command)
        try:
            return self.memo[part, command]
        except KeyError:
            pass
        part_before, part = part, self._broken_part(part, command)
        state = AppliedState(part.operator, Rows(inventory(part.operator), part.rows))
        answers = {name: (digest, msgspec.msgpack.decode(data, type=wire.Outcome)) for name, digest, data in part.answers}
        decision = decide(state, [command], part.now_ms, part.lsn + 1, Epoch(1, "m"), answers.get)
        outcome = decision.outcomes[0]
        if decision.changed:
            rows = {(kind, key): value for kind, key, value in part.rows}
            self._store(rows, decision.events)
            for (name, digest), one in zip(decision.requests, decision.outcomes, strict=True):
                if name:
                    answers[name] = (digest, one)
            part = Part(
                part.operator,
                part.now_ms,
                part.lsn + 1,
                tuple((kind, key, value) for (kind, key), value in sorted(rows.items())),
                tuple((name, digest, wire.encode(one)) for name, (digest, one) in sorted(answers.items())),
            )
        reply = wire.encode((outcome.value, outcome.error, (1, part.lsn, b"hash")))
        self.memo[part_before, command] = part, reply
        return part, reply

    def _store(self, rows: dict[tuple[int, str], bytes], events: list[Event]) -> None:
        if self.variant == "no tombstone" and any(
            kind == Kind.BASKET and value and decode_row(kind, value).why == "no record" for kind, _, value in events
        ):
            return
        for kind, key, value in events:
            if value:
                rows[kind, key] = value
            else:
                rows.pop((kind, key), None)

    def _broken_command(self, part: Part, command: Any) -> Any:
        if self.variant == "done without lsn" and isinstance(command, commands.LegsDone):
            rows = [row for row in baskets_of(part) if row.basket_id == command.basket_id]
            return msgspec.structs.replace(command, lsn=rows[0].decided_lsn) if rows else command
        if self.variant == "finalise without lsn" and isinstance(command, commands.Finalise):
            rows = [decode_row(kind, value) for kind, key, value in part.rows if kind == Kind.LEG and key == command.basket_id]
            return msgspec.structs.replace(command, lsn=rows[0].lsn) if rows else command
        return command

    def _broken_part(self, part: Part, command: Any) -> Part:
        """Forget what a leg was once its seats were given back: what is left is the lsn."""
        if self.variant not in ("finalise without lsn", "no leg tombstones") or not isinstance(command, commands.HoldLegs):
            return part
        rows = tuple(
            (kind, key, value)
            for kind, key, value in part.rows
            if kind != Kind.CLOSED_LEG or key != command.basket_id or decode_row(kind, value).state == HoldState.CONVERTED
        )
        return msgspec.structs.replace(part, rows=rows)

    def read(self, part: Part, query: str, key: str) -> Any:
        """Return the answer to a question about one thing. What is returned is shared: not to be changed."""
        try:
            return self.answers[part, query, key]
        except KeyError:
            pass
        state = AppliedState(part.operator, Rows(inventory(part.operator), part.rows))
        reader = Reader(state, lambda _: {}, lambda _: None, lambda lsn: (1, lsn, b"hash"))
        found = self.answers[part, query, key] = reader.answer(query, QUESTIONS[query](key), part.now_ms)
        return found


@lru_cache(maxsize=1 << 16)
def legs_of(part: Part, *, closed: bool = False) -> tuple[LegRow, ...]:
    kinds = (Kind.LEG, Kind.CLOSED_LEG) if closed else (Kind.LEG,)
    return tuple([decode_row(kind, value) for kind, _, value in part.rows if kind in kinds])


@lru_cache(maxsize=1 << 16)
def baskets_of(part: Part, *, closed: bool = False) -> tuple[BasketRow, ...]:
    """Return the baskets decided here; of one that was opened again, the open row."""
    rows = {}
    for kind, key, value in sorted(part.rows, reverse=True):
        if kind == Kind.BASKET or (closed and kind == Kind.CLOSED_BASKET):
            rows[key] = decode_row(kind, value)
    return tuple(rows.values())
