"""Finishes what others left: every balancer looks at what the anchors have open, and carries their word to the other operators.

What is open comes with the feeds (`loadbalancer.view`), so looking costs nothing while there is nothing to do. Whoever sold or
cancelled a basket follows up at once (`nudge`); the others wait a moment and then do it too, in case it died (B9). All of it
may be done twice: every command finds its own effect (`loadbalancer.reconciling`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datastore import commands
from datastore.errors import HoldfastError, OperatorUnavailable
from datastore.model import is_basket
from datastore.rows import LegRow
from loadbalancer import reconciling
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.basket import Basket
from loadbalancer.itinerary import Send
from loadbalancer.reconciling import anchor_of
from loadbalancer.waiting import now_ms

LOOK_MS = 250
# Whoever decided follows up within milliseconds; the others leave it this long to do so.
GRACE_MS = 700
AGAIN_MS = 1_000
# One step of the work may take this long. With a majority up it takes milliseconds; an operator that is down must not keep a
# worker from the others for longer.
STEP_MS = 1_500
WORKERS = 4
ALARM_AFTER = 3  # A leg that does not follow may only be ahead of what was read; said again and again, it is a fault.

log = logging.getLogger(__name__)


class Reconciler:
    """One balancer's reconciler."""

    def __init__(self, balancer: Balancer) -> None:
        """Prepare; `start` starts."""
        self._balancer = balancer
        balancer.pipeline.resolve = self._clear_basket
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="reconciler")
        self._closing = threading.Event()
        self._mutex = threading.Lock()  # guards what follows
        self._under_way: set[tuple[str, str]] = set()  # ("basket" or "leg", id)
        self._next_ms: dict[tuple[str, str], int] = {}  # when to look at it (again)
        self._alarms: dict[str, int] = {}

    def start(self) -> None:
        """Start looking."""
        threading.Thread(target=self._look_always, name="reconciler", daemon=True).start()

    def close(self) -> None:
        """Stop; what is under way ends by itself, and another balancer does the rest."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def nudge(self, basket_id: str) -> None:
        """Follow up a basket that was just decided."""
        self._begin(("basket", basket_id), lambda: self._finish(basket_id))

    def follow(self, hold_id: str) -> None:
        """Follow up what was just said of a hold; nothing is to be done for one of a single operator."""
        if is_basket(hold_id):
            self.nudge(hold_id)

    # --- due legs in a buyer's way (Z5) ---------------------------------------------------------------------------

    def clear(self, operator: str, basket_id: str, owner: str, deadline_ms: int) -> HoldfastError | None:
        """Have a due leg's anchor say how its basket stands, and tell the operator; return why that cannot be done."""
        anchor = anchor_of(basket_id)
        try:
            resolve = Send(anchor, commands.Resolve("", b"", basket_id, owner, operator))
            (reply,) = self._balancer.decide_all([resolve], deadline_ms)
            if reply.error:
                return _unavailable(anchor, reply.error)
            for basket in self._baskets(anchor, [basket_id], deadline_ms):
                self._tell_operators(basket, [operator], deadline_ms)
        except HoldfastError as error:
            return _unavailable(anchor, error.to_data())
        return None

    def _clear_basket(self, basket: Basket) -> None:
        """As `clear`, for a hold of one operator on its way through the pipeline: on a worker, as lanes must not wait."""
        fields = basket.reasons

        def work() -> None:
            error = self.clear(basket.operator, str(fields["basket"]), str(fields["owner"]), basket.deadline_ms)
            self._balancer.pipeline.resume(basket, error)

        try:
            self._pool.submit(self._guarded, work)
        except RuntimeError:  # Closing.
            self._balancer.pipeline.resume(basket, OperatorUnavailable("this balancer is stopping"))

    # --- looking --------------------------------------------------------------------------------------------------

    def _look_always(self) -> None:
        while not self._closing.wait(LOOK_MS / 1000):
            self._guarded(self._look)

    def _look(self) -> None:
        now = now_ms()
        seen: set[tuple[str, str]] = set()
        for view in list(self._balancer.catalogue.operators.values()):
            for basket_id in list(view.undone):
                seen.add(key := ("basket", basket_id))
                self._when_due(key, now + GRACE_MS, now, self._finishing(basket_id))
            for basket_id, row in list(view.legs.items()):
                # With its due time in the key, a hint that moves is another thing to wait for.
                seen.add(key := ("leg", f"{view.code} {basket_id} {row.due_ms} {row.lost}"))
                left_ms = 0 if row.lost else _left_ms(row, view.stamp_ms)
                self._when_due(key, now + left_ms + GRACE_MS, now, self._resolving(view.code, row))
        with self._mutex:
            self._next_ms = {key: due for key, due in self._next_ms.items() if key in seen}

    def _when_due(self, key: tuple[str, str], due_ms: int, now: int, work: Callable[[], None]) -> None:
        with self._mutex:
            known = self._next_ms.setdefault(key, due_ms)
            if known > now:
                return
            self._next_ms[key] = now + AGAIN_MS
        self._begin(key, work)

    def _finishing(self, basket_id: str) -> Callable[[], None]:
        return lambda: self._finish(basket_id)

    def _resolving(self, operator: str, row: LegRow) -> Callable[[], None]:
        return lambda: self._resolve(operator, row)

    def _begin(self, key: tuple[str, str], work: Callable[[], None]) -> None:
        with self._mutex:
            if key in self._under_way or self._closing.is_set():
                return
            self._under_way.add(key)

        def run() -> None:
            try:
                self._guarded(work)
            finally:
                with self._mutex:
                    self._under_way.discard(key)

        try:
            self._pool.submit(run)
        except RuntimeError:  # Closing.
            return

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HoldfastError as error:
            log.info("reconciler: not yet code=%s detail=%s", error.code, error.detail)
        except Exception:
            log.exception("reconciler: a fault; the others go on")

    # --- doing ----------------------------------------------------------------------------------------------------

    def _finish(self, basket_id: str) -> None:
        """Carry the anchor's word to whoever does not follow yet (B5, B8)."""
        deadline_ms = now_ms() + STEP_MS
        for basket in self._baskets(anchor_of(basket_id), [basket_id], deadline_ms):
            self._tell_operators(basket, basket["undone"], deadline_ms)

    def _resolve(self, operator: str, row: LegRow) -> None:
        """See to a leg that is due, or whose service its operator took away."""
        deadline_ms = now_ms() + STEP_MS
        if not row.lost:
            error = self.clear(operator, row.basket_id, row.owner, deadline_ms)
            if error is not None:
                raise error
            return
        lost = Send(row.anchor, commands.ServiceLost("", b"", row.basket_id, operator, row.lost))
        (reply,) = self._balancer.decide_all([lost], deadline_ms)
        if not reply.error:
            for basket in self._baskets(row.anchor, [row.basket_id], deadline_ms):
                self._tell_operators(basket, [operator], deadline_ms)

    def _baskets(self, anchor: str, basket_ids: Sequence[str], deadline_ms: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._balancer.read(anchor, "baskets", {"basket_ids": list(basket_ids)}, deadline_ms).value
        return found

    def _tell_operators(self, basket: Mapping[str, Any], operators: Sequence[str], deadline_ms: int) -> None:
        sends = reconciling.follow(basket, operators)
        replies = dict(zip(operators, self._balancer.decide_all(sends, deadline_ms), strict=True))
        done = reconciling.done(basket, replies)
        if done is not None:
            self._balancer.decide_all([Send(anchor_of(basket["hold_id"]), done)], deadline_ms)
        for alarm in reconciling.alarms(basket, replies):
            with self._mutex:
                count = self._alarms[alarm] = self._alarms.get(alarm, 0) + 1
            if count == ALARM_AFTER:
                log.error("reconciler: %s", alarm)


def _left_ms(row: LegRow, stamp_ms: int) -> int:
    """Return how long a leg seems to have: by its log's last stamp or by this machine's clock, whichever is less.

    A hint is all that is needed: who asks too early is told "not due yet".
    """
    return max(0, min(row.due_ms - stamp_ms, row.due_ms - wall_ms()))


def _unavailable(anchor: str, error: Mapping[str, Any]) -> HoldfastError:
    """Return that the anchor cannot be asked: never that the seat is taken (Z5)."""
    return OperatorUnavailable(f"{anchor} decides on a hold in the way and does not answer: {error['detail']}", operator=anchor)
