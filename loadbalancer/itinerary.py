"""One basket over several operators on its way to being held, as a machine. Pure.

    lock all keys of all legs (B1) → HOLD_LEGS to every operator at once (B2) → all held → unlock (B3)
        ↑        |                        |
        └ fence out of date (Z7)          └ refused or failed → ABORT at the anchor → RELEASE the legs → unlock (Z6)

The shell feeds events and carries out what it is told; one thread drives a basket. The order is what matters:

* Nothing is released before the anchor's ABORT is committed, and nothing is unlocked before the legs are released: nobody is
  refused a seat for a basket that failed. If the anchor does not answer, the legs stand until they are due, and are resolved
  there (B6): whoever drove this may be dead.
* An ABORT names the lock under which this driver held at the anchor: what another balancer drove too, and may have told its
  caller "held" of, is not undone by a driver that fails, whichever of them was first (`datastore.anchors`).
* A basket's attempt is spent by its ABORT. The same request asked again gets the recorded refusal if there was one, else the
  next attempt (Z3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from datastore import commands
from datastore.errors import HoldfastError, LockTimeout, OutcomeUnknown, error_from_data
from datastore.model import BasketState, Leg, operators_of

# Why the anchor or a leg says that this attempt is over without anybody having been refused or told "held".
SPENT = frozenset({"refused", "failed", "no record", "ended"})
NO_POSITION: commands.Evidence = (0, 0, b"")


class Plan(NamedTuple):
    """What one attempt of a request wants: fields as in `commands.HoldLegs`."""

    request_id: str
    digest: bytes
    basket_id: str
    owner: str
    legs: tuple[Leg, ...]
    currency: str
    ttl_ms: int
    owner_holds_max: int
    service_holds_max: int
    changes: str = ""  # of a change (B11): the operator that has the order, whether or not it has a leg
    replaces: str = ""  # and the order
    credit_minor: int = 0
    amend: commands.Amend | None = None  # of a change that is made by the entry that takes the seats (Z10, MOVE)
    sides: Mapping[bytes, bytes] = {}  # with it, its passengers' records
    chosen: tuple[commands.Chosen | None, ...] = ()

    @property
    def anchor(self) -> str:
        """The operator of the first leg, always (Z3); of a change, the order's (Z10)."""
        return self.changes or self.legs[0].operator


class Reply(NamedTuple):
    """An operator's answer: `value` when `error` is empty; `position` of its log at which that stands."""

    value: Mapping[str, Any]
    error: Mapping[str, Any] = {}
    position: commands.Evidence = NO_POSITION


class Lock(NamedTuple):
    """Get one lock on all keys, with a fence beyond `hint`; a lock that is held is given back first."""

    hint: int


class Send(NamedTuple):
    """Have the operator decide a command; its reply is awaited."""

    operator: str
    command: Any
    sides: Mapping[bytes, bytes] = {}


class Tell(NamedTuple):
    """As `Send`, but nobody waits for the reply."""

    operator: str
    command: Any


class Clear(NamedTuple):
    """A due hold of another basket is in `operator`'s way: have its `anchor` say how it stands, tell the operator (Z5)."""

    operator: str
    basket_id: str
    anchor: str
    owner: str


class Held(NamedTuple):
    """The end: all legs are held. `value`: the anchor's word on the basket, of a MOVE on the order. Unlock."""

    value: Mapping[str, Any]


class Failed(NamedTuple):
    """The end: nothing is held, or, after `OutcomeUnknown`, nobody knows. `spent`: the next attempt may do. Unlock."""

    error: HoldfastError
    spent: bool = False


Instruction = Lock | Send | Tell | Clear | Held | Failed


class Phase(Enum):
    """Where the basket is."""

    LOCKING = "locking"
    HOLDING = "holding"
    ABORTING = "aborting"
    RELEASING = "releasing"
    ENDED = "ended"


class Itinerary:
    """One attempt of one request over two or more legs."""

    def __init__(self, plan: Plan) -> None:
        """Begin; `started` gives the first instruction."""
        self.plan = plan
        self.phase = Phase.LOCKING
        self.operators = tuple(dict.fromkeys((plan.anchor, *operators_of(plan.legs))))
        self._fence: tuple[int, int] = (0, 0)
        self._nonce = ""
        self._anchor_nonce = ""  # under which the anchor was asked last: a second lock, after a stale fence elsewhere, has another
        self._waiting: set[str] = set()
        self._held: dict[str, Reply] = {}
        self._refused: dict[str, HoldfastError] = {}
        self._hint = 0
        self._stale: set[str] = set()
        self._failure: HoldfastError | None = None
        self._other_seats = False  # an earlier try of this request had chosen others (Z3)
        self._undone: set[str] = set()
        self._decided = (BasketState.ABORTED, 0)  # what, and at which lsn

    def started(self) -> list[Instruction]:
        """The request has come in."""
        return [Lock(0)]

    # --- locks ----------------------------------------------------------------------------------------------------

    def locked(self, fence: tuple[int, int], nonce: str) -> list[Instruction]:
        """All keys are ours (B1): hold what is not held yet."""
        self._fence, self._nonce = fence, nonce
        self.phase = Phase.HOLDING
        self._stale.clear()
        missing = [operator for operator in self.operators if operator not in self._held]
        self._waiting = set(missing)
        return [self._send(operator) for operator in missing]

    def not_locked(self, error: HoldfastError) -> list[Instruction]:
        """The keys could not be had: nothing was sent, unless this was the second lock after a stale fence."""
        self._failure = error
        return self._abort() if self._held else self._end(Failed(error))

    def _send(self, operator: str) -> Send:
        plan = self.plan
        if operator == plan.anchor:
            self._anchor_nonce = self._nonce
        if plan.amend is None:
            return Send(operator, self._hold(operator))
        amend = msgspec.structs.replace(plan.amend, basket_id=plan.basket_id)
        return Send(operator, commands.Move(plan.request_id, plan.digest, self._hold(operator), amend), plan.sides)

    def _hold(self, operator: str) -> commands.HoldLegs:
        plan = self.plan
        # Only the anchor hears of all legs: what a traveller buys of others is nobody else's business.
        own = [(number, leg) for number, leg in enumerate(plan.legs) if operator in (plan.anchor, leg.operator)]
        return commands.HoldLegs(
            plan.request_id,
            plan.digest,
            plan.basket_id,
            plan.owner,
            plan.anchor,
            tuple(leg for _, leg in own),
            tuple(number for number, _ in own),
            plan.currency,
            plan.ttl_ms,
            *self._fence,
            self._nonce,
            plan.owner_holds_max,
            plan.service_holds_max,
            plan.replaces if operator == plan.anchor else "",
            plan.credit_minor if operator == plan.anchor else 0,
            tuple(plan.chosen[number] for number, _ in own) if plan.chosen else (),
        )

    # --- replies --------------------------------------------------------------------------------------------------

    def answered(self, operator: str, reply: Reply, *, in_time: bool = True) -> list[Instruction]:
        """An operator has answered the last command it was sent, or could not (`reply.error` says why).

        Args:
            in_time: Whether there is time to try again what may be tried again.
        """
        if self.phase is Phase.ABORTING:
            return self._aborted(reply)
        if self.phase is Phase.RELEASING:
            return self._released(operator, reply)
        if reply.error:
            again = self._again(operator, reply.error) if in_time else None
            if again is not None:
                return again
            self._note(operator, error_from_data(dict(reply.error)))
        else:
            self._take(operator, reply)
        self._waiting.discard(operator)
        return self._judge(in_time) if not self._waiting else []

    def cleared(self, operator: str, error: HoldfastError | None) -> list[Instruction]:
        """What was in the operator's way is settled, or cannot be: then `error` says why."""
        if error is None:
            return [self._send(operator)]
        self._note(operator, error)
        self._waiting.discard(operator)
        return self._judge(True) if not self._waiting else []

    def _again(self, operator: str, error: Mapping[str, Any]) -> list[Instruction] | None:
        code, fields = error.get("code"), error.get("fields") or {}
        if code == "resolve_needed":
            return [Clear(operator, str(fields["basket"]), str(fields["anchor"]), str(fields["owner"]))]
        if code == "request_in_progress" and not fields:
            return [self._send(operator)]  # An import was in the same entry; the next takes it.
        if code == "stale_fence":
            self._hint = max(self._hint, int((fields.get("fence") or (0, 0))[1]))
            self._stale.add(operator)
            self._waiting.discard(operator)
            return self._judge(True) if not self._waiting else []
        return None

    def _take(self, operator: str, reply: Reply) -> None:
        """Note a hold, if it is what this driver asked for: an earlier try may have held other seats (Z3)."""
        self._held[operator] = reply
        if self.plan.amend is not None:
            return  # The answer is the order's. A repeat of the request has the same digest, so it asked for the same seats.
        wanted = [leg for leg in self.plan.legs if operator in (self.plan.anchor, leg.operator)]
        if [(row[1], tuple(row[2])) for row in reply.value["legs"]] != [(leg.service_id, leg.seats) for leg in wanted]:
            self._other_seats = True

    def _note(self, operator: str, error: HoldfastError) -> None:
        self._refused[operator] = error
        if error.maybe_committed:
            self._held[operator] = Reply({}, error.to_data())  # It may hold: it is to be released.

    def _judge(self, in_time: bool) -> list[Instruction]:
        """All operators have answered."""
        if not self._refused and self._stale and not self._other_seats:
            if in_time:
                self.phase = Phase.LOCKING
                return [Lock(self._hint)]
            self._failure = LockTimeout("the lock's fence stayed out of date to the end; ask again")
        if not self._refused and self._failure is None and not self._other_seats:
            return self._end(Held(self._held[self.plan.anchor].value))
        alone = len(self.operators) == 1 and not self._other_seats  # One operator takes all or nothing in one entry.
        if alone or (not self._held and not self._is_spent()):
            return self._end(self._verdict())
        return self._abort()

    # --- giving up (Z6) -------------------------------------------------------------------------------------------

    def _abort(self) -> list[Instruction]:
        self.phase = Phase.ABORTING
        plan = self.plan
        why = "refused" if any(not _is_failure(error) for error in self._refused.values()) else "failed"
        others = tuple(operator for operator in self.operators if operator != plan.anchor)
        return [Send(plan.anchor, commands.Abort("", b"", plan.basket_id, plan.owner, others, self._anchor_nonce, why))]

    def _aborted(self, reply: Reply) -> list[Instruction]:
        if reply.error or reply.value["basket_state"] not in (BasketState.ABORTED, BasketState.CANCELLED):
            # Another balancer drives or drove it, or the anchor is silent: it ends there, or when it is due.
            verdict = self._verdict()
            if verdict.spent or _is_failure(verdict.error):
                verdict = Failed(OutcomeUnknown("the basket's first operator does not answer; ask again with the same request id"))
            return self._end(verdict)
        self.phase = Phase.RELEASING
        plan = self.plan
        # Who refused for good never holds anything for this basket: there is nothing to release.
        self._waiting = {operator for operator in self._held if operator != plan.anchor}
        self._undone = {operator for operator in self.operators if operator != plan.anchor}
        self._decided = (BasketState(reply.value["basket_state"]), int(reply.value["lsn"]))
        release = commands.ReleaseLegs("", b"", plan.basket_id, plan.owner, plan.anchor, reply.position)
        if not self._waiting:
            return self._finish()
        return [Send(operator, release) for operator in sorted(self._waiting)]

    def _released(self, operator: str, reply: Reply) -> list[Instruction]:
        self._waiting.discard(operator)
        if reply.error:
            self._undone.discard(operator)  # The reconciler of any balancer sees to it.
        return [] if self._waiting else self._finish()

    def _finish(self) -> list[Instruction]:
        plan = self.plan
        state, lsn = self._decided
        told = commands.LegsDone("", b"", plan.basket_id, tuple(sorted(self._undone)), int(state), lsn)
        return [Tell(plan.anchor, told), *self._end(self._verdict())]

    def _is_spent(self) -> bool:
        return any(error.fields.get("why") in SPENT for error in self._refused.values())

    def _verdict(self) -> Failed:
        """Return what the caller hears: a refusal before a failure, and all that stood in the way."""
        errors = list(self._refused.values())
        real = [error for error in errors if not _is_failure(error) and error.fields.get("why") not in SPENT]
        if real:
            return Failed(_together([(operator, error) for operator, error in self._refused.items() if error in real], self.operators))
        if self._other_seats or self._is_spent():
            return Failed(OutcomeUnknown("an earlier try of this request has ended; ask again"), spent=True)
        failure = self._failure or next(iter(errors))
        if isinstance(failure, OutcomeUnknown) and self.phase is Phase.RELEASING:
            # The anchor has ended the basket, so whatever happened, it did not succeed: that much is known now.
            return Failed(_not_done(failure))
        return Failed(failure)

    def _end(self, verdict: Held | Failed) -> list[Instruction]:
        self.phase = Phase.ENDED
        return [verdict]


def _is_failure(error: HoldfastError) -> bool:
    return error.retryable or error.maybe_committed


def _not_done(error: HoldfastError) -> HoldfastError:
    data = {**error.to_data(), "code": "operator_unavailable", "title": "", "maybe_committed": False}
    return error_from_data(data)


def _together(refused: Sequence[tuple[str, HoldfastError]], order: Sequence[str]) -> HoldfastError:
    """Return one refusal that lists what stood in the way on every leg: `legs`, beside the fields of the first."""
    ranked = sorted(refused, key=lambda pair: order.index(pair[0]))
    first = ranked[0][1]
    legs: list[dict[str, Any]] = []
    for _, error in ranked:
        legs += error.fields.get("services") or [error.fields]
    data = first.to_data()
    data["detail"] = "; ".join(error.detail for _, error in ranked)
    data["fields"] = {**{name: value for name, value in first.fields.items() if name != "services"}, "legs": legs}
    return error_from_data(data)
