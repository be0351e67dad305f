"""Folding what waits into one entry: many callers' commands, decided together, answered with the very bytes recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from datastore import wire
from datastore.engine import Decision, FirstAnswer, decide
from datastore.errors import InvalidRequest
from datastore.ledger import BATCH, ERASE, Entry, Position, SealedEntry, seal
from datastore.model import Epoch
from datastore.rows import Kind
from datastore.state import AppliedState
from datastore.submission import Submission

ENTRY_BYTES_MAX = 12 * 1024 * 1024


class Folded(NamedTuple):
    """What a round of deciding came to.

    Attributes:
        answers: Each submission with its encoded outcomes, to leave when `sealed` is committed, or at once without one.
        sealed: The entry to propose; None where nothing is to be recorded.
        sides: The side records that the entry names.
    """

    answers: list[tuple[Submission, bytes]]
    sealed: SealedEntry | None
    sides: dict[bytes, bytes]


def fold(
    state: AppliedState,
    submissions: Sequence[Submission],
    tail: Position,
    epoch: Epoch,
    stamp_ms: int,
    first_answer: FirstAnswer,
    rows_form: int,
) -> Folded:
    """Decide all commands in order and seal what is to be recorded; changes nothing.

    Raises:
        InvalidRequest: The entry would be too large to travel.
    """
    commands = [command for submission in submissions for command in submission.commands]
    state.prefetch(commands)
    lsn = tail.lsn + 1
    decision = decide(state, commands, stamp_ms, lsn, epoch, first_answer, rows_form)
    answers: list[tuple[Submission, bytes]] = []
    start = 0
    for submission in submissions:
        end = start + len(submission.commands)
        answers.append((submission, wire.encode(decision.outcomes[start:end])))
        start = end
    if not decision.changed:
        return Folded(answers, None, {})
    sides = _sides_used(submissions, decision)
    raw = [msgspec.Raw(outcomes) for _, outcomes in answers]
    kind = ERASE if decision.erases else BATCH
    entry = Entry(epoch, lsn, stamp_ms, kind, decision.requests, raw, list(decision.events), sorted(sides), decision.keeps)
    sealed = seal(entry, tail.hash)
    if len(sealed.data) > ENTRY_BYTES_MAX:
        raise InvalidRequest(f"an entry of {len(sealed.data)} bytes is too large", size_bytes=len(sealed.data))
    return Folded(answers, sealed, sides)


def _sides_used(submissions: Sequence[Submission], decision: Decision) -> dict[bytes, bytes]:
    """Return the side records that a row names: what came with a refused command is not kept (Z12)."""
    sides = {digest: record for submission in submissions for digest, record in submission.sides.items()}
    if not sides:
        return sides
    orders = [value for kind, _, value in decision.events if kind in (Kind.ORDER, Kind.CLOSED_HOLD, Kind.ERASED)]
    return {digest: record for digest, record in sides.items() if any(digest in value for value in orders)}
