"""Finishes the payments that the anchors' ledgers have open: every balancer looks, and has its cashier do what a row asks for (Q5-Q7).

What is open comes with the feeds, so looking costs nothing while there is nothing to do. All of it may be done by several balancers
at the same time (`loadbalancer.cashier`). A provider that is down keeps these workers only, never those that carry decisions.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from datastore.errors import HoldfastError
from datastore.model import PaymentState
from datastore.rows import PaymentRow
from loadbalancer.balancer import Balancer
from loadbalancer.cashier import Cashier
from loadbalancer.waiting import now_ms

LOOK_MS = 250
AGAIN_MS = 1_000
# What is to be given back may first pay for the same seats again (Q7); it is still ended within the bound of 5 s.
VOID_GRACE_MS = 1_500
CASE_AGAIN_MS = 30_000
WORKERS = 4

log = logging.getLogger(__name__)


class Collector:
    """One balancer's look at open payments."""

    def __init__(self, balancer: Balancer, cashier: Cashier) -> None:
        """Prepare; `start` starts, and does nothing where no payments are taken."""
        self._balancer = balancer
        self._cashier = cashier
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="collector")
        self._closing = threading.Event()
        self._mutex = threading.Lock()  # guards what follows
        self._under_way: set[str] = set()  # intents
        self._next_ms: dict[tuple[str, int, int], int] = {}  # (intent, state, step) -> when to look at it (again)

    def start(self) -> None:
        """Start looking."""
        if self._cashier.provider is not None:
            threading.Thread(target=self._look_always, name="collector", daemon=True).start()

    def close(self) -> None:
        """Stop; what is under way ends by itself, and another balancer does the rest."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_always(self) -> None:
        while not self._closing.wait(LOOK_MS / 1000):
            try:
                self._look(now_ms())
            except Exception:
                log.exception("collector: a fault; it goes on")

    def _look(self, now: int) -> None:
        seen: set[tuple[str, int, int]] = set()
        for view in list(self._balancer.catalogue.operators.values()):
            for intent, row in list(view.payments.items()):
                if row.state == PaymentState.PAYING:
                    continue
                seen.add(key := (intent, int(row.state), row.step_minor))
                if self._is_time(key, row, now):
                    self._begin(view.code, row)
        with self._mutex:
            self._next_ms = {key: due for key, due in self._next_ms.items() if key in seen}

    def _is_time(self, key: tuple[str, int, int], row: PaymentRow, now: int) -> bool:
        """Return whether to see to it now; then not again for a while."""
        with self._mutex:
            grace_ms = VOID_GRACE_MS if row.state == PaymentState.VOID else 0
            if self._next_ms.setdefault(key, now + grace_ms) > now or row.intent in self._under_way:
                return False
            self._next_ms[key] = now + (CASE_AGAIN_MS if row.case else AGAIN_MS)
            return True

    def _begin(self, operator: str, row: PaymentRow) -> None:
        with self._mutex:
            self._under_way.add(row.intent)

        def work() -> None:
            try:
                self._cashier.settle(operator, row)
            except HoldfastError as error:
                log.info("collector: not yet intent=%s code=%s detail=%s", row.intent, error.code, error.detail)
            except Exception:
                log.exception("collector: a fault; the others go on")
            finally:
                with self._mutex:
                    self._under_way.discard(row.intent)

        try:
            self._pool.submit(work)
        except RuntimeError:  # Closing.
            return
