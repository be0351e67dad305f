"""A small operator for engine tests: one route, one layout, a state over the in-memory rows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from datastore import wire
from datastore.engine import Decision, decide
from datastore.model import Epoch, LayoutSpec, Place, Schedule, Section
from datastore.rows import ROWS_FORM, Event
from datastore.state import AppliedState

EPOCH = Epoch(1, "m")
DAY_START_MS = 1_796_083_200_000  # 2026-12-01T00:00Z
SERVICE = "AR1140-EZE-2026-12-01"
LAYOUT = LayoutSpec("T20", "Twenty seats", (Section("Y", "A", tuple("12345"), ("A", "B", "", "C", "D")),))
PLACES = [
    Place("EZE", "Ezeiza", "Buenos Aires", "AR", "America/Argentina/Buenos_Aires"),
    Place("MIA", "Miami", "Miami", "US", "America/New_York"),
]


class Rows:
    """The StoreReader port over a dict."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str], bytes] = {}

    def get(self, kind: int, key: str) -> bytes | None:
        return self.rows.get((kind, key))

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        return {key: self.rows[(kind, key)] for key in keys if (kind, key) in self.rows}

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        found = sorted((key, value) for (of, key), value in self.rows.items() if of == kind and key.startswith(prefix) and key > after)
        return found[:limit] if limit else found

    def store(self, events: list[Event]) -> None:
        for kind, key, value in events:
            if value:
                self.rows[(kind, key)] = value
            else:
                self.rows.pop((kind, key), None)


def schedule(number: str = "1140", days: str = "1234567", **changes: object) -> Schedule:
    """Return a row that runs in the winter of 2026/27."""
    fields = {
        "number": number,
        "origin": "EZE",
        "destination": "MIA",
        "departs_min": 600,
        "arrives_min": 1080,
        "arrives_day": 0,
        "days": days,
        "valid_from": "2026-11-01",
        "valid_to": "2027-02-28",
        "layout_id": "T20",
        **changes,
    }
    return Schedule(**fields)  # type: ignore[arg-type]


def import_command(schedules: list[Schedule], *, request_id: str = "", dataset: str = "brief", layout: LayoutSpec = LAYOUT) -> wire.Import:
    body = wire.ImportBody("Test", "none", schedules, [layout], PLACES)
    return wire.Import(request_id, b"i", dataset, zlib.compress(wire.encode(body)))


class Partition:
    """One operator's engine, rows and answers: what a primary does, without log and disk."""

    def __init__(self, operator: str = "AR", schedules: list[Schedule] | None = None, layout: LayoutSpec = LAYOUT) -> None:
        self.rows = Rows()
        self.state = AppliedState(operator, self.rows)
        self.answers: dict[str, tuple[bytes, wire.Outcome]] = {}
        self.lsn = 0
        self.now_ms = DAY_START_MS - 10 * 86_400_000
        self.history: list[Event] = []
        self.counter = 0
        self.rows_form = ROWS_FORM
        self.submit(import_command(schedules or [schedule()], layout=layout))[0].unwrap()

    def submit(self, *commands: wire.AnyCommand) -> list[wire.Outcome]:
        """Decide one batch and apply it."""
        return self.decide(*commands).outcomes

    def decide(self, *commands: wire.AnyCommand) -> Decision:
        decision = decide(self.state, commands, self.now_ms, self.lsn + 1, EPOCH, self.answers.get, self.rows_form)
        if decision.changed:
            self.lsn += 1
            self.rows.store(decision.events)
            self.state.apply(decision.events)
            self.history.extend(decision.events)
            for (request_id, digest), outcome in zip(decision.requests, decision.outcomes, strict=True):
                if request_id:
                    self.answers[request_id] = (digest, outcome)
        return decision

    def hold(self, name: str, *seats: str, owner: str = "ann", ttl_ms: int = 60_000, counter: int = 0, **changes: object) -> wire.Hold:
        """Return a hold command with the next fence (or the given one)."""
        if not counter:
            self.counter += 1
            counter = self.counter
        fields = {
            "request_id": f"request-{name}",
            "digest": name.encode(),
            "hold_id": f"AR.{name}",
            "owner": owner,
            "service_id": SERVICE,
            "seats": seats,
            "ttl_ms": ttl_ms,
            "generation": 1,
            "counter": counter,
            "nonce": f"nonce-{counter}",
            "currency": "USD",
            "prices": tuple(10_000 for _ in seats),
            "refundable_percent": 80,
            "owner_holds_max": 50,
            "service_holds_max": 10,
            **changes,
        }
        return wire.Hold(**fields)  # type: ignore[arg-type]

    def block(self, name: str, *seats: str) -> wire.Block:
        """Return a block command with the next fence."""
        self.counter += 1
        return wire.Block(f"request-{name}", name.encode(), SERVICE, seats, "crew", 1, self.counter, f"nonce-{self.counter}")
