"""Holds in bulk beside the same holds made alone: whatever comes after, nothing but the request tells them apart.

Two partitions get the same commands, but where one gets a HOLD_EACH the other gets a HOLD for each of its holds, in the same entry and
under the same ids. Answers, refusals, rows, counts, what is due: all must be equal at every step.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from datastore import commands, wire
from datastore.commands import HoldEach
from datastore.model import PaymentState, bulk_hold_id
from datastore.rows import ROWS_FORM, HoldRow, Kind, decode_row
from datastore.state import AppliedState
from tests.holds_told import holds_in
from tests.unit.datastore.inventory import SERVICE, Partition, import_command, schedule

SEATS = [f"{row}{column}" for row in "123" for column in "ABCD"]
OWNERS = ("ann", "bob")
KINDS = ("hold", "each", "each", "release", "release", "extend", "extend", "confirm", "confirm", "cancel", "block", "unblock", "sweep")
RARE = ("close", "paying", "paying", "settle", "cancel service", "import")
COMPARED = (Kind.CLOSED_HOLD, Kind.ORDER, Kind.PAYMENT, Kind.CLOSED_PAYMENT, Kind.SERVICE)
INTENTS = tuple(f"pi{number}" for number in range(6))


class Twins:
    """Both partitions and the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.bulky, self.single = Partition(), Partition()
        self.hold_ids = ["AR.none"]
        self.numbers = 0

    def step(self) -> None:
        """Let both decide one batch and compare what came of it."""
        pairs = [self._pair() for _ in range(self.dice.randint(1, 5))]
        self.bulky.rows_form = self.dice.choice([ROWS_FORM, ROWS_FORM, 0])  # Now and then a copy may be of an older program.
        one = self.bulky.decide(*(command for command, _ in pairs)).outcomes
        others = iter(self.single.decide(*(command for _, alike in pairs for command in alike)).outcomes)
        for outcome, (command, alike) in zip(one, pairs, strict=True):
            theirs = [next(others) for _ in alike]
            if isinstance(command, HoldEach):
                _compare_each(outcome, theirs)
            else:
                assert (outcome.value, _in_order(outcome.error)) == (theirs[0].value, _in_order(theirs[0].error))
        self.compare()
        passed_ms = self.dice.choice([0, 0, 1, 400, 2_600, 6_000])
        self.bulky.now_ms += passed_ms
        self.single.now_ms += passed_ms

    def compare(self) -> None:
        """Compare rows, the states that followed them, and one that is built from them."""
        assert open_rows(self.bulky) == open_rows(self.single)
        for kind in COMPARED:
            assert self.bulky.rows.scan(kind) == self.single.rows.scan(kind), kind
        rebuilt, holds = AppliedState("AR", self.bulky.rows), open_rows(self.bulky)
        assert rebuilt.open_holds == self.bulky.state.open_holds
        # Whatever row says it, owner, hold, fence and state of every seat that anybody ever had are the same.
        assert rebuilt.seats(SERVICE) == self.bulky.state.seats(SERVICE) == self.single.state.seats(SERVICE)
        assert rebuilt.taken(SERVICE) == self.bulky.state.taken(SERVICE) == self.single.state.taken(SERVICE)
        assert rebuilt.services_with_taken_seats() == self.single.state.services_with_taken_seats()
        now_ms = self.bulky.now_ms
        for state in (self.bulky.state, rebuilt):
            for owner in OWNERS:
                assert state.open_holds.ids_of(owner) == self.single.state.open_holds.ids_of(owner)
                assert state.open_holds.count_of(owner) == self.single.state.open_holds.count_of(owner)
            due = {hold.hold_id: hold for hold in state.open_holds.due(now_ms, 1_000)}
            assert due == {hold_id: hold for hold_id, hold in holds.items() if hold.expires_ms <= now_ms}
            assert [min(limit, len(due)) for limit in (1, 2, 3)] == [len(state.open_holds.due(now_ms, limit)) for limit in (1, 2, 3)]
            next_ms = state.open_holds.next_due_ms()
            assert not holds or (next_ms is not None and next_ms <= min(hold.expires_ms for hold in holds.values()))

    def _pair(self) -> tuple[wire.AnyCommand, list[wire.AnyCommand]]:
        """Return a command, and what the other partition gets for it."""
        dice = self.dice
        self.numbers += 1
        self.bulky.counter += 1
        kind = dice.choice(RARE if dice.random() < 0.15 else KINDS)
        if kind not in ("hold", "each"):
            command = self._change(kind, f"request-{self.numbers}")
            return command, [command]
        shared: dict[str, Any] = {
            "owner": dice.choice(OWNERS),
            "ttl_ms": dice.choice([500, 3_000, 9_000]),
            "counter": self.bulky.counter,
            "owner_holds_max": dice.choice([50, 50, 4]),
            "service_holds_max": dice.choice([50, 50, 5]),
        }
        groups = self._groups()
        name = f"b{self.numbers}"
        if kind == "hold":
            command = self.bulky.hold(name, *groups[0], **shared)
            self.hold_ids.append(command.hold_id)
            return command, [command]
        alone = [
            self.bulky.hold(f"{name}-{number}", *group, hold_id=bulk_hold_id(f"AR.{name}", number), **shared)
            for number, group in enumerate(groups, 1)
        ]
        self.hold_ids += [hold.hold_id for hold in alone]
        like = alone[0]
        each = HoldEach(
            f"request-{name}", b"each", f"AR.{name}", like.owner, SERVICE, tuple(groups), like.ttl_ms, like.generation, like.counter,
            like.nonce, like.currency, tuple(hold.prices for hold in alone), tuple(hold.refundable_percent for hold in alone),
            like.owner_holds_max, like.service_holds_max,
        )  # fmt: skip
        return each, list(alone)

    def _groups(self) -> list[tuple[str, ...]]:
        flat = self.dice.sample(SEATS, self.dice.randint(1, 8))
        groups: list[tuple[str, ...]] = []
        while flat:
            size = self.dice.choice([1, 1, 2])
            groups.append(tuple(flat[:size]))
            flat = flat[size:]
        return groups

    def _change(self, kind: str, request_id: str) -> wire.AnyCommand:
        dice = self.dice
        hold_id, owner, seat = dice.choice(self.hold_ids[-14:]), dice.choice(OWNERS), (dice.choice(SEATS),)
        reference, counter = f"R{dice.randrange(12):05d}", self.bulky.counter
        held, intent = open_rows(self.bulky).get(hold_id), dice.choice(INTENTS)
        makers: dict[str, wire.AnyCommand] = {
            "release": wire.Release(request_id, b"", hold_id, owner),
            "extend": wire.Extend(request_id, b"", hold_id, owner, dice.choice([1_000, 6_000]), 20_000),
            "confirm": wire.Confirm(request_id, b"", hold_id, owner, (reference,), b"token", b"side", dice.choice(["", intent])),
            "cancel": wire.Cancel(request_id, b"", reference, b"token"),
            "block": wire.Block(request_id, b"", SERVICE, seat, "test", 1, counter, f"b{counter}"),
            "unblock": wire.Unblock(request_id, b"", SERVICE, seat),
            "sweep": wire.Sweep("", b""),
            "close": wire.SetService(request_id, b"", SERVICE, dice.choice([0, 0, 0, 1]), "test"),
            "cancel service": wire.SetService(request_id, b"", SERVICE, dice.choice([0, 0, 0, 2]), "test"),
            "paying": commands.Paying(
                "", b"", hold_id, owner, dice.choice(INTENTS), sum(held.prices) if held else 1, "USD", (), 4_000, 20_000
            ),
            "import": import_command([schedule()], request_id=request_id, dataset="again"),
            "settle": commands.Settle("", b"", dice.choice(INTENTS), int(dice.choice([PaymentState.CAPTURE, PaymentState.VOID])), "note"),
        }
        return makers[kind]


def open_rows(partition: Partition) -> dict[str, HoldRow]:
    """Return the open holds by id; each is in one place."""
    found = {key: decode_row(Kind.OPEN_HOLD, value) for key, value in partition.rows.scan(Kind.OPEN_HOLD)}
    for _, value in partition.rows.scan(Kind.BULK):
        for hold in holds_in(Kind.BULK, value):
            assert hold.hold_id not in found
            found[hold.hold_id] = hold
    return found


def _in_order(error: dict[str, Any]) -> dict[str, Any]:
    """Return a refusal with the taken seats, of which no order is promised, in order."""
    fields = error.get("fields", {})
    return {**error, "fields": {**fields, "taken": sorted(fields["taken"])}} if "taken" in fields else error


def _compare_each(outcome: wire.Outcome, alone: list[wire.Outcome]) -> None:
    """Compare the answer to a HOLD_EACH with those to its holds made alone."""
    if outcome.error:
        assert [outcome.error["code"]] * len(alone) == [one.error.get("code") for one in alone]
        return
    refused = dict(outcome.value["refused"])
    for number, one in enumerate(alone, 1):
        assert one.error.get("code") == refused.get(number, {}).get("code")
        if one.error.get("code") == "hold_limit_reached":
            assert (one.error["detail"], one.error["fields"]) == (refused[number]["detail"], refused[number]["fields"])
        elif not one.error:
            assert one.value["expires_ms"] == outcome.value["expires_ms"]


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_made_in_bulk_or_alone_is_all_the_same(first: int) -> None:
    for seed in range(first, first + 20):
        twins = Twins(seed)
        for _ in range(25):
            twins.step()
