"""What the payment sandbox is told to do wrong: `POST /v1/sandbox/faults`, for tests of everything that talks to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadbalancer.sandbox_intents import invalid

# lost: done, and no answer. down: neither. slow: done and answered, late. error: not done, answered with 500.
KINDS = ("lost", "down", "slow", "error")
OPERATIONS = ("create", "confirm", "capture", "cancel", "refund", "read", "any")
COUNT_MAX = 1_000_000
DELAY_MS_MAX = 600_000


@dataclass
class Fault:
    """One planned fault: of which operation, how, and how often still."""

    operation: str
    kind: str
    left: int
    delay_ms: int


class Faults:
    """The faults that are planned; any thread may ask."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._planned: list[Fault] = []

    def plan(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Plan a fault ("on", "kind", "count", "delay_ms"), or forget all ("kind" = "none"); return what is planned.

        Raises:
            ApiError: It cannot be read; nothing changed.
        """
        operation, kind = str(fields.get("on", "any")), str(fields.get("kind", ""))
        numbers = [str(fields.get(name, default)) for name, default in (("count", "1"), ("delay_ms", "0"))]
        if operation not in OPERATIONS:
            raise invalid(f"on must be one of {', '.join(OPERATIONS)}", param="on")
        if kind not in (*KINDS, "none"):
            raise invalid(f"kind must be one of {', '.join(KINDS)}, none", param="kind")
        if not all(word.isascii() and word.isdigit() for word in numbers):
            raise invalid("count and delay_ms are whole numbers", param="count")
        count, delay_ms = min(int(numbers[0]), COUNT_MAX), min(int(numbers[1]), DELAY_MS_MAX)
        with self._mutex:
            if kind == "none":
                self._planned.clear()
            else:
                self._planned.append(Fault(operation, kind, count, delay_ms))
            return {"object": "list", "data": [vars(fault) for fault in self._planned]}

    def take(self, method: str, path: Sequence[str]) -> Fault | None:
        """Return the fault that this request meets, used up by one."""
        operation = operation_of(method, path)
        with self._mutex:
            for fault in self._planned:
                if fault.operation in (operation, "any") and fault.left > 0:
                    fault.left -= 1
                    self._planned = [one for one in self._planned if one.left > 0]
                    return fault
        return None


def operation_of(method: str, path: Sequence[str]) -> str:
    """Return the word for what a request does."""
    if method == "GET":
        return "read"
    if path and path[-1] in ("confirm", "capture", "cancel"):
        return path[-1]
    return "refund" if list(path) == ["v1", "refunds"] else "create"
