"""The tiers below a load balancer, in this process: the engine itself over rows in dictionaries, and locks in a dictionary.

They keep the contracts that a balancer relies on (idempotent commands, durable refusals, one stamp per batch, a feed with
positions, all keys of a lock or none, rising fences) without a network between.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from datastore import wire
from datastore.edge import Address
from datastore.engine import decide
from datastore.errors import HoldfastError, OperatorUnavailable
from datastore.feed import KINDS_HIDDEN
from datastore.model import Epoch
from datastore.reading import Reader
from datastore.rows import Kind
from datastore.state import AppliedState
from lockstore.seatlocks import Contended, Grant, LockOutcome, LockRequest, Unavailable

FEED_KINDS = {int(kind) for kind in Kind} - KINDS_HIDDEN


class Rows:
    """The store that the engine's state reads."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, bytes]] = {}

    def put(self, kind: int, key: str, value: bytes) -> None:
        rows = self.rows.setdefault(kind, {})
        if value:
            rows[key] = value
        else:
            rows.pop(key, None)

    def get(self, kind: int, key: str) -> bytes | None:
        return self.rows.get(kind, {}).get(key)

    def get_many(self, kind: int, keys: Sequence[str]) -> dict[str, bytes]:
        rows = self.rows.get(kind, {})
        return {key: rows[key] for key in keys if key in rows}

    def scan(self, kind: int, prefix: str = "", after: str = "", limit: int = 0) -> list[tuple[str, bytes]]:
        found = sorted(item for item in self.rows.get(kind, {}).items() if item[0].startswith(prefix) and item[0] > after)
        return found[:limit] if limit else found


class LocalOperator:
    """One operator's partition: decides, applies and remembers answers."""

    def __init__(self, code: str, clock: Callable[[], int]) -> None:
        self.code = code
        self.clock = clock
        self.rows = Rows()
        self.state = AppliedState(code, self.rows)
        self.lsn = 0
        self.log: list[tuple[int, list[tuple[int, str, bytes]]]] = []
        self.answers: dict[str, tuple[bytes, wire.Outcome]] = {}
        self.sides: dict[bytes, bytes] = {}
        self.reader = Reader(self.state, self._sides, self.answers.get, lambda lsn: (1, lsn, b"%d" % lsn))
        self.batches: list[int] = []
        self.mutex = threading.Lock()

    def _sides(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return {digest: self.sides[digest] for digest in digests if digest in self.sides}

    def submit(self, item: wire.SubmitItem) -> wire.SubmitResult:
        with self.mutex:
            commands = wire.decode(wire.COMMANDS, item.commands)
            self.batches.append(len(commands))
            decision = decide(self.state, commands, self.clock(), self.lsn + 1, Epoch(1, "m"), self.answers.get)
            self.sides.update(item.sides)
            if decision.changed:
                self.lsn += 1
                for event in decision.events:
                    self.rows.put(*event)
                self.state.apply(decision.events)
                self.log.append((self.lsn, [(kind, key, value) for kind, key, value in decision.events if kind in FEED_KINDS]))
                for (request_id, digest), outcome in zip(decision.requests, decision.outcomes, strict=True):
                    if request_id:
                        self.answers[request_id] = (digest, outcome)
            return wire.SubmitResult(self.code, wire.encode(decision.outcomes), 1, self.lsn, hash=b"%d" % self.lsn)

    def read(self, item: wire.ReadItem) -> wire.ReadResult:
        with self.mutex:
            return wire.ReadResult(self.code, self.lsn, self.clock(), self.reader.answer(item.query, item.arguments, self.clock()))

    def changes(self, lsn: int) -> wire.FeedPart:
        with self.mutex:
            start = bisect_right([number for number, _ in self.log], lsn)
            events = [event for _, entry in self.log[start:] for event in entry]
            return wire.FeedPart(self.code, "ok", self.lsn, b"%d" % self.lsn, self.clock(), events)

    def page(self) -> wire.SnapshotPage:
        with self.mutex:
            rows = [(kind, key, value) for kind in sorted(FEED_KINDS) for key, value in self.rows.rows.get(kind, {}).items()]
            return wire.SnapshotPage(self.lsn, b"%d" % self.lsn, self.clock(), rows)


class LocalManagers:
    """What a balancer asks of the managers, over `LocalOperator`s. `cut` operators do not answer."""

    def __init__(self, codes: Sequence[str], clock: Callable[[], int] | None = None) -> None:
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        self.operators = {code: LocalOperator(code, self.clock) for code in codes}
        self.cut: set[str] = set()
        self.deliver: Callable[[wire.SubmitItem], None] = lambda item: None  # Called before an item is decided.

    def submit(self, items: Sequence[wire.SubmitItem], deadline_ms: int) -> list[wire.SubmitResult]:
        results = []
        for item in items:
            try:
                self.deliver(item)
                results.append(self._operator(item.operator).submit(item))
            except HoldfastError as error:
                results.append(wire.SubmitResult(item.operator, b"", 0, 0, error.to_data()))
        return results

    def read(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        results = []
        for item in items:
            try:
                results.append(self._operator(item.operator).read(item))
            except HoldfastError as error:
                results.append(wire.ReadResult(item.operator, 0, 0, None, error.to_data()))
        return results

    def _operator(self, code: str) -> LocalOperator:
        if code in self.cut:
            raise OperatorUnavailable(f"{code} is cut off", operator=code)
        return self.operators[code]

    def feed(self, request: wire.FeedRequest) -> list[wire.FeedPart]:
        end = time.monotonic() + request.wait_ms / 1000
        pause = threading.Event()
        while True:
            parts = [self.operators[code].changes(lsn) for code, (lsn, _) in request.after.items() if self.operators[code].lsn > lsn]
            if parts or time.monotonic() >= end:
                return parts
            pause.wait(0.002)

    def snapshot(self, request: wire.SnapshotRequest) -> wire.SnapshotPage:
        return self.operators[request.operator].page()

    def topology(self) -> wire.Topology:
        places = [wire.OperatorPlace(code, ["node-1"], "node-1", (1, "m")) for code in self.operators]
        return wire.Topology(["node-1"], ["node-1"], places)

    def statuses(self) -> dict[Address, wire.ManagerStatus | str]:
        return {Address("127.0.0.1", 1): "not there"}

    def administer(self, wish: bytes, deadline_ms: int) -> bytes:
        return wish

    def create_operators(self, operators: Sequence[str], deadline_ms: int, nodes: object = None) -> object:
        for code in operators:
            self.operators.setdefault(code, LocalOperator(code, self.clock))
        return None


class LocalLocks:
    """Locks in a dictionary, with rising fences. `down`: no quorum. `rival`: keys that somebody else holds."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.counter = 0
        self.down = False
        self.rounds: list[int] = []
        self.mutex = threading.Lock()

    def acquire_many(self, requests: Sequence[LockRequest], releases: Sequence[Grant] = ()) -> list[LockOutcome]:
        with self.mutex:
            self.rounds.append(len(requests))
            self._release(releases)
            self.counter += 1
            return [self._acquire(request, number) for number, request in enumerate(requests)]

    def release_many(self, grants: Sequence[Grant]) -> None:
        with self.mutex:
            self._release(grants)

    def probe(self) -> list[Any]:
        return []

    def _acquire(self, request: LockRequest, number: int) -> LockOutcome:
        if self.down:
            return Unavailable({"lock-1": "down"})
        taken = tuple(key for key in request.keys if key in self.held)
        if taken:
            return Contended(taken)
        self.counter = max(self.counter, request.hint + 1 if request.hint else 0)
        nonce = f"{self.counter:016x}{number:016x}"
        self.held.update(dict.fromkeys(request.keys, nonce))
        return Grant(request.keys, nonce, (1, self.counter), time.monotonic_ns() // 1_000_000 + 5_000, True)

    def _release(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            for key in grant.keys:
                if self.held.get(key) == grant.nonce:
                    del self.held[key]
