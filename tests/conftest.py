"""What holds for every test of a run: garbage is collected as the servers collect it.

All tests together are some millions of objects that never become garbage. Walking them again and again, as Python does by default, was a
quarter of the time of every test that makes many objects.
"""

from __future__ import annotations

import gc

from datastore.process import GC_THRESHOLDS, freeze_what_stays


def pytest_configure() -> None:
    gc.set_threshold(*GC_THRESHOLDS)


def pytest_collection_finish() -> None:
    freeze_what_stays()
