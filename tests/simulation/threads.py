"""Threads, clocks and chance for production shells: what `threading`, `time`, `random` and the like are to them.

The shells of a load balancer (`loadbalancer.batching`, `reconciler`, `cashier` and their kind) and a data node's recoverer wait in
threads of their own. While a cluster runs, the names by which their modules know the standard library stand for what is here
(`installed`): a thread is a greenlet of the process whose turn it is, a wait lets the others go on, a clock is that machine's, and
chance is drawn from the seed. The shells themselves run as they are, line for line, so none of their order of steps is written down
a second time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from datastore import pulling, recoverer
from loadbalancer import (
    balancer,
    batching,
    booking,
    cashier,
    collecting,
    finding,
    following,
    itineraries,
    locker,
    paying,
    reconciler,
    sandbox,
    sandbox_faults,
    selling,
    waiting,
)
from tests.simulation.world import Process, Signal, World

SHELLS: tuple[ModuleType, ...] = (
    balancer,
    batching,
    booking,
    cashier,
    collecting,
    finding,
    following,
    itineraries,
    locker,
    paying,
    pulling,
    reconciler,
    recoverer,
    sandbox,
    sandbox_faults,
    selling,
    waiting,
)


class _Here:
    """Whose turn it is."""

    world: World | None = None


def here() -> Process:
    """Return the process whose turn it is."""
    assert _Here.world is not None and _Here.world.current is not None, "no simulated process is at work"
    return _Here.world.current


# --- threading --------------------------------------------------------------------------------------------------------


class Lock:
    """As threading.Lock: whoever waits is woken when it is given back."""

    def __init__(self) -> None:
        self._held = False
        self._freed = Signal()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._held:
            self._held = True
            return True
        if not blocking:
            return False
        process = here()
        due_ms = None if timeout < 0 else process.now_ms() + int(timeout * 1000)
        while self._held:
            left_ms = None if due_ms is None else due_ms - process.now_ms()
            if left_ms is not None and left_ms <= 0:
                return False
            process.wait(self._freed, left_ms)
        self._held = True
        return True

    def release(self) -> None:
        self._held = False
        if self._freed.waiting:
            self._freed.set()

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Guard:
    """A mutex within which nobody ever waits: with one thread at a time it is always free."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


class Condition(Guard):
    """As threading.Condition; whoever waits is always woken with the others, as it asks again anyway."""

    def __init__(self) -> None:
        self._signal = Signal()

    def wait(self, timeout: float | None = None) -> bool:
        return here().wait(self._signal, None if timeout is None else max(1, int(timeout * 1000)))

    def notify(self, _count: int = 1) -> None:
        self._signal.set()

    notify_all = notify


class Event:
    """As threading.Event."""

    def __init__(self) -> None:
        self._is_set = False
        self._signal = Signal()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._signal.set()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            here().wait(self._signal, None if timeout is None else max(1, int(timeout * 1000)))
        return self._is_set


class Thread:
    """As threading.Thread: a greenlet of the process that makes it."""

    def __init__(self, *, target: Callable[..., Any], args: tuple[Any, ...] = (), name: str = "", daemon: bool = False) -> None:
        self._work = lambda: target(*args)
        self._ended = False
        self._end = Signal()

    def start(self) -> None:
        here().run(self._run)

    def join(self, timeout: float | None = None) -> None:
        if not self._ended:
            here().wait(self._end, None if timeout is None else max(1, int(timeout * 1000)))

    def _run(self) -> None:
        # One that is killed with its process ends without anybody's notice.
        self._work()
        self._ended = True
        if self._end.waiting:
            self._end.set()


class Threading:
    """What `threading` is to the shells."""

    Lock = Lock
    RLock = Guard
    Condition = Condition
    Event = Event
    Thread = Thread


# --- queue, concurrent.futures ----------------------------------------------------------------------------------------


class SimpleQueue:
    """As queue.SimpleQueue."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._signal = Signal()

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._signal.waiting:
            # One is enough for one item, and the others would only be woken to wait again.
            first = self._signal.waiting.pop(0)
            first.process.world.after(first.process, 0, first.wake, True)

    def get(self) -> Any:
        while not self._items:
            here().wait(self._signal)
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items


class ThreadPool:
    """As ThreadPoolExecutor: so many at a time; what is submitted is nobody's to wait for."""

    def __init__(self, workers: int, thread_name_prefix: str = "") -> None:
        self._workers = workers
        self._busy = 0
        self._queue: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        self._queue.append(lambda: work(*arguments))
        if self._busy < self._workers:
            self._busy += 1
            here().run(self._work)

    def shutdown(self, **_: Any) -> None:
        self._queue.clear()

    def _work(self) -> None:
        while self._queue:
            self._queue.popleft()()
        self._busy -= 1


# --- time, random, secrets --------------------------------------------------------------------------------------------


class Time:
    """What `time` is to the shells: the clocks of the machine that asks."""

    @staticmethod
    def monotonic() -> float:
        return here().now_ms() / 1000

    @staticmethod
    def monotonic_ns() -> int:
        return here().now_ms() * 1_000_000

    @staticmethod
    def time() -> float:
        return here().wall_ms() / 1000

    @staticmethod
    def time_ns() -> int:
        return here().wall_ms() * 1_000_000

    @staticmethod
    def sleep(seconds: float) -> None:
        here().sleep(max(1, int(seconds * 1000)))


class Chance:
    """What `random` and `secrets` are to the shells: drawn from the process's seed."""

    @staticmethod
    def randint(least: int, most: int) -> int:
        return here().chance.randint(least, most)

    @staticmethod
    def randbelow(bound: int) -> int:
        return here().chance.randrange(bound)

    @staticmethod
    def token_hex(count: int) -> str:
        return f"{here().chance.getrandbits(8 * count):0{2 * count}x}"


class Uuid:
    """What `uuid` is to the shells."""

    def __init__(self) -> None:
        self.hex = Chance.token_hex(16)

    uuid4: type[Uuid]


Uuid.uuid4 = Uuid

STAND_INS: dict[str, Any] = {
    "threading": Threading,
    "SimpleQueue": SimpleQueue,
    "ThreadPoolExecutor": ThreadPool,
    "time": Time,
    "random": Chance,
    "secrets": Chance,
    "uuid": Uuid,
}


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Let the shells run in this world's processes, for as long as the context lasts."""
    before = _Here.world
    _Here.world = world
    level = logging.root.manager.disable
    # What the shells log is told by the story, in simulated time.
    logging.disable(logging.CRITICAL)
    with ExitStack() as stack:
        stack.callback(logging.disable, level)
        stack.callback(setattr, _Here, "world", before)
        for module in SHELLS:
            for name in STAND_INS.keys() & vars(module).keys():
                stack.callback(setattr, module, name, vars(module)[name])
                setattr(module, name, STAND_INS[name])
        yield
