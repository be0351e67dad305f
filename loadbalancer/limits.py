"""Token buckets: how often somebody may try. Pure; given the time, and driven by one thread at a time."""

from __future__ import annotations

from collections import OrderedDict

from datastore.errors import RateLimited

NAMES_MAX = 50_000


class Buckets:
    """One bucket a name: `per_minute` tries at once, filled again evenly."""

    def __init__(self, per_minute: int, what: str) -> None:
        """Begin full; `what` stands in the refusal: "of this booking"."""
        self._per_minute = per_minute
        self._what = what
        self._levels: OrderedDict[str, tuple[float, int]] = OrderedDict()  # name -> (tries left, when), oldest first

    def take(self, name: str, now_ms: int) -> None:
        """Count one try of `name`.

        Raises:
            RateLimited: None is left; `retry_after_ms` is how long until one is.
        """
        left, then = self._levels.pop(name, (float(self._per_minute), now_ms))
        left = min(float(self._per_minute), left + (now_ms - then) * self._per_minute / 60_000)
        allowed = left >= 1
        self._levels[name] = (left - 1 if allowed else left, now_ms)
        # A name that was not tried for a minute is full again: forgetting it changes nothing. So is the bound on memory kept.
        while self._levels and (len(self._levels) > NAMES_MAX or now_ms - next(iter(self._levels.values()))[1] > 60_000):
            self._levels.popitem(last=False)
        if not allowed:
            wait_ms = int((1 - left) * 60_000 / self._per_minute) + 1
            raise RateLimited(f"too many tries {self._what}; wait {wait_ms // 1000 + 1} s", retry_after_ms=wait_ms)
