"""What every server process sets once, before its first thread: log, C allocator, garbage collector, the turn of threads, end.

Defaults are made for programs that do one thing at a time and then something else. A server moves buffers of some hundred
kilobytes thousands of times a second, keeps millions of small objects that are no garbage, and has threads that come back
from the network while another computes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import time

# Holds, seats and messages are trees: next to nothing here is cyclic garbage, and each full collection walks all of it while
# everybody waits. So collections are rare.
GC_THRESHOLDS = (100_000, 20, 100)

# A thread that comes back from the network waits at most this long for the one that is computing; Python's default of
# 5 ms would be three whole holds.
SWITCH_INTERVAL_S = 0.001

# glibc gives the memory of every freed batch back to the system and has it cleared, page by page, for the next one: a tenth
# of a node's time at 10,000 holds/s. What was needed once is kept instead; and one arena, as Python's lock lets one thread
# at a time allocate nearly always. Numbers of malloc.h.
MALLOC_OPTIONS = (
    (-8, 1),  # M_ARENA_MAX
    (-3, 32 * 1024 * 1024),  # M_MMAP_THRESHOLD: the most that glibc takes
    (-1, 128 * 1024 * 1024),  # M_TRIM_THRESHOLD
    (-2, 4 * 1024 * 1024),  # M_TOP_PAD
)


def prepare_server_process() -> None:
    """Set all of it; where the C library is another one, the allocator stays as it is."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC_OPTIONS:
            mallopt(option, value)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)


def log_to_stderr(name: str) -> None:
    """Write this process's log lines to stderr, in the form that all processes have: "2026-12-01T10:00:00.123Z LEVEL NAME message".

    In UTC: the lines of hosts in several zones, and of the hour that comes twice in autumn, are in order.
    """
    form = logging.Formatter(f"%(asctime)s.%(msecs)03dZ %(levelname)s {name} %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def freeze_what_stays() -> None:
    """Take what start-up made out of every later collection: modules, types and the configuration never become garbage."""
    gc.collect()
    gc.freeze()


class End:
    """When a process is to end: asked by SIGTERM or SIGINT, or by a thread of its own.

    Not an `Event` that a handler sets. Python runs handlers in the main thread, and a signal that comes just before that one
    falls asleep, or that the system gives to another thread, does not wake it: on a loaded machine a node slept on for as long
    as its wait was. (A handler that sets an `Event` whose lock the main thread holds at that moment waits for itself.) The
    wake-up descriptor is written to by the C half of the handler, whatever thread that runs in and whenever.
    """

    def __init__(self) -> None:
        """Take the signals over; in the main thread, once a process."""
        self._asked, self._ask = os.pipe()
        os.set_blocking(self._ask, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._ask, warn_on_full_buffer=False)

    def ask(self) -> None:
        """End this process; any thread may."""
        with contextlib.suppress(BlockingIOError):  # It is full of such wishes.
            os.write(self._ask, bytes(1))

    def wait(self) -> int:
        """Return when the process is to end, with the number of the signal that asked for it; 0 for a thread's wish."""
        while True:
            (number,) = os.read(self._asked, 1)
            if number in (0, signal.SIGTERM, signal.SIGINT):
                return int(number)
