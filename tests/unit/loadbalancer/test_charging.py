"""Payments finished by anybody, at any moment, as often as they like: charged if and only if booked (Q2-Q7, Z15).

The production pieces without a network: the anchor's engine, the cashier, the provider's own machine. At every call to the ledger or
to the provider chance may lose the call, lose its answer, or let others in between: other balancers' cashiers with rows that they saw
earlier, time that passes, the owner who gives up, another buyer of the seat.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from datastore import charges, commands, wire
from datastore.errors import HoldfastError, InvalidRequest, OutcomeUnknown, PaymentDeclined
from datastore.model import HoldState, PaymentState
from datastore.outcomes import order_value
from datastore.rows import Kind, PaymentRow, decode_row
from loadbalancer import charging, quotes, sandbox_intents
from loadbalancer.books import Ledger, compare
from loadbalancer.cashier import Cashier
from loadbalancer.payments import Intent
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.sandbox_intents import ApiError, Clock, Object
from tests.unit.datastore.inventory import Partition

WALKS = 300
TTL_MS = 60_000
DEPTH_MAX = 3
AFTERWARDS = 12


class World:
    """One operator, one provider, and chance. As the cashier's balancer it has `decide` and `config`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.partition = Partition()
        self.objects: dict[str, Object] = {}
        self.answers: dict[str, Object | ApiError] = {}
        self.config = SimpleNamespace(hold_ttl_max_ms=10 * TTL_MS)
        self.cashier = Cashier(self, PaymentsConfig("sandbox"), self)  # type: ignore[arg-type]
        self.others: list[Callable[[], None]] = []
        self.seen: list[PaymentRow] = []
        self.depth = 0
        self.quiet = False
        self.names = iter(range(1_000_000))

    # --- chance ---------------------------------------------------------------------------------------------------

    def between(self) -> None:
        """Let others act here."""
        self.seen += [row for row in self.partition.state.payments.values() if row not in self.seen]
        while not self.quiet and self.depth < DEPTH_MAX and self.chance.random() < 0.35:
            self.depth += 1
            try:
                self.chance.choice([self.collect, self.pass_time, *self.others])()
            except HoldfastError:
                pass
            finally:
                self.depth -= 1

    def passing(self, act: Callable[[], Any]) -> Any:
        """Do something over the network: it may be lost on its way, or its answer may."""
        self.between()
        if not self.quiet and self.chance.random() < 0.1:
            raise OutcomeUnknown("lost on its way")
        result = act()
        self.between()
        if not self.quiet and self.chance.random() < 0.15:
            raise OutcomeUnknown("the answer is lost")
        return result

    def collect(self) -> None:
        """Another balancer does what some row asked for, now or some time ago."""
        if self.seen:
            self.cashier.settle("AR", self.chance.choice(self.seen))

    def pass_time(self) -> None:
        self.partition.now_ms += self.chance.choice((1_000, TTL_MS, 2 * TTL_MS))
        self.partition.submit(wire.Sweep("", b""))

    # --- the balancer ---------------------------------------------------------------------------------------------

    def decide(self, _operator: str, command: wire.AnyCommand, _deadline_ms: int) -> dict[str, Any]:
        return dict(self.passing(lambda: self.partition.submit(command)[0].unwrap()))

    # --- the provider ---------------------------------------------------------------------------------------------

    def write(self, key: str, act: Callable[[Clock], dict[str, Object]]) -> Object:
        def once() -> Object:
            if key not in self.answers:
                try:
                    changed = act(Clock(0, lambda: f"{next(self.names):012d}"))
                    self.objects |= changed
                    self.answers[key] = next(iter(changed.values()))
                except ApiError as error:
                    self.objects |= error.changed
                    self.answers[key] = error
            found = self.answers[key]
            if not key:
                del self.answers[key]
            if isinstance(found, ApiError):
                raise found
            return found

        found: Object = self.passing(once)
        return found

    def shown(self, intent_id: str) -> Intent:
        one = self.objects[intent_id]
        charge = self.objects.get(one["latest_charge"] or "", {})
        problem = one["last_payment_error"] or {}
        refunded = charge.get("amount_refunded", 0)
        decline = (problem.get("decline_code", ""), problem.get("message", ""))
        return Intent(one["id"], one["status"], one["amount"], "USD", one["amount_received"], refunded, "", decline, one["metadata"])

    def further(self, intent_id: str, key: str, act: Callable[[Object, Clock], dict[str, Object]]) -> Intent:
        try:
            self.write(key, lambda clock: act(self.objects[intent_id], clock))
        except ApiError as error:
            if error.status == 402:
                raise PaymentDeclined(str(error), decline_code=error.body["decline_code"]) from error
            if error.body.get("code") not in ("payment_intent_unexpected_state", "charge_already_refunded"):
                raise InvalidRequest(str(error)) from error
        return self.shown(intent_id)

    def create(self, amount_minor: int, currency: str, key: str, metadata: Mapping[str, str]) -> Intent:
        fields = {"amount": str(amount_minor), "currency": currency.lower(), "capture_method": "manual", "metadata": dict(metadata)}

        def make(clock: Clock) -> dict[str, Object]:
            made = sandbox_intents.create(fields, clock)
            return {made["id"]: made}

        return self.shown(self.write(key, make)["id"])

    def authorise(self, intent: str, method: str, key: str) -> Intent:
        return self.further(intent, key, lambda one, clock: sandbox_intents.confirm(one, {"payment_method": method}, clock, ""))

    def retrieve(self, intent: str) -> Intent:
        found: Intent = self.passing(lambda: self.shown(intent))
        return found

    def capture(self, intent: str, amount_minor: int, key: str) -> Intent:
        fields = {"amount_to_capture": str(amount_minor)}
        return self.further(intent, key, lambda one, _: sandbox_intents.capture(one, self.objects.get(one["latest_charge"] or ""), fields))

    def cancel(self, intent: str, key: str) -> Intent:
        return self.further(intent, key, lambda one, clock: sandbox_intents.cancel(one, {}, clock))

    def refund(self, intent: str, amount_minor: int, key: str) -> Intent:
        fields = {"payment_intent": intent, "amount": str(amount_minor)}
        return self.further(
            intent, key, lambda one, clock: sandbox_intents.refund(one, self.objects.get(one["latest_charge"] or ""), fields, clock)
        )

    def page(self, after: str) -> tuple[list[Intent], str]:
        return [self.shown(name) for name, one in self.objects.items() if one["object"] == "payment_intent"], ""

    # --- buying ---------------------------------------------------------------------------------------------------

    def value_of(self, hold_id: str) -> dict[str, Any]:
        row = self.partition.state.open_holds.get(hold_id) or self.partition.state.closed_hold(hold_id)
        assert row is not None
        state = row.state if row.expires_ms > self.partition.now_ms else HoldState.EXPIRED
        return {"hold_id": hold_id, "owner": row.owner, "state": state, "prices": row.prices, "currency": row.currency}

    def buy(self, hold_id: str, request_id: str, card: str, told: list[str]) -> None:
        """A buyer's confirm, with the late payment of Q7; it may be given up anywhere."""
        intent = self.cashier.authorised(self.value_of(hold_id), card, request_id, (), 0)
        try:
            self.sell(hold_id, request_id, intent, told)
        except HoldfastError as error:
            if error.code != "hold_expired" or not self.cashier.is_set_aside(intent, 0):
                raise
            again = f"{hold_id[3:]}x"
            row = self.partition.state.open_holds.get(hold_id) or self.partition.state.closed_hold(hold_id)
            assert row is not None
            terms = {"ttl_ms": TTL_MS, "prices": row.prices, "refundable_percent": row.refundable_percent}
            renewed = self.partition.hold(again, *row.seats, **terms)  # type: ignore[arg-type]
            self.passing(lambda: self.partition.submit(renewed)[0].unwrap())
            self.cashier.adopt(self.value_of(f"AR.{again}"), intent, (), 0)
            self.sell(f"AR.{again}", f"{request_id}-again", intent, told)

    def sell(self, hold_id: str, request_id: str, intent: str, told: list[str]) -> None:
        reference = f"REF{next(self.names):06d}"
        command = wire.Confirm(request_id, b"c", hold_id, "ann", (reference,), b"t", b"s", intent)
        told.append(self.decide("AR", command, 0)["reference"])

    def finish(self) -> None:
        """The network is well again: whatever is open is finished."""
        self.quiet = True
        for _ in range(6):
            self.partition.now_ms += 10 * TTL_MS
            self.partition.submit(wire.Sweep("", b""))
            for row in list(self.partition.state.payments.values()):
                self.cashier.settle("AR", row)
                self.seen.append(row)
        for row in self.seen:  # A balancer that slept wakes with what it saw long ago.
            try:
                self.cashier.settle("AR", row)
            except InvalidRequest:
                continue  # The provider knows no such intent, or refuses.


def orders(world: World) -> list[dict[str, Any]]:
    return [order_value(decode_row(Kind.ORDER, value), 0) for _, value in world.partition.rows.scan(Kind.ORDER)]


def walk(seed: int, kind: type[World] = World) -> tuple[int, int, int, int]:
    """Return (sold, cancelled, given back, given up in parts) of one random story, after checking that every cent is where it belongs."""
    world = kind(seed)
    prices = (10_001, 9_998, 7_777)  # Of which 40 % are no whole cents.
    held = world.partition.hold("h", "1A", "1B", "1C", ttl_ms=TTL_MS, prices=prices, refundable_percent=40)
    world.partition.submit(held)[0].unwrap()
    told: list[str] = []
    parts: list[str] = []
    cards = [world.chance.choice(("pm_card_visa", "pm_card_visa", "pm_card_visa_chargeDeclined")) for _ in range(3)]

    def cancel() -> None:
        for order in orders(world):
            world.partition.submit(wire.Cancel("", b"x", order["reference"], b"t"))

    def leave() -> None:
        for order in orders(world):
            if order["state"] == 0 and len(order["seats"]) > 1:
                quote = quotes.cancelling(order, "AR", (), (world.chance.randrange(len(order["seats"])),), full=False)
                words = (quote.reference, b"t", quote.expects, quote.cuts, quote.refund_minor, False, quote.what)
                parts.append(world.partition.submit(commands.Amend("", b"x", *words))[0].unwrap()["reference"])

    def rival() -> None:
        world.partition.submit(world.partition.hold(f"r{next(world.names)}", "1A", owner="bob", ttl_ms=TTL_MS))

    world.others = [lambda: world.partition.submit(wire.Release("", b"", "AR.h", "ann")) and None, cancel, leave, leave, rival]
    for number, card in enumerate(cards):
        try:
            world.buy("AR.h", f"request-{world.chance.choice((0, number))}", card, told)
        except HoldfastError:
            continue
    for _ in range(AFTERWARDS):  # What is sold is given up while balancers with old rows refund it.
        world.between()
    world.finish()
    assert not world.partition.state.payments, f"seed {seed}: {world.partition.state.payments}"
    rows = [decode_row(Kind.CLOSED_PAYMENT, value) for _, value in world.partition.rows.scan(Kind.CLOSED_PAYMENT)]
    found = orders(world)
    assert set(told) <= {order["reference"] for order in found}, f"seed {seed}: told {told}"
    intents = {one.id: one for one in world.page("")[0]}
    books = compare([Ledger("AR", found, [charges.payment_value(row) for row in rows])], intents, all_operators=True)
    assert (books.findings, books.cases) == ([], []), f"seed {seed}: {books}"
    paid = sum(one.received_minor - one.refunded_minor for one in intents.values())
    price = sum(prices)
    assert paid == sum(price - order["refund_minor"] for order in found), f"seed {seed}"
    stands = [sum(order["prices"]) * (order["state"] == 0) + sum(kept for _, kept in order["retained"]) for order in found]
    assert paid == sum(stands), f"seed {seed}"
    # In parts, in any order, from what is captured or not yet: the fare gives back the same cents.
    gone = [order for order in found if order["state"] != 0]
    assert all(order["refund_minor"] == price * 40 // 100 for order in gone if order["refund_minor"]), f"seed {seed}: {gone}"
    assert all(one.status in ("succeeded", "canceled", "requires_payment_method") for one in intents.values()), f"seed {seed}: {intents}"
    cancelled = sum(order["state"] != 0 for order in found)
    return len(found) - cancelled, cancelled, sum(not row.reference for row in rows), len(parts)


@pytest.mark.timeout(120)
def test_charged_if_and_only_if_booked() -> None:
    """Whatever is lost, repeated, late or done by several at once: every cent is booked, retained or given back."""
    stories = [walk(seed) for seed in range(WALKS)]
    # Not vacuous: all ends happened, many times, and parts were given up on the way.
    assert all(sum(story[end] for story in stories) > WALKS // 30 for end in range(4)), stories


def test_late_payments_are_among_the_stories() -> None:
    """Q7 came up: some story ended with the same seats, held anew, paid by the first hold's intent."""

    def late(seed: int) -> bool:
        world = World(seed)
        world.quiet = True
        world.partition.submit(world.partition.hold("h", "1A", ttl_ms=TTL_MS))
        told: list[str] = []
        intent = world.cashier.authorised(world.value_of("AR.h"), "pm_card_visa", "one", (), 2**50)
        world.partition.now_ms += 20 * TTL_MS
        world.partition.submit(wire.Sweep("", b""))
        if seed:
            world.cashier.settle("AR", world.partition.state.payments[intent])
        try:
            world.buy("AR.h", "one", "pm_card_visa", told)
        except HoldfastError:
            world.partition.submit(world.partition.hold("hx", "1A", ttl_ms=TTL_MS))[0].unwrap()
            try:
                world.cashier.adopt(world.value_of("AR.hx"), intent, (), 2**50)
                world.sell("AR.hx", "two", intent, told)
            except HoldfastError:
                world.partition.submit(wire.Release("", b"", "AR.hx", "ann"))
        world.finish()
        (one,) = world.page("")[0]
        assert one.received_minor == 10_000 * len(told)
        return bool(told)

    # Nobody had begun to give it back: sold. Somebody had: not sold, nothing charged.
    assert (late(0), late(1)) == (True, False)


class EndsUnsaid(World):
    """Broken: an intent is ended without its row saying first that this has begun; it may pay again meanwhile."""

    def decide(self, operator: str, command: wire.AnyCommand, deadline_ms: int) -> dict[str, Any]:
        if isinstance(command, commands.BeginVoid):
            self.between()
            return {"state": int(PaymentState.VOIDING)}
        return super().decide(operator, command, deadline_ms)


class RefundsBlindly(World):
    """Broken: a refund is done again under no key, without a look at what went back already."""

    def retrieve(self, intent: str) -> Intent:
        return super().retrieve(intent)._replace(refunded_minor=0)

    def refund(self, intent: str, amount_minor: int, key: str) -> Intent:
        return super().refund(intent, amount_minor, "")


class TakesAnyAnswer(World):
    """Broken: no answer counts as a yes."""

    def authorise(self, intent: str, method: str, key: str) -> Intent:
        try:
            return super().authorise(intent, method, key)
        except (OutcomeUnknown, PaymentDeclined):
            return self.shown(intent)._replace(status="requires_capture")


@pytest.mark.parametrize("broken", [EndsUnsaid, RefundsBlindly, TakesAnyAnswer])
def test_a_broken_rule_is_caught(broken: type[World]) -> None:
    """The walk finds what goes wrong when a rule is left out: the check can fail."""
    caught = 0
    for seed in range(WALKS):
        try:
            walk(seed, broken)
        except (AssertionError, HoldfastError):
            caught += 1
    assert caught > 0


def test_the_words_and_keys_of_a_payment() -> None:
    """Keys follow from what is done and never meet; every state has a word."""
    keys = {
        charging.create_key("AR.h"),
        charging.refund_key("pi", 0),
        charging.refund_key("pi", 5),
        *(charging.confirm_key("AR.h", request, card) for request in ("1", "2") for card in ("a", "b")),
    }
    assert len(keys) == 7 and all(len(key) <= 255 for key in keys)
    assert {charging.word_of({"state": int(state), "reference": ""}) for state in PaymentState} == {
        "processing", "requires_capture", "cancelling", "refunding", "canceled",
    }  # fmt: skip
