"""The simulator's heart: one seeded scheduler, processes on machines with clocks of their own, and greenlets as their threads.

Nothing here knows the protocol. A process is a subclass of `Process`: it starts, is killed, is frozen, and handles messages.
Its threads are greenlets, so that code which waits for an answer, production code too, runs as it is: whatever waits (`sleep`,
`ask`, `wait`, `at_once`) lets the others go on meanwhile. Everything happens in one thread, at one instant of one true time in
microseconds, in an order that follows from the seed alone.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet

from datastore.errors import HoldfastError
from tests.simulation.network import Network

STORY_LINES_MAX = 50_000
# Wall clocks begin here, at 2026-11-21T00:00Z; monotonic ones anywhere.
WALL_START_MS = 1_795_219_200_000


class Violation(AssertionError):
    """A checker found what must never be.

    Attributes:
        checker: Which one, by name: what a minimised run must still be caught by.
    """

    def __init__(self, checker: str, detail: str) -> None:
        super().__init__(f"{checker}: {detail}")
        self.checker = checker
        self.detail = detail


class Ask(NamedTuple):
    """A message to another process, and how long to wait for its answer."""

    to: str
    method: str
    payload: Any
    timeout_ms: int


class Signal:
    """What threads of one process wait for."""

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []

    def set(self) -> None:
        """Wake all who wait, each in a turn of its own."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.process.world.after(one.process, 0, one.wake, True)


@dataclass
class Clock:
    """A machine's clocks: the monotonic one may run fast or slow, the wall clock may jump besides."""

    rate: float = 1.0
    true_us: int = 0
    local_us: float = 0.0
    wall_offset_ms: int = 0

    def monotonic_ms(self, now_us: int) -> int:
        return int(self.local_us + (now_us - self.true_us) * self.rate) // 1000

    def wall_ms(self, now_us: int) -> int:
        return WALL_START_MS + self.monotonic_ms(now_us) + self.wall_offset_ms

    def drift(self, now_us: int, rate: float) -> None:
        """Run at another rate from now on."""
        self.local_us += (now_us - self.true_us) * self.rate
        self.true_us, self.rate = now_us, rate


class Waiter:
    """Somebody who waits: settled once, by an answer or by a time-out."""

    __slots__ = ("done", "process", "then")

    def __init__(self, process: Process, then: Callable[[Any], None]) -> None:
        self.process = process
        self.then = then
        self.done = False

    def settle(self, value: Any) -> None:
        if self.done:
            self.process.world.steps -= 1  # A time-out that was no longer needed is no step of any protocol.
            return
        self.done = True
        self.then(value)

    def wake(self, value: Any) -> None:
        """Settle it from another thread of its own process: no step of any protocol."""
        if not self.done:
            self.process.world.steps -= 1
        self.settle(value)


class TimeOut:
    """What settles a waiter when its time is over."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter

    def __call__(self, value: Any) -> None:
        self.waiter.settle(value)


class Process:
    """One simulated operating-system process, alone on its machine."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.clock = Clock()
        self.alive = False
        self.frozen = False
        self.incarnation = 0
        self._backlog: list[tuple[int | None, Callable[[Any], None], Any]] = []
        self._threads: dict[greenlet, None] = {}
        self._dying = False
        self.chance = random.Random(f"{world.seed} {name} chance")
        world.processes[name] = self

    # -- what subclasses say -----------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin, with nothing but what is on the disk."""

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        """Take in a message; `answer` may be called later, or never."""
        raise NotImplementedError(method)

    def turn(self, act: Callable[[Any], None], argument: Any) -> None:
        """Let one thing happen to this process; what it did not foresee would end it in production too."""
        try:
            act(argument)
        except Violation:
            raise
        except Exception as error:
            raise Violation("our own fault", f"{self.name} stops: {type(error).__name__}: {error}") from error

    # -- life and death ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self.alive:
            self.alive = True
            self.incarnation += 1
            self.tell("starts")
            before, self.world.current = self.world.current, self
            self.boot()
            self.world.current = before

    def kill(self) -> None:
        """As kill -9 does: whatever was under way here is gone."""
        if self.alive:
            self.alive = self.frozen = False
            self.incarnation += 1
            self._backlog.clear()
            # Their frames must end now, not when Python finds them; what they do on the way out reaches nobody any more.
            self._dying = True
            before, self.world.current = self.world.current, self
            for thread in list(self._threads):
                thread.throw(GreenletExit)
            self.world.current = before
            self._threads.clear()
            self._dying = False

    def freeze(self) -> None:
        """As SIGSTOP does: messages wait in its sockets, its timers fire late."""
        if self.alive and not self.frozen:
            self.tell("is frozen")
            self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            self.tell("goes on")
            self.frozen = False
            backlog, self._backlog = self._backlog, []
            for incarnation, act, argument in backlog:
                self.world.push(0, self, incarnation, act, argument)

    def postpone(self, incarnation: int | None, act: Callable[[Any], None], argument: Any) -> None:
        self._backlog.append((incarnation, act, argument))

    # -- time and threads --------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return this machine's monotonic clock."""
        # As `Clock.monotonic_ms`: whatever runs asks for the time, again and again.
        clock = self.clock
        return int(clock.local_us + (self.world.now_us - clock.true_us) * clock.rate) // 1000

    def wall_ms(self) -> int:
        return self.clock.wall_ms(self.world.now_us)

    def tell(self, what: str, *details: object) -> None:
        self.world.tell(self.name, what, *details)

    def send(self, ask: Ask, then: Callable[[Any], None]) -> None:
        """Send a message without waiting; `then` gets the answer, or None when the time is over."""
        waiter = Waiter(self, then)
        self.world.after(self, ask.timeout_ms, TimeOut(waiter), None)
        self.world.network.request(self, ask, waiter.settle)

    def run(self, work: Callable[[], None]) -> None:
        """Begin a thread now: `work` may call what waits."""
        if getcurrent() is self.world.scheduler:
            self.world.begin(self, work)
        else:
            self.world.after(self, 0, self._begin, work)

    def _begin(self, work: Callable[[], None]) -> None:
        self.world.steps -= 1  # A thread that begins is no step of any protocol.
        self.world.begin(self, work)

    def at_work(self, work: Callable[[], None]) -> None:
        """Be what a thread of this process does."""
        me = getcurrent()
        self._threads[me] = None
        try:
            work()
        finally:
            self._threads.pop(me, None)

    def _pause(self) -> Any:
        """Let the others go on until somebody switches back here."""
        return self.world.scheduler.switch()

    def _live(self) -> greenlet:
        """Return the thread that runs; one that is on its way out may neither send nor wait."""
        if self._dying:
            raise GreenletExit
        return getcurrent()

    def ask(self, ask: Ask) -> Any:
        """Send a message and wait for the answer; None when the time is over."""
        self.send(ask, self._live().switch)
        return self._pause()

    def sleep(self, delay_ms: int) -> None:
        self.world.after(self, delay_ms, self._live().switch, None)
        self._pause()

    def wait(self, signal: Signal, timeout_ms: int | None = None) -> bool:
        """Return when the signal is set, or False when the time is over; None: however long it takes."""
        waiter = Waiter(self, self._live().switch)
        signal.waiting.append(waiter)
        if timeout_ms is not None:
            self.world.after(self, timeout_ms, TimeOut(waiter), False)
        return bool(self._pause())

    def at_once(self, calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """Make all calls at the same time, as `manager.nodes.at_once` does: each one's result, or the error that it raised."""
        results: dict[str, Any] = {}
        finished = Signal()

        def make(name: str, call: Callable[[], Any]) -> None:
            try:
                results[name] = call()
            except HoldfastError as error:
                results[name] = error
            if len(results) == len(calls):
                finished.set()

        for name, call in calls.items():
            self.run(partial(make, name, call))
        if calls:
            self.wait(finished)
        return results


class World:
    """All processes, the network between them, and what will happen next."""

    def __init__(self, network: Network, seed: str = "") -> None:
        self.now_us = 0
        self.seed = seed
        self.current: Process | None = None  # Whose turn it is.
        self.steps = 0
        self.network = network
        self.processes: dict[str, Process] = {}
        self.files: dict[str, object] = {}  # What the bytes of files stand for, by their digest.
        self.story: deque[tuple[int, str, str, tuple[object, ...]]] = deque(maxlen=STORY_LINES_MAX)
        self.on_line: Callable[[str], None] | None = None
        self._heap: list[tuple[int, int, Process | None, int | None, Callable[[Any], None], Any]] = []
        self._number = 0
        self._idle: list[greenlet] = []
        self.scheduler = getcurrent()
        network.world = self

    def push(self, delay_us: int, process: Process | None, incarnation: int | None, act: Callable[[Any], None], argument: Any) -> None:
        """Let something happen later. `incarnation` None: to whoever runs there then, if anybody does."""
        self._number += 1
        heappush(self._heap, (self.now_us + delay_us, self._number, process, incarnation, act, argument))

    def after(self, process: Process, delay_ms: int, act: Callable[[Any], None], argument: Any) -> None:
        """Let something happen in `delay_ms` of that machine's clock, if the process still lives then."""
        self._number += 1
        due_us = self.now_us + int(delay_ms * 1000 / process.clock.rate)
        heappush(self._heap, (due_us, self._number, process, process.incarnation, act, argument))

    def at(self, delay_us: int, act: Callable[[Any], None], argument: Any = None) -> None:
        """Let something happen to the world itself: a fault, its end."""
        self.push(delay_us, None, None, act, argument)

    def run(self, until_us: int, steps_max: int) -> bool:
        """Let everything happen up to a time; return False where the steps were used up before.

        Raises:
            Violation: A checker that watches found something.
        """
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            if self.steps >= steps_max:
                return False
            time_us, _, process, incarnation, act, argument = heappop(heap)
            if time_us > self.now_us:
                self.now_us = time_us
            if act.__class__ is TimeOut and act.waiter.done:  # type: ignore[attr-defined]
                continue  # Most questions are answered before: nothing happens then, and nobody's turn it is.
            self.current = process
            if process is None:
                act(argument)
                continue
            if incarnation is None:
                if not process.alive:
                    continue
            elif incarnation != process.incarnation:
                continue
            if process.frozen:
                process.postpone(incarnation, act, argument)
                continue
            self.steps += 1
            process.turn(act, argument)
        self.now_us = max(self.now_us, until_us)
        return True

    def begin(self, process: Process, work: Callable[[], None]) -> None:
        """Let a thread of a process begin, from the scheduler; where it ends or waits, the scheduler goes on."""
        # Not a child of whoever begins it. One that has ended does the next one's work: to make one takes memory from the system.
        thread = self._idle.pop() if self._idle else greenlet(self._work, self.scheduler)
        thread.switch(process, work)

    def _work(self, process: Process, work: Callable[[], None]) -> None:
        """Work for one process after the other; a thread that is killed, or fails, is not used again."""
        me = getcurrent()
        while True:
            process.at_work(work)
            self._idle.append(me)
            process, work = self.scheduler.switch()

    def close(self) -> None:
        """End every process; nothing may be run after."""
        self._heap.clear()
        for process in self.processes.values():
            process.kill()
        for thread in self._idle:
            thread.throw(GreenletExit)
        self._idle.clear()

    # -- the story ---------------------------------------------------------------------------------------------------

    def tell(self, who: str, what: str, *details: object) -> None:
        """Note what happened; `what` may have a {} for each detail, filled in only when somebody reads it."""
        line = (self.now_us, who, what, details)
        self.story.append(line)
        if self.on_line is not None:
            self.on_line(read_line(line))

    def read(self, lines_max: int = 0) -> list[str]:
        """Return the story's last lines, a sentence each."""
        lines = list(self.story)
        return [read_line(line) for line in (lines[-lines_max:] if lines_max else lines)]


def read_line(line: tuple[int, str, str, tuple[object, ...]]) -> str:
    time_us, who, what, details = line
    return f"{time_us / 1_000_000:11.6f} s  {who:<10} {what.format(*details)}"
