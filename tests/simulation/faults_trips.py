"""Broken rules of trips and of payments (B2-B8, Z3-Z6, Q2-Q7, Z15)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from datastore import anchors, commands, engine, legs, taking
from datastore.model import BasketState
from datastore.overlay import Batch
from loadbalancer import charging, itineraries, itinerary, reconciling
from loadbalancer.cashier import Cashier
from loadbalancer.itinerary import Held, Itinerary
from loadbalancer.reconciler import Reconciler
from tests.simulation.cluster import Parts
from tests.simulation.faults import mutation, replaced
from tests.simulation.threads import Time

UNTOLD_S = 0.1


@contextmanager
def decided_by(kind: type[Any], decider: Callable[..., Any]) -> Any:
    """Have another function decide on a command."""
    before = engine._handlers[kind]
    engine._handlers[kind] = decider
    try:
        yield
    finally:
        engine._handlers[kind] = before


# --- baskets ----------------------------------------------------------------------------------------------------------


@mutation("a leg ends by its own clock", "B6", "trips", quick=True)
def _local_expiry(_: Parts, stack: ExitStack) -> None:
    whole = taking._due_hold

    def due(batch: Batch, row: Any) -> Any:
        hold = whole(batch, row)
        if hold is not None and hold.anchor:
            leg = batch.leg(hold.basket)
            assert leg is not None
            legs.release(batch, commands.ReleaseLegs("", b"", leg.basket_id, leg.owner, leg.anchor, (1, 1, b"own clock")))
            return None
        return hold

    stack.enter_context(replaced(taking, "_due_hold", due))


@mutation("a sale is decided before all legs are held", "B4, Z4", "trips", quick=True)
def _decides_early(_: Parts, stack: ExitStack) -> None:
    def proven(basket: Any, found: Any) -> tuple[tuple[str, int], ...]:
        return tuple((operator, (found.get(operator) or {}).get("lsn") or 1) for operator in reconciling.other_operators(basket))

    class Hasty(Itinerary):
        """Calls a trip held as soon as its anchor holds it."""

        def answered(self, operator: str, reply: Any, *, in_time: bool = True) -> list[Any]:
            if operator == self.plan.anchor and not reply.error and self.phase is itinerary.Phase.HOLDING:
                self.phase = itinerary.Phase.ENDED
                return [Held(reply.value)]
            return super().answered(operator, reply, in_time=in_time)

    stack.enter_context(replaced(itineraries, "Itinerary", Hasty))
    stack.enter_context(replaced(itineraries, "proven_holds", proven))


@mutation("nothing is written of a trip that nobody has heard of", "Z3, B6", "trips", quick=True)
def _no_tombstone(_: Parts, stack: ExitStack) -> None:
    whole = anchors._tombstone

    class Unwritten:
        """The batch, where baskets are not put."""

        def __init__(self, batch: Batch) -> None:
            self._batch = batch

        def put_basket(self, row: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return getattr(self._batch, name)

    stack.enter_context(replaced(anchors, "_tombstone", lambda batch, *rest: whole(Unwritten(batch), *rest)))  # type: ignore[arg-type]


@mutation("nobody tells the other operators what was decided", "B5, B9", "trips", quick=True)
def _never_follows(_: Parts, stack: ExitStack) -> None:
    # It takes as long as a message that is lost: who meets a leg that is due would ask again at once, and for ever.
    stack.enter_context(replaced(Reconciler, "_tell", lambda self, words, deadline_ms: Time.sleep(UNTOLD_S)))


@mutation("a trip that was refused keeps what it holds until it is due", "Z6", "trips", quick=True)
def _keeps_refused(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(Itinerary, "_abort", lambda self: self._end(self._verdict())))


@mutation("a driver that was given up ends what another has taken over", "Z3", "drivers", quick=True)
def _aborts_others(_: Parts, stack: ExitStack) -> None:
    def abort(batch: Batch, command: commands.Abort) -> dict[str, Any]:
        row = batch.basket(command.basket_id)
        return anchors.abort(batch, msgspec.structs.replace(command, driver=row.driver) if row is not None else command)

    stack.enter_context(decided_by(commands.Abort, abort))


@mutation("what was sold may still be ended", "B4", "trips", quick=True)
def _ends_sold(_: Parts, stack: ExitStack) -> None:
    def resolve(batch: Batch, command: commands.Resolve) -> dict[str, Any]:
        row = batch.basket(command.basket_id)
        if row is not None and row.state == BasketState.COMMITTED and row.undone:
            batch.put_basket(taking.copy(row, state=BasketState.ABORTED, decided_lsn=batch.lsn))
        return anchors.resolve(batch, command)

    whole, calls = Reconciler._tell, itertools.count()

    def tell(self: Reconciler, words: Any, deadline_ms: int) -> None:
        """Carry the word every third time only, so that legs come to ask."""
        if next(calls) % 3 == 2:
            whole(self, words, deadline_ms)

    stack.enter_context(decided_by(commands.Resolve, resolve))
    stack.enter_context(replaced(Reconciler, "_tell", tell))


# --- payments ---------------------------------------------------------------------------------------------------------


@mutation("money is set aside before the ledger knows of it", "Q2", "trips", quick=True)
def _pays_unwritten(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(Cashier, "_pay", lambda self, *rest: None))


@mutation("the payment of a hold that ended is forgotten", "Q6", "trips", quick=True)
def _never_void(_: Parts, stack: ExitStack) -> None:
    for module in (anchors, taking):
        stack.enter_context(replaced(module, "void_payment", lambda batch, intent: None))


@mutation("what was sold is never taken from the card", "Q5", "trips", quick=True)
def _never_captures(_: Parts, stack: ExitStack) -> None:
    whole = charging.judge_step

    def judge(state: Any, standing: Any, step_minor: int) -> charging.Act:
        act = whole(state, standing, step_minor)
        return charging.Act.NOTHING if act is charging.Act.CAPTURE else act

    stack.enter_context(replaced(charging, "judge_step", judge))


@mutation("every try makes a payment of its own", "Z15", "trips", quick=True)
def _many_intents(_: Parts, stack: ExitStack) -> None:
    numbers = itertools.count()
    stack.enter_context(replaced(charging, "create_key", lambda hold_id: f"{hold_id} {next(numbers)}"))


@mutation("a refund is made anew each time", "Z15", "trips", quick=True)
def _many_refunds(_: Parts, stack: ExitStack) -> None:
    whole, numbers = charging.judge_step, itertools.count()

    def judge(state: Any, standing: Any, step_minor: int) -> charging.Act:
        refunding = state == taking.PaymentState.REFUND and standing.status == "succeeded" and next(numbers) % 2 == 0
        return charging.Act.REFUND if refunding else whole(state, standing, step_minor)

    stack.enter_context(replaced(charging, "judge_step", judge))
    stack.enter_context(replaced(charging, "refund_key", lambda intent, step_minor: f"{intent} {next(numbers)}"))


@mutation("an order is sold though its card was declined", "Q3, Q4", "trips", quick=True)
def _declined_is_fine(_: Parts, stack: ExitStack) -> None:
    def confirmed(self: Cashier, hold: Any, intent: str, method: str, request_id: str, until_ms: int) -> Any:
        try:
            return whole(self, hold, intent, method, request_id, until_ms)
        except charging.HoldfastError:
            return self._provider.retrieve(intent) if self._provider is not None else None

    whole = Cashier._confirmed
    stack.enter_context(replaced(Cashier, "_confirmed", confirmed))
    stack.enter_context(replaced(charging, "judge_card", lambda standing, hold_id: None))
