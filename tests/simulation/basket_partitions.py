"""Tiny partitions for the model of baskets: the production engine on rows that are values, built anew at every step.

So any step may be the first one of a new primary (B10), and equal partitions are one: what a command does to one is worked
out once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
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


class Rows:
    """The StoreReader port over one partition's rows."""

    def __init__(self, rows: Mapping[tuple[int, str], bytes]) -> None:
        self.rows = rows

    def get(self, kind: int, key: str) -> bytes | None:
        return self.rows.get((kind, key))

    def get_many(self, kind: int, keys: Any) -> dict[str, bytes]:
        return {key: self.rows[kind, key] for key in keys if (kind, key) in self.rows}

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        return sorted((key, value) for (of, key), value in self.rows.items() if of == kind and key.startswith(prefix) and key > after)


class Part(msgspec.Struct, frozen=True):
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
def inventory(operator: str) -> tuple[tuple[tuple[int, str], bytes], ...]:
    """Return the rows of a timetable with one service of two seats."""
    layout = LayoutSpec("T2", "Two seats", (Section("Y", "A", ("1",), ("A", "B")),))
    row = Schedule("1", "EZE", "MIA", 600, 700, 0, "1234567", "2026-01-01", "2027-01-01", "T2")
    places = [Place("EZE", "E", "E", "AR", "UTC"), Place("MIA", "M", "M", "US", "UTC")]
    body = zlib.compress(wire.encode(wire.ImportBody("Test", "none", [row], [layout], places)))
    state = AppliedState(operator, Rows({}))
    found = decide(state, [wire.Import("", b"", "brief", body)], START_MS, 1, Epoch(1, "m"), lambda _: None)
    found.outcomes[0].unwrap()
    return tuple(((kind, key), value) for kind, key, value in found.events)


class Partitions:
    """What commands and questions do to a partition; `variant` switches one rule off."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.memo: dict[tuple[Part, Any], tuple[Part, bytes]] = {}

    def apply(self, part: Part, command: Any) -> tuple[Part, bytes]:
        """Return the partition after the command, and its reply as bytes."""
        command = self._broken_command(part, command)
        try:
            return self.memo[part, command]
        except KeyError:
            pass
        part_before, part = part, self._broken_part(part, command)
        rows = {(kind, key): value for kind, key, value in part.rows}
        state = AppliedState(part.operator, Rows({**dict(inventory(part.operator)), **rows}))
        answers = {name: (digest, msgspec.msgpack.decode(data, type=wire.Outcome)) for name, digest, data in part.answers}
        decision = decide(state, [command], part.now_ms, part.lsn + 1, Epoch(1, "m"), answers.get)
        outcome = decision.outcomes[0]
        if decision.changed:
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

    def read(self, part: Part, query: str, arguments: Mapping[str, Any]) -> Any:
        rows = {**dict(inventory(part.operator)), **{(kind, key): value for kind, key, value in part.rows}}
        state = AppliedState(part.operator, Rows(rows))
        reader = Reader(state, lambda _: {}, lambda _: None, lambda lsn: (1, lsn, b"hash"))
        return reader.answer(query, arguments, part.now_ms)


def legs_of(part: Part, *, closed: bool = False) -> list[LegRow]:
    kinds = (Kind.LEG, Kind.CLOSED_LEG) if closed else (Kind.LEG,)
    return [decode_row(kind, value) for kind, _, value in part.rows if kind in kinds]


def baskets_of(part: Part, *, closed: bool = False) -> list[BasketRow]:
    """Return the baskets decided here; of one that was opened again, the open row."""
    rows = {}
    for kind, key, value in sorted(part.rows, reverse=True):
        if kind == Kind.BASKET or (closed and kind == Kind.CLOSED_BASKET):
            rows[key] = decode_row(kind, value)
    return list(rows.values())
