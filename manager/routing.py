"""Where a message for an operator goes, and what to do when that did not work.

Pure. A message may be sent again, with the same bytes, whenever the failure says nothing about the request itself: every
command carries a request_id, and a partition gives a repeat the first answer (B10). So nobody below the balancer
notices a promotion, except as time that passes.

What must not be lost on the way is whether an attempt may have happened. Once one may have, only an answer from the
partition settles it; at the deadline the caller hears OutcomeUnknown, never that nothing was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from datastore import wire
from datastore.errors import HoldfastError, InvalidRequest, OperatorUnavailable, OutcomeUnknown, error_from_data

# Failures of the place, not of the request: another place, or another moment, may do.
RESEND_CODES = frozenset(
    {"not_primary", "node_unreachable", "quorum_lost", "outcome_unknown", "request_in_progress", "operator_unavailable", "disk_failed"}
)
# A disk may fail after followers took the entry, and then the next primary commits it.
MAYBE_CODES = frozenset({"outcome_unknown", "disk_failed", "request_in_progress"})

PAUSE_FIRST_MS = 10
PAUSE_LAST_MS = 160
# Less than this cannot hold a round trip and a flush; a call with it would only leave a doubt.
ATTEMPT_MIN_MS = 5
# An envelope that named a year would keep its thread that long.
DEADLINE_MAX_MS = 120_000

Item = TypeVar("Item", wire.SubmitItem, wire.ReadItem)


class Method(NamedTuple):
    """A kind of message: its name, the type of its answer, whether it changes anything, and a failed item's result."""

    name: str
    results: Any
    writes: bool
    failure: Callable[[str, HoldfastError], Any]


SUBMIT = Method("submit", list[wire.SubmitResult], True, lambda operator, error: wire.SubmitResult(operator, b"", 0, 0, error.to_data()))
READ = Method("read", list[wire.ReadResult], False, lambda operator, error: wire.ReadResult(operator, 0, 0, None, error.to_data()))


class Again(NamedTuple):
    """Send it again: to `node` ("" for whoever is primary then), after up to `pause_ms` or a change of primary."""

    node: str
    pause_ms: int


class Delivery:
    """One operator's part of a message on its way to an answer, through as many attempts as the deadline allows."""

    def __init__(self, operator: str, *, deadline_ms: int, attempt_ms: int, writes: bool) -> None:
        """Begin.

        Args:
            deadline_ms: When the answer is due, on the monotonic clock.
            attempt_ms: How long the first attempt may take. A node that froze must not use up the whole deadline; each
                further attempt gets twice as long, as the work may just be large.
            writes: Whether the message changes anything; a read that failed surely did not.
        """
        self.operator = operator
        self._deadline_ms = deadline_ms
        self._attempt_ms = attempt_ms
        self._writes = writes
        self._attempts = 0
        self._maybe = False
        self._led = False
        self._last: HoldfastError | None = None

    def timeout_ms(self, now_ms: int) -> int:
        """Return how long the next attempt may take; under ATTEMPT_MIN_MS there is no time for one."""
        return min(self._deadline_ms - now_ms, self._attempt_ms << min(self._attempts, 10))

    def failed(self, error: HoldfastError, node: str, now_ms: int) -> Again | HoldfastError:
        """Take in how an attempt failed; return when and where to try again, or the final answer.

        Args:
            node: Who was asked, "" if nobody could be.
        """
        if error.code not in RESEND_CODES:
            return error
        if node:
            self._attempts += 1
        self._maybe = self._maybe or (self._writes and (error.maybe_committed or error.code in MAYBE_CODES))
        self._last = error
        pause_ms = min(PAUSE_FIRST_MS << min(self._attempts, 10), PAUSE_LAST_MS)
        if now_ms + ATTEMPT_MIN_MS >= self._deadline_ms:
            return self.given_up()
        hint = error.fields.get("primary") if error.code == "not_primary" else ""
        # A hint is followed at once, but not from hint to hint: two nodes that each believe in the other would spin.
        if isinstance(hint, str) and hint and hint != node and not self._led:
            self._led = True
            return Again(hint, 0)
        self._led = False
        return Again("", min(pause_ms, self._deadline_ms - now_ms))

    def given_up(self) -> HoldfastError:
        """Return the answer at the deadline: in doubt if any attempt may have happened, else surely not done."""
        why = innermost(self.operator, self._last.detail) if self._last else "no time was left"
        if self._maybe:
            return OutcomeUnknown(
                f"{self.operator}: no answer in time, it may have happened ({why})", operator=self.operator, attempts=self._attempts
            )
        return OperatorUnavailable(f"{self.operator}: not done ({why})", operator=self.operator, attempts=self._attempts)


def innermost(operator: str, detail: str) -> str:
    """Return the reason in a detail that layers below have wrapped: "LUM: not done (LUM: 1 of 3 answer)" is "1 of 3 answer".

    Each layer says whose partition it is and that nothing was done; a person needs to hear that once.
    """
    opening, name = "not done (", f"{operator}: "
    while True:
        inner = detail.removeprefix(name)
        if inner.startswith(opening) and inner.endswith(")"):
            inner = inner[len(opening) : -1]
        if inner == detail:
            return detail
        detail = inner


def error_in(results: Sequence[Any], position: int, operator: str) -> HoldfastError | None:
    """Return the error of the result at `position`, None where it has none.

    A result that is missing or another operator's is a doubt: whether the commands were carried out cannot be told from it.
    """
    if position >= len(results) or results[position].operator != operator:
        return OutcomeUnknown(f"{operator}: the answer does not fit the question", operator=operator)
    data = results[position].error
    return error_from_data(data) if data else None


def opened(kind: Any, payload: bytes) -> tuple[int, Any]:
    """Return the envelope's deadline and its content: MessagePack [deadline_ms, content], the content of that kind.

    Raises:
        InvalidRequest: Not such an envelope, or a deadline out of bounds; nothing was done.
    """
    deadline_ms, content = wire.decode(tuple[int, kind], payload)
    if not 1 <= deadline_ms <= DEADLINE_MAX_MS:
        raise InvalidRequest(f"a deadline of {deadline_ms} ms is not within 1..{DEADLINE_MAX_MS}", field="deadline_ms")
    return deadline_ms, content
