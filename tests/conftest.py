"""What holds for every test of a run: garbage is collected as the servers collect it, and each worker has ports of its own.

All tests together are some millions of objects that never become garbage. Walking them again and again, as Python does by default, was a
quarter of the time of every test that makes many objects.

A test that kills a server wants its port back when it starts it again: no test beside it may have drawn that port meanwhile.
"""

from __future__ import annotations

import gc
import os

from client import processes
from datastore.process import GC_THRESHOLDS, freeze_what_stays


def pytest_configure() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        processes.PORTS = processes.PORTS[number::count]


def pytest_collection_finish() -> None:
    freeze_what_stays()
