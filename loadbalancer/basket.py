"""One request's life between its caller, the locks and the operators, as a machine. Pure.

    wait for the local turn → lock all keys (B1) → submit each leg (B2) → answer → unlock (B3)
                                 ↑      |                   |
                                 |      contended: pause, with jitter (Z9)
                                 └──────────── stale fence: again, beyond the hint (Z7)

Each event returns the next `Step`; the shell carries it out and feeds back what happened. A basket ends exactly once,
with one outcome a leg. How it can stop:

* decided: the operator's own answer, be it a refusal, is passed on as it is;
* `lock_timeout`: others held the keys, or stood in line before it, to the deadline: nothing was sent;
* `locks_unavailable`: no quorum of lock servers to the deadline: nothing was sent;
* `operator_unavailable`: the deadline came in the operator's queue: nothing was sent;
* the failure of the submission itself, `outcome_unknown` above all: it may have happened.

Commands that take no free seat have no keys and start at the submission. One operator is its own anchor (B7), so a basket
here is one leg with one command. Several legs share one lock over all their keys (`LockTicket`), and need the anchor's record,
ABORT and RELEASE before the unlock (Z3-Z6): `loadbalancer.itinerary` is the machine over several of these.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from datastore import commands, wire
from datastore.errors import HoldfastError, LocksUnavailable, LockTimeout, OperatorUnavailable

# A holder needs milliseconds: the first pause is about one hold long, the last bounds how late a free lock is noticed.
PAUSE_FIRST_MS = 2
PAUSE_LAST_MS = 40
NO_SIDES: dict[bytes, bytes] = {}


class Step(IntEnum):
    """What the shell does next."""

    WAIT = 0  # Nothing: something is under way.
    LOCK = 1  # Put the keys into the next round, with `hint`; give back `spent` in the same round if there is one.
    PAUSE = 2  # Lock again after `pause_ms`, drawn at random below it.
    SUBMIT = 3  # Send each leg's `command` to its operator.
    RESOLVE = 5  # A due leg of a basket is in the way (`reasons`): have its anchor say how it stands, then SUBMIT again (Z5).
    ANSWER = 4  # Give `outcome` to the caller, then release `spent` and give up the place in line.


class Draft(Protocol):
    """A command that still lacks its lock's fence."""

    def fenced(self, generation: int, counter: int, nonce: str) -> wire.AnyCommand:
        """Return the command with the fence of the lock that protects it."""
        ...


class HoldDraft(NamedTuple):
    """A HOLD without its fence; fields as in `wire.Hold`."""

    request_id: str
    digest: bytes
    hold_id: str
    owner: str
    service_id: str
    seats: tuple[str, ...]
    ttl_ms: int
    currency: str
    prices: tuple[int, ...]
    refundable_percent: int
    owner_holds_max: int
    service_holds_max: int
    chosen: commands.Chosen | None = None

    def fenced(self, generation: int, counter: int, nonce: str) -> wire.Hold:
        """Return the HOLD with the fence of the lock that protects it."""
        return wire.Hold(*self[:7], generation, counter, nonce, *self[7:])


class HoldEachDraft(NamedTuple):
    """A HOLD_EACH without its fence; fields as in `commands.HoldEach`."""

    request_id: str
    digest: bytes
    bulk_id: str
    owner: str
    service_id: str
    seats: tuple[tuple[str, ...], ...]
    ttl_ms: int
    currency: str
    prices: tuple[tuple[int, ...], ...]
    refundable_percents: tuple[int, ...]
    owner_holds_max: int
    service_holds_max: int

    def fenced(self, generation: int, counter: int, nonce: str) -> commands.HoldEach:
        """Return the HOLD_EACH with the fence of the lock that protects all its seats."""
        return commands.HoldEach(*self[:7], generation, counter, nonce, *self[7:])


class BlockDraft(NamedTuple):
    """A BLOCK without its fence; fields as in `wire.Block`."""

    request_id: str
    digest: bytes
    service_id: str
    seats: tuple[str, ...]
    reason: str

    def fenced(self, generation: int, counter: int, nonce: str) -> wire.Block:
        """Return the BLOCK with the fence of the lock that protects it."""
        return wire.Block(*self, generation, counter, nonce)


class Lock(Protocol):
    """What a basket needs to know of a granted lock (lockstore's Grant)."""

    @property
    def fence(self) -> tuple[int, int]:
        """(generation, counter)."""
        ...

    @property
    def nonce(self) -> str:
        """The value that the keys hold."""
        ...


class Basket:
    """One request. `keys` empty: `command` is complete and needs no lock.

    Attributes:
        operator: Whose partition decides.
        deadline_ms: On the monotonic clock, in milliseconds.
        lock: The lock that is held, or None.
        spent: A lock to be given back.
        outcome: The end, once the last step was ANSWER.
        sides: Side records (digest -> bytes) that travel beside the command (Z12).
    """

    __slots__ = (
        "command", "deadline_ms", "draft", "hint", "keys", "lock", "obstacle", "operator", "outcome", "pause_ms", "place",
        "position", "reasons", "sides", "spent", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        operator: str,
        deadline_ms: int,
        *,
        keys: tuple[str, ...] = (),
        draft: Draft | None = None,
        command: wire.AnyCommand | None = None,
        sides: dict[bytes, bytes] = NO_SIDES,
        waiter: Any = None,
        place: int = 0,
    ) -> None:
        # A draft with keys, a command without; a lock alone has neither.
        assert (draft is None or bool(keys)) and (command is None or not (keys or draft))
        self.operator = operator
        self.deadline_ms = deadline_ms
        self.keys = keys
        self.draft = draft
        self.command = command
        self.sides = sides
        self.waiter = waiter  # The shell's: who is told, and at which place of the caller's batch.
        self.place = place
        self.lock: Lock | None = None
        self.spent: Lock | None = None
        self.hint = 0
        self.pause_ms = PAUSE_FIRST_MS
        self.obstacle: type[HoldfastError] = LockTimeout
        self.reasons: Any = None
        self.position: tuple[int, int, bytes] = (0, 0, b"")  # of the operator's log at its answer, for commands without keys
        self.outcome: wire.Outcome | None = None

    def started(self) -> Step:
        """The request has come in, and it is its turn."""
        return Step.LOCK if self.keys else Step.SUBMIT

    def granted(self, lock: Lock) -> Step:
        """The lock servers granted all keys (B1)."""
        self.lock = lock
        generation, counter = lock.fence
        assert self.draft is not None
        self.command = self.draft.fenced(generation, counter, lock.nonce)
        return Step.SUBMIT

    def contended(self, keys: tuple[str, ...], now_ms: int) -> Step:
        """Others hold some of the keys: they need milliseconds, so it is tried again (Z9)."""
        return self._refused_lock(LockTimeout, list(keys), now_ms)

    def unavailable(self, reasons: dict[str, str], now_ms: int) -> Step:
        """No majority of the lock servers could be used."""
        return self._refused_lock(LocksUnavailable, reasons, now_ms)

    def decided(self, outcome: wire.Outcome, now_ms: int) -> Step:
        """The operator's partition has answered the command."""
        if outcome.error and now_ms < self.deadline_ms:
            again = self._come_again(outcome.error)
            if again is not None:
                return again
        if self.lock is not None:
            self.spent, self.lock = self.lock, None
        self.outcome = outcome
        return Step.ANSWER

    def failed(self, error: HoldfastError) -> Step:
        """The submission failed as a whole: no partition's answer came, and `error` says whether it may have happened."""
        if self.lock is not None:
            self.spent, self.lock = self.lock, None
        self.outcome = wire.failure(error)
        return Step.ANSWER

    def overdue(self) -> Step:
        """The deadline has come and nothing was sent: the obstacle that stood last is the answer."""
        if not self.keys or self.lock is not None:
            return self.failed(OperatorUnavailable(f"{self.operator} did not take the request in time", operator=self.operator))
        if self.obstacle is LocksUnavailable:
            return self.failed(LocksUnavailable("no quorum of lock servers could be used in time", reasons=self.reasons or {}))
        seats = [key.rpartition("/")[2] for key in self.reasons or self.keys]
        return self.failed(LockTimeout(f"others were buying {', '.join(seats[:9])} to the end; ask again", seats=seats))

    def _come_again(self, error: dict[str, Any]) -> Step | None:
        """Return what to do about the answers that are not recorded and ask for another try, or None for the others."""
        code, fields = error.get("code"), error.get("fields") or {}
        if code == "stale_fence" and self.lock is not None:
            # The counter of the lock servers fell behind what the seat has seen (Z7): lift it, unseen by the caller.
            self.hint = max(self.hint, int((fields.get("fence") or (0, 0))[1]))
            self.spent, self.lock, self.command = self.lock, None, None
            return Step.LOCK
        if code == "request_in_progress" and not fields:
            # An import was before or behind it in the same entry; the next entry takes it, under the same lock.
            return Step.SUBMIT
        if code == "resolve_needed" and self.lock is not None:
            self.reasons = fields
            return Step.RESOLVE
        return None

    def _refused_lock(self, obstacle: type[HoldfastError], reasons: Any, now_ms: int) -> Step:
        self.obstacle, self.reasons = obstacle, reasons
        if now_ms >= self.deadline_ms:
            return self.overdue()
        self.pause_ms = min(2 * self.pause_ms, PAUSE_LAST_MS)
        return Step.PAUSE


class LockTicket(Basket):
    """The lock of several legs: granted to its waiter, who gives it back when nothing depends on it any more (Z6)."""

    __slots__ = ()

    def __init__(self, keys: tuple[str, ...], deadline_ms: int, waiter: Any) -> None:
        super().__init__("", deadline_ms, keys=keys, waiter=waiter)

    def granted(self, lock: Lock) -> Step:
        """The lock servers granted all keys (B1)."""
        self.lock = lock
        self.outcome = wire.Outcome(0)
        return Step.ANSWER

    def given_back(self) -> None:
        """The lock is not needed any more: its place in line goes with it."""
        self.spent, self.lock = self.lock, None

    def again(self, hint: int, waiter: Any) -> None:
        """The fence was out of date: the same place, another lock (Z7)."""
        self.spent, self.lock, self.outcome = self.lock, None, None
        self.hint, self.waiter = max(self.hint, hint), waiter
