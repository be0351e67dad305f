"""Holds that several threads of one process ask for at the same time travel as one message.

A process that serves many travellers shares one client among its threads. What they ask while a message is under way is the next one,
as everywhere here: no timer, and one who asks alone is sent at once. Each hold stands or falls alone, with its own request id, as if
it had travelled alone.

    first to come ── hold ──────────→ answered ─┐ whoever leaves last wakes the next message's carrier:
    others wait ─────────────────────────────────┴→ one of them carries all as hold_many → answered → all leave, the last …

The last one to leave sends what came, not the first: by then the others are back with what they ask next, and with 16 threads
a message has 14 holds instead of 8.

Nobody's trouble is to be another's:

* Only holds of one operator go together, and never two for one seat. Whose a service is, an answer has told; until then its holds go
  alone. So do the best available, offers, many seats and short deadlines.
* A message lasts for `PATIENCE_MS` at most. What it did not decide, each asks for itself with what is left of its time, and what the
  message left in doubt is doubt; a partition gives the first answer to a repeat. The services of such holds go alone for a while.
* Where a message was refused as a whole, each asks for itself: the slip of one is not the others'.
* Nobody waits for longer than `TURN_S`, whoever is held up, interrupted or stopped in a debugger: who has waited so long asks for
  itself, and takes the line over from whoever should have gone on, so that those behind go on too.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from datastore import messages
from datastore.errors import HoldfastError, InvariantBroken, NodeUnreachable, OutcomeUnknown, WorldFailure, error_from_data

# Tens of times what a message takes. It ends before those in it give it up, so that the others in it have their answers then.
PATIENCE_MS = 400
TURN_S = 0.5
# Longer than a lock lives that a dead process left behind.
APART_S = 6.0
# Who has less time never waits for others; who has more must not keep a message from being valid.
DEADLINE_MIN_MS = 2_000
DEADLINE_MAX_MS = 120_000
# Less than this holds no round trip.
LEFT_MIN_MS = 10
# A message of so many of the largest holds stays below the smallest frame that a balancer can be set to take (64 KiB).
HOLDS_MAX = 64
SEATS_MAX = 9
SERVICES_KNOWN = 20_000

# As BalancerStub asks: method, request, what an earlier try left in doubt.
Ask = Callable[[str, messages.Request, OutcomeUnknown | None], messages.Answer]


class _Asked:
    """A hold whose thread waits for others. All but `turn` is guarded by the mutex until its turn has come.

    Attributes:
        until: When its time is over, monotonic seconds.
        turn: Released when there is something to do for its thread.
        number: Of the message that it is in.
        others: Whom its thread is to carry besides itself; None where it carries nothing.
        group: One token for each that is answered by the same message; who takes the last, which is True, goes on. None before that.
        found: What was said to it.
        doubt: Why it may have been done although nothing was said; "" where it surely was not.
        is_sent: Whether it is in a message that was, or may have been, handed over.
        is_gone: Whether its thread waits no more.
    """

    __slots__ = ("doubt", "found", "group", "is_gone", "is_sent", "number", "others", "request", "turn", "until")

    def __init__(self, request: messages.HoldSeats) -> None:
        self.request = request
        self.until = time.monotonic() + request.deadline_ms / 1000
        self.turn = threading.Lock()
        self.turn.acquire()
        self.number = 0
        self.others: list[_Asked] | None = None
        self.group: list[bool] | None = None
        self.found: messages.HoldResult | None = None
        self.doubt = ""
        self.is_sent = False
        self.is_gone = False


class _Line:
    """What waits for one operator.

    Attributes:
        is_busy: Whether somebody is to go on with it: who has the message of that `number`, since `since`, about those `services`.
    """

    __slots__ = ("is_busy", "number", "services", "since", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Asked] = deque()
        self.is_busy = False
        self.number = 0
        self.since = 0.0
        self.services: set[str] = set()

    def begin(self, services: set[str]) -> int:
        """Take note of a new message; return its number."""
        self.is_busy = True
        self.number += 1
        self.since = time.monotonic()
        self.services = services
        return self.number

    def choose(self) -> _Asked | None:
        """Begin the next message with what waits and may go together; return who carries it, None where nothing waits."""
        batch: list[_Asked] = []
        seats: set[tuple[str, str]] = set()
        later: list[_Asked] = []
        while self.waiting and len(batch) < HOLDS_MAX:
            asked = self.waiting.popleft()
            wanted = [(asked.request.service_id, seat) for seat in asked.request.seats]
            if seats.isdisjoint(wanted):
                seats.update(wanted)
                batch.append(asked)
            else:
                later.append(asked)
        self.waiting.extendleft(reversed(later))
        if not batch:
            self.is_busy = False
            return None
        number = self.begin({asked.request.service_id for asked in batch})
        for asked in batch:
            asked.number = number
        batch[0].others = batch[1:]
        return batch[0]


class Gathering:
    """Asks for holds, together where several are asked for at a time. Any number of threads may share it."""

    def __init__(self, ask: Ask) -> None:
        """Gather for `ask`, which sends one message and returns its answer or raises."""
        self._ask = ask
        self._mutex = threading.Lock()  # guards all that follows, and what waits
        self._operators: dict[str, str] = {}  # service -> whose it is
        self._apart: dict[str, float] = {}  # service -> until when its holds go alone, monotonic
        self._lines: dict[str, _Line] = {}  # operator -> its line

    def hold(self, request: messages.HoldSeats) -> messages.Answer:
        """Return the answer to a hold; raises as `BalancerStub.call`."""
        operator = self._operators.get(request.service_id)
        if operator is None:
            return self._ask_first(request)
        if not self._may_wait(request):
            return self._ask("hold", request, None)
        asked: _Asked | None = None
        number = 0
        with self._mutex:
            line = self._lines.setdefault(operator, _Line())
            if line.is_busy:
                asked = _Asked(request)
                line.waiting.append(asked)
            else:
                number = line.begin({request.service_id})
        if asked is not None:
            return self._wait(line, asked)
        try:
            return self._ask("hold", request, None)
        finally:
            self._go_on(line, number)

    def _may_wait(self, request: messages.HoldSeats) -> bool:
        if request.count or request.offer or len(request.seats) > SEATS_MAX:
            return False
        if not DEADLINE_MIN_MS <= request.deadline_ms <= DEADLINE_MAX_MS:
            return False
        return not self._apart or self._apart.get(request.service_id, 0.0) <= time.monotonic()

    def _ask_first(self, request: messages.HoldSeats) -> messages.Answer:
        """Ask alone, and learn whose service it is."""
        answer = self._ask("hold", request, None)
        if isinstance(answer, messages.HoldAnswer):
            with self._mutex:
                if len(self._operators) >= SERVICES_KNOWN:
                    self._operators.clear()
                self._operators[request.service_id] = answer.operator
        return answer

    def _wait(self, line: _Line, asked: _Asked) -> messages.Answer:
        try:
            if not asked.turn.acquire(timeout=TURN_S):
                self._leave(line, asked)
            if asked.others is not None:
                return self._carry(line, asked)
            if asked.group is not None and asked.group.pop():
                self._go_on(line, asked.number)
        except BaseException:
            self._abandon(line, asked)
            raise
        return self._outcome(asked)

    def _leave(self, line: _Line, asked: _Asked) -> None:
        """Wait no more, unless it is this thread's turn or its answer has come; see to it that the others need not wait for it."""
        chosen = None
        with self._mutex:
            if asked.is_gone or asked.group is not None or asked.others is not None:
                return
            asked.is_gone = True
            if asked.is_sent:
                asked.doubt = "no answer in time; it may have happened"
                return
            if asked in line.waiting:
                line.waiting.remove(asked)
            if line.is_busy and time.monotonic() - line.since >= TURN_S / 2:
                # Whoever should have gone on is held up; when it comes after all, the number tells it that the line is another's.
                self._keep_apart(line.services)
                chosen = line.choose()
        if chosen is not None:
            chosen.turn.release()

    def _abandon(self, line: _Line, asked: _Asked) -> None:
        """After an interrupt, or with an error on its way to the caller: leave to the others what was this thread's to do, if anything."""
        with self._mutex:
            asked.is_gone = True
            if asked in line.waiting:
                line.waiting.remove(asked)
            is_next = (not asked.is_sent and asked.others is not None) or bool(asked.group and asked.group.pop())
            if not asked.is_sent:
                line.waiting.extendleft(reversed([one for one in asked.others or () if not one.is_gone]))
        if is_next:
            self._go_on(line, asked.number)

    def _go_on(self, line: _Line, number: int) -> None:
        """After the message of that number: wake who carries the next one, if anything waits."""
        with self._mutex:
            chosen = line.choose() if line.number == number else None
        if chosen is not None:
            chosen.turn.release()

    def _carry(self, line: _Line, asked: _Asked) -> messages.Answer:
        """Ask for a whole message, give the others what was found, and return or raise what concerns this one."""
        with self._mutex:
            others = [one for one in asked.others or () if not one.is_gone]
            for one in (asked, *others):
                one.is_sent = True
        if not others:
            try:
                return self._outcome(asked)
            finally:
                self._go_on(line, asked.number)
        results: Sequence[messages.HoldResult | None] = [None] * (1 + len(others))
        doubt = "the thread that asked was interrupted; it may have happened"
        try:
            results, doubt = self._ask_for([asked.request, *(one.request for one in others)])
        finally:
            asked.found, asked.doubt = results[0], doubt
            with self._mutex:
                there = [(one, result) for one, result in zip(others, results[1:], strict=True) if not one.is_gone]
                group = [number == 0 for number in range(len(there))]
                for one, result in there:
                    one.found, one.doubt, one.group = result, doubt, group
            if not there:
                self._go_on(line, asked.number)
            for one, _ in there:
                one.turn.release()
        return self._outcome(asked)

    def _ask_for(self, holds: list[messages.HoldSeats]) -> tuple[Sequence[messages.HoldResult | None], str]:
        """Return what one message says to each, and the doubt that it leaves to whom it says nothing."""
        nothing = [None] * len(holds)
        try:
            answer = self._ask("hold_many", messages.HoldMany(holds=holds, deadline_ms=PATIENCE_MS), None)
        except HoldfastError as error:
            return nothing, error.detail if error.maybe_committed else ""
        except Exception:  # Of this message; whose slip it was each hears by itself.
            return nothing, ""
        if not isinstance(answer, messages.HoldManyAnswer) or len(answer.results) != len(holds):
            return nothing, "the answer does not fit the question; it may have happened"
        return answer.results, ""

    def _outcome(self, asked: _Asked) -> messages.Answer:
        """Return or raise what was found; what was not decided is asked for alone."""
        request, result, doubt = asked.request, asked.found, asked.doubt
        error: HoldfastError | None = None
        if result is not None:
            if result.hold is not None:
                return result.hold
            error = error_from_data(result.error)
            if not (isinstance(error, WorldFailure | InvariantBroken) or error.retryable or error.maybe_committed):
                raise error
            if error.maybe_committed or isinstance(error, InvariantBroken):
                doubt = error.detail
        if error is not None or doubt:
            with self._mutex:
                self._keep_apart({request.service_id})
        unknown = OutcomeUnknown(doubt, request_id=request.request_id) if doubt else None
        left_ms = int((asked.until - time.monotonic()) * 1000)
        if left_ms < LEFT_MIN_MS:
            raise unknown or error or NodeUnreachable("no time was left to ask; nothing was done", request_id=request.request_id)
        return self._ask("hold", msgspec.structs.replace(request, deadline_ms=left_ms), unknown)

    def _keep_apart(self, services: set[str]) -> None:
        """Let holds of these go alone for a while; with the mutex."""
        now = time.monotonic()
        self._apart = {service: until for service, until in self._apart.items() if until > now} | dict.fromkeys(services, now + APART_S)
