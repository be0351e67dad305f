"""What waits in a partition for its turn: commands to decide, questions to answer, changes of the configuration."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from datastore import administration, wire
from datastore.commands import HoldEach
from datastore.errors import HoldfastError, OutcomeUnknown, QuorumLost
from datastore.ledger import Position
from datastore.once import Once


class Submission:
    """Commands of one caller for one operator, and, once it is there, what came of them.

    Attributes:
        abandoned: Nobody waits any more; if it has not been proposed yet, it never will be.
        weight: Commands in it, each hold of a bulk counted as one.
    """

    __slots__ = (
        "_done", "abandoned", "commands", "epoch", "error", "hash", "lsn", "operator", "outcomes", "seen_ms", "sides", "stamp_ms",
        "weight",
    )  # fmt: skip

    def __init__(self, operator: str, commands: Sequence[wire.AnyCommand], sides: Mapping[bytes, bytes], seen_ms: int = 0) -> None:
        self.seen_ms = seen_ms
        self.stamp_ms = 0
        self.operator = operator
        self.commands = commands
        self.weight = sum([len(command.seats) if isinstance(command, HoldEach) else 1 for command in commands])
        self.sides = sides
        self.outcomes = b""
        self.epoch = 0
        self.lsn = 0
        self.hash = b""
        self.error: HoldfastError | None = None
        self.abandoned = False
        self._done = Once()

    def answer(self, outcomes: bytes, epoch: int, at: Position) -> None:
        """Give the answers with the committed position at which they stand, and the log's time."""
        self.outcomes, self.epoch, self.lsn, self.hash, self.stamp_ms = outcomes, epoch, at.lsn, at.hash, at.stamp_ms
        self._done.set()

    def fail(self, error: HoldfastError) -> None:
        self.error = error
        self._done.set()

    def result(self, timeout_s: float) -> wire.SubmitResult:
        """Wait for the commit and return what to answer; without one in time the outcome is unknown, never refused."""
        if not self._done.wait(timeout_s):
            self.abandoned = True
            error: HoldfastError | None = OutcomeUnknown(f"{self.operator}: no commit in time; ask again with the same request id")
        else:
            error = self.error
        if error is not None:
            return wire.SubmitResult(self.operator, b"", 0, 0, error.to_data())
        return wire.SubmitResult(self.operator, self.outcomes, self.epoch, self.lsn, stamp_ms=self.stamp_ms, hash=self.hash)


class SubmissionQueue:
    """Submissions in the order in which they came; one thread at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Submission] = deque()
        self._alone = 0  # How many of those at the head are to be decided one by one.

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, submission: Submission) -> None:
        self._waiting.append(submission)

    def take(self, commands_max: int) -> list[Submission]:
        """Return what is to be decided together, leaving out what nobody waits for; holds in bulk count one by one."""
        taken: list[Submission] = []
        count = 0
        while self._waiting and count < commands_max:
            submission = self._waiting.popleft()
            if submission.abandoned:
                continue
            taken.append(submission)
            count += submission.weight
            if self._alone:
                self._alone -= 1
                break
        return taken

    def could_not_decide(self, submissions: list[Submission], error: HoldfastError) -> None:
        """Fail the one that cannot be decided; of several one is at fault, and the others must not pay for it."""
        if len(submissions) == 1:
            submissions[0].fail(error)
            return
        self._waiting.extendleft(reversed(submissions))
        self._alone = len(submissions)

    def fail_all(self, error: HoldfastError) -> None:
        for submission in self._waiting:
            submission.fail(error)
        self._waiting.clear()
        self._alone = 0


class Question:
    """A linearizable read that waits until a majority has confirmed the reign."""

    __slots__ = ("_done", "item", "result")

    def __init__(self, item: wire.ReadItem) -> None:
        self.item = item
        self.result: wire.ReadResult | None = None
        self._done = Once()

    def answer(self, lsn: int, stamp_ms: int, value: Any) -> None:
        self.result = wire.ReadResult(self.item.operator, lsn, stamp_ms, value)
        self._done.set()

    def fail(self, error: HoldfastError) -> None:
        self.result = wire.ReadResult(self.item.operator, 0, 0, None, error.to_data())
        self._done.set()

    def wait(self, timeout_s: float) -> wire.ReadResult:
        """Return the answer; without one in time an error that says that nothing happened (it was only a question)."""
        self._done.wait(timeout_s)
        operator = self.item.operator
        late = QuorumLost(f"{operator}: no majority confirmed the primary in time", operator=operator)
        return self.result or wire.ReadResult(operator, 0, 0, None, late.to_data())


class Reconfiguration:
    """A step of a change of the configuration; it waits until nothing is in flight (Z1)."""

    __slots__ = ("_done", "item", "reply")

    def __init__(self, item: administration.ConfigureItem) -> None:
        self.item = item
        self.reply = administration.ConfigureReply(item.operator, False, "no turn in time")
        self._done = Once()

    def answer(self, accepted: bool, reason: str, lsn: int = 0) -> None:
        self.reply = administration.ConfigureReply(self.item.operator, accepted, reason, lsn)
        self._done.set()

    def wait(self, timeout_s: float) -> administration.ConfigureReply:
        """Return what became of it: accepted is appended, not yet committed. Without a turn in time it may still be taken."""
        self._done.wait(timeout_s)
        return self.reply
