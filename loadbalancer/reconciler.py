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
from functools import partial
from typing import Any, NamedTuple

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
BATCH_MAX = 100  # Baskets in one question to an anchor.
ALARM_AFTER = 3  # A leg that does not follow may only be ahead of what was read; said again and again, it is a fault.

log = logging.getLogger(__name__)


class Due(NamedTuple):
    """A leg that is to be resolved: who has it, and its row."""

    operator: str
    row: LegRow


class Reconciler:
    """One balancer's reconciler: at most one worker for each anchor, which takes all that waits for it (one that is down
    keeps one worker, not all of them)."""

    def __init__(self, balancer: Balancer) -> None:
        """Prepare; `start` starts."""
        self._balancer = balancer
        balancer.pipeline.resolve = self._clear_basket
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="reconciler")
        self._clearing = ThreadPoolExecutor(WORKERS, thread_name_prefix="clearing")
        self._closing = threading.Event()
        self._mutex = threading.Lock()  # guards what follows
        self._undone: dict[str, dict[str, None]] = {}  # anchor -> baskets whose word is to be carried
        self._due: dict[str, dict[tuple[str, str], Due]] = {}  # anchor -> (operator, basket) -> leg that is to be resolved
        self._under_way: set[str] = set()  # anchors with a worker
        self._next_ms: dict[tuple[str, str], int] = {}  # what was seen -> when to look at it (again)
        self._alarms: dict[str, int] = {}

    def start(self) -> None:
        """Start looking."""
        threading.Thread(target=self._look_always, name="reconciler", daemon=True).start()

    def close(self) -> None:
        """Stop; what is under way ends by itself, and another balancer does the rest."""
        self._closing.set()
        for pool in (self._pool, self._clearing):
            pool.shutdown(wait=False, cancel_futures=True)

    def nudge(self, basket_id: str) -> None:
        """Follow up a basket that was just decided."""
        anchor = anchor_of(basket_id)
        with self._mutex:
            self._undone.setdefault(anchor, {})[basket_id] = None
        self._work_for(anchor)

    def follow(self, hold_id: str) -> None:
        """Follow up what was just said of a hold; nothing is to be done for one of a single operator."""
        if is_basket(hold_id):
            self.nudge(hold_id)

    # --- due legs in a buyer's way (Z5) ---------------------------------------------------------------------------

    def clear(self, operator: str, basket_id: str, owner: str, deadline_ms: int) -> HoldfastError | None:
        """Have a due leg's anchor say how its basket stands, and tell the operator; return why that cannot be done."""
        anchor = anchor_of(basket_id)
        deadline_ms = min(deadline_ms, now_ms() + STEP_MS)
        try:
            resolve = Send(anchor, commands.Resolve("", b"", basket_id, owner, operator))
            (reply,) = self._balancer.decide_all([resolve], deadline_ms)
            if reply.error:
                return _unavailable(anchor, reply.error)
            self._tell([(basket, [operator]) for basket in self._baskets(anchor, [basket_id], deadline_ms)], deadline_ms)
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
            self._clearing.submit(self._guarded, work)
        except RuntimeError:  # Closing.
            self._balancer.pipeline.resume(basket, OperatorUnavailable("this balancer is stopping"))

    # --- looking --------------------------------------------------------------------------------------------------

    def _look_always(self) -> None:
        while not self._closing.wait(LOOK_MS / 1000):
            self._guarded(self._look)

    def _look(self) -> None:
        now = now_ms()
        seen: set[tuple[str, str]] = set()
        anchors: dict[str, None] = {}
        for view in list(self._balancer.catalogue.operators.values()):
            for basket_id in list(view.undone):
                seen.add(key := ("basket", basket_id))
                if self._is_time(key, now + GRACE_MS, now):
                    anchors[view.code] = None
                    with self._mutex:
                        self._undone.setdefault(view.code, {})[basket_id] = None
            for basket_id, row in list(view.legs.items()):
                # With its due time in the key, a hint that moves is another thing to wait for.
                seen.add(key := ("leg", f"{view.code} {basket_id} {row.due_ms} {row.lost}"))
                left_ms = 0 if row.lost else _left_ms(row, view.stamp_ms)
                if self._is_time(key, now + left_ms + GRACE_MS, now):
                    anchors[row.anchor] = None
                    with self._mutex:
                        self._due.setdefault(row.anchor, {})[view.code, basket_id] = Due(view.code, row)
        with self._mutex:
            self._next_ms = {key: due for key, due in self._next_ms.items() if key in seen}
        for anchor in anchors:
            self._work_for(anchor)

    def _is_time(self, key: tuple[str, str], due_ms: int, now: int) -> bool:
        """Return whether to see to it now; then not again for a while."""
        with self._mutex:
            if self._next_ms.setdefault(key, due_ms) > now:
                return False
            self._next_ms[key] = now + AGAIN_MS
            return True

    def _work_for(self, anchor: str) -> None:
        with self._mutex:
            if anchor in self._under_way or self._closing.is_set():
                return
            self._under_way.add(anchor)
        try:
            self._pool.submit(self._drain, anchor)
        except RuntimeError:  # Closing.
            return

    def _drain(self, anchor: str) -> None:
        """Do what waits for an anchor, until nothing does."""
        while True:
            with self._mutex:
                undone = list(self._undone.pop(anchor, {}))
                due = list(self._due.pop(anchor, {}).values())
                if not undone and not due:
                    self._under_way.discard(anchor)
                    return
            for first in range(0, len(undone), BATCH_MAX):
                self._guarded(partial(self._finish, anchor, undone[first : first + BATCH_MAX]))
            for first in range(0, len(due), BATCH_MAX):
                self._guarded(partial(self._resolve, anchor, due[first : first + BATCH_MAX]))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HoldfastError as error:
            log.info("reconciler: not yet code=%s detail=%s", error.code, error.detail)
        except Exception:
            log.exception("reconciler: a fault; the others go on")

    # --- doing ----------------------------------------------------------------------------------------------------

    def _finish(self, anchor: str, basket_ids: Sequence[str]) -> None:
        """Carry the anchor's word to whoever does not follow yet (B5, B8)."""
        deadline_ms = now_ms() + STEP_MS
        self._tell([(basket, basket["undone"]) for basket in self._baskets(anchor, basket_ids, deadline_ms)], deadline_ms)

    def _resolve(self, anchor: str, due: Sequence[Due]) -> None:
        """See to legs that are due, or whose service their operator took away."""
        deadline_ms = now_ms() + STEP_MS
        replies = self._balancer.decide_all([Send(anchor, _question(one)) for one in due], deadline_ms)
        asked: dict[str, list[str]] = {}
        for one, reply in zip(due, replies, strict=True):
            if not reply.error:
                asked.setdefault(one.row.basket_id, []).append(one.operator)
        baskets = self._baskets(anchor, list(asked), deadline_ms) if asked else []
        self._tell([(basket, asked[basket["hold_id"]]) for basket in baskets], deadline_ms)

    def _baskets(self, anchor: str, basket_ids: Sequence[str], deadline_ms: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._balancer.read(anchor, "baskets", {"basket_ids": list(basket_ids)}, deadline_ms).value
        return found

    def _tell(self, words: Sequence[tuple[Mapping[str, Any], Sequence[str]]], deadline_ms: int) -> None:
        """Tell each basket's operators how it stands, all at once, and then the anchors who follows."""
        sends = [reconciling.follow(basket, operators) for basket, operators in words]
        replies = iter(self._balancer.decide_all([send for group in sends for send in group], deadline_ms))
        dones: list[Send] = []
        for (basket, operators), group in zip(words, sends, strict=True):
            told = dict(zip(operators, [next(replies) for _ in group], strict=True))
            done = reconciling.done(basket, told)
            if done is not None:
                dones.append(Send(anchor_of(basket["hold_id"]), done))
            for alarm in reconciling.alarms(basket, told):
                self._sound(alarm)
        self._balancer.decide_all(dones, deadline_ms)

    def _sound(self, alarm: str) -> None:
        with self._mutex:
            count = self._alarms[alarm] = self._alarms.get(alarm, 0) + 1
        if count == ALARM_AFTER:
            log.error("reconciler: %s", alarm)


def _question(due: Due) -> commands.Resolve | commands.ServiceLost:
    row = due.row
    if row.lost:
        return commands.ServiceLost("", b"", row.basket_id, due.operator, row.lost, row.asks)
    return commands.Resolve("", b"", row.basket_id, row.owner, due.operator)


def _left_ms(row: LegRow, stamp_ms: int) -> int:
    """Return how long a leg seems to have: by its log's last stamp or by this machine's clock, whichever is less.

    A hint is all that is needed: who asks too early is told "not due yet".
    """
    return max(0, min(row.due_ms - stamp_ms, row.due_ms - wall_ms()))


def _unavailable(anchor: str, error: Mapping[str, Any]) -> HoldfastError:
    """Return that the anchor cannot be asked: never that the seat is taken (Z5)."""
    return OperatorUnavailable(f"{anchor} decides on a hold in the way and does not answer: {error['detail']}", operator=anchor)
